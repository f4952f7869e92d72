"""Rewriting one day of one table: the same facts in fewer files, sorted for reading.

Not by the table library's own ``optimize``: it records no writer and notices no other one, so that
two of them at once double the facts of a day (deltalake 1.6). An overwrite of the day does both.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from klartext.experiments import fact_log
from klartext.experiments.door import TableName
from klartext.experiments.fact_snapshot import Snapshot
from klartext.experiments.facts import WRITER, ConcurrentAppendError, FactsStore

TARGET_BYTES = 100_000_000
"""Size of a rewritten file, about."""

ROW_GROUP_ROWS = 131_072
"""Small enough for reading one name of an event without the others."""

MEMORY = "1GB"
"""What sorting a day may use before it goes to disk."""

_ORDER: Mapping[TableName, Sequence[str]] = {
    "exposures": ("experiment", "unit", "occurred_at", "id"),
    "events": ("name", "unit", "occurred_at", "id"),
    "usage_costs": ("experiment", "variant", "occurred_at", "id"),
    "aliases": ("unit", "occurred_at", "id"),
}
_PROPERTIES = WriterProperties(
    compression="ZSTD", compression_level=1, max_row_group_size=ROW_GROUP_ROWS
)


def sizes(snapshot: Snapshot) -> dict[date, list[int]]:
    """Return the bytes of each file, by day."""
    found: dict[date, list[int]] = defaultdict(list)
    if snapshot.delta is not None:
        files = pa.table(snapshot.delta.get_add_actions(flatten=True))
        for day, size in zip(
            files["partition.day"].to_pylist(), files["size_bytes"].to_pylist(), strict=True
        ):
            found[day].append(size)
    return dict(found)


def is_crowded(files: Sequence[int]) -> bool:
    """Whether a day with files of these sizes is worth rewriting; once rewritten it is not."""
    return sum(size < TARGET_BYTES // 2 for size in files) > 1


def rewrite(facts: FactsStore, table: TableName, day: date, *, fence: int, read: Snapshot) -> None:
    """Rewrite one day in one durable commit.

    Parameters
    ----------
    facts
        The tables.
    table, day
        What to rewrite.
    fence
        Fencing number of the writer.
    read
        The version to rewrite.

    Raises
    ------
    ConcurrentAppendError
        Somebody committed after ``read``; nothing was rewritten.
    """
    delta = read.delta
    if delta is None:
        return
    location, before = facts.location(table), delta.version()
    schema = pa.schema(delta.schema().to_arrow())
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute("SET temp_directory = ?", [spill])
        connection.register("facts", delta.to_pyarrow_dataset())
        order = ", ".join(_ORDER[table])
        rows = connection.sql(
            f"SELECT * FROM facts WHERE day = DATE '{day:%Y-%m-%d}' ORDER BY {order}"  # noqa: S608 - names of ours
        ).to_arrow_reader(ROW_GROUP_ROWS)
        try:
            write_deltalake(
                delta,
                pa.RecordBatchReader.from_batches(schema, _as(schema, rows)),
                mode="overwrite",
                predicate=f"day = '{day:%Y-%m-%d}'",
                target_file_size=TARGET_BYTES,
                writer_properties=_PROPERTIES,
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(WRITER, fence)],
                    custom_metadata={"klartext": "compaction"},
                ),
                post_commithook_properties=fact_log.hooks(location),
            )
        except CommitFailedError as error:
            raise ConcurrentAppendError(f"{table} changed while {day} was rewritten") from error
    fact_log.make_durable(location, delta, since=before)


def delete_unused(facts: FactsStore, table: TableName, *, keep: timedelta) -> int:
    """Delete files that no version younger than ``keep`` needs; return how many.

    Among them are files of writers that were killed before their commit. The table library only
    says which: what it deletes it records in a commit that makes checkpoints and deletes commits.
    """
    snapshot = facts.snapshot(table)
    delta = snapshot.delta
    if delta is None:
        return 0
    # A file that neither commit nor checkpoint names is as old as it is.
    is_forgotten = keep > fact_log.REMEMBERED
    read = _before_rewrites(delta, datetime.now(UTC) - keep) if is_forgotten else []
    unused = delta.vacuum(
        int(keep.total_seconds() // 3600),
        dry_run=True,
        enforce_retention_duration=False,
        full=True,
        keep_versions=read or None,
    )
    return snapshot.delete(unused)


def _before_rewrites(delta: DeltaTable, since: datetime) -> list[int]:
    """Return the versions that read the files which were rewritten since an instant."""
    commits = {commit["version"]: commit for commit in delta.history()}
    rewrites = {
        version
        for version, commit in commits.items()
        if commit.get("klartext") == "compaction"
        and commit["timestamp"] >= since.timestamp() * 1000
    }
    # Of several in a row the first is enough: no day is rewritten twice without a commit between.
    before = {version - 1 for version in rewrites} - rewrites
    return sorted(before & commits.keys())


def _as(schema: pa.Schema, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    for batch in rows:
        yield batch.select(schema.names).cast(schema)
