"""Commands about the ledger: costs add, and what costs import and costs list say of it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klartext.app.cli.actor import ActorOption, actor_name
from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.cost_documents import money, plain
from klartext.app.cli.words import counted

if TYPE_CHECKING:
    from klartext.app.session import Session
    from klartext.app.usecases.ledger import LedgerImport, LedgerListing
    from klartext.experiments.ingest import Delivered
    from klartext.experiments.ledger.book import Recorded
    from klartext.experiments.ledger.sums import Cost, Reconciled


class Status(StrEnum):
    """How sure a line is."""

    estimated = "estimated"
    accrued = "accrued"
    invoiced = "invoiced"
    settled = "settled"
    void = "void"


class Kind(StrEnum):
    """What a line is."""

    charge = "charge"
    credit = "credit"
    correction = "correction"
    tax = "tax"


class Behaviour(StrEnum):
    """How a cost arises."""

    per_event = "per_event"
    per_step = "per_step"
    time_based = "time_based"
    one_off = "one_off"
    amortised = "amortised"


def add(
    context: typer.Context,
    amount: Annotated[
        str,
        typer.Argument(help="Net amount and currency, such as '1200 EUR'."),
    ],
    category: Annotated[str, typer.Option(help="Cost category, such as engineering.")],
    start: Annotated[
        str, typer.Option("--from", help="First day or instant of the period of service.")
    ],
    end: Annotated[str, typer.Option("--until", help="Its end, exclusive.")],
    status: Annotated[Status, typer.Option(help="How sure it is.")] = Status.estimated,
    kind: Annotated[Kind, typer.Option(help="What it is.")] = Kind.charge,
    behaviour: Annotated[Behaviour, typer.Option(help="How it arises.")] = Behaviour.time_based,
    vat: Annotated[str | None, typer.Option(help="Recoverable VAT beside the amount.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Whose cost it is; default: shared by all.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Variant of the experiment.")] = None,
    cost_centre: Annotated[str | None, typer.Option(help="Cost centre of the books.")] = None,
    account: Annotated[str | None, typer.Option(help="Account of the books.")] = None,
    label: Annotated[str | None, typer.Option(help="What it is, for people.")] = None,
    evidence: Annotated[str | None, typer.Option(help="Proof, such as an invoice number.")] = None,
    supersedes: Annotated[
        int | None, typer.Option(help="Number of the ledger line in whose place it comes.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Whose AI calls it bills, as the calls name it.")
    ] = None,
    replaces: Annotated[
        str | None,
        typer.Option(help="Cost line of the spec in whose place it comes: label or category."),
    ] = None,
    actor: ActorOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Record a cost in the ledger. Nothing there is ever changed: a line is superseded by another.

    Days are those of the workspace's time zone.

    For example:

      klartext costs add '1200 EUR' --category engineering --from 2026-10-01 --until 2026-11-01

      klartext costs add '900 EUR' --category media --from 2026-10-01 --until 2026-10-15
      --status invoiced --supersedes 1 --evidence 'invoice 2026-118'

      klartext costs add '812.40 EUR' --category model_fees --provider openai
      --behaviour per_event --from 2026-10-01 --until 2026-11-01 --status invoiced
      --experiment mail-subject
    """
    from klartext.app.usecases import ledger  # noqa: PLC0415 - heavy
    from klartext.experiments.money import Money, MoneyError  # noqa: PLC0415

    session = open_session(context)
    zone = session.workspace.timezone
    try:
        stated = Money.parse(amount)
    except MoneyError as error:
        raise typer.BadParameter(str(error), param_hint="AMOUNT") from None
    entry = ledger.Entry(
        category,
        stated,
        instant_of(start, "--from", zone),
        instant_of(end, "--until", zone),
        status.value,
        kind.value,
        behaviour.value,
        None if vat is None else _number(vat, "--vat"),
        experiment,
        variant,
        cost_centre,
        account,
        label,
        evidence,
        supersedes,
        provider,
        replaces,
    )
    recorded = ledger.add(session, entry, actor=actor_name(actor))
    if json:
        print_json({"schema": "klartext/costs-add/v1", **line_document(recorded)})
        return
    typer.echo(f"line {recorded.number}: {plain(recorded.line.reporting)} in {category}, {status}")


def _number(text: str, option: str) -> Decimal:
    from klartext.experiments.cells import RowError, decimal  # noqa: PLC0415 - heavy

    try:
        return decimal(text, option)
    except RowError as error:
        raise typer.BadParameter(error.detail, param_hint=option) from None


def as_of_option(text: str | None, session: Session) -> datetime | None:
    """Return the instant of ``--as-of``; a day is its first instant in the workspace."""
    return None if text is None else instant_of(text, "--as-of", session.workspace.timezone)


def instant_of(text: str, option: str, zone: str) -> datetime:
    """Return a day or an instant of the command line; naive ones are of the workspace."""
    from klartext.experiments.cells import RowError, instant  # noqa: PLC0415 - heavy

    try:
        return instant(text, option, zone=zone)
    except RowError:
        message = f"{text!r} is no day such as 2026-10-01 nor an instant"
        raise typer.BadParameter(message, param_hint=option) from None


def show_import(found: LedgerImport, file: str) -> None:
    """Print what became of a bill."""
    show_delivered(found.booking.delivered, file)
    outdated, withdrawn = found.booking.outdated, found.booking.withdrawn
    if found.booking.restated:
        if outdated:
            typer.echo(f"voided, as this file no longer has them: {outdated:,}")
        if withdrawn:
            typer.echo(f"voided by an earlier restatement, counting again: {withdrawn:,}")
    else:
        if outdated:
            log(
                f"Lines of the same billing periods that came with earlier files and are not in "
                f"this one: {outdated:,}. They still count: a bill that came as CSV and as Parquet "
                "counts twice. If this file replaces them, import it again with --restates, once "
                "no row is rejected."
            )
        if withdrawn:
            log(
                f"Lines of this file that an earlier restatement voided: {withdrawn:,}. They do "
                "not count. If this file is the truth again, import it with --restates."
            )
    typer.echo("all lines of this source:")
    typer.echo(cost_table(found.costs, found.currency))
    typer.echo(reconciled_words(found.reconciled))


def show_delivered(delivered: Delivered, file: str) -> None:
    """Print the counts of an import and why rows were not accepted."""
    counts = delivered.counts
    typer.echo(f"{file}: batch {delivered.batch}")
    for name in ("accepted", "duplicate", "conflict", "rejected", "sent"):
        typer.echo(f"  {name:<10}{getattr(counts, name):>12,}")
    for reason in delivered.reasons:
        rows = ", ".join(str(position) for position in reason.positions)
        more = ", …" if reason.count > len(reason.positions) else ""
        typer.echo(f"  {reason.reason} x {reason.count:,}: {reason.detail} (row {rows}{more})")


def cost_table(costs: tuple[Cost, ...], currency: str) -> str:
    """Return the cost of each category and of all."""
    rows = [
        [f"{cost.lines:,}", money(cost.amount), money(cost.not_invoiced), cost.category]
        for cost in costs
    ]
    rows.append(
        [
            f"{sum(cost.lines for cost in costs):,}",
            money(sum((cost.amount for cost in costs), start=Decimal(0))),
            money(sum((cost.not_invoiced for cost in costs), start=Decimal(0))),
            "(all)",
        ]
    )
    head = ["LINES", currency, "NOT INVOICED"]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    cells = [[*(row[i].rjust(widths[i]) for i in range(len(head))), row[-1]] for row in rows]
    head = [name.rjust(width) for name, width in zip(head, widths, strict=True)]
    return columns([*head, "CATEGORY"], cells)


def reconciled_words(found: tuple[Reconciled, ...]) -> str:
    """Return what bills say beside what they cost."""
    return "\n".join(
        f"to reconcile {each.source}: billed {plain(each.billed)} {each.currency}, "
        f"effective {plain(each.effective)} {each.currency} ({counted(each.lines, 'line')})"
        for each in found
    )


def import_document(found: LedgerImport) -> dict[str, Any]:
    """Return the JSON document of a bill."""
    from klartext.app.usecases.facts import delivered_document  # noqa: PLC0415 - heavy

    return {
        **delivered_document(found.booking.delivered),
        "schema": "klartext/ledger-import/v1",
        "currency": found.currency,
        "outdated": found.booking.outdated,
        "restated": found.booking.restated,
        "withdrawn": found.booking.withdrawn,
        "costs": [cost_document(cost) for cost in found.costs],
        "reconciliation": [reconciled_document(each) for each in found.reconciled],
    }


def listing_document(listing: LedgerListing) -> dict[str, Any]:
    """Return the JSON of the ledger as it stood; money is exact text."""
    return {
        "as_of": listing.as_of.isoformat(),
        "from": None if listing.start is None else listing.start.isoformat(),
        "until": None if listing.end is None else listing.end.isoformat(),
        "costs": [cost_document(cost) for cost in listing.costs],
        "unallocated": plain(listing.unallocated),
        "reconciliation": [reconciled_document(each) for each in listing.reconciled],
        "lines": [line_document(each) for each in listing.lines],
    }


def cost_document(cost: Cost) -> dict[str, Any]:
    """Return one category."""
    return {
        "category": cost.category,
        "lines": cost.lines,
        "amount": plain(cost.amount),
        "not_invoiced": plain(cost.not_invoiced),
        "tax": plain(cost.tax),
    }


def reconciled_document(each: Reconciled) -> dict[str, Any]:
    """Return one source in one currency."""
    return {
        "source": each.source,
        "currency": each.currency,
        "lines": each.lines,
        "billed": plain(each.billed),
        "effective": plain(each.effective),
    }


def line_document(recorded: Recorded) -> dict[str, Any]:
    """Return one line of the ledger."""
    line = recorded.line
    return {
        "number": recorded.number,
        "recorded_at": recorded.recorded_at.isoformat(),
        "actor": recorded.actor,
        "source": line.source,
        "status": line.status,
        "kind": line.kind,
        "category": line.category,
        "behaviour": line.behaviour,
        "from": line.start.isoformat(),
        "until": line.end.isoformat(),
        "amount": plain(line.amount.amount),
        "currency": line.amount.currency,
        "reporting": plain(line.reporting),
        "evidence": line.evidence,
        "billed": None if line.billed is None else plain(line.billed),
        "vat": None if line.vat is None else plain(line.vat),
        "experiment": line.experiment,
        "variant": line.variant,
        "cost_centre": line.cost_centre,
        "account": line.account,
        "label": line.label,
        "supersedes": line.supersedes,
        "provider": line.provider,
        "replaces": line.replaces,
        "allocates": line.allocates,
    }


def line_table(lines: tuple[Recorded, ...]) -> str:
    """Return the lines of the ledger."""
    return columns(
        ["  LINE", "STATUS", "FROM", "UNTIL", "AMOUNT", "CATEGORY", "FOR", "LABEL"],
        [
            [
                f"  {each.number}",
                each.line.status,
                f"{each.line.start:%Y-%m-%dT%H:%MZ}",
                f"{each.line.end:%Y-%m-%dT%H:%MZ}",
                f"{money(each.line.amount.amount)} {each.line.amount.currency}",
                each.line.category,
                "/".join(part for part in (each.line.experiment, each.line.variant) if part)
                or "all",
                each.line.label or "",
            ]
            for each in lines
        ],
    )
