"""Posterior of a treatment's advantage over the control, absolute and relative, by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from klartext.analysis.bayes import quadrature
from klartext.analysis.bayes.best import one_family
from klartext.analysis.bayes.marginal import FloatArray, Marginal, Points
from klartext.analysis.estimate import Interval, NotEstimable

_ROUNDS = 20
"""Two are the rule; the bound is for rounding that never comes to rest."""


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

    def __post_init__(self) -> None:
        one_family((self.treatment, self.control))

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
        middle = _median(self.treatment) - _median(self.control)
        spread = math.hypot(_spread(self.treatment), _spread(self.control))
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
        levels = _median(self.treatment), _median(self.control)
        middle = math.log(levels[0]) - math.log(levels[1])
        spread = math.hypot(_spread(self.treatment) / levels[0], _spread(self.control) / levels[1])
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

        On the probit scale the distribution function is nearly a straight line. The panels are
        those of the last solution, until it stays where it is.
        """
        target = float(special.ndtri(probability))
        found = middle + target * spread
        for _ in range(_ROUNDS):
            grid = self._grid(line(found))

            def gap(x: float, grid: _Grid = grid) -> float:
                below, above = self._tails(line(x), grid)
                return _probit(below, above) - target

            seen = gap(found)
            if abs(seen) < 1e-10:
                break
            step = -1.5 * seen * spread
            while seen * gap(found + step) > 0:
                step *= 2
            found = float(
                optimize.brentq(gap, found, found + step, xtol=1e-11 * spread, rtol=1e-14)
            )
        return found

    def _grid(self, line: _Line) -> _Grid:
        """Quadrature over the narrower of the two that also resolves the tails of the wider.

        A wide distribution function varies slowly on the scale of a narrow density, so that the
        panels stay right when the line moves a little.
        """
        ratio = (1 + line.factor) * _spread(self.control) / _spread(self.treatment)
        over_control = ratio <= 1
        base, other = (
            (self.control, self.treatment) if over_control else (self.treatment, self.control)
        )
        own = base.coordinates(base.cuts())
        seen = base.coordinates((line.inverse if over_control else line).of(other.cuts()))
        inside = seen[(seen > own[0]) & (seen < own[-1])]
        both = [own, inside] if len(inside) >= 2 else [own]
        nodes, weights = quadrature.panels(quadrature.merged(both, scaled=base.bounded))
        return _Grid(over_control, base.points(nodes), quadrature.mass(base, nodes, weights))

    def _tails(self, line: _Line, grid: _Grid | None = None) -> tuple[float, float]:
        """Probabilities that the treatment is below and above a line of the control."""
        grid = grid or self._grid(line)
        if grid.over_control:
            below, above = self.treatment.tails(line.of(grid.points))
        else:  # the treatment is below the line where the control is above the inverse
            above, below = self.control.tails(line.inverse.of(grid.points))
        return min(1.0, float(grid.mass @ below)), min(1.0, float(grid.mass @ above))


@dataclass(frozen=True, slots=True)
class _Line:
    """``(1 + factor) control + shift``, what the treatment is compared with."""

    factor: float
    shift: float

    @property
    def inverse(self) -> _Line:
        """The control as a line of the treatment."""
        return _Line(-self.factor / (1 + self.factor), -self.shift / (1 + self.factor))

    def of(self, points: Points) -> Points:
        return points.moved(factor=self.factor, shift=self.shift)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """Levels of the control or the treatment and the probability each stands for."""

    over_control: bool
    points: Points
    mass: FloatArray


def _shift(difference: float) -> _Line:
    return _Line(0.0, difference)


def _log_ratio(log_ratio: float) -> _Line:
    return _Line(math.expm1(log_ratio), 0.0)


def _probit(below: float, above: float) -> float:
    """Return the normal quantile of a probability, from its smaller tail."""
    tail = float(special.ndtri(max(min(below, above), 1e-300)))
    return tail if below < above else -tail


def _median(posterior: Marginal) -> float:
    return float(posterior.quantiles(np.array([0.5]))[0])


def _spread(posterior: Marginal) -> float:
    """Half the central 68 %: a standard deviation also where there is none."""
    sixth = np.array([0.158655])
    return float(posterior.upper_quantiles(sixth)[0] - posterior.quantiles(sixth)[0]) / 2
