from pathlib import Path

import pytest

from klartext.experiments.cells import NumberFormat
from klartext.experiments.errors import ConfigurationError
from klartext.experiments.mapping import LoadedMapping, load_mapping
from klartext.experiments.readers import ColumnsError, FileFormat

EVENTS = """\
schema: klartext/mapping/v1
kind: events
id: [order_id, status]
unit: customer
time: {column: at, format: "%d.%m.%Y %H:%M"}
timezone: Europe/Berlin
event: {constant: purchase}
value: {column: amount, as: money}
currency: EUR
delimiter: ";"
numbers: {decimal: ",", thousands: "."}
properties: [country]
"""


def load(folder: Path, text: str) -> LoadedMapping:
    path = folder / "m.yaml"
    path.write_text(text)
    return load_mapping(path)


def problems(folder: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigurationError) as raised:
        load(folder, text)
    return [(item.line, item.path, item.code) for item in raised.value.problems]


def test_a_mapping_reads_naturally(tmp_path: Path) -> None:
    loaded = load(tmp_path, EVENTS)
    assert loaded.mapping.id_columns == ("order_id", "status")
    assert loaded.mapping.number_format == NumberFormat(",", ".")
    assert loaded.format_of(Path("x.csv")) == FileFormat("csv", "utf-8", ";")
    assert loaded.mapping.properties["country"].column == "country"


def test_the_hash_is_of_the_meaning(tmp_path: Path) -> None:
    first = load(tmp_path, EVENTS).sha256
    assert load(tmp_path, "# a comment\n" + EVENTS).sha256 == first
    assert load(tmp_path, EVENTS.replace("order_id, status", "order_id")).sha256 != first


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "code"),
    [
        ("id: [order_id, status]\n", "", 1, "id", "missing-key"),
        ("[order_id, status]", "order_id", 3, "id", "identity"),
        ("[order_id, status]", "[]", 3, "id", "identity"),
        ("kind: events", "kind: usage", 2, "kind", "mapping-kind"),
        ("kind: events\n", "", 1, "kind", "mapping-kind"),
        ("unit: customer", "unti: customer", 4, "unti", "unknown-key"),
        ("%d.%m.%Y %H:%M", "%d.%m.%Q", 5, "time.format", "time-format"),
        ("%d.%m.%Y %H:%M", "german", 5, "time.format", "time-format"),
        ("Europe/Berlin", "Berlin", 6, "timezone", "timezone"),
        ("currency: EUR\n", "", 8, "value.as", "missing-currency"),
        ("as: money", "as: euros", 8, "value.as", "choice"),
        ('thousands: "."', 'thousands: ","', 11, "numbers.thousands", "number-marks"),
        ('delimiter: ";"', 'delimiter: ";;"', 10, "delimiter", "choice"),
        ("properties", "complete_until: soon\nproperties", 12, "complete_until", "instant"),
        ('{column: at, format: "%d.%m.%Y %H:%M"}', "{constant: today}", 5, "time.constant",
         "instant"),
    ],
)  # fmt: skip
def test_mistakes_have_a_line_and_a_rule(
    tmp_path: Path, old: str, new: str, line: int, path: str, code: str
) -> None:
    assert old in EVENTS
    found = problems(tmp_path, EVENTS.replace(old, new))
    assert (line, path) in [item[:2] for item in found]
    assert len(found) == 1
    assert found[0][2] == code or code in {"choice", "missing-key"}


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = EVENTS.replace("timezone: Europe/Berlin", "timezone: Berlin").replace("EUR", "euro")
    assert [item[0] for item in problems(tmp_path, text)] == [6, 9]


def test_missing_columns_are_named_where_they_stand(tmp_path: Path) -> None:
    loaded = load(tmp_path, EVENTS)
    error = ColumnsError(["order_id", "amount", "country"], ["at"], ["order", "at", "at"])
    found = loaded.column_problems(error, "orders.csv").problems
    assert [(item.line, item.path, item.code) for item in found] == [
        (3, "id[0]", "missing-column"),
        (5, "time.column", "ambiguous-column"),
        (8, "value.column", "missing-column"),
        (12, "properties[0]", "missing-column"),
    ]
    assert "orders.csv has the columns: order, at, at." in found[0].fix
    one = ColumnsError(["order_id"], [], ["order_id;status"])
    assert "delimiter" in loaded.column_problems(one, "orders.csv").problems[0].fix


def test_the_suffix_tells_the_format_or_the_mapping_does(tmp_path: Path) -> None:
    loaded = load(tmp_path, EVENTS)
    assert loaded.format_of(Path("x.PARQUET")).name == "parquet"
    with pytest.raises(ConfigurationError, match="format"):
        loaded.format_of(Path("x.dat"))


def test_event_names_are_checked(tmp_path: Path) -> None:
    text = """\
schema: klartext/mapping/v1
kind: unit_table
experiment: mail
id: row_number
unit: row_number
variant: {column: arm, values: {A: control}}
time: {constant: "2026-01-01T00:00:00Z"}
outcomes: {"anna@example.org": {column: x, as: flag}}
"""
    assert problems(tmp_path, text) == [(8, "outcomes", "event-name")]
