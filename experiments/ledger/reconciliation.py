"""Bills against calls: what a provider billed for a month, and what its calls cost by price."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Literal, TypeAlias
from zoneinfo import ZoneInfo

from klartext.experiments.ledger.bills import BILLED
from klartext.experiments.ledger.book import Recorded
from klartext.experiments.ledger.lines import Line
from klartext.experiments.money import stored

if TYPE_CHECKING:
    import ibis.expr.types as ir

Missing: TypeAlias = Literal["bill", "calls", "prices"]
_QUARTER_HOUR = 900  # every UTC offset in use is a multiple of it
_PRECISION = 60


@dataclass(frozen=True, slots=True)
class ModelCalls:
    """The calls of one model in a month: how many, how many unpriced, what the priced ones cost."""

    model: str
    calls: int
    unpriced: int
    priced: Decimal


@dataclass(frozen=True, slots=True)
class Month:
    """One provider in one calendar month of the workspace.

    Parameters
    ----------
    month
        Such as ``2026-10``.
    provider
        In lower case; empty for calls that name none.
    billed
        What bills say (FOCUS: BilledCost), credits and corrections included.
    effective
        What the same service costs in the books (FOCUS: EffectiveCost).
    models
        Its calls by model, the dearest first.
    lines
        Lines of the ledger.
    """

    month: str
    provider: str
    billed: Decimal
    effective: Decimal
    models: tuple[ModelCalls, ...]
    lines: int

    @property
    def priced(self) -> Decimal:
        """What the calls cost by price."""
        return sum((one.priced for one in self.models), Decimal(0))

    @property
    def difference(self) -> Decimal:
        """Billed less priced."""
        return self.billed - self.priced

    @property
    def share(self) -> Decimal | None:
        """Difference over what was billed, to six places; None when nothing was."""
        if self.billed <= 0:
            return None
        with localcontext(prec=_PRECISION):
            return (self.difference / self.billed).quantize(Decimal("0.000001"))

    @property
    def missing(self) -> tuple[Missing, ...]:
        """What would have to come for the two to be alike."""
        found: list[Missing] = []
        if not self.lines:
            found.append("bill")
        if not self.models:
            found.append("calls")
        if any(one.unpriced for one in self.models):
            found.append("prices")
        return tuple(found)


def billed_lines(
    lines: Iterable[Recorded], in_reporting: Callable[[Line, Decimal], Decimal]
) -> tuple[tuple[Line, Line], ...]:
    """Return the lines that bill AI calls, each as billed and as it costs.

    Shares of a line are left out: the line has the bill. Tax is none of a provider's price.
    """
    found = []
    for each in lines:
        line = each.line
        if line.provider is None or line.status not in BILLED or line.kind == "tax":
            continue
        if line.allocates is not None:
            continue
        billed = line.reporting if line.billed is None else in_reporting(line, line.billed)
        found.append((replace(line, reporting=billed), line))
    return tuple(found)


def called(usage: ir.Table, timezone: str) -> dict[tuple[str, str], dict[str, ModelCalls]]:
    """Return the calls by month and provider, then by model."""
    zone = ZoneInfo(timezone)
    quarter = (usage.occurred_at.epoch_seconds() // _QUARTER_HOUR).name("quarter")
    table = usage.group_by([quarter, "provider", "model"]).aggregate(
        calls=usage.count(), unpriced=usage.amount.isnull().sum(), priced=usage.amount.sum()
    )
    found: dict[tuple[str, str], dict[str, ModelCalls]] = {}
    with localcontext(prec=_PRECISION):
        for row in table.to_pyarrow().to_pylist():
            at = datetime.fromtimestamp(int(row["quarter"]) * _QUARTER_HOUR, UTC).astimezone(zone)
            models = found.setdefault((f"{at:%Y-%m}", (row["provider"] or "").lower()), {})
            model = row["model"] or ""
            before = models.get(model, ModelCalls(model, 0, 0, Decimal(0)))
            models[model] = ModelCalls(
                model,
                before.calls + row["calls"],
                before.unpriced + int(row["unpriced"] or 0),
                before.priced + Decimal(row["priced"] or 0),
            )
    return found


def reconcile(
    bills: Iterable[tuple[Line, Line]],
    calls: dict[tuple[str, str], dict[str, ModelCalls]],
    timezone: str,
) -> tuple[Month, ...]:
    """Return bills and calls side by side, by month and provider.

    Parameters
    ----------
    bills
        From `billed_lines`. One over several months is spread over them by time.
    calls
        From `called`.
    timezone
        IANA name of the workspace's time zone: its months count.

    Notes
    -----
    A provider without any bill or any calls is a row too, and says which is missing. Providers that
    bill but never had a call are left out: they sell something else.
    """
    zone = ZoneInfo(timezone)
    sums: dict[tuple[str, str], list[tuple[Decimal, Decimal]]] = {}
    known = {provider for _, provider in calls}
    for billed, effective in bills:
        provider = (billed.provider or "").lower()
        if provider not in known:
            continue
        for month, start, end in _months(billed, zone):
            pair = (billed.within(start, end), effective.within(start, end))
            sums.setdefault((month, provider), []).append(pair)
    return tuple(
        Month(
            month,
            provider,
            stored(sum((billed for billed, _ in found), Decimal(0))),
            stored(sum((effective for _, effective in found), Decimal(0))),
            tuple(
                sorted(
                    calls.get((month, provider), {}).values(),
                    key=lambda one: (-one.priced, one.model),
                )
            ),
            len(found),
        )
        for month, provider in sorted({*sums, *calls})
        for found in (sums.get((month, provider), []),)
    )


def _months(line: Line, zone: ZoneInfo) -> Iterator[tuple[str, datetime, datetime]]:
    """Yield the calendar months in which the line serves, a one-off in its first."""
    at = line.start.astimezone(zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while at < line.end:
        after = at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1)
        yield f"{at:%Y-%m}", at, after
        if line.behaviour == "one_off":
            return
        at = after
