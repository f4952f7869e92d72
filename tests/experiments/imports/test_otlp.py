from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from klartext.experiments.door import Door
from klartext.experiments.errors import NotFoundError
from klartext.experiments.identity import Pseudonymiser
from klartext.experiments.imports import otlp
from klartext.experiments.imports.observed import CallOptions
from klartext.experiments.imports.otlp import open_otlp
from klartext.experiments.ledger.fx import Rates
from klartext.experiments.prices.order import open_catalog
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.readers import FileError
from klartext.experiments.records import Parsed, Reject, UsageRow
from tests.experiments.imports.spans import AT, CHAT, attributes, line, span

KEY = Pseudonymiser(bytes(32))
DOOR = Door(
    pseudonymiser=KEY,
    properties={},
    currency="USD",
    timezone="UTC",
    rates=Rates(),
    latest=AT + timedelta(days=1),
    variants={"mail": ("control", "ai"), "chat-tone": ("plain", "warm")},
)
PRICING = Pricing(open_catalog(None, "UTC"), Rates(), "USD", ZoneInfo("UTC"))
OPTIONS = CallOptions("otlp", "gateway")


def opened(
    folder: Path, lines: Sequence[str], options: CallOptions = OPTIONS
) -> tuple[list[Parsed | Reject], dict[str, int]]:
    path = folder / "spans.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = open_otlp(path, options, DOOR, PRICING)
    return list(found.rows), found.others


def call(folder: Path, of: Mapping[str, Any], options: CallOptions = OPTIONS) -> UsageRow:
    ((row,), _) = opened(folder, [line(of)], options)
    assert isinstance(row, Parsed), row
    (fact,) = row.facts
    assert isinstance(fact, UsageRow)
    return fact


def reasons(rows: Sequence[Parsed | Reject]) -> list[str]:
    return [row.reason for row in rows if isinstance(row, Reject)]


def test_current_and_deprecated_names_say_the_same(tmp_path: Path) -> None:
    old = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.prompt_tokens": 374,
        "gen_ai.usage.completion_tokens": 44,
    }
    now = call(tmp_path, span(CHAT))
    assert call(tmp_path, span(old)) == now
    # (374 x 2.50 + 44 x 10.00) / 1,000,000, by hand
    assert (now.amount, now.occurred_at, now.duration_ms) == (Decimal("0.001375"), AT, 812)
    assert (now.source, now.provider, now.model) == ("gateway", "openai", "gpt-4o")
    # Of both, the current name counts, whatever their order.
    both = {"gen_ai.usage.prompt_tokens": 1} | CHAT | {"gen_ai.usage.completion_tokens": 1}
    assert call(tmp_path, span(both)) == now


def test_everything_a_span_can_say(tmp_path: Path) -> None:
    row = call(
        tmp_path,
        span(
            CHAT
            | {
                "gen_ai.response.model": "gpt-4o-2024-11-20",
                "gen_ai.usage.cache_read.input_tokens": 300,
                "gen_ai.usage.reasoning.output_tokens": 40,
                "openai.response.service_tier": "default",
                "gen_ai.conversation.id": "case-17",
                "gen_ai.prompt.name": "subject-lines",
                "gen_ai.prompt.version": "7",
                "error.type": "content_filter",
                "user.id": "anna@example.org",
                "feature_flag.key": "mail",
                "feature_flag.result.variant": "ai",
            }
        ),
    )
    # 74 x 2.50 + 300 x 1.25 + 44 x 10.00: reasoning tokens are among the output
    assert row.amount == Decimal("0.001")
    assert (row.model, row.cached_tokens, row.reasoning_tokens) == ("gpt-4o-2024-11-20", 300, 40)
    assert (row.service_tier, row.error, row.prompt) == (
        "default",
        "content_filter",
        "subject-lines@7",
    )
    assert (row.experiment, row.variant) == ("mail", "ai")
    assert (row.unit, row.task) == (KEY.unit("anna@example.org"), KEY.token("case-17"))


def test_a_batch_costs_half(tmp_path: Path) -> None:
    row = call(tmp_path, span(CHAT | {"openai.response.service_tier": "batch"}))
    assert row.amount == Decimal("0.0006875")
    assert "processing=batch" in row.evidence


def test_a_past_call_is_priced_at_the_price_of_its_day(tmp_path: Path) -> None:
    """o3 cost 10 and 40 USD per million until 10 June 2025, 2 and 8 since."""
    amounts = []
    for day in (datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)):
        start = int(day.timestamp()) * 10**9
        times = {"startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 1)}
        row = call(tmp_path, span(CHAT | {"gen_ai.request.model": "o3"}) | times)
        amounts.append(row.amount)
        assert row.evidence.startswith("genai-prices ")
    assert amounts == [Decimal("0.0055"), Decimal("0.0011")]  # 374 and 44 tokens, by hand


def test_cache_tokens_are_input_unless_the_producer_counts_them_apart(tmp_path: Path) -> None:
    claude = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.response.model": "claude-sonnet-4-5",
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 300,
        "gen_ai.usage.cache_creation.input_tokens": 200,
    }
    inclusive = call(tmp_path, span(claude | {"gen_ai.usage.input_tokens": 1000}))
    # 500 x 3 + 300 x 0.30 + 200 x 3.75 + 10 x 15 USD per million, by hand
    assert inclusive.amount == Decimal("0.00249")
    apart = span(claude | {"gen_ai.usage.input_tokens": 500})
    options = CallOptions("otlp", "gateway", exclusive=("raw",))
    ((row,), _) = opened(tmp_path, [line(apart, scope="raw")], options)
    assert isinstance(row, Parsed)
    (exclusive,) = row.facts
    assert isinstance(exclusive, UsageRow)
    assert (exclusive.amount, exclusive.input_tokens) == (inclusive.amount, 1000)
    # Taken as inclusive such tokens are impossible: rejected, never guessed.
    rows, _ = opened(tmp_path, [line(span(claude | {"gen_ai.usage.input_tokens": 100}))])
    assert reasons(rows) == ["bad-tokens"]


def test_agents_and_tools_would_count_twice(tmp_path: Path) -> None:
    step = CHAT | {"gen_ai.operation.name": "invoke_agent"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
    rows, others = opened(
        tmp_path,
        [line(span(step, 2), span(CHAT, 1), span(tool, 3)), line(span({"http.route": "/"}, 4))],
    )
    assert [type(row) for row in rows] == [Parsed]
    assert others == {"agent or tool": 2, "no call of a model": 1}


def test_tokens_under_an_unknown_operation_are_not_lost_in_silence(tmp_path: Path) -> None:
    odd = CHAT | {"gen_ai.operation.name": "rerank"}
    bare = {key: item for key, item in CHAT.items() if key != "gen_ai.operation.name"}
    rows, _ = opened(tmp_path, [line(span(odd, 1), span(bare, 2))])
    assert reasons(rows) == ["unknown-operation"] * 2


def test_an_embedding_has_no_output_and_a_failure_no_usage(tmp_path: Path) -> None:
    embedding = call(
        tmp_path,
        span(
            {
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "text-embedding-3-small",
                "gen_ai.usage.input_tokens": 1_000_000,
            }
        ),
    )
    assert (embedding.amount, embedding.output_tokens) == (Decimal("0.02"), 0)
    silent = {key: item for key, item in CHAT.items() if "usage" not in key}
    failed = call(tmp_path, span(silent, status={"code": 2, "message": "anna@example.org"}))
    assert (failed.amount, failed.error, failed.input_tokens) == (Decimal(0), "error", 0)
    no_output = {key: item for key, item in CHAT.items() if "output" not in key}
    rows, _ = opened(tmp_path, [line(span(silent, 1), span(no_output, 2))])
    assert reasons(rows) == ["tokens-missing"] * 2  # their cost is unknown, not 0


def flagged(key: str, variant: str, name: str = "feature_flag.evaluation") -> dict[str, Any]:
    of = {"feature_flag.key": key, "feature_flag.result.variant": variant}
    return {"name": name, "attributes": attributes(of)}


def test_the_variant_is_that_of_a_flag_that_is_an_experiment(tmp_path: Path) -> None:
    events = [flagged("dark-mode", "on"), flagged("mail", "ai")]
    row = call(tmp_path, span(CHAT, events=events))
    assert (row.experiment, row.variant) == ("mail", "ai")
    other = call(tmp_path, span(CHAT, events=[flagged("dark-mode", "on")]))
    assert (other.experiment, other.variant) == (None, None)
    both = span(CHAT, events=[flagged("mail", "ai"), flagged("chat-tone", "warm")])
    rows, _ = opened(tmp_path, [line(both)])
    assert reasons(rows) == ["several-experiments"]


def test_the_variant_of_an_experiment_attribute(tmp_path: Path) -> None:
    named = CHAT | {"experiment.key": "mail", "experiment.variant": "control"}
    assert call(tmp_path, span(named)).variant == "control"
    ((row,), _) = opened(
        tmp_path,
        [line(span(CHAT), resource={"experiment.key": "mail", "experiment.variant": "ai"})],
    )
    assert isinstance(row, Parsed)
    assert isinstance(row.facts[0], UsageRow)
    assert row.facts[0].variant == "ai"
    rows, _ = opened(
        tmp_path,
        [
            line(span(CHAT | {"experiment.variant": "ai"}, 1)),
            line(span(CHAT | {"experiment.key": "male", "experiment.variant": "ai"}, 2)),
            line(span(CHAT | {"experiment.key": "mail", "experiment.variant": "bee"}, 3)),
        ],
    )
    assert reasons(rows) == ["experiment-missing", "unknown-experiment", "unknown-variant"]
    stated = CallOptions("otlp", "gateway", experiment="mail")
    assert call(tmp_path, span(CHAT | {"experiment.variant": "ai"}), stated).variant == "ai"
    # An unregistered flag of the same span says nothing about the stated experiment.
    flag = {"feature_flag.key": "dark-mode", "feature_flag.result.variant": "on"}
    assert call(tmp_path, span(CHAT | flag), stated).variant is None


def test_unit_and_task_by_an_attribute_of_ones_own(tmp_path: Path) -> None:
    options = CallOptions("otlp", "gateway", unit="shop.customer", task="shop.ticket")
    row = call(
        tmp_path, span(CHAT | {"shop.customer": 17, "shop.ticket": "t-1", "user.id": "x"}), options
    )
    assert (row.unit, row.task) == (KEY.unit("17"), KEY.token("t-1"))
    assert call(tmp_path, span(CHAT)).task == KEY.token(f"{1:032x}")  # else its trace


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"startTimeUnixNano": "noon"}, "bad-time"),
        ({"startTimeUnixNano": 1.5e18}, "bad-time"),
        ({"startTimeUnixNano": "9" * 20}, "time-in-future"),
        ({"startTimeUnixNano": "9" * 21}, "bad-time"),
        ({"startTimeUnixNano": "0"}, "time-missing"),
        ({"startTimeUnixNano": "1900000000000000000"}, "time-in-future"),
        ({"endTimeUnixNano": "1000000000000000000"}, "bad-duration"),
        ({"spanId": ""}, "id-missing"),
        ({"traceId": "0" * 32}, "id-missing"),
        ({"spanId": "f" * 65}, "bad-id"),
        ({"attributes": "none"}, None),
        ({"status": [], "events": {}, "links": 1}, "fine"),
    ],
)
def test_hostile_spans(tmp_path: Path, change: dict[str, Any], reason: str | None) -> None:
    rows, others = opened(tmp_path, [line(span(CHAT) | change)])
    if reason is None:
        assert others == {"no call of a model": 1}
    else:
        assert reasons(rows) == ([] if reason == "fine" else [reason])


def test_broken_lines_do_not_end_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MAX_LINE_BYTES", 4096)
    rows, others = opened(
        tmp_path,
        [
            "{",
            "[]",
            '{"spans": []}',
            "[" * 2000,
            "x" * 10_000,
            "",
            '{"resourceLogs": []}',
            '{"resourceSpans": 5}',
            '{"resourceSpans": [{"scopeSpans": 5}]}',
            '{"resourceSpans": [{"scopeSpans": [{"spans": [5]}]}]}',
            line(span(CHAT)),
        ],
    )
    assert reasons(rows) == ["broken-row"] * 8
    assert isinstance(rows[-1], Parsed)
    assert not others


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_otlp(tmp_path / "none.jsonl", OPTIONS, DOOR, PRICING)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(FileError):
        open_otlp(tmp_path / "empty.jsonl", OPTIONS, DOOR, PRICING)


def test_names_that_could_hold_an_address_are_refused(tmp_path: Path) -> None:
    rows, _ = opened(
        tmp_path,
        [
            line(span(CHAT | {"gen_ai.response.model": "anna@example.org"}, 1)),
            line(span(CHAT | {"openai.response.service_tier": "anna@example.org"}, 2)),
        ],
    )
    assert reasons(rows) == ["bad-name"] * 2
    assert "anna" not in repr(rows)
    row = call(tmp_path, span(CHAT | {"error.type": "no user anna@example.org"}))
    assert row.error == "other"
