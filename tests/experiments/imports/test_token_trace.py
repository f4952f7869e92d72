from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from klartext.experiments.door import Door
from klartext.experiments.errors import ConfigurationError, NotFoundError
from klartext.experiments.identity import Pseudonymiser
from klartext.experiments.imports.token_trace import open_trace, token_trace_mapping
from klartext.experiments.imports.usage_mapping import TraceOptions, load_usage_mapping
from klartext.experiments.ledger.fx import Rates
from klartext.experiments.prices.order import open_catalog
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.records import Parsed, Reject, UsageRow

DOOR = Door(
    pseudonymiser=Pseudonymiser(bytes(32)),
    properties={},
    currency="USD",
    timezone="UTC",
    rates=Rates(),
    latest=datetime(2026, 12, 1, tzinfo=UTC),
    variants={"mail": ("control", "ai")},
)
PRICING = Pricing(open_catalog(None, "UTC"), Rates(), "USD", ZoneInfo("UTC"))
MAPPING = """\
schema: klartext/mapping/v1
kind: usage
source: gateway
id: {identity}
time: at
timezone: UTC
input_tokens: tokens_in
output_tokens: tokens_out
model: {{constant: gpt-4o}}
"""
HEADER = "at,tokens_in,tokens_out\n"
FIRST, SECOND = "2023-11-16 18:15:46.6805900,374,44\n", "2023-11-16 18:15:50.9951690,396,109\n"


def rows(
    folder: Path, text: str, *, identity: str = "row_content", more: str = "", name: str = "t.csv"
) -> list[Parsed | Reject]:
    mapping = folder / "trace.yaml"
    mapping.write_text(MAPPING.format(identity=identity) + more)
    data = folder / name
    data.write_text(text)
    return list(open_trace(data, load_usage_mapping(mapping), DOOR, PRICING).rows)


def calls(found: Sequence[Parsed | Reject]) -> list[UsageRow]:
    facts = [row.facts[0] for row in found if isinstance(row, Parsed)]
    return [fact for fact in facts if isinstance(fact, UsageRow)]


def test_seven_digits_of_a_second_are_cut_to_six(tmp_path: Path) -> None:
    text = HEADER + FIRST + "2023-12-31 23:59:59.9999999,1,1\n"
    first, last = calls(rows(tmp_path, text))
    assert first.occurred_at == datetime(2023, 11, 16, 18, 15, 46, 680590, UTC)
    assert last.occurred_at == datetime(2023, 12, 31, 23, 59, 59, 999999, UTC)


def test_row_content_is_the_same_fact_in_any_order(tmp_path: Path) -> None:
    one = {row.id for row in calls(rows(tmp_path, HEADER + FIRST + SECOND))}
    other = {row.id for row in calls(rows(tmp_path, HEADER + SECOND + FIRST))}
    assert one == other
    assert len(one) == 2


def test_row_number_tells_equal_rows_apart(tmp_path: Path) -> None:
    found = calls(rows(tmp_path, HEADER + FIRST + FIRST, identity="row_number"))
    assert len({row.id for row in found}) == 2
    same = calls(rows(tmp_path, HEADER + FIRST + FIRST))
    assert len({row.id for row in same}) == 1


def test_columns_can_be_the_identity(tmp_path: Path) -> None:
    text = "call," + HEADER + "7," + FIRST + "," + SECOND
    first, second = rows(tmp_path, text, identity="[call]")
    assert isinstance(first, Parsed)
    assert isinstance(second, Reject)
    assert second.reason == "id-missing"


def test_bad_rows_are_rejected_with_their_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = (
        HEADER
        + FIRST
        + "yesterday,1,1\n"
        + "2023-11-16 18:16:00,-5,1\n"
        + "2023-11-16 18:16:00,1\n"
        + "2027-01-01 00:00:00,1,1\n"
        + SECOND
    )
    found = rows(tmp_path, text)
    assert [row.reason if isinstance(row, Reject) else "ok" for row in found] == [
        "ok",
        "bad-time",
        "bad-tokens",
        "broken-row",
        "time-in-future",
        "ok",
    ]


def test_naive_times_need_a_zone(tmp_path: Path) -> None:
    mapping = tmp_path / "trace.yaml"
    text = MAPPING.format(identity="row_content").replace("timezone: UTC\n", "")
    mapping.write_text(text)
    data = tmp_path / "t.csv"
    data.write_text(HEADER + FIRST)
    (row,) = open_trace(data, load_usage_mapping(mapping), DOOR, PRICING).rows
    assert isinstance(row, Reject)
    assert row.reason == "naive-time"


def test_variants_are_translated_and_checked(tmp_path: Path) -> None:
    text = (
        "arm," + HEADER + "T," + FIRST + "C," + SECOND + ",2023-11-16 18:16:00,1,1\n"
        "X,2023-11-16 18:16:01,1,1\n"
    )
    more = "experiment: mail\nvariant: {column: arm, values: {T: ai, C: control}}\n"
    found = rows(tmp_path, text, more=more)
    assert [row.variant for row in calls(found)] == ["ai", "control", None]
    assert isinstance(found[3], Reject)
    assert found[3].reason == "unknown-variant"


def test_json_lines_and_parquet_are_read_alike(tmp_path: Path) -> None:
    line = '{"at": "2023-11-16T18:15:46.68059Z", "tokens_in": 374, "tokens_out": 44, "n": "secret"}'
    (from_json,) = calls(rows(tmp_path, line + "\n", name="t.jsonl"))
    at = datetime(2023, 11, 16, 18, 15, 46, 680590, UTC)
    table = pa.table({"at": [at], "tokens_in": [374], "tokens_out": [44]})
    pq.write_table(table, tmp_path / "t.parquet")
    loaded = load_usage_mapping(tmp_path / "trace.yaml")
    (row,) = open_trace(tmp_path / "t.parquet", loaded, DOOR, PRICING).rows
    assert isinstance(row, Parsed)
    (from_parquet,) = calls([row])
    assert from_json.payload == from_parquet.payload
    assert "secret" not in repr(from_json)


def test_missing_columns_are_named_at_their_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        rows(tmp_path, "at,tokens_in\n", more="unit: customer\n")
    assert [(problem.line, problem.path) for problem in raised.value.problems] == [
        (8, "output_tokens"),
        (10, "unit"),
    ]


def test_an_experiment_must_be_registered(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="klartext apply"):
        rows(tmp_path, HEADER + FIRST, more="experiment: other\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "trace.yaml").write_text(MAPPING.format(identity="row_content"))
    loaded = load_usage_mapping(tmp_path / "trace.yaml")
    with pytest.raises(NotFoundError, match=r"none\.csv"):
        open_trace(tmp_path / "none.csv", loaded, DOOR, PRICING)
    with pytest.raises(NotFoundError, match=r"none\.csv"):
        token_trace_mapping(tmp_path / "none.csv", TraceOptions("s"))


def test_source_is_what_decides_acceptance(tmp_path: Path) -> None:
    rows(tmp_path, HEADER + FIRST)
    loaded = load_usage_mapping(tmp_path / "trace.yaml")
    source = open_trace(tmp_path / "t.csv", loaded, DOOR, PRICING).source
    assert (source.kind, source.name, source.complete_until) == ("usage", "gateway", "latest")
    tomorrow = replace(DOOR, latest=DOOR.latest + timedelta(days=1))
    later = open_trace(tmp_path / "t.csv", loaded, tomorrow, PRICING).source
    assert later.application != source.application
    same = open_trace(tmp_path / "t.csv", loaded, DOOR, replace(PRICING, currency="EUR")).source
    assert same.application == source.application


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_token_trace_needs_no_mapping(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"calls.{suffix}"
    path.write_text(
        "id,timestamp,model,input_tokens,output_tokens,variant,note\n"
        "1,2026-03-01T12:00:00Z,gpt-4o,374,44,ai,private\n"
        if suffix == "csv"
        else '{"id": 1, "timestamp": "2026-03-01T12:00:00Z", "model": "gpt-4o", '
        '"input_tokens": 374, "output_tokens": 44, "variant": "ai", "note": "private"}\n'
    )
    loaded = token_trace_mapping(path, TraceOptions("gateway", experiment="mail"))
    (row,) = calls(list(open_trace(path, loaded, DOOR, PRICING).rows))
    assert (row.model, row.variant, row.experiment) == ("gpt-4o", "ai", "mail")
