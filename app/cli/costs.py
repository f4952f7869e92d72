"""Commands: costs list, costs breakdown; the group that holds the others."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from klartext.app.cli import cost_import, ledger, shared_cost
from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.cost_documents import (
    breakdown_document,
    listing_document,
    money,
)

if TYPE_CHECKING:
    from klartext.app.usecases.costs import ExperimentCosts
    from klartext.experiments.experiment import CostLine
    from klartext.experiments.ledger.breakdown import CallCosts

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class By(StrEnum):
    """What calls can be summed by."""

    category = "category"
    variant = "variant"
    model = "model"
    prompt = "prompt"
    day = "day"
    provider = "provider"
    source = "source"
    experiment = "experiment"
    price = "price"


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    group = typer.Typer(name="costs", help="AI calls and what they cost.", no_args_is_help=True)
    group.command("import")(cost_import.import_costs)
    group.command("add")(ledger.add)
    group.command("list")(list_costs)
    group.command("breakdown")(breakdown)
    group.command("allocate")(shared_cost.allocate)
    group.command("reconcile")(shared_cost.reconcile)
    app.add_typer(group)


def list_costs(
    context: typer.Context,
    as_of: Annotated[
        str | None,
        typer.Option(help="AI calls and ledger as they were known at this day or instant."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Ledger: cost of service from this day on.")
    ] = None,
    end: Annotated[str | None, typer.Option("--until", help="Ledger: and before this day.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Ledger: also every line.")] = False,
    json: Json = False,
) -> None:
    """List what costs: AI calls by source, the ledger, and the cost lines of every experiment.

    AI calls and the ledger as of an instant are the same for ever, to the cent.

    For example:

      klartext costs list

      klartext costs list --as-of 2026-11-01 --from 2026-10-01 --until 2026-11-01 --json
    """
    from klartext.app.usecases import costs  # noqa: PLC0415 - heavy
    from klartext.app.usecases import ledger as books  # noqa: PLC0415

    session = open_session(context)
    zone = session.workspace.timezone
    instant = ledger.as_of_option(as_of, session)
    booked = books.listing(
        session,
        as_of=instant,
        start=None if start is None else ledger.instant_of(start, "--from", zone),
        end=None if end is None else ledger.instant_of(end, "--until", zone),
        lines=lines,
    )
    listing = costs.listing(session, as_of=instant)
    if json:
        print_json(listing_document(listing, ledger.listing_document(booked)))
        return
    if listing.sources:
        typer.echo(_table("SOURCE", listing.sources, listing.currency))
    else:
        log(
            "No AI calls yet. Next: klartext costs import FILE --mapping MAPPING.yaml"
            if instant is None
            else f"No AI calls had been imported by {instant:%Y-%m-%dT%H:%MZ}."
        )
    if booked.costs:
        typer.echo(f"\nLedger as of {booked.as_of:%Y-%m-%dT%H:%M:%SZ}")
        typer.echo(ledger.cost_table(booked.costs, listing.currency))
        if booked.unallocated:
            typer.echo(
                f"of no experiment (unallocated): {money(booked.unallocated)} {listing.currency}"
            )
        if booked.reconciled:
            typer.echo(ledger.reconciled_words(booked.reconciled))
        if lines:
            typer.echo(ledger.line_table(booked.lines))
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
    """Sum the cost of AI calls exactly, with the mean per call, and the ledger beside it.

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
    if found.ledger:
        rows = [[key or "(none)", money(amount)] for key, amount in found.ledger]
        typer.echo(columns([f"LEDGER BY {by.value.upper()}", found.currency], rows) + "\n")
    if not found.total.calls:
        log("No AI calls yet. Next: klartext costs import FILE --mapping MAPPING.yaml")
        return
    whole = replace(found.total, key="(all)")
    typer.echo(_table(by.value.upper(), (*found.parts, whole), found.currency))
    if found.unpriced:
        typer.echo("\nUnpriced calls, by reason")
        for evidence, calls in found.unpriced.items():
            typer.echo(f"  {calls:>9,}  {evidence}")
        log(cost_import.UNPRICED_ADVICE)


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
