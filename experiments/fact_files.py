"""The files of a fact table as a table of an engine: DuckDB and Spark read the same ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote

from klartext.experiments.storage import is_remote

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.backends import BaseBackend


def reads_files(connection: BaseBackend) -> bool:
    """Whether an engine reads the files of the facts; PostgreSQL does not."""
    return connection.name in {"duckdb", "pyspark"}


def read(connection: BaseBackend, files: Sequence[str], location: str) -> ir.Table:
    """Read Parquet files of differing columns, with ``day`` in their paths.

    Parameters
    ----------
    connection
        DuckDB or Spark.
    files
        As the Delta library names them.
    location
        Folder or URL of the table.
    """
    local = not is_remote(location)
    if local:  # the Delta library percent-encodes paths
        files = [unquote(name) for name in files]
    if connection.name == "duckdb":
        if local:  # DuckDB takes paths as patterns
            files = [name.replace("*", "[*]").replace("?", "[?]") for name in files]
        return connection.read_parquet(files, union_by_name=True, hive_partitioning=True)
    import ibis  # noqa: PLC0415 - half a second that an import of files does not need

    if local:  # so does Spark, with escapes of its own
        files = [re.sub(r"([*?{}])", r"\\\1", name) for name in files]
    session = connection._session  # noqa: SLF001 - Ibis itself reads one file only
    reader = session.read.option("mergeSchema", "true").option("basePath", location)
    name = ibis.util.gen_name("facts")
    reader.parquet(*files).createOrReplaceTempView(name)
    return connection.table(name)
