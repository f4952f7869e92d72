"""Files with a mapping: what their rows become."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from klartext.experiments.batches import Source
from klartext.experiments.errors import ConfigurationError
from klartext.experiments.file_source import open_file
from klartext.experiments.mapping import load_mapping
from klartext.experiments.records import (
    AliasRow,
    EventRow,
    ExposureRow,
    FactRow,
    Parsed,
    Reject,
    parse_alias,
    parse_event,
)
from tests.experiments.doors import NOW, door

UNITS = """\
schema: klartext/mapping/v1
kind: unit_table
experiment: mail
id: [userid]
unit: userid
variant: {column: arm, values: {A: control, B: ai}}
time: {constant: "2026-05-01T00:00:00Z"}
currency: USD
outcomes:
  visit: {column: visit, as: flag}
  spend: {column: spend, as: money}
covariates:
  age: {column: age, as: number, missing: zero}
properties: [country]
"""
EVENTS = """\
schema: klartext/mapping/v1
kind: events
id: [order]
unit: customer
time: at
event: what
value: {column: amount, as: money}
currency: {column: currency}
properties: {items: n, is_new: first, secret: customer}
"""
ALIASES = """\
schema: klartext/mapping/v1
kind: aliases
id: row_content
time: at
unit: visitor
canonical: customer
"""
MAY = datetime(2026, 5, 1, tzinfo=UTC)
DOOR = replace(door(), currency="USD")


def opened(
    folder: Path, mapping: str, content: str, name: str = "data.csv"
) -> tuple[Source, list[Parsed | Reject]]:
    (folder / "mapping.yaml").write_text(mapping)
    (folder / name).write_text(content)
    source, rows = open_file(folder / name, load_mapping(folder / "mapping.yaml"), DOOR)
    return source, list(rows)


def facts(rows: Sequence[Parsed | Reject]) -> list[FactRow]:
    assert all(isinstance(row, Parsed) for row in rows)
    return [fact for row in rows if isinstance(row, Parsed) for fact in row.facts]


def reasons(rows: Sequence[Parsed | Reject]) -> list[str]:
    return [row.reason if isinstance(row, Reject) else "parsed" for row in rows]


def test_a_unit_is_an_exposure_and_its_outcomes(tmp_path: Path) -> None:
    content = "userid,arm,visit,spend,age,country\nu1,A,1,29.99,,DE\nu2,B,0,0.00,33,\n"
    source, rows = opened(tmp_path, UNITS, content)
    exposure, visit, spend, other, age = facts(rows)
    assert isinstance(exposure, ExposureRow)
    assert (exposure.experiment, exposure.variant, exposure.occurred_at) == ("mail", "control", MAY)
    assert exposure.unit == DOOR.pseudonymiser.unit("u1")
    assert exposure.properties == {"country": "DE"}
    assert isinstance(visit, EventRow)
    assert (visit.name, visit.value, visit.currency) == ("visit", None, None)
    assert isinstance(spend, EventRow)
    assert (spend.value, spend.currency, spend.occurred_at) == (Decimal("29.99"), "USD", MAY)
    assert isinstance(other, ExposureRow)
    assert other.variant == "ai"
    assert isinstance(age, EventRow)
    assert (age.name, age.value, age.currency) == ("covariate.age", Decimal(33), None)
    assert age.occurred_at == MAY - timedelta(microseconds=1)
    assert (source.kind, source.name, source.complete_until) == (
        "unit_table",
        "data.csv",
        "received",
    )


def test_a_changed_outcome_is_another_payload(tmp_path: Path) -> None:
    header = "userid,arm,visit,spend,age,country\n"
    payloads = {
        facts(opened(tmp_path, UNITS, header + row)[1])[0].payload
        for row in ("u1,A,0,0,,\n", "u1,A,0,1,,\n", "u1,A,1,0,,\n", "u1,B,0,0,,\n", "u1,A,0,0,5,\n")
    }
    assert len(payloads) == 5
    same = [
        facts(opened(tmp_path, UNITS, header + row)[1])[0]
        for row in ("u1,A,0,0,,\n", "u1,A,false,0.00,0,\n")
    ]
    assert same[0] == same[1]


def test_rows_of_units_that_cannot_be_read(tmp_path: Path) -> None:
    content = (
        "userid,arm,visit,spend,age,country\n"
        ",A,1,1,,\n"
        "u2,C,1,1,,\n"
        "u3,A,,1,,\n"
        "u4,A,2,1,,\n"
        'u5,A,1,"1,5",,\n'
        "u6,A,1,1,NaN,\n"
        "u7,A\n"
    )
    _, rows = opened(tmp_path, UNITS, content)
    assert reasons(rows) == [
        "unit-missing", "unknown-variant", "missing-value", "bad-flag", "bad-number",
        "bad-number", "broken-row",
    ]  # fmt: skip
    units = [row.unit for row in rows if isinstance(row, Reject)]
    assert units[1:6] == [DOOR.pseudonymiser.unit(f"u{number}") for number in range(2, 7)]


def test_events_of_a_file_and_of_a_json_body_are_the_same_fact(tmp_path: Path) -> None:
    content = (
        "order,customer,at,what,amount,currency,n,first\n"
        "1,c1,2026-05-01T12:00:00+02:00,purchase,12.50,EUR,3,true\n"
        "2,c1,2026-05-02T12:00:00Z,signup,,,,\n"
    )
    with_rate = replace(DOOR, rates=DOOR.rates, currency="EUR")
    (tmp_path / "m.yaml").write_text(EVENTS)
    (tmp_path / "d.csv").write_text(content)
    source, stream = open_file(tmp_path / "d.csv", load_mapping(tmp_path / "m.yaml"), with_rate)
    first, second = list(stream)
    assert source.complete_until == "latest"
    assert isinstance(first, Parsed)
    assert isinstance(second, Parsed)
    assert first.dropped == ("secret",)

    body = {
        "id": "1", "unit": "c1", "name": "purchase", "occurred_at": "2026-05-01T10:00:00Z",
        "value": 12.5, "currency": "EUR", "properties": {"items": 3, "is_new": True},
    }  # fmt: skip
    posted = parse_event(body, with_rate)
    assert isinstance(posted, Parsed)
    assert posted.facts == first.facts
    (signup,) = second.facts
    assert isinstance(signup, EventRow)
    assert (signup.name, signup.value, signup.currency) == ("signup", None, None)


def test_blanks_around_ids_and_texts_are_padding(tmp_path: Path) -> None:
    """Else a file with padded columns brings the purchases of strangers, and nothing says so."""
    header = "userid,arm,visit,spend,age,country\n"
    _, plain = opened(tmp_path, UNITS, header + "u1,A,1,29.99,,DE\n")
    _, padded = opened(tmp_path, UNITS, header + "u1  ,A, 1,29.99 ,, DE\n")
    assert facts(padded) == facts(plain)
    _, other = opened(tmp_path, UNITS, header + "U1,A,1,29.99,,DE\n")  # ids differ by case
    assert facts(other)[0].id != facts(plain)[0].id
    bodies = [
        {"id": each, "unit": each, "name": "buy", "occurred_at": "2026-05-01T10:00:00Z"}
        for each in ("c1", " c1 ")
    ]
    first, second = (parse_event(body, DOOR) for body in bodies)
    assert isinstance(first, Parsed)
    assert isinstance(second, Parsed)
    assert first.facts == second.facts


def test_events_that_cannot_be_read(tmp_path: Path) -> None:
    content = (
        "order,customer,at,what,amount,currency,n,first\n"
        "1,c,2026-05-01 12:00,buy,1,USD,,\n"
        "2,c,2026-05-01T12:00Z,buy,1,,,\n"
        "3,c,2026-05-01T12:00Z,buy,1,usd,,\n"
        "4,c,2026-05-01T12:00Z,buy,1,GBP,,\n"
        "5,c,2026-07-01T12:00Z,buy,1,USD,,\n"
        "6,c,2026-05-01T12:00Z,,1,USD,,\n"
        ",c,2026-05-01T12:00Z,buy,1,USD,,\n"
        "8,c,2026-05-01T12:00Z,buy,1,USD,2.5,\n"
    )
    _, rows = opened(tmp_path, EVENTS, content)
    assert reasons(rows) == [
        "naive-time", "missing-currency", "unknown-currency", "no-exchange-rate",
        "time-in-future", "name-missing", "id-missing", "bad-number",
    ]  # fmt: skip


def test_identity_by_content_and_by_number(tmp_path: Path) -> None:
    header = "userid,arm,visit,spend,age,country\n"
    content = header + "u1,A,0,0,,\nu1,A,0,0,,\nu1,A,0,1,,\n"
    by_content = UNITS.replace("[userid]", "row_content")
    ids = [fact.id for fact in facts(opened(tmp_path, by_content, content)[1])]
    assert (len(set(ids)), ids[0] == ids[1]) == (3, True)  # two rows, and the spend of one
    by_number = UNITS.replace("[userid]", "row_number").replace("unit: userid", "unit: row_number")
    found = [
        fact
        for fact in facts(opened(tmp_path, by_number, content)[1])
        if isinstance(fact, ExposureRow)
    ]
    assert len({fact.id for fact in found}) == len({fact.unit for fact in found}) == 3
    longer = opened(tmp_path, by_number, content + "u2,A,0,0,,\n")[1]
    assert facts(longer)[0].id != found[0].id  # another file, other rows


def test_formats_give_the_same_facts(tmp_path: Path) -> None:
    content = "userid,arm,visit,spend,age,country\n7,A,1,29.99,33,DE\n"
    expected = facts(opened(tmp_path, UNITS, content)[1])
    line = {"userid": 7, "arm": "A", "visit": True, "spend": 29.99, "age": 33, "country": "DE"}
    assert facts(opened(tmp_path, UNITS, json.dumps(line), "data.jsonl")[1]) == expected
    pq.write_table(pa.Table.from_pylist([line]), tmp_path / "data.parquet")
    loaded = load_mapping(tmp_path / "mapping.yaml")
    assert facts(list(open_file(tmp_path / "data.parquet", loaded, DOOR)[1])) == expected


def test_an_alias_joins_two_pseudonyms_and_itself_is_refused(tmp_path: Path) -> None:
    content = (
        "visitor,customer,at\nv1,c1,2026-05-01T00:00:00Z\nc1,c1,2026-05-01T00:00:00Z\n"
        ",c1,2026-05-01T00:00:00Z\nv1,,2026-05-01T00:00:00Z\nv1,c1,2026-05-01\n"
    )
    source, rows = opened(tmp_path, ALIASES, content)
    assert (source.kind, source.complete_until) == ("aliases", "latest")
    assert reasons(rows) == [
        "parsed",
        "alias-of-itself",
        "unit-missing",
        "unit-missing",
        "naive-time",
    ]
    (row,) = facts(rows[:1])
    assert isinstance(row, AliasRow)
    assert (row.unit, row.canonical) == (DOOR.unit("v1"), DOOR.unit("c1"))
    document = {"id": "1", "unit": "v1", "canonical": "c1", "occurred_at": "2026-05-01T00:00:00Z"}
    parsed = parse_alias(document, DOOR)
    assert isinstance(parsed, Parsed)
    (posted,) = parsed.facts
    assert replace(row, id=posted.id) == posted  # by file and by HTTP alike
    opened(tmp_path, ALIASES.replace("row_content", "[visitor]"), content)
    with pytest.raises(ConfigurationError) as raised:
        opened(tmp_path, ALIASES.replace("canonical: customer", "canonical: shopper"), content)
    assert [(item.line, item.path) for item in raised.value.problems] == [(6, "canonical")]


def test_sources_are_namespaces(tmp_path: Path) -> None:
    content = "userid,arm,visit,spend,age,country\n7,A,1,29.99,33,DE\n"
    source, rows = opened(tmp_path, UNITS, content)
    named, others = opened(tmp_path, UNITS + "source: shop\n", content)
    assert (source.name, named.name) == ("data.csv", "shop")
    assert facts(rows)[0].id != facts(others)[0].id


def test_missing_columns_point_into_the_mapping(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        opened(tmp_path, UNITS, "userid,arm,visit,spend,country\nu1,A,1,1,\n")
    (problem,) = raised.value.problems
    assert (problem.line, problem.path) == (13, "covariates.age.column")


def test_the_experiment_must_be_registered(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="klartext apply; registered: mail"):
        opened(tmp_path, UNITS.replace("experiment: mail", "experiment: other"), "userid\n")


def test_what_decides_about_rows_is_part_of_the_application(tmp_path: Path) -> None:
    content = "userid,arm,visit,spend,age,country\n7,A,1,29.99,33,DE\n"
    first, _ = opened(tmp_path, UNITS, content)
    loaded = load_mapping(tmp_path / "mapping.yaml")
    doors = (
        DOOR,
        replace(DOOR, variants={"mail": ("control", "ai", "new")}),
        replace(DOOR, latest=NOW + timedelta(days=1)),
        replace(DOOR, properties={}),
    )
    found = {open_file(tmp_path / "data.csv", loaded, one)[0].application for one in doors}
    assert len(found) == 4
    assert first.application in found


def test_declared_completeness(tmp_path: Path) -> None:
    mapping = UNITS + "complete_until: 2026-05-15\ntimezone: Europe/Berlin\n"
    source, _ = opened(tmp_path, mapping, "userid,arm,visit,spend,age,country\n")
    assert source.complete_until == datetime(2026, 5, 14, 22, tzinfo=UTC)
