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

from klartext.analysis import ai_calls, attribution, due_units
from klartext.analysis.cohorts import FILES, TABLES, Cohorts, Kept, Manifest, key_of
from klartext.analysis.columns import STATE
from klartext.analysis.diagnostics import halves_of, models
from klartext.analysis.due_units import Late
from klartext.analysis.engine import materialised, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.exposed import (
    assigned,
    first_seen,
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
        added = self.keep(due_units.per_unit(near, stored))
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
        marks = {"since": known.watermark, "until": self.watermark}
        firsts, late = self.kept.read(known.firsts), Late(exposures, events, calls)
        units = self.keep(due_units.later(self.experiment, firsts, late, **marks))
        (ends,) = rows_of(self.engine, due_units.ends_of(units))
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
        added = self.keep(due_units.per_unit(near, stored))
        more = units.unit.isin(added.unit)
        units = self.keep(units.mutate(is_due=units.is_due | (units.mature & more), has_more=more))
        due = units.filter(units.is_due)
        states = self.keep(due_units.in_states(self.experiment, units, **marks))
        sums = self.kept.read(known.sums)
        stands = due_units.standing(self.experiment, sums, due, self.watermark)
        parts = Parts(self.keep(due_units.with_sums(states, due, stands, added)), stored)
        owners = states.filter(states[STATE] == OLD).union(
            due_units.as_now(self.experiment, units, self.watermark)
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
                for key, numbers in found.of_state(due_units.MORE).exact["units"].items()
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
        unknown = self.keep(unknown.anti_join(self.kept.read(known.strangers), "unit"))
        count = known.strange + self._count(unknown)
        changed = units.filter(units.is_changed).select("unit", "packed", "low", "high")
        rows = {"firsts": changed, "sums": added, "strangers": unknown}
        files = {
            name: self._fewer(name, self.kept.write(rows[name], getattr(known, name)))
            for name in FILES
        }
        self._publish(files, span, sums, count)
        n = int(ends["built"])
        return self._told(
            readout, span, count, CohortUse(sum(readout.all_units.values()) - n, n, None)
        )

    def _calls(self, batch: int, due: ir.Table, late: ir.Table) -> ir.Table:
        """Return the calls of units that are due, as they were and as they are, and later ones."""
        every = self._table("usage_costs")
        every = every.filter(
            every.experiment == self.experiment.key, every.ingest_batch <= self.watermark.batch
        )
        theirs = every.select(*_CALLS).semi_join(due, "unit")
        return due_units.stated(theirs.filter(theirs.ingest_batch <= batch), OLD).union(
            due_units.stated(theirs, NEW),
            due_units.stated(late.select(*_CALLS).anti_join(due, "unit"), NEW),
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
            found = self.keep(due_units.summed(found, "unit", "exposed_us"))
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
