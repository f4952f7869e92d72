"""From readout to verdict: real data against published numbers, and what always holds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klartext.analysis.document import to_json
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.result import Analysis, WindowView
from klartext.app.cli.scorecard import scorecard
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    Covariate,
    DecisionRule,
    Experiment,
    Guardrail,
    Inference,
    Metric,
    Plan,
    Rollout,
    Variant,
    Worth,
)
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    START,
    WATERMARK,
    evaluated,
    experiment,
    readout,
    shop,
)

FIXED = Inference("fixed", Decimal("0.05"), Decimal("0.1"))
LENIENT = DecisionRule(Decimal(0), Decimal("0.8"), Decimal(100_000), timedelta(0), None)
FINISHED = experiment(registration="retrospective", inference=FIXED, decision=LENIENT)


def estimate(analysis: Analysis, metric: str, method: str, variant: str = "ai") -> Estimate:
    (result,) = [m for m in analysis.metrics if (m.metric, m.variant) == (metric, variant)]
    found = dict(result.estimates)[method]
    assert isinstance(found, Estimate)
    return found


def both_shops(seed: int = 1, n: int = 4000, *, lift: float = 0.05) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "control": shop(rng, n, rate=0.10),
        "ai": shop(rng, n, rate=0.10 + lift, cost=0.10),
    }


def test_cookie_cats(shared_data: Path) -> None:
    """Reference: shared/data/README.md, computed with scipy and statsmodels."""
    rows = pa.csv.read_csv(shared_data / "cookie_cats" / "cookie_cats.csv")
    days = [
        Metric(f"retention_{d}", "conversion", f"r{d}", None, 8 * DAY, "increase") for d in (1, 7)
    ]
    spec = replace(
        FINISHED,
        variants=(Variant("gate_30", 500_000, {}), Variant("gate_40", 500_000, {})),
        control="gate_30",
        metrics=tuple(days),
        value=(Worth("retention_7", Assumption(Decimal("0.5"))),),
    )
    gate = rows["version"].to_numpy(zero_copy_only=False)
    one, seven = (
        rows[f"retention_{d}"].to_numpy(zero_copy_only=False).astype(float) for d in (1, 7)
    )
    units = {
        key: {
            "retention_1": one[gate == key],
            "retention_7": seven[gate == key],
            "margin": 0.5 * seven[gate == key],
            "cost": np.zeros((gate == key).sum()),
        }
        for key in ("gate_30", "gate_40")
    }
    found = evaluated(spec, readout(spec, units))
    srm = found.checks[0]
    assert (srm.code, srm.severity) == ("srm", "warning")
    assert srm.value == pytest.approx(0.008608, abs=5e-7)
    seven_days = estimate(found, "retention_7", "wald", "gate_40")
    assert seven_days.value == pytest.approx(-0.0082013, abs=5e-8)
    assert isinstance(seven_days.interval, Interval)
    assert seven_days.interval.lower == pytest.approx(-0.0132816, abs=5e-8)
    assert seven_days.interval.upper == pytest.approx(-0.0031210, abs=5e-8)
    one_day = estimate(found, "retention_1", "wald", "gate_40")
    assert one_day.value == pytest.approx(-0.0059052, abs=5e-8)
    assert found.decision.verdict == "STOP"


def test_a_ratio_is_read_from_its_parts() -> None:
    """Reference: the delta method written out with numpy on the unit rows."""
    aov = Metric("aov", "ratio", None, None, timedelta(0), "increase",
                 numerator="revenue", denominator="conversion")  # fmt: skip
    spec = replace(FINISHED, metrics=(*FINISHED.metrics, aov))
    shops = both_shops()
    found = evaluated(spec, readout(spec, shops))
    (result,) = [metric for metric in found.metrics if metric.metric == "aov"]
    assert (result.kind, result.is_rate) == ("ratio", False)
    levels, variances = {}, {}
    for key, rows in shops.items():
        y, z = rows["revenue"], rows["conversion"]
        levels[key] = y.sum() / z.sum()
        variances[key] = ((y - levels[key] * z) / z.mean()).var(ddof=1) / len(y)
    delta = estimate(found, "aov", "ratio")
    assert delta.value == pytest.approx(levels["ai"] - levels["control"], rel=1e-12)
    assert delta.std_error == pytest.approx(sum(variances.values()) ** 0.5, rel=1e-9)
    assert result.mean == pytest.approx(levels["ai"], rel=1e-12)
    assert delta.valid_for_look
    document = json.loads(json.dumps(to_json(found)))
    (written,) = [metric for metric in document["metrics"] if metric["metric"] == "aov"]
    assert written["kind"] == "ratio"
    anytime = replace(
        spec,
        inference=Inference("anytime", Decimal("0.05"), Decimal("0.1")),
        plan=Plan(None, None, 10_000, {}),
    )
    (result,) = [
        m for m in evaluated(anytime, readout(anytime, shops)).metrics if m.metric == "aov"
    ]
    name, running = result.estimates[0]
    assert name == "anytime-ratio"
    assert isinstance(running, Estimate)
    assert running.valid_for_look
    assert running.std_error == pytest.approx(delta.std_error, rel=1e-12)


@pytest.mark.parametrize("mode", ["fixed", "anytime"])
def test_covariates_adjust_and_the_variance_removed_is_said(mode: Any) -> None:
    """Half of the variance is known before: the adjusted error is sqrt(1/2) of the plain one."""
    covariates = (Covariate("history"), Covariate("constant"))
    metric = replace(FINISHED.metrics[1], covariates=covariates)
    spec = replace(
        FINISHED,
        metrics=(CONVERSION, metric),
        inference=replace(FIXED, mode=mode),
        plan=Plan(None, None, 10_000, {}),
    )
    rng = np.random.default_rng(5)
    units = {}
    for key, lift in (("control", 0.0), ("ai", 0.5)):
        history = rng.normal(10, 1, 5000)
        revenue = 5 + lift + history + rng.normal(0, 1, 5000)
        units[key] = {
            "conversion": np.ones(5000), "revenue": revenue, "margin": revenue,
            "cost": np.zeros(5000), "covariate.history": history,
            "covariate.constant": np.ones(5000),
        }  # fmt: skip
    found = evaluated(spec, readout(spec, units))
    (result,) = [one for one in found.metrics if one.metric == "revenue"]
    (name, adjusted), *others = result.estimates
    assert name == ("lin" if mode == "fixed" else "anytime-lin")
    assert isinstance(adjusted, Estimate)
    plain = dict(others)["welch"]
    assert isinstance(plain, Estimate)
    assert result.adjustment is not None
    assert result.adjustment.covariates == ("covariate.history",)
    assert result.adjustment.dropped == (("covariate.constant", "constant"),)
    assert result.adjustment.variance_removed == pytest.approx(0.5, abs=0.03)
    assert adjusted.std_error / plain.std_error == pytest.approx(0.5**0.5, abs=0.02)
    document = json.loads(json.dumps(to_json(found)))
    written = {one["metric"]: one.get("adjustment") for one in document["metrics"]}
    assert written["revenue"]["covariates"] == ["covariate.history"]
    assert written["revenue"]["variance_removed"] == pytest.approx(0.5, abs=0.03)
    assert written["conversion"] is None
    assert "of the variance removed; constant is constant" in scorecard(found)


def test_a_cap_that_turns_the_result_withholds_go() -> None:
    """One whale in the control: capped the treatment wins, uncapped it loses."""
    spec = replace(
        FINISHED,
        metrics=(CONVERSION, replace(FINISHED.metrics[1], cap=Decimal(100))),
        decision=replace(LENIENT, approvals=None),
    )
    units = both_shops(lift=0.2)
    for rows in units.values():
        rows["revenue.uncapped"] = rows["revenue"].copy()
        rows["revenue"] = np.minimum(rows["revenue"], 100)
        rows["margin"] = rows["revenue"]
    passed = evaluated(spec, readout(spec, units))
    assert passed.decision.verdict == "GO"
    (capped,) = [one for one in passed.metrics if one.metric == "revenue"]
    assert capped.estimates[-1][0] == "uncapped"
    whale = units["control"]["revenue.uncapped"].argmax()
    units["control"]["revenue.uncapped"][whale] = 10_000_000
    held = evaluated(spec, readout(spec, units))
    assert held.decision.verdict != "GO"
    unmet = [reason.code for reason in held.decision.reasons if not reason.met]
    assert "uncapped_net_benefit" in unmet


def test_three_equal_shares_are_tested_as_equal() -> None:
    """Hillstrom's 21,306 / 21,307 / 21,387: chi-square p 0.9036929576 (scipy, equal shares)."""
    sizes = {"control": 21_306, "mens": 21_307, "womens": 21_387}
    spec = replace(
        FINISHED,
        variants=(
            Variant("control", 333_334, {}),
            Variant("mens", 333_333, {}),
            Variant("womens", 333_333, {}),
        ),
    )
    units = {
        key: {name: np.zeros(n) for name in ("conversion", "revenue", "margin", "cost")}
        for key, n in sizes.items()
    }
    assert evaluated(spec, readout(spec, units)).checks[0].value == pytest.approx(0.9036929576)


def test_a_clear_gain_is_a_go() -> None:
    found = evaluated(FINISHED, readout(FINISHED, both_shops()))
    assert (found.decision.verdict, found.decision.variant) == ("GO", "ai")
    assert not found.registered
    assert [m.metric for m in found.metrics if m.primary] == ["net"]
    assert [m.is_money for m in found.metrics] == [True, False, True]


def test_a_clear_loss_is_a_stop() -> None:
    rows = both_shops()
    rows["ai"]["cost"] = rows["ai"]["cost"] + 20
    found = evaluated(FINISHED, readout(FINISHED, rows))
    assert (found.decision.verdict, found.decision.rule) == ("STOP", "loss")


def test_no_effect_is_never_a_go() -> None:
    found = evaluated(FINISHED, readout(FINISHED, both_shops(lift=0.0)))
    assert found.decision.verdict == "STOP"
    assert found.decision.rule in {"no_evidence", "loss"}


def test_an_anytime_test_reads_the_sequence() -> None:
    spec = experiment(plan=Plan(START, None, 10_000, {}), decision=LENIENT)
    found = evaluated(spec, readout(spec, both_shops()))
    assert found.registered
    net = dict(found.metrics[0].estimates)
    assert next(iter(net)) == "anytime"
    wide, narrow = net["anytime"], net["welch"]
    assert isinstance(wide, Estimate)
    assert isinstance(narrow, Estimate)
    assert isinstance(wide.interval, Interval)
    assert isinstance(narrow.interval, Interval)
    assert wide.interval.lower < narrow.interval.lower
    view = found.treatments[0].window
    assert isinstance(view.incremental_margin_interval, Interval)
    assert isinstance(view.roi_interval, Interval)
    assert found.decision.verdict == "GO"


def test_data_older_than_the_registration_gives_no_readout() -> None:
    spec = experiment(plan=Plan(START, None, 10_000, {}), decision=LENIENT)
    early = readout(spec, both_shops(), first_exposure=START - 4 * DAY)
    found = evaluated(spec, early)
    assert not found.registered
    assert found.decision.verdict == "INVALID"
    assert [reason.code for reason in found.decision.reasons] == ["registration"]


def test_a_fixed_test_decides_at_its_planned_size_and_not_before() -> None:
    early = experiment(plan=Plan(START, None, 8001, {}), decision=LENIENT, inference=FIXED)
    reasons = {r.code for r in evaluated(early, readout(early, both_shops())).decision.reasons}
    assert "deciding_look" in reasons
    assert evaluated(early, readout(early, both_shops())).decision.verdict == "CONTINUE"
    due = replace(early, plan=Plan(START, None, 8000, {}))
    assert evaluated(due, readout(due, both_shops())).decision.verdict == "GO"
    # There is no later valid look: without evidence the one look is also the end.
    nothing = readout(due, both_shops(lift=0.0))
    assert evaluated(due, nothing).decision.verdict == "STOP"


@pytest.mark.parametrize(
    ("latest_end", "mature", "verdict"),
    [
        (WATERMARK.cutoff + DAY, 4000, "CONTINUE"),
        (WATERMARK.cutoff - DAY, 4000, "STOP"),
        (WATERMARK.cutoff - DAY, 3999, "CONTINUE"),
        (WATERMARK.cutoff - 16 * DAY, 3999, "STOP"),
        (None, 4000, "CONTINUE"),
    ],
)
def test_the_registered_end_comes_when_its_units_are_mature(
    latest_end: Any, mature: int, verdict: str
) -> None:
    spec = experiment(plan=Plan(START, latest_end, 10_000, {}))
    found = readout(spec, both_shops(lift=0.0))
    counts = tuple(replace(count, mature=mature) for count in found.counts)
    assert evaluated(spec, replace(found, counts=counts)).decision.verdict == verdict


def test_the_budget_stops_the_test() -> None:
    line = CostLine("other", "unit", Assumption(Decimal("0.10")), "ai")
    spec = replace(FINISHED, costs=Costs(Decimal(400), None, (line,)))
    found = evaluated(spec, readout(spec, both_shops()))
    assert (found.decision.verdict, found.decision.rule) == ("STOP", "safety")
    assert found.decision.reasons[0].value == 400.0


def test_a_broken_guardrail_stops_a_test_that_pays() -> None:
    guardrail = Guardrail("conversion", may_worsen_by=Decimal("0.001"))
    metrics = (replace(CONVERSION, direction="decrease"), FINISHED.metrics[1])
    spec = replace(FINISHED, metrics=metrics, guardrails=(guardrail,))
    found = evaluated(spec, readout(spec, both_shops()))
    assert (found.decision.verdict, found.decision.rule) == ("STOP", "safety")


def test_promised_calls_that_never_came_block_a_go() -> None:
    spec = replace(FINISHED, costs=Costs(None, "gateway", ()))
    found = evaluated(spec, readout(spec, both_shops()))
    assert found.completeness.priced_share == 0.0
    assert found.decision.verdict == "STOP"
    assert "cost_complete" in {r.code for r in found.decision.reasons if not r.met}


def test_categories_without_any_cost_are_named() -> None:
    line = CostLine("model_fees", "unit", Assumption(Decimal("0.10")), "ai")
    spec = replace(FINISHED, costs=Costs(None, None, (line,)))
    found = evaluated(spec, readout(spec, both_shops()))
    assert "model_fees" not in found.completeness.left_out
    assert "human_review" in found.completeness.left_out


def test_two_treatments_are_decided_at_half_the_error() -> None:
    spec = replace(
        FINISHED,
        variants=(*FINISHED.variants, Variant("other", 0, {})),
    )
    rows = both_shops()
    found = evaluated(spec, readout(spec, rows | {"other": rows["control"]}))
    assert (found.alpha, found.rule_alpha) == (0.05, 0.025)
    assert [t.variant for t in found.treatments] == ["ai", "other"]


def test_without_value_the_first_metric_is_primary_and_nothing_is_a_go() -> None:
    spec = replace(FINISHED, value=())
    rows = {
        key: one | {"margin": np.zeros_like(one["margin"])} for key, one in both_shops().items()
    }
    found = evaluated(spec, readout(spec, rows))
    assert [(m.metric, m.primary) for m in found.metrics] == [
        ("conversion", True),
        ("revenue", False),
    ]
    assert found.decision.verdict == "STOP"


Units = dict[str, npt.NDArray[np.float64]]


@st.composite
def variants_of_units(draw: st.DrawFn) -> Units:
    """Anything a variant may hold: nothing, one unit, constants, everybody converts."""
    n = draw(st.integers(0, 6))
    values = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 2))
    kind = draw(st.sampled_from(["any", "zero", "constant"]))
    if kind == "any":
        revenue = np.array(draw(st.lists(values, min_size=n, max_size=n)))
    else:
        revenue = np.full(n, 0.0 if kind == "zero" else draw(values))
    cost = np.full(n, draw(st.sampled_from([0.0, 0.1, 250.0])))
    return {
        "conversion": (revenue != 0).astype(float),
        "revenue": revenue,
        "margin": revenue,
        "cost": cost,
    }


SPECS = [
    FINISHED,
    experiment(plan=Plan(START, None, 100, {})),
    experiment(plan=Plan(START, None, 8, {}), inference=FIXED),
    replace(
        FINISHED,
        rollout=Rollout(*(Assumption(Decimal(x)) for x in ("1000", "0.5", "0.7", "0.1"))),
        guardrails=(
            Guardrail("conversion", may_worsen_by=Decimal("0.01")),
            Guardrail("revenue", may_worsen_by_relative=Decimal("0.05")),
            Guardrail("conversion", at_most=Decimal("0.5")),
        ),
        costs=Costs(
            Decimal(10**9),
            None,
            (
                CostLine("engineering", "once", Assumption(Decimal(100)), None),
                CostLine("monitoring", "month", Assumption(Decimal(10)), "ai"),
            ),
        ),
    ),
]


@pytest.mark.parametrize("spec", SPECS, ids=["finished", "anytime", "fixed", "money"])
@settings(max_examples=60, deadline=None)
@given(control=variants_of_units(), treated=variants_of_units())
def test_whatever_the_data_every_figure_is_finite_or_has_a_reason(
    spec: Experiment, control: Units, treated: Units
) -> None:
    found = evaluated(spec, readout(spec, {"control": control, "ai": treated}))
    document = to_json(found)  # refuses what is not finite
    json.dumps(document, allow_nan=False)
    _every_null_has_a_reason(document)
    if min(len(control["cost"]), len(treated["cost"])) < 2:
        assert found.decision.verdict not in {"GO", "GO_LIMITED"}


def _every_null_has_a_reason(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _every_null_has_a_reason(item)
    elif isinstance(node, dict):
        said = set(node.get("reason", {})) if isinstance(node.get("reason"), dict) else set()
        told = {"detail", "rule"} & set(node)  # checks, reasons and decisions explain themselves
        for name, value in node.items():
            assert value is not None or name in said or told, (name, node)
            _every_null_has_a_reason(value)


def _window(found: Analysis) -> WindowView:
    return found.treatments[0].window


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_swapping_the_variants_flips_every_difference(seed: int) -> None:
    rows = both_shops(seed, 400)
    swapped = {"control": rows["ai"], "ai": rows["control"]}
    forward, back = (evaluated(FINISHED, readout(FINISHED, one)) for one in (rows, swapped))
    for metric, method in (("net", "welch"), ("conversion", "wald"), ("revenue", "welch")):
        one, other = estimate(forward, metric, method), estimate(back, metric, method)
        assert one.value == pytest.approx(-other.value)
        assert isinstance(one.interval, Interval)
        assert isinstance(other.interval, Interval)
        assert one.interval.lower == pytest.approx(-other.interval.upper)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e6))
def test_scaling_money_scales_every_amount_and_no_ratio(seed: int, scale: float) -> None:
    rows = both_shops(seed, 400)
    larger = {
        key: one | {name: scale * one[name] for name in ("revenue", "margin", "cost")}
        for key, one in rows.items()
    }
    plain, scaled = (evaluated(FINISHED, readout(FINISHED, one)) for one in (rows, larger))
    one, other = _window(plain), _window(scaled)
    assert _number(other.net_benefit) == pytest.approx(scale * _number(one.net_benefit), rel=1e-9)
    assert _number(other.roi) == pytest.approx(_number(one.roi), rel=1e-9)
    before, after = plain.treatments[0].outlook, scaled.treatments[0].outlook
    assert _number(after.posterior_mean) == pytest.approx(scale * _number(before.posterior_mean))
    assert _number(after.probability_positive) == pytest.approx(
        _number(before.probability_positive), abs=1e-9
    )


def _number(value: float | NotEstimable) -> float:
    assert not isinstance(value, NotEstimable)
    return value
