"""Secondary metrics from units to JSON: adjusted for each other, by the registered method."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any, get_args

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from klartext.analysis.document import to_json
from klartext.analysis.estimate import Estimate
from klartext.analysis.result import Analysis, Correction
from klartext.app.cli.scorecard import scorecard
from klartext.experiments.experiment import Inference, Metric, Plan, Variant
from klartext.reports.language import LANGUAGES, catalogue
from tests.analysis.samples import CONVERSION, DAY, REVENUE, START, evaluated, experiment, readout

SIGNUP = Metric("signup", "conversion", "signup", None, 14 * DAY, "increase")
VARIANTS = tuple(Variant(key, weight, {}) for key, weight in (
    ("control", 333_334), ("ai", 333_333), ("short", 333_333)
))  # fmt: skip


def analysed(mode: Any, correction: Any, *, signups: float = 0.3) -> Analysis:
    spec = experiment(
        variants=VARIANTS,
        metrics=(CONVERSION, REVENUE, SIGNUP),
        plan=Plan(START, None, 6000, {}),
        inference=Inference(mode, Decimal("0.05"), Decimal("0.1"), None, correction),
    )
    rng = np.random.default_rng(8)
    units = {}
    for key, lift in (("control", 0.0), ("ai", 0.02), ("short", 0.045)):
        bought = (rng.random(2000) < 0.2 + lift).astype(float)
        paid = bought * rng.exponential(50, 2000)
        signed = (rng.random(2000) < signups + lift).astype(float) * (signups > 0)
        units[key] = {"conversion": bought, "revenue": paid, "signup": signed, "margin": paid,
                      "cost": np.zeros(2000)}  # fmt: skip
    return evaluated(spec, readout(spec, units))


@pytest.mark.golden("statsmodels 0.15: multipletests")
@pytest.mark.parametrize(
    ("mode", "correction", "name", "outside", "head"),
    [
        ("anytime", "holm", "holm", "holm", "P HOLM"),
        ("fixed", "holm", "holm", "holm", "P HOLM"),
        ("fixed", "false_discovery", "benjamini_hochberg", "fdr_bh", "P BH"),
        ("anytime", "false_discovery", "benjamini_yekutieli", "fdr_by", "P BY"),
    ],
)
def test_adjusted_p_values_equal_statsmodels(
    mode: str, correction: str, name: str, outside: str, head: str
) -> None:
    found = analysed(mode, correction)
    document = json.loads(json.dumps(to_json(found)))
    secondary = [one for one in document["metrics"] if not one["primary"]]
    assert len(secondary) == 6  # three metrics of two treatments; the net value decides by itself
    plain = [one["estimates"][0]["p_value"] for one in secondary]
    expected = multipletests(plain, method=outside)[1]
    assert [one["adjusted_p"] for one in secondary] == pytest.approx(expected, rel=1e-9)
    assert {one["correction"] for one in secondary} == {name}
    assert not any("adjusted_p" in one for one in document["metrics"] if one["primary"])
    assert head in scorecard(found)


def test_what_cannot_be_estimated_counts_as_a_comparison() -> None:
    found = analysed("anytime", "holm", signups=0.0)
    secondary = [one for one in found.metrics if not one.primary]
    numbers = [one.adjusted_p for one in secondary if isinstance(one.adjusted_p, float)]
    assert len(numbers) == 4
    first = [one.estimates[0][1] for one in secondary]
    plain = [one.p_value for one in first if isinstance(one, Estimate)]
    # As if the two sign-ups had p-values of 1: six comparisons, not four.
    expected = multipletests([*plain, 1.0, 1.0], method="holm")[1][:4]
    assert numbers == pytest.approx(expected, rel=1e-9)
    document = json.loads(json.dumps(to_json(found)))
    (signup, _) = [one for one in document["metrics"] if one["metric"] == "signup"]
    assert signup["adjusted_p"] is None
    assert signup["reason"]["adjusted_p"]["code"] == "no-variance"


def test_without_secondary_metrics_nothing_is_adjusted() -> None:
    spec = experiment(metrics=(REVENUE,), value=(), plan=Plan(START, None, 400, {}))
    rng = np.random.default_rng(1)
    units = {
        key: {"revenue": rng.exponential(50, 200), "margin": np.zeros(200), "cost": np.zeros(200)}
        for key in ("control", "ai")
    }
    found = evaluated(replace(spec), readout(spec, units))
    assert [one.adjusted_p for one in found.metrics] == [None]
    assert "HOLM" not in scorecard(found)


def test_every_correction_has_words() -> None:
    for language in LANGUAGES:
        for name in get_args(Correction):
            assert "{p_value}" in catalogue(language)[f"correction.{name}"]
