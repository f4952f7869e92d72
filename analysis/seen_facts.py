"""Seen facts: one version of the fact tables, and the parts of them that a refresh reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis.cohorts import TABLES
from klartext.analysis.outcomes import days_of
from klartext.experiments.experiment import Experiment
from klartext.experiments.fact_history import Identity
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.door import TableName
    from klartext.experiments.fact_snapshot import Snapshot
    from klartext.experiments.facts import FactsStore


@dataclass(frozen=True, slots=True)
class SeenFacts:
    """Facts up to a watermark, all of one version.

    Parameters
    ----------
    experiment
        That they are read for.
    store, engine
        Where they lie, and what reads them.
    watermark
        Rows of later batches are not seen.
    snapshots
        The version of each table.
    """

    experiment: Experiment
    store: FactsStore
    engine: BaseBackend
    watermark: Watermark
    snapshots: Mapping[TableName, Snapshot]

    @classmethod
    def of(
        cls, experiment: Experiment, store: FactsStore, engine: BaseBackend, watermark: Watermark
    ) -> SeenFacts:
        """Return the latest version."""
        with ThreadPoolExecutor(len(TABLES)) as pool:
            snapshots = dict(zip(TABLES, pool.map(store.snapshot, TABLES), strict=True))
        return cls(experiment, store, engine, watermark, snapshots)

    @property
    def identities(self) -> dict[TableName, Identity]:
        """Which tables they are."""
        return {name: Identity(each.delta) for name, each in self.snapshots.items()}

    @property
    def documents(self) -> dict[str, Any]:
        """The identities as JSON."""
        return {str(name): one.document() for name, one in self.identities.items()}

    def table(
        self, name: TableName, matters: Callable[[date, int | None], bool] | None = None
    ) -> ir.Table:
        """Return a table, of the files that matter by their day and latest batch."""
        return self.store.table(name, self.engine, matters=matters, read=self.snapshots[name])

    def late(self, name: TableName, batch: int) -> ir.Table:
        """Return the rows of later batches, from the files that can have some."""

        def matters(_: date, newest: int | None) -> bool:
            return newest is None or newest > batch

        found = self.table(name, matters)
        return found.filter(found.ingest_batch > batch, found.ingest_batch <= self.watermark.batch)

    def since(self, since_us: int) -> ir.Table:
        """Return the events of the UTC days from an instant on."""
        first = from_microseconds(since_us).date()
        events = self.table("events", lambda day, _: day >= first)
        return events.filter(
            events.day >= ibis.date(first), events.ingest_batch <= self.watermark.batch
        )

    def of_days(self, *, first_us: int | None, last_us: int | None) -> ir.Table:
        """Return the events that can matter to units exposed in a span."""
        first, last = days_of(self.experiment, first_us=first_us, last_us=last_us)
        events = self.table("events", lambda day, _: first <= day <= last)
        return events.filter(events.day >= ibis.date(first), events.day <= ibis.date(last))
