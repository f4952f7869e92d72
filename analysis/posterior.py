"""Joint posterior of margin and cost per unit, and of the money that follows from them.

With enough units the two differences of means are bivariate normal around the truth. A normal
prior on the margin effect and none on the cost keep everything normal, in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.moments import Moments, unusable


@dataclass(frozen=True, slots=True)
class Effect:
    """Margin and cost per unit, treatment minus control: location and 2x2 covariance.

    Parameters
    ----------
    margin, cost
        Money per unit.
    var_margin, var_cost, covariance
        Squared standard errors (or posterior variances) and their covariance.

    Raises
    ------
    ValueError
        The covariance matrix is not positive semidefinite. A zero variance is allowed.
    """

    margin: float
    cost: float
    var_margin: float
    var_cost: float
    covariance: float

    def __post_init__(self) -> None:
        sd_margin = math.sqrt(max(0.0, self.var_margin))
        sd_cost = math.sqrt(max(0.0, self.var_cost))
        # A constant column leaves rounding dust in the covariance; only more than that is wrong.
        dust = 1e-9 * max(abs(self.margin), sd_margin) * max(abs(self.cost), sd_cost)
        proper = min(self.var_margin, self.var_cost) >= 0
        if not (proper and abs(self.covariance) <= sd_margin * sd_cost + dust):
            raise ValueError(
                f"variances {self.var_margin} and {self.var_cost} with covariance "
                f"{self.covariance} are not those of two quantities"
            )


@dataclass(frozen=True, slots=True)
class Horizon:
    """What effects per unit are multiplied with to become money.

    Parameters
    ----------
    units
        Treated units, ``s >= 0``.
    persistence
        Fraction of the margin effect that lasts, ``p``.
    cost_factor
        Fraction of the cost per unit that lasts, ``k``.
    fixed_cost
        Cost that does not depend on units, ``F``, money.
    """

    units: float
    persistence: float
    cost_factor: float
    fixed_cost: float


@dataclass(frozen=True, slots=True)
class Normal:
    """A normal distribution; with ``sd`` 0 a point."""

    mean: float
    sd: float

    def probability_above(self, threshold: float) -> float:
        """Return ``P(X > threshold)``."""
        if self.sd == 0:
            return float(self.mean > threshold)
        return float(special.ndtr((self.mean - threshold) / self.sd))

    def probability_at_least(self, threshold: float) -> float:
        """Return ``P(X >= threshold)``; differs from `probability_above` only for a point."""
        if self.sd == 0:
            return float(self.mean >= threshold)
        return self.probability_above(threshold)

    def expected_loss(self) -> float:
        """Return ``E max(0, -X)``: what acting loses on average where it loses.

        ``sd (phi(z) - z Phi(-z))`` with ``z = mean / sd``.
        """
        if self.sd == 0:
            return max(0.0, -self.mean)
        z = self.mean / self.sd
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return max(0.0, self.sd * (density - z * float(special.ndtr(-z))))

    def interval(self, level: float) -> Interval:
        """Return the central credible interval; ``level`` 0.95 is 95 %."""
        reach = -float(special.ndtri((1 - level) / 2)) * self.sd
        return Interval(self.mean - reach, self.mean + reach, level)


def effect(
    treatment: Moments, control: Moments, *, margin: str, cost: str
) -> Effect | NotEstimable:
    """Differences of margin and cost per unit with their joint covariance.

    Parameters
    ----------
    treatment, control
        Moments of independent variants.
    margin, cost
        Names of their columns, money per unit. Cost may be constant.

    Returns
    -------
    Effect or NotEstimable
        Refused for the reasons of `unusable`, applied to the margin; and ``not-finite``.
    """
    refused = unusable(treatment.sample(margin), control.sample(margin))
    if refused is not None:
        return refused
    spend = (treatment.sample(cost), control.sample(cost))
    shared = [moments.covariance(margin, cost) / moments.n for moments in (treatment, control)]
    parts = [*shared, *(value for s in spend for value in (s.mean, s.m2))]
    if not all(map(math.isfinite, parts)):
        return NotEstimable("not-finite", "a mean or variance of the cost is not a finite number")
    income = (treatment.sample(margin), control.sample(margin))
    return Effect(
        margin=income[0].mean - income[1].mean,
        cost=spend[0].mean - spend[1].mean,
        var_margin=income[0].variance_of_mean + income[1].variance_of_mean,
        var_cost=spend[0].variance_of_mean + spend[1].variance_of_mean,
        covariance=sum(shared),
    )


def update(likelihood: Effect, *, prior_sd: float | None) -> Effect:
    """Posterior of the effects under a sceptical prior on the margin, a flat one on the cost.

    Parameters
    ----------
    likelihood
        Estimates with their sampling covariance.
    prior_sd
        Standard deviation of the margin effect, normal with mean 0, money per unit. None is
        flat: the likelihood itself.

    Raises
    ------
    ValueError
        ``prior_sd`` is not positive and finite.

    Notes
    -----
    With prior precision ``diag(1/t^2, 0)`` the posterior covariance is
    ``S - S e e' S / (S11 + t^2)`` and the mean ``x - S e x1 / (S11 + t^2)``, ``e = (1, 0)'``:
    no inverse of S, so that a cost without variance is no special case. The cost moves with
    the margin along their regression ``S12 / S11``; its variance is computed as what that
    leaves plus what of it is kept, which stays proper at a correlation of one. Takes the
    sampling distribution as normal with known covariance; the prior's mean of zero is the
    scepticism.

    References
    ----------
    Gelman et al. (2013), "Bayesian Data Analysis", 3rd ed., section 3.5 (normal data with a
    normal prior, known variance).
    """
    if prior_sd is None:
        return likelihood
    if not (prior_sd > 0 and math.isfinite(prior_sd)):
        raise ValueError(f"the prior's sd is {prior_sd}: it must be positive and finite, or None")
    total = likelihood.var_margin + prior_sd**2
    kept = prior_sd**2 / total
    slope = likelihood.covariance / likelihood.var_margin if likelihood.var_margin > 0 else 0.0
    residual = max(0.0, likelihood.var_cost - slope * likelihood.covariance)
    return Effect(
        margin=likelihood.margin * kept,
        cost=likelihood.cost - likelihood.covariance * likelihood.margin / total,
        var_margin=likelihood.var_margin * kept,
        var_cost=residual + slope**2 * likelihood.var_margin * kept,
        covariance=likelihood.covariance * kept,
    )


def net_benefit(effects: Effect, horizon: Horizon, *, hurdle_roi: float = 0.0) -> Normal:
    """Distribution of ``M - (1 + h) K``: with hurdle 0 the net benefit.

    Parameters
    ----------
    effects
        Posterior (or likelihood) of the effects per unit.
    horizon
        Units, persistence, cost factor and fixed cost.
    hurdle_roi
        Return h that every unit of money must earn; 0.3 is 30 %. ``P(M - (1+h) K >= 0)`` is
        `Normal.probability_at_least` of 0.

    Returns
    -------
    Normal
        Money, with ``M = s p dm`` and ``K = s k dk + F``; the variance carries the covariance
        of margin and cost. Inputs of the horizon are taken as known.
    """
    charge = 1 + hurdle_roi
    on_margin = horizon.units * horizon.persistence
    on_cost = -charge * horizon.units * horizon.cost_factor
    variance = (
        on_margin**2 * effects.var_margin
        + 2 * on_margin * on_cost * effects.covariance
        + on_cost**2 * effects.var_cost
    )
    mean = on_margin * effects.margin + on_cost * effects.cost - charge * horizon.fixed_cost
    return Normal(mean, math.sqrt(max(0.0, variance)))


def roi(effects: Effect, horizon: Horizon) -> float | NotEstimable:
    """Return on the cost at the posterior means: ``(M - K) / K``; 0.5 is 50 %.

    A point only, to be shown beside the Fieller set of the ratio. `NotEstimable`
    (``no-cost``) when the expected cost is not positive: a ratio to it means nothing.
    """
    cost = horizon.units * horizon.cost_factor * effects.cost + horizon.fixed_cost
    if not cost > 0:
        return NotEstimable("no-cost", "the expected cost is not positive")
    return net_benefit(effects, horizon).mean / cost
