"""The value of information: what knowing more would be worth, and whether waiting pays for it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from klartext.analysis import posterior
from klartext.analysis.posterior import Effect, Horizon, Normal
from klartext.analysis.sequential import crossing

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


@dataclass(frozen=True, slots=True)
class Belief:
    """What the data say about the effects per unit, and what was believed before.

    Parameters
    ----------
    likelihood
        Estimates of margin and cost per unit with their sampling covariance.
    prior_sd
        Of the margin effect, as in `klartext.analysis.posterior.update`.
    units
        Mature units of both variants behind the likelihood.
    """

    likelihood: Effect
    prior_sd: float | None
    units: int

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError(f"a likelihood of {self.units} units")

    def after(self, more_units: float) -> Effect:
        """Return the posterior's covariance as ``more_units`` will leave it, around today's mean.

        Sampling variances shrink with the number of units; where the mean goes is not known.
        """
        growth = 1 + more_units / self.units
        likelihood = self.likelihood
        shrunk = replace(
            likelihood,
            var_margin=likelihood.var_margin / growth,
            var_cost=likelihood.var_cost / growth,
            covariance=likelihood.covariance / growth,
        )
        return posterior.update(shrunk, prior_sd=self.prior_sd)

    def now(self) -> Effect:
        """Return today's posterior."""
        return posterior.update(self.likelihood, prior_sd=self.prior_sd)


def perfect_information(net_benefit: Normal) -> float:
    """Return the expected value of perfect information (EVPI), money.

    Parameters
    ----------
    net_benefit
        Posterior, money.

    Notes
    -----
    No study is worth more than this.
    ``E max(0, NB) - max(0, E NB) = s L(|z|)`` with ``L(z) = phi(z) - z Phi(-z)``, ``z = mu / s``.
    Only what data can tell is in ``s``: the ranges of assumed inputs are not reduced by waiting.

    References
    ----------
    Raiffa, Schlaifer (1961), "Applied Statistical Decision Theory", section 5.4 (unit normal loss).

    Examples
    --------
    >>> round(perfect_information(Normal(0.0, 1000.0)), 2)  # 1000 / sqrt(2 pi)
    398.94
    """
    return Normal(abs(net_benefit.mean), net_benefit.sd).expected_loss()


def sample_information(belief: Belief, horizon: Horizon, *, more_units: float) -> float:
    """Return the expected value of ``more_units`` mature units (EVSI), money.

    Parameters
    ----------
    belief
        Today's.
    horizon
        What effects are multiplied with; its units are those still untreated then.
    more_units
        Mature units to come, of both variants in today's proportion.

    Notes
    -----
    ``EVSI = s_h L(|mu| / s_h)``; ``s_h^2`` is by how much the posterior variance of the net
    benefit falls, which is the variance of the posterior mean to come (law of total variance).
    Valid while the effect stays what it is.

    References
    ----------
    Raiffa, Schlaifer (1961), section 5.5 (preposterior analysis of a normal mean).
    """
    today = posterior.net_benefit(belief.now(), horizon)
    later = posterior.net_benefit(belief.after(more_units), horizon)
    removed = math.sqrt(max(0.0, today.sd**2 - later.sd**2))
    return Normal(abs(today.mean), removed).expected_loss()


@dataclass(frozen=True, slots=True)
class Pace:
    """How the test goes on, per period.

    Parameters
    ----------
    units
        Units that mature in a period, both variants together.
    treated
        Of the units that enter in a period, those that get the treatment.
    entering
        All units that enter in a period, treated or not.
    running_cost
        Fixed cost of testing for one period, money.
    """

    units: float
    treated: float
    entering: float
    running_cost: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """What testing for ``periods`` more brings and costs, money."""

    periods: int
    value: float
    cost: float

    @property
    def gain(self) -> float:
        """Value less cost."""
        return self.value - self.cost


def waiting(
    belief: Belief, horizon: Horizon, pace: Pace, *, periods: int, shrinking: bool
) -> Waiting:
    """Return the length of further testing that pays best, or loses least.

    Parameters
    ----------
    belief
        Today's.
    horizon
        Units that a decision today would reach.
    pace
        Units and cost per period.
    periods
        Until the registered end; at least one.
    shrinking
        Whether units that enter the test are lost to the horizon: true without a roll-out, where
        the horizon is the test itself; a roll-out's twelve months start with the decision.

    Raises
    ------
    ValueError
        There is no period left.

    Notes
    -----
    ``cost(h) = h [running cost + entering (max(0, mu) - share mu)]`` with mu the posterior mean of
    the net benefit per unit without fixed cost and share = treated / entering: what the better
    of going live and stopping would have brought, less what the test brings meanwhile.
    """
    if periods < 1:
        raise ValueError("there is no period left to wait for")
    now = belief.now()
    per_unit = horizon.persistence * now.margin - horizon.cost_factor * now.cost
    foregone = pace.entering * max(0.0, per_unit) - pace.treated * per_unit
    found = []
    for period in range(1, periods + 1):
        lost = period * pace.entering if shrinking else 0.0
        left = replace(horizon, units=max(0.0, horizon.units - lost))
        value = sample_information(belief, left, more_units=period * pace.units)
        found.append(Waiting(period, value, period * (pace.running_cost + foregone)))
    return max(found, key=lambda wait: wait.gain)


def predictive_success(
    belief: Belief,
    horizon: Horizon,
    *,
    savings: float,
    units: Sequence[int],
    multipliers: Sequence[float],
) -> float:
    """Probability that the lower bound of the net benefit is positive at one of the looks to come.

    Parameters
    ----------
    belief
        Today's.
    horizon
        What effects are multiplied with; at least one unit.
    savings
        Certain money added to the net benefit.
    units
        ``(n_looks,)`` mature units at each look to come, increasing, above today's.
    multipliers
        ``(n_looks,)`` half-widths of the intervals there, in standard errors.

    Raises
    ------
    ValueError
        Lengths differ or the units do not increase from today's.

    Notes
    -----
    Given the effect, the estimate's information-weighted path is a Brownian motion from where it
    stands today; its first crossing is integrated look by look and over today's posterior of the
    effect. The other conditions of a GO can only make it rarer, so this is an upper bound of the
    probability to go.

    References
    ----------
    Spiegelhalter, Abrams, Myles (2004), "Bayesian Approaches to Clinical Trials and Health-Care
    Evaluation", section 6.6.3 (predictive power). Jennison, Turnbull (2000), chapter 10.
    """
    counts = [belief.units, *units]
    if len(units) != len(multipliers) or any(b <= a for a, b in itertools.pairwise(counts)):
        raise ValueError(f"looks at {list(units)} units after {belief.units}: one multiplier each")
    if not units:
        return 0.0
    each = replace(horizon, units=1.0, fixed_cost=0.0)
    seen = posterior.net_benefit(belief.likelihood, each)
    believed = posterior.net_benefit(belief.now(), each)
    shift = (savings - horizon.fixed_cost) / horizon.units
    if seen.sd == 0:
        return float(seen.mean + shift > 0)
    today = 1 / seen.sd**2
    information = [today * count / belief.units for count in units]
    gained = [value - today for value in information]
    bounds = [
        (multiplier * math.sqrt(value) - shift * value - today * seen.mean) / math.sqrt(gain)
        for multiplier, value, gain in zip(multipliers, information, gained, strict=True)
    ]
    never = [-math.inf] * len(units)
    drifts = believed.mean + believed.sd * _NODES
    shares = _WEIGHTS / _WEIGHTS.sum()
    return math.fsum(
        share * crossing.probabilities(gained, never, bounds, drift=float(drift)).upward
        for share, drift in zip(shares.tolist(), drifts, strict=True)
    )
