"""Reading: the facts of an experiment to its readout.

The unit table is computed once in the engine and reduced there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import ai_calls, attribution, observed
from klartext.analysis.aliases import count, merged
from klartext.analysis.assembly import assembled, is_compared, shares_of, shifted
from klartext.analysis.columns import derived, value_columns
from klartext.analysis.diagnostics import halves_of, models
from klartext.analysis.engine import materialised, rows_of, undisturbed
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.exposed import (
    exposed_units,
    known_before,
    reached_units,
    span_of,
    strangers,
)
from klartext.analysis.outcomes import events_in_window, of_days, tallies
from klartext.analysis.quantiles import Observations
from klartext.analysis.readout import Readout
from klartext.analysis.reduced import Reduced
from klartext.analysis.reduction import Columns, moments_of, reduce
from klartext.analysis.segments import Segment, first_values, read_segments
from klartext.analysis.unit_sums import GROUP, billed, dearest, outcomes
from klartext.analysis.unit_table import Parts, complete, gather
from klartext.experiments.experiment import Experiment
from klartext.experiments.ledger.bills import Bill, Ledger
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables
    from klartext.experiments.splits import Split


def read_out(  # noqa: PLR0913 - facts of an experiment, and how they are computed
    experiment: Experiment,
    tables: FactTables,
    watermark: Watermark,
    *,
    engine: BaseBackend,
    splits: Sequence[Split] = (),
    ledger: Ledger | None = None,
) -> Readout:
    """Reduce the facts of ``experiment`` up to ``watermark``.

    Parameters
    ----------
    experiment
        Resolved spec.
    tables
        Facts as Ibis tables of one engine.
    watermark
        Later batches are not seen; maturity is judged at its cutoff.
    engine
        The engine of ``tables``; it keeps units, outcomes and the unit table meanwhile.
    splits
        By which weights units were assigned, oldest first. With several, moments are those of
        `klartext.analysis.regimes`.
    ledger
        What the books say of the experiment; default: nothing.

    Notes
    -----
    Two runs agree within rounding, whatever the order or batching of the facts.
    """
    with undisturbed(), ExitStack() as kept:
        found = _read(
            experiment,
            tables,
            watermark,
            engine=engine,
            splits=splits,
            ledger=ledger or Ledger(),
            keep=lambda lazy: kept.enter_context(materialised(engine, lazy)),
        )
    if experiment.exposure_event is None:
        return found
    whole = replace(experiment, exposure_event=None, segments=())
    every = read_out(whole, tables, watermark, engine=engine, splits=splits, ledger=ledger)
    return replace(found, assigned=every)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What there is of each unit before AI calls are charged to it.

    Parameters
    ----------
    exposed
        From `klartext.analysis.exposed.reached_units`.
    parts
        Of ``exposed``, with the halves of the novelty check.
    strangers
        Units with an exposure in a variant that the spec does not have.
    first
        From `klartext.analysis.exposed.exposed_units`; ``exposed`` itself without an exposure
        event.
    near
        From `klartext.analysis.outcomes.events_in_window`.
    """

    exposed: ir.Table
    parts: Parts
    strangers: int
    first: ir.Table
    near: ir.Table


def _read(  # noqa: PLR0913 - facts of an experiment, and how they are computed
    experiment: Experiment,
    tables: FactTables,
    watermark: Watermark,
    *,
    engine: BaseBackend,
    splits: Sequence[Split],
    ledger: Ledger,
    keep: Callable[[ir.Table], ir.Table],
) -> Readout:
    delivered = tables.aliases
    tables = merged(tables, watermark, keep)
    # Without the instants themselves: each is in microseconds too.
    exposed = first = keep(
        exposed_units(experiment, tables.exposures, watermark, splits).drop("exposed_at")
    )
    if experiment.exposure_event is not None:
        reached = reached_units(experiment, exposed, tables.events, watermark)
        exposed = keep(reached.drop("exposed_at"))
    (span,) = rows_of(engine, span_of(exposed))
    events = of_days(experiment, tables.events, **span)
    near = events_in_window(experiment, events, watermark, exposed)
    parts = gather(
        exposed,
        near,
        tallies(experiment, near, halves_of(experiment, near)),
        known_before(experiment, exposed, events, watermark),
    )
    unknown = strangers(experiment, tables.exposures, watermark)
    (row,) = rows_of(engine, unknown.aggregate(units=unknown.count()))
    gathered = Gathered(
        exposed, replace(parts, table=keep(parts.table)), int(row["units"]), first, near
    )
    found = _reduced(
        experiment,
        gathered,
        tables,
        watermark,
        engine=engine,
        splits=splits,
        bills=ledger.bills(watermark.cutoff),
        keep=keep,
    )
    return replace(found, aliases=count(delivered, first, watermark, engine), ledger=ledger)


def _reduced(  # noqa: PLR0913 - as `_read`
    experiment: Experiment,
    gathered: Gathered,
    tables: FactTables,
    watermark: Watermark,
    *,
    engine: BaseBackend,
    splits: Sequence[Split],
    bills: Sequence[Bill],
    keep: Callable[[ir.Table], ir.Table],
) -> Readout:
    """Reduce what was gathered; of ``tables`` the calls are read, and exposures for segments."""
    exposed, parts = gathered.exposed, gathered.parts
    calls = keep(attribution.attribute(experiment, tables.usage_costs, watermark, exposed, bills))
    (span,) = rows_of(engine, span_of(exposed))
    bill = billed(experiment, calls, engine=engine)
    units = complete(experiment, parts, keep(attribution.per_unit(calls)), dearest(calls))
    of_units = outcomes(experiment, parts, units, engine=engine, **span)
    called = models(experiment, tables.usage_costs, watermark, engine)
    found = bill() | of_units() | Reduced({"models": called()})
    segments: tuple[Segment, ...] = ()
    if experiment.segments and len(splits) < 2:  # not combined over splits, and never pooled
        columns = Columns(value_columns(experiment), derived(experiment))
        shares = shares_of(experiment, found)
        segments = read_segments(
            experiment,
            keep(units),
            keep(first_values(experiment, tables.exposures, watermark, gathered.first)),
            engine=engine,
            groups=lambda table, by: [
                shifted(group, shares)
                for group in reduce(
                    table, columns, (*GROUP, by), engine=engine, matters=is_compared
                )()
            ],
            moments=lambda found: moments_of(columns.names, found),
        )
    variants = [variant.key for variant in experiment.variants]

    def of_all() -> Mapping[str, Observations] | NotEstimable:
        return ai_calls.latencies(calls.filter(calls.counted), variants, engine)()

    return replace(
        assembled(
            experiment,
            found,
            watermark,
            tables.events,
            splits=splits,
            of_all=of_all,
        ),
        first_exposure=instant(span["first_us"]),
        last_exposure=instant(span["last_us"]),
        strangers=gathered.strangers,
        segments=segments,
        observations={
            metric.key: observed.observations(
                observed.of_events(experiment, gathered.near, exposed, metric), variants, engine
            )()
            for metric in experiment.metrics
            if metric.kind == "quantile"
        },
    )


def instant(since_1970: int | None) -> datetime | None:
    """Return an instant from microseconds since 1970."""
    return None if since_1970 is None else from_microseconds(since_1970)
