"""The door: by which raw values become pseudonyms, exact amounts and UTC instants, or do not.

Everything that arrives, by file or by HTTP, passes the same one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from klartext.experiments.cells import (
    PLAIN_NUMBERS,
    Cell,
    NumberFormat,
    RowError,
    decimal,
    flag,
    identifier,
    integer,
    is_missing,
    shape,
    unicode_text,
)
from klartext.experiments.identity import Pseudonymiser
from klartext.experiments.ledger.fx import NoRate, Rates
from klartext.experiments.money import stored

TableName: TypeAlias = Literal["exposures", "events", "usage_costs", "aliases"]
PropertyType: TypeAlias = Literal["text", "number", "integer", "boolean", "money"]
PropertyValue: TypeAlias = "str | float | int | bool | Decimal | None"

FUTURE_TOLERANCE = timedelta(days=1)
"""How far ahead of its arrival a fact may lie: clocks differ, wrong years do not count."""

MAX_TEXT_LENGTH = 1024
_NAME = re.compile(r"[^\W\d][\w .:/-]{0,127}")
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Door:
    """What incoming records are judged by.

    Parameters
    ----------
    pseudonymiser
        Makes pseudonyms of ids.
    properties
        Declared properties and their types; others are dropped.
    currency
        Reporting currency; other money is converted into it.
    timezone
        Calendar of the workspace: which day's exchange rate applies.
    rates
        Exchange rates.
    latest
        Records after this instant are in the future.
    variants
        Variant keys of each registered experiment.
    """

    pseudonymiser: Pseudonymiser
    properties: Mapping[str, PropertyType]
    currency: str
    timezone: str
    rates: Rates
    latest: datetime
    variants: Mapping[str, tuple[str, ...]]

    def unit(self, cell: Cell, label: str = "unit") -> int:
        """Return the pseudonym of a raw unit id."""
        return self.pseudonymiser.unit(identifier(cell, label))

    def fact_id(self, table: TableName, source: str, *parts: str) -> bytes:
        """Return the id of a fact: the same parts of the same source are the same fact."""
        return self.pseudonymiser.digest("id", table, source, *parts)

    def past(self, occurred_at: datetime, label: str = "time") -> datetime:
        """Return ``occurred_at`` unless it lies in the future."""
        if occurred_at > self.latest:
            raise RowError("time-in-future", f"{label} lies after {self.latest:%Y-%m-%dT%H:%MZ}")
        return occurred_at

    def variant(self, experiment: str, cell: Cell) -> str:
        """Return the variant key when the experiment has it."""
        if experiment not in self.variants:
            raise RowError("unknown-experiment", "the experiment is not registered")
        known = self.variants[experiment]
        if is_missing(cell):
            raise RowError("variant-missing", f"variant is empty; it is one of {', '.join(known)}")
        seen = str(cell)
        if seen in known:
            return seen
        # What merely resembles a variant may be quoted; anything else could be a shifted id.
        near = difflib.get_close_matches(seen, known, n=1)
        shown = f"{seen!r} resembles {near[0]!r} but" if near else f"{shape(seen)}"
        raise RowError("unknown-variant", f"{shown} is not one of {', '.join(known)}")

    def money(self, amount: Decimal, currency: Cell, occurred_at: datetime) -> Decimal:
        """Return ``amount`` in the reporting currency, at the rate of the event's day."""
        if currency == self.currency:
            return amount
        if is_missing(currency):
            raise RowError("missing-currency", "an amount has no currency beside it")
        code = str(currency).strip()
        if not _CURRENCY.fullmatch(code):
            raise RowError("unknown-currency", f"{shape(currency)} is not a code such as EUR")
        if code == self.currency:
            return amount
        day = occurred_at.astimezone(ZoneInfo(self.timezone)).date()
        converted = self.rates.convert(amount, code, self.currency, day=day)
        if isinstance(converted, NoRate):
            raise RowError("no-exchange-rate", converted.detail)
        return stored(converted.amount)

    def declared(
        self,
        cells: Mapping[str, Cell],
        *,
        currency: Cell = None,
        occurred_at: datetime,
        numbers: NumberFormat = PLAIN_NUMBERS,
    ) -> tuple[dict[str, PropertyValue], tuple[str, ...]]:
        """Return the declared properties with their types, and the names of the dropped ones."""
        kept: dict[str, PropertyValue] = {}
        dropped: list[str] = []
        for name, cell in cells.items():
            kind = self.properties.get(name)
            if kind is None:
                dropped.append(name)
            elif not is_missing(cell):
                value = _property(cell, f"property {name}", kind, numbers)
                if kind == "money" and isinstance(value, Decimal):
                    value = self.money(value, currency, occurred_at)
                kept[name] = value
        return kept, tuple(dropped)


def _property(cell: Cell, label: str, kind: PropertyType, numbers: NumberFormat) -> PropertyValue:
    match kind:
        case "text":
            text = str(cell).strip()  # padded by its file: "DE " is no other country
            if len(text) > MAX_TEXT_LENGTH:
                raise RowError("bad-text", f"{label} is longer than {MAX_TEXT_LENGTH} characters")
            return unicode_text(text, label)
        case "number":
            return float(decimal(cell, label, numbers))
        case "integer":
            return integer(cell, label, numbers)
        case "boolean":
            return flag(cell, label)
        case "money":
            return decimal(cell, label, numbers)


def event_name(cell: Cell) -> str:
    """Return the name of an event: a letter first, no ``@``, at most 128 characters."""
    if is_missing(cell):
        raise RowError("name-missing", "the event has no name")
    name = str(cell).strip()
    if not _NAME.fullmatch(name):
        raise RowError("bad-name", f"{shape(cell)} is not an event name such as purchase")
    return name
