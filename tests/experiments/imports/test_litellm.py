import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from klartext.experiments.errors import KlartextError
from klartext.experiments.imports.litellm import open_litellm
from klartext.experiments.imports.observed import CallOptions
from klartext.experiments.readers import FileError
from klartext.experiments.records import Parsed, Reject, UsageRow
from tests.experiments.imports.spans import AT
from tests.experiments.imports.test_otlp import DOOR, KEY, PRICING

OPTIONS = CallOptions("litellm", "gateway")
LOG: dict[str, Any] = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "spend": 0.99,
    "prompt_tokens": 374,
    "completion_tokens": 44,
    "startTime": "2026-11-01T12:00:00.250Z",
    "endTime": "2026-11-01T12:00:01.062Z",
    "model": "gpt-4o",
    "custom_llm_provider": "openai",
    "cache_hit": "False",
    "status": "success",
    "end_user": "anna@example.org",
    "session_id": "s-1",
    "messages": {"content": "a message"},
}


def taken(
    folder: Path, *logs: dict[str, Any], options: CallOptions = OPTIONS
) -> tuple[list[Parsed | Reject], dict[str, int]]:
    path = folder / "spend.jsonl"
    path.write_text("".join(json.dumps(log) + "\n" for log in logs))
    found = open_litellm(path, options, DOOR, PRICING)
    return list(found.rows), found.others


def call(folder: Path, change: dict[str, Any], options: CallOptions = OPTIONS) -> UsageRow:
    ((row,), _) = taken(folder, LOG | change, options=options)
    assert isinstance(row, Parsed), row
    (fact,) = row.facts
    assert isinstance(fact, UsageRow)
    return fact


def test_a_log_is_priced_by_our_own_prices(tmp_path: Path) -> None:
    row = call(tmp_path, {})
    assert row.amount == Decimal("0.001375")  # not the 0.99 that LiteLLM believes
    assert (row.occurred_at, row.duration_ms) == (AT + timedelta(milliseconds=250), 812)
    assert (row.unit, row.task) == (KEY.unit("anna@example.org"), KEY.token("s-1"))
    assert row.error is None


def test_cache_and_reasoning_tokens_are_parts(tmp_path: Path) -> None:
    usage = {
        "prompt_tokens_details": {"cached_tokens": 300},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    row = call(tmp_path, {"metadata": {"usage_object": usage}})
    assert row.amount == Decimal("0.001")  # 74 x 2.50 + 300 x 1.25 + 44 x 10, by hand
    assert (row.cached_tokens, row.reasoning_tokens) == (300, 40)


def test_its_own_estimate_is_believed_only_where_there_is_no_price(tmp_path: Path) -> None:
    row = call(tmp_path, {"model": "house-model"})
    assert row.amount == Decimal("0.99")
    assert row.evidence == ("as reported by the source, 0.99 USD (unknown-model in our own prices)")
    # 0 is what LiteLLM writes for a model it does not know.
    assert call(tmp_path, {"model": "house-model", "spend": 0}).amount is None


def test_an_answer_from_its_own_cache_cost_nothing(tmp_path: Path) -> None:
    row = call(tmp_path, {"cache_hit": "True", "spend": 0})
    assert row.amount == Decimal(0)
    assert row.evidence.startswith("answered from the cache")


def test_experiment_and_variant_from_metadata_or_tags(tmp_path: Path) -> None:
    said = {"spend_logs_metadata": {"experiment": "mail", "variant": "ai", "task": "t-9"}}
    row = call(tmp_path, {"metadata": said})
    assert (row.experiment, row.variant, row.task) == ("mail", "ai", KEY.token("t-9"))
    for tags in (["experiment:mail", "variant:ai"], '["experiment:mail", "variant:ai"]'):
        assert call(tmp_path, {"request_tags": tags}).variant == "ai"
    stated = CallOptions("litellm", "gateway", "mail", "control")
    assert call(tmp_path, {}, stated).variant == "control"
    assert call(tmp_path, {"metadata": said}, stated).variant == "ai"


def test_a_failure_has_its_code(tmp_path: Path) -> None:
    failed = {
        "status": "failure",
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "metadata": {"error_information": {"error_code": "429", "error_message": "anna@x.org"}},
    }
    row = call(tmp_path, failed)
    assert (row.error, row.amount) == ("429", Decimal(0))
    assert call(tmp_path, {"status": "failure"}).error == "error"


def test_the_provider_before_the_model_is_taken_off(tmp_path: Path) -> None:
    assert call(tmp_path, {"model": "openai/gpt-4o"}).model == "gpt-4o"


def test_csv_has_json_in_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "spend.csv"
    path.write_text(
        "request_id,call_type,spend,prompt_tokens,completion_tokens,startTime,endTime,model,metadata\n"
        "r1,completion,0,374,44,2026-11-01 12:00:00,2026-11-01 12:00:01,gpt-4o,"
        '"{""spend_logs_metadata"": {""experiment"": ""mail"", ""variant"": ""ai""}}"\n'
    )
    (row,) = open_litellm(path, OPTIONS, DOOR, PRICING).rows
    assert isinstance(row, Parsed)
    assert isinstance(row.facts[0], UsageRow)
    assert (row.facts[0].variant, row.facts[0].occurred_at) == ("ai", AT)


def test_what_tokens_do_not_price_is_not_lost_in_silence(tmp_path: Path) -> None:
    rows, others = taken(
        tmp_path,
        LOG | {"call_type": "image_generation", "request_id": "2"},
        LOG | {"call_type": "moderation", "spend": 0, "total_tokens": 0, "request_id": "3"},
        LOG | {"request_id": None},
        LOG | {"request_id": "4", "spend": -1},
        LOG | {"request_id": "5", "startTime": "now"},
        LOG | {"request_id": "6", "prompt_tokens": None},
    )
    reasons = [row.reason for row in rows if isinstance(row, Reject)]
    assert reasons == [
        "unknown-operation",
        "id-missing",
        "bad-number",
        "bad-time",
        "tokens-missing",
    ]
    assert others == {"no call of a model": 1}
    assert "anna" not in repr(rows)


def test_a_file_that_tells_no_format(tmp_path: Path) -> None:
    (tmp_path / "spend.log").write_text("x")
    with pytest.raises(FileError, match="name it"):
        open_litellm(tmp_path / "spend.log", OPTIONS, DOOR, PRICING)
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    with pytest.raises(FileError, match="twice"):
        open_litellm(tmp_path / "twice.csv", OPTIONS, DOOR, PRICING)
    (tmp_path / "spend.jsonl").write_text(json.dumps(LOG))
    with pytest.raises(KlartextError, match="--source"):
        open_litellm(tmp_path / "spend.jsonl", CallOptions("litellm", "1 2"), DOOR, PRICING)
