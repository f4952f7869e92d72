"""Margins against scipy's one-sided Welch, statsmodels, hand numbers, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep
from statsmodels.stats.weightstats import ttost_ind

from klartext.analysis import contrast, noninferiority
from klartext.analysis.contrast import Contrast, Source
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import FloatArray, Moments, Sample
from klartext.analysis.noninferiority import Margin, MarginTest
from klartext.analysis.sequential import mixture

RNG = np.random.default_rng(12)
ONE, BASE = RNG.gamma(3.0, 4.0, 60), RNG.gamma(3.0, 4.2, 45)


def sample(values: FloatArray) -> Sample:
    return Moments.of(("x",), values.reshape(-1, 1)).sample("x")


def fixed(margin: Margin, alpha: float = 0.025, scale: float = 1.0) -> MarginTest:
    subject = contrast.of_means(sample(scale * ONE), sample(scale * BASE))
    result = noninferiority.fixed(subject, margin, alpha=alpha, single_look=True)
    assert isinstance(result, MarginTest)
    return result


@pytest.mark.golden("scipy 1.17: stats.ttest_ind, Welch, one-sided")
@pytest.mark.parametrize("amount", [0.0, 1.5, 4.0])
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_absolute_margin_equals_scipy(amount: float, alpha: float) -> None:
    # scipy.stats.ttest_ind, Welch, one-sided, with the margin added to one variant
    result = fixed(Margin(amount, relative=False, better="higher"), alpha)
    expected = stats.ttest_ind(ONE + amount, BASE, equal_var=False, alternative="greater")
    low = expected.confidence_interval(1 - alpha).low
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert result.bound == pytest.approx(low, rel=1e-9)
    assert result.passed == (expected.pvalue < alpha)
    lower = fixed(Margin(amount, relative=False, better="lower"), alpha)
    expected = stats.ttest_ind(BASE + amount, ONE, equal_var=False, alternative="greater")
    assert lower.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert lower.bound == pytest.approx(expected.confidence_interval(1 - alpha).low, rel=1e-9)


@pytest.mark.golden("scipy 1.17: stats.ttest_ind, Welch, one-sided")
@pytest.mark.parametrize("amount", [0.1, 0.25])
def test_relative_margin_equals_scipy(amount: float) -> None:
    # T - (1 - m) C is a Welch comparison with the control times (1 - m)
    result = fixed(Margin(amount, relative=True, better="higher"))
    expected = stats.ttest_ind(ONE, (1 - amount) * BASE, equal_var=False, alternative="greater")
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert result.bound == pytest.approx(expected.confidence_interval(0.975).low, rel=1e-9)
    lower = fixed(Margin(amount, relative=True, better="lower"))
    expected = stats.ttest_ind((1 + amount) * BASE, ONE, equal_var=False, alternative="greater")
    assert lower.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert lower.bound == pytest.approx(expected.confidence_interval(0.975).low, rel=1e-9)


@pytest.mark.golden("statsmodels 0.15: ttost_ind(usevar='unequal')")
def test_two_one_sided_tests_equal_statsmodels() -> None:
    # statsmodels ttost_ind with limits ± 3, unequal variances: the two non-inferiority tests
    overall, low, high = ttost_ind(ONE, BASE, -3, 3, usevar="unequal")
    upper = fixed(Margin(3.0, relative=False, better="higher"))
    lower = fixed(Margin(3.0, relative=False, better="lower"))
    assert upper.p_value == pytest.approx(low[1], rel=1e-9)
    assert lower.p_value == pytest.approx(high[1], rel=1e-9)
    assert max(upper.p_value, lower.p_value) == pytest.approx(overall, rel=1e-9)


def test_by_hand_with_correlated_levels() -> None:
    # T 9.8, C 10, variances 0.04 and 0.04, covariance 0.03. Margin 5 %: 9.8 - 9.5 = 0.3,
    # variance 0.04 - 2·0.95·0.03 + 0.9025·0.04 = 0.0191, z 2.17072
    subject = Contrast("lin", 9.8, 10.0, (Source(0.04, 0.04, 0.03, math.inf),), 100, 100)
    result = noninferiority.fixed(
        subject, Margin(0.05, relative=True, better="higher"), alpha=0.025, single_look=True
    )
    assert isinstance(result, MarginTest)
    assert result.slack == pytest.approx(0.3)
    assert result.std_error == pytest.approx(math.sqrt(0.0191))
    assert result.p_value == pytest.approx(stats.norm.sf(0.3 / math.sqrt(0.0191)), rel=1e-9)
    assert result.passed


@pytest.mark.golden("statsmodels 0.15: confint_proportions_2indep(method='newcomb')")
@pytest.mark.parametrize(
    ("x", "n", "y", "m"), [(7, 900, 9, 850), (0, 300, 2, 310), (50, 50, 48, 50)]
)
def test_newcombe_equals_statsmodels(x: int, n: int, y: int, m: int) -> None:
    # statsmodels confint_proportions_2indep, "newcomb", at twice the one-sided error
    one, base = sample(np.repeat([1.0, 0.0], [x, n - x])), sample(np.repeat([1.0, 0.0], [y, m - y]))
    low, high = confint_proportions_2indep(x, n, y, m, method="newcomb", alpha=0.05)
    for better, worst in (("higher", low), ("lower", -high)):
        result = noninferiority.newcombe(
            one,
            base,
            Margin(0.02, relative=False, better=better),  # type: ignore[arg-type] # of two words
            alpha=0.025,
            single_look=True,
        )
        assert isinstance(result, MarginTest)
        assert result.bound == pytest.approx(worst + 0.02, rel=1e-8, abs=1e-12)
        assert result.passed == (result.p_value < 0.025)


def test_newcombe_p_value_and_bound_agree() -> None:
    one, base = sample(np.repeat([1.0, 0.0], [30, 970])), sample(np.repeat([1.0, 0.0], [25, 975]))
    margin = Margin(0.02, relative=False, better="lower")
    result = noninferiority.newcombe(one, base, margin, alpha=0.025, single_look=True)
    assert isinstance(result, MarginTest)
    at = noninferiority.newcombe(one, base, margin, alpha=result.p_value, single_look=True)
    assert isinstance(at, MarginTest)
    assert at.bound == pytest.approx(0, abs=1e-9)
    outside = noninferiority.newcombe(
        one, base, Margin(0.0, relative=False, better="lower"), alpha=0.025, single_look=True
    )
    assert isinstance(outside, MarginTest)
    assert outside.p_value == 1


def test_anytime_bound_and_p_value_agree() -> None:
    subject = contrast.of_means(sample(ONE), sample(BASE))
    margin = Margin(3.0, relative=False, better="higher")
    result = noninferiority.anytime(subject, margin, alpha=0.025, planned_n=200, burn_in=None)
    assert isinstance(result, MarginTest)
    width = mixture.multiplier_one_sided(105, 200, alpha=0.025)
    assert result.bound == pytest.approx(result.slack - width * result.std_error, rel=1e-12)
    assert result.method == "anytime"
    for alpha in (0.001, 0.025, 0.2):
        width = mixture.multiplier_one_sided(105, 200, alpha=alpha)
        p = noninferiority.one_sided_p_value(width, 105, 200, alpha=alpha)
        assert p == pytest.approx(alpha, rel=1e-10)
    assert noninferiority.one_sided_p_value(-1.0, 105, 200, alpha=0.025) == 1
    assert 0 < noninferiority.one_sided_p_value(1e6, 105, 200, alpha=0.025) < 1e-300


def test_scale_does_not_matter_and_sides_mirror() -> None:
    margin = Margin(0.1, relative=True, better="higher")
    assert fixed(margin, scale=1e3).p_value == pytest.approx(fixed(margin).p_value, rel=1e-9)
    # without a margin the two directions share the test
    higher = fixed(Margin(0, relative=False, better="higher"))
    lower = fixed(Margin(0, relative=False, better="lower"))
    assert higher.p_value + lower.p_value == pytest.approx(1, rel=1e-12)
    assert higher.slack == -lower.slack
    two_sided = stats.ttest_ind(ONE, BASE, equal_var=False).pvalue
    assert 2 * min(higher.p_value, lower.p_value) == pytest.approx(two_sided, rel=1e-9)


def test_degenerate_input_has_a_reason() -> None:
    relative = Margin(0.1, relative=True, better="higher")
    loss = Contrast("x", 1, -2, (Source(1, 1, 0, 5),), 6, 6)
    flat = contrast.of_means(Sample(5, 1, 0, 0), Sample(5, 1, 0, 0))
    short = contrast.of_means(Sample(1, 1, 0, 0), Sample(5, 1, 1, 0))
    known = Contrast("x", 1, 2, (Source(1, 1, 1, 5),), 6, 6)
    gate = NotEstimable("burn-in", "too early")
    for subject, reason in (
        (loss, "non-positive-mean"),
        (flat, "no-variance"),
        (short, "too-few-units"),
    ):
        for refused in (
            noninferiority.fixed(subject, relative, alpha=0.05, single_look=True),
            noninferiority.anytime(subject, relative, alpha=0.05, planned_n=9, burn_in=None),
        ):
            assert isinstance(refused, NotEstimable)
            assert refused.reason == reason
    absolute = Margin(0.1, relative=False, better="lower")
    refused = noninferiority.fixed(known, absolute, alpha=0.05, single_look=True)
    assert isinstance(refused, NotEstimable)
    ok = contrast.of_means(sample(ONE), sample(BASE))
    assert noninferiority.anytime(ok, absolute, alpha=0.05, planned_n=9, burn_in=gate) is gate
    empty = noninferiority.newcombe(
        Sample(0, math.nan, math.nan, 0),
        Sample(5, 0.2, 0.8, 0),
        absolute,
        alpha=0.05,
        single_look=True,
    )
    assert isinstance(empty, NotEstimable)
    assert empty.reason == "no-units"


def test_mistakes_of_the_caller_raise() -> None:
    subject = contrast.of_means(sample(ONE), sample(BASE))
    margin = Margin(0.1, relative=True, better="higher")
    with pytest.raises(ValueError, match="alpha"):
        noninferiority.fixed(subject, margin, alpha=0.5, single_look=True)
    with pytest.raises(ValueError, match="absolute"):
        noninferiority.newcombe(sample(ONE), sample(BASE), margin, alpha=0.05, single_look=True)
    for amount in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="margin"):
            Margin(amount, relative=False, better="higher")
    with pytest.raises(ValueError, match="margin"):
        Margin(1.0, relative=True, better="lower")


def test_false_passes_at_the_margin() -> None:
    # the truth lies on the margin (relative 10 %, unequal variances): 4,000 replications of
    # one-sided 2.5 %, standard error 0.0025; the anytime bound errs less
    rng = np.random.default_rng(18)
    margin = Margin(0.1, relative=True, better="higher")
    passes = anytime = 0
    for _ in range(4000):
        subject = contrast.of_means(
            sample(rng.normal(9.0, 1.0, 40)), sample(rng.normal(10.0, 3.0, 80))
        )
        result = noninferiority.fixed(subject, margin, alpha=0.025, single_look=True)
        other = noninferiority.anytime(subject, margin, alpha=0.025, planned_n=120, burn_in=None)
        assert isinstance(result, MarginTest)
        assert isinstance(other, MarginTest)
        passes += result.passed
        anytime += other.passed
    assert passes / 4000 == pytest.approx(0.025, abs=4 * 0.0025)
    assert anytime / 4000 < 0.01


def test_one_sided_anytime_p_over_fifty_looks() -> None:
    # exact Brownian sums without effect, 20,000 paths: P(p is ever <= 5 %) at most 5 %
    steps = np.random.default_rng(51).standard_normal((20_000, 50))
    looks = np.arange(1, 51)
    z = (steps.cumsum(axis=1) / np.sqrt(looks)).max(axis=0)
    widths = [mixture.multiplier_one_sided(int(200 * k), 10_000, alpha=0.05) for k in looks]
    paths = steps.cumsum(axis=1) / np.sqrt(looks)
    assert (paths > np.array(widths)).any(axis=1).mean() <= 0.05
    assert z.max() > widths[-1]
