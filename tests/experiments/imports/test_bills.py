from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import openpyxl
import pytest

from klartext.experiments.errors import ConfigurationError, NotFoundError
from klartext.experiments.imports.bill_mapping import bill_kind, load_bill_mapping
from klartext.experiments.imports.bills import open_bill
from klartext.experiments.imports.bookings import Booked
from klartext.experiments.ledger.fx import Rates
from klartext.experiments.ledger.lines import Line
from klartext.experiments.money import Money
from klartext.experiments.readers import FileError
from klartext.experiments.records import Reject
from tests.experiments.imports.test_focus import DOOR as FOCUS_DOOR

DOOR = replace(FOCUS_DOOR, currency="EUR", timezone="Europe/Berlin")
INVOICES = """\
schema: klartext/mapping/v1
kind: invoice
source: supplier
encoding: cp1252
delimiter: ";"
numbers: {decimal: ",", thousands: "."}
dates: "%d.%m.%Y"
id: [Rechnung, Pos]
first_day: von
last_day: bis
amount: Netto
currency: EUR
vat: USt
category: {column: Art, values: {Beratung: engineering, Prüfung: compliance}}
experiment: mail
variant: {constant: ai}
cost_centre: {column: KSt}
account: {constant: "6300"}
label: Text
"""
HEADER = "Rechnung;Pos;von;bis;Netto;USt;Art;KSt;Text\n"
FIRST = "2026-118;1;01.10.2026;31.10.2026;1.234,50;234,56;Beratung;4711;Prompts bauen\n"
HOURS = """\
schema: klartext/mapping/v1
kind: timesheet
source: team
numbers: {decimal: ","}
delimiter: ";"
dates: "%d.%m.%Y"
id: [Beleg]
first_day: Tag
hours: Stunden
rate: 95 EUR
category: engineering
"""


def taken(folder: Path, mapping: str, text: str) -> list[Booked | Reject]:
    (folder / "bill.yaml").write_text(mapping)
    (folder / "bill.csv").write_text(text, "cp1252")
    loaded = load_bill_mapping(folder / "bill.yaml")
    return list(open_bill(folder / "bill.csv", loaded, DOOR)[1])


def lines(found: list[Booked | Reject]) -> list[Line]:
    return [row.draft.line for row in found if isinstance(row, Booked)]


def reasons(found: list[Booked | Reject]) -> list[str]:
    return [row.reason for row in found if isinstance(row, Reject)]


def test_a_german_invoice(tmp_path: Path) -> None:
    (line,) = lines(taken(tmp_path, INVOICES, HEADER + FIRST))
    assert line.amount == Money(Decimal("1234.500000000000"), "EUR")
    assert line.vat == Decimal("234.56")
    # October in Berlin, its last day included; summer time ends in it.
    assert line.start == datetime(2026, 9, 30, 22, tzinfo=UTC)
    assert line.end == datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert (line.category, line.status, line.kind) == ("engineering", "invoiced", "charge")
    assert (line.experiment, line.variant) == ("mail", "ai")
    assert (line.cost_centre, line.account, line.label) == ("4711", "6300", "Prompts bauen")


def test_a_negative_position_is_a_credit_and_one_day_is_a_period(tmp_path: Path) -> None:
    row = "2026-119;1;05.10.2026;;-50,00;;Prüfung;;an anna@example.org\n"
    (line,) = lines(taken(tmp_path, INVOICES, HEADER + row))
    assert (line.kind, line.amount.amount, line.vat) == ("credit", Decimal(-50), None)
    assert (line.category, line.label, line.cost_centre) == ("compliance", None, None)
    assert (line.end - line.start).days == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2026-118;1;01.10.2026;31.10.2026;1,234.50;;Beratung;;\n", "bad-number"),
        ("2026-118;1;01.10.2026;31.10.2026;1.2;;Beratung;;\n", "bad-number"),
        ("2026-118;1;01.10.2026;31.10.2026;;;Beratung;;\n", "bad-number"),
        ("2026-118;1;2026-10-01;31.10.2026;1,00;;Beratung;;\n", "bad-time"),
        ("2026-118;1;;31.10.2026;1,00;;Beratung;;\n", "time-missing"),
        ("2026-118;1;31.10.2026;01.10.2026;1,00;;Beratung;;\n", "bad-period"),
        ("2026-118;1;01.10.2026;31.10.2026;1,00;;Bewirtung;;\n", "bad-category"),
        (";1;01.10.2026;31.10.2026;1,00;;Beratung;;\n", "id-missing"),
        ("2026-118;1;01.10.2026;1,00;;Beratung;;\n", "broken-row"),
    ],
)
def test_bad_rows_are_rejected_and_the_rest_goes_on(tmp_path: Path, row: str, reason: str) -> None:
    found = taken(tmp_path, INVOICES, HEADER + row + FIRST)
    assert reasons(found) == [reason]
    assert len(lines(found)) == 1


def test_hours_cost_their_rate(tmp_path: Path) -> None:
    text = "Beleg;Tag;Stunden;Name\n1;05.10.2026;7,5;Anna Secret\n2;06.10.2026;-1;Ben\n"
    found = taken(tmp_path, HOURS, text)
    (line,) = lines(found)
    assert line.amount == Money(Decimal("712.500000000000"), "EUR")  # 7.5 x 95, by hand
    assert (line.status, line.evidence) == ("accrued", "7.5 h x 95 EUR of team")
    assert reasons(found) == ["bad-hours"]
    assert "Secret" not in repr(line)
    own = HOURS.replace("rate: 95 EUR", "rate: {column: Satz}\ncurrency: USD")
    usd = replace(DOOR, rates=Rates("test", {"USD": ((date(2026, 10, 5),), (Decimal("1.25"),))}))
    (tmp_path / "bill.yaml").write_text(own)
    (tmp_path / "bill.csv").write_text("Beleg;Tag;Stunden;Satz\n1;05.10.2026;2;100,00\n")
    (row,) = open_bill(tmp_path / "bill.csv", load_bill_mapping(tmp_path / "bill.yaml"), usd)[1]
    assert isinstance(row, Booked)
    assert row.draft.line.amount == Money(Decimal("200.000000000000"), "USD")
    assert row.draft.line.reporting == Decimal(160)


def workbook(path: Path, *rows: list[Any], sheet: str = "Rechnungen") -> Path:
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    page.title = sheet
    for row in rows:
        page.append(row)
    book.save(path)
    return path


HEAD = HEADER.strip().split(";")
CELLS = ["2026-118", 1, date(2026, 10, 1), date(2026, 10, 31), 1234.5, 234.56, "Beratung", 4711]


def test_a_workbook_says_the_same_as_a_file_of_text(tmp_path: Path) -> None:
    (from_text,) = taken(tmp_path, INVOICES, HEADER + FIRST)
    loaded = load_bill_mapping(tmp_path / "bill.yaml")
    path = workbook(tmp_path / "bill.xlsx", [], HEAD, [*CELLS, "Prompts bauen"], [None] * 9)
    (row,) = open_bill(path, loaded, DOOR)[1]
    assert isinstance(row, Booked)
    assert isinstance(from_text, Booked)
    assert row.draft == from_text.draft  # so one after the other is a duplicate


def test_a_formula_is_refused_where_it_counts(tmp_path: Path) -> None:
    (tmp_path / "bill.yaml").write_text(INVOICES)
    loaded = load_bill_mapping(tmp_path / "bill.yaml")
    formula = [*CELLS[:4], "=2*600", *CELLS[5:], "x"]
    beside = [*CELLS, "x", "=1+1"]
    path = workbook(tmp_path / "bill.xlsx", [*HEAD, "Prüfsumme"], formula, beside)
    found = list(open_bill(path, loaded, DOOR)[1])
    assert reasons(found) == ["formula"]
    assert len(lines(found)) == 1


def test_a_workbook_that_breaks_off_says_where(tmp_path: Path) -> None:
    (tmp_path / "bill.yaml").write_text(INVOICES)
    path = workbook(tmp_path / "whole.xlsx", HEAD, [*CELLS, "eins"], [*CELLS, "zwei"])
    with ZipFile(path) as whole, ZipFile(tmp_path / "bill.xlsx", "w") as parts:
        for name in whole.namelist():
            content = whole.read(name)
            is_sheet = name == "xl/worksheets/sheet1.xml"
            parts.writestr(name, content[: content.rindex(b"<c ")] if is_sheet else content)
    _, rows = open_bill(tmp_path / "bill.xlsx", load_bill_mapping(tmp_path / "bill.yaml"), DOOR)
    with pytest.raises(FileError, match="damaged after row"):
        list(rows)


def test_what_is_no_workbook(tmp_path: Path) -> None:
    (tmp_path / "bill.yaml").write_text(INVOICES + "sheet: Andere\n")
    loaded = load_bill_mapping(tmp_path / "bill.yaml")
    (tmp_path / "text.xlsx").write_text("no zip")
    with pytest.raises(FileError, match=r"not an \.xlsx"):
        open_bill(tmp_path / "text.xlsx", loaded, DOOR)
    with ZipFile(tmp_path / "empty.xlsx", "w") as parts:
        parts.writestr("[Content_Types].xml", "<x")
    with pytest.raises(FileError, match=r"not an \.xlsx"):
        open_bill(tmp_path / "empty.xlsx", loaded, DOOR)
    with pytest.raises(FileError, match="no sheet 'Andere'; it has Rechnungen"):
        open_bill(workbook(tmp_path / "bill.xlsx", HEAD), loaded, DOOR)
    with pytest.raises(FileError, match="no header"):
        open_bill(workbook(tmp_path / "none.xlsx", sheet="Andere"), loaded, DOOR)
    with pytest.raises(NotFoundError):
        open_bill(tmp_path / "gone.xlsx", loaded, DOOR)
    with pytest.raises(ConfigurationError) as caught:
        open_bill(workbook(tmp_path / "few.xlsx", ["Netto"], sheet="Andere"), loaded, DOOR)
    assert len(caught.value.problems) == 8


def test_all_mistakes_of_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "bill.yaml"
    path.write_text(INVOICES.replace('numbers: {decimal: ",", thousands: "."}\n', ""))
    with pytest.raises(ConfigurationError, match="numbers"):
        load_bill_mapping(path)
    wrong = INVOICES.replace("experiment: mail\n", "").replace("engineering", "hosting")
    path.write_text(wrong.replace('thousands: "."', 'thousands: ","'))
    with pytest.raises(ConfigurationError) as caught:
        load_bill_mapping(path)
    assert [problem.code for problem in caught.value.problems] == [
        "number-marks",
        "category",
        "experiment",
    ]
    path.write_text(HOURS.replace("rate: 95 EUR", "rate: {column: Satz}"))
    with pytest.raises(ConfigurationError, match="money without a currency"):
        load_bill_mapping(path)
    path.write_text(HOURS.replace("rate: 95 EUR", "rate: much"))
    with pytest.raises(ConfigurationError, match="Write it as 95 EUR"):
        load_bill_mapping(path)
    path.write_text(HOURS)
    assert bill_kind(path) == "timesheet"
    path.write_text(HOURS.replace("timesheet", "usage"))
    assert bill_kind(path) is None
