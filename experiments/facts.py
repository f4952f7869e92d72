"""The facts: append-only Delta tables of exposures, events, usage costs and aliases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from klartext.experiments import fact_files, fact_log
from klartext.experiments.door import PropertyType, TableName
from klartext.experiments.errors import ConflictError, KlartextError
from klartext.experiments.fact_columns import (
    INSTANT,
    PROPERTY_TYPES,
    TABLES,
    WITH_PROPERTIES,
    columns_of,
)
from klartext.experiments.fact_history import BATCH
from klartext.experiments.fact_snapshot import Snapshot
from klartext.experiments.id_index import IdIndex
from klartext.experiments.records import (
    AliasRow,
    EventRow,
    ExposureRow,
    FactRow,
    UsageRow,
    from_microseconds,
    microseconds,
)
from klartext.experiments.storage import is_remote, storage_options

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends import BaseBackend

WRITER = "klartext:writer"
"""Application transaction in every commit: two writers that read the same version conflict."""

_UNREADABLE = frozenset("[]()%&#^|\\")  # the Delta library aborts on a path with one of these
_ROW_TYPES: Mapping[TableName, type[ExposureRow | EventRow | UsageRow | AliasRow]] = {
    "exposures": ExposureRow,
    "events": EventRow,
    "usage_costs": UsageRow,
    "aliases": AliasRow,
}


class ConcurrentAppendError(KlartextError):
    """Another writer committed since the table was read: reload, compare again, repeat."""


@dataclass(frozen=True, slots=True)
class FactTables:
    """The facts as Ibis tables of one engine; ``aliases`` is None when there never was one."""

    exposures: ir.Table
    events: ir.Table
    usage_costs: ir.Table
    aliases: ir.Table | None = None


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What a table holds: rows, and the first and last instant at which something occurred.

    ``incomplete`` rows of a mapped table lack a unit or a time: analyses leave them out.
    """

    table: TableName
    rows: int
    first: datetime | None
    last: datetime | None
    incomplete: int = 0


@dataclass(frozen=True, slots=True)
class FactsStore:
    """The Delta tables under one root.

    Parameters
    ----------
    root
        Folder, or a URL of an object store.
    properties
        Declared properties; each is a nullable column ``p_<name>`` of exposures and events.
    index
        Local folder of the index of ids, which can be made again from the tables; default: in
        ``root``, which must then be a folder.
    """

    root: str
    properties: Mapping[str, PropertyType]
    index: Path | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        unreadable = sorted(_UNREADABLE.intersection(self.root))
        storage_options(self.root)
        if not self.is_local and self.index is None:
            raise ValueError("facts in an object store need a local folder for the index of ids")
        if self.is_local and unreadable:
            raise KlartextError(
                f"facts cannot lie in {self.root}: {' '.join(unreadable)} in a path is not "
                "supported by the table format. Move the workspace, or set facts in klartext.yaml."
            )

    @property
    def is_local(self) -> bool:
        """Whether they lie in a folder of this machine."""
        return not is_remote(self.root)

    def location(self, table: TableName) -> str:
        """Return where a table lies, for other engines."""
        return f"{self.root.rstrip('/')}/{table}"

    def schema(self, table: TableName) -> pa.Schema:
        """Return the columns of a table, declared properties included."""
        return columns_of(table, self.properties)

    def to_arrow(
        self, table: TableName, rows: Sequence[FactRow], *, batch: int, received_at: datetime
    ) -> pa.Table:
        """Return rows of one table as Arrow, with their batch and UTC day."""
        if any(row.table != table for row in rows):
            raise ValueError(f"rows of another table than {table}")
        names = [item.name for item in fields(_ROW_TYPES[table]) if item.name != "properties"]
        columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in names}
        if table in WITH_PROPERTIES:
            held = [row.properties for row in cast("Sequence[EventRow]", rows)]
            for name in self.properties:
                columns[f"p_{name}"] = [properties.get(name) for properties in held]
        occurred_at = pa.array(map(microseconds, columns["occurred_at"]), pa.int64()).cast(INSTANT)
        columns["occurred_at"] = occurred_at
        columns["day"] = occurred_at.cast(pa.date32())
        received = pa.scalar(microseconds(received_at), pa.int64()).cast(INSTANT)
        columns["ingest_batch"] = pa.repeat(pa.scalar(batch, pa.int64()), len(rows))
        columns["received_at"] = pa.repeat(received, len(rows))
        return pa.table(columns, schema=self.schema(table))

    def snapshot(self, table: TableName) -> Snapshot:
        """Read the latest version of a table.

        Raises
        ------
        KlartextError
            Its log is damaged, or it may not be read.
        """
        index = IdIndex((self.index or Path(self.root) / ".ids") / table)
        return Snapshot.of(self.location(table), index)

    def append(  # noqa: PLR0913 - the transaction by name
        self,
        table: TableName,
        rows: pa.Table,
        *,
        application: str,
        version: int,
        fence: int = 0,
        read: Snapshot | None = None,
    ) -> None:
        """Append rows in one durable commit.

        Parameters
        ----------
        table
            Which table.
        rows
            Rows with `schema`.
        application, version
            Application transaction recorded with the rows. Recording the same one again appends
            again: callers look at `Snapshot.committed` of ``read`` first.
        fence
            Fencing number of the writer.
        read
            The version of the table that the caller compared the rows with; default: the latest.

        Raises
        ------
        ConcurrentAppendError
            Somebody committed after ``read``; nothing was appended.
        """
        delta = self._created(table) if read is None or read.delta is None else read.delta
        location = self.location(table)
        before = delta.version() or -1  # with the first rows also the table itself
        transactions = [Transaction(application, version), Transaction(WRITER, fence)]
        differs = _differs(delta, rows.schema)
        try:
            write_deltalake(
                delta,
                rows,
                mode="append",
                schema_mode="merge" if differs else None,
                commit_properties=CommitProperties(
                    app_transactions=transactions,
                    custom_metadata={BATCH: str(pc.min(rows["ingest_batch"]).as_py() or 0)},
                ),
                post_commithook_properties=fact_log.hooks(location),
            )
        except CommitFailedError as error:
            raise ConcurrentAppendError(f"{table} changed while rows were compared") from error
        fact_log.make_durable(location, delta, since=before)

    def tables(self, connection: BaseBackend) -> FactTables:
        """Return all facts as tables of ``connection``; lazily, but of the files as of now."""
        return FactTables(
            self.table("exposures", connection),
            self.table("events", connection),
            self.table("usage_costs", connection),
            self.table("aliases", connection) if self.has_aliases() else None,
        )

    def table(
        self,
        name: TableName,
        connection: BaseBackend,
        *,
        matters: Callable[[date, int | None], bool] | None = None,
        read: Snapshot | None = None,
    ) -> ir.Table:
        """Return one table, as `tables` does.

        Parameters
        ----------
        name
            Which table.
        connection
            The engine.
        matters
            Which files to read, by their UTC day and the latest batch in them (None: not known);
            default: all.
        read
            A version of the table; default: the latest.

        Raises
        ------
        KlartextError
            The engine reads no files, and there are some.
        """
        import ibis  # noqa: PLC0415 - half a second that an import of files does not need

        schema = self.schema(name)
        delta = (read or self.snapshot(name)).delta
        if delta is not None:
            _differs(delta, schema)
        files = [] if delta is None else delta.file_uris()
        if delta is not None and matters is not None:
            chosen = _chosen(delta, matters)
            files = [file for file in files if file.rsplit("/", 1)[-1] in chosen]
        if delta is None or not files:
            return ibis.memtable(schema.empty_table())
        if not fact_files.reads_files(connection):
            raise KlartextError(
                f"{connection.name} cannot read the {name} in {self.root}; map a table of its own "
                f"as facts.{name} in klartext.yaml, or use engine: {{kind: duckdb}} or "
                "{kind: spark}"
            )
        if not self.is_local and connection.name == "duckdb":
            return _remote(delta, schema)
        return _selected(fact_files.read(connection, files, self.location(name)), schema)

    def unbound(self) -> FactTables:
        """Return the tables by name and columns only, of no engine: to show queries."""
        import ibis  # noqa: PLC0415 - half a second that an import of files does not need

        names = TABLES if self.has_aliases() else TABLES[:-1]
        return FactTables(**{name: ibis.table(self.schema(name), name=name) for name in names})

    def summary(self, table: TableName) -> TableSummary:
        """Count a table and find its range of time."""
        delta = self.snapshot(table).delta
        if delta is None:
            return TableSummary(table, 0, None, None)
        times = delta.to_pyarrow_dataset().to_table(columns=["occurred_at"])["occurred_at"]
        found = pc.min_max(times.cast(pa.int64())).as_py()
        first, last = [None if at is None else from_microseconds(at) for at in found.values()]
        return TableSummary(table, len(times), first, last)

    def units_of_tasks(self, tasks: Sequence[str]) -> dict[str, set[int | None]]:
        """Return which units the calls of tasks were made for; None is a call without a unit."""
        delta = self.snapshot("usage_costs").delta
        found: dict[str, set[int | None]] = {}
        if delta is None or not tasks:
            return found
        wanted = pc.field("task").isin(pa.array(tasks, pa.string()))
        rows = delta.to_pyarrow_dataset().to_table(columns=["task", "unit"], filter=wanted)
        for task, unit in zip(rows["task"].to_pylist(), rows["unit"].to_pylist(), strict=True):
            found.setdefault(task, set()).add(unit)
        return found

    def version(self, table: TableName) -> int:
        """Return a number that grows with every commit to a table; -1 before the first."""
        delta = self.snapshot(table).delta
        return -1 if delta is None else int(delta.version())

    def rows(self, table: TableName) -> int:
        """Return how many rows a table has, by its log."""
        delta = self.snapshot(table).delta
        return 0 if delta is None else int(delta.count())

    def count_batch(self, table: TableName, batch: int) -> int:
        """Count the rows that a batch has put into a table."""
        delta = self.snapshot(table).delta
        if delta is None:
            return 0
        return int(delta.to_pyarrow_dataset().count_rows(filter=pc.field("ingest_batch") == batch))

    def _created(self, table: TableName) -> DeltaTable:
        found = self.snapshot(table).delta
        if found is not None:
            return found
        if self.is_local:
            Path(self.location(table)).mkdir(parents=True, exist_ok=True)
        return DeltaTable.create(
            self.location(table),
            schema=self.schema(table),
            mode="ignore",
            partition_by=["day"],
            storage_options=storage_options(self.location(table)),
        )

    def require_compatible(self) -> None:
        """Check that declared properties have the types they are stored with.

        Raises
        ------
        ConflictError
            One has not.
        """
        for table in TABLES:
            delta = self.snapshot(table).delta if table in WITH_PROPERTIES else None
            if delta is not None:
                _differs(delta, self.schema(table))

    def has_aliases(self) -> bool:
        """Whether there ever was an alias."""
        return bool(self.snapshot("aliases").files())


def _chosen(delta: DeltaTable, matters: Callable[[date, int | None], bool]) -> set[str]:
    """Return the names of the files that matter."""
    files = pa.table(delta.get_add_actions(flatten=True))
    newest = "max.ingest_batch"
    batches = files[newest].to_pylist() if newest in files.column_names else [None] * len(files)
    every = zip(files["path"].to_pylist(), files["partition.day"].to_pylist(), batches, strict=True)
    return {path.rsplit("/", 1)[-1] for path, day, batch in every if matters(day, batch)}


def _remote(delta: DeltaTable, schema: pa.Schema) -> ir.Table:
    """Return a table in an object store, read by the Delta library.

    DuckDB would need an extension for it that it downloads when it is first used.
    """
    import ibis  # noqa: PLC0415 - half a second that an import of files does not need

    return _selected(ibis.memtable(delta.to_pyarrow_dataset()), schema)


def _selected(found: ir.Table, schema: pa.Schema) -> ir.Table:
    import ibis  # noqa: PLC0415

    types = ibis.Schema.from_pyarrow(schema)
    return found.select(
        **{
            name: found[name].cast(kind) if name in found.columns else ibis.null(kind)
            for name, kind in types.items()
        }
    )


def _differs(delta: DeltaTable, schema: pa.Schema) -> bool:
    """Whether properties were declared or withdrawn since the table was made; no type changes."""
    present = {item.name: item.type for item in pa.schema(delta.schema().to_arrow())}
    words = {kind: name for name, kind in PROPERTY_TYPES.items()}
    for item in schema:
        stored = present.get(item.name, item.type)
        if stored != item.type:
            name = item.name.removeprefix("p_")
            was, now = (words.get(kind, str(kind)) for kind in (stored, item.type))
            raise ConflictError(
                f"property {name} is stored as {was} and declared as {now}: a type never changes. "
                f"Declare {name}: {was} again, and give the new property another name."
            )
    return set(present) != set(schema.names)
