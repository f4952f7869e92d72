"""The curves of a plan: what each size shows, what each lift needs, what each mode costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from klartext.analysis import planning
from klartext.analysis.comparison import Anytime, Fixed, GroupSequential, Mode, evenly
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.plan_answers import Answer, Asked, Pace, fewest
from klartext.analysis.planning import Plan
from klartext.analysis.question import Question
from klartext.analysis.result import Number

LIFTS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
"""Lifts whose price in units is always said, whatever is expected."""

MOST_WEEKS = 52
"""Weeks that the curve over time reaches at most."""

_POINTS = 12


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve: units, weeks of enrolment, lift, power."""

    total_units: int
    weeks: Number
    lift: Number
    power: float


def by_size(
    lead: Question, wanted: tuple[Number, Number], power: float, pace: Pace
) -> Iterator[Point]:
    """Yield what each size shows: whole weeks when the pace is known, else shares of the size.

    ``wanted`` are the size in question and what is needed; the larger one ends the curve, unless
    it is more than a year away.
    """
    if isinstance(lead.comparison, NotEstimable):
        return
    sizes = [one for one in wanted if not isinstance(one, NotEstimable)]
    for units, weeks in _sizes(max(sizes, default=wanted[0]), pace):
        found = planning.detectable(lead.comparison, total_units=units, power=power)
        lift = found if isinstance(found, NotEstimable) else lead.lift_of(found.effect)
        yield Point(units, weeks, lift, power)


def _sizes(size: Number, pace: Pace) -> list[tuple[int, Number]]:
    if isinstance(pace.units_per_day, NotEstimable):
        if isinstance(size, NotEstimable):
            return []
        every = max(1.0, size / (_POINTS // 2))
        return [(round(every * k), pace.units_per_day) for k in range(1, _POINTS + 1)]
    weekly = 7 * pace.units_per_day
    last = 8 if isinstance(size, NotEstimable) else math.ceil(1.2 * size / weekly)
    last = min(MOST_WEEKS, max(8, last))
    step = math.ceil(last / _POINTS)
    return [
        (max(2, math.floor(weekly * week)), float(week)) for week in range(step, last + 1, step)
    ]


def by_lift(lead: Question, answer: Answer, size: Number) -> Iterator[Point]:
    """Yield the power at lifts up to twice what is expected or detectable."""
    if isinstance(lead.comparison, NotEstimable) or isinstance(size, NotEstimable):
        return
    known = [
        abs(one)
        for one in (answer.detectable_lift, lead.lift)
        if not isinstance(one, NotEstimable) and one
    ]
    if not known:
        return
    sign = lead.comparison.sign if lead.kind == "metric" else 1
    for k in range(1, 2 * _POINTS + 1):
        lift = sign * max(known) * 1.6 * k / (2 * _POINTS)
        effect = lead.effect_of(lift)
        if isinstance(effect, NotEstimable):
            return
        found = planning.evaluate(lead.comparison, effect=effect, total_units=round(size))
        if isinstance(found, Plan):
            yield Point(found.total_units, NotEstimable("no-size", ""), lift, found.power)


def ladder(lead: Question, power: float, pace: Pace) -> Iterator[Point]:
    """Yield what each of `LIFTS` needs."""
    if isinstance(lead.comparison, NotEstimable):
        return
    sign = lead.comparison.sign if lead.kind == "metric" else 1
    for lift in LIFTS:
        effect = lead.effect_of(sign * lift)
        if isinstance(effect, NotEstimable):
            return
        found = planning.units_needed(lead.comparison, effect=effect, power=power)
        if isinstance(found, Plan):
            yield Point(found.total_units, pace.weeks(found.total_units), sign * lift, found.power)


def by_mode(lead: Question, asked: Asked) -> Iterator[tuple[Mode, Plan]]:
    """Yield what is needed when the data are read in each mode: the price of looking."""
    mine = asked.reading.mode
    others = (Fixed(), GroupSequential("obrien_fleming", evenly(4)), Anytime(evenly(28)))
    for other in others:
        mode = mine if type(mine) is type(other) else other
        if isinstance(lead.comparison, NotEstimable):
            return
        found = fewest(replace(lead, comparison=replace(lead.comparison, mode=mode)), asked.power)
        if isinstance(found, Plan):
            yield mode, found
