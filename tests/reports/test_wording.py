import math
from dataclasses import replace

import pytest

from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded
from klartext.analysis.result import Check
from klartext.reports import wording
from klartext.reports.language import Locale
from tests.reports import samples

EN = Locale("en", "EUR", "UTC")
DE = Locale("de", "EUR", "UTC")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Interval(1.0, 2.5, 0.95), "€1.00 to €2.50"),
        (Interval(-math.inf, 2.5, 0.95), "cannot be determined reliably – the data rule out no"),
        (Unbounded("line", (), 0.95), "cannot be determined reliably – the data rule out no"),
        (Unbounded("left", (2.0,), 0.95), "cannot be determined reliably – at most €2.00"),
        (Unbounded("right", (2.0,), 0.95), "cannot be determined reliably – at least €2.00"),
        (Unbounded("rays", (1.0, 2.0), 0.95), "only values between €1.00 and €2.00 are ruled out"),
        (NotEstimable("no-cost", "x"), "there is no cost to divide by"),
    ],
)
def test_a_confidence_set_in_words(found: ConfidenceSet, said: str) -> None:
    assert said in wording.region(EN, found, EN.money)


def test_an_unknown_reason_falls_back_to_its_detail() -> None:
    assert wording.reason(EN, NotEstimable("new-reason", "the moon is full")) == "the moon is full"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_a_dash(value: float) -> None:
    assert wording.number(EN, value, EN.money) == wording.Said(
        "–", "the data give no finite number"
    )


@pytest.mark.parametrize(
    ("alpha", "english"), [(0.05, "95%"), (0.025, "97.5%"), (0.05 / 3, "98.3333%"), (0.1, "90%")]
)
def test_the_level_has_the_decimals_it_needs(alpha: float, english: str) -> None:
    assert wording.level(EN, alpha) == english


def test_a_large_return_is_a_multiple_of_the_cost() -> None:
    assert wording.roi_like(EN, 1.5)(1.5) == "150.0%"
    assert wording.roi_like(EN, 153.027)(153.027) == "153.0 × cost"
    assert wording.roi_like(DE, 153.027, short=True)(96.0667) == "96,1 ×"
    assert wording.roi_like(EN, -1.637)(-1.637) == "−163.7%"


def test_the_range_of_the_best_estimate_is_its_own() -> None:
    outlook = samples.go().analysis.treatments[0].outlook
    found = wording.credible(outlook, alpha=0.05)
    assert isinstance(found, Interval)
    assert found.lower == pytest.approx(15_990 - 1.959964 * 3_000, abs=0.01)
    assert not wording.is_pulled(outlook)
    assert wording.is_pulled(replace(outlook, posterior_mean=2_650.0))


def test_an_unknown_check_falls_back_to_its_detail() -> None:
    said = wording.check(EN, Check("moon", "info", 0.5, "full"))
    assert (said.name, said.advice, said.severity_text) == ("moon", "full", "note")
