"""Beta posteriors against scipy, by hand, and at extreme counts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from klartext.analysis.bayes.beta import JEFFREYS, UNIFORM, BetaPosterior, rate
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Sample
from tests.analysis.bayes.families import ones

NAN, INF = math.nan, math.inf


def test_by_hand() -> None:
    # 3 of 10 with the uniform prior: Beta(4, 8), mean 4/12, variance 32 / (144 · 13)
    found = rate(ones(10, 3), prior=UNIFORM)
    assert found == BetaPosterior(4.0, 8.0)
    assert isinstance(found, BetaPosterior)
    assert found.mean == pytest.approx(1 / 3, rel=1e-15)
    assert found.sd == pytest.approx(math.sqrt(32 / (144 * 13)), rel=1e-14)


def test_interval_of_nothing_in_ten() -> None:
    # 0 of 10 with the uniform prior: Beta(1, 11), F(x) = 1 - (1 - x)^11
    found = BetaPosterior.of(trials=10, successes=0).interval(0.95)
    assert found.lower == pytest.approx(1 - 0.975 ** (1 / 11), rel=1e-13)
    assert found.upper == pytest.approx(1 - 0.025 ** (1 / 11), rel=1e-13)
    assert found.level == 0.95


@pytest.mark.golden("Brown, Cai, DasGupta (2001), table 5")
def test_jeffreys_interval_is_published() -> None:
    # Brown, Cai, DasGupta (2001), "Interval estimation for a binomial proportion", Statist. Sci.
    # 16, table 5: n = 10, x = 2, 95 % Jeffreys interval 0.044 to 0.503
    found = rate(ones(10, 2), prior=JEFFREYS)
    assert isinstance(found, BetaPosterior)
    interval = found.interval(0.95)
    assert round(interval.lower, 3) == 0.044
    assert round(interval.upper, 3) == 0.503


@pytest.mark.golden("scipy 1.17: stats.beta")
@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.floats(1e-4, 0.5))
@settings(max_examples=40)
def test_quantiles_and_density_agree_with_scipy(a: float, b: float, p: float) -> None:
    posterior, reference = BetaPosterior(a, b), stats.beta(a, b)
    tail = np.array([p])
    assert posterior.quantiles(tail)[0] == pytest.approx(reference.ppf(p), rel=1e-8)
    assert posterior.upper_quantiles(tail)[0] == pytest.approx(reference.isf(p), rel=1e-8)
    points = posterior.cuts()
    below, above = posterior.tails(points)
    from_one = special.betainc(b, a, points.rest)  # digits of x near 1 are in the rest
    expected = np.where(points.value < 0.5, special.betainc(a, b, points.value), 1 - from_one)
    assert below == pytest.approx(expected, rel=1e-9)
    assert below + above == pytest.approx(np.ones(len(below)), abs=1e-15)


@pytest.mark.golden("scipy 1.17: stats.beta.logpdf")
def test_density_of_the_logit_agrees_with_scipy() -> None:
    # f(x) x (1 - x) by scipy.stats.beta.logpdf, relative to its value at the mean
    for a, b in ((0.5, 0.5), (1, 1), (4, 8), (40, 8000), (0.5, 3000), (1e5, 2e5)):
        posterior = BetaPosterior(a, b)
        z = posterior.coordinates(posterior.cuts())
        x, mean = special.expit(z), posterior.mean
        reference = stats.beta(a, b).logpdf(np.array([*x, mean])) + np.log(
            np.array([*(x * special.expit(-z)), mean * (1 - mean)])
        )
        inside = x < 1 - 1e-9  # beyond, the reference has no digits of 1 - x
        expected = (reference[:-1] - reference[-1])[inside]
        assert posterior.log_density(z)[inside] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_levels_near_one_keep_their_digits() -> None:
    # every one of 10^15: the rate of failures has the posterior of no success in 10^15
    n = 10**15
    all_converted = BetaPosterior.of(trials=n, successes=n)
    none = BetaPosterior.of(trials=n, successes=0)
    assert all_converted.cuts().rest[::-1] == pytest.approx(none.cuts().value, rel=1e-12)
    assert all_converted.cuts().rest[-1] == pytest.approx(1e-16 / n, rel=1e-9)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(0, 0.0, 0.0, 0.0), "no-units"),
        (Sample(10, NAN, 1.0, 0.0), "not-finite"),
        (Sample(10, 0.5, INF, 0.0), "not-finite"),
        (Sample(10, 0.5, 7.0, 0.0), "not-a-proportion"),
        (Sample(10, 1.5, 2.5, 0.0), "not-a-proportion"),
        (Sample(10, -0.5, 2.5, 0.0), "not-a-proportion"),
        (Sample(10, 0.55, 10 * 0.55 * 0.45, 0.0), "not-a-proportion"),  # 5.5 successes
    ],
)
def test_refuses_with_a_reason(sample: Sample, reason: str) -> None:
    found = rate(sample, prior=UNIFORM)
    assert isinstance(found, NotEstimable)
    assert found.reason == reason
    assert found.detail


def test_one_unit_and_all_converted_are_no_obstacle() -> None:
    assert rate(ones(1, 1), prior=UNIFORM) == BetaPosterior(2.0, 1.0)
    assert rate(ones(50, 50), prior=JEFFREYS) == BetaPosterior(50.5, 0.5)


@given(st.integers(0, 1000), st.integers(0, 1000), st.data())
def test_order_of_updates_does_not_matter(n: int, m: int, data: st.DataObject) -> None:
    k, h = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    one = JEFFREYS.updated(trials=n, successes=k).updated(trials=m, successes=h)
    assert one == JEFFREYS.updated(trials=m, successes=h).updated(trials=n, successes=k)
    assert one == JEFFREYS.updated(trials=n + m, successes=k + h)


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 0.05), (-1, 1), (NAN, 1), (1, INF)])
def test_impossible_parameters_raise(a: float, b: float) -> None:
    with pytest.raises(ValueError, match="Beta"):
        BetaPosterior(a, b)


@pytest.mark.parametrize(("trials", "successes"), [(3, 4), (-1, 0), (3, -1)])
def test_impossible_counts_raise(trials: int, successes: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        UNIFORM.updated(trials=trials, successes=successes)
