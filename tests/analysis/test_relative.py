"""Relative lifts: the log ratio, Fieller's set for weak means, and what has no percentage."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from klartext.analysis.estimate import Interval, NotEstimable, Unbounded
from klartext.analysis.moments import Sample
from klartext.analysis.relative import WEAK, fieller, lift, log_ratio


def of_mean(mean: float, std_error: float, n: int = 100) -> Sample:
    return Sample(n, mean, std_error**2 * n * (n - 1), 0.0)


def test_log_ratio_by_hand() -> None:
    value, interval = log_ratio(of_mean(12, 0.36), of_mean(10, 0.4), multiplier=2.0, level=0.95)
    assert value == pytest.approx(0.2, rel=1e-15)
    assert isinstance(interval, Interval)
    spread = math.exp(2 * 0.05)  # relative errors 3 % and 4 %: 5 %
    assert interval.lower == pytest.approx(1.2 / spread - 1, rel=1e-13)
    assert interval.upper == pytest.approx(1.2 * spread - 1, rel=1e-13)


@pytest.mark.golden("scipy 1.17: stats.contingency.relative_risk")
def test_log_ratio_of_counts_equals_scipy() -> None:
    # scipy.stats.contingency.relative_risk uses Katz's log interval
    expected = stats.contingency.relative_risk(267, 21_307, 122, 21_306)
    interval = expected.confidence_interval(0.95)
    samples = [
        Sample(n, x / n, x / n * (1 - x / n) * (n - 1), 0.0)
        for x, n in ((267, 21_307), (122, 21_306))
    ]
    z = 1.959963984540054
    value, found = log_ratio(samples[0], samples[1], multiplier=z, level=0.95)
    assert value == pytest.approx(expected.relative_risk - 1, rel=1e-12)
    assert isinstance(found, Interval)
    assert (found.lower, found.upper) == pytest.approx(
        (interval.low - 1, interval.high - 1), rel=1e-9
    )


@pytest.mark.golden("statsmodels 0.15: confint_proportions_2indep(compare='ratio', method='log')")
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("counts", [(267, 21_307, 122, 21_306), (50, 100, 40, 120), (9, 10, 8, 11)])
def test_log_ratio_of_counts_equals_statsmodels(
    counts: tuple[int, int, int, int], alpha: float
) -> None:
    x, n, y, m = counts
    expected = confint_proportions_2indep(
        x, n, y, m, compare="ratio", method="log", alpha=alpha, correction=False
    )
    samples = [
        Sample(size, k / size, k / size * (1 - k / size) * (size - 1), 0.0)
        for k, size in ((x, n), (y, m))
    ]
    z = float(stats.norm.isf(alpha / 2))
    _, found = log_ratio(samples[0], samples[1], multiplier=z, level=1 - alpha)
    assert isinstance(found, Interval)
    assert (found.lower, found.upper) == pytest.approx((expected[0] - 1, expected[1] - 1), rel=1e-9)


def test_fieller_shifts_the_ratio_by_one() -> None:
    value, found = fieller(of_mean(3, 0), of_mean(4, 1), multiplier=2.0, level=0.95)
    assert value == pytest.approx(-0.25)
    assert isinstance(found, Interval)
    assert (found.lower, found.upper) == pytest.approx((-0.5, 0.5), rel=1e-14)
    value, weak = fieller(of_mean(3, 0), of_mean(1, 1), multiplier=2.0, level=0.95)
    assert value == 2
    assert isinstance(weak, Unbounded)
    assert weak.shape == "rays"
    assert weak.bounds == pytest.approx((-4, 0), abs=1e-14)


def test_lift_chooses_by_the_weaker_mean() -> None:
    strong, weak = of_mean(10, 10 / (WEAK + 1)), of_mean(10, 10 / (WEAK - 1))
    for treatment, control, method in (
        (strong, strong, log_ratio),
        (strong, weak, fieller),
        (weak, strong, fieller),
        (of_mean(-10, 0.1), strong, fieller),
    ):
        chosen = lift(treatment, control, multiplier=1.96, level=0.95)
        assert chosen == method(treatment, control, multiplier=1.96, level=0.95)


def test_no_percentage_of_nothing() -> None:
    good = of_mean(10, 1)
    for mean in (0.0, -3.0):
        for method in (log_ratio, fieller, lift):
            value, region = method(good, of_mean(mean, 1), multiplier=1.96, level=0.95)
            assert isinstance(value, NotEstimable)
            assert isinstance(region, NotEstimable)
            assert value.reason == region.reason == "non-positive-mean"
        value, _ = log_ratio(of_mean(mean, 1), good, multiplier=1.96, level=0.95)
        assert isinstance(value, NotEstimable)
        value, region = lift(of_mean(mean, 1), good, multiplier=1.96, level=0.95)
        assert value == pytest.approx(mean / 10 - 1)
        assert isinstance(region, Interval)
    value, region = log_ratio(Sample(1, 2, 0, 0), good, multiplier=1.96, level=0.95)
    assert isinstance(region, NotEstimable)
    assert region.reason == "too-few-units"


def test_an_end_beyond_every_number_is_a_reason() -> None:
    value, region = log_ratio(of_mean(1, 1), of_mean(1e-3, 1), multiplier=3.0, level=0.95)
    assert value == pytest.approx(999)
    assert isinstance(region, NotEstimable)
    assert region.reason == "not-finite"


@pytest.mark.parametrize("strengths", [(10, 10), (10, 30), (30, 10)])
def test_at_the_border_the_log_ratio_covers(strengths: tuple[int, int]) -> None:
    # 20,000 replications: standard error 0.0015 of 95 %; 1.5 points for the expansion in a tail
    rng = np.random.default_rng(40)
    truth = strengths[0] / strengths[1]
    means = rng.standard_normal((20_000, 2)) + strengths
    above = below = 0
    for one, other in means:
        if one <= 0 or other <= 0:
            above += 1
            continue
        _, region = log_ratio(of_mean(one, 1), of_mean(other, 1), multiplier=1.96, level=0.95)
        assert isinstance(region, Interval)
        above += region.lower + 1 > truth
        below += region.upper + 1 < truth
    assert above / 20_000 == pytest.approx(0.025, abs=0.015)
    assert below / 20_000 == pytest.approx(0.025, abs=0.015)
    assert 1 - (above + below) / 20_000 == pytest.approx(0.95, abs=0.01)
