"""Contrasts: equal to Welch and to the anytime mean, joint delta and Fieller, and properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from klartext.analysis import adjustment, contrast, ratio_metrics, relative
from klartext.analysis.contrast import Contrast, Source
from klartext.analysis.estimate import Estimate, Interval, NotEstimable, Unbounded
from klartext.analysis.means import welch
from klartext.analysis.moments import Moments, Sample
from klartext.analysis.ratio_metrics import Ratio
from klartext.analysis.sequential import mixture


def close(one: Estimate | NotEstimable, other: Estimate | NotEstimable) -> None:
    """Two estimates are the same but for rounding."""
    assert isinstance(one, Estimate)
    assert isinstance(other, Estimate)
    assert (one.method, one.valid_for_look) == (other.method, other.valid_for_look)
    assert (one.n, one.baseline_n) == (other.n, other.baseline_n)
    for name in ("value", "std_error", "p_value", "relative"):
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(b, NotEstimable):
            assert a.reason == b.reason
        else:
            assert a == pytest.approx(b, rel=1e-10, abs=1e-300), name
    for a, b in (
        (one.interval, other.interval),
        (one.relative_interval, other.relative_interval),
    ):
        assert type(a) is type(b)
        if isinstance(a, Interval) and isinstance(b, Interval):
            # a width cancels against the value, so compare in units of the larger end
            size = max(abs(b.lower), abs(b.upper))
            assert (a.lower, a.upper) == pytest.approx((b.lower, b.upper), abs=1e-10 * size)
            assert a.level == b.level
        if isinstance(a, Unbounded) and isinstance(b, Unbounded):
            assert a.shape == b.shape
            assert a.bounds == pytest.approx(b.bounds, rel=1e-7)


sizes = st.integers(2, 10**6)
variances = st.floats(1e-3, 1e3)
means = st.floats(-100, 100).map(lambda x: round(x, 3))


@given(sizes, sizes, means, means, variances, variances, st.sampled_from([0.001, 0.05, 0.3]))
def test_fixed_contrast_of_means_is_welch(
    n: int, m: int, mean: float, base: float, var: float, base_var: float, alpha: float
) -> None:
    one = Sample(n, mean, var * (n - 1), 0.0)
    other = Sample(m, base, base_var * (m - 1), 0.0)
    found = contrast.fixed(contrast.of_means(one, other), alpha=alpha, single_look=True)
    close(found, welch(one, other, alpha=alpha, single_look=True))


@given(st.integers(2, 10**6), means, means, variances, variances)
def test_anytime_contrast_of_means_is_the_anytime_mean(
    n: int, mean: float, base: float, var: float, base_var: float
) -> None:
    one = Sample(n, mean, var * (n - 1), 0.0)
    other = Sample(n, base, base_var * (n - 1), 0.0)
    found = contrast.anytime(
        contrast.of_means(one, other), alpha=0.05, planned_n=50_000, burn_in=None
    )
    expected = mixture.anytime(one, other, alpha=0.05, planned_n=50_000, nonzero=(100, 100))
    close(found, expected)


def joint(value: float = 12.0, base: float = 10.0, cov: float = 0.3) -> Contrast:
    """Two correlated levels with known error."""
    return Contrast("lin", value, base, (Source(0.5, 0.4, cov, math.inf),), 500, 400)


def test_by_hand() -> None:
    # 12 - 10, variance 0.5 - 0.6 + 0.4 = 0.3; ln ratio: 0.5/144 - 0.6/120 + 0.4/100 = 0.00247222
    found = contrast.fixed(joint(), alpha=0.05, single_look=False)
    assert isinstance(found, Estimate)
    assert found.value == 2
    assert found.std_error == pytest.approx(math.sqrt(0.3), rel=1e-12)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(2 / math.sqrt(0.3)), rel=1e-12)
    assert not found.valid_for_look
    assert found.relative == pytest.approx(0.2, rel=1e-12)
    reach = math.exp(1.959963984540054 * math.sqrt(0.5 / 144 - 0.6 / 120 + 0.4 / 100))
    assert isinstance(found.relative_interval, Interval)
    ends = (found.relative_interval.lower, found.relative_interval.upper)
    assert ends == pytest.approx((1.2 / reach - 1, 1.2 * reach - 1), rel=1e-12)


def test_degrees_of_freedom_by_hand() -> None:
    # variances 1 (4 df) and 2 (10 df): 9 / (1/4 + 4/10) = 13.846154
    parts = (Source(1.0, 0.0, 0.0, 4), Source(0.0, 2.0, 0.0, 10))
    assert Contrast("x", 1, 0, parts, 5, 11).df == pytest.approx(9 / 0.65, rel=1e-14)
    # twice the control: 1 and 8: 81 / (1/4 + 64/10)
    assert Contrast("x", 1, 0, parts, 5, 11).times_control(2).df == pytest.approx(81 / 6.65)
    assert joint().df == math.inf


def test_a_weak_level_gives_fieller() -> None:
    weak = Contrast("lin", 2.0, 3.0, (Source(0.5, 0.4, 0.1, math.inf),), 50, 40)
    found = contrast.fixed(weak, alpha=0.05, single_look=True)
    assert isinstance(found, Estimate)
    expected = contrast.fieller(weak, multiplier=1.959963984540054, level=0.95)
    assert isinstance(found.relative_interval, Interval)
    assert isinstance(expected[1], Interval)
    assert found.relative_interval.lower == pytest.approx(expected[1].lower, rel=1e-12)


@pytest.mark.parametrize("multiplier", [1.96, 3.04])
def test_fieller_holds_exactly_the_ratios_that_are_not_rejected(multiplier: float) -> None:
    subject = joint(cov=0.44)
    _, region = contrast.fieller(subject, multiplier=multiplier, level=0.9)
    assert isinstance(region, Interval)
    for ratio in np.linspace(0.7, 1.9, 400):
        moved = subject.times_control(float(ratio))
        inside = abs(moved.value) <= multiplier * moved.std_error
        assert inside == (region.lower + 1 <= ratio <= region.upper + 1)


def test_group_sequential_boundary() -> None:
    found = contrast.at_boundary(
        joint(), multiplier=2.797, level=0.95, p_value=0.03, valid_for_look=True
    )
    assert isinstance(found, Estimate)
    assert isinstance(found.interval, Interval)
    assert found.interval.lower == pytest.approx(2 - 2.797 * math.sqrt(0.3), rel=1e-12)
    assert found.p_value == 0.03
    _, region = contrast.fieller(joint(), multiplier=2.797, level=0.95)
    assert found.relative_interval == region
    none = NotEstimable("unplanned-look", "no boundary")
    other = contrast.at_boundary(
        joint(), multiplier=3, level=0.95, p_value=none, valid_for_look=False
    )
    assert isinstance(other, Estimate)
    assert other.p_value is none


def test_scaling_scales_and_swapping_flips() -> None:
    plain = contrast.fixed(joint(), alpha=0.05, single_look=True)
    source = Source(0.4, 0.5, 0.3, math.inf)
    swapped = contrast.fixed(
        Contrast("lin", 10, 12, (source,), 400, 500), alpha=0.05, single_look=True
    )
    source = Source(0.5e6, 0.4e6, 0.3e6, math.inf)
    scaled = contrast.fixed(
        Contrast("lin", 12e3, 10e3, (source,), 500, 400), alpha=0.05, single_look=True
    )
    assert isinstance(plain, Estimate)
    assert isinstance(swapped, Estimate)
    assert isinstance(scaled, Estimate)
    assert swapped.value == -plain.value
    assert swapped.p_value == pytest.approx(plain.p_value, rel=1e-12)
    assert isinstance(plain.relative, float)
    assert swapped.relative == pytest.approx(1 / (1 + plain.relative) - 1, rel=1e-12)
    assert scaled.value == pytest.approx(1e3 * plain.value, rel=1e-12)
    assert scaled.relative == pytest.approx(plain.relative, rel=1e-12)
    assert scaled.p_value == pytest.approx(plain.p_value, rel=1e-12)


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        (Contrast("x", 1, 0, (Source(math.nan, 0, 0, 5),), 6, 6), "not-finite"),
        (Contrast("x", math.inf, 0, (Source(1, 0, 0, 5),), 6, 6), "not-finite"),
        (Contrast("x", 1, 0, (Source(1, 1, 1, 5),), 6, 6), "no-variance"),
        (Contrast("x", 1, 0, (Source(1, 1, 2, 5),), 6, 6), "invalid-moments"),
        (Contrast("x", 1, 0, (), 6, 6), "no-variance"),
        (NotEstimable("too-few-units", "one unit"), "too-few-units"),
        (contrast.of_means(Sample(1, 1, 0, 0), Sample(9, 1, 1, 0)), "too-few-units"),
        (contrast.of_means(Sample(9, 1, 0, 0), Sample(9, 1, 0, 0)), "no-variance"),
    ],
)
def test_degenerate_contrasts_have_a_reason(subject: Contrast | NotEstimable, reason: str) -> None:
    for found in (
        contrast.fixed(subject, alpha=0.05, single_look=True),
        contrast.anytime(subject, alpha=0.05, planned_n=100, burn_in=None),
        contrast.at_boundary(subject, multiplier=2, level=0.95, p_value=0.1, valid_for_look=True),
    ):
        assert isinstance(found, NotEstimable)
        assert found.reason == reason


def test_burn_in_is_handed_through_and_losses_have_no_percentage() -> None:
    gate = NotEstimable("burn-in", "a variant has 3 outcomes so far")
    assert contrast.anytime(joint(), alpha=0.05, planned_n=100, burn_in=gate) is gate
    loss = Contrast("x", 1, -2, (Source(1, 1, 0, 5),), 6, 6)
    found = contrast.fixed(loss, alpha=0.05, single_look=True)
    assert isinstance(found, Estimate)
    assert isinstance(found.relative, NotEstimable)
    assert isinstance(found.relative_interval, NotEstimable)
    with pytest.raises(ValueError, match="alpha"):
        contrast.fixed(loss, alpha=1.5, single_look=True)


def test_merged_moments_give_the_pooled_contrast() -> None:
    rng = np.random.default_rng(4)
    rows = rng.gamma(2.0, size=(900, 1))
    other = Moments.of(("x",), rng.gamma(2.0, size=(500, 1))).sample("x")
    merged = Moments.of(("x",), rows[:13]) + Moments.of(("x",), rows[13:])
    shuffled = Moments.of(("x",), rng.permutation(rows))
    close(
        contrast.fixed(contrast.of_means(merged.sample("x"), other), alpha=0.05, single_look=True),
        contrast.fixed(
            contrast.of_means(shuffled.sample("x"), other), alpha=0.05, single_look=True
        ),
    )
    lift = relative.lift(merged.sample("x"), other, multiplier=1.9, level=0.9)[0]
    assert isinstance(lift, float)


@pytest.mark.golden("scipy 1.17: stats.t.isf")
@pytest.mark.parametrize(("df", "tail"), [(3.0, 0.025), (50.0, 0.005), (math.inf, 0.025)])
def test_student_quantile(df: float, tail: float) -> None:
    # scipy.stats.t and norm
    assert contrast.student(df, tail=tail) == pytest.approx(stats.t.isf(tail, df), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ratio", "lin", "cuped"])
def test_false_alarms_of_adjusted_contrasts_over_thirty_looks(kind: str) -> None:
    # no effect on the outcome, skewed and correlated columns, split 70/30, 30 looks: 400 paths,
    # standard error at 5 % 0.011; the fixed interval at every look fails beside it
    rng = np.random.default_rng(120)
    columns = ("y", "z", "x")
    alarms = peeked = 0
    for _ in range(400):
        sides = [Moments.of(columns, np.empty((0, 3)))] * 2
        crossed = fixed = False
        for _ in range(30):
            for place, size in enumerate((140, 60)):
                x, z = rng.gamma(1.5, 1.0, size), rng.gamma(3.0, 1.0, size)
                rows = np.column_stack([z * rng.gamma(2.0, 1.0, size) + 2 * x, z + x, x])
                sides[place] = sides[place] + Moments.of(columns, rows)
            subject: Contrast | NotEstimable
            if kind == "ratio":
                subject = ratio_metrics.difference(sides[0], sides[1], Ratio("y", "z"))
            else:
                adjust = adjustment.lin if kind == "lin" else adjustment.cuped
                result = adjust(sides[0], sides[1], "y", ["x"])
                assert not isinstance(result, NotEstimable)
                subject = result.contrast
            now = contrast.anytime(subject, alpha=0.05, planned_n=6000, burn_in=None)
            single = contrast.fixed(subject, alpha=0.05, single_look=False)
            crossed, fixed = crossed or _excludes(now), fixed or _excludes(single)
        alarms, peeked = alarms + crossed, peeked + fixed
    assert alarms / 400 <= 0.05
    assert peeked / 400 > 0.15


def _excludes(estimate: Estimate | NotEstimable) -> bool:
    assert isinstance(estimate, Estimate)
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.lower > 0 or estimate.interval.upper < 0
