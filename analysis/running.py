"""Running intervals: a metric replayed over the days on which its units became mature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from operator import add

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.look import outcome_of
from klartext.analysis.moments import Moments
from klartext.analysis.readout import MaturityDay
from klartext.analysis.result import Check
from klartext.analysis.sequential.replay import DayLook, Drift, Running, replay


@dataclass(frozen=True, slots=True)
class Calendar:
    """The look calendar: everything mature by the end of each day, per variant, on today's facts.

    Parameters
    ----------
    days
        On which units became mature, increasing.
    mature
        Per variant, the moments at the end of each of them.
    moved
        Whether weights moved: moments of several splits do not add up over days.
    """

    days: tuple[date, ...]
    mature: Mapping[str, tuple[Moments, ...]]
    moved: bool = False


def calendar(daily: Sequence[MaturityDay], *, moved: bool = False) -> Calendar:
    """Return the look calendar of a readout: the days are added up, each exactly once."""
    variants = daily[0].moments if daily else {}
    return Calendar(
        days=tuple(one.day for one in daily),
        mature={
            key: tuple(accumulate((one.moments[key] for one in daily), add)) for key in variants
        },
        moved=moved,
    )


def running(
    found: Calendar,
    pair: tuple[str, str],
    column: str,
    *,
    alpha: float,
    planned_n: int | None,
) -> Running | NotEstimable:
    """Return the running interval and p of a difference of means at the last day.

    Parameters
    ----------
    found
        Look calendar.
    pair
        Keys of treatment and control.
    column
        Of the unit table: totals and ratios have no single true value to intersect for.
    alpha
        Two-sided error over all days together.
    planned_n
        Units planned for the two variants together.

    Returns
    -------
    Running or NotEstimable
        Refused: ``no-plan``, ``moved-weights``, and ``no-units`` before the first unit is mature.
        A `Running` may hold `Drift` or a reason of its own, such as ``burn-in``.
    """
    if planned_n is None:
        return NotEstimable("no-plan", "anytime intervals need plan.total_units")
    if found.moved:
        return NotEstimable("moved-weights", "days of several splits do not add up")
    if not found.days:
        return NotEstimable("no-units", "no unit is mature yet")
    looks = [
        DayLook(*day) for day in zip(found.days, *(found.mature[key] for key in pair), strict=True)
    ]
    replayed = replay(
        looks, column=column, outcome=outcome_of(column), alpha=alpha, planned_n=planned_n
    )
    return replayed[-1]


def drift_of(found: Running | NotEstimable) -> Drift | None:
    """Return the drift of a replayed difference, if it has one."""
    interval = found.interval if isinstance(found, Running) else None
    return interval if isinstance(interval, Drift) else None


def drift_check(values: Iterable[tuple[str, Running | NotEstimable]]) -> Check:
    """Return whether the value of each treatment stayed the same from day to day.

    Parameters
    ----------
    values
        Per treatment the replayed value of the decision.

    Notes
    -----
    A difference that stays the same is flagged with probability ``1 - level`` at most: all its
    confidence sets hold it at once, so they overlap.
    """
    drifts = [(key, drift_of(found)) for key, found in values]
    flagged = [(key, drift) for key, drift in drifts if drift is not None]
    if not flagged:
        return Check("drift", "ok", None, "the effect on the value agrees with that of every day")
    told = "; ".join(
        f"{key} since {drift.since}: an earlier interval began at {drift.highest_lower:.4g}, "
        f"another ends at {drift.lowest_upper:.4g} per unit"
        for key, drift in flagged
    )
    return Check("drift", "warning", None, f"the effect on the value did not stay the same: {told}")
