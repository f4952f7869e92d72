"""Translation: a mapped file's rows into facts, one `Parsed` or `Reject` per row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Literal, TypeAlias

from klartext.experiments.cells import (
    Cell,
    NumberFormat,
    RowError,
    decimal,
    flag,
    identifier,
    instant,
    is_missing,
)
from klartext.experiments.door import Door, PropertyValue, TableName, event_name
from klartext.experiments.mapping import (
    AliasesMapping,
    AnyMapping,
    Column,
    Constant,
    EventsMapping,
    ExposuresMapping,
    OutcomeColumn,
    UnitTableMapping,
)
from klartext.experiments.money import stored
from klartext.experiments.readers import Broken, Row
from klartext.experiments.records import (
    FactRow,
    Parsed,
    Reject,
    alias,
    event,
    exposure,
    reject,
)

BEFORE_EXPOSURE = timedelta(microseconds=1)
"""Covariates are events this long before the exposure they belong to."""

_ZERO, _ONE = stored(Decimal(0)), stored(Decimal(1))

Get: TypeAlias = Callable[[Sequence[Cell]], Cell]
Facts: TypeAlias = tuple[tuple[FactRow, ...], tuple[str, ...]]
Translate: TypeAlias = Callable[[Row], Facts]


@dataclass(slots=True)
class _Columns:
    """The columns a translator needs, in the order in which it first asked for them."""

    names: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> Get:
        if name not in self.names:
            self.names.append(name)
        index = self.names.index(name)
        return lambda cells: cells[index]


class _Common:
    """What rows of all kinds share: identity, unit, time, currency and properties."""

    def __init__(self, mapping: AnyMapping, door: Door, content_sha256: str) -> None:
        self.columns = _Columns()
        self.door = door
        self.numbers = mapping.number_format
        self._mapping = mapping
        self._content = content_sha256
        self._source = mapping.source or ""
        self._id_cells = [(name, self.columns(name)) for name in mapping.id_columns]
        self.unit_cell: Get | None = None
        self._unit_name = mapping.unit.column if isinstance(mapping.unit, Column) else ""
        self.unit_cell = self.columns(self._unit_name) if self._unit_name else None
        self._time_cell: Get | None = None
        if isinstance(mapping.time, Constant):
            self._fixed_time = door.past(mapping.instant(mapping.time.constant, "time"))
        else:
            self._time_cell = self.columns(mapping.time.column)
            self._time_format = mapping.time.format
        self._currency_cell = (
            self.columns(mapping.currency.column) if isinstance(mapping.currency, Column) else None
        )
        self._property_cells = [
            (name, self.columns(item.column)) for name, item in mapping.properties.items()
        ]

    def identity(self, row: Row) -> tuple[str, ...]:
        """Return what makes the row this fact and no other."""
        if self._id_cells:
            return tuple(
                [
                    identifier(cell(row.cells), f"id column {name}", reason="id-missing")
                    for name, cell in self._id_cells
                ]
            )
        if self._mapping.id == "row_number":
            return (self._content, str(row.position))
        return (json.dumps(row.content, sort_keys=True, default=str),)

    def unit(self, row: Row) -> int:
        """Return the pseudonym of the row's unit."""
        if self.unit_cell is None:
            return self.door.pseudonymiser.unit(f"row {row.position} of {self._content}")
        return self.door.unit(self.unit_cell(row.cells), f"unit column {self._unit_name}")

    def time(self, row: Row) -> datetime:
        """Return when the row happened."""
        if self._time_cell is None:
            return self._fixed_time
        at = instant(
            self._time_cell(row.cells),
            "time",
            format=self._time_format,
            zone=self._mapping.timezone,
        )
        return self.door.past(at)

    def currency(self, row: Row) -> Cell:
        """Return the currency of the row's amounts."""
        if self._currency_cell is not None:
            return self._currency_cell(row.cells)
        return None if isinstance(self._mapping.currency, Column) else self._mapping.currency

    def properties(
        self, row: Row, occurred_at: datetime
    ) -> tuple[dict[str, PropertyValue], tuple[str, ...]]:
        """Return the declared properties of the row, and the names of those dropped."""
        if not self._property_cells:
            return {}, ()
        return self.door.declared(
            {name: cell(row.cells) for name, cell in self._property_cells},
            currency=self.currency(row),
            occurred_at=occurred_at,
            numbers=self.numbers,
        )

    def fact_id(self, table: TableName, *parts: str) -> bytes:
        """Return the id of a fact within the mapping's source."""
        return self.door.fact_id(table, self._source, *parts)


class Translation:
    """How the rows of one file become facts.

    Parameters
    ----------
    mapping
        What its columns mean.
    door
        What its rows are judged by.
    content_sha256
        Hash of the file; part of the identity of rows that are told by their number.
    """

    def __init__(self, mapping: AnyMapping, door: Door, content_sha256: str) -> None:
        self._common = _Common(mapping, door, content_sha256)
        self._translate = _translator(mapping, self._common)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that each row has to bring, in their order."""
        return tuple(self._common.columns.names)

    def row(self, row: Row | Broken) -> Parsed | Reject:
        """Return the facts of a row, the deciding one first, or why there are none."""
        door, unit_cell = self._common.door, self._common.unit_cell
        if isinstance(row, Broken):
            return reject(RowError(row.reason, row.detail), door, row.position, row.content)
        try:
            facts, dropped = self._translate(row)
        except RowError as error:
            unit = None if unit_cell is None else unit_cell(row.cells)
            return reject(error, door, row.position, row.content, unit=unit)
        return Parsed(row.position, facts, dropped)


def _translator(mapping: AnyMapping, common: _Common) -> Translate:
    match mapping:
        case ExposuresMapping():
            return _exposures(mapping, common)
        case EventsMapping():
            return _events(mapping, common)
        case UnitTableMapping():
            return _unit_table(mapping, common)
        case AliasesMapping():
            return _aliases(mapping, common)


def _assigned(
    mapping: ExposuresMapping | UnitTableMapping, common: _Common
) -> Callable[[Row], tuple[str, str]]:
    """Return the function that reads experiment and variant of a row."""
    fixed = mapping.experiment if isinstance(mapping.experiment, str) else ""
    column = mapping.experiment.column if isinstance(mapping.experiment, Column) else ""
    experiment_cell = common.columns(column) if column else None
    variant_cell, keys = common.columns(mapping.variant.column), mapping.variant.values

    @lru_cache(maxsize=1024, typed=True)
    def known(experiment: str, seen: Cell) -> str:
        return common.door.variant(experiment, keys.get(str(seen), seen))

    def read_row(row: Row) -> tuple[str, str]:
        experiment = fixed
        if experiment_cell is not None:
            experiment = identifier(
                experiment_cell(row.cells), f"column {column}", reason="experiment-missing"
            )
        return experiment, known(experiment, variant_cell(row.cells))

    return read_row


def _exposures(mapping: ExposuresMapping, common: _Common) -> Translate:
    assigned = _assigned(mapping, common)

    def translate(row: Row) -> Facts:
        experiment, variant = assigned(row)
        at = common.time(row)
        properties, dropped = common.properties(row, at)
        fact_id = common.fact_id("exposures", experiment, *common.identity(row))
        fact = exposure(
            common.door, fact_id, experiment, common.unit(row), variant, at, properties=properties
        )
        return (fact,), dropped

    return translate


def _events(mapping: EventsMapping, common: _Common) -> Translate:
    name = mapping.event
    fixed = event_name(name.constant) if isinstance(name, Constant) else ""
    name_cell = common.columns(name.column) if isinstance(name, Column) else None
    value = mapping.value
    value_cell = None if value is None else common.columns(value.column)
    is_money = value is not None and value.as_ == "money"

    def translate(row: Row) -> Facts:
        at = common.time(row)
        amount: Decimal | None = None
        if value_cell is not None and not is_missing(cell := value_cell(row.cells)):
            amount = decimal(cell, "value", common.numbers)
        has_money = is_money and amount is not None
        currency = _required(common.currency(row)) if has_money else None
        properties, dropped = common.properties(row, at)
        fact = event(
            common.door,
            common.fact_id("events", *common.identity(row)),
            common.unit(row),
            fixed if name_cell is None else event_name(name_cell(row.cells)),
            at,
            value=amount,
            currency=currency,
            properties=properties,
        )
        return (fact,), dropped

    return translate


def _aliases(mapping: AliasesMapping, common: _Common) -> Translate:
    unit, canonical = common.columns(mapping.unit.column), common.columns(mapping.canonical.column)

    def translate(row: Row) -> Facts:
        fact_id = common.fact_id("aliases", *common.identity(row))
        ids = (unit(row.cells), canonical(row.cells))
        return (alias(common.door, fact_id, ids, common.time(row)),), ()

    return translate


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One outcome or covariate of a unit table: its event, and how to read its amount."""

    name: str
    cell: Get
    read: Callable[[Cell], Decimal]
    amount: Literal["flag", "number", "money"]
    is_before: bool


def _reader(column: OutcomeColumn, numbers: NumberFormat) -> Callable[[Cell], Decimal]:
    """Return the function from a cell to the amount; that of a flag is one or zero."""
    label = f"column {column.column}"

    @lru_cache(maxsize=65536, typed=True)  # most cells repeat: 0, 1, TRUE
    def read(cell: Cell) -> Decimal:
        if is_missing(cell):
            if column.missing == "zero":
                return _ZERO
            detail = f"{label} is empty; set missing: zero if that means none"
            raise RowError("missing-value", detail)
        if column.as_ == "flag":
            return _ONE if flag(cell, label) else _ZERO
        return decimal(cell, label, numbers)

    return read


def _unit_table(mapping: UnitTableMapping, common: _Common) -> Translate:
    assigned, door = _assigned(mapping, common), common.door
    groups = (("", mapping.outcomes, False), ("covariate.", mapping.covariates, True))
    outcomes = [
        _Outcome(
            name=prefix + name,
            cell=common.columns(item.column),
            read=_reader(item, common.numbers),
            amount=item.as_,
            is_before=is_before,
        )
        for prefix, group, is_before in groups
        for name, item in group.items()
    ]

    def translate(row: Row) -> Facts:
        experiment, variant = assigned(row)
        at, unit = common.time(row), common.unit(row)
        currency = common.currency(row)
        properties, dropped = common.properties(row, at)
        values = [outcome.read(outcome.cell(row.cells)) for outcome in outcomes]
        # The exposure decides whether the row is known, so it stands for the whole row.
        first = exposure(
            door,
            common.fact_id("exposures", experiment, *common.identity(row)),
            experiment,
            unit,
            variant,
            at,
            properties=properties,
            outcomes=f"{' '.join(map(str, values))} {currency}",
        )
        key = first.id.hex()
        facts: list[FactRow] = [first]
        for outcome, value in zip(outcomes, values, strict=True):
            if value:
                fact = event(
                    door,
                    door.pseudonymiser.digest("outcome", key, outcome.name),
                    unit,
                    outcome.name,
                    at - BEFORE_EXPOSURE if outcome.is_before else at,
                    value=None if outcome.amount == "flag" else value,
                    currency=_required(currency) if outcome.amount == "money" else None,
                )
                facts.append(fact)
        return tuple(facts), dropped

    return translate


def _required(currency: Cell) -> Cell:
    if is_missing(currency):
        raise RowError("missing-currency", "an amount has no currency")
    return currency
