"""What an analysis sees: the fact tables of an engine, own or mapped, and their watermark."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from klartext.experiments import batches, warehouse
from klartext.experiments.errors import ConfigurationError
from klartext.experiments.facts import FactsStore, FactTables, TableSummary
from klartext.experiments.mapped_tables import MappedFacts
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    import ibis.expr.datatypes as dt
    import ibis.expr.types as ir
    from ibis.backends import BaseBackend

    from klartext.experiments.door import TableName

NO_BATCH = 0
"""The batch of mapped rows: they were never imported."""


def fact_tables(
    store: FactsStore, mapped: MappedFacts | None, connection: BaseBackend
) -> FactTables:
    """Return the facts as tables of ``connection``, mapped ones in the place of Klartext's own.

    Raises
    ------
    ConfigurationError
        A mapped table does not fit.
    KlartextError
        The engine cannot read Klartext's own facts, and they are needed.
    """
    if mapped is None:
        return store.tables(connection)
    found = warehouse.read(mapped, connection)
    usage = found.get("usage_costs")
    return FactTables(
        exposures=warehouse.complete(found["exposures"]),
        events=warehouse.complete(found["events"]),
        usage_costs=(
            _own_usage(store, connection, warehouse.key_type(found)) if usage is None else usage
        ),
    )


def see(  # noqa: PLR0913 - which facts, whose batches, what is needed, when
    store: FactsStore,
    mapped: MappedFacts | None,
    state: sa.Connection,
    connection: BaseBackend,
    *,
    usage: bool,
    now: datetime,
    as_of: datetime | None = None,
) -> tuple[FactTables, Watermark | None]:
    """Return the facts, and up to where an analysis may rely on them: None when there are none.

    Parameters
    ----------
    store, mapped
        Klartext's own tables, and those in their place.
    state
        Where batches are recorded.
    connection
        The engine.
    usage
        Whether AI calls are to be complete as well as events; when there are none at all, only
        events are waited for, and the cost is incomplete.
    now
        Rows after it say nothing about completeness.
    as_of
        What had been imported by this instant; None is ``now``. Rows of mapped tables do not say
        when they came.

    Raises
    ------
    ConfigurationError, KlartextError
        As `fact_tables`; or ``complete_until`` of a mapped table is still to come.

    Notes
    -----
    Nobody counts the deliveries of a mapped table. It is complete until the instant that is
    declared, else until the newest time in it that is not in the future; lateness is taken off
    where maturity is judged, as for imported facts.
    """
    # Batches first: what arrives between them and the tables is not in the watermark.
    own = own_watermark(state, usage=usage, as_of=as_of)
    batch = batches.highest(state, as_of=as_of) or NO_BATCH
    calls = batches.complete_until(state, "usage", as_of=as_of)
    now = now if as_of is None else min(now, as_of)
    tables = fact_tables(store, mapped, connection)
    if mapped is None:
        return tables, own
    if "usage_costs" in mapped.tables:
        batch = NO_BATCH
        calls = None
        if usage:
            calls = _complete_until(mapped, "usage_costs", tables.usage_costs, connection, now)
    events = _complete_until(mapped, "events", tables.events, connection, now)
    if events is None:
        return tables, None
    return tables, Watermark(batch, min(events, calls) if usage and calls else events)


def own_watermark(
    state: sa.Connection, *, usage: bool, as_of: datetime | None = None
) -> Watermark | None:
    """Return the watermark of Klartext's own facts, as `see` does."""
    found = batches.watermark(state, usage=usage, as_of=as_of)
    return found or batches.watermark(state, usage=False, as_of=as_of)


def _complete_until(
    mapped: MappedFacts, name: TableName, table: ir.Table, connection: BaseBackend, now: datetime
) -> datetime | None:
    declared = mapped.tables[name].complete_until
    if declared is None:
        return newest(table, connection, now)
    if declared > now:
        words = (
            "future",
            f"is {declared:%Y-%m-%dT%H:%MZ}, which is still to come",
            "Remove it: then the newest time in the table counts.",
        )
        raise ConfigurationError([mapped.problem((name, "complete_until"), words)])
    return declared


def summarise(name: TableName, table: ir.Table, connection: BaseBackend) -> TableSummary:
    """Count the rows of a mapped table, and those without a unit or a time."""
    lacking = table.occurred_at.isnull()
    if name != "usage_costs":  # a call can be of nobody in particular
        lacking |= table.unit.isnull()
    times = table.occurred_at
    (row,) = connection.to_pyarrow(
        table.aggregate(
            rows=table.count(), first=times.min(), last=times.max(), incomplete=lacking.sum()
        )
    ).to_pylist()
    return TableSummary(name, row["rows"], row["first"], row["last"], row["incomplete"] or 0)


def newest(table: ir.Table, connection: BaseBackend, now: datetime) -> datetime | None:
    """Return the newest time in a mapped table that is not after ``now``."""
    import ibis  # noqa: PLC0415 - half a second that other commands do not need

    past = table.filter(table.occurred_at <= ibis.timestamp(now))
    (row,) = connection.to_pyarrow(past.aggregate(latest=past.occurred_at.max())).to_pylist()
    found: datetime | None = row["latest"]
    return None if found is None else found.astimezone(UTC)


def _own_usage(store: FactsStore, connection: BaseBackend, key: dt.DataType) -> ir.Table:
    """Return Klartext's own AI calls beside mapped exposures.

    Their units are pseudonyms and those of the warehouse are not: calls are charged by the
    variant that stands on them.

    Raises
    ------
    KlartextError
        There are some, and the engine cannot read them.
    """
    import ibis  # noqa: PLC0415 - half a second that other commands do not need

    return store.table("usage_costs", connection).mutate(unit=ibis.null(key))
