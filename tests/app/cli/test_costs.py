"""Costs on the command line: what it prints, and with which status it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from klartext.app.session import open_session
from klartext.experiments.batches import watermark
from klartext.experiments.state import reading
from tests.experiments.imports.spans import CHAT, line, span

Run = Callable[..., Any]

TRACE = """\
call,at,tokens_in,tokens_out,model
1,2026-03-01T12:00:00Z,1000,100,gpt-4o
2,2026-03-01T13:00:00Z,1000,100,gpt-4o
3,2026-03-01T14:00:00Z,1000,100,house-model
"""
MAPPING = """\
schema: klartext/mapping/v1
kind: usage
source: gateway
id: [call]
time: at
input_tokens: tokens_in
output_tokens: tokens_out
model: model
"""
RATES = "date,currency,rate\n2026-02-27,USD,1.25\n"


@pytest.fixture
def trace(workspace: Path) -> Path:
    (workspace / "trace.csv").write_text(TRACE)
    (workspace / "trace.yaml").write_text(MAPPING)
    (workspace / "rates.csv").write_text(RATES)
    return workspace / "trace.csv"


@pytest.mark.usefixtures("trace")
def test_import_says_what_came_in_and_what_it_cost(run: Run) -> None:
    done = run("costs", "import", "trace.csv", "--mapping", "trace.yaml")
    assert done.status == 0
    assert "new calls: 2 priced, 1 unpriced; 0.0056 EUR, mean 0.0028 EUR per call" in done.out
    assert "openai/gpt-4o 2.5/10 USD per 1M tokens" in done.out
    assert "never counted as 0" in done.err
    again = run("costs", "import", "trace.csv", "-m", "trace.yaml", "--json")
    assert again.json["schema"] == "klartext/costs-import/v1"
    assert (again.json["duplicate"], again.json["calls"]["calls"]) == (3, 0)
    assert again.json["calls"]["amount"] is None
    assert again.json["workspace"]["amount"] == "0.0056"


def test_rejected_rows_are_findings(trace: Path, run: Run) -> None:
    trace.write_text(TRACE + "4,2026-03-01T14:00:00Z,-1,1,gpt-4o\n")
    done = run("costs", "import", "trace.csv", "-m", "trace.yaml")
    assert done.status == 1
    assert "bad-tokens x 1" in done.out


@pytest.mark.usefixtures("trace")
def test_breakdown_prints_exact_sums(run: Run) -> None:
    run("costs", "import", "trace.csv", "-m", "trace.yaml")
    table = run("costs", "breakdown", "--by", "model")
    assert [line.split() for line in table.out.splitlines()[:4]] == [
        ["CALLS", "UNPRICED", "INPUT", "OUTPUT", "EUR", "MEAN", "PER", "CALL", "MODEL"],
        ["2", "0", "2,000", "200", "0.0056", "0.0028", "gpt-4o"],
        ["1", "1", "1,000", "100", "–", "–", "house-model"],
        ["3", "1", "3,000", "300", "0.0056", "0.0028", "(all)"],
    ]
    document = run("costs", "breakdown", "--by", "day", "--json").json
    assert document["schema"] == "klartext/costs-breakdown/v1"
    assert [part["key"] for part in document["parts"]] == ["2026-03-01"]
    assert document["unpriced"][0]["calls"] == 1


def test_a_token_trace_needs_no_mapping(workspace: Path, run: Run) -> None:
    (workspace / "prices.yaml").write_text(
        "schema: klartext/prices/v1\n"
        "prices:\n  - {model: house, per_million: {input: 2 EUR, output: 8 EUR}}\n"
    )
    (workspace / "calls.csv").write_text(
        "timestamp,input_tokens,output_tokens\n2026-03-01 12:00:00,1000,100\n"
    )
    options = ["--format", "token-trace", "--source", "gateway", "--model", "house"]
    refused = run("costs", "import", "calls.csv", *options)
    assert refused.status == 1
    assert "--id" in refused.err
    options += ["--id", "row_content", "--timezone", "Europe/Berlin"]
    assert run("costs", "import", "calls.csv", *options, "--json").json["calls"]["amount"] == (
        "0.0028"
    )


def test_list_shows_sources_lines_and_what_was_left_out(trace: Path, run: Run) -> None:
    assert "costs import" in run("costs", "list").err
    run("apply")
    run("costs", "import", trace.name, "-m", "trace.yaml")
    shown = run("costs", "list").out
    assert "gateway" in shown
    assert "engineering" in shown
    assert "no cost stated for: model_fees" in shown
    document = run("costs", "list", "--json").json
    assert document["experiments"][0]["lines"][0]["amount"] == "1000.00"
    assert document["sources"][0]["unpriced_calls"] == 1


@pytest.mark.usefixtures("trace")
def test_a_file_is_read_one_way_or_the_other(run: Run) -> None:
    assert run("costs", "import", "trace.csv").status == 2
    both = run("costs", "import", "trace.csv", "-m", "trace.yaml", "--format", "token-trace")
    assert both.status == 2
    mixed = run("costs", "import", "trace.csv", "-m", "trace.yaml", "--model", "gpt-4o")
    assert mixed.status == 2
    assert run("costs", "import", "trace.csv", "--format", "token-trace").status == 2


def test_no_price_at_all_is_not_ready(trace: Path, run: Run) -> None:
    (trace.parent / "rates.csv").unlink()
    refused = run("costs", "import", "trace.csv", "-m", "trace.yaml")
    assert refused.status == 3
    assert "Nothing was stored" in refused.err
    kept = run("costs", "import", "trace.csv", "-m", "trace.yaml", "--keep-unpriced")
    assert kept.status == 0
    assert "0 priced, 3 unpriced; cost unknown" in kept.out
    assert "2  unpriced no-exchange-rate" in run("costs", "breakdown").out


SECRET = "anna.secret@planted-domain.example"


def test_an_address_planted_in_spans_is_found_nowhere_on_disk(
    workspace: Path, tmp_path: Path, run: Run
) -> None:
    run("apply")
    (workspace / "rates.csv").write_text("date,currency,rate\n2026-10-30,USD,1.25\n")
    told = {
        "gen_ai.input.messages": f'[{{"role": "user", "content": "write to {SECRET}"}}]',
        "gen_ai.prompt.0.content": SECRET,
        "gen_ai.completion.0.content": SECRET,
        "gen_ai.tool.call.arguments": SECRET,
        "user.email": SECRET,
        "user.id": SECRET,
        "gen_ai.conversation.id": SECRET,
        "error.type": f"no mailbox {SECRET}",
        "feature_flag.key": "mail-subject",
        "feature_flag.result.variant": "ai",
    }
    event = {
        "name": "gen_ai.client.inference.operation.details",
        "attributes": [{"key": "gen_ai.output.messages", "value": {"stringValue": SECRET}}],
    }
    hostile = [
        span(CHAT | told, 1, name=SECRET, events=[event], status={"code": 2, "message": SECRET}),
        span(CHAT | told | {"gen_ai.response.model": SECRET}, 2),
        span(CHAT | told | {"gen_ai.provider.name": SECRET}, 3),
        span(CHAT | told | {"feature_flag.result.variant": SECRET}, 4),
        span(CHAT | told | {"gen_ai.usage.input_tokens": SECRET}, 5),
        span(CHAT | told | {"gen_ai.prompt.name": SECRET}, 6),
        span(CHAT | told, 7, spanId=SECRET * 3),
        span(CHAT | told, 8, startTimeUnixNano=SECRET),
    ]
    spans = tmp_path / "spans.jsonl"  # beside the workspace
    lines = [line(*hostile, resource={"host.name": SECRET}, scope=SECRET), f'{{"{SECRET}"']
    spans.write_text("\n".join(lines))
    ran = run("costs", "import", str(spans), "--format", "otlp", "--source", "gateway", "--json")
    assert (ran.json["accepted"], ran.json["rejected"], ran.json["sent"]) == (1, 8, 9)
    letters = run("dlq", "export").out
    shown = run("costs", "breakdown", "--by", "price").out
    assert len(letters.splitlines()) == 8
    assert "planted-domain" not in ran.out + ran.err + letters + shown
    stored = [path for path in workspace.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in stored)
    for path in stored:
        assert b"planted-domain" not in path.read_bytes(), path
        if path.suffix == ".parquet":  # columns are compressed
            assert "planted-domain" not in repr(pq.ParquetFile(path).read().to_pylist()), path


def test_spans_come_in_once_and_steps_are_counted_beside(workspace: Path, run: Run) -> None:
    (workspace / "rates.csv").write_text("date,currency,rate\n2026-10-30,USD,1.25\n")
    tool = {"gen_ai.operation.name": "execute_tool"}
    (workspace / "spans.jsonl").write_text(line(span(CHAT, 1), span(tool, 2), span(CHAT, 3)))
    arguments = ("costs", "import", "spans.jsonl", "--format", "otlp", "--source", "gateway")
    done = run(*arguments)
    assert done.status == 0
    assert "beside these, no calls: 1 x agent or tool" in done.out
    assert "new calls: 2 priced, 0 unpriced; 0.0022 EUR" in done.out
    again = run(*arguments, "--json").json
    assert (again["accepted"], again["duplicate"], again["sent"]) == (0, 2, 2)
    assert again["others"] == [{"kind": "agent or tool", "count": 1}]
    assert again["workspace"]["amount"] == "0.0022"


def test_options_that_a_format_does_not_take_are_refused(workspace: Path, run: Run) -> None:
    (workspace / "spans.jsonl").write_text(line(span(CHAT)))
    start = ("costs", "import", "spans.jsonl", "--format", "otlp")
    refused = run(*start, "--source", "gateway", "--id", "row_number")
    assert refused.status == 2
    assert "otlp does not take it" in refused.err
    assert run(*start, "--source", "a b").status == 2
    unknown = run(*start, "--source", "gateway", "--experiment", "mail-subject")
    assert (unknown.status, "klartext apply" in unknown.err) == (3, True)
    (workspace / "experiments" / "mail.yaml").unlink()
    assert run(*start, "--source", "gateway", "--experiment", "mail-subject").status == 2


def test_scores_join_the_units_of_their_calls(workspace: Path, run: Run) -> None:
    (workspace / "rates.csv").write_text("date,currency,rate\n2026-10-30,USD,1.25\n")
    told = {"user.id": SECRET, "klartext.task": "case-1"}
    (workspace / "spans.jsonl").write_text(line(span(CHAT | told, 1)))
    review = {
        "timestamp": "2026-11-01T12:05:00Z",
        "name": "review",
        "dataType": "CATEGORICAL",
        "stringValue": "accepted",
        "comment": SECRET,
    }
    scores = [review | {"id": "s1", "traceId": "case-1"}, review | {"id": "s2", "traceId": "?"}]
    (workspace / "scores.jsonl").write_text("\n".join(map(json.dumps, scores)))
    arguments = ("costs", "import", "scores.jsonl", "--format", "langfuse-scores", "--source", "lf")
    early = run(*arguments, "--json")
    assert early.json["rejected"] == 2  # no call has come in yet
    run("costs", "import", "spans.jsonl", "--format", "otlp", "--source", "gateway")
    done = run(*arguments)
    assert done.status == 1
    assert "unknown-task x 1: no call of its task has come in" in done.out
    again = run(*arguments, "--json").json
    assert (again["accepted"], again["duplicate"], again["rejected"]) == (0, 1, 1)
    (events,) = (workspace / ".klartext" / "facts" / "events").rglob("*.parquet")
    (event,) = pq.ParquetFile(events).read().to_pylist()
    assert (event["name"], event["value"]) == ("score.review.accepted", None)
    assert SECRET not in repr(event)
    # Scores say nothing about whether purchases are complete.
    with reading(open_session(workspace).engine) as connection:
        assert watermark(connection, usage=False) is None


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "litellm",
            {
                "request_id": "r",
                "startTime": "2026-11-01T12:00:00Z",
                "model": "gpt-4o",
                "prompt_tokens": 1000,
                "completion_tokens": 100,
            },
        ),
        (
            "langfuse",
            {
                "id": "o",
                "type": "GENERATION",
                "startTime": "2026-11-01T12:00:00Z",
                "model": "gpt-4o",
                "usageDetails": {"input": 1000, "output": 100},
            },
        ),
    ],
)
def test_logs_of_gateways_come_in_once(
    workspace: Path, run: Run, name: str, row: dict[str, Any]
) -> None:
    (workspace / "rates.csv").write_text("date,currency,rate\n2026-10-30,USD,1.25\n")
    (workspace / "log.jsonl").write_text(json.dumps(row))
    arguments = ("costs", "import", "log.jsonl", "--format", name, "--source", "gateway")
    assert "0.0028 EUR" in run(*arguments).out
    again = run(*arguments, "--json").json
    assert (again["duplicate"], again["workspace"]["amount"]) == (1, "0.0028")
