"""The bivariate normal posterior against linear algebra, simulation and limits."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.posterior import Effect, Horizon, Normal, effect, net_benefit, roi, update

YEAR = Horizon(units=400_000, persistence=0.7, cost_factor=1.0, fixed_cost=9000)
SEEN = Effect(margin=0.12, cost=0.03, var_margin=0.0025, var_cost=0.0001, covariance=0.0002)


def test_effect_by_hand() -> None:
    # treatment margins 1 3, costs 0 1; control margins 0 1 2, costs 0 0 0
    columns = ("margin", "cost")
    treatment = Moments.of(columns, np.array([[1.0, 0.0], [3.0, 1.0]]))
    control = Moments.of(columns, np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]))
    found = effect(treatment, control, margin="margin", cost="cost")
    assert isinstance(found, Effect)
    assert found.margin == 1
    assert found.cost == 0.5
    assert found.var_margin == pytest.approx(2 / 2 + 1 / 3, rel=1e-15)
    assert found.var_cost == pytest.approx(0.5 / 2, rel=1e-15)
    assert found.covariance == pytest.approx(1 / 2, rel=1e-15)


def test_effect_is_the_covariance_of_simulated_differences() -> None:
    rng = np.random.default_rng(80)
    columns = ("margin", "cost")
    draws = []
    for _ in range(4000):
        cost = rng.gamma(2, 1, size=(30, 1))
        treatment = Moments.of(columns, np.hstack((0.8 * cost + rng.normal(size=(30, 1)), cost)))
        control = Moments.of(columns, np.hstack((rng.normal(size=(20, 1)), np.zeros((20, 1)))))
        one = effect(treatment, control, margin="margin", cost="cost")
        assert isinstance(one, Effect)
        draws.append((one.margin, one.cost, one.var_margin, one.var_cost, one.covariance))
    table = np.array(draws)
    sampled = np.cov(table[:, 0], table[:, 1])
    for found, truth in zip(table[:, 2:].mean(axis=0), sampled[[0, 1, 0], [0, 1, 1]], strict=True):
        assert found == pytest.approx(truth, rel=0.1)  # four standard errors of a covariance


def test_effect_refuses_with_a_reason() -> None:
    columns = ("margin", "cost")
    good = Moments.of(columns, np.array([[1.0, 0.0], [3.0, 1.0]]))
    still = Moments.of(columns, np.array([[1.0, 0.0], [1.0, 1.0]]))
    single = Moments.of(columns, np.array([[1.0, 0.0]]))
    broken = replace(good, mean=np.array([2.0, math.inf]))
    for one, other, reason in (
        (still, still, "no-variance"),
        (good, single, "too-few-units"),
        (good, broken, "not-finite"),
    ):
        found = effect(one, other, margin="margin", cost="cost")
        assert isinstance(found, NotEstimable)
        assert found.reason == reason


finite = st.floats(-100, 100)
sizes = st.floats(1e-3, 1e2)


@given(finite, finite, sizes, sizes, st.floats(-0.999, 0.999), sizes)
def test_update_equals_the_matrix_formula(
    margin: float, cost: float, sd_m: float, sd_k: float, correlation: float, prior_sd: float
) -> None:
    # (S^-1 + P)^-1 and its mean, P = diag(1/t^2, 0), with numpy
    cov = correlation * sd_m * sd_k
    sampling = np.array([[sd_m**2, cov], [cov, sd_k**2]])
    precision = np.linalg.inv(sampling)
    truth = np.linalg.inv(precision + np.diag([prior_sd**-2, 0]))
    centre = truth @ precision @ np.array([margin, cost])
    found = update(Effect(margin, cost, sd_m**2, sd_k**2, cov), prior_sd=prior_sd)
    size = max(abs(margin) + sd_m, abs(cost) + sd_k) * max(1, sd_k / sd_m)
    assert found.margin == pytest.approx(centre[0], rel=1e-6, abs=1e-6 * size)
    assert found.cost == pytest.approx(centre[1], rel=1e-6, abs=1e-6 * size)
    assert found.var_margin == pytest.approx(truth[0, 0], rel=1e-6)
    assert found.var_cost == pytest.approx(truth[1, 1], rel=1e-6)
    assert found.covariance == pytest.approx(truth[0, 1], rel=1e-6, abs=1e-6 * sd_m * sd_k)


def test_update_by_hand() -> None:
    # prior sd equal to the standard error: half the margin is kept, half its variance
    found = update(SEEN, prior_sd=0.05)
    assert found.margin == pytest.approx(0.06, rel=1e-14)
    assert found.var_margin == pytest.approx(0.00125, rel=1e-14)
    assert found.covariance == pytest.approx(0.0001, rel=1e-14)
    assert found.cost == pytest.approx(0.03 - 0.0002 * 0.12 / 0.005, rel=1e-13)
    assert found.var_cost == pytest.approx(0.0001 - 0.0002**2 / 0.005, rel=1e-13)


def test_limits_of_the_prior() -> None:
    assert update(SEEN, prior_sd=None) is SEEN
    wide = update(SEEN, prior_sd=1e8)
    for name in ("margin", "cost", "var_margin", "var_cost", "covariance"):
        assert getattr(wide, name) == pytest.approx(getattr(SEEN, name), rel=1e-12)
    narrow = update(SEEN, prior_sd=1e-6)
    assert narrow.margin == pytest.approx(0, abs=1e-9)
    # with the margin pinned at 0 the cost is its regression there
    assert narrow.cost == pytest.approx(0.03 - 0.0002 / 0.0025 * 0.12, rel=1e-8)
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="prior"):
            update(SEEN, prior_sd=bad)


@given(st.floats(1e-9, 1e9), st.sampled_from([-1.0, 1.0]), sizes, sizes)
def test_degenerate_costs_stay_proper(
    prior_sd: float, correlation: float, sd_m: float, sd_k: float
) -> None:
    perfect = Effect(1.0, 1.0, sd_m * sd_m, sd_k * sd_k, correlation * sd_m * sd_k)
    update(perfect, prior_sd=prior_sd)  # does not raise, also at a correlation of one
    fixed = update(Effect(1.0, 0.3, sd_m**2, 0.0, 0.0), prior_sd=prior_sd)
    assert (fixed.cost, fixed.var_cost, fixed.covariance) == (0.3, 0.0, 0.0)


def test_impossible_covariances_raise() -> None:
    for var_margin, var_cost, cov in ((-1, 1, 0), (1, -1, 0), (1, 1, 1.01), (math.nan, 1, 0)):
        with pytest.raises(ValueError, match="two quantities"):
            Effect(1, 1, var_margin, var_cost, cov)
    Effect(6.0, 2.0, 4.0, 0.0, 1e-18)  # rounding dust of a constant column


def test_net_benefit_by_hand() -> None:
    # 400,000 (0.7 · 0.12 - 0.03) - 9,000 = 12,600;
    # variance 400,000^2 (0.49 · 0.0025 - 2 · 0.7 · 0.0002 + 0.0001)
    found = net_benefit(SEEN, YEAR)
    assert found.mean == pytest.approx(12_600, rel=1e-12)
    assert found.sd == pytest.approx(400_000 * math.sqrt(0.001045), rel=1e-12)
    # hurdle 30 %: 33,600 - 1.3 (12,000 + 9,000)
    hurdle = net_benefit(SEEN, YEAR, hurdle_roi=0.3)
    assert hurdle.mean == pytest.approx(33_600 - 1.3 * 21_000, rel=1e-12)
    assert roi(SEEN, YEAR) == pytest.approx(12_600 / 21_000, rel=1e-12)


@pytest.mark.parametrize("prior_sd", [None, 0.03])
def test_money_against_simulation(prior_sd: float | None) -> None:
    # 10^6 draws of the bivariate posterior; four standard errors of each figure
    after = update(SEEN, prior_sd=prior_sd)
    rng = np.random.default_rng(81)
    matrix = [[after.var_margin, after.covariance], [after.covariance, after.var_cost]]
    dm, dk = rng.multivariate_normal((after.margin, after.cost), matrix, size=1_000_000).T
    gained, spent = 400_000 * 0.7 * dm, 400_000 * dk + 9000
    benefit = net_benefit(after, YEAR)
    for found, draws in (
        (benefit.mean, gained - spent),
        (benefit.probability_above(0), gained > spent),
        (
            net_benefit(after, YEAR, hurdle_roi=0.3).probability_at_least(0),
            gained >= 1.3 * spent,
        ),
        (benefit.expected_loss(), np.maximum(0, spent - gained)),
    ):
        assert found == pytest.approx(draws.mean(), abs=4 * draws.std() / 1000)
    assert benefit.sd == pytest.approx((gained - spent).std(), rel=4 / 1000)


@given(st.floats(-6, 6), st.floats(1e-3, 1e6))
def test_expected_loss_equals_its_integral(z: float, sd: float) -> None:
    integral, _ = integrate.quad(
        lambda x: x * math.exp(-((x + z) ** 2) / 2) / math.sqrt(2 * math.pi),
        0,
        max(0.0, -z) + 40,
        points=[max(0.0, -z), max(0.0, -z) + 2],
        epsrel=1e-11,
    )
    assert Normal(z * sd, sd).expected_loss() == pytest.approx(sd * integral, rel=1e-6)


@given(finite, sizes)
def test_expected_loss_of_acting_and_not_acting_differ_by_the_mean(mean: float, sd: float) -> None:
    loss, gain = Normal(mean, sd).expected_loss(), Normal(-mean, sd).expected_loss()
    assert gain - loss == pytest.approx(mean, rel=1e-9, abs=1e-9 * sd)
    assert loss >= 0


def test_far_tails() -> None:
    assert Normal(1e6, 1.0).expected_loss() == 0
    assert Normal(-1e6, 1.0).expected_loss() == pytest.approx(1e6)
    assert 0 < Normal(30.0, 1.0).expected_loss() < 1e-190
    assert Normal(-30.0, 1.0).probability_above(0) == pytest.approx(
        float(stats.norm.sf(30)), rel=1e-10
    )


def test_a_point_is_certain() -> None:
    zero, gain, loss = Normal(0.0, 0.0), Normal(5.0, 0.0), Normal(-5.0, 0.0)
    assert (zero.probability_above(0), zero.probability_at_least(0)) == (0, 1)
    assert (gain.probability_above(0), loss.probability_at_least(0)) == (1, 0)
    assert (gain.expected_loss(), loss.expected_loss()) == (0, 5)
    assert gain.interval(0.95).lower == gain.interval(0.95).upper == 5


def test_credible_interval() -> None:
    found = Normal(10.0, 2.0).interval(0.95)
    assert found.lower == pytest.approx(10 - 2 * 1.959963984540054, rel=1e-12)
    assert found.upper == pytest.approx(10 + 2 * 1.959963984540054, rel=1e-12)
    assert found.level == 0.95


def test_roi_needs_a_cost() -> None:
    free = Horizon(units=1000, persistence=1, cost_factor=1, fixed_cost=0)
    cheaper = Effect(0.1, -0.02, 0.01, 0.0, 0.0)
    found = roi(cheaper, free)
    assert isinstance(found, NotEstimable)
    assert found.reason == "no-cost"


def test_calibration_under_the_prior() -> None:
    # effects drawn from the prior, estimates around them: P(NB > 0) must be right on average
    # in every band, and 90 % credible intervals cover 90 % (20,000 draws, se 0.0021)
    rng = np.random.default_rng(82)
    matrix = np.array([[SEEN.var_margin, SEEN.covariance], [SEEN.covariance, SEEN.var_cost]])
    horizon = Horizon(units=1.0, persistence=1.0, cost_factor=0.0, fixed_cost=0.02)
    truth = rng.normal(0, 0.06, size=20_000)
    noise = rng.multivariate_normal((0, 0), matrix, size=20_000)
    said, came, covered = [], [], 0
    for true, (error_m, error_k) in zip(truth, noise, strict=True):
        seen = Effect(
            true + error_m, 0.03 + error_k, SEEN.var_margin, SEEN.var_cost, SEEN.covariance
        )
        money = net_benefit(update(seen, prior_sd=0.06), horizon)
        said.append(money.probability_above(0))
        came.append(true - 0.02 > 0)
        band = money.interval(0.9)
        covered += band.lower <= true - 0.02 <= band.upper
    assert covered / 20_000 == pytest.approx(0.9, abs=4 * 0.0021)
    chances, happened = np.array(said), np.array(came)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (chances >= low) & (chances < low + 0.2)
        error = 4 * 0.5 / math.sqrt(inside.sum())
        assert happened[inside].mean() == pytest.approx(chances[inside].mean(), abs=error)
