"""Planning one comparison: units, detectable effect and power, for every metric and mode.

Whatever the mode, power is the probability that ``Z`` leaves upwards at one of the looks:
``Z_k`` has mean ``d sqrt(t_k)``, with t the share of the planned units and the drift

    ``d = advantage / se``,  ``se^2 = f (vT / nT + vC / nC)``  at the planned end,

where f is the share of variance that covariates leave (CUPED) and the advantage is the effect
in the direction of the goal, plus the margin when non-inferiority is asked. A fixed test has
one look at ``z``, a group sequential one the bounds of its design, an anytime one the bounds of
the confidence sequence over the look calendar. Only a crossing on the side of the goal counts.

Normal theory: Student's t instead of z asks for about ``z^2 / 4`` more units a variant (one),
and no number here knows the skewness gate of the burn-in, only its count of outcomes.

References
----------
Jennison, Turnbull (2000), "Group Sequential Methods with Applications to Clinical Trials",
chapters 3 (sample size), 19 (crossing probabilities). Deng, Xu, Kohavi, Walker (2013), "Improving
the sensitivity of online controlled experiments by utilizing pre-experiment data", WSDM, section 3
(f is one minus the squared correlation).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from scipy import optimize

from klartext.analysis.comparison import Comparison, bounds_at, openings
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.sequential import crossing

_FARTHEST = 60.0
"""Drift at which every look of every mode is crossed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A comparison with so many units.

    Parameters
    ----------
    total_units
        Mature units of the whole experiment, all variants.
    treatment_units, control_units
        Of the two compared.
    effect
        Treatment minus control that is assumed, in the metric's unit.
    relative_effect
        The same over the control's mean (0.03 is 3 %).
    power
        Probability to show it, by the planned end.
    false_alarm
        Probability to show it when there is nothing: the effect is zero, or with a margin just
        as bad as the margin. At most alpha a side.
    expected_units, expected_units_if_nothing
        Units of the whole experiment when it stops at the first crossing of either side, with
        the effect and with nothing.
    looks
        Looks that are read, after the burn-in.
    alpha
        Of this comparison.
    """

    total_units: int
    treatment_units: int
    control_units: int
    effect: float
    relative_effect: float | NotEstimable
    power: float
    false_alarm: float
    expected_units: float
    expected_units_if_nothing: float
    looks: int
    alpha: float


def evaluate(comparison: Comparison, *, effect: float, total_units: int) -> Plan | NotEstimable:
    """Power of a comparison with ``total_units``, when the true difference is ``effect``.

    Parameters
    ----------
    comparison
        What is asked, of whom, and how.
    effect
        Treatment minus control, in the metric's unit; negative for a fall.
    total_units
        Mature units of all variants at the planned end.

    Returns
    -------
    Plan or NotEstimable
        ``no-advantage`` (the effect does not favour the goal, or exceeds the margin),
        ``impossible-rate``, ``no-variance``, ``burn-in`` (no look has enough outcomes).
    """
    unit = _unit_error(comparison, effect)
    if isinstance(unit, NotEstimable):
        return unit
    bounds = bounds_at(comparison, total_units)
    if bounds is None:
        return NotEstimable("burn-in", "too few outcomes are expected at every look")
    fractions, lower, upper = bounds
    drift = _advantage(comparison, effect) * math.sqrt(total_units) / unit
    found = crossing.probabilities(fractions, lower, upper, drift=drift)
    none = crossing.probabilities(fractions, lower, upper)
    mean = comparison.outcome.mean
    return Plan(
        total_units=total_units,
        treatment_units=math.ceil(total_units * comparison.shares[0] - 1e-9),
        control_units=math.ceil(total_units * comparison.shares[1] - 1e-9),
        effect=effect,
        relative_effect=effect / mean
        if mean > 0
        else NotEstimable("non-positive-mean", "a relative change needs a mean above zero"),
        power=found.upward,
        false_alarm=none.upward,
        expected_units=total_units * found.expected(fractions),
        expected_units_if_nothing=total_units * none.expected(fractions),
        looks=len(fractions),
        alpha=comparison.rule_alpha,
    )


def units_needed(comparison: Comparison, *, effect: float, power: float) -> Plan | NotEstimable:
    """Fewest units with which ``effect`` is shown with probability ``power``.

    Parameters
    ----------
    comparison, effect
        As for `evaluate`.
    power
        Above one side's alpha, below 1.

    Returns
    -------
    Plan or NotEstimable
        As `evaluate` refuses. The smallest whole number of units, looks that open only after a
        burn-in included.

    Raises
    ------
    ValueError
        ``power`` is out of its range.

    Notes
    -----
    ``N = (d s / advantage)^2``, ``s^2 = f (vT / shareT + vC / shareC)``, d the drift whose
    crossing probability is ``power``; for a fixed test ``d = z_alpha + z_power``.
    """
    unit = _unit_error(comparison, effect)
    if isinstance(unit, NotEstimable):
        return unit
    _check_power(comparison, power)
    # Between two openings the looks that are read are the same and power grows with the units,
    # so the fewest units lie in the first such stretch whose end has enough power.
    opened = openings(comparison)
    for start, end in pairwise(opened):
        last = evaluate(comparison, effect=effect, total_units=end - 1)
        if isinstance(last, Plan) and last.power >= power:
            start_units = start
            break
    else:
        start_units = opened[-1]
    drift = required_drift(comparison, power=power, total_units=start_units)
    enough = math.ceil((drift * unit / _advantage(comparison, effect)) ** 2 * (1 - 1e-12))
    return evaluate(comparison, effect=effect, total_units=max(start_units, enough))


def detectable(comparison: Comparison, *, total_units: int, power: float) -> Plan | NotEstimable:
    """Smallest effect shown with probability ``power`` by ``total_units`` (the MDE).

    Parameters
    ----------
    comparison
        As for `evaluate`.
    total_units
        Mature units of all variants at the planned end.
    power
        Above one side's alpha, below 1.

    Returns
    -------
    Plan or NotEstimable
        Its ``effect`` has the sign of the goal; with a margin it may lie on the other side.
        ``out-of-reach`` when not even a rate of 0 or 1 would be detected; ``no-variance``;
        ``burn-in``.

    Raises
    ------
    ValueError
        ``power`` is out of its range.

    Notes
    -----
    Root in a of ``a = d se(a)``; one, because se is concave in the rate.
    """
    if bounds_at(comparison, total_units) is None:
        return NotEstimable("burn-in", "too few outcomes are expected at every look")
    drift = required_drift(comparison, power=power, total_units=total_units)

    def effect_of(advantage: float) -> float:
        return comparison.sign * (advantage - comparison.margin)

    def excess(advantage: float) -> float:
        return advantage - drift * _spread(comparison, effect_of(advantage)) / math.sqrt(
            total_units
        )

    if comparison.outcome.kind == "conversion":
        rate = comparison.outcome.mean
        room = 1 - rate if comparison.sign > 0 else rate
        highest = (room + comparison.margin) * (1 - 1e-12)
        if excess(highest) < 0:
            return NotEstimable("out-of-reach", "no rate is far enough away for so few units")
        lowest = max(0.0, comparison.margin - (1 - room) * (1 - 1e-12))
        if excess(lowest) >= 0:
            return NotEstimable("out-of-reach", "every rate is inside so wide a margin")
        advantage = float(optimize.brentq(excess, lowest, highest, xtol=1e-15, rtol=1e-13))
    else:
        advantage = -excess(0.0)
    if not advantage > 0:
        return NotEstimable("no-variance", "every unit has the same value")
    return evaluate(comparison, effect=effect_of(advantage), total_units=total_units)


def required_drift(
    comparison: Comparison, *, power: float, total_units: int | None = None
) -> float:
    """Find the expected Z at the planned end that crosses the upper bounds with ``power``.

    With ``total_units`` only the looks after the burn-in count; without, all of them.

    Raises
    ------
    ValueError
        ``power`` is not between one side's alpha and 1.
    """
    _check_power(comparison, power)
    bounds = bounds_at(comparison, total_units)
    if bounds is None:
        raise ValueError(f"no look is open with {total_units} units")
    fractions, lower, upper = bounds

    def excess(drift: float) -> float:
        return crossing.probabilities(fractions, lower, upper, drift=drift).upward - power

    return float(optimize.brentq(excess, 0.0, _FARTHEST, xtol=1e-12, rtol=1e-13))


@dataclass(frozen=True, slots=True)
class Duration:
    """How long a plan takes at even traffic.

    Parameters
    ----------
    enrolment_days
        Until all units are exposed, rounded up to whole weeks: weekdays differ.
    readout_days
        Until the last of them is mature as well.
    expected_days
        On average until the first crossing under the plan's effect, maturity included, not
        rounded to weeks.
    """

    enrolment_days: int
    readout_days: int
    expected_days: float


def duration(plan: Plan, *, units_per_day: float, maturity_days: float) -> Duration:
    """Days that a plan takes.

    Parameters
    ----------
    plan
        Units.
    units_per_day
        First exposures of all variants.
    maturity_days
        From exposure to maturity: the longest window plus lateness.

    Raises
    ------
    ValueError
        ``units_per_day`` is not positive or ``maturity_days`` negative.
    """
    if not (0 < units_per_day < math.inf and 0 <= maturity_days < math.inf):
        raise ValueError(f"{units_per_day} units a day, mature after {maturity_days} days")
    weeks = math.ceil(plan.total_units / units_per_day / 7 - 1e-9)
    return Duration(
        enrolment_days=7 * weeks,
        readout_days=math.ceil(7 * weeks + maturity_days),
        expected_days=plan.expected_units / units_per_day + maturity_days,
    )


def _check_power(comparison: Comparison, power: float) -> None:
    alpha = comparison.rule_alpha / comparison.sides
    if not alpha < power < 1:
        raise ValueError(f"power is {power}: it must lie between {alpha} and 1")


def _advantage(comparison: Comparison, effect: float) -> float:
    return comparison.sign * effect + comparison.margin


def _spread(comparison: Comparison, effect: float) -> float:
    """Return the standard error times the square root of all units."""
    treatment, control = comparison.shares
    outcome = comparison.outcome
    return math.sqrt(
        comparison.variance_factor
        * (outcome.variance_under(effect) / treatment + outcome.variance / control)
    )


def _unit_error(comparison: Comparison, effect: float) -> float | NotEstimable:
    outcome = comparison.outcome
    if not math.isfinite(effect) or not math.isfinite(outcome.variance):
        return NotEstimable("not-finite", "an effect or variance is not a finite number")
    if outcome.kind == "conversion" and not 0 <= outcome.mean + effect <= 1:
        detail = f"the treatment would convert {outcome.mean + effect:.1%} of its units"
        return NotEstimable("impossible-rate", detail)
    if not _advantage(comparison, effect) > 0:
        return NotEstimable("no-advantage", "the effect is not better than what is to be excluded")
    spread = _spread(comparison, effect)
    return spread if spread > 0 else NotEstimable("no-variance", "every unit has the same value")
