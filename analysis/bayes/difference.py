"""Posterior of a treatment's advantage over the control, absolute and relative, by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import optimize, special

from klartext.analysis.bayes import quadrature
from klartext.analysis.bayes.best import one_family
from klartext.analysis.bayes.marginal import Marginal, Points
from klartext.analysis.estimate import Interval, NotEstimable

_SIXTH = 0.15865525393145707
"""Normal probability below one standard deviation under the mean."""

_SECANTS = 10
_CLOSE = 1e-10
"""Distance of a quantile from its target, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Difference:
    r"""Posterior of ``treatment - control`` and of ``treatment / control - 1``.

    Parameters
    ----------
    treatment, control
        Independent posteriors of one family.

    Raises
    ------
    ValueError
        The families differ.

    Notes
    -----
    .. math:: P(t \le (1 + r) c + d) = \int f_c(x) \, F_t((1 + r) x + d) \, dx

    by Gauss-Legendre quadrature on panels cut at quantiles of both, as in
    `klartext.analysis.bayes.best.standing`; absolute error below about 1e-10. For two Beta
    posteriors with whole parameters and ``r = d = 0`` it is Miller's finite sum, for two Gamma
    posteriors with ``d = 0`` an incomplete beta function; both are its tests.

    References
    ----------
    Miller (2015), "Formulas for Bayesian A/B testing", evanmiller.org.
    """

    treatment: Marginal
    control: Marginal
    _treatment: _Shape = field(init=False, repr=False, compare=False)
    _control: _Shape = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        one_family((self.treatment, self.control))
        object.__setattr__(self, "_treatment", _Shape.of(self.treatment))  # frozen, computed once
        object.__setattr__(self, "_control", _Shape.of(self.control))

    @property
    def mean(self) -> float:
        """Posterior mean of the difference, in the metric's unit."""
        return self.treatment.mean - self.control.mean

    def probability_below(self, difference: float) -> float:
        """Return ``P(treatment - control < difference)``."""
        return self._tails(_shift(difference))[0]

    def probability_above(self, difference: float) -> float:
        """Return ``P(treatment - control > difference)``; P(better) for 0 and an increase."""
        return self._tails(_shift(difference))[1]

    def probability_between(self, lower: float, upper: float) -> float:
        """Return the probability that the difference lies between two numbers.

        With a region of practical equivalence around zero it is the probability that the
        treatment makes no difference that matters.

        Raises
        ------
        ValueError
            ``lower`` is above ``upper``.
        """
        if not lower <= upper:
            raise ValueError(f"a region from {lower} to {upper} is empty")
        below_lower, above_lower = self._tails(_shift(lower))
        below_upper, above_upper = self._tails(_shift(upper))
        if below_lower < 0.5:
            return max(0.0, below_upper - below_lower)
        return max(0.0, above_lower - above_upper)

    def interval(self, level: float) -> Interval:
        """Return the equal-tailed credible interval of the difference; 0.95 is 95 %."""
        middle = self._treatment.median - self._control.median
        spread = math.hypot(self._treatment.spread, self._control.spread)
        lower, upper = (
            self._solve(_shift, probability, middle, spread)
            for probability in ((1 - level) / 2, (1 + level) / 2)
        )
        return Interval(lower, upper, level)

    def relative(self, level: float) -> tuple[float, Interval] | NotEstimable:
        """Posterior median and equal-tailed interval of the relative lift; 0.03 is 3 %.

        The median, because a ratio of means has no posterior mean when the control may be near
        zero. `NotEstimable` (``may-be-negative``) when either level is negative with a
        probability of 1e-9 or more: a percentage of it has no direction.
        """
        if not (self.treatment.positive and self.control.positive):
            return NotEstimable("may-be-negative", "a relative change needs levels above zero")
        treatment, control = self._treatment, self._control
        middle = math.log(treatment.median) - math.log(control.median)
        spread = math.hypot(treatment.spread / treatment.median, control.spread / control.median)
        lower, median, upper = (
            math.expm1(self._solve(_log_ratio, probability, middle, spread))
            for probability in ((1 - level) / 2, 0.5, (1 + level) / 2)
        )
        return median, Interval(lower, upper, level)

    def _solve(
        self,
        line: Callable[[float], _Line],
        probability: float,
        middle: float,
        spread: float,
    ) -> float:
        """Return the difference or log ratio below which the posterior has the probability.

        On the probit scale the distribution function is nearly a straight line: a few secants,
        and a bracket where they fail.
        """
        target = float(special.ndtri(probability))

        def gap(x: float) -> float:
            return _probit(*self._tails(line(x))) - target

        start = x = middle + target * spread
        seen = gap(x)
        step = -seen * spread
        for _ in range(_SECANTS):
            if abs(seen) < _CLOSE:
                return x
            before, seen = seen, gap(x + step)
            x += step
            if seen == before:
                break
            step *= -seen / (seen - before)
        low = high = start
        reach = 0.1 * spread
        while gap(low) > 0:
            low, reach = low - reach, 2 * reach
        reach = 0.1 * spread
        while gap(high) < 0:
            high, reach = high + reach, 2 * reach
        return float(optimize.brentq(gap, low, high, xtol=1e-12 * spread, rtol=1e-14))

    def _tails(self, line: _Line) -> tuple[float, float]:
        """Probabilities that the treatment is below and above a line of the control.

        The integral runs over the narrower of the two posteriors.
        """
        over_control = (1 + line.factor) * self._control.spread <= self._treatment.spread
        one, two = (self.control, self._control), (self.treatment, self._treatment)
        (base, shape), (other, far) = (one, two) if over_control else (two, one)
        seen = line if over_control else line.inverse  # where the other is, of the base
        own = base.coordinates(shape.cuts)
        cuts = base.coordinates(seen.inverse.of(far.cuts))
        inside = cuts[(cuts > own[0]) & (cuts < own[-1])]
        both = [own, inside] if len(inside) >= 2 else [own]
        nodes, weights = quadrature.panels(quadrature.merged(both, scaled=base.bounded))
        mass = quadrature.mass(base, nodes, weights)
        below, above = other.tails(seen.of(base.points(nodes)))
        if not over_control:  # the treatment is below the line where the control is above
            below, above = above, below
        return min(1.0, float(mass @ below)), min(1.0, float(mass @ above))


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """Where a posterior lies, and how wide it is.

    Parameters
    ----------
    cuts
        See `Marginal.cuts`.
    median
        In the level's unit.
    spread
        Half the central 68 %: a standard deviation also where there is none.
    """

    cuts: Points
    median: float
    spread: float

    @classmethod
    def of(cls, posterior: Marginal) -> _Shape:
        """Compute the shape of a posterior."""
        lower, median = posterior.quantiles(np.array([_SIXTH, 0.5])).tolist()
        upper = float(posterior.upper_quantiles(np.array([_SIXTH]))[0])
        return cls(posterior.cuts(), median, (upper - lower) / 2)


@dataclass(frozen=True, slots=True)
class _Line:
    """``(1 + factor) x + shift``: of the control, what the treatment is compared with."""

    factor: float
    shift: float

    @property
    def inverse(self) -> _Line:
        """The same line, read the other way."""
        return _Line(-self.factor / (1 + self.factor), -self.shift / (1 + self.factor))

    def of(self, points: Points) -> Points:
        """Return where the line takes the points."""
        return points.moved(factor=self.factor, shift=self.shift)


def _shift(difference: float) -> _Line:
    return _Line(0.0, difference)


def _log_ratio(log_ratio: float) -> _Line:
    return _Line(math.expm1(log_ratio), 0.0)


def _probit(below: float, above: float) -> float:
    """Return the normal quantile of a probability, from its smaller tail."""
    tail = float(special.ndtri(max(min(below, above), 1e-300)))
    return tail if below < above else -tail
