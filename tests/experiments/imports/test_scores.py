import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from klartext.experiments.imports.scores import Joins, open_scores
from klartext.experiments.records import EventRow, Parsed, Reject
from klartext.experiments.tokens import Allocation, Signer
from tests.experiments.imports.spans import AT
from tests.experiments.imports.test_otlp import DOOR, KEY

ANNA = KEY.unit("anna")
SIGNER = Signer.of(bytes(range(32)))
SERVED = SIGNER.issue(Allocation("mail", 1, None, 7, "ai", 500_000, "assigned", AT, ANNA))
CALLS: dict[str, set[int | None]] = {
    KEY.token("t-1"): {ANNA, None},
    KEY.token("t-nobody"): {None},
    KEY.token("t-two"): {1, 2},
}
SCORE: dict[str, Any] = {
    "id": "s-1",
    "timestamp": "2026-11-01 12:00:00.000000",
    "trace_id": "t-1",
    "name": "helpful",
    "value": 0.75,
    "data_type": "NUMERIC",
    "comment": "anna@example.org liked it",
}


def units(tasks: Sequence[str]) -> dict[str, set[int | None]]:
    return {task: CALLS[task] for task in tasks if task in CALLS}


def scores(folder: Path, *rows: dict[str, Any]) -> list[Parsed | Reject]:
    path = folder / "scores.jsonl"
    path.write_text("".join(json.dumps(SCORE | row) + "\n" for row in rows))
    return list(open_scores(path, "langfuse", DOOR, Joins(units, SIGNER, "1"))[1])


def scored(folder: Path, row: dict[str, Any]) -> EventRow:
    (found,) = scores(folder, row)
    assert isinstance(found, Parsed), found
    (fact,) = found.facts
    assert isinstance(fact, EventRow)
    return fact


def test_a_rating_joins_by_its_task(tmp_path: Path) -> None:
    found = scored(tmp_path, {})
    assert (found.name, found.value, found.unit) == ("score.helpful", Decimal("0.75"), ANNA)
    assert (found.occurred_at, found.currency) == (AT, None)


def test_a_review_is_an_event_of_its_outcome(tmp_path: Path) -> None:
    for outcome in ("accepted", "edited", "rejected"):
        review = {"name": "review", "data_type": "CATEGORICAL", "string_value": outcome}
        found = scored(tmp_path, review | {"value": None})
        assert (found.name, found.value) == (f"score.review.{outcome}", None)


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ({"value": 1}, 1),
        ({"value": 0.0}, 0),
        ({"value": None, "string_value": "True"}, 1),
        ({"value": "false"}, 0),
    ],
)
def test_yes_or_no_is_one_or_zero(tmp_path: Path, row: dict[str, Any], value: int) -> None:
    assert scored(tmp_path, row | {"data_type": "BOOLEAN"}).value == Decimal(value)


def test_an_allocation_id_is_proof_of_the_unit(tmp_path: Path) -> None:
    for row in ({"allocation_id": SERVED}, {"metadata": {"allocation_id": SERVED}}):
        assert scored(tmp_path, row | {"trace_id": None}).unit == ANNA
    altered = SERVED[:-2] + ("AA" if SERVED[-2:] != "AA" else "BB")
    (found,) = scores(tmp_path, {"allocation_id": altered})
    assert isinstance(found, Reject)
    assert found.reason == "bad-allocation-id"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"trace_id": "t-9"}, "unknown-task"),
        ({"trace_id": None}, "task-missing"),
        ({"trace_id": "t-nobody"}, "task-without-unit"),
        ({"trace_id": "t-two"}, "task-of-several-units"),
        ({"id": None}, "id-missing"),
        ({"timestamp": None}, "time-missing"),
        ({"timestamp": (AT + timedelta(days=9)).isoformat()}, "time-in-future"),
        ({"value": "good"}, "bad-number"),
        ({"name": "anna@example.org"}, "bad-name"),
        ({"data_type": "CATEGORICAL", "string_value": "anna@example.org"}, "bad-name"),
        ({"data_type": "CORRECTION"}, "bad-kind"),
        ({"data_type": "BOOLEAN", "value": 2}, "bad-flag"),
    ],
)
def test_what_cannot_be_joined_or_read_is_counted(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    (found,) = scores(tmp_path, row)
    assert isinstance(found, Reject)
    assert found.reason == reason
    assert "anna" not in repr(found)


def test_calls_that_came_in_since_make_the_file_new(tmp_path: Path) -> None:
    scores(tmp_path, {})
    path = tmp_path / "scores.jsonl"
    first, again, later = (
        open_scores(path, "langfuse", DOOR, Joins(units, SIGNER, state))[0].application
        for state in ("1", "1", "2")
    )
    assert first == again
    assert later != first
