"""Cochran's Q and its joint form against statsmodels, by hand, and its false alarms."""

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.meta_analysis import combine_effects

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.heterogeneity import Heterogeneity, heterogeneity
from klartext.analysis.moments import FloatArray, Moments

Segments: TypeAlias = Mapping[str, Mapping[str, Moments]]


def moments(values: FloatArray | list[float]) -> Moments:
    return Moments.of(("y",), np.asarray(values, dtype=float).reshape(-1, 1))


def judged(segments: Segments, *treatments: str) -> Heterogeneity:
    result = heterogeneity(segments, "y", control="c", treatments=treatments or ("t",))
    assert isinstance(result, Heterogeneity)
    return result


def drawn(
    seed: int, keys: tuple[str, ...], effects: tuple[float, ...]
) -> dict[str, dict[str, FloatArray]]:
    rng = np.random.default_rng(seed)
    return {
        f"s{place}": {
            key: rng.normal(effect * (key != "c"), 1 + place / 2, 40 + 10 * place + 5 * len(key))
            for key in keys
        }
        for place, effect in enumerate(effects)
    }


def as_moments(data: dict[str, dict[str, FloatArray]]) -> Segments:
    return {s: {v: moments(rows) for v, rows in each.items()} for s, each in data.items()}


def test_by_hand() -> None:
    # effects 2 (squared error 1 + 1) and 6 (4 + 4): weights 1/2 and 1/8, common 1.75 / 0.625 =
    # 2.8, Q = 0.64/2 + 10.24/8 = 1.6, df 1, p = 2 Phi(-sqrt(1.6)) = 0.205903
    segments = {
        "a": {"t": moments([2, 4]), "c": moments([0, 2])},
        "b": {"t": moments([6, 10]), "c": moments([0, 4])},
    }
    result = judged(segments)
    assert result.effects == {"a": (2.0,), "b": (6.0,)}
    assert result.common == pytest.approx((2.8,), rel=1e-12)
    assert result.statistic == pytest.approx(1.6, rel=1e-12)
    assert result.p_value == pytest.approx(math.erfc(math.sqrt(0.8)), rel=1e-12)
    assert result.p_value == pytest.approx(0.205903, abs=1e-6)
    assert result.df == 1


@pytest.mark.golden("statsmodels 0.15: combine_effects")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_treatment_equals_cochrans_q(seed: int) -> None:
    # statsmodels.stats.meta_analysis.combine_effects, fixed effects
    data = drawn(seed, ("t", "c"), (0.0, 0.4, 0.1, 0.8))
    effects = [each["t"].mean() - each["c"].mean() for each in data.values()]
    errors = [sum(v.var(ddof=1) / len(v) for v in each.values()) for each in data.values()]
    expected = combine_effects(np.array(effects), np.array(errors), method_re="dl")
    result = judged(as_moments(data))
    assert result.statistic == pytest.approx(expected.q, rel=1e-10)
    assert result.p_value == pytest.approx(float(expected.test_homogeneity().pvalue), rel=1e-9)
    assert result.common[0] == pytest.approx(expected.mean_effect_fe, rel=1e-10)
    assert result.i_squared == pytest.approx(max(0.0, float(expected.i2)), rel=1e-9, abs=1e-12)


@pytest.mark.golden("metafor (R), rma(yi, vi, data=dat.bcg, method='FE')")
def test_bcg_trials() -> None:
    # 13 trials of the BCG vaccine (Colditz et al. 1994): cases and others, vaccinated and not.
    # Log relative risks: Q(12) = 152.2330, common -0.4303 with I^2 92.12 %
    trials = (
        (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619),
        (33, 5036, 47, 5761), (180, 1361, 372, 1079), (8, 2537, 10, 619),
        (505, 87886, 499, 87892), (29, 7470, 45, 7232), (17, 1699, 65, 1600),
        (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
    )  # fmt: skip
    segments = {}
    for number, (a, b, c, d) in enumerate(trials):
        effect = math.log(a / (a + b) / (c / (c + d)))
        # two units around the mean with a squared error of half the variance
        spread = math.sqrt((1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)) / 2)
        segments[str(number)] = {
            "t": moments([effect - spread, effect + spread]),
            "c": moments([-spread, spread]),
        }
    result = judged(segments)
    assert result.df == 12
    assert result.statistic == pytest.approx(152.2330, abs=5e-5)
    assert result.common[0] == pytest.approx(-0.4303, abs=5e-5)
    assert 100 * result.i_squared == pytest.approx(92.12, abs=5e-3)


@pytest.mark.golden("statsmodels 0.15: OLS HC2, wald_test")
def test_several_treatments_equal_the_wald_test_of_interactions() -> None:
    # statsmodels OLS with one dummy per cell and HC2, which is s^2/n per cell; Wald test that
    # every (treatment - control) is the same in all segments
    keys = ("t1", "t2", "c")
    data = drawn(8, keys, (0.0, 0.5, 0.3))
    cells = [(s, v) for s in data for v in keys]
    y = np.concatenate([data[s][v] for s, v in cells])
    place = np.repeat(np.arange(9), [len(data[s][v]) for s, v in cells])
    fit = sm.OLS(y, (place[:, None] == np.arange(9)).astype(float)).fit(cov_type="HC2")
    restrictions = []
    for segment in (1, 2):
        for treatment in (0, 1):
            row = np.zeros(9)
            row[3 * segment + treatment], row[3 * segment + 2] = 1, -1
            row[treatment], row[2] = row[treatment] - 1, row[2] + 1
            restrictions.append(row)
    expected = fit.wald_test(np.array(restrictions), use_f=False, scalar=True)
    result = judged(as_moments(data), "t1", "t2")
    assert result.df == 4
    assert result.statistic == pytest.approx(float(expected.statistic), rel=1e-9)
    assert result.p_value == pytest.approx(float(expected.pvalue), rel=1e-8)


def test_order_of_treatments_and_segments_and_scale_do_not_matter() -> None:
    data = drawn(8, ("t1", "t2", "c"), (0.0, 0.5, 0.3))
    plain = judged(as_moments(data), "t1", "t2")
    other = judged(as_moments(dict(reversed(data.items()))), "t2", "t1")
    assert other.statistic == pytest.approx(plain.statistic, rel=1e-10)
    scaled = {s: {v: 1e-9 * rows for v, rows in each.items()} for s, each in data.items()}
    assert judged(as_moments(scaled), "t1", "t2").statistic == pytest.approx(plain.statistic)


def test_swapping_the_variants_keeps_the_test() -> None:
    data = drawn(5, ("t", "c"), (0.0, 0.7, 0.2))
    swapped = {s: {"t": each["c"], "c": each["t"]} for s, each in data.items()}
    one, other = judged(as_moments(data)), judged(as_moments(swapped))
    assert other.statistic == pytest.approx(one.statistic, rel=1e-12)
    assert other.common[0] == pytest.approx(-one.common[0], rel=1e-12)


def test_equal_effects_have_a_statistic_of_zero() -> None:
    each = {"t": moments([1, 2, 3]), "c": moments([0, 1, 2])}
    result = judged({"a": each, "b": each})
    assert result.statistic == pytest.approx(0, abs=1e-14)
    assert result.p_value == pytest.approx(1)
    assert result.i_squared == 0


GOOD = {"t": moments([1, 2]), "c": moments([0, 2])}


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ({}, "too-few-segments"),
        ({"a": GOOD}, "too-few-segments"),
        ({"a": GOOD, "b": {"t": moments([1, 2])}}, "empty-segment"),
        ({"a": GOOD, "b": {"t": moments([1, 2]), "c": moments([])}}, "empty-segment"),
        ({"a": GOOD, "b": {"t": moments([1, 2]), "c": moments([1])}}, "too-few-units"),
        ({"a": GOOD, "b": {"t": moments([1, 2]), "c": moments([1, 1])}}, "no-variance"),
        ({"a": GOOD, "b": {"t": moments([1, math.nan]), "c": moments([1, 2])}}, "not-finite"),
    ],
)
def test_degenerate_segments_have_a_reason(segments: Segments, reason: str) -> None:
    refused = heterogeneity(segments, "y", control="c", treatments=("t",))
    assert isinstance(refused, NotEstimable)
    assert refused.reason == reason
    with pytest.raises(ValueError, match="treatment"):
        heterogeneity(segments, "y", control="c", treatments=())


@pytest.mark.slow
def test_false_alarms() -> None:
    # two treatments, four segments of 100 per variant, equal effects, unequal variances:
    # 4,000 replications, se 0.0034; chi-square with estimated variances is a little liberal
    alarms = 0
    for seed in range(4000):
        data = drawn(10_000 + seed, ("t1", "t2", "c"), (0.3, 0.3, 0.3, 0.3))
        alarms += judged(as_moments(data), "t1", "t2").p_value <= 0.05
    assert 0.04 <= alarms / 4000 <= 0.085
