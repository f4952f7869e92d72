"""The net benefit of what was launched, corrected for having been launched because it looked good.

Estimates that pass a threshold are too high on average: the sum over winners counts their luck as
gain. The correction draws every effect towards what experiments of this workspace usually bring,
as far as its own data leave room; all experiments teach that, the lost and abandoned ones too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from klartext.analysis.bayes import hierarchy
from klartext.analysis.bayes.mixture import NormalMixture
from klartext.analysis.bayes.pooling import Block, Spread, check_level, spread_of
from klartext.analysis.bayes.track_record import FEWEST
from klartext.analysis.common_slopes import adjusted
from klartext.analysis.covariates import of_value
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.look import MONEY_FROM_MARGIN
from klartext.analysis.moments import Moments
from klartext.analysis.posterior import effect
from klartext.experiments.experiment import Experiment

PRIOR_SD = 0.1
"""Prior sd of the common relative effect, and of the half-normal prior of the scale around it:
10 % of the control's margin, the default prior of a new experiment."""

CLEAR = 3.0
"""Standard errors that the control's margin must be above zero to be the yardstick of effects."""


@dataclass(frozen=True, slots=True)
class Stake:
    """Money that follows from the effect of one treatment.

    Parameters
    ----------
    treatment
        Key of the variant.
    amount
        As it was estimated.
    per_effect
        Money for one relative effect of 1.
    unexplained
        Variance of the amount that the relative effect leaves, money squared: noise of cost.
    """

    treatment: str
    amount: float
    per_effect: float
    unexplained: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """The relative effects of one experiment, and the money that hangs on them.

    Parameters
    ----------
    block
        Effects of all its treatments.
    launch
        Net benefit of what was launched, in the decision view; None: nothing was.
    earned
        Incremental margin that treatments brought while they were tested.
    """

    block: Block
    launch: Stake | None = None
    earned: tuple[Stake, ...] = ()


@dataclass(frozen=True, slots=True)
class CorrectedSum:
    """A sum of estimates, its posterior mean, and its equal-tailed interval, money."""

    naive: float
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Corrected:
    """What all experiments together say of the sums over them.

    Parameters
    ----------
    experiments
        Experiments learned from.
    launches
        Of each experiment with a launch, by key.
    launched
        Sum of the launches' net benefit.
    whole
        The same and all that was earned in tests.
    usual_effect
        Posterior mean of the relative effect that experiments usually have (0.03 is 3 %).
    spread
        Of the effects around it.
    """

    experiments: int
    launches: dict[str, CorrectedSum]
    launched: CorrectedSum | NotEstimable
    whole: CorrectedSum
    usual_effect: float
    spread: Spread


def relative_effects(
    experiment: Experiment, moments: Mapping[str, Moments]
) -> Block | NotEstimable:
    """Return the margin effects of all treatments in shares of the control's margin.

    Parameters
    ----------
    experiment
        Resolved spec, for its covariates.
    moments
        Per variant, as a look recorded them.

    Returns
    -------
    Block or NotEstimable
        Refused: the reasons of `klartext.analysis.moments.unusable`; ``weak-control`` when the
        control's margin is fewer than three standard errors above zero; ``no-variance`` when
        several treatments have margins that do not vary.

    Notes
    -----
    ``t_k = (m_k - m_C) / m_C`` with m_C taken as known: it is a yardstick that puts experiments of
    any size on one scale, and cancels where the effect becomes money again. Means are adjusted
    for covariates as the decision view adjusts them, each treatment with the control; what two
    treatments share is then ``sqrt(v_Ck v_Cl)``, the error of the control.
    """
    control = moments[experiment.control]
    base = control.sample("margin")
    effects, own, shared = [], [], []
    for treatment in experiment.treatments:
        one, other = _pair(experiment, moments[treatment], control)
        found = effect(one, other, margin="margin", cost="cost")
        if isinstance(found, NotEstimable):
            return found
        effects.append(found.margin / base.mean if base.mean else 0.0)
        own.append(one.sample("margin").variance_of_mean)
        shared.append(math.sqrt(other.sample("margin").variance_of_mean))
    if not (base.mean > 0 and base.mean**2 >= CLEAR**2 * base.variance_of_mean):
        return NotEstimable(
            "weak-control", "the control's margin is not three standard errors above zero"
        )
    covariance = (np.diag(own) + np.outer(shared, shared)) / base.mean**2
    if not np.linalg.eigvalsh(covariance).min() > 0:
        return NotEstimable("no-variance", "the margins of two treatments do not vary")
    return Block(experiment.key, experiment.treatments, np.array(effects), covariance)


def launch_of(  # noqa: PLR0913 - a treatment, and what of its decision view is needed
    experiment: Experiment,
    moments: Mapping[str, Moments],
    treatment: str,
    *,
    net_benefit: float,
    units: float,
    persistence: float,
) -> Stake | NotEstimable:
    """Return how the net benefit of a launched treatment follows from its relative effect.

    Parameters
    ----------
    experiment, moments
        As for `relative_effects`, which has not refused them.
    treatment
        Key of the launched variant.
    net_benefit, units, persistence
        Of the recorded decision view: its estimate, treated units and persistence.

    Notes
    -----
    ``NB = N s (p dm - dc) + ...``. Given the margin effect dm, the cost dc moves with it along
    their regression ``b = cov / var_m``, as in `klartext.analysis.posterior.update`: NB has slope
    ``N s (p - b) m_C`` in the relative effect, and ``(N s)^2 (var_c - b cov)`` remains.
    """
    control = moments[experiment.control]
    one, other = _pair(experiment, moments[treatment], control)
    found = effect(one, other, margin="margin", cost="cost")
    if isinstance(found, NotEstimable):
        return found
    slope = found.covariance / found.var_margin if found.var_margin > 0 else 0.0
    return Stake(
        treatment=treatment,
        amount=net_benefit,
        per_effect=units * (persistence - slope) * control.sample("margin").mean,
        unexplained=units**2 * max(0.0, found.var_cost - slope * found.covariance),
    )


def earned_of(
    experiment: Experiment, moments: Mapping[str, Moments], treatment: str, *, margin: float
) -> Stake:
    """Return how the incremental margin of a test follows from the relative effect."""
    base = moments[experiment.control].sample("margin").mean
    return Stake(treatment, margin, moments[treatment].n * base)


def corrected(findings: Sequence[Finding], *, level: float) -> Corrected | NotEstimable:
    r"""Return the summed net benefit of all launches without the luck that selected them.

    Parameters
    ----------
    findings
        One per experiment with a readable look, *whatever came of it*: leaving out those that
        failed teaches that effects are larger than they are.
    level
        Of the credible intervals; 0.95 is 95 %.

    Returns
    -------
    Corrected or NotEstimable
        Refused: ``too-few-experiments`` (fewer than five). Its sum of launches alone is
        ``nothing-launched`` when nothing was.

    Raises
    ------
    ValueError
        An experiment occurs twice, or ``level`` is not between 0 and 1.

    Notes
    -----
    The estimated relative effects :math:`y_e \sim N(t_e, V_e)` are of effects
    :math:`t_e \sim N(\mu, \tau^2)`, with :math:`\mu \sim N(0, 0.1^2)` and half-normal
    :math:`\tau \sim N^+(0, 0.1^2)`; given :math:`\tau` all is normal, see `hierarchy.posterior`.
    A launch brings ``NB_e + b_e (t_e - y_e)`` plus independent noise of its cost. The sum over the
    launches S has the posterior of :math:`\sum_S b_e t_e`, jointly, because all launches lean on
    the same :math:`\mu` and :math:`\tau`. What was earned in tests is a sum of the same kind.

    Why this is right in spite of the selection: given the data, the posterior of :math:`t_e` is
    the same whether e was launched or not, for the launch is a function of the data. So
    :math:`E[t_e \mid data, e \in S] = E[t_e \mid data]`, and the sum of posterior means is
    unbiased over workspaces whose effects follow the model: for every rule of launching, and
    however often each experiment was looked at before. With fifty experiments of sd 2 %, where
    the prior of :math:`\tau` expects more, 2 to 7 % of the luck remain.

    The bias that it removes has, for one look, known errors and a launch at
    ``x_e > c_e s_e``, the form :math:`\sum_e s_e \phi(c_e - \theta_e / s_e)` over *all*
    experiments (Lee and Shen 2018, section 3). Their estimate puts :math:`x_e` for the unknown
    :math:`\theta_e`. It needs one look and one threshold known in advance, which a decision that
    may be taken at any look, with several conditions, does not have.

    Not valid when effects are far from normal around one mean, such as one large hit among many
    small ones, which is drawn in too far; nor when experiments that failed were never recorded.

    References
    ----------
    Lee and Shen (2018), "Winner's curse: bias estimation for total effects of features in online
    controlled experiments", KDD 2018. Efron (2011), "Tweedie's formula and selection bias", JASA
    106, 1602-1614 (posterior means are immune to selection). Dawid (1994), "Selection paradoxes
    of Bayesian inference", IMS Lecture Notes 24, 211-220.
    """
    check_level(level)
    keys = [finding.block.key for finding in findings]
    if len(set(keys)) < len(keys):
        raise ValueError("every experiment counts once")
    if len(findings) < FEWEST:
        return NotEstimable(
            "too-few-experiments",
            f"it takes {FEWEST} experiments with a readable look to learn what experiments usually "
            f"bring; so far: {len(findings)}",
        )
    m = max(len(finding.block.effects) for finding in findings)
    estimates = np.full((len(findings), m), math.nan)
    covariances = np.zeros((len(findings), m, m))
    for place, finding in enumerate(findings):
        k = len(finding.block.effects)
        estimates[place, :k] = finding.block.effects
        covariances[place, :k, :k] = finding.block.covariance
    launches = [(place, one.launch) for place, one in enumerate(findings) if one.launch is not None]
    earned = [(place, stake) for place, one in enumerate(findings) for stake in one.earned]
    rows = [*([each] for each in launches), launches, [*launches, *earned]]
    money = np.zeros((len(rows), len(findings), m))
    for row, stakes in enumerate(rows):
        for place, stake in stakes:
            k = findings[place].block.treatments.index(stake.treatment)
            money[row, place, k] += stake.per_effect
    found = hierarchy.posterior(
        estimates,
        covariances,
        mean_prior_sd=PRIOR_SD,
        scale_prior_sd=PRIOR_SD,
        one_mean=True,
        combinations=money,
    )
    naive = np.array([math.fsum(stake.amount for _, stake in stakes) for stakes in rows])
    noise = np.array([math.fsum(stake.unexplained for _, stake in stakes) for stakes in rows])
    seen = np.einsum("cgi,gi->c", money, np.nan_to_num(estimates))
    effects = found.combinations
    sums = NormalMixture(effects.weights, effects.means + naive - seen, effects.variances + noise)
    lower, upper = (sums.quantile((1 + sign * level) / 2).tolist() for sign in (-1, 1))
    *each, launched, whole = (
        CorrectedSum(before, after, Interval(low, high, level))
        for before, after, low, high in zip(
            naive.tolist(), sums.mean.tolist(), lower, upper, strict=True
        )
    )
    return Corrected(
        experiments=len(findings),
        launches={keys[place]: one for (place, _), one in zip(launches, each, strict=True)},
        launched=launched if launches else NotEstimable("nothing-launched", "nothing has a GO"),
        whole=whole,
        usual_effect=float(found.means.mean[0]),
        spread=spread_of(found, level),
    )


def _pair(experiment: Experiment, one: Moments, base: Moments) -> tuple[Moments, Moments]:
    """Return the two variants as the decision view reads them: adjusted, where that is possible."""
    names = of_value(experiment)
    if not names:
        return one, base
    found = adjusted(one, base, MONEY_FROM_MARGIN, names)
    return (one, base) if isinstance(found, NotEstimable) else (found.treatment, found.control)
