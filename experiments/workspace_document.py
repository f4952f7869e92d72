"""The syntax of ``klartext.yaml`` (`klartext/workspace/v1`)."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Literal

from pydantic import Field

from klartext.experiments.documents.forms import Currency, Duration, Key, Name, Text, Timezone
from klartext.experiments.documents.validation import Items, Model
from klartext.experiments.engine_document import EngineDocument
from klartext.experiments.mapped_document import FactsDocument

PropertyType = Literal["text", "number", "integer", "boolean", "money"]


class WorkspaceDocument(Model):
    """A workspace: where state and facts live, and in which money, language and time it counts."""

    later: ClassVar[dict[str, str]] = {
        "defaults": "Remove it: write the values into the experiments.",
        "retention": "Remove it: facts are kept.",
    }

    schema_: Literal["klartext/workspace/v1"] = Field(alias="schema")
    """Version of this syntax."""
    name: Key
    """Short name of the workspace."""
    currency: Currency = "EUR"
    """Reporting currency: every amount in experiments is in it."""
    language: Literal["en", "de"] = "en"
    """Language of reports."""
    timezone: Timezone = "UTC"
    """Time zone of dates in experiments and of calendar days and months."""
    lateness: Duration = timedelta(days=1)
    """How late events may arrive; a unit is mature only after its windows plus this."""
    state: Text | None = None
    """SQLAlchemy URL of the state database; default: SQLite in .klartext/state.db."""
    facts: FactsDocument | None = None
    """Folder of the Delta tables (default: .klartext/facts), or the tables that hold the facts."""
    engine: EngineDocument | None = None
    """Engine that analyses the facts; default: DuckDB in this process."""
    pseudonym_key: Text | None = None
    """File with the key that turns ids into pseudonyms; keep it outside the workspace."""
    metrics: Text | None = None
    """File with shared metrics; default: metrics.yaml if there is one."""
    roles: dict[Name, Items[Text]] = Field(default_factory=dict)
    """Who may sign a GO as which role; a role that is not named may be signed by anybody."""
    prices: Text | None = None
    """File with contract prices of AI models; default: prices.yaml if there is one."""
    rates: Text | None = None
    """File with exchange rates; default: rates.csv if there is one."""
    properties: dict[Name, PropertyType] = Field(default_factory=dict)
    """Declared properties of events with their types; others are dropped and counted."""
