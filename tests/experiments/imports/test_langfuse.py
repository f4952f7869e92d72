import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from klartext.experiments.imports.langfuse import open_langfuse
from klartext.experiments.imports.observed import CallOptions
from klartext.experiments.records import Parsed, Reject, UsageRow
from tests.experiments.imports.spans import AT
from tests.experiments.imports.test_otlp import DOOR, KEY, PRICING

OPTIONS = CallOptions("langfuse", "langfuse")
OBSERVATION: dict[str, Any] = {
    "id": "o-1",
    "trace_id": "trace-1",
    "type": "GENERATION",
    "start_time": "2026-11-01 12:00:00.000000",
    "end_time": "2026-11-01 12:00:00.812000",
    "provided_model_name": "gpt-4o",
    "usage_details": {"input": 74, "input_cached_tokens": 300, "output": 44, "total": 418},
    "user_id": "anna@example.org",
    "prompt_name": "subject-lines",
    "prompt_version": 7,
    "metadata": {"experiment": "mail", "variant": "ai"},
    "input": "write to anna@example.org",
    "output": "done",
    "level": "DEFAULT",
}


def taken(folder: Path, *rows: dict[str, Any]) -> tuple[list[Parsed | Reject], dict[str, int]]:
    path = folder / "observations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = open_langfuse(path, OPTIONS, DOOR, PRICING)
    return list(found.rows), found.others


def call(folder: Path, change: dict[str, Any]) -> UsageRow:
    ((row,), _) = taken(folder, OBSERVATION | change)
    assert isinstance(row, Parsed), row
    (fact,) = row.facts
    assert isinstance(fact, UsageRow)
    return fact


def test_its_buckets_exclude_each_other(tmp_path: Path) -> None:
    row = call(tmp_path, {})
    assert (row.input_tokens, row.cached_tokens, row.output_tokens) == (374, 300, 44)
    assert row.amount == Decimal("0.001")  # 74 x 2.50 + 300 x 1.25 + 44 x 10, by hand
    claude = {
        "provided_model_name": "claude-sonnet-4-5",
        "usage_details": {
            "input": 500,
            "cache_read_input_tokens": 300,
            "cache_creation_input_tokens": 200,
            "output": 6,
            "output_reasoning_tokens": 4,
        },
    }
    other = call(tmp_path, claude)
    # 500 x 3 + 300 x 0.30 + 200 x 3.75 + 10 x 15 USD per million, by hand
    assert other.amount == Decimal("0.00249")
    assert (other.cache_write_tokens, other.reasoning_tokens, other.output_tokens) == (200, 4, 10)


def test_everything_an_observation_can_say(tmp_path: Path) -> None:
    row = call(tmp_path, {})
    assert (row.occurred_at, row.duration_ms, row.prompt) == (AT, 812, "subject-lines@7")
    assert (row.experiment, row.variant) == ("mail", "ai")
    assert (row.unit, row.task) == (KEY.unit("anna@example.org"), KEY.token("trace-1"))
    failed = call(tmp_path, {"level": "ERROR", "usage_details": {}, "status_message": "anna@x"})
    assert (failed.error, failed.amount, failed.input_tokens) == ("error", Decimal(0), 0)


def test_names_of_the_interface_say_the_same(tmp_path: Path) -> None:
    camel = {
        "id": "o-1",
        "traceId": "trace-1",
        "type": "GENERATION",
        "startTime": AT.isoformat(),
        "endTime": (AT + timedelta(milliseconds=812)).isoformat(),
        "model": "gpt-4o",
        "usageDetails": json.dumps(OBSERVATION["usage_details"]),  # as CSV has it
        "userId": "anna@example.org",
        "promptName": "subject-lines",
        "promptVersion": 7,
        "metadata": json.dumps(OBSERVATION["metadata"]),
    }
    ((row,), _) = taken(tmp_path, camel)
    assert isinstance(row, Parsed)
    assert row.facts[0] == call(tmp_path, {})
    old = {key: value for key, value in camel.items() if key != "usageDetails"}
    ((row,), _) = taken(tmp_path, old | {"usage": {"input": 374, "output": 44, "unit": "TOKENS"}})
    assert isinstance(row, Parsed)
    assert isinstance(row.facts[0], UsageRow)
    assert row.facts[0].amount == Decimal("0.001375")


def test_its_own_cost_is_believed_only_where_there_is_no_price(tmp_path: Path) -> None:
    assert call(tmp_path, {"total_cost": 9}).amount == Decimal("0.001")
    house = {"provided_model_name": "house-model", "cost_details": {"total": 0.02}}
    assert call(tmp_path, house).amount == Decimal("0.02")


def test_steps_are_counted_beside(tmp_path: Path) -> None:
    rows, others = taken(
        tmp_path,
        OBSERVATION,
        OBSERVATION | {"id": "o-2", "type": "AGENT"},
        OBSERVATION | {"id": "o-3", "type": "SPAN"},
    )
    assert len(rows) == 1
    assert others == {"agent or tool": 1, "no call of a model": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usage_details": {}}, "tokens-missing"),
        ({"usage_details": {"input": 3}}, "tokens-missing"),
        ({"usage_details": {"input": "many", "output": 1}}, "bad-number"),
        ({"usage_details": {"input": -3, "output": 1}}, "bad-tokens"),
        ({"usage_details": None, "usage": {"input": 3, "unit": "CHARACTERS"}}, "bad-tokens"),
        ({"start_time": None}, "time-missing"),
        ({"id": ""}, "id-missing"),
        ({"provided_model_name": None}, "model-missing"),
        ({"provided_model_name": "anna@example.org"}, "bad-name"),
        ({"metadata": {"variant": "ai"}}, "experiment-missing"),
    ],
)
def test_bad_observations(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    rows, _ = taken(tmp_path, OBSERVATION | change)
    assert [row.reason for row in rows if isinstance(row, Reject)] == [reason]
    assert "anna" not in repr(rows)
