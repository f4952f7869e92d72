"""What a plan is asked, and its answers: one per question, with what it needs and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from klartext.analysis import planning
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.planning import Duration, Plan
from klartext.analysis.question import Question, Reading
from klartext.analysis.result import Number


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan is asked for beside the experiment.

    Parameters
    ----------
    reading
        Treatment, mode and alpha.
    power
        Probability to show what is expected.
    lifts
        Expected relative lift per metric; ``margin`` for that of the margin.
    total_units
        Size to judge, all variants; None: ``weeks``, else the spec's, else what is needed.
    weeks
        Weeks of enrolment, as a size.
    population
        Of Test & Roll; None: the units of the roll-out.
    """

    reading: Reading
    power: float
    lifts: Mapping[str, float]
    total_units: int | None = None
    weeks: int | None = None
    population: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One question answered.

    Parameters
    ----------
    question
        What is to be shown.
    needed
        The fewest units that show what is expected.
    duration
        Of those.
    at_size
        What is expected, shown by a test of the size in question.
    detectable
        The smallest effect that such a test shows; its lift is ``detectable_lift``.
    """

    question: Question
    needed: Plan | NotEstimable
    duration: Duration | NotEstimable
    at_size: Plan | NotEstimable
    detectable: Plan | NotEstimable
    detectable_lift: Number


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast units come and mature.

    Parameters
    ----------
    units_per_day
        First exposures, all variants.
    maturity_days
        From an exposure to its maturity.
    """

    units_per_day: Number
    maturity_days: float

    def of(self, plan: Plan | NotEstimable) -> Duration | NotEstimable:
        """Return how long a plan takes."""
        if isinstance(plan, NotEstimable):
            return plan
        if isinstance(self.units_per_day, NotEstimable):
            return self.units_per_day
        return planning.duration(
            plan, units_per_day=self.units_per_day, maturity_days=self.maturity_days
        )

    def of_units(self, total_units: Number) -> Duration | NotEstimable:
        """Return how long so many units take."""
        if isinstance(total_units, NotEstimable):
            return total_units
        size = round(total_units)
        nothing = Plan(size, 0, 0, 0.0, 0.0, 0.0, 0.0, total_units, total_units, 1, 0.0)
        return self.of(nothing)

    def weeks(self, total_units: int) -> Number:
        """Return the weeks of enrolment of so many units."""
        found = self.of_units(total_units)
        return found if isinstance(found, NotEstimable) else found.enrolment_days / 7


def fewest(asked: Question, power: float) -> Plan | NotEstimable:
    """Return the fewest units that show what is expected with ``power``."""
    if isinstance(asked.comparison, NotEstimable):
        return asked.comparison
    if isinstance(asked.effect, NotEstimable):
        return asked.effect
    return planning.units_needed(asked.comparison, effect=asked.effect, power=power)


def answered(
    asked: Question, needed: Plan | NotEstimable, size: Number, power: float, pace: Pace
) -> Answer:
    """Return a question answered: by ``needed`` units, and by a test of ``size`` units."""
    at_size: Plan | NotEstimable
    detectable: Plan | NotEstimable
    if isinstance(asked.comparison, NotEstimable):
        at_size = detectable = asked.comparison
    elif isinstance(size, NotEstimable):
        at_size = detectable = size
    else:
        total = round(size)
        detectable = planning.detectable(asked.comparison, total_units=total, power=power)
        at_size = (
            asked.effect
            if isinstance(asked.effect, NotEstimable)
            else planning.evaluate(asked.comparison, effect=asked.effect, total_units=total)
        )
    return Answer(
        question=asked,
        needed=needed,
        duration=pace.of(needed),
        at_size=at_size,
        detectable=detectable,
        detectable_lift=detectable
        if isinstance(detectable, NotEstimable)
        else asked.lift_of(detectable.effect),
    )
