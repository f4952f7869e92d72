"""Pre-period balance."""

from __future__ import annotations

import numpy as np
import pytest

from klartext.analysis import means
from klartext.analysis.checks import balance
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.moments import Moments


def difference(rng: np.random.Generator, shift: float = 0.0) -> Estimate | NotEstimable:
    one, base = (Moments.of(("x",), rng.exponential(1, (200, 1)) + s) for s in (shift, 0.0))
    return means.welch(one.sample("x"), base.sample("x"), alpha=0.05, single_look=True)


def test_a_difference_before_exposure_warns_and_names_the_covariate() -> None:
    rng = np.random.default_rng(1)
    found = balance.check({"history ai": difference(rng), "visits ai": difference(rng, 1.0)})
    assert found.severity == "warning"
    assert found.detail.startswith("visits ai: difference +")
    assert "(2 compared)" in found.detail


def test_alike_variants_pass() -> None:
    assert balance.check({"history ai": difference(np.random.default_rng(2))}).severity == "ok"


def test_nothing_to_compare_is_said() -> None:
    constant = NotEstimable("no-variance", "all alike")
    for found in (balance.check({}), balance.check({"history ai": constant})):
        assert (found.severity, found.value) == ("info", None)


@pytest.mark.slow
def test_it_warns_as_often_as_it_says() -> None:
    """Three covariates, 3,000 experiments: at most 1 %, with the band to 0.0155."""
    rng = np.random.default_rng(4)
    alarms = sum(
        balance.check({str(i): difference(rng) for i in range(3)}).severity == "warning"
        for _ in range(3_000)
    )
    assert alarms / 3_000 < 0.0155


def test_the_warning_is_adjusted_for_all_covariates() -> None:
    rng = np.random.default_rng(5)
    one = difference(rng, 0.29)
    assert isinstance(one, Estimate)
    assert isinstance(one.p_value, float)
    alone = balance.check({"x": one})
    many = balance.check({"x": one} | {str(i): NotEstimable("no-variance", "") for i in range(9)})
    assert many.value == pytest.approx(min(1.0, 10 * one.p_value))
    assert alone.value == pytest.approx(one.p_value)
