"""Wald and Newcombe against the paper, statsmodels, scipy and the shared data."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import proportion as outside

from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import Sample
from klartext.analysis.proportions import newcombe, pooled_z_test, wald, wilson

Count: TypeAlias = tuple[int, int]
Method: TypeAlias = Callable[..., Estimate | NotEstimable]


def ones(count: int, n: int) -> Sample:
    p = count / n
    return Sample(n, p, n * p * (1 - p), n * p * (1 - p) * (1 - 2 * p))


def estimated(method: Method, treatment: Sample, control: Sample, alpha: float = 0.05) -> Estimate:
    result = method(treatment, control, alpha=alpha, single_look=True)
    assert isinstance(result, Estimate)
    return result


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.lower, estimate.interval.upper


@pytest.mark.golden("Newcombe (1998), table II, method 10")
@pytest.mark.parametrize(
    ("x", "n", "y", "m", "lower", "upper"),
    [  # Newcombe (1998), Statist. Med. 17, 873-890, Table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0000),
        (10, 10, 0, 10, 0.6075, 1.0000),
    ],
)
def test_newcombe_table(x: int, n: int, y: int, m: int, lower: float, upper: float) -> None:
    found = bounds(estimated(newcombe, ones(x, n), ones(y, m)))
    assert found == pytest.approx((lower, upper), abs=5.1e-5)


counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.golden("statsmodels 0.15: confint_proportions_2indep")
@given(counts, counts, st.sampled_from([0.01, 0.05, 0.2]))
def test_newcombe_and_wald_equal_statsmodels(one: Count, other: Count, alpha: float) -> None:
    treatment, control = ones(*one), ones(*other)
    expected = outside.confint_proportions_2indep(
        *one, *other, method="newcomb", compare="diff", alpha=alpha
    )
    found = bounds(estimated(newcombe, treatment, control, alpha))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert -1 <= found[0] <= found[1] <= 1
    if not (treatment.mean in {0, 1} and control.mean in {0, 1}):
        expected = outside.confint_proportions_2indep(
            *one, *other, method="wald", compare="diff", alpha=alpha, correction=False
        )
        assert bounds(estimated(wald, treatment, control, alpha)) == pytest.approx(
            expected, rel=1e-9, abs=1e-9
        )


@pytest.mark.golden("scipy 1.17: stats.chi2_contingency")
@given(counts, counts)
def test_pooled_test_equals_the_chi_square_of_the_table(one: Count, other: Count) -> None:
    p = pooled_z_test(ones(*one), ones(*other))
    total = one[0] + other[0]
    if total in {0, one[1] + other[1]}:
        assert isinstance(p, NotEstimable)
    else:
        table = [[one[0], one[1] - one[0]], [other[0], other[1] - other[0]]]
        expected = stats.chi2_contingency(table, correction=False).pvalue
        assert p == pytest.approx(max(expected, 2.3e-308), rel=1e-6)


@given(counts, counts)
def test_swapping_the_variants_flips_the_interval(one: Count, other: Count) -> None:
    forward = bounds(estimated(newcombe, ones(*one), ones(*other)))
    backward = bounds(estimated(newcombe, ones(*other), ones(*one)))
    assert forward == pytest.approx((-backward[1], -backward[0]), rel=1e-12, abs=1e-15)


def test_nothing_and_everything() -> None:
    none, all_of = ones(0, 40), ones(60, 60)
    refused = wald(none, all_of, alpha=0.05, single_look=True)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "no-variance"
    result = estimated(newcombe, none, ones(0, 50))
    assert bounds(result)[0] < 0 < bounds(result)[1]
    assert isinstance(result.p_value, NotEstimable)
    assert result.std_error > 0
    assert isinstance(result.relative, NotEstimable)
    result = estimated(newcombe, all_of, none)
    assert bounds(result)[1] == 1
    assert isinstance(result.p_value, float)
    # one variant without a conversion: -100 %, by Fieller, since there is no log of zero
    result = estimated(wald, none, ones(20, 100))
    assert result.relative == -1
    assert isinstance(result.relative_interval, Interval)


@pytest.mark.golden("statsmodels 0.15: proportion_confint(method='wilson')")
def test_wilson_ends_are_exact() -> None:
    assert wilson(ones(0, 7), multiplier=1.96)[0] == 0
    assert wilson(ones(7, 7), multiplier=1.96)[1] == 1
    expected = outside.proportion_confint(3, 7, method="wilson")
    assert wilson(ones(3, 7), multiplier=1.959963984540054) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(0, 0.0, 0.0, 0.0), "no-units"),
        (Sample(10, math.nan, 0.0, 0.0), "not-finite"),
        (Sample(10, 2.0, 0.0, 0.0), "not-a-proportion"),
        (Sample(10, 0.5, 1.0, 0.0), "not-a-proportion"),
    ],
)
def test_other_columns_are_refused(sample: Sample, reason: str) -> None:
    for method in (wald, newcombe):
        refused = method(ones(3, 10), sample, alpha=0.05, single_look=True)
        assert isinstance(refused, NotEstimable)
        assert refused.reason == reason


def of_column(table: pd.DataFrame, by: str, column: str) -> dict[str, Sample]:
    groups = table.groupby(by)[column]
    return {str(key): ones(int(group.sum()), len(group)) for key, group in groups}


@pytest.mark.golden("README of the shared data: Hillstrom, by scipy and statsmodels")
def test_hillstrom(shared_data: Path) -> None:
    # reference figures computed with scipy and statsmodels, in the README of the shared data
    table = pd.read_csv(shared_data / "hillstrom" / "hillstrom.csv")
    visit, conversion = (of_column(table, "segment", c) for c in ("visit", "conversion"))
    control = "No E-Mail"
    result = estimated(wald, visit["Mens E-Mail"], visit[control])
    assert result.value == pytest.approx(0.0765895637, abs=1e-10)
    assert bounds(result) == pytest.approx((0.0699535012, 0.0832256261), abs=1e-10)
    result = estimated(wald, conversion["Mens E-Mail"], conversion[control])
    assert result.value == pytest.approx(0.0068050065, abs=1e-10)
    assert bounds(result) == pytest.approx((0.0050001714, 0.0086098417), abs=1e-10)
    assert result.relative == pytest.approx(1.18842, abs=5e-6)
    assert isinstance(result.relative_interval, Interval)
    assert result.relative_interval.lower == pytest.approx(0.76798, abs=5e-6)
    assert result.relative_interval.upper == pytest.approx(1.70884, abs=5e-6)
    result = estimated(newcombe, conversion["Mens E-Mail"], conversion[control])
    assert bounds(result) == pytest.approx((0.0050143447, 0.0086407234), abs=1e-10)
    result = estimated(wald, conversion["Womens E-Mail"], conversion[control])
    assert result.value == pytest.approx(0.00311106, abs=1e-8)
    assert bounds(result) == pytest.approx((0.00149868, 0.00472344), abs=1e-8)


@pytest.mark.golden("README of the shared data: Cookie Cats, by scipy and statsmodels")
def test_cookie_cats(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "cookie_cats" / "cookie_cats.csv")
    day = of_column(table, "version", "retention_7")
    result = estimated(wald, day["gate_40"], day["gate_30"])
    assert result.value == pytest.approx(-0.0082013, abs=1e-7)
    assert bounds(result) == pytest.approx((-0.0132816, -0.0031210), abs=1e-7)
    assert result.relative == pytest.approx(-0.043119, abs=1e-6)
    assert isinstance(result.relative_interval, Interval)
    assert result.relative_interval.lower == pytest.approx(-0.06889, abs=1e-5)
    assert result.relative_interval.upper == pytest.approx(-0.01663, abs=1e-5)
    result = estimated(newcombe, day["gate_40"], day["gate_30"])
    assert bounds(result) == pytest.approx((-0.0132819, -0.0031213), abs=1e-7)
    assert result.p_value == pytest.approx(0.00155425, abs=1e-8)
    day = of_column(table, "version", "retention_1")
    result = estimated(newcombe, day["gate_40"], day["gate_30"])
    assert result.p_value == pytest.approx(0.0744097, abs=1e-7)
    result = estimated(wald, day["gate_40"], day["gate_30"])
    assert bounds(result) == pytest.approx((-0.0123924, 0.0005821), abs=1e-7)


def test_newcombe_covers_in_small_samples() -> None:
    # exact, no simulation: every pair of counts, weighted by its binomial probability
    n, m = 15, 20
    hits = [
        [bounds(estimated(newcombe, ones(x, n), ones(y, m))) for y in range(m + 1)]
        for x in range(n + 1)
    ]
    coverages = []
    for p, q in ((0.05, 0.05), (0.1, 0.3), (0.5, 0.5), (0.9, 0.2), (0.02, 0.3)):
        px = [float(stats.binom.pmf(x, n, p)) for x in range(n + 1)]
        qy = [float(stats.binom.pmf(y, m, q)) for y in range(m + 1)]
        coverages.append(
            sum(
                px[x] * qy[y]
                for x in range(n + 1)
                for y in range(m + 1)
                if hits[x][y][0] <= p - q <= hits[x][y][1]
            )
        )
    assert min(coverages) > 0.93
    assert sum(coverages) / len(coverages) > 0.945
