"""A comparison to be planned: what is to be shown, of whom, and at which looks it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from klartext.analysis import quantile_sequence
from klartext.analysis.means import multiplier_of
from klartext.analysis.outcome import Outcome
from klartext.analysis.quantiles import MINIMUM_TAIL
from klartext.analysis.sequential import group, mixture

_GRAIN = 10**9
"""Units that stand for the planned ones when only their share matters."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """One look at the planned end."""


@dataclass(frozen=True, slots=True)
class GroupSequential:
    """Planned looks that share alpha by a spending function; see `group.Design`."""

    spending: group.Spending
    fractions: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Anytime:
    """A confidence sequence read at ``fractions`` of the planned units, such as every day."""

    fractions: tuple[float, ...]


Mode: TypeAlias = Fixed | GroupSequential | Anytime


def evenly(looks: int) -> tuple[float, ...]:
    """Fractions of ``looks`` equal steps, the last one 1: a daily calendar at even traffic."""
    return tuple((k + 1) / looks for k in range(looks))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is to be shown about one treatment, and who gets it.

    Parameters
    ----------
    outcome
        Metric.
    shares
        Shares of all units that treatment and control get; together at most 1.
    mode
        How it is read.
    alpha
        Of the experiment; each of ``treatments`` gets its equal part.
    sides
        2: half of alpha on each side, as the registered rules use it.
    goal
        Direction that is better.
    margin
        Non-inferiority margin in the metric's unit; 0 asks for superiority.
    treatments
        Treatments compared with the control.
    variance_factor
        Share of variance left by covariates, ``1 - correlation^2``.

    Raises
    ------
    ValueError
        A number outside its range.
    """

    outcome: Outcome
    shares: tuple[float, float]
    mode: Mode
    alpha: float
    sides: Literal[1, 2] = 2
    goal: Literal["increase", "decrease"] = "increase"
    margin: float = 0.0
    treatments: int = 1
    variance_factor: float = 1.0

    def __post_init__(self) -> None:
        problems = {
            f"shares are {self.shares}: both must be positive and sum to at most 1": (
                min(self.shares) > 0 and math.fsum(self.shares) <= 1 + 1e-9
            ),
            f"alpha is {self.alpha}: it must lie between 0 and 0.5": 0 < self.alpha < 0.5,
            f"margin is {self.margin}: it must not be negative": 0 <= self.margin < math.inf,
            f"treatments are {self.treatments}: at least one": self.treatments >= 1,
            f"variance_factor is {self.variance_factor}: it must lie in (0, 1]": (
                0 < self.variance_factor <= 1
            ),
        }
        wrong = [text for text, holds in problems.items() if not holds]
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def rule_alpha(self) -> float:
        """Alpha of this one comparison."""
        return self.alpha / self.treatments

    @property
    def sign(self) -> int:
        """1 when more is better, else -1."""
        return 1 if self.goal == "increase" else -1


def openings(comparison: Comparison) -> tuple[int, ...]:
    """Units from which each look has enough outcomes, increasing: the last look opens first."""
    return tuple(sorted({_opening(comparison, t) for t in _fractions(comparison.mode)}))


def _fractions(mode: Mode) -> tuple[float, ...]:
    return (1.0,) if isinstance(mode, Fixed) else mode.fractions


def _opening(comparison: Comparison, fraction: float) -> int:
    """Return the units planned in all from which a look at ``fraction`` of them is read."""
    outcome, least = comparison.outcome, mixture.MINIMUM_NONZERO
    rate = outcome.nonzero_rate
    if outcome.quantile is not None:
        least = MINIMUM_TAIL
        rate = outcome.observed_rate * min(outcome.quantile, 1 - outcome.quantile)
    elif rate is None or isinstance(comparison.mode, Fixed):
        return 1
    per_unit = max(rate, 1 / _GRAIN) * min(comparison.shares)
    return math.ceil(least / (per_unit * fraction) - 1e-6)


def bounds_at(
    comparison: Comparison, total_units: int | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]] | None:
    """Fractions of the looks that are read, lower and upper bounds for Z; None when none is read.

    With ``total_units`` only looks with enough outcomes are read; without, all of them. A
    quantile is read by its confidence sequence at every look of both sequential modes.
    """
    alpha, sides = comparison.rule_alpha, comparison.sides
    looks = [
        group.Look(k + 1, t, t)
        for k, t in enumerate(_fractions(comparison.mode))
        if total_units is None or total_units >= _opening(comparison, t)
    ]
    if not looks:
        return None
    fractions = tuple(look.fraction for look in looks)
    upper: tuple[float, ...]
    match comparison.mode:
        case Fixed():
            upper = (multiplier_of(2 * alpha / sides),)
        case _ if comparison.outcome.quantile is not None:
            upper = tuple(_quantile_bound(comparison, t) for t in fractions)
        case GroupSequential(spending, planned):
            upper = group.multipliers(group.Design(spending, alpha, sides, planned), looks)
        case Anytime():
            width = mixture.multiplier if sides == 2 else mixture.multiplier_one_sided
            upper = tuple(width(round(t * _GRAIN), _GRAIN, alpha=alpha) for t in fractions)
    lower = tuple(-bound if sides == 2 else -math.inf for bound in upper)
    return fractions, lower, upper


def _quantile_bound(comparison: Comparison, fraction: float) -> float:
    outcome, both = comparison.outcome, math.fsum(comparison.shares)
    treatment, control = (share / both for share in comparison.shares)
    seen = fraction * outcome.observed_rate * _GRAIN
    return quantile_sequence.multiplier(
        (seen * treatment, seen * control),
        (outcome.variance_under(0.0) / treatment, outcome.variance / control),
        alpha=comparison.rule_alpha,
        planned_n=_GRAIN,
    )
