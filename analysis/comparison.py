"""A comparison to be planned: what is to be shown, of whom, and at which looks it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from klartext.analysis.means import multiplier_of
from klartext.analysis.outcome import Outcome
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
    rate, mode = comparison.outcome.nonzero_rate, comparison.mode
    if rate is None or isinstance(mode, Fixed):
        return (1,)
    per_unit = max(rate, 1 / _GRAIN) * min(comparison.shares)
    units = [
        math.ceil(mixture.MINIMUM_NONZERO / (per_unit * t) - 1e-6) for t in reversed(mode.fractions)
    ]
    return tuple(sorted(set(units)))


def bounds_at(
    comparison: Comparison, total_units: int | None
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]] | None:
    """Fractions of the looks that are read, lower and upper bounds for Z; None when none is read.

    With ``total_units`` only looks with enough outcomes are read; without, all of them.
    """
    alpha, sides = comparison.rule_alpha, comparison.sides

    def is_open(fraction: float) -> bool:
        rate = comparison.outcome.nonzero_rate
        if total_units is None or rate is None:
            return True
        per_unit = max(rate, 1 / _GRAIN) * min(comparison.shares)
        return total_units >= math.ceil(mixture.MINIMUM_NONZERO / (per_unit * fraction) - 1e-6)

    match comparison.mode:
        case Fixed():
            fractions: tuple[float, ...] = (1.0,)
            upper: tuple[float, ...] = (multiplier_of(2 * alpha / sides),)
        case GroupSequential(spending, planned):
            design = group.Design(spending, alpha, sides, planned)
            looks = [group.Look(k + 1, t, t) for k, t in enumerate(planned) if is_open(t)]
            fractions = tuple(look.fraction for look in looks)
            upper = group.multipliers(design, looks)
        case Anytime(planned):
            fractions = tuple(t for t in planned if is_open(t))
            width = mixture.multiplier if sides == 2 else mixture.multiplier_one_sided
            upper = tuple(width(round(t * _GRAIN), _GRAIN, alpha=alpha) for t in fractions)
    if not fractions:
        return None
    lower = tuple(-bound if sides == 2 else -math.inf for bound in upper)
    return fractions, lower, upper
