"""Effects by segment, by hand and against pandas, scipy and statsmodels' formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from klartext.analysis.document import dumps, to_json
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.heterogeneity import Heterogeneity
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.analysis.result import Analysis, MetricResult
from klartext.analysis.segment_effects import SegmentEffect, segment_effect
from klartext.analysis.segments import Level, LevelMoments, Segment
from klartext.experiments.experiment import Experiment, Inference, Metric
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    evaluated,
    experiment,
    exposure,
    purchase,
    read,
    tables,
)

FIXED = {
    "registration": "retrospective",
    "inference": Inference("fixed", experiment().inference.alpha,
                           experiment().inference.prior_relative_sd),
}  # fmt: skip
Cells = Mapping[tuple[str | None, str], np.ndarray[Any, Any]]


def made(cells: Cells, **given: Any) -> tuple[Experiment, Analysis]:
    """Analyse units with these revenues per country and variant."""
    spec = experiment(segments=("country",), metrics=(CONVERSION, REVENUE), **given)
    exposures, events, unit = [], [], 0
    for (country, variant), amounts in cells.items():
        for amount in amounts:
            unit += 1
            exposures.append(exposure(unit, variant, p_country=country))
            if amount:
                events.append(purchase(unit, f"{amount:.6f}"))
    return spec, evaluated(spec, read(spec, tables(exposures, events)))


def effect(found: Analysis, metric: str) -> SegmentEffect:
    (one,) = (each for each in found.segments if each.metric == metric)
    return one


def cells(rng: np.random.Generator, lifts: Mapping[str, float], n: int = 400) -> Cells:
    return {
        (country, variant): np.round(rng.exponential(10 + (lift if variant == "ai" else 0), n), 6)
        for country, lift in lifts.items()
        for variant in ("control", "ai")
    }


@pytest.mark.golden("scipy 1.17: stats.ttest_ind(equal_var=False)")
def test_levels_are_welch_tests_and_holm_is_scipys() -> None:
    given = cells(np.random.default_rng(1), {"DE": 2.0, "AT": 0.0, "FR": 1.0})
    _, found = made(given, **FIXED)
    revenue = effect(found, "revenue")
    expected = []
    for level in revenue.levels:
        one, base = given[level.level.value, "ai"], given[level.level.value, "control"]
        test = stats.ttest_ind(one, base, equal_var=False)
        ci = test.confidence_interval(0.95)
        assert isinstance(level.estimate, Estimate)
        assert level.method == "welch"
        assert level.estimate.value == pytest.approx(one.mean() - base.mean())
        assert level.estimate.p_value == pytest.approx(test.pvalue)
        assert level.estimate.interval.lower == pytest.approx(ci.low)  # type: ignore[union-attr]  # bounded
        assert (level.n, level.baseline_n) == (400, 400)
        expected.append(test.pvalue)
    order = np.argsort(expected)
    stepped = np.maximum.accumulate(np.array(expected)[order] * [3, 2, 1])
    adjusted = dict(zip(order, np.minimum(stepped, 1), strict=True))
    for place, level in enumerate(revenue.levels):
        assert level.p_adjusted == pytest.approx(adjusted[place])


def test_the_test_of_equal_effects_is_cochrans_q_and_the_total_post_stratified() -> None:
    rng = np.random.default_rng(2)
    given = dict(cells(rng, {"DE": 4.0, "AT": 0.0, "FR": 0.0}))
    given["FR", "ai"] = given["FR", "ai"][:100]  # an unlucky split between levels
    _, found = made(given, **FIXED)
    revenue = effect(found, "revenue")
    countries = ("DE", "AT", "FR")
    d = np.array([given[c, "ai"].mean() - given[c, "control"].mean() for c in countries])
    v = np.array(
        [given[c, "ai"].var(ddof=1) / len(given[c, "ai"]) + given[c, "control"].var(ddof=1) / 400
         for c in countries]
    )  # fmt: skip
    q = float((d**2 / v).sum() - (d / v).sum() ** 2 / (1 / v).sum())
    assert isinstance(revenue.differs, Heterogeneity)
    assert revenue.differs.statistic == pytest.approx(q, rel=1e-6)
    assert revenue.differs.p_value == pytest.approx(stats.chi2.sf(q, 2), rel=1e-6)
    assert revenue.valid_for_look
    shares = np.array([len(given[c, "ai"]) + 400 for c in countries]) / 2_100
    assert isinstance(revenue.total, Estimate)
    assert isinstance(revenue.raw, Estimate)
    assert revenue.total.value == pytest.approx(float(shares @ d))
    between = shares @ (d - shares @ d) ** 2 / 2_100
    assert revenue.total.std_error == pytest.approx(math.sqrt(shares**2 @ v + between), rel=1e-6)
    pooled = np.concatenate([given[c, "ai"] for c in countries])
    control = np.concatenate([given[c, "control"] for c in countries])
    assert revenue.raw.value == pytest.approx(pooled.mean() - control.mean())
    assert revenue.joined == ()


def test_pooling_draws_levels_together() -> None:
    _, found = made(cells(np.random.default_rng(3), {"DE": 3, "AT": -1, "FR": 1}), **FIXED)
    revenue = effect(found, "revenue")
    raw = [level.estimate.value for level in revenue.levels if isinstance(level.estimate, Estimate)]
    drawn = [level.pooled for level in revenue.levels]
    assert all(isinstance(each, float) for each in drawn)
    assert np.std([each for each in drawn if isinstance(each, float)]) < np.std(raw)
    for level in revenue.levels:
        assert isinstance(level.probability_positive, float)
        assert 0 < level.probability_positive < 1


def test_an_empty_level_is_a_row_with_a_reason() -> None:
    given = dict(cells(np.random.default_rng(4), {"DE": 1.0, "AT": 1.0}))
    given[None, "ai"] = np.array([5.0, 0.0, 7.0])
    _, found = made(given, audience={"country": ("AT", "DE", "LI")}, **FIXED)
    conversion = effect(found, "conversion")
    assert [level.level for level in conversion.levels] == [
        Level("value", "AT"), Level("value", "DE"), Level("value", "LI"), Level("missing"),
    ]  # fmt: skip
    empty, missing = conversion.levels[2:]
    for level, n in ((empty, 0), (missing, 3)):
        assert (level.n, level.baseline_n) == (n, 0)
        for number in (level.estimate, level.p_adjusted, level.pooled, level.probability_positive):
            assert isinstance(number, NotEstimable)
    assert isinstance(empty.mean, NotEstimable)
    assert conversion.left_out[-2:] == (Level("value", "LI"), Level("missing"))
    # The three units without a country are no stratum of their own, but stay in the total.
    assert conversion.joined == (Level("missing"), Level("value", "AT"))
    revenue = effect(found, "revenue")
    assert isinstance(revenue.total, Estimate)
    assert revenue.total.n == 803
    assert not isinstance(revenue.differs, NotEstimable)
    dumps(to_json(found))  # nothing in it is NaN or infinite


def test_ratios_are_compared_level_by_level_only() -> None:
    basket = Metric("basket", "ratio", None, None, 0 * DAY, "increase", numerator="revenue",
                    denominator="conversion")  # fmt: skip
    spec = experiment(segments=("country",), metrics=(CONVERSION, REVENUE, basket), **FIXED)
    rows = [exposure(u, "ai" if u % 2 else "control", p_country="DE") for u in range(400)]
    bought = [purchase(u, f"{10 + u % 7}") for u in range(0, 400, 3)]
    found = effect(evaluated(spec, read(spec, tables(rows, bought))), "basket")
    (level,) = found.levels
    assert isinstance(level.estimate, Estimate)
    assert level.method == "ratio"
    for number in (found.differs, found.total, level.pooled):
        assert isinstance(number, NotEstimable)
        assert number.reason == "ratio-metric"


def test_anytime_levels_wait_for_their_burn_in_and_nothing_else_is_valid() -> None:
    plan = replace(experiment().plan, total_units=2_000)
    given = cells(np.random.default_rng(5), {"DE": 1.0, "AT": 1.0}, n=400)
    tiny = {**given, ("FR", "ai"): np.ones(20), ("FR", "control"): np.full(20, 2.0)}
    _, found = made(tiny, plan=plan)
    revenue = effect(found, "revenue")
    by_value = {level.level.value: level for level in revenue.levels}
    assert by_value["DE"].method == "anytime"
    assert isinstance(by_value["DE"].estimate, Estimate)
    assert isinstance(by_value["FR"].estimate, NotEstimable)
    assert not revenue.valid_for_look
    assert isinstance(revenue.total, Estimate)
    assert revenue.total.valid_for_look


@pytest.mark.slow
def test_without_a_difference_holm_and_q_err_as_often_as_they_say() -> None:
    """2,000 experiments of four levels with one true effect; binomial band at 5 %: 0.036-0.064."""
    rng, look = np.random.default_rng(START.year), Look("fixed", None, deciding=True)
    result = MetricResult("x", "ai", "control", False, False, False, 0.0, 0.0, ())  # noqa: FBT003 - by place
    holm = q = 0
    for _ in range(2_000):
        levels = tuple(
            LevelMoments(
                Level("value", str(place)), {},
                {
                    variant: Moments.of(("x",), rng.exponential(1 + place, (150, 1)))
                    for variant in ("control", "ai")
                },
            )
            for place in range(4)
        )  # fmt: skip
        found = segment_effect(
            Segment("p", levels), result, "x", look=look, alpha=0.05, prior_relative_sd=0.1,
            read=lambda one, base: look.estimates(one, base, "x", alpha=0.05, is_rate=False)[0],
        )  # fmt: skip
        ps = [level.p_adjusted for level in found.levels]
        holm += min(p for p in ps if isinstance(p, float)) <= 0.05
        assert isinstance(found.differs, Heterogeneity)
        q += found.differs.p_value <= 0.05
    assert holm / 2_000 <= 0.064
    assert 0.036 <= q / 2_000 <= 0.064
