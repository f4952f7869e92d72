"""Which partitions of the events are read, by the list of files that DuckDB opens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pytest
from ibis.backends import BaseBackend

from klartext.analysis.engine import open_engine
from klartext.analysis.exposed import exposed_units, known_before, span_of
from klartext.analysis.outcomes import events_in_window, of_days, tallies
from klartext.analysis.reading import read_out
from klartext.analysis.unit_table import gather
from klartext.experiments.door import TableName
from klartext.experiments.experiment import Covariate
from klartext.experiments.facts import FactsStore
from tests.analysis.samples import (
    DAY,
    REVENUE,
    START,
    WATERMARK,
    experiment,
    exposure,
    purchase,
)

LOOKBACK = replace(REVENUE, covariates=(Covariate(lookback=7 * DAY),))
NAMED = replace(REVENUE, covariates=(Covariate(name="age"),))
"""A window of 14 days each."""


@pytest.fixture
def store(tmp_path: Path) -> FactsStore:
    """Exposures on days 0 and 3; one event on every day from -40 to 40."""
    found = FactsStore(str(tmp_path / "facts"), {})
    exposures = [exposure(1, "ai"), exposure(2, "control", occurred_at=START + 3 * DAY)]
    events = [purchase(1 + day % 2, "1.5", days=day) for day in range(-40, 41)]
    given: tuple[tuple[TableName, list[dict[str, Any]]], ...] = (
        ("exposures", exposures),
        ("events", events),
    )
    for table, rows in given:
        common = {"ingest_batch": 1, "received_at": START, "id": b"", "payload": b""}
        full = [common | row | {"day": row["occurred_at"].date()} for row in rows]
        arrow = pa.Table.from_pylist(full, schema=found.schema(table))
        found.append(table, arrow, application="test", version=1)
    return found


def files_of_events_read(engine: BaseBackend, table: ir.Table) -> set[int]:
    """Return how many files each scan of the events opened."""
    query = f"EXPLAIN (ANALYZE, FORMAT json) {engine.compile(table)}"
    ((_, plan),) = engine.con.sql(query).fetchall()
    found = set()
    waiting = [json.loads(plan)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if "/events/day=" in str(node.get("Filename(s)")):
                found.add(int(node["Total Files Read"]))
    return found


@pytest.mark.parametrize(
    ("metric", "first", "last"), [(REVENUE, 0, 17), (LOOKBACK, -7, 17), (NAMED, -40, 17)]
)
def test_days_that_cannot_matter_are_not_read(
    store: FactsStore, metric: Any, first: int, last: int
) -> None:
    spec = experiment(metrics=(metric,))
    with open_engine() as engine:
        tables = store.tables(engine)
        exposed = exposed_units(spec, tables.exposures, WATERMARK)
        (span,) = engine.to_pyarrow(span_of(exposed)).to_pylist()
        events = of_days(spec, tables.events, **span)
        days = engine.to_pyarrow(events.select("day").distinct())["day"].to_pylist()
        assert sorted((day - START.date()).days for day in days) == list(range(first, last + 1))
        near = events_in_window(spec, events, WATERMARK, exposed)
        known = known_before(spec, exposed, events, WATERMARK)
        parts = gather(exposed, near, tallies(spec, near), known)
        read = files_of_events_read(engine, parts.table)
        assert read == {last - first + 1}
        readout = read_out(spec, tables, WATERMARK, engine=engine)
    assert readout.moments["ai"].sample("revenue").mean == 7 * 1.5


def test_without_exposures_no_event_is_read(store: FactsStore) -> None:
    spec = experiment(key="other", metrics=(REVENUE,))
    with open_engine() as engine:
        readout = read_out(spec, store.tables(engine), WATERMARK, engine=engine)
    assert readout.first_exposure is None
    assert readout.moments["ai"].n == 0
