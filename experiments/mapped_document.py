"""The syntax of ``facts:`` in ``klartext.yaml``: a folder, or the tables that hold the facts."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    WithJsonSchema,
    model_validator,
)

from klartext.experiments.documents.forms import Name, Text, Timezone
from klartext.experiments.documents.validation import Model, problem_at, rule, valid
from klartext.experiments.documents.wording import seen_as
from klartext.experiments.documents.yaml_document import Node
from klartext.experiments.errors import Problem
from klartext.experiments.mapped_tables import MappedFacts, MappedTable, Origin

if TYPE_CHECKING:
    from klartext.experiments.door import PropertyType, TableName

MAX_QUERY = 50_000
_TABLES: tuple[TableName, ...] = ("exposures", "events", "usage_costs")


def _query(value: object) -> str:
    if isinstance(value, str) and value.strip() and len(value) <= MAX_QUERY:
        return value.strip().removesuffix(";")
    raise rule("query", f"is {seen_as(value)}: must be a query", "Write one SELECT as text.")


def _instant(value: object) -> datetime:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        message = f"is {seen_as(value)}: must be an instant with a time zone"
        raise rule("instant", message, "Write 2026-01-31T12:00:00Z.")
    return found.astimezone(UTC)


class WordForm(Model):
    """Where a word comes from: a column, or the same text in every row."""

    column: Text | None = None
    """Name of the column."""
    constant: Text | None = None
    """Instead of a column: the text of every row."""
    values: dict[str, Text] = Field(default_factory=dict)
    """Translates what stands in the column; the rest stays."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> WordForm:
        if not valid(self.column, self.constant):
            return self
        if (self.column is None) == (self.constant is None):
            seen = "neither column nor constant" if self.column is None else "column and constant"
            raise rule("column-or-constant", f"has {seen}", "Write one of column and constant.")
        if self.constant is not None and self.values:
            raise rule(
                "column-or-constant", "translates a constant", "Write the constant as is meant."
            )
        return self


Query = Annotated[str, PlainValidator(_query), WithJsonSchema({"type": "string", "minLength": 1})]
Instant = Annotated[
    datetime,
    PlainValidator(_instant),
    WithJsonSchema({"type": "string", "examples": ["2026-01-31T12:00:00Z"]}),
]
Word = Annotated[
    WordForm,
    BeforeValidator(
        lambda value: {"column": value} if isinstance(value, str) else value,
        json_schema_input_type=str | WordForm,
    ),
]
Properties = Annotated[
    dict[Name, Text],
    BeforeValidator(
        lambda value: {name: name for name in value} if isinstance(value, tuple) else value
    ),
    WithJsonSchema({"type": ["object", "array"]}),
]


class ExposureColumns(Model):
    """Columns of exposures."""

    unit: Text
    """The unit's key: an integer or text, alike in all mapped tables."""
    experiment: Word
    """The key of the experiment."""
    variant: Word
    """The key of the variant."""
    occurred_at: Text
    """When the unit met its variant."""


class EventColumns(Model):
    """Columns of events."""

    unit: Text
    """The unit's key."""
    name: Word
    """The name of the event, such as purchase."""
    occurred_at: Text
    """When it happened."""
    value: Text | None = None
    """The amount; money when currency is mapped, else a number."""
    currency: Word | None = None
    """ISO 4217 code of the amount."""


class UsageColumns(Model):
    """Columns of priced AI calls."""

    experiment: Word
    """The key of the experiment."""
    variant: Word | None = None
    """The key of the variant that the call was made for."""
    unit: Text | None = None
    """The unit's key."""
    occurred_at: Text
    """When it was made."""
    source: Word
    """What costs.usage.source of experiments names."""
    amount: Text
    """What it cost; empty when unpriced."""
    currency: Word
    """ISO 4217 code of the amount."""
    model: Word
    """The model that answered."""
    input_tokens: Text
    """Tokens sent."""
    output_tokens: Text
    """Tokens returned."""
    error: Word
    """Its error; empty when it succeeded."""
    provider: Word | None = None
    """Who sells it."""
    cached_tokens: Text | None = None
    """Tokens sent that were read from a cache."""
    task: Word | None = None
    """The task that the call was part of."""
    duration_ms: Text | None = None
    """How long it took, in milliseconds."""
    prompt: Word | None = None
    """Name and version of the prompt."""
    evidence: Word | None = None
    """What proves the price; default: the name of the table."""


class _TableForm(Model):
    table: Text | None = None
    """Name of the table or view, such as crm.exposures."""
    query: Query | None = None
    """Instead of a table: a SELECT in the words of the engine."""
    timezone: Timezone | None = None
    """Time zone of times that have none; without this they are refused."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> _TableForm:
        if valid(self.table, self.query) and (self.table is None) == (self.query is None):
            seen = "neither table nor query" if self.table is None else "table and query"
            raise rule("table-or-query", f"has {seen}", "Write one of table and query.")
        return self


class ExposuresForm(_TableForm):
    """Where exposures are."""

    columns: ExposureColumns
    """What its columns mean."""
    properties: Properties = Field(default_factory=dict)
    """Declared properties: a list, or {property: column}."""


class EventsForm(_TableForm):
    """Where events are."""

    columns: EventColumns
    """What its columns mean."""
    properties: Properties = Field(default_factory=dict)
    """Declared properties: a list, or {property: column}."""
    complete_until: Instant | None = None
    """Up to when all events are in it; default: its newest time that is not in the future."""


class UsageForm(_TableForm):
    """Where priced AI calls are."""

    columns: UsageColumns
    """What its columns mean."""
    complete_until: Instant | None = None
    """Up to when all calls are in it; default: its newest time that is not in the future."""


class FactsForm(Model):
    """Facts in tables of the company's own, all in the workspace's engine."""

    location: Text | None = None
    """Folder or URL of Klartext's own tables; default: .klartext/facts."""
    exposures: ExposuresForm
    """Table of exposures."""
    events: EventsForm
    """Table of events."""
    usage_costs: UsageForm | None = None
    """Table of priced AI calls; default: those that klartext costs import has stored."""


FactsDocument: TypeAlias = Annotated[
    Annotated[Text, Tag("<plain>")] | Annotated[FactsForm, Tag("<mapped>")],
    Discriminator(lambda value: "<plain>" if isinstance(value, str) else "<mapped>"),
]


def mapped_facts(
    form: FactsForm, declared: Mapping[str, PropertyType], currency: str, *, file: str, node: Node
) -> tuple[MappedFacts, tuple[Problem, ...]]:
    """Return what ``facts:`` maps, and the properties it maps that are not declared."""
    tables = {name: _table(part) for name in _TABLES if (part := getattr(form, name)) is not None}
    facts = MappedFacts(tables, declared, currency, file, node)
    return facts, tuple(_undeclared(facts))


def _table(form: ExposuresForm | EventsForm | UsageForm) -> MappedTable:
    return MappedTable(
        form.table,
        form.query,
        {
            name: _origin(value)
            for name in type(form.columns).model_fields
            if (value := getattr(form.columns, name)) is not None
        },
        {} if isinstance(form, UsageForm) else dict(form.properties),
        form.timezone,
        None if isinstance(form, ExposuresForm) else form.complete_until,
    )


def _origin(form: str | WordForm) -> Origin:
    if isinstance(form, str):
        return Origin(form)
    return Origin(form.column, form.constant, dict(form.values))


def _undeclared(facts: MappedFacts) -> Iterator[Problem]:
    for table, mapped in facts.tables.items():
        for name in mapped.properties:
            if name in facts.declared:
                continue
            near = difflib.get_close_matches(name, facts.declared, n=1)
            fix = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"Declare it with its type, such as properties: {{{name}: text}}."
            )
            words = ("undeclared-property", "is not declared under properties", fix)
            yield problem_at(facts.node, ("facts", table, "properties", name), facts.file, words)
