from pathlib import Path

import pytest

from klartext.experiments.errors import ConfigurationError
from klartext.experiments.imports.usage_mapping import (
    TraceOptions,
    UsageMapping,
    load_usage_mapping,
    trace_mapping,
)
from klartext.experiments.mapping import Column, Constant

MAPPING = """\
schema: klartext/mapping/v1
kind: usage
source: ai-gateway
id: [call]
time: {column: at, format: epoch_ms}
input_tokens: in
output_tokens: out
model: {constant: gpt-4o}
experiment: mail
variant: {column: arm, values: {T: ai}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.yaml"
    path.write_text(text, "utf-8")
    return path


def problems(folder: Path, text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigurationError) as raised:
        load_usage_mapping(written(folder, text))
    return [(problem.line, problem.code) for problem in raised.value.problems]


def test_a_word_is_a_column(tmp_path: Path) -> None:
    mapping = load_usage_mapping(written(tmp_path, MAPPING)).mapping
    assert mapping.input_tokens == Column(column="in")
    assert mapping.model == Constant(constant="gpt-4o")
    assert dict(mapping.fields())["experiment"] == Constant(constant="mail")
    assert mapping.category == "model_fees"


def test_same_meaning_is_the_same_mapping(tmp_path: Path) -> None:
    first = load_usage_mapping(written(tmp_path, MAPPING)).sha256
    other = MAPPING.replace("input_tokens: in", "input_tokens: {column: in}  # same")
    assert load_usage_mapping(written(tmp_path, other)).sha256 == first


def test_all_mistakes_are_named_with_their_lines(tmp_path: Path) -> None:
    text = """\
schema: klartext/mapping/v1
kind: usage
source: ai-gateway
id: call
time: at
timezone: Berlin
input_tokens: in
model: {constant: gpt-4o}
category: tokens
terms: {batch: yes}
messages: body
"""
    assert problems(tmp_path, text) == [
        (1, "missing-key"),  # output_tokens
        (4, "identity"),
        (6, "timezone"),
        (9, "category"),
        (10, "choice"),
        (11, "unknown-key"),
    ]


def test_identity_has_no_default(tmp_path: Path) -> None:
    assert problems(tmp_path, MAPPING.replace("id: [call]\n", "")) == [(1, "missing-key")]


def test_a_variant_belongs_to_an_experiment(tmp_path: Path) -> None:
    assert problems(tmp_path, MAPPING.replace("experiment: mail\n", "")) == [(9, "experiment")]


def test_other_kinds_are_sent_to_ingest(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="klartext ingest"):
        load_usage_mapping(written(tmp_path, MAPPING.replace("usage", "events")))


def test_times_of_the_mapping_have_a_zone(tmp_path: Path) -> None:
    naive = MAPPING + "complete_until: 2026-01-31T12:00:00\n"
    assert problems(tmp_path, naive) == [(11, "instant")]
    zoned = load_usage_mapping(written(tmp_path, naive + "timezone: Europe/Berlin\n")).mapping
    assert zoned.complete_until is not None
    assert zoned.instant(zoned.complete_until, "x").isoformat() == "2026-01-31T11:00:00+00:00"


def test_token_trace_uses_the_columns_that_are_there() -> None:
    present = ("id", "timestamp", "input_tokens", "output_tokens", "model", "variant", "messages")
    options = TraceOptions("ai-gateway", experiment="mail", timezone="UTC")
    mapping = trace_mapping(options, present).mapping
    assert isinstance(mapping, UsageMapping)
    assert mapping.id == ("id",)
    assert [name for name, _ in mapping.fields()] == [
        "input_tokens",
        "output_tokens",
        "model",
        "experiment",
        "variant",
    ]


def test_token_trace_says_what_is_missing() -> None:
    with pytest.raises(ConfigurationError) as raised:
        trace_mapping(TraceOptions("ai-gateway"), ("timestamp", "ContextTokens"))
    assert {problem.path for problem in raised.value.problems} == {
        "input_tokens",
        "output_tokens",
        "id",
        "model",
    }
