"""How long the check for repeats takes beside many stored facts: ``python -m benchmarks.id_check``.

Stored: ``--rows`` events over 90 days. Measured: a chunk of 50,000 new ids with the index absent,
with it present, a chunk of 50,000 stored ids, and the scan of all ids that the index replaces.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from klartext.experiments.facts import FactsStore

_CHUNK = 50_000
_START = 1_767_225_600_000_000  # 2026-01-01
_DAY = 86_400_000_000


def _rows(store: FactsStore, rng: np.random.Generator, n: int, days: int) -> pa.Table:
    ids = pa.Array.from_buffers(pa.binary(16), n, [None, pa.py_buffer(rng.bytes(16 * n))])
    at = pa.array(_START + rng.integers(0, days * _DAY, n)).cast(pa.timestamp("us", "UTC"))
    columns = {
        "id": ids.cast(pa.binary()),
        "payload": ids.cast(pa.binary()),
        "unit": rng.integers(-(2**62), 2**62, n),
        "name": np.array(["purchase", "visit", "refund"])[rng.integers(0, 3, n)],
        "occurred_at": at,
        "value": pa.nulls(n, pa.decimal128(38, 12)),
        "currency": pa.nulls(n, pa.string()),
        "ingest_batch": pa.repeat(pa.scalar(1, pa.int64()), n),
        "received_at": pa.repeat(pa.scalar(datetime(2026, 4, 1, tzinfo=UTC)), n),
        "day": at.cast(pa.date32()),
    }
    return pa.table(columns).cast(store.schema("events"))


def _timed(name: str, action: Callable[[], int]) -> None:
    start = time.perf_counter()
    found = action()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<32} {seconds:8.2f} s   {found:>7,} known   peak {peak:,.0f} MiB")  # noqa: T201


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--commits", type=int, default=10)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        store = FactsStore(folder, {})
        stored: list[bytes] = []
        for version in range(options.commits):
            rows = _rows(store, rng, options.rows // options.commits, 90)
            store.append("events", rows, application="benchmark", version=version)
            stored += rows["id"].slice(0, _CHUNK // options.commits).to_pylist()
            del rows
        fresh = [rng.bytes(16) for _ in range(_CHUNK)]
        snapshot = store.snapshot("events")
        _timed("new ids, index made", lambda: snapshot.known(fresh).num_rows)
        _timed("new ids", lambda: snapshot.known(fresh).num_rows)
        _timed("stored ids", lambda: snapshot.known(stored).num_rows)

        def scanned() -> int:
            wanted = pc.field("id").isin(pa.array(fresh, pa.binary()))
            columns = ["id", "payload", "ingest_batch"]
            dataset = store.snapshot("events").delta.to_pyarrow_dataset()  # type: ignore[union-attr]  # it was written above
            return int(dataset.to_table(columns=columns, filter=wanted).num_rows)

        _timed("new ids by scanning all", scanned)


if __name__ == "__main__":
    main()
