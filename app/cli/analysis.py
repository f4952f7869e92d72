"""Commands: analyze, decide."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from klartext.app.cli.actor import ActorOption, actor_name
from klartext.app.cli.context import Kept, log, open_session, print_json
from klartext.app.cli.ledger import as_of_option
from klartext.experiments.errors import KlartextError

if TYPE_CHECKING:
    from klartext.app.usecases.assumptions import WhatIf

Key: TypeAlias = Annotated[str, typer.Argument(help="Key of the experiment.", show_default=False)]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Assume: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="What if INPUT=VALUE, such as rollout.persistence=50%; never the verdict.",
        metavar="INPUT=VALUE",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command("analyze")(analyze)
    app.command("decide")(decide)


def analyze(
    context: typer.Context,
    key: Key,
    show_sql: Annotated[
        bool, typer.Option("--show-sql", help="Print the queries instead of running them.")
    ] = False,
    dialect: Annotated[
        str | None,
        typer.Option(help="With --show-sql: duckdb, postgres, bigquery, snowflake, databricks…"),
    ] = None,
    series: Annotated[
        bool,
        typer.Option("--series", help="Show its course by day, age and cohort instead: charts."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="Fit a model instead: hurdle, segments, or your own as module:function. "
            "It moves no verdict."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="With --model: what it reads; default: revenue, or the net value."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**32 - 1, help="With --model: same seed, same figures; default: 1."
        ),
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Facts and ledger as they stood at this day or instant.")
    ] = None,
    assume: Assume = None,
    kept: Kept = False,
    json: Json = False,
) -> None:
    """Show what an experiment has brought, what it cost, and the verdict so far.

    Looking changes nothing and is not recorded; the interval is that of this look. The last
    recorded look and revised assumptions stand below. With --assume it is a what-if and says so.

    For example:

      klartext analyze mail-subject

      klartext analyze mail-subject --json > analysis.json

      klartext analyze mail-subject --as-of 2026-11-01T12:00Z

      klartext analyze mail-subject --show-sql --dialect bigquery

      klartext analyze mail-subject --series --json

      klartext analyze mail-subject --model hurdle --metric revenue --seed 7

      klartext analyze mail-subject --assume rollout.persistence=50%
    """
    from klartext.app.usecases import analysis  # noqa: PLC0415 - heavy

    figures = not (model is not None or show_sql or dialect or series)
    for name, given in (("as-of", as_of is not None), ("assume", assume is not None)):
        if given and not figures:
            raise KlartextError(
                f"--{name} belongs to the analysis, not to --model, --show-sql, --series"
            )
    if model is None and not (metric is None and seed is None):
        raise KlartextError("--metric and --seed belong to --model")
    if model is not None:
        if show_sql or dialect or series:
            raise KlartextError("--model stands alone: no --show-sql, --dialect or --series")
        _model(context, key, model=model, metric=metric, seed=seed, json=json)
        return
    if show_sql or dialect:
        typer.echo(analysis.sql(open_session(context), key, dialect=dialect), nl=False)
        return
    if series:
        _series(context, key, json=json)
        return
    _figures(context, key, assume=assume, as_of=as_of, kept=kept, json=json)


def _figures(
    context: typer.Context,
    key: str,
    *,
    assume: list[str] | None,
    as_of: str | None,
    kept: bool,
    json: bool,
) -> None:
    """Print the analysis with what stands beside it, or the one of a what-if."""
    from klartext.analysis.document import to_json  # noqa: PLC0415 - heavy
    from klartext.analysis.verdicts import beside_to_json  # noqa: PLC0415 - only here
    from klartext.app.cli.beside import beside_text  # noqa: PLC0415 - only here
    from klartext.app.cli.scorecard import scorecard  # noqa: PLC0415 - only here
    from klartext.app.usecases import analysis, assumptions  # noqa: PLC0415 - heavy

    session = open_session(context)
    instant = as_of_option(as_of, session)
    if assume is not None:
        tried = assumptions.what_if(session, key, assume, as_of=instant, kept=kept)
        _what_if(tried, key, json=json)
        return
    found = analysis.analyze(session, key, as_of=instant, kept=kept)
    around = assumptions.beside(session, key, found, as_of=instant)
    if json:
        use = {"cohorts": asdict(found.cohorts)} if found.cohorts else {}
        print_json({**to_json(found), **beside_to_json(around), **use})
        return
    typer.echo(scorecard(found))
    if found.cohorts is not None:
        cohorts = found.cohorts
        said = f": {cohorts.detail}" if cohorts.detail else ""
        why = f" (all, for the reason {cohorts.reason}{said}: docs/facts.md)"
        log(
            f"Kept by earlier analyses: {cohorts.cached:,} units; built from facts: "
            f"{cohorts.built:,}{why if cohorts.reason else ''}"
        )
    below = beside_text(around)
    if below:
        typer.echo(f"\n{below}")
    log(f"Next: klartext report {key} -o report.html")


def _what_if(tried: WhatIf, key: str, *, json: bool) -> None:
    from klartext.analysis.document import to_json  # noqa: PLC0415 - heavy
    from klartext.analysis.money_document import decision_to_json  # noqa: PLC0415
    from klartext.app.cli.scorecard import scorecard  # noqa: PLC0415 - only here

    registered = decision_to_json(tried.registered.decision)
    if json:
        print_json({**to_json(tried.assumed), "registered_decision": registered})
        return
    typer.echo(scorecard(tried.assumed))
    typer.echo(f"As registered it is {registered['verdict']}: klartext analyze {key}")


def _model(
    context: typer.Context,
    key: str,
    *,
    model: str,
    metric: str | None,
    seed: int | None,
    json: bool,
) -> None:
    from klartext.analysis.models.document import model_to_json  # noqa: PLC0415 - heavy
    from klartext.app.cli.models import model_text  # noqa: PLC0415 - only here
    from klartext.app.usecases import models  # noqa: PLC0415 - heavy

    chosen = models.SEED if seed is None else seed
    found = models.fit(open_session(context), key, model=model, metric=metric, seed=chosen)
    if json:
        print_json(model_to_json(found))
        return
    typer.echo(model_text(found))


def _series(context: typer.Context, key: str, *, json: bool) -> None:
    from klartext.analysis.series_document import NOTE, series_to_json  # noqa: PLC0415 - heavy
    from klartext.app.cli.columns import columns  # noqa: PLC0415 - only here
    from klartext.app.usecases import analysis  # noqa: PLC0415 - heavy

    registered, watermark, found = analysis.series(open_session(context), key)
    experiment = registered.experiment
    if json:
        print_json(series_to_json(experiment, watermark, found))
        return
    rows = [
        [
            f"{row.age}",
            row.variant,
            f"{row.units:,}",
            *(
                f"{row.totals[name] / row.units:,.4f}" if row.units else "–"
                for name in ("margin", "cost", "net")
            ),
        ]
        for row in found.ages
    ]
    header = ["DAY", "VARIANT", "UNITS", "MARGIN", "COST", "NET"]
    typer.echo(f"{key} by days since exposure, {experiment.currency} per unit and day")
    typer.echo(columns(header, rows))
    log(NOTE)
    log(f"Every metric, calendar days and cohorts: klartext analyze {key} --series --json")


def decide(
    context: typer.Context,
    key: Key,
    actor: ActorOption = None,
    kept: Kept = False,
    json: Json = False,
) -> None:
    """Take a look: record the figures and the verdict, and act on it.

    GO and STOP end the test; CONTINUE, INVALID and a GO that waits for approval leave it running.
    What was seen is kept with moments and hashes, and enters the audit log.

    For example:

      klartext decide mail-subject --as lena.vogt
    """
    from klartext.analysis.document import to_json  # noqa: PLC0415 - heavy
    from klartext.app.cli.scorecard import scorecard  # noqa: PLC0415 - only here
    from klartext.app.usecases import analysis  # noqa: PLC0415 - heavy

    taken = analysis.decide(open_session(context), key, actor=actor_name(actor), kept=kept)
    if json:
        print_json(
            {
                "schema": "klartext/look/v1",
                "experiment": key,
                "look": taken.look,
                "taken_at": taken.taken_at.isoformat(),
                "status": taken.registered.status,
                "analysis": to_json(taken.analysis),
            }
        )
        return
    typer.echo(scorecard(taken.analysis))
    typer.echo(
        f"\nLook {taken.look} of {key} is recorded; the experiment is {taken.registered.status}."
    )
    log(f"Next: klartext report {key} -o report.html")
