"""History read as if it had been a test: units exposed in the past to nothing new.

A plan needs the mean and variance that each metric would have had without the experiment. The
unit table already computes them for exposed units, so history is given to it as exposures that
never were, and nothing is computed a second way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import covariates
from klartext.analysis.attribution import SHARED, UNIT
from klartext.analysis.engine import rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.guardrails import Measured
from klartext.analysis.instants import microseconds
from klartext.analysis.moments import Moments
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.analysis.result import Number
from klartext.analysis.windows import windows
from klartext.experiments.errors import NotReadyError
from klartext.experiments.experiment import AI_KEYS, Experiment, Metric
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables

_DAY = timedelta(days=1)

NO_CALLS = NotEstimable(
    "no-call-history", "history has no AI calls of this variant: --like an earlier test, or numbers"
)
"""Why an AI metric has no baseline: units that were only seen made no calls for the experiment."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Units with an event in the ``lookback`` before one past instant, exposed at that instant.

    Parameters
    ----------
    lookback
        Longer than 0.
    event
        Only events called so make a unit seen; None: any but ``covariate.*``, which unit tables
        bring for units that did nothing.
    at
        The instant; None: the latest one whose units are all mature.
    """

    lookback: timedelta
    event: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Like:
    """Units of an earlier experiment, exposed when they were; its control is the baseline.

    Its treatments stand for the planned ones, by key or else by place, for what their calls cost.
    """

    experiment: Experiment


Population: TypeAlias = Seen | Like


@dataclass(frozen=True, slots=True)
class History:
    """What the past says about an experiment that has not happened.

    Parameters
    ----------
    population
        Who was read.
    start, end
        For `Seen` the look back; for `Like` the first and last exposure.
    readouts
        That of the control and that of one treatment. For `Seen` both hold the same units with
        the same events: only what the spec charges for the treatment differs. For `Like` they
        are one.
    units_per_day
        Distinct units over the days from ``start`` to ``end``, all variants.
    with_calls
        Whether AI calls were read.
    first_event
        Before it nothing is known.
    """

    population: Population
    start: datetime
    end: datetime
    readouts: Mapping[str, Readout]
    units_per_day: Number
    with_calls: bool
    first_event: datetime

    @property
    def moments(self) -> Mapping[str, Moments]:
        """Columns of the unit table, of the control and of one treatment."""
        return {variant: readout.moments[variant] for variant, readout in self.readouts.items()}

    def measured(self, metric: Metric, variant: str) -> Measured:
        """Return what ``metric`` was read from in ``variant``; `NO_CALLS` for calls not made."""
        readout = self.readouts[variant]
        if metric.key in AI_KEYS and (
            readout.calls is None or readout.calls.coverage[variant][metric.key].calls == 0
        ):
            return NO_CALLS
        return readout.measured(metric, variant)

    @property
    def units(self) -> int:
        """Units that the baselines are from."""
        return next(iter(self.moments.values())).n


def read_history(  # noqa: PLR0913 - an experiment, its treatment, its facts, and who is read
    experiment: Experiment,
    treatment: str,
    tables: FactTables,
    watermark: Watermark,
    *,
    population: Population,
    engine: BaseBackend,
) -> History:
    """Read the baselines of ``experiment`` from facts up to ``watermark``.

    Parameters
    ----------
    experiment
        The planned one, resolved.
    treatment
        Whose cost per unit is read.
    tables
        Facts as Ibis tables of one engine.
    watermark
        Later batches are not seen; maturity is judged at its cutoff.
    population
        Which units.
    engine
        The engine of ``tables``.

    Raises
    ------
    NotReadyError
        There are no events, none of such units, or none of their windows has closed.

    Notes
    -----
    `Seen` exposes everybody at one instant ``cutoff - maturity - lateness``, not when they turn
    up: an exposure by an event would count that event in every metric made of it.
    """
    first, last = _range(tables.events, watermark, engine)
    match population:
        case Seen():
            return _seen(
                experiment,
                treatment,
                tables,
                watermark,
                population=population,
                known=(first, last),
                engine=engine,
            )
        case Like():
            relabelled = _relabelled(experiment, population.experiment, tables)
            found = read_out(experiment, relabelled, watermark, engine=engine)
            return _like(experiment, treatment, population, found, first_event=first)


def _range(
    events: ir.Table, watermark: Watermark, engine: BaseBackend
) -> tuple[datetime, datetime]:
    known = events.filter(events.ingest_batch <= watermark.batch)
    instant = microseconds(known.occurred_at)
    (row,) = rows_of(engine, known.aggregate(first=instant.min(), last=instant.max()))
    if row["first"] is None:
        raise NotReadyError(
            "there are no events yet to plan from. Deliver some with `klartext ingest`, or give "
            "numbers with --baseline."
        )
    return from_microseconds(row["first"]), from_microseconds(row["last"])


def _seen(  # noqa: PLR0913 - as `read_history`
    experiment: Experiment,
    treatment: str,
    tables: FactTables,
    watermark: Watermark,
    *,
    population: Seen,
    known: tuple[datetime, datetime],
    engine: BaseBackend,
) -> History:
    at = _chosen(experiment, watermark, population)
    start = max(at - population.lookback, known[0])
    found = {
        variant: read_out(
            experiment,
            _pretended(experiment, variant, tables, population, at=at),
            watermark,
            engine=engine,
        )
        for variant in (experiment.control, treatment)
    }
    units = found[experiment.control].all_units[experiment.control]
    if units == 0:
        what = "event" if population.event is None else f"event {population.event!r}"
        raise NotReadyError(
            f"no unit had an {what} from {at - population.lookback:%Y-%m-%d %H:%M} to "
            f"{at:%Y-%m-%d %H:%M} UTC; the events reach from {known[0]:%Y-%m-%d %H:%M} to "
            f"{known[1]:%Y-%m-%d %H:%M}. Choose another --at or a longer --history, an earlier "
            "experiment with --like, or give numbers with --baseline."
        )
    return History(
        population=population,
        start=start,
        end=at,
        readouts=found,
        units_per_day=units / ((at - start) / _DAY),
        with_calls=False,
        first_event=known[0],
    )


def _chosen(experiment: Experiment, watermark: Watermark, population: Seen) -> datetime:
    """Return the instant of exposure."""
    latest = watermark.cutoff - windows(experiment).maturity - experiment.lateness
    at = latest if population.at is None else population.at
    if at > latest:
        raise NotReadyError(
            f"units exposed at {at:%Y-%m-%d %H:%M} UTC are not mature: the windows of "
            f"{experiment.key} and the lateness need facts up to "
            f"{at + (watermark.cutoff - latest):%Y-%m-%d %H:%M} UTC, and they are complete up to "
            f"{watermark.cutoff:%Y-%m-%d %H:%M}. The latest instant is {latest:%Y-%m-%d %H:%M}."
        )
    return at


def as_exposed(
    experiment: Experiment, tables: FactTables, watermark: Watermark, population: Population
) -> FactTables:
    """Return the facts in which the population is exposed to ``experiment``, `Seen` to its control.

    Raises
    ------
    NotReadyError
        The instant of `Seen` is not mature.
    """
    match population:
        case Seen():
            at = _chosen(experiment, watermark, population)
            return _pretended(experiment, experiment.control, tables, population, at=at)
        case Like(other):
            return _relabelled(experiment, other, tables)


def _pretended(
    experiment: Experiment, variant: str, tables: FactTables, population: Seen, *, at: datetime
) -> FactTables:
    """Return the facts with one exposure per seen unit, and without calls: they were for others."""
    events = tables.events
    is_seen = (
        ~events.name.startswith(covariates.PREFIX)
        if population.event is None
        else events.name == population.event
    )
    seen = events.filter(
        is_seen,
        events.occurred_at >= _instant(at - population.lookback),
        events.occurred_at < _instant(at),
    )
    units = seen.group_by("unit").aggregate(ingest_batch=seen.ingest_batch.min())
    exposures = units.select(
        "unit",
        "ingest_batch",
        experiment=ibis.literal(experiment.key),
        variant=ibis.literal(variant),
        occurred_at=_instant(at),
    )
    usage = tables.usage_costs
    nothing = usage.filter(usage.ingest_batch < 0)
    return type(tables)(exposures, events, nothing)


def _instant(at: datetime) -> ir.TimestampScalar:
    return ibis.literal(at, type="timestamp('UTC', 6)")


def _like(
    experiment: Experiment,
    treatment: str,
    population: Like,
    found: Readout,
    *,
    first_event: datetime,
) -> History:
    start, end = found.first_exposure, found.last_exposure
    other = population.experiment.key
    if start is None or end is None:
        raise NotReadyError(f"{other} has no exposures to plan from")
    if found.moments[experiment.control].n == 0:
        raise NotReadyError(
            f"no unit of the control of {other} is mature yet for the windows of {experiment.key}"
        )
    days = (end - start) / _DAY
    return History(
        population=population,
        start=start,
        end=end,
        readouts=dict.fromkeys((experiment.control, treatment), found),
        units_per_day=sum(found.all_units.values()) / days
        if days >= 1
        else NotEstimable("no-traffic", "all units were exposed within one day"),
        with_calls=any(usage.charged_to in {UNIT, SHARED} for usage in found.usage),
        first_event=first_event,
    )


def _relabelled(experiment: Experiment, other: Experiment, tables: FactTables) -> FactTables:
    """Return the exposures and calls of ``other`` under the names of ``experiment``."""
    planned = experiment.treatments
    names = {other.control: experiment.control}
    for place, key in enumerate(other.treatments):
        names[key] = key if key in planned else planned[min(place, len(planned) - 1)]

    def renamed(variant: ir.StringValue) -> ir.StringValue:
        return ibis.cases(*((variant == before, after) for before, after in names.items()))

    exposures, usage = tables.exposures, tables.usage_costs
    exposures = exposures.filter(
        exposures.experiment == other.key, exposures.variant.isin(list(names))
    )
    usage = usage.filter(
        usage.experiment == other.key, usage.variant.isnull() | usage.variant.isin(list(names))
    )
    if other.costs.usage_source is not None:
        usage = usage.filter(usage.source == other.costs.usage_source)
    if experiment.costs.usage_source is not None:
        usage = usage.mutate(source=ibis.literal(experiment.costs.usage_source))
    return type(tables)(
        exposures.mutate(
            experiment=ibis.literal(experiment.key), variant=renamed(exposures.variant)
        ),
        tables.events,
        usage.mutate(experiment=ibis.literal(experiment.key), variant=renamed(usage.variant)),
    )
