"""What the ledger adds up to, in the currency of the workspace and in those of the bills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, localcontext
from zoneinfo import ZoneInfo

from klartext.experiments.ledger.book import Recorded

_PRECISION = 60
_OPEN = frozenset({"estimated", "accrued"})


@dataclass(frozen=True, slots=True)
class Cost:
    """The lines of one category: their net cost, the part of it that no bill covers yet, and tax.

    All amounts are exact and in the currency of the workspace. A category whose credits exceed its
    charges has a negative cost; nothing may be divided by it.
    """

    category: str
    lines: int = 0
    amount: Decimal = Decimal(0)
    not_invoiced: Decimal = Decimal(0)
    tax: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Lines of one source that have a bill, in the bill's currency: what it says, what it costs."""

    source: str
    currency: str
    lines: int = 0
    billed: Decimal = Decimal(0)
    effective: Decimal = Decimal(0)


def by_category(
    lines: Iterable[Recorded], *, start: datetime | None = None, end: datetime | None = None
) -> tuple[Cost, ...]:
    """Return the cost of each category, in order of their names.

    Parameters
    ----------
    lines
        Lines in force.
    start, end
        Period of service to which the cost is cut, end exclusive; None is open.
    """
    found: dict[str, Cost] = {}
    with localcontext(prec=_PRECISION):
        for each in lines:
            line = each.line
            if (start is not None and line.end <= start) or (end is not None and line.start >= end):
                continue
            amount = line.within(start or line.start, end or line.end)
            cost = found.get(line.category, Cost(line.category))
            if line.kind == "tax":
                cost = replace(cost, lines=cost.lines + 1, tax=cost.tax + amount)
            else:
                cost = replace(
                    cost,
                    lines=cost.lines + 1,
                    amount=cost.amount + amount,
                    not_invoiced=cost.not_invoiced + (amount if line.status in _OPEN else 0),
                )
            found[line.category] = cost
    return tuple(found[category] for category in sorted(found))


def by_dimension(
    lines: Iterable[Recorded], by: str, *, timezone: str
) -> tuple[tuple[str | None, Decimal], ...]:
    """Return the net cost of lines by what they say of themselves, or by day of service.

    Parameters
    ----------
    lines
        Lines in force; tax is left out.
    by
        ``day`` in the calendar of ``timezone``, else the name of a property of lines; they say
        nothing of models, prompts or prices of calls.
    timezone
        IANA name of the workspace's time zone.

    Returns
    -------
    tuple
        Exact sums: days in order, else the dearest first. None is the key of what does not say.
    """
    found: dict[str | None, Decimal] = {}
    zone = ZoneInfo(timezone)
    with localcontext(prec=_PRECISION):
        for each in lines:
            if each.line.kind == "tax":
                continue
            parts = (
                _days(each, zone)
                if by == "day"
                else ((getattr(each.line, by, None), each.line.reporting),)
            )
            for key, amount in parts:
                found[key] = found.get(key, Decimal(0)) + amount
    if by == "day":
        return tuple(sorted(found.items(), key=lambda item: item[0] or ""))
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0] or "")))


def _days(each: Recorded, zone: ZoneInfo) -> Iterator[tuple[str, Decimal]]:
    """Yield the days of service and what falls on each; their sum is the line."""
    day = each.line.start.astimezone(zone).date()
    while (opens := datetime.combine(day, time(), zone)) < each.line.end:
        after = datetime.combine(day + timedelta(days=1), time(), zone)
        amount = each.line.within(opens.astimezone(UTC), after.astimezone(UTC))
        if amount:
            yield day.isoformat(), amount
        day += timedelta(days=1)


def reconciled(lines: Iterable[Recorded]) -> tuple[Reconciled, ...]:
    """Return billed beside effective amounts by source and currency; never their sum."""
    found: dict[tuple[str, str], Reconciled] = {}
    with localcontext(prec=_PRECISION):
        for each in lines:
            line = each.line
            if line.billed is None:
                continue
            key = (line.source, line.amount.currency)
            seen = found.get(key, Reconciled(*key))
            found[key] = replace(
                seen,
                lines=seen.lines + 1,
                billed=seen.billed + line.billed,
                effective=seen.effective + line.amount.amount,
            )
    return tuple(found[key] for key in sorted(found))
