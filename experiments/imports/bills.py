"""Invoices and timesheets as CSV or XLSX: rows of a mapped file as ledger lines."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from klartext.experiments.batches import Source
from klartext.experiments.cells import (
    Cell,
    RowError,
    decimal,
    identifier,
    instant,
    integer,
    is_missing,
    shape,
)
from klartext.experiments.door import Door
from klartext.experiments.imports.bill_mapping import (
    BillMapping,
    InvoiceMapping,
    TimesheetMapping,
)
from klartext.experiments.imports.bookings import Booked, checked, in_reporting
from klartext.experiments.imports.loaded import Loaded
from klartext.experiments.imports.spreadsheet import read_sheet
from klartext.experiments.ledger.book import Draft
from klartext.experiments.ledger.lines import Line
from klartext.experiments.mapping import Column, Constant, VariantColumn
from klartext.experiments.money import Money, MoneyError, stored
from klartext.experiments.readers import Broken, ColumnsError, Row, read, require_file
from klartext.experiments.records import Reject, reject

_NAME = re.compile(r"[^\W_][\w .:/+&()-]{0,99}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_DAY = timedelta(days=1)


def open_bill(
    path: Path, loaded: Loaded[Any], door: Door
) -> tuple[Source, Iterator[Booked | Reject]]:
    """Return a file of invoices or hours as a source, and its rows as ledger lines.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        It lacks columns that the mapping names.
    FileError
        It cannot be read as a whole.
    """
    require_file(path)
    mapping: BillMapping = loaded.mapping
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    columns = list(dict.fromkeys(column for _, column in loaded.columns))
    try:
        if mapping.format == "xlsx" or (not mapping.format and path.suffix.lower() == ".xlsx"):
            rows = read_sheet(path, mapping.sheet, columns)
        else:
            rows = read(path, loaded.format_of(path), columns)
    except ColumnsError as error:
        raise loaded.column_problems(error, path.name) from None
    bill = _Bill(mapping, door, columns, content)
    source = Source("ledger", mapping.source, content, loaded.sha256, "", "latest")
    return source, map(bill.row, rows)


class _Bill:
    """How rows of one file become ledger lines."""

    def __init__(self, mapping: BillMapping, door: Door, columns: list[str], content: str) -> None:
        self._mapping = mapping
        self._door = door
        self._columns = columns
        self._content = content
        self._zone = ZoneInfo(mapping.timezone or door.timezone)

    def row(self, row: Row | Broken) -> Booked | Reject:
        """Return the line of a row, or why there is none."""
        door = self._door
        if isinstance(row, Broken):
            return reject(RowError(row.reason, row.detail), door, row.position, row.content)
        cells = dict(zip(self._columns, row.cells, strict=True))
        try:
            line = checked(self._line(cells))
            key = self._identity(row, cells)
        except RowError as error:
            return reject(error, door, row.position, row.content)
        digest = door.pseudonymiser.digest
        # What it says, in whatever way it is written; the rate of exchange is not the bill's.
        payload = digest(repr(replace(line, reporting=Decimal(0), evidence=""))).hex()
        draft = Draft(digest("ledger", line.source, *key).hex(), payload, line)
        return Booked(row.position, draft, row.content)

    def _line(self, cells: Mapping[str, Cell]) -> Line:
        mapping = self._mapping
        first = self._day(cells[mapping.first_day.column], "first_day")
        last = first
        if mapping.last_day is not None and not is_missing(cells[mapping.last_day.column]):
            last = self._day(cells[mapping.last_day.column], "last_day")
        start, end = self._midnight(first), self._midnight(last + _DAY)
        amount, evidence = self._amount(cells)
        reporting, rate = in_reporting(amount, self._door, at=start)
        experiment = self._experiment(cells)
        variant = self._text(cells, mapping.variant)
        return Line(
            source=mapping.source,
            status=mapping.status,
            kind="credit" if amount.amount < 0 else "charge",
            category=self._category(cells),
            behaviour=mapping.behaviour,
            start=start,
            end=end,
            amount=amount,
            reporting=reporting.amount,
            evidence=f"{evidence}; {rate}" if rate else evidence,
            vat=self._vat(cells),
            experiment=experiment,
            variant=self._door.variant(experiment, variant) if experiment and variant else variant,
            cost_centre=_named(self._text(cells, mapping.cost_centre)),
            account=_named(self._text(cells, mapping.account)),
            label=_named(self._text(cells, mapping.label)),
            supersedes=self._supersedes(cells),
            provider=_named(self._text(cells, mapping.provider)),
            replaces=self._text(cells, mapping.replaces),
        )

    def _amount(self, cells: Mapping[str, Cell]) -> tuple[Money, str]:
        match self._mapping:
            case InvoiceMapping() as mapping:
                net = decimal(cells[mapping.amount.column], "amount", mapping.number_format)
                return Money(net, self._currency(cells)), f"invoice of {mapping.source}"
            case TimesheetMapping() as mapping:
                hours = decimal(cells[mapping.hours.column], "hours", mapping.number_format)
                if not hours >= 0:
                    raise RowError("bad-hours", "hours are negative")
                rate = self._rate(cells, mapping)
                return Money(
                    _product(hours, rate.amount), rate.currency
                ), f"{hours.normalize():f} h x {rate} of {mapping.source}"

    def _rate(self, cells: Mapping[str, Cell], mapping: TimesheetMapping) -> Money:
        if isinstance(mapping.rate, Money):
            return mapping.rate
        rate = decimal(cells[mapping.rate.column], "rate", mapping.number_format)
        return Money(rate.normalize() + 0, self._currency(cells))

    def _currency(self, cells: Mapping[str, Cell]) -> str:
        stated = self._mapping.currency
        code = str(cells[stated.column]).strip() if isinstance(stated, Column) else str(stated)
        if not _CURRENCY.fullmatch(code):
            raise RowError("unknown-currency", f"{shape(code)} is not a code such as EUR")
        return code

    def _vat(self, cells: Mapping[str, Cell]) -> Decimal | None:
        mapping = self._mapping
        if not isinstance(mapping, InvoiceMapping) or mapping.vat is None:
            return None
        cell = cells[mapping.vat.column]
        return None if is_missing(cell) else decimal(cell, "vat", mapping.number_format)

    def _category(self, cells: Mapping[str, Cell]) -> str:
        stated = self._mapping.category
        if isinstance(stated, str):
            return stated
        seen = str(cells[stated.column] or "").strip()
        return stated.values.get(seen, seen)  # what is no category is rejected

    def _experiment(self, cells: Mapping[str, Cell]) -> str | None:
        stated = self._mapping.experiment
        key = cells[stated.column] if isinstance(stated, Column) else stated
        if is_missing(key):
            return None
        if str(key) not in self._door.variants:
            raise RowError("unknown-experiment", "the experiment is not registered")
        return str(key)

    def _supersedes(self, cells: Mapping[str, Cell]) -> int | None:
        stated = self._mapping.supersedes
        cell = None if stated is None else cells[stated.column]
        return None if is_missing(cell) else integer(cell, "supersedes")

    def _identity(self, row: Row, cells: Mapping[str, Cell]) -> tuple[str, ...]:
        stated = self._mapping.id
        if isinstance(stated, tuple):
            return tuple(
                identifier(_whole(cells[name]), f"id column {name}", reason="id-missing")
                for name in stated
            )
        if stated == "row_number":
            return (self._content, str(row.position))
        return (json.dumps(row.content, sort_keys=True, default=str),)

    def _day(self, cell: Cell, label: str) -> date:
        if isinstance(cell, date) and not isinstance(cell, datetime):
            return cell
        layout = self._mapping.dates
        return instant(cell, label, format=layout, zone="UTC").date()

    def _midnight(self, day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=self._zone)

    @staticmethod
    def _text(
        cells: Mapping[str, Cell], where: Column | Constant | VariantColumn | None
    ) -> str | None:
        match where:
            case None:
                return None
            case Constant(constant=text):
                return text
            case VariantColumn(column=name, values=values):
                cell = cells[name]
                return None if is_missing(cell) else values.get(str(cell), str(cell))
            case Column(column=name):
                cell = _whole(cells[name])
                return None if is_missing(cell) else str(cell).strip()


def _product(hours: Decimal, rate: Decimal) -> Decimal:
    try:
        return stored(hours * rate)
    except MoneyError:
        raise RowError("bad-number", "hours times rate have too many digits") from None


def _named(text: str | None) -> str | None:
    """Return a name if it looks like one: free text could hold an address."""
    return text if text is not None and _NAME.fullmatch(text) else None


def _whole(cell: Cell) -> Cell:
    """Return a number as sheets mean it: 4711.0 is 4711."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
