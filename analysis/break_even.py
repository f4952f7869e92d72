"""What a test has to earn and what it costs: break-even lift and cost of the test."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from klartext.analysis.estimate import NotEstimable


@dataclass(frozen=True, slots=True)
class BreakEven:
    """The gain at which the roll-out earns exactly its cost.

    Parameters
    ----------
    margin_per_unit
        Rise of the mean margin per treated unit during the test, in money.
    relative_lift
        The same over the control's mean margin (0.03 is 3 %).
    cost
        What has to be earned, variable and fixed, in money.
    """

    margin_per_unit: float
    relative_lift: float | NotEstimable
    cost: float


def break_even(  # noqa: PLR0913 - the assumptions of one calculation, all named
    *,
    baseline_margin: float,
    cost_per_unit: float,
    fixed_cost: float,
    treated_units: float,
    persistence: float = 1.0,
    cost_persistence: float = 1.0,
) -> BreakEven | NotEstimable:
    """Rise of the margin that pays the AI cost, with all assumptions taken as they are.

    Parameters
    ----------
    baseline_margin
        Mean margin per unit of the control, before AI cost, in money.
    cost_per_unit
        Variable AI cost per treated unit beyond the control's, in money; may be negative.
    fixed_cost
        Fixed, amortised and review cost of the period that counts, in money; negative when
        what is saved in it is more.
    treated_units
        Units treated in that period.
    persistence
        Share of the measured rise that stays after the roll-out.
    cost_persistence
        Factor of the variable cost after the roll-out.

    Returns
    -------
    BreakEven or NotEstimable
        ``no-persistence`` when nothing of a rise stays: then no lift pays. The relative lift is
        `NotEstimable` (``non-positive-mean``) when the control earns nothing.

    Raises
    ------
    ValueError
        Units are not positive, or a number is not finite or, where it cannot be, negative.

    Notes
    -----
    Zero of ``N (p dm - k dc) - F`` in dm: ``dm = (k dc + F / N) / p``.

    Examples
    --------
    >>> found = break_even(
    ...     baseline_margin=2.0, cost_per_unit=0.03, fixed_cost=1000.0, treated_units=50_000
    ... )
    >>> round(found.margin_per_unit, 4), round(found.relative_lift, 4), found.cost
    (0.05, 0.025, 2500.0)
    """
    numbers = (baseline_margin, cost_per_unit, fixed_cost, treated_units, persistence)
    if not all(map(math.isfinite, (*numbers, cost_persistence))):
        raise ValueError("every number must be finite")
    if not (treated_units > 0 and persistence >= 0 and cost_persistence >= 0):
        raise ValueError("units must be positive, persistence not negative")
    if persistence == 0:
        return NotEstimable("no-persistence", "nothing of the rise is assumed to stay")
    cost = cost_persistence * cost_per_unit * treated_units + fixed_cost
    rise = cost / treated_units / persistence
    if baseline_margin > 0:
        return BreakEven(rise, rise / baseline_margin, cost)
    nothing = NotEstimable("non-positive-mean", "the control earns no margin to be lifted")
    return BreakEven(rise, nothing, cost)


@dataclass(frozen=True, slots=True)
class TestCost:
    """What a test costs, in money.

    Parameters
    ----------
    ai_cost
        Paid for treated units during the test.
    running_cost
        Paid because the test runs at all.
    forgone
        Expected loss against giving everybody the better variant at once.
    total
        ``running_cost + forgone``. The AI cost is inside ``forgone``, whose effect is net of it.
    """

    __test__ = False  # not a test class, whatever pytest reads in the name

    ai_cost: float
    running_cost: float
    forgone: float
    total: float


def cost_of_test(  # noqa: PLR0913 - the assumptions of one calculation, all named
    *,
    total_units: float,
    treatment_share: float,
    cost_per_unit: float,
    running_cost: float,
    effect_mean: float,
    effect_sd: float,
) -> TestCost:
    """Cost of measuring instead of deciding now, averaged over what the effect may be.

    Parameters
    ----------
    total_units
        Units of the test, all variants.
    treatment_share
        Share of them that is treated.
    cost_per_unit
        Variable AI cost per treated unit, in money.
    running_cost
        Of the whole test, in money.
    effect_mean, effect_sd
        Normal prior of the net effect per treated unit (margin minus AI cost), in money; an sd
        of 0 says that the effect is known.

    Raises
    ------
    ValueError
        A share outside [0, 1], or a negative or infinite number where none can be.

    Notes
    -----
    With the effect m, units lose ``max(0, m) - share m`` each: the untreated miss a gain, the
    treated bear a loss. On average ``E max(0, m) = mean Phi(mean/sd) + sd phi(mean/sd)``.
    """
    numbers = (total_units, treatment_share, cost_per_unit, running_cost, effect_sd)
    if not all(map(math.isfinite, (*numbers, effect_mean))):
        raise ValueError("every number must be finite")
    if not (total_units >= 0 and 0 <= treatment_share <= 1 and effect_sd >= 0):
        raise ValueError("units and sd must not be negative, the share within 0 and 1")
    best = max(0.0, effect_mean)
    if effect_sd > 0:
        z = effect_mean / effect_sd
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        best = effect_mean * float(special.ndtr(z)) + effect_sd * density
    forgone = total_units * (best - treatment_share * effect_mean)
    return TestCost(
        ai_cost=total_units * treatment_share * cost_per_unit,
        running_cost=running_cost,
        forgone=forgone,
        total=running_cost + forgone,
    )
