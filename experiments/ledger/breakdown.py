"""What AI calls cost, summed exactly by whatever one wants to know it by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import ibis.expr.types as ir

Dimension: TypeAlias = Literal[
    "category", "variant", "model", "prompt", "day", "provider", "source", "experiment", "price"
]
DIMENSIONS: tuple[Dimension, ...] = (
    "category",
    "variant",
    "model",
    "prompt",
    "day",
    "provider",
    "source",
    "experiment",
    "price",
)
"""``day`` is a calendar day of the workspace's time zone, ``price`` the proof of the price."""

_COLUMNS = {"price": "evidence"}
_QUARTER_HOUR = 900  # every UTC offset in use is a multiple of it
_PRECISION = 38


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Calls and what they cost. ``key`` is None for calls that do not say.

    ``amount`` is the exact sum over priced calls in the reporting currency, None when there is
    none; unpriced calls are counted beside it and never as 0.
    """

    key: str | None
    calls: int
    priced_calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    amount: Decimal | None

    @property
    def unpriced_calls(self) -> int:
        """Calls without a price."""
        return self.calls - self.priced_calls

    @property
    def mean(self) -> Decimal | None:
        """Mean cost of a priced call, rounded to 38 significant digits; None without any."""
        if self.amount is None:
            return None
        with localcontext(prec=_PRECISION):
            return self.amount / self.priced_calls


def total(usage: ir.Table, *, key: str | None = None) -> CallCosts:
    """Return the sum over all calls of ``usage``."""
    table = usage.aggregate(**_sums(usage)).to_pyarrow()
    return _costs(key, table.to_pylist()[0])


def breakdown(usage: ir.Table, by: Dimension, *, timezone: str) -> tuple[CallCosts, ...]:
    """Return the calls of ``usage`` by one dimension: days in order, else the dearest first.

    Parameters
    ----------
    usage
        Table ``usage_costs``, or part of it.
    by
        What to sum by.
    timezone
        IANA name of the workspace's time zone.

    Notes
    -----
    Amounts are added as ``DECIMAL(38,12)``: the sum is exact in any order of rows and on any
    number of threads, up to 10^26 in the reporting currency.
    """
    if by == "day":
        return _by_day(usage, ZoneInfo(timezone))
    column = _COLUMNS.get(by, by)
    table = usage.group_by(column).aggregate(**_sums(usage)).to_pyarrow()
    found = [_costs(row[column], row) for row in table.to_pylist()]
    return tuple(sorted(found, key=_dearest_first))


def unpriced(usage: ir.Table) -> dict[str, int]:
    """Return how many calls have no price, by the reason that their evidence gives."""
    without = usage.filter(usage.amount.isnull())
    table = without.group_by("evidence").aggregate(calls=without.count()).to_pyarrow()
    found = {row["evidence"]: row["calls"] for row in table.to_pylist()}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def categories(usage: ir.Table) -> dict[str, tuple[str, ...]]:
    """Return the cost categories that each experiment's calls are booked under."""
    found: dict[str, tuple[str, ...]] = {}
    known = usage.filter(usage.experiment.notnull())
    for row in known.select("experiment", "category").distinct().to_pyarrow().to_pylist():
        found[row["experiment"]] = (*found.get(row["experiment"], ()), row["category"])
    return found


def _by_day(usage: ir.Table, zone: ZoneInfo) -> tuple[CallCosts, ...]:
    quarter = (usage.occurred_at.epoch_seconds() // _QUARTER_HOUR).name("quarter")
    table = usage.group_by(quarter).aggregate(**_sums(usage)).to_pyarrow()
    days: dict[str, CallCosts] = {}
    for row in table.to_pylist():
        at = datetime.fromtimestamp(int(row["quarter"]) * _QUARTER_HOUR, UTC)
        day = at.astimezone(zone).date().isoformat()
        part = _costs(day, row)
        days[day] = _added(days[day], part) if day in days else part
    return tuple(days[day] for day in sorted(days))


def _sums(usage: ir.Table) -> dict[str, Any]:
    return {
        "calls": usage.count(),
        "priced_calls": usage.amount.notnull().sum(),
        "input_tokens": usage.input_tokens.sum(),
        "output_tokens": usage.output_tokens.sum(),
        "cached_tokens": usage.cached_tokens.sum(),
        "amount": usage.amount.sum(),
    }


def _costs(key: str | None, row: dict[str, Any]) -> CallCosts:
    amount = row["amount"]
    return CallCosts(
        key,
        row["calls"],
        int(row["priced_calls"] or 0),
        int(row["input_tokens"] or 0),
        int(row["output_tokens"] or 0),
        int(row["cached_tokens"] or 0),
        None if amount is None else Decimal(amount),
    )


def _added(first: CallCosts, second: CallCosts) -> CallCosts:
    amounts = [part.amount for part in (first, second) if part.amount is not None]
    with localcontext(prec=_PRECISION):
        amount = sum(amounts, Decimal(0)) if amounts else None
    return CallCosts(
        first.key,
        first.calls + second.calls,
        first.priced_calls + second.priced_calls,
        first.input_tokens + second.input_tokens,
        first.output_tokens + second.output_tokens,
        first.cached_tokens + second.cached_tokens,
        amount,
    )


def _dearest_first(costs: CallCosts) -> tuple[Decimal, int, str]:
    return -(costs.amount or Decimal(0)), -costs.calls, costs.key or ""
