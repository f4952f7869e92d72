"""Refresh: bring cohorts up to date, and read an experiment out by them.

Kept are, per exposed unit, its first exposure and what its events add up to; and of all units
together the sums that a readout is made of. A refresh reads the facts of later batches, finds the
units of which the sums are no longer right, takes what they were off and puts in what they are.
Events of the others are added to what is kept of them, to be used when they are mature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import ai_calls, attribution, due_units
from klartext.analysis.assembly import assembled
from klartext.analysis.cohorts import (
    FILES,
    Cohorts,
    Files,
    Kept,
    Manifest,
    key_of,
    widened,
)
from klartext.analysis.columns import STATE
from klartext.analysis.diagnostics import halves_of, models
from klartext.analysis.due_units import Late
from klartext.analysis.engine import Pending, asked_rows, materialised, rows_of, undisturbed
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
from klartext.analysis.outcomes import events_in_window, tallies
from klartext.analysis.quantiles import Observations
from klartext.analysis.reading import instant
from klartext.analysis.readout import Readout
from klartext.analysis.reduced import NEW, OLD, NotPartError, Reduced, Sums, WornOffError
from klartext.analysis.result import CohortUse
from klartext.analysis.seen_facts import SeenFacts
from klartext.analysis.unit_sums import any_unpriced, billed, dearest, outcomes
from klartext.analysis.unit_table import Parts, complete
from klartext.experiments.engines import failures
from klartext.experiments.experiment import Experiment
from klartext.experiments.watermark import Watermark

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
    """Return what `klartext.analysis.reading.read_out` does, and keep it for the next one.

    Parameters
    ----------
    experiment
        That `unserved` has nothing against.
    cohorts
        What earlier ones have left; brought up to ``watermark`` and published.
    watermark
        Facts of later batches are not seen; maturity is judged at its cutoff.
    """
    facts = SeenFacts.of(experiment, cohorts.store, cohorts.engine, watermark)
    key, kept = key_of(experiment, cohorts.store), cohorts.of(experiment)
    known, reason = kept.published(key, watermark, facts.identities)
    kept.folder.mkdir(parents=True, exist_ok=True)

    def run(known: Manifest | None, reason: str | None) -> Readout:
        try:
            with undisturbed(), ExitStack() as meanwhile:

                def keep(lazy: ir.Table) -> ir.Table:
                    return meanwhile.enter_context(materialised(cohorts.engine, lazy))

                one = _Refresh(experiment, cohorts.engine, watermark, keep, facts, kept, key)
                return one.all_facts(reason) if known is None else one.later_facts(known)
        except BaseException:
            kept.discard()  # a full disk is not to become fuller
            raise

    if known is None:
        return run(None, reason)
    try:
        return run(known, None)
    except WornOffError:
        reason = "worn-off"
    except NotPartError:
        reason = "unreadable"
    except failures(cohorts.engine.name):  # a damaged file, as a rule
        reason = "unreadable"
    except _AnewError as error:
        reason = str(error)
    return run(None, reason)


@dataclass(frozen=True)
class _Refresh:
    """One refresh of the cohorts of one experiment; ``key`` is for its manifest."""

    experiment: Experiment
    engine: BaseBackend
    watermark: Watermark
    keep: Callable[[ir.Table], ir.Table]
    facts: SeenFacts
    kept: Kept
    key: str

    def all_facts(self, reason: str | None) -> Readout:
        """Read all there is, and keep it if it can be added to."""
        exposures, usage_costs = self.facts.table("exposures"), self.facts.table("usage_costs")
        first = self.keep(first_seen(sightings(self.experiment, exposures, self.watermark)))
        exposed = self.keep(assigned(self.experiment, first, self.watermark))
        (span,) = rows_of(self.engine, span_of(exposed))
        near = events_in_window(
            self.experiment, self.facts.of_days(**span), self.watermark, exposed
        )
        added = self._summed(near)
        table = exposed.left_join(added.table, ["unit", "exposed_us"])
        parts = replace(added, table=self.keep(table.drop("unit_right", "exposed_us_right")))
        calls = self.keep(
            attribution.attribute(self.experiment, usage_costs, self.watermark, exposed)
        )
        reduced = self._reduced(calls, parts, span)
        called = self._models(usage_costs)
        unknown = self.keep(strangers(self.experiment, exposures, self.watermark))
        (row,) = rows_of(self.engine, unknown.aggregate(units=unknown.count()))
        count = int(row["units"])
        sums = reduced() | Reduced({"models": called()})
        variants = [variant.key for variant in self.experiment.variants]
        counted = calls.filter(calls.counted)
        without: list[str] = []

        def of_all() -> Mapping[str, Observations] | NotEstimable:
            without.append("calls-without-unit")
            return ai_calls.latencies(counted, variants, self.engine)()

        found = assembled(
            self.experiment,
            sums,
            self.watermark,
            self.facts.table("events", lambda *_: False),
            of_all=of_all,
        )
        refused = [*_refusals(sums), *without]
        if not refused:
            since = due_units.early_since(self.experiment, self.watermark)
            rows = {
                "firsts": first.order_by("packed"),  # few parts of a file are of a time
                "sums": added.table.order_by("exposed_us"),
                "early": due_units.early(self.experiment, self.facts.since(since), exposed, since),
                "strangers": unknown,
            }
            files = self._written(rows)()
            self._publish(files, span, sums, count, since)
        use = CohortUse(0, sum(found.all_units.values()), next(iter(refused), reason))
        return self._told(found, span, count, use)

    def later_facts(self, known: Manifest) -> Readout:
        """Read what came since."""
        exposures = self.facts.late("exposures", known.batch)
        # By itself, to give the engine something to do.
        fresh = self.keep(first_seen(sightings(self.experiment, exposures, self.watermark)))
        events, calls = (self.facts.late(name, known.batch) for name in ("events", "usage_costs"))
        late = Late(fresh, events, calls.filter(calls.experiment == self.experiment.key))
        units = self.keep(
            due_units.later(
                self.experiment,
                self.kept.read(known.firsts),
                late,
                early_us=known.early_us,
                since=known.watermark,
                until=self.watermark,
            )
        )
        asked = asked_rows(self.engine, due_units.ends_of(units))
        added = self._added(self.kept.read(known.early), units, events)
        (ends,) = asked()  # while the events are being added
        if ends["gone_us"] is not None and ends["gone_us"] == known.last_us:
            raise _AnewError("moved")  # nobody knows which exposure is the last one now
        if ends["anew_first_us"] is not None:
            added = self._with_anew(added, units, ends)
        early_us = known.early_us
        if len(known.early) >= MOST_FILES:  # about to be one, and of no more than is needed
            early_us = max(early_us, due_units.early_since(self.experiment, self.watermark))
        unknown = strangers(self.experiment, exposures, self.watermark)
        rows = {
            "firsts": units.filter(units.is_changed).select("unit", "packed", "low", "high"),
            "sums": added.table,
            "early": due_units.early(self.experiment, events, units, early_us),
            "strangers": unknown.anti_join(self.kept.read(known.strangers), "unit"),
        }
        # First, since one processor does, while the other builds the queries of the rest.
        written = self._written(rows, known)
        span, built = known.span_with(ends), int(ends["built"])
        replaced = self._replaced(known, units, late.calls, added, span)
        files, sums = written(), replaced()
        readout = assembled(self.experiment, sums, self.watermark, events, of_all=_without_unit)
        count = known.strange + self.kept.rows(files["strangers"].keys() - known.strangers.keys())
        self._publish(self._fewer(files, early_us), span, sums, count, early_us)
        use = CohortUse(sum(readout.all_units.values()) - built, built, None)
        return self._told(readout, span, count, use)

    def _replaced(
        self,
        known: Manifest,
        units: ir.Table,
        calls: ir.Table,
        added: Parts,
        span: Mapping[str, int | None],
    ) -> Pending[Reduced]:
        """Ask for the sums of all units: what was kept of those that are due, by what they are."""
        has_more = units.unit.isin(added.table.unit)
        due = self.keep(units.filter(units.is_due | (units.mature & has_more)))
        more = units.semi_join(added.table, "unit").anti_join(due, "unit")
        states = due_units.in_states(
            self.experiment, due, more, since=known.watermark, until=self.watermark
        )
        sums, every = self.kept.read(known.sums), self.facts.table("usage_costs")
        stands = due_units.standing(
            self.experiment, sums, due, since=known.watermark, until=self.watermark
        )
        table = self.keep(due_units.with_sums(states, due, stands, added.table))
        now = due_units.as_now(self.experiment, units, self.watermark)
        owners = now.union(table.filter(table[STATE] == OLD).select(*now.columns))
        theirs = self._calls(every, known.batch, due, calls)
        charged = self.keep(attribution.attribute(self.experiment, theirs, self.watermark, owners))
        was = Reduced.of_document(known.reduced)
        parts = replace(added, table=table)
        reduced = self._reduced(charged, parts, span, known=was)
        called = self._models(calls)

        def found() -> Reduced:
            of_due = reduced()
            beside = {
                "units": {
                    key: (0, *numbers[1:])
                    for key, numbers in of_due.of_state(due_units.MORE).exact["units"].items()
                },
                "models": called(),
            }
            sums = was.replaced(of_due.of_state(OLD), of_due.of_state(NEW))
            sums = sums.replaced(Reduced(), Reduced(beside))
            for reason in _refusals(sums):
                raise _AnewError(reason)
            if sums.highest != was.highest and any_unpriced(was):
                raise _AnewError("dearest-call")
            return sums

        return found

    def _added(self, early: ir.Table, units: ir.Table, events: ir.Table) -> Parts:
        """Sum the events of `due_units.later` units that are in no kept sum."""
        fresh, grown = (
            events_in_window(self.experiment, of, self.watermark, units.filter(those))
            for of, those in ((early, units.is_new & ~units.is_anew), (events, ~units.is_anew))
        )
        return self._summed(fresh.union(grown))

    def _with_anew(self, added: Parts, units: ir.Table, ends: Mapping[str, Any]) -> Parts:
        """Sum all events of units of which nothing that is kept can be used."""
        days = self.facts.of_days(first_us=ends["anew_first_us"], last_us=ends["anew_last_us"])
        anew = units.filter(units.is_anew)
        theirs = self._summed(events_in_window(self.experiment, days, self.watermark, anew))
        return replace(added, table=self.keep(added.table.union(theirs.table)))

    def _summed(self, near: ir.Table) -> Parts:
        stored = tallies(self.experiment, near, halves_of(self.experiment, near))
        return Parts(self.keep(due_units.per_unit(near, stored)), stored)

    def _calls(self, every: ir.Table, batch: int, due: ir.Table, late: ir.Table) -> ir.Table:
        """Return the calls of units that are due, as they were and as they are, and later ones."""
        every = every.filter(
            every.experiment == self.experiment.key, every.ingest_batch <= self.watermark.batch
        )
        theirs = every.select(*_CALLS).semi_join(due, "unit")
        return due_units.in_both(theirs, theirs.ingest_batch > batch).union(
            due_units.stated(late.select(*_CALLS).anti_join(due, "unit"), NEW)
        )

    def _reduced(
        self,
        calls: ir.Table,
        parts: Parts,
        span: Mapping[str, int | None],
        known: Reduced | None = None,
    ) -> Pending[Reduced]:
        own, price = attribution.per_unit(calls), dearest(calls, known)
        units = complete(self.experiment, parts, own, price)
        # First, since it takes longest to build.
        of_units = outcomes(self.experiment, parts, units, **span, engine=self.engine, known=known)
        bill = billed(self.experiment, calls, engine=self.engine, known=known)

        def found() -> Reduced:
            answered = of_units()  # first, as it was asked
            return bill() | answered

        return found

    def _models(self, calls: ir.Table) -> Pending[Sums]:
        return models(self.experiment, calls, self.watermark, self.engine)

    def _written(
        self, rows: Mapping[str, ir.Table], known: Manifest | None = None
    ) -> Pending[Files]:
        asked = {
            name: self.kept.write(rows[name], getattr(known, name, None), narrow=name == "sums")
            for name in FILES
        }
        return lambda: {name: files() for name, files in asked.items()}

    def _fewer(self, files: Files, early_us: int) -> Files:
        """Write many files of one kind as one."""
        return {
            name: self._one_of(name, files, early_us) if len(each) > MOST_FILES else each
            for name, each in files.items()
        }

    def _one_of(self, name: str, files: Files, early_us: int) -> Mapping[str, int]:
        found = self.kept.read(files[name])
        if name == "sums":
            # Kept first: of integers the engine returns wider sums than a file can hold.
            found = self.keep(due_units.summed(widened(found), "unit", "exposed_us"))
            return self.kept.write(found.order_by("exposed_us"), narrow=True)()
        if name == "firsts":
            found = first_seen(found).order_by("packed")
        if name == "early":
            firsts = self.kept.read(files["firsts"])
            found = due_units.early(self.experiment, found, firsts, early_us)
        return self.kept.write(found)()

    def _publish(
        self,
        files: Files,
        span: Mapping[str, int | None],
        sums: Reduced,
        strange: int,
        early_us: int,
    ) -> None:
        self.kept.publish(
            Manifest(
                early_us=early_us,
                key=self.key,
                batch=self.watermark.batch,
                cutoff_us=since_epoch(self.watermark.cutoff),
                facts=self.facts.documents,
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


def _refusals(sums: Reduced) -> list[str]:
    """Return why sums cannot be added to."""
    if ai_calls.has_tasks(sums):  # the number of distinct tasks is no sum
        return ["ai-tasks"]
    found = sums.latencies
    if isinstance(found, NotEstimable):
        return [found.reason]
    return ["too-many-values"] if sum(len(one.values) for one in found.values()) > MAXIMUM else []


def _without_unit() -> NoReturn:
    raise _AnewError("calls-without-unit")
