"""Running interval and running p: one difference of means replayed over the look calendar.

A confidence sequence covers the true difference at all looks at once, with probability
``1 - alpha``; then so does the intersection of its intervals so far, and the smallest anytime
p-value so far is one too. Both are replayed on today's facts, so a late event moves the past.
They are shown beside the current interval; decisions read the current one only.

This holds for a difference of means that stays the same over the look calendar, under one
specification. An empty intersection says that it did not stay the same. Totals (which grow with
the units) and ratios with moving parts have no single true value, so this module takes nothing
but a column of unit rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TypeAlias

from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.sequential import mixture


@dataclass(frozen=True, slots=True)
class DayLook:
    """Everything mature up to the end of ``day``, cumulative, for two variants."""

    day: date
    treatment: Moments
    control: Moments


@dataclass(frozen=True, slots=True)
class Drift:
    """No value was inside all intervals so far: the difference did not stay the same.

    Parameters
    ----------
    since
        Day at which the intersection became empty; it blocks GO from then on.
    highest_lower, lowest_upper
        The two bounds that exclude each other, ``highest_lower > lowest_upper``.
    level
        With a constant difference this happens with probability ``1 - level`` at most.
    """

    since: date
    highest_lower: float
    lowest_upper: float
    level: float


RunningInterval: TypeAlias = Interval | Drift | NotEstimable


@dataclass(frozen=True, slots=True)
class Running:
    """State after one day.

    Parameters
    ----------
    day
        Day of the look.
    current
        Estimate of this look alone.
    interval
        Intersection of all intervals so far, `Drift` once it is empty, `NotEstimable` before
        the first one.
    p_value
        Smallest anytime p-value so far; it never rises.
    """

    day: date
    current: Estimate | NotEstimable
    interval: RunningInterval
    p_value: float | NotEstimable


def replay(
    looks: Sequence[DayLook], *, column: str, outcome: str, alpha: float, planned_n: int
) -> tuple[Running, ...]:
    """Replay the anytime difference of ``column`` over the look calendar.

    Parameters
    ----------
    looks
        One per look day, in order, each holding all units mature by then.
    column
        Column whose difference of means is estimated, such as ``net``.
    outcome
        Column whose non-zero units open the burn-in: the rare outcome behind ``column``
        (``margin`` for ``net``), or ``column`` itself.
    alpha, planned_n
        As for `mixture.anytime`; the same at every look.

    Returns
    -------
    tuple of Running
        One per look. A look refused for burn-in changes neither interval nor p.

    Raises
    ------
    ValueError
        Days do not increase, units become fewer, or a column is missing.

    Notes
    -----
    ``interval_t = intersection of CS_s over s <= t``, ``p_t = min of p_s over s <= t``. By the
    union over time in ``P(theta in CS_s for all s) >= 1 - alpha`` both are valid at every t and
    at any stopping time. The shares of the variants must be constant, as for
    `mixture.anytime`.
    """
    for before, after in pairwise(looks):
        if after.day <= before.day:
            raise ValueError(f"look days {before.day} and {after.day} do not increase")
        fewer = after.treatment.n < before.treatment.n or after.control.n < before.control.n
        if fewer:
            raise ValueError(f"fewer units on {after.day} than on {before.day}: not cumulative")
    current = [
        mixture.anytime(
            look.treatment.sample(column),
            look.control.sample(column),
            alpha=alpha,
            planned_n=planned_n,
            nonzero=(_nonzero(look.treatment, outcome), _nonzero(look.control, outcome)),
        )
        for look in looks
    ]
    intervals, p_values = _intersections(looks, current), _minima(current)
    return tuple(
        Running(look.day, estimate, interval, p)
        for look, estimate, interval, p in zip(looks, current, intervals, p_values, strict=True)
    )


def _nonzero(moments: Moments, outcome: str) -> int:
    return int(moments.nonzero[moments.columns.index(outcome)])


def _intersections(
    looks: Sequence[DayLook], estimates: Sequence[Estimate | NotEstimable]
) -> Iterator[RunningInterval]:
    running: RunningInterval | None = None
    for look, estimate in zip(looks, estimates, strict=True):
        if isinstance(running, Drift):
            pass  # once excluded, no value comes back
        elif isinstance(estimate, Estimate) and isinstance(estimate.interval, Interval):
            now = estimate.interval
            lower, upper = now.lower, now.upper
            if isinstance(running, Interval):
                lower, upper = max(lower, running.lower), min(upper, running.upper)
            empty = lower > upper
            running = (
                Drift(look.day, lower, upper, now.level)
                if empty
                else Interval(lower, upper, now.level)
            )
        elif running is None or isinstance(running, NotEstimable):
            running = _reason(estimate)
        yield running


def _minima(estimates: Sequence[Estimate | NotEstimable]) -> Iterator[float | NotEstimable]:
    smallest: float | NotEstimable | None = None
    for estimate in estimates:
        found = estimate.p_value if isinstance(estimate, Estimate) else estimate
        if isinstance(found, float):
            smallest = min(smallest, found) if isinstance(smallest, float) else found
        elif not isinstance(smallest, float):
            smallest = found
        yield smallest


def _reason(estimate: Estimate | NotEstimable) -> NotEstimable:
    """Return why there is no interval yet."""
    if isinstance(estimate, NotEstimable):
        return estimate
    return NotEstimable("unbounded", "the interval of this look is not bounded")
