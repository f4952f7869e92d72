"""Posteriors from units to JSON, against SciPy's distributions and draws from them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from klartext.analysis.document import to_json
from klartext.experiments.experiment import Metric, Plan, Variant
from tests.analysis.samples import CONVERSION, REVENUE, START, evaluated, experiment, readout

VISITS = Metric("visits", "count", "visit", None, timedelta(days=14), "increase")
BASKET = Metric("basket", "ratio", None, None, timedelta(0), "increase",
                numerator="revenue", denominator="visits")  # fmt: skip
THREE = tuple(Variant(key, weight, {}) for key, weight in (
    ("control", 333_334), ("ai", 333_333), ("short", 333_333)
))  # fmt: skip
DRAWS = 400_000


def units(*, visits: Any = None, n: int = 1500) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(4)
    found = {}
    for key, lift in (("control", 0.0), ("ai", 0.03), ("short", 0.01)):
        bought = (rng.random(n) < 0.2 + lift).astype(float)
        paid = bought * rng.exponential(50, n)
        seen = (visits or (lambda rng, n: rng.poisson(2.0, n)))(rng, n).astype(float)
        found[key] = {"conversion": bought, "revenue": paid, "visits": seen, "margin": paid,
                      "cost": np.zeros(n)}  # fmt: skip
    return found


def analysed(rows: dict[str, dict[str, Any]], **metrics: Metric) -> dict[str, Any]:
    """Return the beliefs by metric and treatment, as JSON has them."""
    chosen = {"conversion": CONVERSION, "revenue": REVENUE, "visits": VISITS, "basket": BASKET}
    spec = experiment(
        variants=THREE,
        metrics=tuple((chosen | metrics).values()),
        plan=Plan(START, None, 6000, {}),
    )
    document = json.loads(json.dumps(to_json(evaluated(spec, readout(spec, rows)))))
    return {f"{one['metric']} {one['variant']}": one["bayes"] for one in document["metrics"]}


@pytest.mark.golden("scipy 1.17: stats.beta and integrate.quad")
def test_rates_equal_scipys_beta() -> None:
    rows = units()
    negligible = replace(CONVERSION, negligible=Decimal("0.02"))
    found = analysed(rows, conversion=negligible)["conversion ai"]
    sums = {key: one["conversion"].sum() for key, one in rows.items()}
    one, base = (stats.beta(0.5 + sums[key], 1500.5 - sums[key]) for key in ("ai", "control"))

    def between(low: float, high: float) -> float:
        """P(low < ai - control < high), by quadrature over the control's rate."""
        value, _ = integrate.quad(
            lambda p: base.pdf(p) * (one.cdf(p + high) - one.cdf(p + low)),
            *base.interval(1 - 1e-12), epsabs=1e-12,
        )  # fmt: skip
        return float(value)

    assert found["prior"] == "reference"
    assert found["probability_better"] == pytest.approx(between(0.0, 1.0), rel=1e-7)
    assert found["probability_equivalent"] == pytest.approx(between(-0.02, 0.02), rel=1e-7)
    assert found["mean"] == pytest.approx(one.mean() - base.mean(), rel=1e-9)


def test_means_equal_students_t() -> None:
    rows = units()
    found = analysed(rows)
    rng = np.random.default_rng(1)
    draws = {
        key: stats.t.rvs(1499, one["revenue"].mean(), stats.sem(one["revenue"]), DRAWS,
                         random_state=rng)
        for key, one in rows.items()
    }  # fmt: skip
    best = np.argmax(np.column_stack(list(draws.values())), axis=1)
    highest = np.column_stack(list(draws.values())).max(axis=1)
    for place, key in enumerate(("control", "ai", "short")):
        if key == "control":
            continue
        one = found[f"revenue {key}"]
        better = (draws[key] > draws["control"]).mean()
        assert one["probability_better"] == pytest.approx(better, abs=5 * 0.5 / DRAWS**0.5)
        assert one["probability_best"] == pytest.approx(
            (best == place).mean(), abs=5 * 0.5 / DRAWS**0.5
        )
        assert one["expected_loss"] == pytest.approx((highest - draws[key]).mean(), rel=0.02)
        assert one["reason"]["probability_equivalent"]["code"] == "no-region"
    shares = [one["probability_best"] for one in found["revenue ai"]["variants"]]
    assert sum(shares) == pytest.approx(1.0, abs=1e-9)
    # No cost: the net value is the revenue.
    assert found["net ai"]["probability_better"] == found["revenue ai"]["probability_better"]


@pytest.mark.golden("scipy 1.17: stats.gamma and integrate.quad")
def test_counts_are_gamma_when_poisson_and_means_when_not() -> None:
    rows = units()
    poisson = analysed(rows)["visits ai"]
    one, base = (
        stats.gamma(0.5 + rows[key]["visits"].sum(), scale=1 / 1500) for key in ("ai", "control")
    )
    expected, _ = integrate.quad(
        lambda x: base.pdf(x) * one.sf(x), *base.interval(1 - 1e-12), epsabs=1e-12
    )
    assert poisson["probability_better"] == pytest.approx(expected, rel=1e-7)
    wide = units(visits=lambda rng, n: rng.negative_binomial(1, 0.3, n))
    rough = analysed(wide)["visits ai"]
    counts = {key: one["visits"] for key, one in wide.items()}
    error = np.hypot(stats.sem(counts["ai"]), stats.sem(counts["control"]))
    z = (counts["ai"].mean() - counts["control"].mean()) / error
    assert rough["probability_better"] == pytest.approx(stats.norm.cdf(z), abs=1e-3)


def test_less_is_better_where_the_metric_says_so() -> None:
    rows = units()
    more = analysed(rows)["conversion ai"]
    less = analysed(rows, conversion=replace(CONVERSION, direction="decrease"))["conversion ai"]
    assert less["probability_better"] == pytest.approx(1 - more["probability_better"], abs=1e-9)


def test_what_has_no_posterior_has_a_reason() -> None:
    rows = units(visits=lambda _rng, n: np.zeros(n))
    found = analysed(rows)
    assert found["basket ai"]["reason"]["mean"]["code"] == "no-posterior"
    assert found["basket ai"]["probability_better"] is None
    rows = units()
    for one in rows.values():
        one["revenue"] = np.full(1500, 3.0)
    assert analysed(rows)["revenue ai"]["reason"]["probability_best"]["code"] == "no-variance"
