"""Command: costs import."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klartext.app.cli import ledger as ledger_cli
from klartext.app.cli.actor import ActorOption, actor_name
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.cost_documents import import_document, money

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klartext.app.usecases.cost_import import CostImport
    from klartext.app.usecases.ledger import LedgerImport
    from klartext.experiments.ingest import Delivered
    from klartext.experiments.ledger.breakdown import CallCosts

UNPRICED_ADVICE = (
    "An unpriced call is never counted as 0: it lowers the completeness of cost. Add its price to "
    "prices.yaml, or the exchange rate to rates.csv, before the next import."
)


class Format(StrEnum):
    """Files that need no mapping."""

    trace = "token-trace"
    otlp = "otlp"
    litellm = "litellm"
    langfuse = "langfuse"
    scores = "langfuse-scores"
    focus = "focus"


_OPTIONS = {
    Format.trace: ("identity", "timezone", "model", "provider", "experiment", "variant"),
    Format.otlp: ("experiment", "variant", "unit", "task", "exclusive"),
    Format.litellm: ("experiment", "variant", "unit", "task"),
    Format.langfuse: ("experiment", "variant", "unit", "task"),
    Format.scores: (),
    Format.focus: ("experiment", "variant", "provider", "restates"),
}
"""Which options a format takes, beside ``--source``."""


def import_costs(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file: see --format.")],
    mapping: Annotated[
        Path | None,
        typer.Option(
            "--mapping",
            "-m",
            help="YAML: what columns mean (kind: usage, invoice, timesheet).",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the word of the command line
        Format | None,
        typer.Option("--format", help="Instead of a mapping: who wrote the file."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Name of the system it comes from.")] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Token trace: row_content, row_number, or columns with commas; "
            "default: the column id.",
        ),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Token trace: time zone of times that have none.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Token trace: model of all calls.")] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="Token trace, FOCUS: provider of all calls, or of the calls billed."),
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Experiment of calls that name none.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of calls that name none.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Field with the id of the unit; default: see docs/costs.md.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Field with the id of the task; default: see docs/costs.md.")
    ] = None,
    exclusive: Annotated[
        list[str] | None,
        typer.Option(
            "--cache-apart",
            help="OTLP: an instrumentation scope whose input tokens leave out cached ones; "
            "may be repeated.",
        ),
    ] = None,
    restates: Annotated[
        bool,
        typer.Option(
            "--restates",
            help="Bills: the file is the whole truth about its billing periods; what earlier files "
            "had beside it is voided.",
        ),
    ] = False,
    keep_unpriced: Annotated[
        bool, typer.Option("--keep-unpriced", help="Store calls even if none can be priced.")
    ] = False,
    actor: ActorOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring costs in, exactly once however often a file is sent; docs/costs.md has every format.

    AI calls are priced by the contract (prices.yaml), then by the public catalogue, by exact model
    and day. A call without a price is kept as unpriced, never as 0. Ends with status 1 when rows
    were rejected or contradict earlier ones; `klartext dlq` shows them.

    For example:

      klartext costs import trace.csv --mapping mappings/trace.yaml

      klartext costs import calls.jsonl --format token-trace --source ai-gateway

      klartext costs import spans.jsonl --format otlp --source ai-gateway
    """
    from klartext.app.usecases import cost_import as costs  # noqa: PLC0415 - heavy
    from klartext.app.usecases import ledger  # noqa: PLC0415
    from klartext.experiments.imports.bill_mapping import bill_kind  # noqa: PLC0415
    from klartext.experiments.imports.focus import BillOptions  # noqa: PLC0415
    from klartext.experiments.imports.observed import CallOptions  # noqa: PLC0415
    from klartext.experiments.imports.usage_mapping import TraceOptions  # noqa: PLC0415

    stated = {
        "identity": identity,
        "timezone": timezone,
        "model": model,
        "provider": provider,
        "experiment": experiment,
        "variant": variant,
        "unit": unit,
        "task": task,
        "exclusive": tuple(exclusive) if exclusive else None,
        "restates": restates or None,
    }
    given = {name: value for name, value in stated.items() if value is not None}
    _require(mapping, format, source, given)
    session = open_session(context)
    progress = _report if sys.stderr.isatty() else None
    if format is Format.focus:
        bill = ledger.import_focus(
            session,
            file,
            BillOptions(source or "", experiment, variant, provider),
            actor=actor_name(actor),
            restates=restates,
        )
        _end_bill(bill, file.name, json=json)
    elif mapping is not None and bill_kind(mapping) is not None:
        bill = ledger.import_bill(session, file, mapping, actor=actor_name(actor))
        _end_bill(bill, file.name, json=json)
    elif format is Format.scores:
        scored = costs.import_scores(session, file, source or "", progress=progress)
        _end_scores(scored, file.name, json=json)
    else:
        how: Path | TraceOptions | CallOptions
        if format is None:
            how = mapping or Path()
        elif format is Format.trace:
            how = TraceOptions(
                source or "", _identity(identity), timezone, model, provider, experiment, variant
            )
        else:
            names = tuple(exclusive or ())
            how = CallOptions(str(format), source or "", experiment, variant, unit, task, names)
        found = costs.import_calls(
            session, file, how, keep_unpriced=keep_unpriced, progress=progress
        )
        _end_calls(found, file.name, json=json)


def _require(
    mapping: Path | None,
    format: Format | None,  # noqa: A002 - the word of the command line
    source: str | None,
    given: Mapping[str, object],
) -> None:
    """Raise unless the options go together."""
    if (mapping is None) == (format is None):
        raise typer.BadParameter("give either --mapping or --format", param_hint="--mapping")
    if format is None:
        if given or source is not None:
            raise typer.BadParameter("write it into the mapping", param_hint="--mapping")
        return
    if unknown := sorted(set(given) - set(_OPTIONS[format])):
        names = {"identity": "--id", "exclusive": "--cache-apart"}
        hint = ", ".join(names.get(name, f"--{name}") for name in unknown)
        raise typer.BadParameter(f"{format.value} does not take it", param_hint=hint)
    if source is None:
        raise typer.BadParameter("name the system the file comes from", param_hint="--source")


def _end_calls(found: CostImport, file: str, *, json: bool) -> None:
    if json:
        print_json(import_document(found))
    else:
        _show_import(found, file)
    _end(found.delivered)


def _end_scores(scored: Delivered, file: str, *, json: bool) -> None:
    from klartext.app.usecases.facts import delivered_document  # noqa: PLC0415 - heavy

    if json:
        print_json(delivered_document(scored))
    else:
        ledger_cli.show_delivered(scored, file)
    _end(scored)


def _end_bill(found: LedgerImport, file: str, *, json: bool) -> None:
    if json:
        print_json(ledger_cli.import_document(found))
    else:
        ledger_cli.show_import(found, file)
    _end(found.booking.delivered)


def _end(delivered: Delivered) -> None:
    if delivered.counts.rejected or delivered.counts.conflict:
        raise typer.Exit(1)


def _report(rows: int) -> None:
    log(f"{rows:,} rows")


def _identity(stated: str | None) -> str | tuple[str, ...] | None:
    if stated is None or stated in {"row_content", "row_number"}:
        return stated
    return tuple(name.strip() for name in stated.split(","))


def _show_import(found: CostImport, file: str) -> None:
    ledger_cli.show_delivered(found.delivered, file)
    calls = found.calls
    for kind, count in sorted(found.others.items()):
        typer.echo(f"  beside these, no calls: {count:,} x {kind}")
    if calls.calls:
        typer.echo(
            f"new calls: {calls.priced_calls:,} priced, {calls.unpriced_calls:,} unpriced; "
            f"{_cost_words(calls, found.currency)}"
        )
        for price in found.prices:
            typer.echo(f"  {price.calls:>9,}  {price.key}")
    typer.echo(
        f"all calls: {found.workspace.calls:,}; {_cost_words(found.workspace, found.currency)}"
    )
    if calls.unpriced_calls:
        log(UNPRICED_ADVICE)


def _cost_words(costs: CallCosts, currency: str) -> str:
    if costs.amount is None:
        return "cost unknown"
    return f"{money(costs.amount)} {currency}, mean {money(costs.mean)} {currency} per call"
