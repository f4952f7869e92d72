"""Clustered quantiles against numpy, gbstats, the known asymptotic error, and by simulation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from klartext.analysis import contrast, quantiles
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray
from klartext.analysis.quantiles import Observations, Quantile
from tests.analysis.golden.units import calls, rows


def found(observations: Observations, q: float) -> Quantile:
    result = quantiles.quantile(observations, q)
    assert isinstance(result, Quantile)
    return result


def fixed(one: Observations, base: Observations, q: float) -> Estimate:
    result = contrast.fixed(quantiles.difference(one, base, q), alpha=0.05, single_look=True)
    assert isinstance(result, Estimate)
    return result


@pytest.mark.parametrize("q", [0.07, 0.1, 0.25, 0.29, 0.5, 0.57, 0.9, 0.95])
@pytest.mark.parametrize("n", [100, 101, 5000])
def test_value_equals_numpy(q: float, n: int) -> None:
    # numpy.quantile, inverted_cdf, whose rank of 0.07 · 100 is 8 in floats: ours is the exact 7
    values = np.random.default_rng(n).permutation(np.arange(1, n + 1)).astype(float)
    ours = Observations.of(values).at_rank(Fraction(str(q)))
    assert ours == math.ceil(Fraction(str(q)) * n)
    assert abs(ours - np.quantile(values, q, method="inverted_cdf")) <= 1


@pytest.mark.golden("numpy 2.4: quantile(method='inverted_cdf')")
@pytest.mark.parametrize("q", [0.125, 0.25, 0.5, 0.75, 0.875])
def test_value_of_exact_fractions_equals_numpy(q: float) -> None:
    # eighths are exact in floats, so numpy's rank is right for every size
    rng = np.random.default_rng(8)
    for n in (2, 7, 8, 63, 64, 1001):
        values = rng.lognormal(size=n)
        found = Observations.of(values).at_rank(Fraction(q))
        assert found == np.quantile(values, q, method="inverted_cdf")


def test_by_hand() -> None:
    # 1 … 400, median 200; w = 1.96 · 0.5 / 20 = 0.049: ranks ceil(180.4) = 181 and
    # ceil(219.6) = 220, so (220 - 181)/(2 · 1.96) = 9.94938; share 1/2: 400/399 inflation
    result = found(Observations.of(np.arange(1.0, 401.0)), 0.5)
    assert result.value == 200
    assert result.inflation == pytest.approx(400 / 399, rel=1e-12)
    expected = (39 / (2 * 1.959963984540054)) ** 2 * 400 / 399
    assert result.variance == pytest.approx(expected, rel=1e-12)


@pytest.mark.golden("gbstats 0.8.0: clustered quantiles")
@pytest.mark.parametrize(
    ("q", "value", "std_error", "low", "high"),
    [
        (0.5, 20.237955939898143, 9.170466349637787, 2.2634479867384805, 38.2124638930578),
        (0.9, 17.637038066322248, 10.564568046166858, -3.070001368122295, 38.34407750076679),
    ],
)
def test_clustered_difference_equals_gbstats(
    q: float, value: float, std_error: float, low: float, high: float
) -> None:
    # gbstats 0.8.0, golden/with_gbstats.py; it multiplies each variance by (N - 1)/N and uses t
    one, base = (Observations.of(*calls(*a)) for a in ((5000, 1, 20.0), (4000, 70_000, 0.0)))
    result = fixed(one, base, q)
    assert result.value == pytest.approx(value, rel=1e-12)
    sides = [(found(side, q).variance, side.total) for side in (one, base)]
    theirs = math.sqrt(sum(variance * (size - 1) / size for variance, size in sides))
    assert theirs == pytest.approx(std_error, rel=1e-10)
    assert isinstance(result.interval, Interval)
    ends = (result.interval.lower, result.interval.upper)
    assert ends == pytest.approx((low, high), abs=5e-3)


@pytest.mark.golden("gbstats 0.8.0: quantiles of units")
@pytest.mark.parametrize(
    ("q", "value", "std_error"),
    [(0.5, 3.5857337728210723, 1.090604790901947), (0.9, 8.840666175215773, 4.719432510609538)],
)
def test_difference_of_unit_values_equals_gbstats(q: float, value: float, std_error: float) -> None:
    # gbstats 0.8.0 without clusters: inflation 1 instead of n/(n - 1) p(1 - p)/(q(1 - q))
    sides = [Observations.of(rows(*a)[:, 0]) for a in ((3000, 1, 1.05), (2500, 50_000, 1.0))]
    assert fixed(sides[0], sides[1], q).value == pytest.approx(value, rel=1e-12)
    plain = 0.0
    for side in sides:
        result = found(side, q)
        assert result.inflation == pytest.approx(1, abs=2e-3)
        plain += result.variance / result.inflation * (side.n - 1) / side.n
    assert math.sqrt(plain) == pytest.approx(std_error, rel=1e-10)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_error_tends_to_the_known_one(q: float) -> None:
    # normal values: sqrt(q (1 - q) / n) / phi(z_q); ranks are rounded: 1 in 526
    values = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    result = found(Observations.of(values), q)
    expected = math.sqrt(q * (1 - q) / 200_000) / stats.norm.pdf(stats.norm.ppf(q))
    assert math.sqrt(result.variance) == pytest.approx(expected, rel=3e-3)


def test_identical_calls_of_a_unit_count_once() -> None:
    # every unit's value repeated 5 times: the error is that of the units, the inflation 5
    values = np.random.default_rng(6).gamma(2.0, size=3000)
    single = found(Observations.of(values), 0.8)
    units = np.repeat(np.arange(3000), 5)
    repeated = found(Observations.of(np.repeat(values, 5), units), 0.8)
    assert repeated.value == single.value
    assert repeated.inflation == pytest.approx(5 * single.inflation, rel=1e-12)
    assert math.sqrt(repeated.variance) == pytest.approx(math.sqrt(single.variance), rel=0.2)


def test_order_names_scale_and_swap() -> None:
    values, units = calls(5000, 1, 20.0)
    base_values, base_units = calls(4000, 70_000, 0.0)
    base = Observations.of(base_values, base_units)
    plain = fixed(Observations.of(values, units), base, 0.9)
    order = np.random.default_rng(1).permutation(len(values))
    shuffled = fixed(Observations.of(values[order], 10**15 - units[order]), base, 0.9)
    assert shuffled.value == plain.value
    assert shuffled.std_error == pytest.approx(plain.std_error, rel=1e-12)
    swapped = fixed(base, Observations.of(values, units), 0.9)
    assert swapped.value == -plain.value
    assert swapped.p_value == pytest.approx(plain.p_value, rel=1e-12)
    scaled = fixed(
        Observations.of(1e3 * values, units), Observations.of(1e3 * base_values, base_units), 0.9
    )
    assert scaled.std_error == pytest.approx(1e3 * plain.std_error, rel=1e-9)
    assert scaled.relative == pytest.approx(plain.relative, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "q", "reason"),
    [
        (np.array([]), 0.5, "too-few-units"),
        (np.array([1.0]), 0.5, "too-few-units"),
        (np.arange(399.0), 0.5, "too-few-units"),
        (np.arange(3999.0), 0.95, "too-few-units"),
        (np.array([math.nan] * 500), 0.5, "not-finite"),
        (np.ones(500), 0.5, "tied-ranks"),
        (np.repeat([0.0, 1.0], [300, 300]), 0.4, "tied-ranks"),
        (np.append(np.zeros(450), np.arange(50.0)), 0.5, "tied-ranks"),
    ],
)
def test_degenerate_input_has_a_reason(values: FloatArray, q: float, reason: str) -> None:
    good = Observations.of(np.arange(5000.0))
    for pair in ((Observations.of(values), good), (good, Observations.of(values))):
        refused = quantiles.difference(*pair, q)
        assert isinstance(refused, NotEstimable)
        assert refused.reason == reason


def test_the_gate_counts_units_and_opens_exactly() -> None:
    assert isinstance(quantiles.quantile(Observations.of(np.arange(400.0)), 0.5), Quantile)
    assert isinstance(quantiles.quantile(Observations.of(np.arange(4000.0)), 0.95), Quantile)
    calls_of_few = Observations.of(np.arange(4000.0), np.arange(4000) % 50)
    refused = quantiles.quantile(calls_of_few, 0.5)
    assert isinstance(refused, NotEstimable)
    assert refused.detail == "a variant has 50 units; 400 are needed for this quantile"


def test_units_that_all_straddle_the_quantile_alike_have_no_error() -> None:
    # every unit has one observation below and one above
    units = np.arange(1000)
    both = Observations.of(
        np.concatenate([units / 1000, 5 + units / 1000]), np.concatenate([units, units])
    )
    refused = quantiles.quantile(both, 0.5)
    assert isinstance(refused, NotEstimable)
    assert refused.reason in {"no-variance", "tied-ranks"}


def test_mistakes_of_the_caller_raise() -> None:
    for q in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="quantile"):
            quantiles.quantile(Observations.of(np.arange(900.0)), q)
    with pytest.raises(ValueError, match="units"):
        Observations.of(np.arange(5.0), np.arange(4))


@pytest.mark.slow
@pytest.mark.parametrize("q", [0.5, 0.9])
def test_coverage_with_clusters(q: float) -> None:
    # lognormal latencies with a unit effect; 2,000 replications, se 0.005. Counting calls as
    # independent would cover about 80 %.
    rng = np.random.default_rng(61)
    n = math.ceil(200 / min(q, 1 - q))
    truth = math.exp(0.2 + stats.norm.ppf(q)) - math.exp(stats.norm.ppf(q))
    hits = naive = 0
    for _ in range(2000):
        sides = []
        for shift in (0.2, 0.0):
            per_unit = rng.integers(1, 8, n)
            unit = np.repeat(np.arange(n), per_unit)
            latent = math.sqrt(0.6) * rng.standard_normal(n)[unit]
            noise = math.sqrt(0.4) * rng.standard_normal(len(unit))
            sides.append(Observations.of(np.exp(shift + latent + noise), unit))
        result = fixed(sides[0], sides[1], q)
        assert isinstance(result.interval, Interval)
        hits += result.interval.lower <= truth <= result.interval.upper
        each = [found(side, q) for side in sides]
        independent = math.sqrt(sum(side.variance / side.inflation for side in each))
        naive += abs(result.value - truth) <= 1.96 * independent
    assert hits / 2000 == pytest.approx(0.95, abs=4 * 0.005)
    assert naive / 2000 < 0.87


def test_reduction_by_hand() -> None:
    # unit 7: 1, 1, 3; unit 9: 3, 2. Sorted: 1, 1, 2, 3, 3; of unit 7 two stand before its 3
    found = Observations.of(np.array([1.0, 3.0, 1.0, 3.0, 2.0]), np.array([7, 7, 7, 9, 9]))
    assert found.values.tolist() == [1.0, 2.0, 3.0]
    assert found.counts.tolist() == [2, 1, 2]
    assert found.earlier.tolist() == [0 + 1, 0, 2 + 1]
    assert found.sizes.tolist() == [6, 2, 5]
    assert (found.n, found.total, found.is_clustered) == (2, 5, True)
    assert found.times(2.0).values.tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(ValueError, match="positive"):
        found.times(0.0)
