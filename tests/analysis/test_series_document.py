"""The course as JSON: numbers, and a reason beside every null."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.series import AgeRow, CohortRow, DayRow, Series
from klartext.analysis.series_document import series_to_json
from tests.analysis.samples import WATERMARK, experiment

TOTALS = {"revenue": 30.0, "orders": 4.0, "margin": 30.0, "cost": 0.1 + 0.2, "net": 29.7}
NOTHING = dict.fromkeys(TOTALS, 0.0)
YOUNG = NotEstimable("cohort-incomplete", "too young")


def document(**given: Any) -> dict[str, Any]:
    series = Series(
        timezone="Europe/Berlin", metrics=("revenue", "orders"),
        ratios={"basket": ("revenue", "orders")}, left_out=("latency",),
        **{"days": (), "ages": (), "cohorts": ()} | given,
    )  # fmt: skip
    found = series_to_json(experiment(), WATERMARK, series)
    return dict(json.loads(json.dumps(found, allow_nan=False)))


def test_it_says_that_it_is_no_estimate() -> None:
    found = document()
    assert found["schema"] == "klartext/series/v1"
    assert "never estimands" in found["note"]
    assert found["left_out"] == ["latency"]


def test_totals_means_and_ratios() -> None:
    (row,) = document(ages=(AgeRow(3, "ai", 10, TOTALS),))["ages"]
    assert row["totals"]["cost"] == 0.3
    assert row["means"]["revenue"] == 3.0
    assert row["ratios"] == {"basket": 7.5}
    assert (row["days_since_exposure"], row["units"]) == (3, 10)


def test_what_is_missing_has_a_reason() -> None:
    found = document(
        days=(DayRow(date(2026, 1, 5), "ai", 0, NOTHING, complete=False),),
        ages=(AgeRow(0, "ai", 0, NOTHING),),
        cohorts=(CohortRow(date(2026, 1, 5), 1, "ai", 5, YOUNG),),
    )
    assert found["days"][0]["ratios"]["basket"] is None
    assert found["days"][0]["ratios"]["reason"]["basket"]["code"] == "zero-denominator"
    assert found["ages"][0]["means"] is None
    assert found["ages"][0]["reason"]["means"]["code"] == "no-units"
    cohort = found["cohorts"][0]
    assert (cohort["totals"], cohort["means"]) == (None, None)
    assert cohort["reason"]["totals"]["code"] == "cohort-incomplete"
