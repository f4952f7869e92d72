"""Missing outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from klartext.analysis.checks import missing_outcomes
from klartext.analysis.checks.missing_outcomes import Outcomes


def of(control: tuple[int, int], ai: tuple[int, int]) -> dict[str, dict[str, Outcomes]]:
    return {"orders": {"control": Outcomes(*control), "ai": Outcomes(*ai)}}


def test_a_metric_without_any_outcome_warns_from_a_hundred_units_on() -> None:
    assert missing_outcomes.check(of((49, 0), (50, 0))).severity == "ok"
    found = missing_outcomes.check(of((50, 0), (50, 0)))
    assert (found.severity, found.value) == ("warning", 0.0)
    assert "orders" in found.detail


def test_a_silent_variant_warns_when_chance_does_not_explain_it() -> None:
    """Two variants of one metric: 2 * 0.5^k is 0.00098 for k = 11 and 0.00049 for k = 12."""
    eleven = missing_outcomes.check(of((100, 11), (100, 0)))
    twelve = missing_outcomes.check(of((100, 12), (100, 0)))
    assert [eleven.severity, twelve.severity] == ["ok", "warning"]
    assert eleven.value == pytest.approx(2 * 0.5**11)
    assert twelve.value == pytest.approx(2 * 0.5**12)
    assert "in ai, 12 in the others" in twelve.detail


def test_outcomes_from_everywhere_pass() -> None:
    found = missing_outcomes.check(of((1_000, 30), (1_000, 3)))
    assert (found.severity, found.value) == ("ok", 1.0)
    assert missing_outcomes.check({}).severity == "ok"
    assert missing_outcomes.check(of((0, 0), (0, 0))).severity == "ok"


@pytest.mark.slow
def test_rare_outcomes_seldom_warn() -> None:
    """1 % outcomes in 95/5 splits of 600 units, three metrics: below 0.0005 of 20,000 (+ z 3)."""
    rng = np.random.default_rng(6)
    alarms = 0
    for counts in rng.binomial((570, 30), 0.01, (20_000, 3, 2)):
        metrics = {
            str(i): {"control": Outcomes(570, int(a)), "ai": Outcomes(30, int(b))}
            for i, (a, b) in enumerate(counts)
            if a + b
        }
        alarms += missing_outcomes.check(metrics).severity == "warning"
    assert alarms / 20_000 <= 0.0005 + 3 * (0.0005 / 20_000) ** 0.5
