"""Commands: plan, aa."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from klartext.app.cli import typed
from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json

if TYPE_CHECKING:
    from klartext.analysis.rerandomisation import AaResult, Rate
    from klartext.app.usecases.planning import Past

AA_SCHEMA = "klartext/aa/v1"


class ModeChoice(StrEnum):
    """How a test may be read."""

    anytime = "anytime"
    fixed = "fixed"
    group_sequential = "group_sequential"


class SpendingChoice(StrEnum):
    """How a group sequential design shares alpha over its looks."""

    obrien_fleming = "obrien_fleming"
    pocock = "pocock"


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command("plan")(plan)
    app.command("aa")(aa)


def plan(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="KEY|FILE", help="The experiment.", show_default=False)
    ],
    history: Annotated[
        str | None,
        typer.Option(
            help="Baselines from units with an event in this time, such as 28d (default)."
        ),
    ] = None,
    seen: Annotated[
        str | None,
        typer.Option(metavar="EVENT", help="With --history: only events called so count."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="With --history: its end; default: the latest whose windows closed."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="KEY|FILE", help="Baselines from the control of an earlier test."),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=…", help="Numbers instead: conversion=6%, revenue=3.2,sd=11."),
    ] = None,
    lift: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=…", help="Expected lift: revenue=3%; also margin=3%."),
    ] = None,
    units: Annotated[int | None, typer.Option(help="Size to judge, all variants.")] = None,
    weeks: Annotated[int | None, typer.Option(help="Size to judge, in weeks.")] = None,
    units_per_day: Annotated[
        float | None, typer.Option(help="Units that come per day; default: as in history.")
    ] = None,
    cost_per_unit: Annotated[
        float | None,
        typer.Option(help="AI cost per treated unit beyond the control's; default: from the spec."),
    ] = None,
    population: Annotated[
        int | None, typer.Option(help="Units of Test & Roll; default: of the roll-out.")
    ] = None,
    treatment: Annotated[
        str | None, typer.Option(help="Which one; default: that with the smallest share.")
    ] = None,
    mode: Annotated[ModeChoice | None, typer.Option(help="Default: the spec's.")] = None,
    looks: Annotated[
        int | None,
        typer.Option(help="How often it is read; default: the spec's, else 28 (group: 4)."),
    ] = None,
    spending: Annotated[
        SpendingChoice | None, typer.Option(help="Of a group design; default: the spec's.")
    ] = None,
    alpha: Annotated[str | None, typer.Option(help="Default: the spec's.")] = None,
    power: Annotated[str, typer.Option(help="Probability to show what is expected.")] = "80%",
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page as well.")
    ] = None,
    language: Annotated[
        Literal["de", "en"] | None,
        typer.Option("--language", "-l", help="Default: that of the workspace."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan a test: how many units, how long, what it could show, and what it costs.

    Baselines come from history: units seen before (--history), the control of an earlier test
    (--like), or numbers (--baseline). Nothing is recorded.

    For example:

      klartext plan mail-subject --lift revenue=3%

      klartext plan mail-subject --like last-mail-test --weeks 6 --html plan.html

      klartext plan experiments/mail.yaml --baseline conversion=6% --units-per-day 1500
    """
    from klartext.analysis.proposal_document import proposal_json  # noqa: PLC0415 - heavy
    from klartext.app.cli.plan_text import plan_text  # noqa: PLC0415 - only here
    from klartext.app.usecases import pages, planning  # noqa: PLC0415 - heavy
    from klartext.reports.language import Locale  # noqa: PLC0415 - heavy
    from klartext.reports.plan_view import view  # noqa: PLC0415 - heavy

    session = open_session(context)
    request = planning.Request(
        treatment=treatment,
        mode=None if mode is None else mode.value,
        alpha=None if alpha is None else typed.share(alpha, "--alpha"),
        looks=looks,
        spending=None if spending is None else spending.value,
        power=typed.share(power, "--power"),
        lifts=typed.lifts(lift or (), "--lift"),
        total_units=units,
        weeks=weeks,
        units_per_day=units_per_day,
        population=population,
        cost_per_unit=cost_per_unit,
        past=_past(history, seen, at, like, timezone=session.workspace.timezone),
        baselines=typed.baselines(baseline or (), "--baseline"),
    )
    if html is not None:
        pages.check_folder(html)
    found = planning.plan(session, subject, request)
    said = language or session.workspace.language
    if html is not None:
        planning.write_page(found, html, said, generated_at=session.now())
        log(f"written: {html}")
    if json:
        print_json(proposal_json(found))
        return
    shown = view(found, Locale(said, found.experiment.currency, found.experiment.timezone))
    typer.echo(plan_text(shown))
    if shown.spec is not None:
        typer.echo(f"\n{shown.spec}", nl=False)


def aa(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="KEY|FILE", help="The experiment.", show_default=False)
    ],
    repeats: Annotated[int, typer.Option(help="How often the units are split.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same splits.")] = 1,
    looks: Annotated[
        int,
        typer.Option(help="Looks at each split, by time of exposure; one outside anytime mode."),
    ] = 10,
    history: Annotated[
        str | None, typer.Option(help="Units with an event in this time instead, such as 28d.")
    ] = None,
    seen: Annotated[
        str | None,
        typer.Option(metavar="EVENT", help="With --history: only events called so count."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="With --history: its end; default: the latest whose windows closed."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="KEY|FILE", help="Units of an earlier test instead."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prove the methods on your own data: split real units again, where there is no effect.

    Shows how often each method of the experiment calls chance an effect, with its exact binomial
    band. Nothing is recorded. Exit status 1 if a method does so more often than it promises.

    For example:

      klartext aa mail-subject --repeats 2000 --seed 7

      klartext aa mail-subject --history 28d --json
    """
    from klartext.app.usecases import planning  # noqa: PLC0415 - heavy

    session = open_session(context)
    past = _past(history, seen, at, like, timezone=session.workspace.timezone)
    with _progress(repeats) as progress:
        found = planning.aa(
            session,
            subject,
            population=planning.population_of(session, past),
            repeats=repeats,
            looks=looks,
            seed=seed,
            progress=progress,
        )
    if json:
        print_json(_aa_json(found))
    else:
        _print_aa(found)
    if found.too_high:
        raise typer.Exit(1)


def _past(
    history: str | None, seen: str | None, at: str | None, like: str | None, *, timezone: str
) -> Past:
    """Return who was meant, as typed."""
    from klartext.app.usecases.planning import Past  # noqa: PLC0415 - heavy

    return Past(
        lookback=None if history is None else typed.duration(history, "--history"),
        event=seen,
        at=None if at is None else typed.instant(at, "--at", timezone=timezone),
        like=like,
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr when it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.progress import Progress  # noqa: PLC0415 - heavy

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("splits", total=total)
        yield lambda more: bar.advance(task, more)


def _print_aa(found: AaResult) -> None:
    several = found.looks > 1
    header = ["METRIC", "VARIANT", "METHOD", "ASKED", "AT THE END"]
    header += ["AT ANY LOOK"] if several else []
    rows = [
        [
            rate.metric,
            rate.variant,
            rate.method,
            f"{rate.alpha:.4g}",
            _share(rate.alarms, rate.splits),
            *([_share(rate.any_alarms, rate.any_splits)] if several else []),
            "–" if rate.band is None else f"[{rate.band[0]:.2%}, {rate.band[1]:.2%}]",
            _VERDICTS[rate.verdict].format(reason=rate.reason or "no interval"),
        ]
        for rate in found.rates
    ]
    typer.echo(
        f"{found.repeats:,} splits of {found.units:,} units, seed {found.seed}, "
        f"{found.looks} look{'s' if several else ''} each: how often chance is called an effect\n"
    )
    typer.echo(columns([*header, "BAND", "JUDGED"], rows))
    typer.echo(
        f"\nBands are exact binomial ones (Clopper-Pearson) at {found.level:.3%}, so that all of "
        "them hold\ntogether with 95%. Anytime methods are judged at any look, the others at the "
        "end."
    )
    if several:
        typer.echo("A fixed interval read at every look errs as AT ANY LOOK says.")


_VERDICTS = {
    "inside": "as promised",
    "above": "TOO OFTEN",
    "below": "rarer than promised",
    "unread": "not read: {reason}",
}


def _share(hits: int, splits: int) -> str:
    return "–" if splits == 0 else f"{hits / splits:.2%} of {splits:,}"


def _aa_json(found: AaResult) -> dict[str, object]:
    return {
        "schema": AA_SCHEMA,
        "units": found.units,
        "repeats": found.repeats,
        "seed": found.seed,
        "looks": found.looks,
        "band_level": found.level,
        "rates": [_rate_json(rate) for rate in found.rates],
    }


def _rate_json(rate: Rate) -> dict[str, object]:
    return {
        "metric": rate.metric,
        "variant": rate.variant,
        "method": rate.method,
        "alpha": rate.alpha,
        "end": {"splits": rate.splits, "alarms": rate.alarms},
        "any_look": {"splits": rate.any_splits, "alarms": rate.any_alarms},
        "judged": rate.judged,
        "band": None if rate.band is None else list(rate.band),
        "verdict": rate.verdict,
        "reason": rate.reason,
    }
