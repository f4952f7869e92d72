"""Quantile sequences: the mixture of confseq, brute force, duality, and false alarms."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from klartext.analysis import contrast, quantile_sequence, quantiles
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray
from klartext.analysis.quantiles import Observations
from klartext.analysis.sequential import mixture

ALPHA = 0.05
TAIL = -2 * math.log(ALPHA)
RATE = TAIL + math.log1p(TAIL)


def anytime(
    one: Observations, base: Observations, q: float, *, alpha: float = ALPHA, planned: int = 2000
) -> Estimate:
    result = quantile_sequence.anytime(one, base, q, alpha=alpha, planned_n=planned)
    assert isinstance(result, Estimate)
    return result


def ends(result: Estimate) -> tuple[float, float]:
    assert isinstance(result.interval, Interval)
    return result.interval.lower, result.interval.upper


def coin(n: int, q: float, tuning: float) -> FloatArray:
    """Return ln M for 0 … n units at or below."""
    return quantile_sequence._coin(n, np.arange(n + 1), q, tuning)[0]


@pytest.mark.golden(
    "confseq, test/uniform_boundaries_unittest.cpp: two-sided beta-binomial mixture"
)
def test_mixture_equals_confseq() -> None:
    # confseq test/uniform_boundaries_unittest.cpp ("from a reference implementation in R"):
    # two-sided beta-binomial mixture, v_opt 100, alpha 5 %, g 0.2, h 0.8, at s 10, v 100:
    # ln M -0.6941012; ln M reaches ln 20 at s 31.4308. Here v = q (1 - q) n, so n = 625, q = 0.2
    log_m = coin(625, 0.2, 625 / RATE)
    assert log_m[125 + 10] == pytest.approx(-0.6941012, abs=1e-7)
    heads, tails, count = 0.2 * (625 / RATE - 1), 0.8 * (625 / RATE - 1), 125 + 31.4308
    crossing = (
        special.betaln(heads + count, tails + 625 - count)
        - special.betaln(heads, tails)
        - count * math.log(0.2)
        - (625 - count) * math.log(0.8)
    )
    assert crossing == pytest.approx(math.log(20), abs=2e-5)
    assert log_m[125 + 31] < math.log(20) < log_m[125 + 32]


@pytest.mark.parametrize(("n", "count"), [(5, 0), (5, 3), (40, 31)])
def test_mixture_is_the_integral_of_likelihood_ratios(n: int, count: int) -> None:
    q, tuning = 0.7, 11.0
    prior = stats.beta(q * 10.0, (1 - q) * 10.0)
    mixed, _ = integrate.quad(
        lambda p: (p / q) ** count * ((1 - p) / (1 - q)) ** (n - count) * prior.pdf(p), 0, 1
    )
    assert math.exp(coin(n, q, tuning)[count]) == pytest.approx(mixed, rel=1e-7)


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_mixture_is_a_martingale(q: float) -> None:
    # E[M(n + 1) | K] = q M(n + 1, K + 1) + (1 - q) M(n + 1, K) = M(n, K), exactly
    for n in (1, 7, 60):
        now, then = np.exp(coin(n, q, 9.0)), np.exp(coin(n + 1, q, 9.0))
        np.testing.assert_allclose(q * then[1:] + (1 - q) * then[:-1], now, rtol=1e-10)
    assert q * np.exp(coin(1, q, 9.0))[1] + (1 - q) * np.exp(coin(1, q, 9.0))[0] == pytest.approx(1)


def brute(one: FloatArray, base: FloatArray, q: float, tuning: float) -> tuple[float, float, float]:
    """Ends and p-value by trying every pair of values and every count between the ties."""

    def evidence(values: FloatArray, x: float) -> float:
        low, high = int((values < x).sum()), int((values <= x).sum())
        return float(coin(len(values), q, tuning)[low : high + 1].min())

    candidates = [sorted({*each, -1e9, 1e9}) for each in (one, base)]
    pairs = [
        a - b
        for a, b in itertools.product(*candidates)
        if evidence(one, a) + evidence(base, b) < math.log(1 / ALPHA)
    ]
    common = sorted({*candidates[0], *candidates[1]})
    common += [(a + b) / 2 for a, b in itertools.pairwise(common)]
    least = min(evidence(one, x) + evidence(base, x) for x in common)
    return min(pairs), max(pairs), min(1.0, math.exp(-least))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_brute_force(seed: int, ties: bool) -> None:  # noqa: FBT001 - a parameter
    rng = np.random.default_rng(seed)
    one, base = rng.gamma(3.0, 1.0, 50), rng.gamma(2.0, 1.0, 40)
    if ties:
        one, base = np.round(one, 0), np.round(base, 0)
    result = anytime(Observations.of(one), Observations.of(base), 0.5, planned=90)
    low, high, p = brute(one, base, 0.5, 45 / RATE)
    assert ends(result) == pytest.approx((low, high), rel=1e-12)
    assert result.p_value == pytest.approx(p, rel=1e-10)


def clustered(
    rng: np.random.Generator, n: int, shift: float
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    per_unit = rng.integers(1, 6, n)
    unit = np.repeat(np.arange(n), per_unit)
    latent = rng.standard_normal(n)[unit] + 0.5 * rng.standard_normal(len(unit))
    return np.exp(shift + latent), unit


def test_cluster_sums_equal_brute_force() -> None:
    values, units = clustered(np.random.default_rng(3), 700, 0.0)
    evidence = quantile_sequence._evidence(Observations.of(values, units), 0.4, 50.0)
    sizes = np.bincount(units)
    for place in (3, 500, 900, 1500):
        x = np.sort(values)[place]
        below = np.bincount(units, weights=values <= x, minlength=700)
        each = below - 0.4 * sizes
        z = each.sum() / math.sqrt(700 * each.var(ddof=1))
        expected = (z * z * 700 / 750 - math.log(1 + 700 / 50)) / 2
        assert evidence.between[place + 1] == pytest.approx(expected, rel=1e-9)
        # the anytime p-value of a mean with the same clock is exp(-ln M)
        assert mixture.p_value(z, 700, round(50 * RATE), alpha=ALPHA) == pytest.approx(
            min(1, math.exp(-expected)), rel=2e-2
        )


def test_clusters_of_one_are_close_to_the_coin() -> None:
    values = np.random.default_rng(8).gamma(2.0, size=4001)
    base = Observations.of(np.random.default_rng(9).gamma(2.0, size=4000))
    single = Observations.of(values[:4000])
    # one unit with two observations makes them clusters
    double = Observations.of(values, np.append(np.arange(4000), 0))
    one, other = anytime(single, base, 0.7, planned=8000), anytime(double, base, 0.7, planned=8000)
    assert ends(other) == pytest.approx(ends(one), abs=0.1 * one.std_error * 3)


def test_wider_than_fixed_and_narrower_than_twice_it() -> None:
    rng = np.random.default_rng(4)
    one, base = (Observations.of(rng.lognormal(size=20_000)) for _ in range(2))
    wide = anytime(one, base, 0.5, planned=40_000)
    narrow = contrast.fixed(quantiles.difference(one, base, 0.5), alpha=ALPHA, single_look=True)
    assert isinstance(narrow, Estimate)
    ratio = (ends(wide)[1] - ends(wide)[0]) / (ends(narrow)[1] - ends(narrow)[0])
    # 3.035 · 1.12 / 1.96 = 1.73, give or take the spacings' error
    assert ratio == pytest.approx(1.73, abs=0.25)
    assert wide.value == narrow.value
    assert wide.std_error == pytest.approx(narrow.std_error * ratio * 1.96 / 3.035, rel=1e-3)


@given(st.integers(0, 10**6), st.sampled_from([0.2, 0.5, 0.8]), st.floats(-1, 1))
def test_p_value_and_interval_agree(seed: int, q: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    one, base = Observations.of(rng.normal(shift, 1, 150)), Observations.of(rng.normal(0, 1, 120))
    result = anytime(one, base, q, planned=400)
    low, high = ends(result)
    assert low <= result.value <= high
    assert isinstance(result.p_value, float)
    assert (result.p_value <= ALPHA) == (not low < 0 < high)


def test_swapping_scaling_order_and_relative() -> None:
    rng = np.random.default_rng(14)
    a, b = rng.lognormal(0.3, 1, 3000), rng.lognormal(0, 1, 2500)
    plain = anytime(Observations.of(a), Observations.of(b), 0.6, planned=6000)
    swapped = anytime(Observations.of(b), Observations.of(a), 0.6, planned=6000)
    assert ends(swapped) == tuple(-end for end in reversed(ends(plain)))
    assert swapped.p_value == plain.p_value
    scaled = anytime(Observations.of(1e3 * a[::-1]), Observations.of(1e3 * b), 0.6, planned=6000)
    assert ends(scaled) == pytest.approx([1e3 * end for end in ends(plain)], rel=1e-12)
    # the ratio is the difference of logarithms
    logs = anytime(Observations.of(np.log(a)), Observations.of(np.log(b)), 0.6, planned=6000)
    assert isinstance(plain.relative_interval, Interval)
    relative = (plain.relative_interval.lower, plain.relative_interval.upper)
    assert relative == pytest.approx([math.expm1(end) for end in ends(logs)], rel=1e-9)
    negative = anytime(Observations.of(a - 50), Observations.of(b), 0.6, planned=6000)
    assert isinstance(negative.relative, NotEstimable)
    assert isinstance(negative.relative_interval, NotEstimable)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([]), "no-units"),
        (np.array([1.0]), "unbounded"),
        (np.array([1.0, 2.0, 3.0]), "unbounded"),
        (np.array([1.0, math.nan]), "not-finite"),
    ],
)
def test_degenerate_input_has_a_reason(values: FloatArray, reason: str) -> None:
    good = Observations.of(np.arange(500.0))
    for pair in ((Observations.of(values), good), (good, Observations.of(values))):
        refused = quantile_sequence.anytime(*pair, 0.5, alpha=ALPHA, planned_n=1000)
        assert isinstance(refused, NotEstimable)
        assert refused.reason == reason


def test_constants_clusters_and_mistakes() -> None:
    constant = Observations.of(np.ones(500))
    refused = quantile_sequence.anytime(constant, constant, 0.5, alpha=ALPHA, planned_n=1000)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "no-variance"
    few = Observations.of(np.arange(600.0), np.arange(600) % 300)
    refused = quantile_sequence.anytime(few, few, 0.5, alpha=ALPHA, planned_n=1000)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "burn-in"
    for q, alpha, planned in ((0.0, 0.05, 9), (0.5, 0.0, 9), (0.5, 0.05, 0)):
        with pytest.raises(ValueError, match="must"):
            quantile_sequence.anytime(constant, constant, q, alpha=alpha, planned_n=planned)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["continuous", "ties"])
def test_false_alarms_over_fifty_looks(kind: str) -> None:
    # no effect, 50 looks at 5 %: 400 paths, se 0.011; the fixed interval beside it fails
    rng = np.random.default_rng(90)
    alarms = fixed = 0
    for _ in range(400):
        values = rng.gamma(0.7, 30.0, (2, 2500))
        if kind == "ties":
            values = np.floor(values)
        crossed = peeked = False
        for look in range(1, 51):
            one, base = (Observations.of(each[: 50 * look]) for each in values)
            found = quantile_sequence.anytime(one, base, 0.75, alpha=ALPHA, planned_n=5000)
            crossed = crossed or (isinstance(found, Estimate) and _excludes(found))
            now = quantiles.difference(one, base, 0.75)
            other = contrast.fixed(now, alpha=ALPHA, single_look=True)
            peeked = peeked or (isinstance(other, Estimate) and _excludes(other))
        alarms, fixed = alarms + crossed, fixed + peeked
    assert alarms / 400 <= 0.05
    if kind == "continuous":
        assert fixed / 400 > 0.1


@pytest.mark.slow
def test_false_alarms_with_clusters() -> None:
    # lognormal latencies with a unit effect, 37 looks, no effect: 300 paths, se 0.013
    rng = np.random.default_rng(91)
    alarms = 0
    for _ in range(300):
        sides = [clustered(rng, 4000, 0.0) for _ in range(2)]
        crossed = False
        for look in range(4, 41):
            pair = []
            for values, units in sides:
                seen = units < 100 * look
                pair.append(Observations.of(values[seen], units[seen]))
            found = quantile_sequence.anytime(pair[0], pair[1], 0.5, alpha=ALPHA, planned_n=8000)
            crossed = crossed or (isinstance(found, Estimate) and _excludes(found))
        alarms += crossed
    assert alarms / 300 <= 0.05


def _excludes(estimate: Estimate) -> bool:
    low, high = ends(estimate)
    return low > 0 or high < 0


def test_product_is_narrower_than_two_intervals() -> None:
    # each variant's own sequence at alpha/2, combined, is the simple way; the product is tighter
    rng = np.random.default_rng(5)
    one, base = (Observations.of(rng.normal(size=5000)) for _ in range(2))
    result = anytime(one, base, 0.5, planned=10_000)
    log_m = coin(5000, 0.5, 5000 / RATE)
    inside = np.flatnonzero(log_m < math.log(2 / ALPHA))
    separate = [side.values[[inside[0] - 1, inside[-1]]] for side in (one, base)]
    simple = separate[0][1] - separate[1][0] - (separate[0][0] - separate[1][1])
    assert ends(result)[1] - ends(result)[0] < 0.8 * simple


@pytest.mark.parametrize("ties", [False, True])
def test_level_holds_the_values_with_little_evidence(ties: bool) -> None:  # noqa: FBT001 - a parameter
    values = np.random.default_rng(12).gamma(3.0, 1.0, 300)
    if ties:
        values = np.round(values, 1)
    found = quantile_sequence.level(Observations.of(values), 0.5, alpha=ALPHA, planned_n=600)
    inside = [
        x
        for x in sorted({*values})
        if coin(300, 0.5, 300 / RATE)[int((values < x).sum()) : int((values <= x).sum()) + 1].min()
        < math.log(1 / ALPHA)
    ]
    assert found == Interval(inside[0], inside[-1], 0.95)


def test_level_of_few_or_none_has_a_reason() -> None:
    for values, reason in (([], "no-units"), ([1.0, 2.0], "unbounded")):
        found = quantile_sequence.level(
            Observations.of(np.array(values)), 0.5, alpha=ALPHA, planned_n=100
        )
        assert isinstance(found, NotEstimable)
        assert found.reason == reason


@pytest.mark.parametrize("calls", [1, 2])
def test_the_planned_width_is_that_of_many_observations(calls: int) -> None:
    # exponential quantiles on a grid: no chance, only the limit; 30 units to 20, a third observed
    sides = []
    for units in (30_000, 20_000):
        grid = -np.log1p(-(np.arange(units * calls) + 0.5) / (units * calls))
        np.random.default_rng(13).shuffle(grid)
        sides.append(Observations.of(grid, np.repeat(np.arange(units), calls)))
    one, base = sides
    found = anytime(one, base, 0.5, planned=150_000)
    assert isinstance(found, Estimate)
    errors = [quantiles.quantile(side, 0.5) for side in sides]
    variances = [error.variance for error in errors if isinstance(error, quantiles.Quantile)]
    width = quantile_sequence.multiplier(
        (30_000, 20_000), (variances[0], variances[1]), alpha=ALPHA, planned_n=150_000
    )
    half = width * math.sqrt(sum(variances))
    assert np.diff(ends(found))[0] / 2 == pytest.approx(half, rel=0.02)


def test_the_planned_width_of_a_level_has_one_variance() -> None:
    # n = g: the root of (1 + 1) (-2 ln a + ln 2)
    n = 5000 / RATE
    width = quantile_sequence.multiplier((n, n), (3.0, 0.0), alpha=ALPHA, planned_n=10_000)
    assert width == pytest.approx(math.sqrt(2 * (-2 * math.log(ALPHA) + math.log(2))))
    with pytest.raises(ValueError, match="neither"):
        quantile_sequence.multiplier((1, 1), (0.0, 0.0), alpha=ALPHA, planned_n=10)
