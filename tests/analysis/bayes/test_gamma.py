"""Gamma posteriors of counts against scipy, by hand, and where Poisson does not hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from klartext.analysis.bayes.gamma import JEFFREYS, GammaPosterior, count
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments, Sample
from tests.analysis.bayes.families import column


def test_by_hand() -> None:
    # counts 0 1 3, variance 7/3 over mean 4/3, too few units to doubt Poisson:
    # Gamma(4.5, 3), mean 1.5, variance 0.5
    found = count(column([0, 1, 3]), prior=JEFFREYS)
    assert found == GammaPosterior(4.5, 3.0)
    assert isinstance(found, GammaPosterior)
    assert found.mean == 1.5
    assert found.sd == pytest.approx(math.sqrt(0.5), rel=1e-15)


@pytest.mark.golden("Gelman et al. (2013), section 2.6")
def test_published_example() -> None:
    # Gelman et al. (2013), "Bayesian Data Analysis", 3rd ed., section 2.6: 3 deaths in 200,000,
    # prior Gamma(3, 5) per 100,000: posterior Gamma(6, 7), mean 0.86; after ten years at that
    # rate, 30 deaths in 20: Gamma(33, 25), mean 1.32
    prior = GammaPosterior(3, 5)
    assert round(prior.updated(units=2, events=3).mean, 2) == 0.86
    assert prior.updated(units=20, events=30).mean == pytest.approx(1.32, abs=1e-12)


@pytest.mark.golden("scipy 1.17: stats.gamma")
@given(st.floats(0.1, 1e9), st.floats(1e-3, 1e9), st.floats(1e-4, 0.5))
def test_quantiles_and_tails_agree_with_scipy(shape: float, rate: float, p: float) -> None:
    posterior, reference = GammaPosterior(shape, rate), stats.gamma(shape, scale=1 / rate)
    tail = np.array([p])
    interval = posterior.interval(1 - 2 * p)
    assert interval.lower == pytest.approx(reference.ppf(p), rel=1e-8)
    assert interval.upper == pytest.approx(reference.isf(p), rel=1e-8)
    assert posterior.quantiles(tail)[0] == pytest.approx(reference.ppf(p), rel=1e-9)
    points = posterior.points(posterior.coordinates(posterior.cuts())[2:-2])
    below, above = posterior.tails(points)
    assert below == pytest.approx(reference.cdf(points.value), rel=1e-5)
    assert above == pytest.approx(reference.sf(points.value), rel=1e-5)


@pytest.mark.golden("mpmath 1.3 at 40 digits (golden/gamma_tails.py)")
@pytest.mark.parametrize(
    ("shape", "z", "below"),
    [
        # mpmath 1.3, 40 digits: integral of exp(-a (exp(t) - 1 - t)) to log(1 + z / sqrt(a))
        # over the whole integral; script: tests/analysis/golden/gamma_tails.py
        (1e05, -8, 3.589990441365e-16),
        (1e05, -6, 7.834876460449e-10),
        (1e05, -2, 0.02257912822001),
        (1e05, 1, 0.8413451484483),
        (1e05, 4, 0.9999661618836),
        (1e07, -8, 5.893732333612e-16),
        (1e07, -6, 9.643931796038e-10),
        (1e07, -2, 0.02273305580654),
        (1e07, 1, 0.8413447501005),
        (1e07, 4, 0.9999681166495),
        (1e09, -8, 6.1874935119e-16),
        (1e09, -6, 9.843482805854e-10),
        (1e09, -2, 0.02274842457695),
        (1e09, 1, 0.8413447461088),
        (1e09, 4, 0.9999683075927),
    ],
)
def test_large_shapes_keep_their_tails(shape: float, z: float, below: float) -> None:
    posterior = GammaPosterior(shape, 1.0)
    point = posterior.points(np.log(np.array([shape + z * math.sqrt(shape)])))
    found, above = posterior.tails(point)
    assert found[0] == pytest.approx(below, rel=1e-7)
    assert found[0] + above[0] == pytest.approx(1, abs=1e-14)


@pytest.mark.golden("scipy 1.17: stats.gamma.logpdf")
def test_density_of_the_logarithm_agrees_with_scipy() -> None:
    for shape, rate in ((0.5, 3.0), (1.0, 1.0), (30.5, 1e4), (2e6, 7.0)):
        posterior = GammaPosterior(shape, rate)
        z = posterior.coordinates(posterior.cuts())
        x = np.append(np.exp(z), posterior.mean)
        reference = stats.gamma(shape, scale=1 / rate).logpdf(x) + np.log(x)
        expected = reference[:-1] - reference[-1]
        assert posterior.log_density(z) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(0, 0.0, 0.0, 0.0), "no-units"),
        (Sample(10, math.nan, 1.0, 0.0), "not-finite"),
        (Sample(10, 1.0, math.inf, 0.0), "not-finite"),
        (Sample(10, -1.0, 10.0, 0.0), "not-a-count"),
        (Sample(10, 1.0, -10.0, 0.0), "not-a-count"),
        (Sample(10, 1.23, 11.0, 0.0), "not-a-count"),  # 12.3 events
        (Sample(1000, 2.0, 4 * 999.0, 0.0), "overdispersed"),
        (Sample(1000, 2.0, 999.0, 0.0), "underdispersed"),
    ],
)
def test_refuses_with_a_reason(sample: Sample, reason: str) -> None:
    found = count(sample, prior=JEFFREYS)
    assert isinstance(found, NotEstimable)
    assert found.reason == reason
    assert found.detail


def test_no_event_and_one_unit_are_no_obstacle() -> None:
    assert count(column([0, 0, 0, 0]), prior=JEFFREYS) == GammaPosterior(0.5, 4.0)
    assert count(column([7]), prior=JEFFREYS) == GammaPosterior(7.5, 1.0)


def test_poisson_columns_are_not_refused() -> None:
    # 2,000 Poisson columns; the check refuses beyond four standard errors and 10 %
    rng = np.random.default_rng(91)
    refused = 0
    for _ in range(2000):
        rows = rng.poisson(rng.choice([0.02, 0.5, 3.0]), size=(int(rng.integers(2, 2000)), 1))
        sample = Moments.of(("x",), rows.astype(np.float64)).sample("x")
        refused += isinstance(count(sample, prior=JEFFREYS), NotEstimable)
    assert refused <= 10  # a skewed statistic: a few more than the 0.1 of the normal table


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(0, 99), st.integers(0, 99))
def test_order_of_updates_does_not_matter(n: int, m: int, k: int, h: int) -> None:
    one = JEFFREYS.updated(units=n, events=k).updated(units=m, events=h)
    assert one == JEFFREYS.updated(units=m, events=h).updated(units=n, events=k)
    assert one == JEFFREYS.updated(units=n + m, events=k + h)


def test_impossible_parameters_and_counts_raise() -> None:
    for shape, rate in ((0.0, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="Gamma"):
            GammaPosterior(shape, rate)
    for units, events in ((-1, 0), (1, -1), (0, 1)):
        with pytest.raises(ValueError, match="events"):
            JEFFREYS.updated(units=units, events=events)
