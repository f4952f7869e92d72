"""The normal-inverse-gamma posterior of a mean: by hand, against scipy, merged, degenerate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from klartext.analysis.bayes.student import (
    REFERENCE,
    NormalInverseGamma,
    StudentPosterior,
    level,
)
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments, Sample
from tests.analysis.bayes.families import column

IMAGINED = NormalInverseGamma(10.0, 2.0, 3.0, 4.0)


@pytest.mark.golden("Student (1908): sleep, drug 2 less drug 1")
def test_reference_prior_gives_the_classical_interval() -> None:
    # Student (1908), "The probable error of a mean", the additional hours of sleep with drug 2
    # less drug 1: scipy.stats.ttest_1samp gives 0.700 to 2.460
    hours = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    found = level(column(hours), prior=REFERENCE)
    assert isinstance(found, StudentPosterior)
    reference = stats.ttest_1samp(hours, 0).confidence_interval(0.95)
    interval = found.interval(0.95)
    assert interval.lower == pytest.approx(reference.low, rel=1e-12)
    assert interval.upper == pytest.approx(reference.high, rel=1e-12)
    assert round(interval.lower, 3) == 0.700
    assert round(interval.upper, 3) == 2.460


def test_update_by_hand() -> None:
    # y = 12, 16 (mean 14, m2 8) on a prior worth two units of 10 with shape 3, scale 4:
    # strength 4, mean 10 + 4 · 2/4 = 12, shape 4, scale 4 + 8/2 + 2 · 2 · 16 / (2 · 4) = 16
    after = IMAGINED.updated(column([12, 16]))
    assert after == NormalInverseGamma(12.0, 4.0, 4.0, 16.0)
    assert after.marginal() == StudentPosterior(8.0, 12.0, 1.0)


def test_posterior_equals_prior_times_likelihood() -> None:
    # the marginal density of the mean from its definition, by scipy.integrate over the variance
    rows = [9.0, 13.5, 12.0]
    found = level(column(rows), prior=IMAGINED)
    assert isinstance(found, StudentPosterior)

    def joint(variance: float, mean: float) -> float:
        return float(
            variance**-4.0  # inverse gamma with shape 3 and scale 4, up to a constant
            * math.exp(-4 / variance)
            * variance ** (-(1 + len(rows)) / 2)
            * math.exp(-((mean - 10) ** 2) / variance)  # worth two units
            * math.exp(-sum((row - mean) ** 2 for row in rows) / (2 * variance))
        )

    def marginal(mean: float) -> float:
        def by_log_variance(log_variance: float) -> float:
            return joint(math.exp(log_variance), mean) * math.exp(log_variance)

        return float(integrate.quad(by_log_variance, -4, 9, epsabs=0, epsrel=1e-9)[0])

    whole, _ = integrate.quad(marginal, 11.3 - 25, 11.3 + 25, points=[11.3], epsrel=1e-7)
    for mean in (8.0, 11.0, 14.0):
        expected = stats.t.pdf(mean, found.df, found.location, found.scale)
        assert marginal(mean) / whole == pytest.approx(expected, rel=1e-6)


finite = st.lists(st.floats(-100, 100), min_size=1, max_size=20)


@given(finite, finite)
def test_updating_twice_is_updating_with_the_merged_sample(
    one: list[float], other: list[float]
) -> None:
    first, second = (Moments.of(("x",), np.array(rows).reshape(-1, 1)) for rows in (one, other))
    twice = IMAGINED.updated(first.sample("x")).updated(second.sample("x"))
    merged = IMAGINED.updated((first + second).sample("x"))
    swapped = IMAGINED.updated(second.sample("x")).updated(first.sample("x"))
    for name in ("mean", "strength", "shape", "scale"):
        assert getattr(twice, name) == pytest.approx(getattr(merged, name), rel=1e-9, abs=1e-9)
        assert getattr(twice, name) == pytest.approx(getattr(swapped, name), rel=1e-9, abs=1e-9)


@pytest.mark.golden("scipy 1.17: stats.t")
@given(st.floats(2, 1e6), st.floats(-100, 100), st.floats(0.01, 10), st.floats(1e-6, 0.4))
def test_quantiles_and_tails_agree_with_scipy(
    df: float, location: float, scale: float, p: float
) -> None:
    posterior, reference = StudentPosterior(df, location, scale), stats.t(df, location, scale)
    tail = np.array([p])
    lower, upper = posterior.quantiles(tail)[0], posterior.upper_quantiles(tail)[0]
    assert lower == pytest.approx(reference.ppf(p), rel=1e-7, abs=1e-9 * scale)
    assert upper == pytest.approx(reference.isf(p), rel=1e-7, abs=1e-9 * scale)
    points = posterior.cuts()
    below, above = posterior.tails(points)
    assert below == pytest.approx(reference.cdf(points.value), rel=1e-6)
    assert above == pytest.approx(reference.sf(points.value), rel=1e-6)
    expected = reference.logpdf(points.value) - reference.logpdf(location)
    assert posterior.log_density(points.value) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert posterior.sd == pytest.approx(reference.std(), rel=1e-9)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(0, 0.0, 0.0, 0.0), "no-units"),
        (Sample(1, 5.0, 0.0, 0.0), "no-variance"),
        (Sample(2, 5.0, 1.0, 0.0), "too-few-units"),
        (Sample(9, 5.0, 0.0, 0.0), "no-variance"),
        (Sample(9, 5.0, -1.0, 0.0), "invalid-moments"),
        (Sample(9, math.inf, 1.0, 0.0), "not-finite"),
        (Sample(9, 5.0, math.nan, 0.0), "not-finite"),
    ],
)
def test_refuses_with_a_reason(sample: Sample, reason: str) -> None:
    found = level(sample, prior=REFERENCE)
    assert isinstance(found, NotEstimable)
    assert found.reason == reason
    assert found.detail


def test_a_proper_prior_needs_neither_variance_nor_units() -> None:
    assert isinstance(level(Sample(1, 5.0, 0.0, 0.0), prior=IMAGINED), StudentPosterior)
    assert isinstance(level(Sample(9, 5.0, 0.0, 0.0), prior=IMAGINED), StudentPosterior)


def test_impossible_posteriors_raise() -> None:
    for df, location, scale in ((1.0, 0.0, 1.0), (5.0, math.nan, 1.0), (5.0, 0.0, 0.0)):
        with pytest.raises(ValueError, match="t\\("):
            StudentPosterior(df, location, scale)


def test_two_degrees_of_freedom_have_no_sd() -> None:
    assert StudentPosterior(2.0, 0.0, 1.0).sd == math.inf
