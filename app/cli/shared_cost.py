"""Commands: costs allocate, costs reconcile."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klartext.app.cli.actor import ActorOption, actor_name
from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.cost_documents import money, plain
from klartext.app.cli.ledger import as_of_option

if TYPE_CHECKING:
    from klartext.app.usecases.shared_cost import Reconciliation, SharedOut, Stated
    from klartext.experiments.ledger.reconciliation import Month


class Method(StrEnum):
    """How shared cost is shared."""

    direct = "direct"
    driver = "driver"
    even = "even"
    fixed = "fixed"
    exposed = "exposed"


def allocate(
    context: typer.Context,
    line: Annotated[int, typer.Argument(help="Number of a ledger line of the company.")],
    by: Annotated[Method, typer.Option("--by", help="How it is shared.")],
    to: Annotated[
        list[str],
        typer.Option(
            help="EXPERIMENT or EXPERIMENT/VARIANT, with a weight: mail/ai=30%, mail=120."
        ),
    ],
    whole: Annotated[
        str | None, typer.Option("--of", help="driver: the quantity of the whole company.")
    ] = None,
    actor: ActorOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Share a cost of the company among experiments, exact to the cent; the rest stays unallocated.

    Shares fall with the line they share: once another line supersedes it, share that one. Sharing
    a line again takes its earlier shares back.

    For example:

      klartext costs allocate 7 --by even --to mail-subject --to chat

      klartext costs allocate 7 --by fixed --to mail-subject/ai=30% --to chat=20%

      klartext costs allocate 7 --by driver --to mail-subject=1200 --to chat=800 --of 4000

      klartext costs allocate 7 --by exposed --to mail-subject --to chat
    """
    from klartext.app.usecases import shared_cost  # noqa: PLC0415 - heavy

    found = shared_cost.allocate(
        open_session(context),
        line,
        by.value,
        [_stated(text) for text in to],
        total=None if whole is None else _number(whole, "--of"),
        actor=actor_name(actor),
    )
    if json:
        print_json(_shares_document(found))
        return
    currency = found.parent.line.amount.currency
    rows = [
        [
            f"{each.number}",
            f"{money(each.line.amount.amount)} {currency}",
            "/".join(part for part in (each.line.experiment, each.line.variant) if part),
        ]
        for each in found.shares
    ]
    rows.append(["–", f"{money(found.unallocated)} {currency}", "unallocated"])
    typer.echo(columns(["LINE", "SHARE", "FOR"], rows))


def reconcile(
    context: typer.Context,
    as_of: Annotated[
        str | None, typer.Option(help="The ledger as it stood at this day or instant.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold what providers billed against what their AI calls cost by price, month by month.

    For FOCUS this is the one place where BilledCost is used. What is missing (a bill, calls, or
    prices) stands beside the difference.

    For example:

      klartext costs reconcile

      klartext costs reconcile --as-of 2026-11-01 --json
    """
    from klartext.app.usecases import shared_cost  # noqa: PLC0415 - heavy

    session = open_session(context)
    found = shared_cost.reconciliation(session, as_of=as_of_option(as_of, session))
    if json:
        print_json(_reconciliation_document(found))
        return
    if not found.months:
        log("No AI calls and no bills of their providers yet.")
        return
    header = ["MONTH", "PROVIDER", "BILLED", "BY PRICE", "DIFFERENCE", "SHARE", "CALLS", "MISSING"]
    typer.echo(columns(header, [row for month in found.months for row in _rows(month)]))


def _rows(month: Month) -> list[list[str]]:
    share = "–" if month.share is None else f"{month.share:.1%}"
    calls = sum(one.calls for one in month.models)
    first = [
        month.month,
        month.provider or "(none)",
        money(month.billed),
        money(month.priced),
        money(month.difference),
        share,
        f"{calls:,}",
        ", ".join(month.missing) or "nothing",
    ]
    models = [
        [
            "",
            f"  {one.model}",
            "",
            money(one.priced),
            "",
            "",
            f"{one.calls:,}",
            _unpriced(one.unpriced),
        ]
        for one in month.models
    ]
    return [first, *models]


def _unpriced(calls: int) -> str:
    return f"{calls:,} unpriced" if calls else ""


def _stated(text: str) -> Stated:
    from klartext.app.usecases.shared_cost import Stated  # noqa: PLC0415 - heavy

    name, equals, weight = text.partition("=")
    experiment, _, variant = name.partition("/")
    return Stated(experiment, variant or None, _number(weight, "--to") if equals else None)


def _number(text: str, option: str) -> Decimal:
    """Return a quantity; a percentage is a fraction."""
    try:
        found = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no number", param_hint=option) from None
    if not found.is_finite() or found < 0:
        raise typer.BadParameter(f"{text!r} is no weight", param_hint=option)
    return found / 100 if text.endswith("%") else found


def _shares_document(found: SharedOut) -> dict[str, Any]:
    return {
        "schema": "klartext/costs-allocate/v1",
        "line": found.parent.number,
        "by": found.method,
        "amount": plain(found.parent.line.amount.amount),
        "currency": found.parent.line.amount.currency,
        "shares": [
            {
                "line": each.number,
                "experiment": each.line.experiment,
                "variant": each.line.variant,
                "amount": plain(each.line.amount.amount),
                "reporting": plain(each.line.reporting),
                "evidence": each.line.evidence,
            }
            for each in found.shares
        ],
        "unallocated": plain(found.unallocated),
    }


def _reconciliation_document(found: Reconciliation) -> dict[str, Any]:
    return {
        "schema": "klartext/costs-reconcile/v1",
        "as_of": found.as_of.isoformat(),
        "currency": found.currency,
        "months": [
            {
                "month": month.month,
                "provider": month.provider or None,
                "billed": plain(month.billed),
                "effective": plain(month.effective),
                "priced": plain(month.priced),
                "difference": plain(month.difference),
                "share": None if month.share is None else str(month.share),
                "lines": month.lines,
                "missing": list(month.missing),
                "models": [
                    {
                        "model": one.model,
                        "calls": one.calls,
                        "unpriced": one.unpriced,
                        "priced": plain(one.priced),
                    }
                    for one in month.models
                ],
            }
            for month in found.months
        ],
    }
