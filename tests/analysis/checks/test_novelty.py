"""Novelty: the delta method by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from klartext.analysis.checks import novelty
from klartext.analysis.checks.novelty import Halves
from klartext.analysis.result import Check

CONTROL = Halves(1_000, 1.0, 0.5, 4.0, 1.0, 0.5)


def check(one: Halves, base: Halves = CONTROL) -> Check:
    return novelty.check("m", {"ai": one, "control": base}, control="control", treatments=("ai",))


def test_by_hand() -> None:
    """Lifts 1.5 and 1.0; each variance of ln is (4 + 4 - 2 * 0.5 / 0.5) / 1000 for the control."""
    one = Halves(1_000, 1.5, 0.5, 4.0, 1.0, 0.5)
    control = (4 / 1 + 1 / 0.25 - 2 * 0.5 / 0.5) / 1_000
    treated = (4 / 2.25 + 1 / 0.25 - 2 * 0.5 / 0.75) / 1_000
    z = -math.log(1.5) / math.sqrt(control + treated)
    found = check(one)
    assert found.value == pytest.approx(2 * stats.norm.cdf(z))
    assert found.severity == "warning"
    assert "+50.0% in the first half" in found.detail


def test_a_constant_lift_is_no_novelty_although_the_difference_halves() -> None:
    found = check(Halves(1_000, 1.5, 0.75, 4.0, 1.0, 0.5))
    assert (found.severity, found.value) == ("ok", 1.0)


def test_a_lift_that_grows_is_told_without_a_warning() -> None:
    assert check(Halves(1_000, 1.0, 0.9, 4.0, 1.0, 0.5)).severity == "info"


@pytest.mark.parametrize(
    "one",
    [
        Halves(0, 0.0, 0.0, 0.0, 0.0, 0.0),
        Halves(1, 1.0, 1.0, 0.0, 0.0, 0.0),
        Halves(1_000, 0.0, 0.5, 4.0, 1.0, 0.5),
        Halves(1_000, -1.0, 0.5, 4.0, 1.0, 0.5),
        Halves(10, 1.0, 0.5, 4.0, 1.0, 0.5),
        Halves(1_000, float("nan"), 0.5, 4.0, 1.0, 0.5),
    ],
)
def test_what_cannot_be_tested_is_said(one: Halves) -> None:
    found = check(one)
    assert (found.severity, found.value) == ("info", None)


def test_constant_halves_are_not_tested() -> None:
    constant = Halves(100, 1.0, 1.0, 0.0, 0.0, 0.0)
    assert check(constant, constant).severity == "info"


@pytest.mark.slow
def test_it_warns_as_often_as_it_says_without_novelty() -> None:
    """A constant lift of 20 % on correlated halves; 4,000 tests at 1 %: at most 0.0147 (z 3)."""
    rng = np.random.default_rng(3)

    def halves(lift: float) -> Halves:
        buyer = rng.gamma(2.0, 1.0, 800)
        early = rng.poisson(1.5 * lift * buyer)
        late = rng.poisson(0.5 * lift * buyer)
        cov = np.cov(early, late, bias=True)
        return Halves(800, early.mean(), late.mean(), cov[0, 0], cov[1, 1], cov[0, 1])

    small = sum(
        (p := check(halves(1.2), halves(1.0)).value) is not None and p < 0.01 for _ in range(4_000)
    )
    assert 0.0053 < small / 4_000 < 0.0147
