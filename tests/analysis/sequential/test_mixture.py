"""Confidence sequences: formula, dualities, false alarms under peeking, and the burn-in gate."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize

from klartext.analysis import ratios
from klartext.analysis.estimate import (
    ConfidenceSet,
    Estimate,
    Interval,
    NotEstimable,
    Unbounded,
)
from klartext.analysis.means import difference
from klartext.analysis.moments import FloatArray, Moments, Sample
from klartext.analysis.sequential import mixture
from tests.analysis.golden.units import COLUMNS, rows

ALPHA = 0.05
units = st.integers(1, 10**8)
levels = st.floats(1e-6, 0.4)


def test_by_hand() -> None:
    # a 5 %: -2 ln a = 5.991465, ln 6.991465 = 1.944691, n/g = 7.936155 at the planned end,
    # sqrt((1 + 1/7.936155)(ln 8.936155 + 5.991465)) = sqrt(1.126005 · 8.181570) = 3.035209,
    # 1.5486 times 1.96
    found = mixture.multiplier(5000, 5000, alpha=ALPHA)
    assert found == pytest.approx(3.035209, abs=1e-6)
    # one-sided at 2.5 %: the same g; 2 ln(1 + sqrt(8.936155)/0.05) = 2 ln 60.78678
    expected = math.sqrt(1.126005 * 2 * math.log(1 + math.sqrt(8.936155) / 0.05))
    found = mixture.multiplier_one_sided(5000, 5000, alpha=ALPHA / 2)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.golden("confseq, test/uniform_boundaries_unittest.cpp: two-sided normal mixture")
def test_equals_confseq() -> None:
    # "from a reference implementation in R": v_opt 100, alpha 5 %, at v 100 and s 10. rho is g;
    # ln M(10) is negative, a p-value above 1, so it is read where M is large: at the bound it
    # is ln 20, and below it ln M grows by (s^2 - 10^2) / (2 (v + rho))
    rho, bound, log_m = 12.60056, 30.35209, -0.6510052
    assert 100 / mixture._elapsed(100, 100, ALPHA) == pytest.approx(rho, abs=1e-5)
    assert 10 * mixture.multiplier(100, 100, alpha=ALPHA) == pytest.approx(bound, abs=1e-5)
    for s in (20.0, bound):
        expected = log_m + (s * s - 100) / (2 * (100 + rho))
        found = mixture.p_value(s / 10, 100, 100, alpha=ALPHA)
        assert -math.log(found) == pytest.approx(expected, abs=2e-6)


@pytest.mark.golden("gbstats 0.8.0: SequentialTwoSidedTTest")
@pytest.mark.parametrize(
    ("planned", "p_value", "lower", "upper"),
    [
        (2_000, 0.1594810265637584, -0.6495553560517369, 8.867078936499412),
        (5_500, 0.12712432734098997, -0.5678661070133346, 8.78538968746101),
        (100_000, 0.40686523139590713, -2.936888515390793, 11.154412095838468),
    ],
)
def test_equals_gbstats(planned: int, p_value: float, lower: float, upper: float) -> None:
    # golden/with_gbstats.py: revenue of 3,000 and 2,500 units
    one, base = (
        Moments.of(COLUMNS, rows(*a)).sample("revenue")
        for a in ((3000, 1, 1.05), (2500, 50_000, 1.0))
    )
    found = mixture.anytime(one, base, alpha=ALPHA, planned_n=planned, nonzero=(3000, 2500))
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(4.108761790223838, rel=1e-11)
    assert found.p_value == pytest.approx(p_value, rel=1e-9)
    assert isinstance(found.interval, Interval)
    assert (found.interval.lower, found.interval.upper) == pytest.approx((lower, upper), rel=1e-9)


@given(units, units, levels, st.floats(1e-6, 1e6))
def test_variance_clock_equals_unit_clock_when_variance_grows_like_n(
    n: int, planned: int, alpha: float, per_unit: float
) -> None:
    se = math.sqrt(per_unit / n)
    expected = se * mixture.multiplier(n, planned, alpha=alpha)
    clock = n * n * se * se
    found = mixture.half_width(clock, per_unit * planned, n, alpha=alpha)
    assert found == pytest.approx(expected, rel=1e-12)
    # and equals the formula as it is written in the design
    e = per_unit * planned / (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha)))
    written = math.sqrt((clock + e) * math.log((clock + e) / (e * alpha**2))) / n
    assert found == pytest.approx(written, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2])
def test_narrowest_near_the_planned_end(alpha: float) -> None:
    # minimise the width over the planned size numerically: the closed form is one step away
    n = 10_000
    best = optimize.minimize_scalar(
        lambda log_plan: mixture.multiplier(n, round(math.exp(log_plan)), alpha=alpha),
        bounds=(math.log(n / 30), math.log(n * 30)),
        method="bounded",
    )
    assert mixture.multiplier(n, n, alpha=alpha) <= best.fun * 1.002


@given(units, units, st.floats(-30, 30), levels)
def test_p_value_and_interval_agree(n: int, planned: int, z: float, alpha: float) -> None:
    p = mixture.p_value(z, n, planned, alpha=alpha)
    width = mixture.multiplier(n, planned, alpha=alpha)
    assert 0 < p <= 1
    assert mixture.p_value(-z, n, planned, alpha=alpha) == p
    if abs(abs(z) - width) > 1e-9 * width:
        assert (abs(z) > width) == (p < alpha)
    assert mixture.p_value(width, n, planned, alpha=alpha) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize("z", [0.0, 1.3, 4.0])
def test_p_value_is_one_over_the_mixture(z: float) -> None:
    # numerical integral of the likelihood ratio over the normal mixing density
    n, planned = 4000, 10_000
    g = planned / (-2 * math.log(ALPHA) + math.log(1 - 2 * math.log(ALPHA)))
    s = z * math.sqrt(n)
    mixed, _ = integrate.quad(
        lambda x: math.exp(x * s - x * x * n / 2 - x * x * g / 2) * math.sqrt(g / (2 * math.pi)),
        -1,
        1,
        points=[0, s / (n + g)],
        epsabs=0,
        epsrel=1e-10,
    )
    expected = min(1, 1 / mixed)
    assert mixture.p_value(z, n, planned, alpha=ALPHA) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("alpha", [0.01, 0.025, 0.05])
def test_one_sided_bound_is_conservative_and_close_to_the_mixture(alpha: float) -> None:
    # the exact boundary solves 2 sqrt(g/(n+g)) exp(u^2/2) Phi(u) = 1/a, u = z sqrt(n/(n+g))
    for n in (10, 1000, 10_000, 10**6):
        planned = 10_000
        tail = -2 * math.log(2 * alpha)
        g = planned / (tail + math.log1p(tail))
        shrink = math.sqrt(n / (n + g))

        def excess(z: float, shrink: float = shrink, ratio: float = g / (n + g)) -> float:
            u = z * shrink
            phi = 0.5 * math.erfc(-u / math.sqrt(2))
            return 2 * math.sqrt(ratio) * math.exp(u * u / 2) * phi - 1 / alpha

        exact = optimize.brentq(excess, 0, 20 / shrink)
        found = mixture.multiplier_one_sided(n, planned, alpha=alpha)
        assert exact <= found <= exact * 1.12


def test_tiny_p_values_are_bounds() -> None:
    assert mixture.p_value(1e4, 10**6, 10**6, alpha=ALPHA) == sys.float_info.min
    assert mixture.p_value(0, 1, 10**6, alpha=ALPHA) == 1


def test_mistakes_of_the_caller_raise() -> None:
    for n, planned, alpha in ((0, 5, 0.05), (5, 0, 0.05), (5, 5, 0.0), (5, 5, 1.0)):
        with pytest.raises(ValueError, match="must"):
            mixture.multiplier(n, planned, alpha=alpha)
    with pytest.raises(ValueError, match="one-sided"):
        mixture.multiplier_one_sided(5, 5, alpha=0.5)


LOOKS = 50


def brownian(replications: int, per_look: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Standardised sums ``(replications, LOOKS)`` of normal data without effect, and n."""
    steps = np.random.default_rng(seed).standard_normal((replications, LOOKS))
    n = per_look * np.arange(1, LOOKS + 1, dtype=float)
    return steps.cumsum(axis=1) / np.sqrt(np.arange(1, LOOKS + 1)), n


def test_false_alarms_over_fifty_looks() -> None:
    # exact Brownian sums, so that the boundary is valid without asymptotics; with 20,000 paths
    # the standard error at 5 % is 0.0015. Fixed intervals err in about a third of the paths.
    z, n = brownian(20_000, 200, 50)
    end = int(n[-1])
    width = np.array([mixture.multiplier(int(k), end, alpha=ALPHA) for k in n])
    one_sided = np.array([mixture.multiplier_one_sided(int(k), end, alpha=ALPHA) for k in n])
    assert (np.abs(z) > width).any(axis=1).mean() <= 0.05
    assert (np.abs(z) > width).any(axis=1).mean() == pytest.approx(0.016, abs=0.006)
    assert (z > one_sided).any(axis=1).mean() <= 0.05
    assert (np.abs(z) > 1.96).any(axis=1).mean() == pytest.approx(0.33, abs=0.03)


@pytest.mark.parametrize("planned_share", [0.02, 1.0, 30.0])
def test_anytime_p_value_is_valid_at_every_level(planned_share: float) -> None:
    # g stays that of the registered alpha and any plan, right or wrong, while the p-value is
    # read at other levels; 4 standard errors of 4,000 paths
    z, n = brownian(4000, 200, 51)
    planned = int(n[-1] * planned_share)
    smallest = np.array(
        [
            min(
                mixture.p_value(x, int(k), planned, alpha=ALPHA)
                for x, k in zip(path, n, strict=True)
            )
            for path in z
        ]
    )
    for level in (0.01, 0.05, 0.1, 0.2, 0.5):
        tolerance = 4 * math.sqrt(level * (1 - level) / 4000)
        assert (smallest <= level).mean() <= level + tolerance


def estimated(
    treatment: Sample, control: Sample, planned_n: int, nonzero: tuple[int, int] = (500, 500)
) -> Estimate:
    found = mixture.anytime(treatment, control, alpha=ALPHA, planned_n=planned_n, nonzero=nonzero)
    assert isinstance(found, Estimate)
    return found


def test_relative_set_is_the_inversion_of_the_sequence() -> None:
    treatment = Sample(4000, 1.3, 4000 * 9.0, 0.0)
    control = Sample(5000, 1.0, 5000 * 8.0, 0.0)
    result = estimated(treatment, control, 20_000)
    width = mixture.multiplier(9000, 20_000, alpha=ALPHA)
    region = result.relative_interval
    assert isinstance(region, Interval)
    assert result.relative == pytest.approx(0.3)
    for lift in np.linspace(-0.9, 3, 2000):
        r = 1 + lift
        contrast = treatment.mean - r * control.mean
        se = math.sqrt(treatment.variance_of_mean + r * r * control.variance_of_mean)
        assert (abs(contrast) <= width * se) == (region.lower <= lift <= region.upper)
    # zero is in the one exactly when it is in the other
    assert isinstance(result.interval, Interval)
    assert (result.interval.lower <= 0) == (region.lower <= 0)


def test_ratio_sets_hold_at_every_look_at_once() -> None:
    # margin M and cost K per unit, correlated, ROI of 50 %: {r : 0 in CS(M - (1+r) K)} over 50
    # looks of 200 units a variant; the bound is alpha, but for 3 standard errors of 1,000 paths
    rng = np.random.default_rng(54)
    paths, step = 1000, 200
    sd_m, sd_k, correlation = 6.0, 2.0, 0.5
    steps = rng.standard_normal((paths, LOOKS, 2)).cumsum(axis=1)
    n = 2 * step * np.arange(1, LOOKS + 1)
    se = np.sqrt(4 / n)  # of a difference of two variants of n/2 units, in sd
    noise = steps / np.sqrt(np.arange(1, LOOKS + 1))[:, None] * se[:, None]
    margin = 0.6 + sd_m * noise[..., 0]
    mixed = correlation * noise[..., 0] + math.sqrt(1 - correlation**2) * noise[..., 1]
    cost = 0.4 + sd_k * mixed
    width = [mixture.multiplier(int(k), int(n[-1]), alpha=ALPHA) for k in n]
    errs = 0
    for one, other in zip(margin, cost, strict=True):
        for look in range(LOOKS):
            region = ratios.fieller(
                one[look],
                other[look],
                (sd_m * se[look]) ** 2,
                (sd_k * se[look]) ** 2,
                correlation * sd_m * sd_k * se[look] ** 2,
                multiplier=width[look],
                level=1 - ALPHA,
            )
            if not covers(region, 1.5):
                errs += 1
                break
    assert errs / paths <= ALPHA


def covers(region: ConfidenceSet, r: float) -> bool:
    match region:
        case Interval(lower, upper, _):
            return lower <= r <= upper
        case Unbounded("rays", (lower, upper), _):
            return not lower < r < upper
        case Unbounded("line", _, _):
            return True
    raise AssertionError(region)


def test_a_weak_control_gives_an_unbounded_lift() -> None:
    result = estimated(
        Sample(4000, 5.0, 4000 * 9.0, 0.0), Sample(4000, 0.05, 4000 * 9.0, 0.0), 8000
    )
    assert isinstance(result.relative_interval, Unbounded)
    assert isinstance(result.interval, Interval)
    assert result.valid_for_look


def test_burn_in_counts_outcomes() -> None:
    one = Sample(4000, 1.0, 4000.0, 0.0)
    for nonzero, refused in (((99, 500), True), ((500, 99), True), ((100, 100), False)):
        found = mixture.anytime(one, one, alpha=ALPHA, planned_n=8000, nonzero=nonzero)
        assert isinstance(found, NotEstimable) is refused
        if isinstance(found, NotEstimable):
            assert found.reason == "burn-in"


def test_burn_in_looks_at_the_skewness_of_the_difference() -> None:
    # equal sizes; skewness of the treatment's mean g / sqrt(n), divided by 2^1.5 for the control
    def refused(skewness: float, n: int) -> bool:
        skewed, still = Sample(n, 1.0, float(n), skewness * n), Sample(n, 1.0, float(n), 0.0)
        return mixture.burn_in(skewed, still, nonzero=(500, 500)) is not None

    edge = 0.3 * 2**1.5
    assert not refused(edge * 0.99 * 10, 100)
    assert refused(edge * 1.03 * 10, 100)  # the n - 1 in the standard error is 1.5 %
    assert not refused(edge * 0.999 * 100, 10_000)
    assert refused(edge * 1.001 * 100, 10_000)
    # equal skewness and size: the difference is symmetric
    twin = Sample(100, 1.0, 100.0, 50 * 100.0)
    assert mixture.burn_in(twin, twin, nonzero=(500, 500)) is None
    broken = Sample(100, 1.0, 100.0, math.nan)
    assert mixture.burn_in(broken, twin, nonzero=(500, 500)) is not None


def test_burn_in_skewness_equals_that_of_simulated_differences() -> None:
    # exponential outcomes: skewness 2, sd 1; analytic skewness of mean(20) - mean(80)
    n, m = 20, 80
    analytic = (2 / n**2 - 2 / m**2) / (1 / n + 1 / m) ** 1.5
    rng = np.random.default_rng(52)
    draws = rng.standard_gamma(n, 200_000) / n - rng.standard_gamma(m, 200_000) / m
    centred = draws - draws.mean()
    simulated = (centred**3).mean() / (centred**2).mean() ** 1.5
    assert simulated == pytest.approx(analytic, abs=0.025)
    treatment, control = (Sample(k, 1.0, k - 1.0, 2.0 * k) for k in (n, m))
    _, variance = difference(treatment, control)
    third = treatment.m3 / n**3 - control.m3 / m**3
    assert third / variance**1.5 == pytest.approx(analytic, rel=1e-12)


def test_degenerate_samples_come_before_the_burn_in() -> None:
    constant = Sample(9, 1.0, 0.0, 0.0)
    found = mixture.anytime(constant, constant, alpha=ALPHA, planned_n=50, nonzero=(0, 0))
    assert isinstance(found, NotEstimable)
    assert found.reason == "no-variance"


def sums(amounts: FloatArray) -> FloatArray:
    return np.array([amounts.sum(), (amounts**2).sum(), (amounts**3).sum()])


def sample(n: int, raw: FloatArray) -> Sample:
    s1, s2, s3 = map(float, raw)
    mean = s1 / n
    return Sample(n, mean, s2 - n * mean**2, s3 - 3 * mean * s2 + 2 * n * mean**3)


def test_sample_from_sums_is_right() -> None:
    values = np.random.default_rng(1).lognormal(size=300)
    direct = Moments.of(("x",), values[:, None]).sample("x")
    found = sample(300, sums(values))
    assert found.m2 == pytest.approx(direct.m2, rel=1e-9)
    assert found.m3 == pytest.approx(direct.m3, rel=1e-9)


def test_a_spared_small_variant_does_not_open_the_gate() -> None:
    # the treatment's own outcomes look symmetric, the control knows better: skewness 100 of
    # one unit gives 100 (1/1000^2 - 1/19000^2) / (1/1000 + 1/19000)^1.5 = 2.92 · 0.95
    treatment = Sample(1000, 1.0, 999.0, 0.0)
    control = Sample(19_000, 1.0, 18_999.0, 100.0 * 19_000)
    refused = mixture.burn_in(treatment, control, nonzero=(500, 500))
    assert refused is not None
    assert "2.77" in refused.detail


@pytest.mark.parametrize(("sigma", "paths"), [(1.0, 1000), (1.5, 500)])
def test_burn_in_keeps_false_alarms_down_for_rare_skewed_outcomes(sigma: float, paths: int) -> None:
    # 95/5 split, 2 % of units buy for a lognormal amount, no effect, 50 looks over 400,000
    # units: without the gate the sequence errs more than alpha, with it less
    rng = np.random.default_rng(53)
    step = (400, 7600)
    planned = sum(step) * LOOKS
    gated = ungated = read = 0
    for _ in range(paths):
        totals, nonzero = np.zeros((2, 3)), [0, 0]
        alarm = alarm_without = False
        for look in range(1, LOOKS + 1):
            for side in (0, 1):
                buyers = int(rng.binomial(step[side], 0.02))
                nonzero[side] += buyers
                totals[side] += sums(rng.lognormal(0.0, sigma, buyers))
            one, other = (sample(step[side] * look, totals[side]) for side in (0, 1))
            found = mixture.anytime(
                one, other, alpha=ALPHA, planned_n=planned, nonzero=(nonzero[0], nonzero[1])
            )
            value, variance = difference(one, other)
            width = mixture.multiplier(one.n + other.n, planned, alpha=ALPHA)
            outside = value**2 > width**2 * variance
            alarm_without |= outside
            if isinstance(found, Estimate):
                alarm |= outside
                read += 1
        gated += alarm
        ungated += alarm_without
    assert gated / paths <= ALPHA
    assert ungated / paths > ALPHA
    assert (read > 0.4 * paths * LOOKS) == (sigma == 1.0)  # it does open where it may
