"""Mapping: what the columns of a file mean (`klartext/mapping/v1`).

A plain word names a column. A mapping names identity; there is no default, because only the
owner of a file knows what makes two of its rows the same fact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, Tag

from klartext.experiments.cells import EPOCH_FORMATS, NumberFormat, RowError, instant
from klartext.experiments.documents.forms import Currency, Key, Text, Timezone
from klartext.experiments.documents.validation import Items, Model, problem_at, rule, validate
from klartext.experiments.documents.wording import Wording
from klartext.experiments.documents.yaml_document import Node, plain, read_file
from klartext.experiments.door import event_name
from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.readers import SUFFIXES, ColumnsError, FileFormat

Amount: TypeAlias = Literal["number", "money"]


def as_column(value: Any) -> Any:
    """Read a plain word as the name of a column."""
    return {"column": value} if isinstance(value, str) else value


def _branch(value: Any) -> str:
    """Say which form a value has, so that mistakes are judged by that form only."""
    if isinstance(value, Constant) or (isinstance(value, dict) and "constant" in value):
        return "<constant>"
    return "<plain>" if isinstance(value, str) else "<column>"


def _identity(value: Any) -> Any:
    if isinstance(value, str) and value not in {"row_content", "row_number"}:
        fix = f"Write id: [{value}] for a column, or id: row_content, or id: row_number."
        raise rule("identity", f"is {value!r}: columns are a list", fix)
    if isinstance(value, tuple) and not value:
        raise rule("identity", "is an empty list", "Name at least one column.")
    return value


def time_layout(value: Any) -> str:
    """Return how times are written, if it is a way that can be read."""
    if not isinstance(value, str):
        raise rule("time-format", "is not text", "Write iso, epoch_s or '%d.%m.%Y %H:%M'.")
    if value == "iso" or value in EPOCH_FORMATS:
        return value
    fix = "Write iso, epoch_s, epoch_ms, epoch_us, or a format such as '%d.%m.%Y %H:%M'."
    if "%" not in value:
        raise rule("time-format", f"is {value!r}", fix)
    try:
        datetime.strptime("", value)  # noqa: DTZ007 - only to see whether the format is one
    except ValueError as error:
        if "bad directive" in str(error) or "stray" in str(error):
            raise rule("time-format", f"is {value!r}: {error}", fix) from None
    return value


def _event_names(value: Any) -> Any:
    if isinstance(value, dict):
        for name in value:
            try:
                event_name(name)
            except RowError as error:
                fix = "Start with a letter; use letters, digits, spaces and . _ : / -."
                raise rule("event-name", f"has a bad name: {error.detail}", fix) from None
    return value


class Column(Model):
    """A column of the file."""

    column: Text


class Constant(Model):
    """The same text for every row."""

    constant: Text


class NumberMarks(Model):
    """How numbers are written."""

    decimal: Literal[".", ","]
    thousands: Literal[".", ",", " ", "'", ""] = ""


class VariantColumn(Model):
    """Where the variant stands; ``values`` translates what the file says into variant keys."""

    column: Text
    values: dict[str, str] = Field(default_factory=dict)


class TimeColumn(Model):
    """Where the time stands, and how it is written."""

    column: Text
    format: Annotated[str, PlainValidator(time_layout)] = "iso"


class ValueColumn(Model):
    """The amount of an event; an empty cell is an event without one."""

    column: Text
    as_: Amount = Field(alias="as")


class OutcomeColumn(Model):
    """An outcome or covariate of a unit table.

    A ``flag`` is an event when true; ``number`` and ``money`` are events when not zero. An empty
    cell rejects the row unless ``missing: zero`` says what it means.
    """

    column: Text
    as_: Literal["flag", "number", "money"] = Field(alias="as")
    missing: Literal["reject", "zero"] = "reject"


PlainColumn = Annotated[Column, BeforeValidator(as_column)]
Name = Annotated[
    Annotated[Column, Tag("<column>")] | Annotated[Constant, Tag("<constant>")],
    Discriminator(_branch),
    BeforeValidator(as_column),
]
Time = Annotated[
    Annotated[TimeColumn, Tag("<column>")] | Annotated[Constant, Tag("<constant>")],
    Discriminator(_branch),
    BeforeValidator(as_column),
]
Identity = Annotated[
    Annotated[Literal["row_content", "row_number"], Tag("<plain>")]
    | Annotated[Items[Text], Tag("<column>")],
    Discriminator(_branch),
    BeforeValidator(_identity),
]
Unit = Annotated[
    Annotated[Literal["row_number"], Tag("<plain>")] | Annotated[Column, Tag("<column>")],
    Discriminator(_branch),
    BeforeValidator(lambda value: value if value == "row_number" else as_column(value)),
]
KeyOrColumn = Annotated[
    Annotated[Key, Tag("<plain>")] | Annotated[Column, Tag("<column>")], Discriminator(_branch)
]
CurrencyOrColumn = Annotated[
    Annotated[Currency, Tag("<plain>")] | Annotated[Column, Tag("<column>")],
    Discriminator(_branch),
]
Outcomes = Annotated[dict[str, OutcomeColumn], BeforeValidator(_event_names)]


class FileMapping(Model):
    """What every mapping says: how the file is written, identity and time."""

    schema_: Literal["klartext/mapping/v1"] = Field(alias="schema")
    """Version of this syntax."""
    format: Literal["csv", "jsonl", "parquet"] | None = None
    """How the file is written; default: by its suffix."""
    encoding: Literal["utf-8", "utf-16", "cp1252", "iso-8859-1"] = "utf-8"
    """Encoding of a CSV file."""
    delimiter: Literal[",", ";", "|", "tab"] = ","
    """What separates the fields of a CSV file."""
    numbers: NumberMarks | None = None
    """Decimal mark and mark between thousands; default: a decimal point."""
    source: Key | None = None
    """Namespace of the ids: equal ids of different sources are different facts."""
    id: Identity
    """Identity: columns, ``row_content`` (equal rows are one fact) or ``row_number``."""
    time: Time
    """When it happened: a column, or one instant for all rows."""
    timezone: Timezone | None = None
    """Time zone of times without one; without this they are rejected."""
    complete_until: Text | None = None
    """Up to when the file is complete; default: its latest time, for unit tables its arrival."""

    @property
    def number_format(self) -> NumberFormat:
        """How numbers are read."""
        marks = self.numbers
        return NumberFormat() if marks is None else NumberFormat(marks.decimal, marks.thousands)

    @property
    def id_columns(self) -> tuple[str, ...]:
        """Columns of the identity; empty for rows that are their own."""
        return self.id if isinstance(self.id, tuple) else ()

    def instant(self, text: str, label: str) -> datetime:
        """Return a time written in the mapping itself."""
        return instant(text, label, zone=self.timezone)


class _UnitMapping(FileMapping):
    unit: Unit
    """Column with the unit's id, or ``row_number`` when every row is a unit of its own."""
    currency: CurrencyOrColumn | None = None
    """Currency of amounts: a code, or ``{column: …}``."""
    properties: Annotated[
        dict[str, PlainColumn],
        BeforeValidator(
            lambda value: {name: name for name in value} if isinstance(value, tuple) else value
        ),
    ] = Field(default_factory=dict)
    """Columns to keep as properties: a list, or ``{property: column}``."""


class ExposuresMapping(_UnitMapping):
    """Rows are exposures."""

    kind: Literal["exposures"]
    """What a row is."""
    experiment: KeyOrColumn
    """Key of the experiment, or ``{column: …}``."""
    variant: Annotated[VariantColumn, BeforeValidator(as_column)]
    """Column with the variant; ``values`` translates."""


class EventsMapping(_UnitMapping):
    """Rows are events."""

    kind: Literal["events"]
    """What a row is."""
    event: Name
    """Column with the event's name, or ``{constant: purchase}``."""
    value: ValueColumn | None = None
    """Column with the amount, as number or money."""


class UnitTableMapping(_UnitMapping):
    """Rows are units: one exposure, and an event for every outcome that is not zero."""

    kind: Literal["unit_table"]
    """What a row is."""
    experiment: KeyOrColumn
    """Key of the experiment, or ``{column: …}``."""
    variant: Annotated[VariantColumn, BeforeValidator(as_column)]
    """Column with the variant; ``values`` translates."""
    outcomes: Outcomes
    """Event name -> column: what was measured after the exposure."""
    covariates: Outcomes = Field(default_factory=dict)
    """Name -> column: what was known before; kept as events ``covariate.<name>``."""


class AliasesMapping(FileMapping):
    """Rows say that two ids are one unit: a visitor is a customer."""

    currency: ClassVar[None] = None
    properties: ClassVar[Mapping[str, Column]] = {}

    kind: Literal["aliases"]
    """What a row is."""
    unit: PlainColumn
    """Column with the id that is given up, such as the visitor's."""
    canonical: PlainColumn
    """Column with the id that stays, such as the customer's."""


AnyMapping: TypeAlias = "ExposuresMapping | EventsMapping | UnitTableMapping | AliasesMapping"

KINDS: Mapping[str, type[ExposuresMapping | EventsMapping | UnitTableMapping | AliasesMapping]] = {
    "exposures": ExposuresMapping,
    "events": EventsMapping,
    "unit_table": UnitTableMapping,
    "aliases": AliasesMapping,
}


@dataclass(frozen=True, slots=True)
class LoadedMapping:
    """A mapping, with what is needed to point into its file."""

    mapping: AnyMapping
    sha256: str
    file: str
    node: Node

    def problem(self, loc: tuple[str | int, ...], words: Wording) -> Problem:
        """Return a problem at a key of the mapping."""
        return problem_at(self.node, loc, self.file, words)

    def format_of(self, path: Path) -> FileFormat:
        """Return how a data file is written.

        Raises
        ------
        ConfigurationError
            Neither the mapping nor the suffix says it.
        """
        name = self.mapping.format or SUFFIXES.get(path.suffix.lower())
        if name is None:
            message = f"is missing, and {path.suffix or 'no suffix'} does not tell it"
            fix = "Write format: csv, jsonl or parquet."
            raise ConfigurationError([self.problem(("format",), ("file-format", message, fix))])
        delimiter = "\t" if self.mapping.delimiter == "tab" else self.mapping.delimiter
        return FileFormat(name, self.mapping.encoding, delimiter)

    def column_problems(self, error: ColumnsError, data_file: str) -> ConfigurationError:
        """Return the problems of columns that a data file does not have, at their lines."""
        shown = ", ".join(error.present[:12]) + (", …" if len(error.present) > 12 else "")
        fix = f"{data_file} has the columns: {shown}."
        if len(error.present) == 1 and any(mark in error.present[0] for mark in ";|\t"):
            fix += " It looks as if delimiter were another one."
        problems = []
        for loc, column in columns_in(plain(self.node)):
            if column in error.missing:
                words = ("missing-column", f"is {column!r}, which {data_file} does not have", fix)
                problems.append(self.problem(loc, words))
            elif column in error.ambiguous:
                message = f"is {column!r}, which stands twice in the header of {data_file}"
                words = ("ambiguous-column", message, "Rename one of the columns.")
                problems.append(self.problem(loc, words))
        return ConfigurationError(problems)


def load_mapping(path: Path) -> LoadedMapping:
    """Read a mapping file.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        All its mistakes.
    """
    file = str(path)
    node = read_file(path, file)
    document = plain(node)
    kind = document.get("kind") if isinstance(document, dict) else None
    if isinstance(document, dict) and kind not in KINDS:
        hint = " Token traces come in by klartext costs import." if kind == "usage" else ""
        message = "is missing" if kind is None else f"is {kind!r}"
        words = ("mapping-kind", message, f"Write one of {', '.join(KINDS)}.{hint}")
        raise ConfigurationError([problem_at(node, ("kind",), file, words)])
    mapping = validate(KINDS.get(str(kind), UnitTableMapping), node, file)
    canonical = mapping.model_dump_json(by_alias=True)
    loaded = LoadedMapping(mapping, hashlib.sha256(canonical.encode()).hexdigest(), file, node)
    if problems := tuple(_contradictions(loaded)):
        raise ConfigurationError(problems)
    return loaded


def columns_in(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every column that a mapping names, with the key path where it stands."""
    for key in ("experiment", "variant", "time", "currency", "event", "unit", "canonical", "value"):
        value = document.get(key)
        if isinstance(value, dict) and "column" in value:
            yield (key, "column"), value["column"]
        elif key in {"experiment", "currency"} or (key, value) == ("unit", "row_number"):
            continue  # a plain word is not a column here
        elif isinstance(value, str):
            yield (key,), value
    for key in ("id", "properties"):
        if isinstance(document.get(key), tuple):
            yield from (((key, index), value) for index, value in enumerate(document[key]))
    for key in ("properties", "outcomes", "covariates"):
        group = document.get(key)
        for name, value in group.items() if isinstance(group, dict) else ():
            if isinstance(value, str):
                yield (key, name), value
            else:
                yield (key, name, "column"), value["column"]


def _contradictions(loaded: LoadedMapping) -> Iterator[Problem]:
    mapping = loaded.mapping
    marks = mapping.numbers
    if marks is not None and marks.decimal == marks.thousands:
        words = ("number-marks", f"is {marks.thousands!r} for both", "Give them different marks.")
        yield loaded.problem(("numbers", "thousands"), words)
    written = [("complete_until", mapping.complete_until)]
    if isinstance(mapping.time, Constant):
        written.append(("time", mapping.time.constant))
    for key, text in written:
        try:
            if text is not None:
                mapping.instant(text, key)
        except RowError:
            fix = "Write 2026-01-31T12:00:00Z, or set timezone and leave the Z out."
            words = ("instant", f"is {text!r}: must be an instant with a time zone", fix)
            yield loaded.problem((key, "constant") if key == "time" else (key,), words)
    if mapping.currency is None:
        for loc in _money_in(mapping):
            fix = "Add currency: EUR, or currency: {column: …}."
            yield loaded.problem(loc, ("missing-currency", "is money without a currency", fix))


def _money_in(mapping: AnyMapping) -> Iterator[tuple[str, ...]]:
    match mapping:
        case EventsMapping(value=ValueColumn(as_="money")):
            yield "value", "as"
        case UnitTableMapping():
            for key, group in (("outcomes", mapping.outcomes), ("covariates", mapping.covariates)):
                yield from (
                    (key, name, "as") for name, item in group.items() if item.as_ == "money"
                )
