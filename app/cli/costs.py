"""Commands: costs import, costs list, costs breakdown."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.cost_documents import (
    breakdown_document,
    import_document,
    listing_document,
    money,
)

if TYPE_CHECKING:
    from klartext.app.usecases.costs import CostImport, ExperimentCosts
    from klartext.experiments.experiment import CostLine
    from klartext.experiments.ledger.breakdown import CallCosts

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_UNPRICED_ADVICE = (
    "An unpriced call is never counted as 0: it lowers the completeness of cost. Add its price to "
    "prices.yaml, or the exchange rate to rates.csv, before the next import."
)


class By(StrEnum):
    """What calls can be summed by."""

    category = "category"
    variant = "variant"
    model = "model"
    day = "day"
    provider = "provider"
    source = "source"
    experiment = "experiment"
    price = "price"


class Format(StrEnum):
    """Files whose columns need no mapping."""

    trace = "token-trace"


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    group = typer.Typer(name="costs", help="AI calls and what they cost.", no_args_is_help=True)
    group.command("import")(import_calls)
    group.command("list")(list_costs)
    group.command("breakdown")(breakdown)
    app.add_typer(group)


def import_calls(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV, JSON Lines or Parquet, one AI call per row.")],
    mapping: Annotated[
        Path | None,
        typer.Option("--mapping", "-m", help="YAML that says what the columns mean (kind: usage)."),
    ] = None,
    format: Annotated[  # noqa: A002 - the word of the command line
        Format | None,
        typer.Option("--format", help="Instead of a mapping: the columns have the usual names."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Token trace: name of the system it comes from.")
    ] = None,
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
        str | None, typer.Option(help="Token trace: provider of all calls.")
    ] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Token trace: experiment of all calls.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Token trace: variant of all calls.")] = None,
    keep_unpriced: Annotated[
        bool, typer.Option("--keep-unpriced", help="Store calls even if none can be priced.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring AI calls in and put a price on each, exactly once however often a file is sent.

    Prices come from the contract (prices.yaml), then from the public catalogue, by exact model
    and day. A call without a price is kept as unpriced, never as 0. Ends with status 1 when rows
    were rejected or contradict earlier ones; `klartext dlq` shows them.

    For example:

      klartext costs import trace.csv --mapping mappings/trace.yaml

      klartext costs import calls.jsonl --format token-trace --source ai-gateway
    """
    from klartext.app.usecases import costs  # noqa: PLC0415 - heavy
    from klartext.experiments.imports.usage_mapping import TraceOptions  # noqa: PLC0415

    stated = (source, identity, timezone, model, provider, experiment, variant)
    if (mapping is None) == (format is None):
        raise typer.BadParameter("give either --mapping or --format", param_hint="--mapping")
    if mapping is not None and any(option is not None for option in stated):
        raise typer.BadParameter("write it into the mapping", param_hint="--mapping")
    if mapping is None and source is None:
        raise typer.BadParameter("name the system the calls come from", param_hint="--source")
    found = costs.import_calls(
        open_session(context),
        file,
        mapping
        or TraceOptions(
            source or "", _identity(identity), timezone, model, provider, experiment, variant
        ),
        keep_unpriced=keep_unpriced,
        progress=_report if sys.stderr.isatty() else None,
    )
    if json:
        print_json(import_document(found))
    else:
        _show_import(found, file.name)
    counts = found.delivered.counts
    if counts.rejected or counts.conflict:
        raise typer.Exit(1)


def list_costs(context: typer.Context, json: Json = False) -> None:
    """List what costs: AI calls by source, and the cost lines of every experiment.

    For example:

      klartext costs list

      klartext costs list --json
    """
    from klartext.app.usecases import costs  # noqa: PLC0415 - heavy

    listing = costs.listing(open_session(context))
    if json:
        print_json(listing_document(listing))
        return
    if listing.sources:
        typer.echo(_table("SOURCE", listing.sources, listing.currency))
    else:
        log("No AI calls yet. Next: klartext costs import FILE --mapping MAPPING.yaml")
    for experiment in listing.experiments:
        typer.echo(f"\n{experiment.experiment}: {_usage_words(experiment)}")
        if experiment.lines:
            typer.echo(
                columns(
                    ["  CATEGORY", "AMOUNT", "FOR", "VARIANT", "LABEL"],
                    [_line_cells(line, experiment.currency) for line in experiment.lines],
                )
            )
        if experiment.left_out:
            typer.echo(f"  no cost stated for: {', '.join(experiment.left_out)}")


def breakdown(
    context: typer.Context,
    by: Annotated[By, typer.Option("--by", "-b", help="What to sum by.")] = By.category,
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", "-e", help="Only calls of this experiment."),
    ] = None,
    json: Json = False,
) -> None:
    """Sum the cost of AI calls exactly, with the mean per call.

    Days are those of the workspace's time zone; `--by price` shows the proof of every price.

    For example:

      klartext costs breakdown --by model

      klartext costs breakdown --by variant --experiment mail-subject --json
    """
    from klartext.app.usecases import costs  # noqa: PLC0415 - heavy

    found = costs.break_down(open_session(context), by.value, experiment=experiment)
    if json:
        print_json(breakdown_document(found))
        return
    if not found.total.calls:
        log("No AI calls yet. Next: klartext costs import FILE --mapping MAPPING.yaml")
        return
    whole = replace(found.total, key="(all)")
    typer.echo(_table(by.value.upper(), (*found.parts, whole), found.currency))
    if found.unpriced:
        typer.echo("\nUnpriced calls, by reason")
        for evidence, calls in found.unpriced.items():
            typer.echo(f"  {calls:>9,}  {evidence}")
        log(_UNPRICED_ADVICE)


def _report(rows: int) -> None:
    log(f"{rows:,} rows")


def _identity(stated: str | None) -> str | tuple[str, ...] | None:
    if stated is None or stated in {"row_content", "row_number"}:
        return stated
    return tuple(name.strip() for name in stated.split(","))


def _show_import(found: CostImport, file: str) -> None:
    delivered, calls = found.delivered, found.calls
    counts = delivered.counts
    typer.echo(f"{file}: batch {delivered.batch}")
    for name in ("accepted", "duplicate", "conflict", "rejected", "sent"):
        typer.echo(f"  {name:<10}{getattr(counts, name):>12,}")
    for reason in delivered.reasons:
        rows = ", ".join(str(position) for position in reason.positions)
        more = ", …" if reason.count > len(reason.positions) else ""
        typer.echo(f"  {reason.reason} x {reason.count:,}: {reason.detail} (row {rows}{more})")
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
        log(_UNPRICED_ADVICE)


def _cost_words(costs: CallCosts, currency: str) -> str:
    if costs.amount is None:
        return "cost unknown"
    return f"{money(costs.amount)} {currency}, mean {money(costs.mean)} {currency} per call"


def _table(header: str, parts: tuple[CallCosts, ...], currency: str) -> str:
    names = ["CALLS", "UNPRICED", "INPUT", "OUTPUT", currency, "MEAN PER CALL"]
    rows = [
        [
            f"{part.calls:,}",
            f"{part.unpriced_calls:,}",
            f"{part.input_tokens:,}",
            f"{part.output_tokens:,}",
            money(part.amount),
            money(part.mean),
        ]
        for part in parts
    ]
    widths = [max(len(row[i]) for row in [names, *rows]) for i in range(len(names))]
    cells = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    keys = ["(none)" if part.key is None else part.key for part in parts]
    # The key comes last where it can be long: the proof of a price is a sentence.
    head = [name.rjust(width) for name, width in zip(names, widths, strict=True)]
    return columns([*head, header], [[*row, key] for row, key in zip(cells, keys, strict=True)])


def _line_cells(line: CostLine, currency: str) -> list[str]:
    amount = f"{money(line.amount.base)} {currency}"
    if line.hours is not None and line.rate is not None:
        amount += f" ({line.hours} h x {money(line.rate)})"
    occasion = {
        "once": "once",
        "amortised": f"once, over {line.life_months} months",
        "month": "a month",
        "unit": "a unit",
        "event": f"a {line.event} event",
    }[line.behaviour]
    return [f"  {line.category}", amount, occasion, line.variant or "all", line.label or ""]


def _usage_words(experiment: ExperimentCosts) -> str:
    if experiment.usage_source is None:
        return "AI calls of any source"
    return f"AI calls of source {experiment.usage_source}"
