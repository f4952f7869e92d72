"""The syntax of ``engine:`` in ``klartext.yaml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from klartext.experiments.documents.forms import Count, Text
from klartext.experiments.documents.validation import Model, rule, valid
from klartext.experiments.documents.wording import seen_as
from klartext.experiments.engines import DuckDbEngine, EngineSettings, PostgresEngine, SparkEngine

_MEMORY = r"[1-9][0-9]{0,6} ?(?:KB|MB|GB|TB|KiB|MiB|GiB|TiB)"
_KEYS = {
    "duckdb": frozenset({"memory_limit", "threads", "temp_directory", "database"}),
    "spark": frozenset({"url", "options"}),
    "postgres": frozenset({"url"}),
}
_URLS = {
    "spark": re.compile(r"sc://.+|spark://.+|local(?:-cluster)?(?:\[.+\])?|yarn|k8s://.+"),
    "postgres": re.compile(r"postgres(?:ql)?://.*"),
}
_EXAMPLES = {
    "spark": "url: sc://spark.example.com:15002, or url: local[4]",
    "postgres": "url: postgresql://reader@db.example.com/shop",
}


def _memory(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(_MEMORY, value):
        return value
    message = f"is {seen_as(value)}: must be an amount of memory"
    raise rule("memory", message, "Write it like 4GB or 512MiB.")


Memory = Annotated[
    str, PlainValidator(_memory), WithJsonSchema({"type": "string", "pattern": f"^{_MEMORY}$"})
]


class EngineDocument(Model):
    """The engine that reads the facts: this process, a Spark cluster, or a warehouse."""

    kind: Literal["duckdb", "spark", "postgres"]
    """duckdb (embedded), spark, or postgres for mapped tables."""
    memory_limit: Memory | None = None
    """DuckDB: memory it may take before it spills to the disk, such as 4GB."""
    threads: Count | None = None
    """DuckDB: number of threads; default: all cores."""
    temp_directory: Text | None = None
    """DuckDB: folder for what does not fit into memory."""
    database: Text | None = None
    """DuckDB: file whose tables facts maps; it is read, never written."""
    url: Text | None = None
    """Spark: Connect URL (sc://…) or master (local[4]). PostgreSQL: URL, without a password."""
    options: dict[str, Text] = Field(default_factory=dict)
    """Spark: its own settings, such as spark.sql.shuffle.partitions: "64"."""

    @model_validator(mode="after")
    def _belongs_together(self) -> EngineDocument:
        if not valid(self.kind, self.url):
            return self
        stray = sorted(
            name
            for name in self.model_fields_set - {"kind"} - _KEYS[self.kind]
            if getattr(self, name) is not None
        )
        if stray:
            known = ", ".join(sorted(_KEYS[self.kind]))
            raise rule(
                "engine-key",
                f"has {', '.join(stray)}, which {self.kind} does not know",
                f"Remove it; {self.kind} takes {known}.",
            )
        if self.url is not None and urlsplit(self.url).password:
            raise rule(
                "password",
                "has a password in engine.url",
                "Remove it: PostgreSQL reads PGPASSWORD or ~/.pgpass.",
            )
        if self.kind != "duckdb" and (self.url is None or not _URLS[self.kind].fullmatch(self.url)):
            raise rule(
                "engine-url",
                f"has {'no url' if self.url is None else f'url {self.url!r}'}: "
                f"{self.kind} needs one of its own kind",
                f"Write {_EXAMPLES[self.kind]}.",
            )
        return self


def settings_of(document: EngineDocument | None, root: Path) -> EngineSettings:
    """Return what ``engine:`` says; DuckDB when it is left out.

    A relative ``temp_directory`` or ``database`` is meant from ``root``, the workspace's folder.
    """
    if document is None:
        return DuckDbEngine()
    if document.kind == "duckdb":
        folder, database = (
            None if name is None else root / Path(name).expanduser()
            for name in (document.temp_directory, document.database)
        )
        return DuckDbEngine(document.memory_limit, document.threads, folder, database)
    url = document.url or ""
    if document.kind == "spark":
        return SparkEngine(url, dict(document.options))
    return PostgresEngine(url)
