"""Facts that stay in the company's own tables, as ``facts:`` of ``klartext.yaml`` maps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from klartext.experiments.errors import ConflictError, Problem

if TYPE_CHECKING:
    from klartext.experiments.documents.wording import Wording
    from klartext.experiments.documents.yaml_document import Node
    from klartext.experiments.door import PropertyType, TableName

ColumnKind: TypeAlias = Literal["key", "text", "instant", "money", "integer"]

COLUMNS: Mapping[TableName, Mapping[str, ColumnKind]] = {
    "exposures": {
        "unit": "key",
        "experiment": "text",
        "variant": "text",
        "occurred_at": "instant",
    },
    "events": {
        "unit": "key",
        "name": "text",
        "occurred_at": "instant",
        "value": "money",
        "currency": "text",
    },
    "usage_costs": {
        "unit": "key",
        "experiment": "text",
        "variant": "text",
        "occurred_at": "instant",
        "source": "text",
        "provider": "text",
        "model": "text",
        "input_tokens": "integer",
        "output_tokens": "integer",
        "cached_tokens": "integer",
        "task": "text",
        "duration_ms": "integer",
        "error": "text",
        "prompt": "text",
        "amount": "money",
        "currency": "text",
        "evidence": "text",
    },
}
"""What can be mapped, and what it must be; a ``key`` is an integer or text, alike everywhere."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: a column, or the same ``constant`` in every row.

    ``values`` translates what stands in a column of text; what it does not name stays.
    """

    column: str | None = None
    constant: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MappedTable:
    """A table or query of the warehouse that holds facts of one kind.

    Parameters
    ----------
    table, query
        One of them: a name such as ``crm.exposures``, or a SELECT in the warehouse's own words.
    columns
        Origins by name, see `COLUMNS`.
    properties
        Declared property -> column.
    timezone
        IANA time zone of times without one; None refuses them.
    complete_until
        Instant up to which everything is in the table; None for its newest time.
    """

    table: str | None
    query: str | None
    columns: Mapping[str, Origin]
    properties: Mapping[str, str] = field(default_factory=dict)
    timezone: str | None = None
    complete_until: datetime | None = None

    @property
    def label(self) -> str:
        """What to call it."""
        return self.table or "the query"


@dataclass(frozen=True, slots=True)
class MappedFacts:
    """All mapped tables: exposures and events, and usage costs or not.

    Parameters
    ----------
    tables
        By kind of fact.
    declared
        The declared properties and their types.
    currency
        Reporting currency; an AI call charged in another is unpriced.
    file, node
        The document that says so, to point into it.
    """

    tables: Mapping[TableName, MappedTable]
    declared: Mapping[str, PropertyType]
    currency: str
    file: str
    node: Node

    def problem(self, loc: tuple[str, ...], words: Wording) -> Problem:
        """Return a problem at a key below ``facts``."""
        from klartext.experiments.documents.validation import (  # noqa: PLC0415 - pydantic is heavy
            problem_at,
        )

        return problem_at(self.node, ("facts", *loc), self.file, words)


def require_own(mapped: MappedFacts | None, tables: Iterable[TableName]) -> None:
    """Refuse to deliver facts of a kind that is mapped: nobody would ever read them.

    Raises
    ------
    ConflictError
        One of ``tables`` is mapped; for aliases the exposures are, whose units are no pseudonyms.
    """
    for each in tables:
        name = "exposures" if each == "aliases" else each
        if mapped is not None and name in mapped.tables:
            raise ConflictError(
                f"{name} are read from {mapped.tables[name].label} (facts.{name} in "
                f"{mapped.file}): bring the rows there. What is delivered to Klartext's own facts "
                "would not be analysed."
            )
