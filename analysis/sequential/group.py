"""Group sequential designs: a few planned looks that share one alpha by a spending function.

Before the start a `Design` names the planned looks as fractions of the planned information and
how alpha is spent. Every look then taken gets the boundary that spends ``f(t) - f(t_before)``,
with t the fraction really reached: looks may come late, be skipped, or overrun the plan. Which
looks are taken must depend on the information only, never on the effect; `schedule` decides it.

References
----------
Lan, DeMets (1983), "Discrete sequential boundaries for clinical trials", Biometrika 70, 659-663
(alpha spending, and both functions). Jennison, Turnbull (2000), "Group Sequential Methods with
Applications to Clinical Trials", chapter 7.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from scipy import optimize, special

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.sequential import crossing

Spending: TypeAlias = Literal["obrien_fleming", "pocock"]

_REACHED = 1e-9
"""Rounding allowed when a fraction of units is compared with a planned fraction."""


@dataclass(frozen=True, slots=True)
class Design:
    """Planned looks and how alpha is spent; registered before the first exposure.

    Parameters
    ----------
    spending
        ``obrien_fleming`` spends little early and leaves the last look almost as sharp as a
        single one; ``pocock`` spends evenly and stops earlier.
    alpha
        Error of all looks together; two-sided when ``sides`` is 2, half of it on each side.
    sides
        1 when only an increase is looked for.
    fractions
        Planned information fractions, increasing, the last one 1.

    Raises
    ------
    ValueError
        alpha is not inside (0, 1), a one-sided one not below 0.5, or the fractions do not
        increase to 1 in steps that `crossing.CLOSEST` allows.
    """

    spending: Spending
    alpha: float
    sides: Literal[1, 2]
    fractions: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not self.alpha / self.sides < 0.5:
            raise ValueError(f"alpha is {self.alpha}: it must lie in (0, 1), below 0.5 a side")
        if not self.fractions or self.fractions[-1] != 1:
            raise ValueError(f"the planned fractions are {self.fractions}: the last must be 1")
        for before, now in pairwise((0.0, *self.fractions)):
            if not now - before >= crossing.CLOSEST * now > 0:
                raise ValueError(f"planned fraction {now:g} does not follow {before:g}")


@dataclass(frozen=True, slots=True)
class Look:
    """A planned look that was taken.

    Parameters
    ----------
    number
        Which planned look, from 1; numbers in between were skipped.
    fraction
        Information fraction really reached, on which alpha is spent: mature units over planned
        ones. Above 1 after an overrun.
    information
        In any unit that all looks of the experiment share: the fraction itself while shares and
        variance are constant, else ``1 / se^2``.
    """

    number: int
    fraction: float
    information: float


@dataclass(frozen=True, slots=True)
class Unplanned:
    """No planned look is due: the boundaries say nothing here, show ``instead``.

    Parameters
    ----------
    fraction
        Information fraction now.
    due_at
        Fraction at which the next planned look is due; None after the last one.
    instead
        The interval that is valid at a look nobody planned. It spends none of the design's
        alpha, so it may end in nothing but CONTINUE.
    """

    fraction: float
    due_at: float | None
    instead: Literal["anytime"] = "anytime"

    def refusal(self) -> NotEstimable:
        """Return the reason in the form that estimators return."""
        when = (
            "the last planned look was taken"
            if self.due_at is None
            else f"the next planned look is due at {self.due_at:.0%} of the planned information"
        )
        detail = f"{when}, now {self.fraction:.0%}; the anytime interval is shown instead"
        return NotEstimable("unplanned-look", detail)


def schedule(
    design: Design,
    taken: Sequence[Look],
    *,
    fraction: float,
    information: float,
    ended: bool = False,
) -> Look | Unplanned:
    """Which planned look is due now, or that none is.

    Parameters
    ----------
    design
        As registered.
    taken
        Planned looks recorded so far, in order.
    fraction, information
        As in `Look`, now.
    ended
        The registered end is reached and no more information will come: this is the last look,
        which spends all alpha that is left, however much information is missing.

    Notes
    -----
    Planned look k is due once its fraction is reached; when several are, the latest one is
    taken and the others count as skipped. Their alpha is not lost: it is spent here. A look
    that brings less than `crossing.CLOSEST` of new information is refused.

    Raises
    ------
    ValueError
        ``fraction`` or ``information`` is not positive and finite.
    """
    if not (0 < fraction < math.inf and 0 < information < math.inf):
        raise ValueError(f"fraction {fraction} and information {information} must be positive")
    last = taken[-1].number if taken else 0
    if last == len(design.fractions):
        return Unplanned(fraction, None)
    reached = sum(planned <= fraction + _REACHED for planned in design.fractions)
    number = len(design.fractions) if ended else reached
    seen = taken[-1].information if taken else 0.0
    if number <= last or information - seen < crossing.CLOSEST * information:
        return Unplanned(fraction, design.fractions[last])
    return Look(number, fraction, information)


def spent(spending: Spending, fraction: float, *, alpha: float) -> float:
    """Alpha spent on one side when ``fraction`` of the planned information is reached.

    Parameters
    ----------
    spending
        ``obrien_fleming``: ``2 - 2 Phi(z / sqrt(t))`` with ``z = Phi^-1(1 - alpha/2)``;
        ``pocock``: ``alpha ln(1 + (e - 1) t)``. Both are alpha from ``t = 1`` on.
    fraction
        t, not negative.
    alpha
        Error of that side.

    Notes
    -----
    A two-sided design spends ``f(t; alpha/2)`` on each side, as the programs ld98, ldbounds,
    gsDesign and rpact do, so that its bounds are those of the one-sided design at ``alpha/2``.
    Jennison and Turnbull's two-sided table spends ``f(t; alpha)`` on both sides together, which
    for ``obrien_fleming`` is another function with somewhat lower early bounds.
    """
    t = min(fraction, 1.0)
    if t <= 0:
        return 0.0
    if t == 1:
        return alpha
    if spending == "pocock":
        return alpha * math.log1p(math.expm1(1) * t)
    return 2 * float(special.ndtr(float(special.ndtri(alpha / 2)) / math.sqrt(t)))


def multipliers(design: Design, looks: Sequence[Look]) -> tuple[float, ...]:
    """Half-width of the repeated interval at every look taken, in standard errors.

    Parameters
    ----------
    design
        As registered.
    looks
        Looks taken, in order; a boundary depends on the looks before it, never on later ones.

    Returns
    -------
    tuple of float
        ``(len(looks),)``. ``P(abs(Z_k) > c_k for some k) = alpha`` when all alpha is spent.
        Infinite where the look is so early that nothing (less than 1e-300) may be spent.

    Raises
    ------
    ValueError
        Numbers or information do not increase.
    """
    numbers = [look.number for look in looks]
    if any(after <= before for before, after in pairwise((0, *numbers))):
        raise ValueError(f"looks are numbered {numbers}: they must increase")
    if numbers and numbers[-1] > len(design.fractions):
        raise ValueError(f"look {numbers[-1]} was never planned")
    ended = bool(numbers) and numbers[-1] == len(design.fractions)
    return _multipliers(
        design.spending,
        design.alpha / design.sides,
        design.sides == 2,
        tuple(look.fraction for look in looks[: len(looks) - ended]),
        tuple(look.information for look in looks),
    )


@functools.lru_cache(maxsize=4096)
def _multipliers(
    spending: Spending,
    alpha: float,
    symmetric: bool,  # noqa: FBT001 - lru_cache hashes positions
    fractions: tuple[float, ...],
    information: tuple[float, ...],
) -> tuple[float, ...]:
    """Bounds at the information; looks beyond ``fractions`` spend all that is left."""
    cumulative = [spent(spending, t, alpha=alpha) for t in fractions]
    cumulative += [alpha] * (len(information) - len(fractions))
    # Facts may be erased: a fraction that fell back spends nothing, and nothing comes back.
    highest = [max(cumulative[: k + 1]) for k in range(len(cumulative))]
    return crossing.boundary(information, highest, symmetric=symmetric)


def planned(design: Design, *, drift: float) -> crossing.Crossing:
    """Probability of leaving the boundaries at each planned look.

    Parameters
    ----------
    design
        All planned looks are taken on time.
    drift
        Expected Z at the planned end: effect over its standard error there.
    """
    looks = [Look(k + 1, t, t) for k, t in enumerate(design.fractions)]
    upper = multipliers(design, looks)
    lower = tuple(-bound if design.sides == 2 else -math.inf for bound in upper)
    return crossing.probabilities(design.fractions, lower, upper, drift=drift)


def inflation(design: Design, *, power: float) -> float:
    """Planned information over that of a single look with the same alpha and power.

    ``(d / (z_alpha + z_power))^2``, d the drift at which the upper boundary is crossed with
    probability ``power``; z_alpha is for one side. It is above 1: the price of looking early,
    earned back on average because the experiment stops early when there is an effect.

    Raises
    ------
    ValueError
        ``power`` is not between one side's alpha and 1.
    """
    alpha = design.alpha / design.sides
    if not alpha < power < 1:
        raise ValueError(f"power is {power}: it must lie between {alpha} and 1")
    single = float(special.ndtri(power) - special.ndtri(alpha))
    found = optimize.brentq(
        lambda drift: planned(design, drift=drift).upward - power, 0, single + 10, xtol=1e-12
    )
    return (float(found) / single) ** 2
