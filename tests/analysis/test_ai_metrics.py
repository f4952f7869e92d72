"""AI metrics of an evaluation: levels, intervals against cluster-robust regression, guardrails."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from klartext.analysis import contrast, quantiles
from klartext.analysis.document import to_json
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.guardrails import read_guardrail
from klartext.analysis.look import Look
from klartext.analysis.quantiles import Observations
from klartext.analysis.readout import Readout
from klartext.analysis.result import Analysis, MetricResult
from klartext.experiments.experiment import (
    AI_METRICS,
    Experiment,
    Guardrail,
    Inference,
    Plan,
)
from tests.analysis.samples import (
    CONVERSION,
    START,
    call,
    evaluated,
    experiment,
    exposure,
    read,
    tables,
)

KEYS = [metric.key for metric in AI_METRICS]
FIXED = Inference("fixed", Decimal("0.05"), Decimal("0.1"))


def spec(**given: Any) -> Experiment:
    return experiment(
        **{
            "metrics": (CONVERSION,),
            "value": (),
            "inference": FIXED,
            "registration": "retrospective",
            "plan": Plan(START, None, 2400, {}),
        }
        | given
    )


def made(n: int, *, control_too: bool = True) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make n units of each variant; a unit has its own error rate and its own speed."""
    rng = np.random.default_rng(20261122)
    exposures, calls = [], []
    for unit in range(2 * n):
        variant = "ai" if unit % 2 else "control"
        exposures.append(exposure(unit, variant))
        if variant == "control" and not control_too:
            continue
        rate, speed = rng.beta(1, 6 if variant == "ai" else 9), rng.lognormal(6, 0.5)
        for place in range(int(rng.integers(0, 6))):
            wrong = rng.random() < rate
            calls.append(
                call(
                    f"{rng.gamma(2.0) / 100:.6f}", unit=unit, variant=variant,
                    task=f"{unit}.{place // 2}", input_tokens=int(rng.integers(100, 900)),
                    output_tokens=int(rng.integers(1, 99)), cached_tokens=int(rng.integers(0, 99)),
                    duration_ms=round(speed * rng.lognormal(0, 0.3)),
                    error="timeout" if wrong else None,
                )
            )  # fmt: skip
    return exposures, calls


def analysed(plan: Experiment, exposures: list[Any], calls: list[Any]) -> Analysis:
    return evaluated(plan, read(plan, tables(exposures, [], calls)))


def results(found: Analysis) -> dict[str, MetricResult]:
    return {result.metric: result for result in found.metrics if result.metric in KEYS}


@pytest.fixture(scope="module")
def facts() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return made(2_000)


@pytest.fixture(scope="module")
def readout(facts: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> Readout:
    return read(spec(), tables(facts[0], [], facts[1]))


@pytest.fixture(scope="module")
def analysis(readout: Readout) -> Analysis:
    return evaluated(spec(), readout)


def first(result: MetricResult) -> Estimate:
    _, found = result.estimates[0]
    assert isinstance(found, Estimate)
    return found


def test_all_are_there_and_in_the_document(analysis: Analysis) -> None:
    assert list(results(analysis)) == KEYS
    written: Any = to_json(analysis)["metrics"]
    by_key = {one["metric"]: one for one in written}
    assert by_key["ai.error_rate"]["is_rate"]
    assert by_key["ai.cost_per_task"]["is_money"]
    assert by_key["ai.latency_p95"]["kind"] == "quantile"
    for key in KEYS:
        estimate = by_key[key]["estimates"][0]
        if key == "ai.latency_p95":  # asks for 4,000 units with calls
            assert estimate["reason"]["interval"]["code"] == "too-few-units"
        else:
            assert estimate["interval"]


@pytest.mark.golden("statsmodels 0.15: OLS, clustered errors")
def test_ratios_equal_cluster_robust_regression(
    analysis: Analysis, facts: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    # statsmodels OLS of a call's error on its variant with clustered errors: coefficients are
    # the shares, CR0 is sum (e - R c)^2 / N^2; the delta method has n/(n - 1) with n all units
    exposures, calls = facts
    error = np.array([float(one["error"] is not None) for one in calls])
    treated = np.array([float(one["variant"] == "ai") for one in calls])
    units = np.array([one["unit"] for one in calls])
    fit = sm.OLS(error, np.column_stack([1 - treated, treated])).fit(
        cov_type="cluster", cov_kwds={"groups": units, "use_correction": False}
    )
    n = len(exposures) // 2
    found = results(analysis)["ai.error_rate"]
    assert (found.baseline_mean, found.mean) == pytest.approx(tuple(fit.params), rel=1e-10)
    expected = math.sqrt((fit.bse**2).sum() * n / (n - 1))
    assert first(found).std_error == pytest.approx(expected, rel=1e-9)
    naive = sm.OLS(error, np.column_stack([1 - treated, treated])).fit(cov_type="HC0")
    assert math.sqrt((naive.bse**2).sum()) < 0.95 * expected


def test_levels_are_sums_over_sums(
    analysis: Analysis, facts: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    mine = [one for one in facts[1] if one["variant"] == "ai"]
    tasks = len({one["task"] for one in mine})
    found = results(analysis)
    assert found["ai.cost_per_task"].mean == pytest.approx(
        float(sum((one["amount"] for one in mine), Decimal(0))) / tasks, rel=1e-12
    )
    tokens = sum(one["input_tokens"] + one["output_tokens"] for one in mine)
    assert found["ai.tokens"].mean == pytest.approx(tokens / tasks, rel=1e-12)
    assert found["ai.cache_share"].mean == pytest.approx(
        sum(one["cached_tokens"] for one in mine) / sum(one["input_tokens"] for one in mine)
    )
    latencies = [one["duration_ms"] for one in mine]
    for q, key in ((0.5, "ai.latency_p50"), (0.95, "ai.latency_p95")):
        assert found[key].mean == np.quantile(latencies, q, method="inverted_cdf")


def test_latency_equals_the_rows(
    analysis: Analysis, facts: tuple[list[dict[str, Any]], list[dict[str, Any]]]
) -> None:
    sides = []
    for variant in ("ai", "control"):
        mine = [one for one in facts[1] if one["variant"] == variant]
        values = np.array([float(one["duration_ms"]) for one in mine])
        sides.append(Observations.of(values, np.array([one["unit"] for one in mine])))
    expected = contrast.fixed(
        quantiles.difference(sides[0], sides[1], 0.5), alpha=0.05, single_look=True
    )
    assert first(results(analysis)["ai.latency_p50"]) == expected


def test_calls_without_a_unit_have_levels_only(
    facts: tuple[list[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    exposures, calls = facts
    nobody = [one | {"unit": None} for one in calls]
    found = analysed(spec(), exposures, nobody)
    for key, result in results(found).items():
        assert isinstance(result.mean, float), key
        ((_, refused),) = result.estimates
        assert isinstance(refused, NotEstimable)
        assert refused.reason == "calls-without-unit"
    errors = [one["error"] is not None for one in calls if one["variant"] == "ai"]
    assert results(found)["ai.error_rate"].mean == pytest.approx(np.mean(errors), rel=1e-12)
    (check,) = [one for one in found.checks if one.code == "ai_units"]
    assert (check.severity, check.value) == ("warning", 0.0)


def test_without_calls_there_are_none() -> None:
    exposures, _ = made(50)
    found = analysed(spec(), exposures, [])
    assert results(found) == {}
    assert not [one for one in found.checks if one.code == "ai_units"]


def test_a_control_without_ai_has_no_difference() -> None:
    found = results(analysed(spec(), *made(300, control_too=False)))
    result = found["ai.error_rate"]
    assert isinstance(result.mean, float)
    assert isinstance(result.baseline_mean, NotEstimable)
    ((_, refused),) = result.estimates
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "no-calls"


@pytest.fixture(scope="module")
def one_sided() -> Readout:
    exposures, calls = made(1_500, control_too=False)
    return read(spec(), tables(exposures, [], calls))


def state(readout: Readout, limit: Guardrail, mode: str) -> str:
    metric, plan = spec().metric(limit.metric), spec(guardrails=(limit,))
    found = read_guardrail(
        plan,
        limit,
        readout.measured(metric, "ai"),
        readout.measured(metric, "control"),
        look=Look("fixed", 3000, deciding=True)
        if mode == "fixed"
        else Look("anytime", 3000, deciding=True),
        alpha=0.05,
    )
    assert isinstance(found.harm, Interval), found
    return "kept" if found.is_kept else "broken" if found.is_broken else "open"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Guardrail("ai.error_rate", at_most=Decimal("0.2")), "kept"),
        (Guardrail("ai.error_rate", at_most=Decimal("0.1")), "broken"),
        (Guardrail("ai.error_rate", at_most=Decimal("0.145")), "open"),
        (Guardrail("ai.latency_p50", at_most=Decimal(460)), "kept"),
        (Guardrail("ai.latency_p50", at_most=Decimal(300)), "broken"),
        (Guardrail("ai.cost_per_task", at_most=Decimal("0.05")), "kept"),
        (Guardrail("ai.tokens", at_most=Decimal(500)), "broken"),
    ],
)
@pytest.mark.parametrize("mode", ["fixed", "anytime"])
def test_limits_on_levels_need_no_control(
    one_sided: Readout, limit: Guardrail, expected: str, mode: str
) -> None:
    assert state(one_sided, limit, mode) == expected


def test_a_broken_limit_stops(one_sided: Readout) -> None:
    limit = Guardrail("ai.error_rate", at_most=Decimal("0.1"))
    assert evaluated(spec(guardrails=(limit,)), one_sided).decision.rule == "safety"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Guardrail("ai.error_rate", may_worsen_by=Decimal("0.2")), "kept"),
        (Guardrail("ai.error_rate", may_worsen_by=Decimal("0.01")), "broken"),
        (Guardrail("ai.latency_p50", may_worsen_by_relative=Decimal("0.5")), "kept"),
        (Guardrail("ai.latency_p50", may_worsen_by=Decimal(500)), "kept"),
    ],
)
@pytest.mark.parametrize("mode", ["fixed", "anytime"])
def test_limits_on_differences_compare_with_the_control(
    readout: Readout, limit: Guardrail, expected: str, mode: str
) -> None:
    assert state(readout, limit, mode) == expected


def test_a_relative_limit_on_a_quantile_scales_the_control(readout: Readout) -> None:
    # harm of "25 % slower" is T - 1.25 C: at the medians m and n it is about m - 1.25 n
    metric = spec().metric("ai.latency_p50")
    one, base = (readout.measured(metric, variant) for variant in ("ai", "control"))
    assert isinstance(one, Observations)
    assert isinstance(base, Observations)
    limit = Guardrail("ai.latency_p50", may_worsen_by_relative=Decimal("0.25"))
    look = Look("fixed", 3000, deciding=True)
    found = read_guardrail(spec(), limit, one, base, look=look, alpha=0.05)
    expected = contrast.fixed(
        quantiles.difference(one, base.times(1.25), 0.5), alpha=0.05, single_look=True
    )
    assert isinstance(expected, Estimate)
    assert (found.harm, found.limit) == (expected.interval, 0.0)
    assert expected.value == one.at_rank(Fraction("0.5")) - 1.25 * base.at_rank(Fraction("0.5"))
