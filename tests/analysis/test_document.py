"""The JSON of DESIGN 10: names, nulls beside reasons, ten significant digits."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from klartext.analysis.document import dumps, moments_to_json, to_json
from klartext.analysis.estimate import NotEstimable, Unbounded
from klartext.analysis.moments import Moments
from klartext.experiments.experiment import Assumption, CostLine, Costs, Inference
from tests.analysis.samples import evaluated, experiment, readout, shop

SPEC = experiment(
    registration="retrospective",
    inference=Inference("fixed", Decimal("0.05"), Decimal("0.1")),
    costs=Costs(None, None, (CostLine("model_fees", "unit", Assumption(Decimal("0.10")), "ai"),)),
)


def found() -> Any:
    rng = np.random.default_rng(1)
    rows = {"control": shop(rng, 2000, rate=0.1), "ai": shop(rng, 2000, rate=0.14, cost=0.1)}
    return readout(SPEC, rows)


def test_the_document_has_the_promised_names() -> None:
    document: Any = to_json(evaluated(SPEC, found()))
    assert {
        "schema",
        "experiment",
        "spec_sha256",
        "registered",
        "watermark",
        "checks",
        "metrics",
        "by_variant",
        "decision",
    } <= set(document)
    assert document["schema"] == "klartext/analysis/v1"
    assert set(document["checks"][0]) == {"code", "severity", "value", "detail"}
    metric = document["metrics"][0]
    assert {"metric", "variant", "baseline", "primary", "estimates"} <= set(metric)
    assert {
        "method",
        "valid_for_look",
        "value",
        "interval",
        "relative",
        "relative_interval",
        "std_error",
        "p_value",
        "n",
    } <= set(metric["estimates"][0])
    assert {
        "variant",
        "net_benefit",
        "net_benefit_interval",
        "roi",
        "roi_interval",
        "cost",
        "incremental_margin",
        "incremental_conversions",
        "cost_per_incremental_conversion",
        "decision",
    } <= set(document["by_variant"][0])
    assert set(document["decision"]) == {"variant", "verdict", "rule", "reasons"}
    assert json.loads(dumps(document)) == document


def test_a_null_stands_beside_its_reason() -> None:
    document: Any = to_json(evaluated(SPEC, found()))
    outlook = document["by_variant"][0]["outlook"]
    assert outlook["npv"] is None
    assert outlook["reason"]["npv"]["code"] == "no-rollout"
    assert "reason" not in document["by_variant"][0]


def test_an_unbounded_set_keeps_its_shape() -> None:
    analysis = evaluated(SPEC, found())
    one = analysis.treatments[0]
    window = replace(one.window, roi_interval=Unbounded("rays", (-2.0, 3.0), 0.95))
    document: Any = to_json(replace(analysis, treatments=(replace(one, window=window),)))
    assert document["by_variant"][0]["roi_interval"] is None
    assert document["by_variant"][0]["reason"]["roi_interval"] == {
        "code": "unbounded",
        "detail": "the data do not determine it reliably",
        "shape": "rays",
        "bounds": [-2.0, 3.0],
        "level": 0.95,
    }


def test_an_estimate_that_does_not_exist_is_still_listed() -> None:
    analysis = evaluated(SPEC, found())
    refused = NotEstimable("burn-in", "too early")
    first = replace(analysis.metrics[0], estimates=(("anytime", refused),))
    document: Any = to_json(replace(analysis, metrics=(first,)))
    (estimate,) = document["metrics"][0]["estimates"]
    assert (estimate["method"], estimate["value"], estimate["valid_for_look"]) == (
        "anytime",
        None,
        False,
    )
    assert estimate["reason"]["value"] == {"code": "burn-in", "detail": "too early"}


def test_figures_have_ten_significant_digits() -> None:
    analysis = evaluated(SPEC, found())
    document: Any = to_json(replace(analysis, alpha=0.123456789012345))
    assert document["alpha"] == 0.1234567890


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_figure_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is not a figure"):
        to_json(replace(evaluated(SPEC, found()), alpha=value))


def test_stored_moments_give_the_same_moments_back() -> None:
    readout_ = found()
    document: Any = json.loads(dumps(moments_to_json(readout_)))
    assert document["schema"] == "klartext/moments/v1"
    stored = document["variants"]["ai"]
    again = Moments(
        tuple(stored["columns"]),
        stored["n"],
        np.array(stored["mean"]),
        np.array(stored["m2"]),
        np.array(stored["m3"]),
        np.array(stored["nonzero"]),
    )
    moments = readout_.moments["ai"]
    assert again.columns == moments.columns
    for name in ("mean", "m2", "m3", "nonzero"):
        np.testing.assert_array_equal(getattr(again, name), getattr(moments, name))
