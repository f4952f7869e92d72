"""The value of information: by hand, against scipy, and by simulated futures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from klartext.analysis import posterior
from klartext.analysis.information import (
    Belief,
    Pace,
    perfect_information,
    predictive_success,
    sample_information,
    waiting,
)
from klartext.analysis.posterior import Effect, Horizon, Normal

ONE = Horizon(units=1.0, persistence=1.0, cost_factor=1.0, fixed_cost=0.0)
MARGIN_ONLY = Effect(margin=0.1, cost=0.0, var_margin=0.04, var_cost=0.0, covariance=0.0)
BOTH = Effect(margin=0.3, cost=0.25, var_margin=0.02, var_cost=0.005, covariance=0.004)


@pytest.mark.golden("scipy 1.17: integrate.quad of the definition")
@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (2.0, 1.0), (-500.0, 800.0), (3.0, 0.1)])
def test_perfect_information_is_the_integral_of_its_definition(mean: float, sd: float) -> None:
    # E max(0, NB) - max(0, E NB), by scipy.integrate.quad from 0 upwards
    gain, _ = integrate.quad(
        lambda x: x * stats.norm.pdf(x, mean, sd), 0, max(0, mean) + 40 * sd, points=[max(mean, 0)]
    )
    found = perfect_information(Normal(mean, sd))
    assert found == pytest.approx(gain - max(0.0, mean), abs=1e-8 * sd)


@pytest.mark.golden("Raiffa, Schlaifer (1961), table II: unit normal loss")
def test_perfect_information_by_hand() -> None:
    # unit normal loss table (Raiffa, Schlaifer 1961, table II): L(0.5) = 0.1978, L(1) = 0.08332
    assert perfect_information(Normal(500.0, 1000.0)) == pytest.approx(197.8, abs=0.05)
    assert perfect_information(Normal(-1000.0, 1000.0)) == pytest.approx(83.32, abs=0.005)
    assert perfect_information(Normal(-1.0, 0.0)) == 0.0


@pytest.mark.golden("Raiffa, Schlaifer (1961), table II: unit normal loss")
@pytest.mark.parametrize(
    ("u", "loss", "digits"),
    [(0.0, 0.3989, 4), (0.25, 0.2863, 4), (0.5, 0.1978, 4), (1.0, 0.08332, 5), (1.5, 0.02931, 5),
     (2.0, 0.008491, 6), (2.5, 0.002004, 6), (3.0, 0.0003822, 7)],
)  # fmt: skip
def test_perfect_information_is_the_unit_normal_loss(u: float, loss: float, digits: int) -> None:
    for mean in (u, -u):
        assert round(perfect_information(Normal(mean, 1.0)), digits) == loss
        assert perfect_information(Normal(50 * mean, 50.0)) == pytest.approx(50 * loss, rel=2e-4)


def test_sample_information_by_hand() -> None:
    # Prior sd 0.2, likelihood variance 0.04: posterior variance 0.02, mean 0.05. As many units
    # again: likelihood variance 0.02, posterior 1 / (25 + 50) = 0.013333; s_h^2 = 0.00666667.
    belief = Belief(MARGIN_ONLY, prior_sd=0.2, units=100)
    sd = math.sqrt(0.02 - 1 / 75)
    z = 0.05 / sd
    expected = sd * (stats.norm.pdf(z) - z * stats.norm.sf(z))
    assert sample_information(belief, ONE, more_units=100) == pytest.approx(expected, rel=1e-12)


def test_sample_information_agrees_with_simulated_studies() -> None:
    # Draw the truth from the posterior, the study from the truth, update, decide: margin and cost
    # correlated, prior on the margin only; five Monte Carlo standard errors.
    belief, growth = Belief(BOTH, prior_sd=0.4, units=1000), 2.5
    horizon = Horizon(units=1000.0, persistence=0.8, cost_factor=1.0, fixed_cost=20.0)
    rng, draws = np.random.default_rng(20270112), 200_000
    now = belief.now()

    def covariance(effect: Effect) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.array(
            [[effect.var_margin, effect.covariance], [effect.covariance, effect.var_cost]]
        )

    truth = rng.multivariate_normal([now.margin, now.cost], covariance(now), draws)
    sampling = covariance(BOTH)
    seen = truth + rng.multivariate_normal([0, 0], sampling / (growth - 1), draws)
    both = (np.array([BOTH.margin, BOTH.cost]) + (growth - 1) * seen) / growth
    # the posterior's mean by the precision form, independent of the code's formula
    precision = np.linalg.inv(sampling / growth)
    prior = np.diag([1 / 0.4**2, 0.0])
    mean = both @ precision.T @ np.linalg.inv(precision + prior).T
    benefit = 1000.0 * (0.8 * mean[:, 0] - mean[:, 1]) - 20.0
    today = posterior.net_benefit(now, horizon).mean
    gains = np.maximum(benefit, 0) - max(0.0, today)
    found = sample_information(belief, horizon, more_units=1500)
    assert found == pytest.approx(gains.mean(), abs=5 * gains.std() / math.sqrt(draws))


@given(st.floats(-2, 2), st.floats(0.01, 2), st.floats(0.05, 2), st.floats(1, 1e6))
def test_a_study_is_never_worth_more_than_certainty(
    margin: float, variance: float, prior_sd: float, more: float
) -> None:
    belief = Belief(Effect(margin, 0.0, variance, 0.0, 0.0), prior_sd=prior_sd, units=1000)
    value = sample_information(belief, ONE, more_units=more)
    limit = perfect_information(posterior.net_benefit(belief.now(), ONE))
    assert 0 <= value <= limit * (1 + 1e-9) + 1e-15
    assert value <= sample_information(belief, ONE, more_units=2 * more) + 1e-12


def test_a_study_that_costs_more_than_it_tells() -> None:
    # Worked by hand: mu = -0.05 per unit, 10,000 units left; half of 100 units a week are treated,
    # so a week costs 20 + 100 (0 - 0.5 (-0.05)) = 22.50.
    effect = Effect(margin=-0.1, cost=0.0, var_margin=0.04, var_cost=0.0, covariance=0.0)
    belief = Belief(effect, prior_sd=0.2, units=100)
    horizon = Horizon(units=10.0, persistence=1.0, cost_factor=1.0, fixed_cost=0.0)
    pace = Pace(units=100.0, treated=50.0, entering=100.0, running_cost=20.0)
    best = waiting(belief, horizon, pace, periods=4, shrinking=False)
    assert best.periods == 1
    assert best.cost == pytest.approx(22.5, rel=1e-12)
    expected = sample_information(belief, horizon, more_units=100)
    assert best.value == pytest.approx(expected, rel=1e-12)
    assert best.gain < 0  # EVSI below its cost: nothing to wait for
    # with 100,000 units to decide on, the same week pays
    many = Horizon(units=100_000.0, persistence=1.0, cost_factor=1.0, fixed_cost=0.0)
    best = waiting(belief, many, pace, periods=4, shrinking=False)
    assert best.gain > 0


def test_units_of_the_test_are_lost_to_a_horizon_that_is_the_test() -> None:
    belief = Belief(MARGIN_ONLY, prior_sd=0.2, units=100)
    horizon = Horizon(units=300.0, persistence=1.0, cost_factor=1.0, fixed_cost=0.0)
    pace = Pace(units=100.0, treated=50.0, entering=100.0, running_cost=0.0)
    kept = waiting(belief, horizon, pace, periods=3, shrinking=False)
    lost = waiting(belief, horizon, pace, periods=3, shrinking=True)
    assert lost.gain < kept.gain
    with pytest.raises(ValueError, match="no period left"):
        waiting(belief, horizon, pace, periods=0, shrinking=True)


def test_predictive_success_at_one_look_by_hand() -> None:
    # Spiegelhalter et al. (2004), predictive power of one final look: with n doubled the final
    # estimate is normal around (x + posterior mean) / 2 with variance (v + posterior variance) / 4
    belief = Belief(MARGIN_ONLY, prior_sd=0.2, units=100)
    mean, variance = (0.1 + 0.05) / 2, (0.04 + 0.02) / 4
    expected = stats.norm.sf(1.96 * math.sqrt(0.02), mean, math.sqrt(variance))
    found = predictive_success(belief, ONE, savings=0.0, units=[200], multipliers=[1.96])
    assert found == pytest.approx(expected, abs=1e-9)


def test_predictive_success_over_looks_agrees_with_simulated_futures() -> None:
    # margin and cost correlated, fixed cost and savings, three looks; five standard errors
    belief = Belief(BOTH, prior_sd=0.4, units=1000)
    horizon = Horizon(units=100.0, persistence=0.9, cost_factor=1.0, fixed_cost=12.0)
    units, multipliers, draws = [1500, 2500, 4000], [2.6, 2.4, 2.2], 200_000
    rng, now = np.random.default_rng(3), belief.now()
    root = np.linalg.cholesky(
        np.array([[now.var_margin, now.covariance], [now.covariance, now.var_cost]])
    )
    truth = np.array([now.margin, now.cost]) + rng.normal(size=(draws, 2)) @ root.T
    sampling = np.linalg.cholesky(
        1000 * np.array([[BOTH.var_margin, BOTH.covariance], [BOTH.covariance, BOTH.var_cost]])
    )
    total = np.tile([BOTH.margin * 1000, BOTH.cost * 1000], (draws, 1))
    passed, before = np.zeros(draws, dtype=bool), 1000
    weight = np.array([0.9, -1.0])
    for count, multiplier in zip(units, multipliers, strict=True):
        fresh = rng.normal(size=(draws, 2)) @ sampling.T * math.sqrt(count - before)
        total += truth * (count - before) + fresh
        error = math.sqrt(weight @ sampling @ sampling.T @ weight / count)
        estimate = total @ weight / count
        passed |= estimate + (5.0 - 12.0) / 100 - multiplier * error > 0
        before = count
    found = predictive_success(belief, horizon, savings=5.0, units=units, multipliers=multipliers)
    share = passed.mean()
    assert found == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / draws))


def test_bad_looks_are_refused() -> None:
    belief = Belief(MARGIN_ONLY, prior_sd=0.2, units=100)
    assert predictive_success(belief, ONE, savings=0.0, units=[], multipliers=[]) == 0.0
    for units, multipliers in (([100], [2.0]), ([200, 200], [2.0, 2.0]), ([200], [])):
        with pytest.raises(ValueError, match="one multiplier each"):
            predictive_success(belief, ONE, savings=0.0, units=units, multipliers=multipliers)
    with pytest.raises(ValueError, match="0 units"):
        Belief(MARGIN_ONLY, prior_sd=None, units=0)


def test_a_net_benefit_without_variance_is_decided() -> None:
    sure = Effect(margin=1.0, cost=0.0, var_margin=0.0, var_cost=0.0, covariance=0.0)
    belief = Belief(sure, prior_sd=None, units=10)
    found = predictive_success(belief, ONE, savings=0.0, units=[20], multipliers=[2.0])
    assert found == 1.0
    assert sample_information(belief, ONE, more_units=10) == 0.0
