"""The syntax of mapped facts in ``klartext.yaml``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from klartext.experiments.documents.yaml_document import plain, read
from klartext.experiments.engine_document import EngineDocument
from klartext.experiments.errors import ConfigurationError, ConflictError
from klartext.experiments.mapped_document import (
    EventsForm,
    ExposuresForm,
    FactsForm,
    UsageForm,
    WordForm,
)
from klartext.experiments.mapped_tables import COLUMNS, MappedFacts, Origin, require_own
from klartext.experiments.spec.json_schema import json_schema
from klartext.experiments.workspace import Workspace, find_workspace

HEAD = """\
schema: klartext/workspace/v1
name: shop
currency: CHF
properties: {country: text, margin: money}
"""
FACTS = """\
facts:
  location: own
  exposures:
    table: crm.exposures
    timezone: Europe/Berlin
    columns:
      unit: customer
      experiment: {constant: mail}
      variant: {column: arm, values: {A: control}}
      occurred_at: sent_at
    properties: [country]
  events:
    query: select * from crm.orders;
    complete_until: 2026-01-31T12:00:00+01:00
    columns: {unit: customer, name: kind, occurred_at: at, value: amount, currency: code}
    properties: {country: land, margin: db1}
  usage_costs:
    table: ai.calls
    columns:
      experiment: test
      occurred_at: at
      source: {constant: gateway}
      model: model
      amount: cost
      input_tokens: sent
      output_tokens: got
      error: error
      currency: {constant: CHF}
"""


def workspace(root: Path, text: str) -> Workspace:
    (root / "klartext.yaml").write_text(HEAD + text)
    return find_workspace(root)


def mapped(root: Path, text: str = FACTS) -> MappedFacts:
    found = workspace(root, text).mapped
    assert found is not None
    return found


def test_everything_may_be_said(tmp_path: Path) -> None:
    found = mapped(tmp_path)
    assert list(found.tables) == ["exposures", "events", "usage_costs"]
    assert found.currency == "CHF"
    exposures, events = found.tables["exposures"], found.tables["events"]
    assert (exposures.table, exposures.query, exposures.label) == (
        "crm.exposures", None, "crm.exposures",
    )  # fmt: skip
    assert exposures.timezone == "Europe/Berlin"
    assert exposures.columns == {
        "unit": Origin("customer"),
        "experiment": Origin(constant="mail"),
        "variant": Origin("arm", values={"A": "control"}),
        "occurred_at": Origin("sent_at"),
    }
    assert exposures.properties == {"country": "country"}
    assert events.query == "select * from crm.orders"
    assert events.complete_until == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert events.properties == {"country": "land", "margin": "db1"}
    assert found.tables["usage_costs"].columns["source"] == Origin(constant="gateway")
    assert workspace(tmp_path, FACTS).facts_root == str(tmp_path / "own")


def test_a_folder_is_still_a_folder(tmp_path: Path) -> None:
    found = workspace(tmp_path, "facts: data\n")
    assert (found.facts_root, found.mapped) == (str(tmp_path / "data"), None)


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "words"),
    [
        ("      unit: customer\n", "", "missing-key", 10, "Add 'unit'"),
        ("occurred_at: sent_at", "ocurred_at: sent_at", "unknown-key", 14, "'occurred_at'"),
        ("    table: crm.exposures\n", "", "table-or-query", 7, "neither table nor query"),
        ("    table: crm", "    query: b\n    table: crm", "table-or-query", 7, "table and query"),
        ("{constant: mail}", "{constant: mail, values: {a: b}}", "column-or-constant", 12,
         "translates a constant"),
        ("{constant: mail}", "{constant: mail, column: a}", "column-or-constant", 12, "one of"),
        ("{constant: mail}", "{}", "column-or-constant", 12, "neither"),
        ("{column: arm, ", "{colum: arm, ", "unknown-key", 13, "'column'"),
        ("properties: [country]", "properties: [contry]", "undeclared-property", 15, "'country'"),
        ("margin: db1", "shade: c", "undeclared-property", 20, "Declare it"),
        ("2026-01-31T12:00:00+01:00", "2026-01-31", "instant", 18, "with a time zone"),
        ("timezone: Europe/Berlin", "timezone: Berlin", "timezone", 9, "Europe/Berlin"),
        ("query: select * from crm.orders;", "query: 5", "query", 17, "must be a query"),
        ("{constant: CHF}", "{constant: 5}", "text", 32, "as text"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_at_its_line(
    tmp_path: Path, old: str, new: str, code: str, line: int, words: str
) -> None:
    assert old in FACTS
    with pytest.raises(ConfigurationError) as caught:
        workspace(tmp_path, FACTS.replace(old, new, 1))
    (problem,) = caught.value.problems
    assert (problem.code, problem.line) == (code, line)
    assert words in str(problem)


@pytest.mark.parametrize("name", ["exposures", "events"])
def test_exposures_and_events_are_mapped_together(tmp_path: Path, name: str) -> None:
    """Units of Klartext's own facts are pseudonyms: they are never those of a warehouse."""
    before, after = FACTS.index(f"  {name}:\n"), {"exposures": "  events:", "events": "  usage"}
    rest = FACTS[FACTS.index(after[name]) :]
    with pytest.raises(ConfigurationError) as caught:
        workspace(tmp_path, FACTS[:before] + rest)
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("missing-key", f"facts.{name}")


def test_the_schema_for_editors_knows_both_forms() -> None:
    schema = json_schema("workspace")
    validator: Any = Draft7Validator(schema)
    for text in ("facts: data\n", FACTS):
        document = json.loads(json.dumps(plain(read(HEAD + text, "x"))))
        assert not list(validator.iter_errors(document))
    broken = json.loads(json.dumps(plain(read(HEAD + FACTS.replace("unit:", "unt:"), "x"))))
    assert list(validator.iter_errors(broken))


def test_facts_of_a_kind_that_is_mapped_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match=r"events are read from the query \(facts\.events"):
        require_own(mapped(tmp_path), ("events",))
    without = mapped(tmp_path, FACTS[: FACTS.index("  usage_costs")])
    require_own(without, ("usage_costs",))
    require_own(None, COLUMNS)
    with pytest.raises(ConflictError, match="exposures are read from"):
        require_own(mapped(tmp_path), ("aliases",))  # of pseudonyms, which nobody there has


def test_every_key_and_column_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "facts.md").read_text(encoding="utf-8")
    forms = (FactsForm, ExposuresForm, EventsForm, UsageForm, WordForm, EngineDocument)
    wanted = {name for form in forms for name in form.model_fields}
    wanted |= {name for columns in COLUMNS.values() for name in columns}
    missing = {name for name in wanted if name not in text}
    assert not missing
