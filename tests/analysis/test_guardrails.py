"""Guardrails: harm is positive, whichever way the metric counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.guardrails import GuardrailReading, read_guardrail
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.experiments.experiment import Guardrail, Metric
from tests.analysis.samples import CONVERSION, REVENUE, experiment

FIXED = Look("fixed", None, deciding=True)
ANYTIME = Look("anytime", 20_000, deciding=True)


def reading(
    guardrail: Guardrail,
    treated: Any,
    control: Any,
    *,
    look: Look = FIXED,
    direction: Any = "increase",
) -> GuardrailReading:
    metric = CONVERSION if guardrail.metric == "conversion" else REVENUE
    spec = experiment(metrics=(replace(metric, direction=direction),))
    one, base = (Moments.of((guardrail.metric,), np.array(x)) for x in (treated, control))
    return read_guardrail(spec, guardrail, one, base, look=look, alpha=0.05)


def rate(ones: int, n: int) -> list[float]:
    return [1.0] * ones + [0.0] * (n - ones)


def test_an_increase_of_a_bad_metric_is_harm() -> None:
    limit = Guardrail("conversion", may_worsen_by=Decimal("0.002"))
    found = reading(limit, rate(300, 10_000), rate(100, 10_000), direction="decrease")
    assert isinstance(found.harm, Interval)
    assert found.harm.lower > 0.015
    assert found.is_broken
    assert not found.is_kept


def test_a_drop_of_a_good_metric_is_harm() -> None:
    limit = Guardrail("conversion", may_worsen_by=Decimal("0.002"))
    assert reading(limit, rate(100, 10_000), rate(300, 10_000)).is_broken
    assert reading(limit, rate(300, 10_000), rate(100, 10_000)).is_kept


def test_between_the_bounds_nothing_is_decided() -> None:
    limit = Guardrail("conversion", may_worsen_by=Decimal("0.002"))
    found = reading(limit, rate(100, 10_000), rate(110, 10_000))
    assert not found.is_kept
    assert not found.is_broken


def test_without_a_single_outcome_a_fixed_look_still_bounds_the_harm() -> None:
    limit = Guardrail("conversion", may_worsen_by=Decimal("0.002"))
    found = reading(limit, rate(0, 5000), rate(0, 5000), direction="decrease")
    assert found.is_kept


def test_anytime_a_rare_harm_cannot_be_judged_early() -> None:
    limit = Guardrail("conversion", may_worsen_by=Decimal("0.002"))
    found = reading(limit, rate(3, 5000), rate(4, 5000), look=ANYTIME, direction="decrease")
    assert isinstance(found.harm, NotEstimable)
    assert not found.is_kept
    assert not found.is_broken


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_relative_limit_is_a_share_of_the_controls_mean(sign: float) -> None:
    rng = np.random.default_rng(2)
    control = sign * 100.0 + rng.normal(size=2000)
    limit = Guardrail("revenue", may_worsen_by_relative=Decimal("0.05"))
    assert reading(limit, control - 4.0, control).is_kept
    assert reading(limit, control - 6.0, control).is_broken


def test_a_relative_limit_works_downwards_too() -> None:
    rng = np.random.default_rng(2)
    control = 100.0 + rng.normal(size=2000)
    limit = Guardrail("revenue", may_worsen_by_relative=Decimal("0.05"))
    assert reading(limit, control + 4.0, control, direction="decrease").is_kept
    assert reading(limit, control + 6.0, control, direction="decrease").is_broken


def test_a_level_looks_at_the_treatment_alone() -> None:
    limit = Guardrail("conversion", at_most=Decimal("0.01"))
    assert reading(limit, rate(0, 1000), rate(999, 1000)).is_kept
    assert reading(limit, rate(50, 1000), rate(0, 1000)).is_broken


@pytest.mark.parametrize("look", [FIXED, ANYTIME])
def test_a_level_of_a_mean_in_both_modes(look: Look) -> None:
    rng = np.random.default_rng(2)
    values = 10.0 + rng.normal(size=5000)
    assert reading(Guardrail("revenue", at_most=Decimal(11)), values, values, look=look).is_kept
    assert reading(Guardrail("revenue", at_most=Decimal(9)), values, values, look=look).is_broken


def test_a_variant_without_units_is_not_judged() -> None:
    for limit in (
        Guardrail("conversion", at_most=Decimal("0.01")),
        Guardrail("conversion", may_worsen_by=Decimal("0.01")),
        Guardrail("conversion", may_worsen_by_relative=Decimal("0.01")),
    ):
        found = reading(limit, np.empty((0, 1)), rate(5, 10))
        assert isinstance(found.harm, NotEstimable)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Guardrail("aov", may_worsen_by=Decimal(4)), (2.0, 4.0)),
        (Guardrail("aov", may_worsen_by_relative=Decimal("0.2")), (-2.0, 0.0)),
        (Guardrail("aov", at_most=Decimal(30)), (18.0, 30.0)),
    ],
)
@pytest.mark.parametrize("look", [FIXED, ANYTIME])
def test_a_ratio_is_limited_in_its_own_unit(
    limit: Guardrail, expected: tuple[float, float], look: Look
) -> None:
    """Orders of about 20 and 18: harm 2 against 4, 18 - 0.8 * 20 = 2 above, level 18 of 30."""
    aov = Metric("aov", "ratio", None, None, timedelta(0), "increase",
                 numerator="revenue", denominator="orders")  # fmt: skip
    spec = experiment(metrics=(aov,))
    rng = np.random.default_rng(3)
    sides = []
    for basket in (18.0, 20.0):
        orders = rng.poisson(1.0, 8000).astype(np.float64)
        revenue = orders * basket + np.where(orders > 0, rng.normal(0, 1, 8000), 0)
        sides.append(Moments.of(("revenue", "orders"), np.column_stack([revenue, orders])))
    found = read_guardrail(spec, limit, sides[0], sides[1], look=look, alpha=0.05)
    middle, allowed = expected
    assert found.limit == allowed
    assert isinstance(found.harm, Interval)
    assert found.harm.lower < found.harm.upper
    assert found.harm.lower == pytest.approx(middle, abs=0.2)
    assert found.harm.upper == pytest.approx(middle, abs=0.2)
    assert found.is_kept
