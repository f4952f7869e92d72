"""Outcomes to plan with: mean and variance per unit, as history shows them.

References
----------
Deng, Knoblich, Lu (2018), "Applying the delta method in metric analytics", KDD, section 3
(variance of a ratio).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is measured per unit, as history shows it.

    Parameters
    ----------
    kind
        ``conversion`` has the variance of its rate; the others keep theirs under an effect.
    mean
        Of the control: a rate, a mean in the metric's unit, or a ratio of means.
    variance
        Per unit, of the control; for a ratio of its linear part (see `ratio`).
    treated_variance
        Per unit of the treatment, when it differs for another reason than the effect, such as
        an AI cost only treated units have. None: as the control's.
    nonzero_rate
        Share of units with an outcome; when known, looks before `mixture.MINIMUM_NONZERO`
        outcomes in the smaller variant are not counted in sequential modes. Of a quantile the
        share of units with an observation.
    quantile
        Of a quantile which one; then no look counts, in any mode, before
        `quantiles.MINIMUM_TAIL` units of the smaller variant are expected beyond it.
    """

    kind: Literal["conversion", "mean", "ratio", "net", "quantile"]
    mean: float
    variance: float
    treated_variance: float | None = None
    nonzero_rate: float | None = None
    quantile: float | None = None

    @property
    def observed_rate(self) -> float:
        """Share of units with an outcome, all of them while it is not known."""
        return 1.0 if self.nonzero_rate is None else self.nonzero_rate

    def variance_under(self, effect: float) -> float:
        """Variance per treated unit when the treatment's mean is ``mean + effect``."""
        if self.kind == "conversion":
            rate = self.mean + effect
            return rate * (1 - rate)
        return self.variance if self.treated_variance is None else self.treated_variance


def conversion(rate: float) -> Outcome:
    """Outcome 0 or 1 with this rate in the control.

    Raises
    ------
    ValueError
        The rate is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise ValueError(f"the rate is {rate}: it must lie between 0 and 1")
    return Outcome("conversion", rate, rate * (1 - rate), nonzero_rate=rate)


def from_history(
    moments: Moments, column: str, *, kind: Literal["conversion", "mean", "net"]
) -> Outcome | NotEstimable:
    """Outcome with the mean, variance and share of non-zero units seen in history."""
    if moments.n < 2:
        return NotEstimable("too-few-units", f"history has {moments.n} units; two are needed")
    sample = moments.sample(column)
    if kind == "conversion":
        if not 0 < sample.mean < 1:
            return NotEstimable("no-variance", "nobody or everybody converted in history")
        return conversion(sample.mean)
    nonzero = int(moments.nonzero[moments.columns.index(column)])
    return Outcome(kind, sample.mean, sample.variance, nonzero_rate=nonzero / sample.n)


def ratio(moments: Moments, numerator: str, denominator: str) -> Outcome | NotEstimable:
    """Ratio of two means, with the variance of its linear part per unit.

    Notes
    -----
    ``R = mean(y) / mean(x)``, variance ``(vy - 2 R cov + R^2 vx) / mean(x)^2``: that of
    ``(y - R x) / mean(x)``, whose mean over n units has the variance of the estimated ratio to
    first order. `NotEstimable` (``zero-denominator``) when the denominator's mean is not above
    zero.
    """
    if moments.n < 2:
        return NotEstimable("too-few-units", f"history has {moments.n} units; two are needed")
    y, x = moments.sample(numerator), moments.sample(denominator)
    if not x.mean > 0:
        return NotEstimable("zero-denominator", "the denominator's mean is not above zero")
    value = y.mean / x.mean
    spread = (
        y.variance
        - 2 * value * moments.covariance(numerator, denominator)
        + value * value * x.variance
    )
    nonzero = int(moments.nonzero[moments.columns.index(numerator)])
    return Outcome("ratio", value, max(0.0, spread) / x.mean**2, nonzero_rate=nonzero / moments.n)
