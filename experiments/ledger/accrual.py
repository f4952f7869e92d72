"""Cost lines of the spec as exact amounts for a period: what the test has cost so far."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

from klartext.experiments.experiment import COST_CATEGORIES, CostLine
from klartext.experiments.ledger.allocation import allocate
from klartext.experiments.money import stored

_PRECISION = 60  # enough for a numerator before it is rounded to twelve places
_DAY = timedelta(days=1)

FROM_SPEC = "cost line of the spec"
"""Evidence of what the registered spec states."""


@dataclass(frozen=True, slots=True)
class Accrual:
    """What one line costs one variant in the period.

    ``quantity`` counts occurrences: units, events, calendar months, 1 for a one-off, and for an
    amortised line the months of its life used up. Both numbers are rounded once, to the twelve
    decimal places of the facts. ``evidence`` says where the amount comes from.
    """

    line: CostLine
    variant: str
    quantity: Decimal
    amount: Decimal
    evidence: str = FROM_SPEC


def months_between(start: datetime, end: datetime, timezone: str) -> Fraction:
    """Return the calendar months from ``start`` to ``end``, exactly.

    Parameters
    ----------
    start, end
        Aware instants, end exclusive.
    timezone
        IANA name of the workspace's time zone; its calendar counts.

    Raises
    ------
    ValueError
        An instant without time zone, or ``end`` before ``start``.

    Notes
    -----
    A day counts 1 / (days of its month); a day that is only partly inside counts in proportion to
    its own length, which is 23 or 25 hours when the clocks change.

    Examples
    --------
    >>> from datetime import datetime
    >>> berlin = ZoneInfo("Europe/Berlin")
    >>> start = datetime(2024, 2, 1, tzinfo=berlin)
    >>> months_between(start, datetime(2024, 2, 16, tzinfo=berlin), "Europe/Berlin")
    Fraction(15, 29)
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError("a period is given by instants with a time zone")
    if end < start:
        raise ValueError(f"the period ends at {end} before it starts at {start}")
    # In UTC, where equal instants are one: a local time that the clocks repeat equals its repeat.
    return _months(start.astimezone(UTC), end.astimezone(UTC), timezone)


@lru_cache(maxsize=1024)  # an analysis with a tornado asks for the same year fifty times
def _months(start: datetime, end: datetime, timezone: str) -> Fraction:
    zone = ZoneInfo(timezone)
    total = Fraction(0)
    day = start.astimezone(zone).date()
    while (opens := _midnight(day, zone)) < end:
        closes = _midnight(day + _DAY, zone)
        inside = min(end, closes) - max(start, opens)
        total += Fraction(_microseconds(inside), _microseconds(closes - opens) * _month_days(day))
        day += _DAY
    return total


def accrue(  # noqa: PLR0913 - the period, and what happened in it, by name
    lines: tuple[CostLine, ...],
    *,
    start: datetime,
    end: datetime,
    timezone: str,
    units: Mapping[str, int],
    events: Mapping[tuple[str, str], int],
    treatments: tuple[str, ...],
) -> tuple[Accrual, ...]:
    """Return what each line costs each variant from ``start`` to ``end``, in the order of lines.

    Parameters
    ----------
    lines
        The cost lines of the experiment.
    start, end
        Aware instants of the period charged, end exclusive.
    timezone
        IANA name of the workspace's time zone, for calendar months.
    units
        Exposed units per variant.
    events
        Events of exposed units per ``(variant, event name)``.
    treatments
        The variants that share the cost of the test as a whole.

    Returns
    -------
    tuple of Accrual
        A line of one variant gives one accrual. A line of the test as a whole is shared evenly by
        the treatments, and the shares add up exactly; per unit or per event it is instead charged
        to every variant that has the units or events, the control included, because there the
        driver is known.

    Raises
    ------
    ValueError
        See `months_between`; or a shared line and no treatment.
    """
    months = months_between(start, end, timezone)
    accruals: list[Accrual] = []
    for line in lines:
        if line.behaviour in {"unit", "event"}:
            variants = tuple(units) if line.variant is None else (line.variant,)
            for variant in variants:
                count = (
                    units.get(variant, 0)
                    if line.event is None
                    else events.get((variant, line.event), 0)
                )
                accruals.append(_accrual(line, variant, Fraction(count), line.amount.base))
            continue
        if line.variant is not None:
            accruals.append(
                _accrual(line, line.variant, _occurrences(line, months), line.amount.base)
            )
            continue
        accruals.extend(_shared(line, _occurrences(line, months), treatments))
    return tuple(accruals)


def left_out(lines: tuple[CostLine, ...], used: Collection[str] = ()) -> tuple[str, ...]:
    """Return the cost categories for which nothing is stated, in the order of the list.

    A line of 0 is a statement ("this costs nothing") and covers its category; ``used`` holds the
    categories of imported usage.
    """
    stated = {line.category for line in lines} | set(used)
    return tuple(category for category in COST_CATEGORIES if category not in stated)


def _shared(line: CostLine, quantity: Fraction, treatments: tuple[str, ...]) -> tuple[Accrual, ...]:
    if not treatments:
        raise ValueError(f"no treatment to share the {line.category} line")
    whole = _accrual(line, treatments[0], quantity, line.amount.base)
    shares = allocate(whole.amount, (1,) * len(treatments))
    each = rounded(quantity / len(treatments))
    return tuple(
        Accrual(line, treatment, each, stored(share))
        for treatment, share in zip(treatments, shares, strict=True)
    )


def _accrual(line: CostLine, variant: str, quantity: Fraction, amount: Decimal) -> Accrual:
    # An amortised line is charged by the month of its life, any other by the occurrence.
    each = Fraction(amount) / _life(line) if line.behaviour == "amortised" else Fraction(amount)
    return Accrual(line, variant, rounded(quantity), rounded(quantity * each))


def _occurrences(line: CostLine, months: Fraction) -> Fraction:
    match line.behaviour:
        case "month":
            return months
        case "amortised":
            return min(months, Fraction(_life(line)))
        case _:
            return Fraction(1)


def _life(line: CostLine) -> int:
    if not line.life_months:
        raise ValueError(f"the amortised {line.category} line has no life")
    return line.life_months


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _month_days(day: date) -> int:
    first = day.replace(day=1)
    return ((first + timedelta(days=32)).replace(day=1) - first).days


def _microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def rounded(number: Fraction) -> Decimal:
    """Return an exact number with the twelve decimal places of the facts."""
    with localcontext(prec=_PRECISION):
        return stored(Decimal(number.numerator) / Decimal(number.denominator))
