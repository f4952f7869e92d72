"""Refresh: bring cohorts up to date, and read an experiment out by them.

Kept are, per exposed unit, its first exposure and what its events add up to; and of all units
together the sums that a readout is made of. A refresh reads the facts of later batches, finds the
units of which the sums are no longer right, takes what they were off and puts in what they are.
Events of the others are added to what is kept of them, to be used when they are mature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, NoReturn

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import ai_calls, attribution
from klartext.analysis.cohorts import FILES, TABLES, Cohorts, Kept, Manifest, key_of
from klartext.analysis.columns import STATE, event_names
from klartext.analysis.diagnostics import halves_of, models
from klartext.analysis.engine import materialised, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.exposed import (
    assigned,
    first_seen,
    instant_of,
    is_mature,
    latest_mature,
    maturing,
    sightings,
    span_of,
    strangers,
)
from klartext.analysis.instants import since_epoch
from klartext.analysis.observed import MAXIMUM
from klartext.analysis.outcomes import Tallies, days_of, events_in_window, tallies
from klartext.analysis.quantiles import Observations
from klartext.analysis.readout import Readout, assembled, billed, dearest, instant, outcomes
from klartext.analysis.reduced import NEW, OLD, Reduced, Sums, WornOffError
from klartext.analysis.result import CohortUse
from klartext.analysis.unit_table import Parts, complete
from klartext.experiments.experiment import Experiment
from klartext.experiments.facts import Identity
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.door import TableName
    from klartext.experiments.facts import Snapshot

MOST_FILES = 32
"""More files of one kind than this are read once more and written as one."""

_CALLS = (
    "unit", "experiment", "variant", "category", "provider", "model", "source", "evidence",
    "amount", "input_tokens", "output_tokens", "cached_tokens", "task", "duration_ms", "error",
    "occurred_at", "ingest_batch",
)  # fmt: skip

_MORE = 2
"""State of a unit that only has more events: in no comparison, neither before nor now."""


class _AnewError(Exception):
    """What is kept does not tell: all facts are to be read."""


def read(experiment: Experiment, cohorts: Cohorts, watermark: Watermark) -> Readout:
    """Return what `klartext.analysis.readout.read_out` does, and keep it for the next one.

    Parameters
    ----------
    experiment
        That `unserved` has nothing against.
    cohorts
        What earlier ones have left; brought up to ``watermark`` and published.
    watermark
        Facts of later batches are not seen; maturity is judged at its cutoff.
    """
    read = {name: cohorts.store.snapshot(name) for name in TABLES}
    facts = {name: Identity(each.delta) for name, each in read.items()}
    key, kept = key_of(experiment, cohorts.store), cohorts.of(experiment)
    known, reason = kept.published(key, watermark, facts)
    kept.folder.mkdir(parents=True, exist_ok=True)
    documents = {str(name): one.document() for name, one in facts.items()}

    def run(known: Manifest | None, reason: str | None) -> Readout:
        with ExitStack() as meanwhile:

            def keep(lazy: ir.Table) -> ir.Table:
                return meanwhile.enter_context(materialised(cohorts.engine, lazy))

            one = _Refresh(cohorts, experiment, watermark, keep, read, kept, key, documents)
            return one.all_facts(reason) if known is None else one.later_facts(known)

    if known is None:
        return run(None, reason)
    try:
        return run(known, None)
    except WornOffError:
        reason = "worn-off"
    except KeyError:  # something is to be taken off that never was put in
        reason = "unreadable"
    except _AnewError as error:
        reason = str(error)
    return run(None, reason)


@dataclass(frozen=True)
class _Refresh:
    """One refresh of the cohorts of one experiment; ``key`` and ``facts`` are for its manifest."""

    cohorts: Cohorts
    experiment: Experiment
    watermark: Watermark
    keep: Callable[[ir.Table], ir.Table]
    read: Mapping[TableName, Snapshot]
    kept: Kept
    key: str
    facts: Mapping[str, Any]

    @property
    def engine(self) -> BaseBackend:
        """The engine of everything."""
        return self.cohorts.engine

    def all_facts(self, reason: str | None) -> Readout:
        """Read all there is, and keep it if it can be added to."""
        exposures, usage_costs = self._table("exposures"), self._table("usage_costs")
        first = self.keep(first_seen(sightings(self.experiment, exposures, self.watermark)))
        exposed = self.keep(assigned(self.experiment, first, self.watermark))
        (span,) = rows_of(self.engine, span_of(exposed))
        near = events_in_window(self.experiment, self._of_days(**span), self.watermark, exposed)
        stored = self._tallies(near)
        added = self.keep(_per_unit(near, stored))
        table = exposed.left_join(added, ["unit", "exposed_us"])
        parts = Parts(self.keep(table.drop("unit_right", "exposed_us_right")), stored)
        calls = self.keep(
            attribution.attribute(self.experiment, usage_costs, self.watermark, exposed)
        )
        sums = self._reduced(calls, parts, span)
        sums |= Reduced({"models": self._models(usage_costs)})
        unknown = self.keep(strangers(self.experiment, exposures, self.watermark))
        count = self._count(unknown)
        variants = [variant.key for variant in self.experiment.variants]
        counted = calls.filter(calls.counted)
        without: list[str] = []

        def of_all() -> Mapping[str, Observations] | NotEstimable:
            without.append("calls-without-unit")
            return ai_calls.latencies(counted, variants, self.engine)

        found = assembled(
            self.experiment,
            sums,
            self.watermark,
            self.cohorts.store.unbound().events,
            of_all=of_all,
        )
        refused = [*_refusals(sums), *without]
        if not refused:
            rows = {
                "firsts": first.order_by("packed"),  # few parts of a file are of a time
                "sums": added.order_by("exposed_us"),
                "strangers": unknown,
            }
            files = {name: self.kept.write(rows[name]) for name in FILES}
            self._publish(files, span, sums, count)
        use = CohortUse(0, sum(found.all_units.values()), next(iter(refused), reason))
        return self._told(found, span, count, use)

    def later_facts(self, known: Manifest) -> Readout:
        """Read what came since."""
        exposures, events, calls = (self._late(name, known.batch) for name in TABLES)
        calls = calls.filter(calls.experiment == self.experiment.key)
        units = self.keep(self._units(known, exposures, events, calls))
        (ends,) = rows_of(self.engine, _ends(units))
        if ends["gone_us"] is not None and ends["gone_us"] == known.last_us:
            raise _AnewError("moved")  # nobody knows which exposure is the last one now
        span = {
            "first_us": _least([known.first_us, ends["first_us"]], min),
            "last_us": _least([known.last_us, ends["last_us"]], max),
        }
        built = units.filter(units.is_built)
        history = self._of_days(first_us=ends["built_first_us"], last_us=ends["built_last_us"])
        others = units.filter(~units.is_built)
        near = events_in_window(self.experiment, history, self.watermark, built).union(
            events_in_window(self.experiment, events, self.watermark, others)
        )
        stored = self._tallies(near)
        added = self.keep(_per_unit(near, stored))
        more = units.unit.isin(added.unit)
        units = self.keep(units.mutate(is_due=units.is_due | (units.mature & more), has_more=more))
        due = units.filter(units.is_due)
        idle = units.filter(~units.is_due, units.has_more)
        states = self.keep(
            self._in_state(_before(due), OLD, known.watermark)
            .union(self._in_state(due, NEW, self.watermark))
            .union(self._in_state(idle, _MORE, self.watermark))
        )
        latest = latest_mature(self.experiment, self.watermark)
        sums = self.kept.read(known.sums)
        # Most are mature: of the others hardly a part of a file is read.
        stands = (
            sums.filter(sums.exposed_us <= latest)
            .semi_join(due.filter(due.then_us <= latest), "unit")
            .union(
                sums.filter(sums.exposed_us > latest).semi_join(
                    due.filter(due.then_us > latest), "unit"
                )
            )
        )
        parts = Parts(self.keep(_with_sums(states, due, stands, added)), stored)
        owners = states.filter(states[STATE] == OLD).union(
            self._in_state(units, NEW, self.watermark)
        )
        charged = self.keep(
            attribution.attribute(
                self.experiment, self._calls(known.batch, due, calls), self.watermark, owners
            )
        )
        was = Reduced.of_document(known.reduced)
        found = self._reduced(charged, parts, span, known=was)
        beside = {
            "units": {
                key: (0, *numbers[1:])
                for key, numbers in found.of_state(_MORE).exact["units"].items()
            },
            "models": self._models(calls),
        }
        sums = was.replaced(found.of_state(OLD), found.of_state(NEW))
        sums = sums.replaced(Reduced(), Reduced(beside))
        for reason in _refusals(sums):
            raise _AnewError(reason)
        if sums.highest != was.highest and _any_unpriced(was):
            raise _AnewError("dearest-call")
        readout = assembled(
            self.experiment,
            sums,
            self.watermark,
            self.cohorts.store.unbound().events,
            of_all=_without_unit,
        )
        unknown = strangers(self.experiment, exposures, self.watermark)
        if known.strangers:
            unknown = unknown.anti_join(self.kept.read(known.strangers), "unit")
        unknown = self.keep(unknown)
        count = known.strange + self._count(unknown)
        changed = units.filter(units.is_changed).select("unit", "packed", "low", "high")
        rows = {"firsts": changed, "sums": added, "strangers": unknown}
        files = {
            name: self._fewer(name, {**getattr(known, name), **self.kept.write(rows[name])})
            for name in FILES
        }
        self._publish(files, span, sums, count)
        n = int(ends["built"])
        return self._told(
            readout, span, count, CohortUse(sum(readout.all_units.values()) - n, n, None)
        )

    def _units(
        self, known: Manifest, exposures: ir.Table, events: ir.Table, calls: ir.Table
    ) -> ir.Table:
        """Return the units that later facts or the time may say something new about.

        ``then``, ``least`` and ``most`` are what ``packed``, ``low`` and ``high`` were. A unit
        ``is_built`` from all its events; ``is_due`` says that sums of all units count it, or
        change with what is known of it now.
        """
        fresh = first_seen(sightings(self.experiment, exposures, self.watermark))
        wanted = events.filter(events.name.isin(event_names(self.experiment)))
        called = calls.filter(calls.unit.notnull()).select("unit").distinct()
        touched = fresh.select("unit").union(wanted.select("unit")).union(called)
        firsts = self.kept.read(known.firsts)
        due = maturing(self.experiment, firsts, known.watermark, self.watermark)
        before = firsts.semi_join(touched, "unit").union(due.select(*firsts.columns))
        nothing = ibis.null("int64")
        names = {"then": "packed", "least": "low", "most": "high"}
        rows = before.mutate(
            **{name: before[of] for name, of in names.items()}, called=ibis.literal(0)
        )
        rows = rows.union(
            fresh.mutate(**dict.fromkeys(names, nothing), called=ibis.literal(0)),
            called.mutate(
                packed=nothing, low=nothing, high=nothing,
                **dict.fromkeys(names, nothing), called=ibis.literal(1),
            ),
        )  # fmt: skip
        found = rows.group_by("unit").aggregate(
            packed=rows.packed.min(), low=rows.low.min(), high=rows.high.max(),
            then=rows.then.min(), least=rows.least.min(), most=rows.most.max(),
            called=rows.called.max(),
        )  # fmt: skip
        found = found.filter(found.packed.notnull())
        now, then = instant_of(found.packed), instant_of(found.then)
        is_new = found.then.isnull()
        is_other = (
            (found.packed != found.then) | (found.low != found.least) | (found.high != found.most)
        )
        mature = is_mature(self.experiment, now, self.watermark)
        was_mature = is_mature(self.experiment, then, known.watermark)
        is_changed = is_new | is_other
        is_due = is_changed | (mature & (~was_mature | (found.called == 1)))
        return found.mutate(
            exposed_us=now,
            then_us=then,
            mature=mature,
            is_built=is_new | (now != then),
            is_changed=is_changed,
            is_due=is_due,
        )

    def _in_state(self, units: ir.Table, state: int, watermark: Watermark) -> ir.Table:
        first = units.select("unit", "packed", "low", "high")
        return _stated(assigned(self.experiment, first, watermark), state)

    def _calls(self, batch: int, due: ir.Table, late: ir.Table) -> ir.Table:
        """Return the calls of units that are due, as they were and as they are, and later ones."""
        every = self._table("usage_costs")
        every = every.filter(
            every.experiment == self.experiment.key, every.ingest_batch <= self.watermark.batch
        )
        theirs = every.select(*_CALLS).semi_join(due, "unit")
        return _stated(theirs.filter(theirs.ingest_batch <= batch), OLD).union(
            _stated(theirs, NEW),
            _stated(late.select(*_CALLS).anti_join(due, "unit"), NEW),
        )

    def _reduced(
        self,
        calls: ir.Table,
        parts: Parts,
        span: Mapping[str, int | None],
        known: Reduced | None = None,
    ) -> Reduced:
        bill = billed(self.experiment, calls, engine=self.engine, known=known)
        units = complete(self.experiment, parts, attribution.per_unit(calls), dearest(bill, known))
        return bill | outcomes(
            self.experiment, parts, units, **span, engine=self.engine, known=known
        )

    def _models(self, calls: ir.Table) -> Sums:
        return models(self.experiment, calls, self.watermark, self.engine)

    def _tallies(self, near: ir.Table) -> Tallies:
        return tallies(self.experiment, near, halves_of(self.experiment, near))

    def _table(
        self, name: TableName, matters: Callable[[date, int | None], bool] | None = None
    ) -> ir.Table:
        return self.cohorts.store.table(name, self.engine, matters=matters, read=self.read[name])

    def _late(self, table: TableName, batch: int) -> ir.Table:
        """Return the rows of later batches, from the files that can have some."""

        def matters(_: date, newest: int | None) -> bool:
            return newest is None or newest > batch

        found = self._table(table, matters)
        return found.filter(found.ingest_batch > batch, found.ingest_batch <= self.watermark.batch)

    def _of_days(self, *, first_us: int | None, last_us: int | None) -> ir.Table:
        """Return the events that can matter to units exposed in a span."""
        first, last = days_of(self.experiment, first_us=first_us, last_us=last_us)
        events = self._table("events", lambda day, _: first <= day <= last)
        return events.filter(events.day >= ibis.date(first), events.day <= ibis.date(last))

    def _count(self, table: ir.Table) -> int:
        (row,) = rows_of(self.engine, table.aggregate(rows=table.count()))
        return int(row["rows"])

    def _fewer(self, name: str, files: Mapping[str, int]) -> Mapping[str, int]:
        """Write many files of one kind as one."""
        if len(files) <= MOST_FILES:
            return files
        found = self.kept.read(files)
        if name == "firsts":
            found = first_seen(found)
        if name == "sums":
            # Kept first: of integers the engine returns wider sums than a file can hold.
            found = self.keep(_summed(found, "unit", "exposed_us"))
        return self.kept.write(found)

    def _publish(
        self,
        files: Mapping[str, Mapping[str, int]],
        span: Mapping[str, int | None],
        sums: Reduced,
        strange: int,
    ) -> None:
        self.kept.publish(
            Manifest(
                key=self.key,
                batch=self.watermark.batch,
                cutoff_us=since_epoch(self.watermark.cutoff),
                facts=self.facts,
                **span,  # type: ignore[arg-type] # the names of its fields
                **files,  # type: ignore[arg-type]
                strange=strange,
                reduced=sums.document(),
            )
        )

    def _told(
        self, found: Readout, span: Mapping[str, int | None], strange: int, use: CohortUse
    ) -> Readout:
        return replace(
            found,
            first_exposure=instant(span["first_us"]),
            last_exposure=instant(span["last_us"]),
            strangers=strange,
            cohorts=use,
        )


def _ends(units: ir.Table) -> ir.Table:
    built = units.is_built
    return units.aggregate(
        first_us=units.exposed_us.min(),
        last_us=units.exposed_us.max(),
        built=built.sum().fill_null(0),
        built_first_us=units.exposed_us.min(where=built),
        built_last_us=units.exposed_us.max(where=built),
        gone_us=units.then_us.max(where=built),
    )


def _before(units: ir.Table) -> ir.Table:
    """Return the units that were known, as they were."""
    known = units.filter(units.then.notnull())
    return known.select("unit", packed="then", low="least", high="most")


def _per_unit(near: ir.Table, stored: Tallies) -> ir.Table:
    """Sum events per unit and first exposure: one that moves makes its earlier sums void."""
    return near.group_by("unit", "exposed_us").aggregate(**stored.aggregates)


def _summed(sums: ir.Table, *keys: str) -> ir.Table:
    names = [name for name in sums.columns if name not in keys]
    each = sums.group_by(*keys).aggregate(**{name: sums[name].sum() for name in names})
    return each.select(*sums.columns).cast(sums.schema())


def _with_sums(states: ir.Table, due: ir.Table, stands: ir.Table, added: ir.Table) -> ir.Table:
    """Return units with the sums of their events: those that stand, and those that are added."""
    keys = [STATE, "unit", "exposed_us"]
    added = added.select(*stands.columns)
    old, new = _stated(stands, OLD), _stated(stands, NEW)
    found = _summed(old.union(new, _stated(added.semi_join(due, "unit"), NEW)), *keys)
    found = found.union(_stated(added.anti_join(due, "unit"), _MORE).select(*found.columns))
    return states.left_join(found, keys).drop(*(f"{key}_right" for key in keys))


def _stated(table: ir.Table, state: int) -> ir.Table:
    return table.mutate(**{STATE: ibis.literal(state, "int64")})


def _least(numbers: Iterable[int | None], of: Callable[..., int | None]) -> int | None:
    return of((number for number in numbers if number is not None), default=None)


def _refusals(sums: Reduced) -> list[str]:
    """Return why sums cannot be added to."""
    if ai_calls.has_tasks(sums):  # the number of distinct tasks is no sum
        return ["ai-tasks"]
    found = sums.latencies
    if isinstance(found, NotEstimable):
        return [found.reason]
    return ["too-many-values"] if sum(len(one.values) for one in found.values()) > MAXIMUM else []


def _any_unpriced(sums: Reduced) -> bool:
    """Whether units had calls that count with the price of the dearest."""
    return any(
        unpriced
        for (charged_to, *_), (_, unpriced, *_) in sums.exact["usage"].items()
        if charged_to == attribution.UNIT
    )


def _without_unit() -> NoReturn:
    raise _AnewError("calls-without-unit")
