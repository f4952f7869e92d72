"""Repeated intervals and p-values: by hand, dual to the bounds, and in simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray, Sample
from klartext.analysis.sequential import group, mixture, repeated

SPENDING: tuple[group.Spending, ...] = ("obrien_fleming", "pocock")


def equal(looks: int) -> tuple[float, ...]:
    return tuple((k + 1) / looks for k in range(looks))


def design(
    spending: group.Spending = "obrien_fleming",
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0),
    *,
    alpha: float = 0.05,
    one_sided: bool = False,
) -> group.Design:
    return group.Design(spending, alpha, 1 if one_sided else 2, fractions)


def on_time(plan: group.Design, upto: int | None = None) -> tuple[group.Look, ...]:
    looks = tuple(group.Look(k + 1, t, t) for k, t in enumerate(plan.fractions))
    return looks[:upto]


@pytest.mark.parametrize("spending", SPENDING)
def test_one_look_is_the_fixed_test(spending: group.Spending) -> None:
    plan = design(spending, (1.0,))
    looks = on_time(plan)
    assert group.multipliers(plan, looks) == pytest.approx((1.959964,), abs=1e-6)
    assert group.inflation(plan, power=0.8) == pytest.approx(1, rel=1e-9)
    for z in (-2.4, 0.3, 1.0, 5.0):
        two_sided = 2 * stats.norm.sf(abs(z))
        assert repeated.p_value(z, design=plan, looks=looks) == pytest.approx(two_sided, rel=1e-7)
        assert repeated.stagewise_p_value(z, design=plan, looks=looks) == pytest.approx(
            two_sided, rel=1e-12
        )


TREATMENT = Sample(4000, 1.3, 4000 * 9.0, 0.0)
CONTROL = Sample(5000, 1.0, 5000 * 8.0, 0.0)


def estimated(plan: group.Design, upto: int) -> Estimate:
    looks = on_time(plan, upto)
    found = repeated.estimate(
        TREATMENT, CONTROL, design=plan, taken=looks[:-1], look=looks[-1], nonzero=(500, 500)
    )
    assert isinstance(found, Estimate)
    return found


@pytest.mark.parametrize("spending", SPENDING)
@pytest.mark.parametrize("upto", [1, 2, 3, 4])
def test_repeated_interval_by_hand(spending: group.Spending, upto: int) -> None:
    plan = design(spending)
    found = estimated(plan, upto)
    width = group.multipliers(plan, on_time(plan, upto))[-1]
    # m2 / (n (n - 1)): 36000 / (4000 · 3999) + 40000 / (5000 · 4999)
    std_error = math.sqrt(36_000 / (4000 * 3999) + 40_000 / (5000 * 4999))
    assert found.std_error == pytest.approx(std_error, rel=1e-12)
    assert isinstance(found.interval, Interval)
    assert found.interval.lower == pytest.approx(0.3 - width * std_error, rel=1e-12)
    assert found.interval.upper == pytest.approx(0.3 + width * std_error, rel=1e-12)
    assert found.interval.level == 0.95
    assert found.valid_for_look
    assert found.method == "group_sequential"
    # interval, relative set and p-value tell one story
    assert isinstance(found.relative_interval, Interval)
    excludes = found.interval.lower > 0
    assert (found.relative_interval.lower > 0) == excludes
    assert isinstance(found.p_value, float)
    assert (found.p_value < 0.05) == excludes
    r = 1 + found.relative_interval.upper
    contrast = TREATMENT.mean - r * CONTROL.mean
    edge = TREATMENT.variance_of_mean + r * r * CONTROL.variance_of_mean
    assert abs(contrast) == pytest.approx(width * math.sqrt(edge), rel=1e-9)


def test_swapping_variants_flips_signs() -> None:
    plan = design()
    one = estimated(plan, 3)
    other = repeated.estimate(
        CONTROL, TREATMENT, design=plan, taken=on_time(plan, 2), look=on_time(plan, 3)[-1],
        nonzero=(500, 500),
    )  # fmt: skip
    assert isinstance(other, Estimate)
    assert isinstance(one.interval, Interval)
    assert isinstance(other.interval, Interval)
    assert other.value == -one.value
    assert other.p_value == one.p_value
    assert other.interval.lower == pytest.approx(-one.interval.upper, rel=1e-12)


def test_refusals() -> None:
    plan = design()
    look = on_time(plan, 1)[0]
    constant = Sample(9, 1.0, 0.0, 0.0)
    cases = {
        "no-variance": (constant, constant, (500, 500)),
        "burn-in": (TREATMENT, CONTROL, (99, 500)),
        "too-few-units": (Sample(1, 1.0, 0.0, 0.0), CONTROL, (1, 500)),
    }
    for reason, (one, other, nonzero) in cases.items():
        found = repeated.estimate(one, other, design=plan, taken=(), look=look, nonzero=nonzero)
        assert isinstance(found, NotEstimable)
        assert found.reason == reason
    dust = design(fractions=(0.0002, 1.0))
    found = repeated.estimate(
        TREATMENT, CONTROL, design=dust, taken=(), look=on_time(dust, 1)[0], nonzero=(500, 500)
    )
    assert isinstance(found, NotEstimable)
    assert found.reason == "too-early"


def test_the_gate_is_stricter_than_that_of_the_confidence_sequence() -> None:
    # skewness of the difference 0.2: m3 / n^3 / se^3 with n = 10,000, sd 1 and m3 = g n
    skewed = Sample(10_000, 1.0, 9999.0, 0.2 * 2**1.5 * 100 * 10_000)
    still = Sample(10_000, 1.0, 9999.0, 0.0)
    assert mixture.burn_in(skewed, still, nonzero=(500, 500)) is None
    refused = repeated.burn_in(skewed, still, nonzero=(500, 500))
    assert refused is not None
    assert refused.reason == "burn-in"
    assert "0.20, at most 0.1" in refused.detail
    assert repeated.burn_in(still, still, nonzero=(500, 500)) is None


def test_one_sided_bound_is_the_lower_end_of_the_two_sided_interval_at_twice_alpha() -> None:
    one_sided = design("pocock", alpha=0.025, one_sided=True)
    looks = on_time(one_sided, 3)
    for look in looks:
        upto = look.number
        bound = repeated.lower_bound(
            TREATMENT, CONTROL, design=one_sided, taken=looks[: upto - 1], look=look,
            nonzero=(500, 500),
        )  # fmt: skip
        interval = estimated(design("pocock"), upto).interval
        assert isinstance(interval, Interval)
        # paths that left downwards may come back: the bounds differ in the fifth digit
        assert bound == pytest.approx(interval.lower, rel=1e-4)
    refused = repeated.lower_bound(
        TREATMENT, CONTROL, design=one_sided, taken=(), look=group.Unplanned(0.1, 0.25),
        nonzero=(500, 500),
    )  # fmt: skip
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "unplanned-look"
    early = repeated.lower_bound(
        TREATMENT, CONTROL, design=one_sided, taken=(), look=looks[0], nonzero=(5, 500)
    )
    assert isinstance(early, NotEstimable)
    assert early.reason == "burn-in"
    with pytest.raises(ValueError, match="two-sided design"):
        repeated.estimate(
            TREATMENT, CONTROL, design=one_sided, taken=(), look=looks[0], nonzero=(500, 500)
        )
    with pytest.raises(ValueError, match="one-sided design"):
        repeated.lower_bound(
            TREATMENT, CONTROL, design=design(), taken=(), look=looks[0], nonzero=(500, 500)
        )


@pytest.mark.parametrize("one_sided", [True, False])
@settings(deadline=None, max_examples=40)
@given(
    spending=st.sampled_from(SPENDING),
    upto=st.integers(1, 4),
    z=st.floats(-6, 6),
    alpha=st.floats(0.001, 0.4),
)
def test_repeated_p_value_is_dual_to_the_bound(
    *, spending: group.Spending, upto: int, z: float, alpha: float, one_sided: bool
) -> None:
    plan = design(spending, alpha=alpha, one_sided=one_sided)
    looks = on_time(plan, upto)
    p = repeated.p_value(z, design=plan, looks=looks)
    assert 0 < p <= 1
    size = z if one_sided else abs(z)
    bound = group.multipliers(plan, looks)[-1]
    if abs(size - bound) > 1e-6:
        assert (p < alpha) == (size > bound)


@pytest.mark.golden("scipy 1.17: stats.multivariate_normal.cdf")
def test_stagewise_p_value_by_hand() -> None:
    # two looks: p+ of a crossing at the first is its tail; at the second the first's alpha
    # comes on top of P(inside, Z_2 > z), here by scipy's bivariate normal
    plan = design("pocock", (0.5, 1.0))
    looks = on_time(plan)
    c1, c2 = group.multipliers(plan, looks)
    early = repeated.stagewise_p_value(c1 + 0.3, design=plan, looks=looks[:1])
    assert early == pytest.approx(2 * stats.norm.sf(c1 + 0.3), rel=1e-10)
    waiting = repeated.stagewise_p_value(c1 - 0.1, design=plan, looks=looks[:1])
    assert isinstance(waiting, NotEstimable)
    assert waiting.reason == "not-stopped"
    root = math.sqrt(0.5)
    z = 1.5
    tail = stats.multivariate_normal.cdf(
        np.array([c1, np.inf]),
        np.zeros(2),
        np.array([[1, root], [root, 1]]),
        lower_limit=np.array([-c1, z]),
        abseps=1e-9,
        releps=1e-9,
    )
    found = repeated.stagewise_p_value(z, design=plan, looks=looks)
    assert found == pytest.approx(2 * (stats.norm.sf(c1) + float(tail)), abs=1e-6)
    # on the boundary of the last look all alpha is used
    assert repeated.stagewise_p_value(c2, design=plan, looks=looks) == pytest.approx(0.05, rel=1e-9)
    # a lower crossing is as extreme as an upper one
    assert repeated.stagewise_p_value(-z, design=plan, looks=looks) == pytest.approx(
        found, rel=1e-9
    )


def paths(count: int, fractions: tuple[float, ...], drift: float, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    gaps = np.diff((0.0, *fractions))
    steps = rng.standard_normal((count, len(fractions))) * np.sqrt(gaps) + drift * gaps
    return np.asarray(steps.cumsum(axis=1) / np.sqrt(fractions))


@pytest.mark.parametrize("spending", SPENDING)
def test_p_values_and_intervals_hold_in_simulation(spending: group.Spending) -> None:
    # exact Brownian paths, no effect; 4 standard errors of 4,000 paths
    plan = design(spending, (0.3, 0.55, 1.0))
    looks = on_time(plan)
    bounds = np.array(group.multipliers(plan, looks))
    z = paths(4000, plan.fractions, 0.0, 62)
    outside = np.abs(z) > bounds
    tolerance = 4 * math.sqrt(0.05 * 0.95 / 4000)
    assert outside.any(axis=1).mean() == pytest.approx(0.05, abs=tolerance)
    stop = np.where(outside.any(axis=1), outside.argmax(axis=1), 2)
    stagewise = np.array([
        repeated.stagewise_p_value(path[k], design=plan, looks=looks[: k + 1])
        for path, k in zip(z[:1500], stop[:1500], strict=True)
    ], dtype=float)  # fmt: skip
    assert stats.kstest(stagewise, "uniform").pvalue > 1e-4
    # the repeated p-value may be read at every look: invert the bounds at a few levels
    for level in (0.01, 0.2, 0.5):
        at = np.array(group.multipliers(design(spending, plan.fractions, alpha=level), looks))
        share = (np.abs(z) > at).any(axis=1).mean()
        assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 4000))
