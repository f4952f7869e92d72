"""Refresh: bring cohorts up to date, and read an experiment out by them.

Kept are, per exposed unit, its first exposure, what its events add up to, and its AI calls; and
of all units together the sums that a readout is made of. A refresh finds the units that later
facts, or the time that has passed, say anything new about. It takes what they were off the sums
and puts in what they are. Nothing else is read but facts of later batches, and for units that are
new or were first exposed earlier than was known, the events around their exposure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import ai_calls, attribution
from klartext.analysis.cohorts import FILES, TABLES, Cohorts, Kept, Manifest, key_of
from klartext.analysis.diagnostics import halves_of
from klartext.analysis.engine import materialised, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.exposed import (
    assigned,
    changed_since,
    first_seen,
    instant_of,
    maturing,
    sightings,
    span_of,
    strangers,
)
from klartext.analysis.instants import since_epoch
from klartext.analysis.observed import MAXIMUM
from klartext.analysis.outcomes import Tallies, days_of, event_names, events_in_window, tallies
from klartext.analysis.quantiles import Observations
from klartext.analysis.readout import (
    Readout,
    assembled,
    billed,
    oldest_offset,
    outcomes,
    shares_of,
)
from klartext.analysis.reduced import Reduced, WornOffError
from klartext.analysis.result import CohortUse
from klartext.analysis.unit_table import Parts, complete
from klartext.experiments.experiment import Experiment
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.door import TableName

MOST_FILES = 8
"""More files of one kind than this are read once more and written as one."""

_NOTHING = -1
"""Below every batch."""

_CALLS = (
    "unit", "experiment", "variant", "category", "provider", "model", "source", "evidence",
    "amount",
    "input_tokens", "output_tokens", "cached_tokens", "task", "duration_ms", "error", "prompt",
    "occurred_at", "ingest_batch",
)  # fmt: skip


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
    facts = {name: cohorts.store.identity(name) for name in TABLES}
    key, kept = key_of(experiment, cohorts.store), cohorts.of(experiment)
    known, reason = kept.published(key, watermark, facts)
    if known is not None and oldest_offset(experiment, watermark) != oldest_offset(
        experiment, known.watermark
    ):
        known, reason = None, "clock-change"
    kept.folder.mkdir(parents=True, exist_ok=True)
    documents = {str(name): one.document() for name, one in facts.items()}
    with ExitStack() as meanwhile:

        def keep(lazy: ir.Table) -> ir.Table:
            return meanwhile.enter_context(materialised(cohorts.engine, lazy))

        refresh = _Refresh(cohorts, experiment, watermark, keep, kept, known)
        return refresh.run(key, documents, reason)


@dataclass(frozen=True, slots=True)
class _State:
    """Some units at a watermark."""

    exposed: ir.Table
    parts: Parts
    usage_costs: ir.Table
    calls: ir.Table
    watermark: Watermark


@dataclass(frozen=True, slots=True)
class _Found:
    """The units that there is something new about.

    Parameters
    ----------
    old, new
        As they were at the last watermark, and as they are; old is None when all are new.
    changed
        Those of `klartext.analysis.exposed.changed_since`.
    stored
        What the stored tallies mean.
    files
        All files that count now.
    """

    old: _State | None
    new: _State
    changed: ir.Table
    stored: Tallies
    files: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class _Refresh:
    """One refresh of the cohorts of one experiment; ``known`` is what it adds to."""

    cohorts: Cohorts
    experiment: Experiment
    watermark: Watermark
    keep: Callable[[ir.Table], ir.Table]
    kept: Kept
    known: Manifest | None

    def run(self, key: str, facts: Mapping[str, Any], reason: str | None) -> Readout:
        """Read what is new, publish all there is, and return it."""
        found = self._gathered()
        if found is None:
            return replace(self, known=None).run(key, facts, "moved")
        files = found.files

        @cache
        def everybody() -> _State:
            if found.old is None:
                return found.new
            first = first_seen(self.kept.read(files["firsts"]))
            units = self.keep(assigned(self.experiment, first, self.watermark))
            sums, calls = self.kept.read(files["sums"]), self.kept.read(files["calls"])
            return self._state(units, sums, found.stored, calls, self.watermark)

        try:
            bill, columns, anew = self._reduced(found, everybody)
        except KeyError:  # something is to be taken off that never was put in
            return replace(self, known=None).run(key, facts, "unreadable")
        span = self._span(found)
        if ai_calls.has_tasks(bill):  # the number of distinct tasks is no sum
            anew = "ai-tasks"
        elif isinstance(bill.latencies, NotEstimable):
            anew = bill.latencies.reason
        else:
            self.kept.publish(
                Manifest(
                    key,
                    self.watermark.batch,
                    since_epoch(self.watermark.cutoff),
                    facts,
                    *span,
                    **{name: self._fewer(name, files[name]) for name in FILES},  # type: ignore[arg-type] # the names of its fields
                    bill=bill.document(),
                    columns=columns.document(),
                )
            )

        def of_all() -> Mapping[str, Observations] | NotEstimable:
            calls = everybody().calls
            variants = [variant.key for variant in self.experiment.variants]
            return ai_calls.latencies(calls.filter(calls.counted), variants, self.engine)

        total = sum(int(n) for n, _ in bill.exact["sharing"].values())
        built = self._count(found.changed.filter(found.changed.built))
        readout = assembled(
            self.experiment,
            bill | columns,
            self.watermark,
            self.cohorts.store.unbound().events,
            of_all=of_all,
        )
        return replace(
            readout,
            first_exposure=_instant(span[0]),
            last_exposure=_instant(span[1]),
            strangers=self._count(self.kept.read(files["strangers"])),
            cohorts=CohortUse(total - built, built, anew or reason),
        )

    def _gathered(self) -> _Found | None:
        """Read what is new and write it; None when all must be read."""
        known = self.known
        files = {name: dict(getattr(known, name)) if known else {} for name in FILES}
        late_calls = self.keep(self._late_calls())
        exposures = self._late("exposures")
        now = first = self.keep(first_seen(sightings(self.experiment, exposures, self.watermark)))
        before = touched = None
        if known:
            touched = self.keep(self._touched(known, first, late_calls))
            before = self.keep(first_seen(self._some(files["firsts"], touched)))
            now = self.keep(first_seen(before.union(first)))
        changed = self.keep(changed_since(now, before))
        exposed = self.keep(assigned(self.experiment, now, self.watermark))
        added, stored = self._added(exposed, changed, files["sums"])
        if known and _has_floats(added) and self._count(changed.filter(changed.moved)):
            return None  # floats that are taken back from a sum leave not quite nothing
        sums = added = self.keep(added)
        calls, old = late_calls, None
        if known and before is not None and touched is not None:
            mine = self.keep(self._some(files["sums"], touched))
            called = self.keep(self._some(files["calls"], touched))
            was = self.keep(assigned(self.experiment, before, known.watermark))
            old = self._state(was, mine, stored, called, known.watermark)
            sums, calls = mine.union(added), self.keep(called.union(late_calls))
        new = self._state(exposed, sums, stored, calls, self.watermark)
        more = {
            "firsts": changed.select("unit", "packed", "low", "high"),
            "sums": added,
            "calls": late_calls,
            "strangers": self.keep(self._strangers(exposures, files["strangers"])),
        }
        for name, rows in more.items():
            if not files[name] or self._count(rows):
                files[name] |= self.kept.write(rows)
        return _Found(old, new, changed, stored, files)

    @property
    def engine(self) -> BaseBackend:
        """The engine of everything."""
        return self.cohorts.engine

    @property
    def batch(self) -> int:
        """The last batch that is known."""
        return _NOTHING if self.known is None else self.known.batch

    def _reduced(
        self, found: _Found, everybody: Callable[[], _State]
    ) -> tuple[Reduced, Reduced, str | None]:
        """Return the sums of all units, and why they were added up anew if they were."""
        if self.known is None or found.old is None:
            bill = self._bill(found.new)
            return bill, self._columns(found.new, bill), None
        before = Reduced.of_document(self.known.bill)
        try:
            bill = before.replaced(self._bill(found.old), self._bill(found.new))
            _require_few(bill)
            if shares_of(before).each != shares_of(bill).each:
                return bill, self._columns(everybody(), bill), "shared-costs"
            columns = Reduced.of_document(self.known.columns).replaced(
                self._columns(found.old, before), self._columns(found.new, bill)
            )
        except WornOffError:
            bill = self._bill(everybody())
            return bill, self._columns(everybody(), bill), "worn-off"
        return bill, columns, None

    def _bill(self, state: _State) -> Reduced:
        return billed(
            self.experiment,
            state.exposed,
            state.usage_costs,
            state.calls,
            state.watermark,
            engine=self.engine,
        )

    def _columns(self, state: _State, bill: Reduced) -> Reduced:
        own = self.keep(attribution.per_unit(state.calls))
        units = complete(self.experiment, state.parts, own, self.keep(shares_of(bill).table))
        return outcomes(self.experiment, state.parts, units, state.watermark, engine=self.engine)

    def _state(
        self,
        exposed: ir.Table,
        sums: ir.Table,
        stored: Tallies,
        calls: ir.Table,
        watermark: Watermark,
    ) -> _State:
        table = self.keep(exposed.left_join(_summed(sums), "unit").drop("unit_right"))
        charged = attribution.attribute(self.experiment, calls, watermark, exposed)
        return _State(exposed, Parts(table, stored), calls, self.keep(charged), watermark)

    def _late(self, table: TableName) -> ir.Table:
        """Return the rows of later batches, from the files that can have some."""

        def matters(_: date, newest: int | None) -> bool:
            return newest is None or newest > self.batch

        found = self.cohorts.store.table(table, self.engine, matters=matters)
        return found.filter(
            found.ingest_batch > self.batch, found.ingest_batch <= self.watermark.batch
        )

    def _late_calls(self) -> ir.Table:
        calls = self._late("usage_costs")
        return calls.filter(calls.experiment == self.experiment.key).select(*_CALLS)

    def _touched(self, known: Manifest, first: ir.Table, calls: ir.Table) -> ir.Table:
        """Return the units that later facts or the time may say something new about."""
        events = self._late("events")
        events = events.filter(events.name.isin(event_names(self.experiment)))
        found = first.select("unit").union(events.select("unit"))
        found = found.union(calls.filter(calls.unit.notnull()).select("unit"))
        if known.firsts:
            rows = self.kept.read(known.firsts)
            due = maturing(self.experiment, rows, known.watermark, self.watermark)
            found = found.union(due.select("unit"))
        return found.distinct()

    def _added(
        self, exposed: ir.Table, changed: ir.Table, files: Mapping[str, int]
    ) -> tuple[ir.Table, Tallies]:
        """Return what is to be added to the stored tallies, and what they mean."""
        built = changed.filter(changed.built)
        first, last = days_of(self.experiment, **self._ends(built))
        events = self.cohorts.store.table(
            "events", self.engine, matters=lambda day, _: first <= day <= last
        )
        events = events.filter(events.day >= ibis.date(first), events.day <= ibis.date(last))
        added, stored = self._tallied(events, exposed.semi_join(built, "unit"))
        if self.known is None:
            return added, stored
        more, _ = self._tallied(self._late("events"), exposed.anti_join(built, "unit"))
        added = added.union(more)
        if files:  # sums of integers and decimals: nothing is left of what is taken back
            gone = self.kept.read(files).semi_join(changed.filter(changed.moved), "unit")
            names = [name for name in gone.columns if name != "unit"]
            gone = gone.select("unit", **{name: -gone[name] for name in names})
            added = added.union(gone.cast(added.schema()))
        return added, stored

    def _tallied(self, events: ir.Table, units: ir.Table) -> tuple[ir.Table, Tallies]:
        near = events_in_window(self.experiment, events, self.watermark, units)
        found = tallies(self.experiment, near, halves_of(self.experiment, near))
        return found.per_unit(near), found

    def _ends(self, built: ir.Table) -> dict[str, int | None]:
        at = built.mutate(exposed_us=instant_of(built.packed))
        (ends,) = rows_of(self.engine, span_of(at))
        return ends

    def _span(self, found: _Found) -> tuple[int | None, int | None]:
        """Return the first and last exposure of all units."""
        exposed, known = found.new.exposed, self.known
        if known and self._count(found.changed.filter(found.changed.moved)):
            first = first_seen(self.kept.read(found.files["firsts"]))
            exposed, known = first.mutate(exposed_us=instant_of(first.packed)), None
        (ends,) = rows_of(self.engine, span_of(exposed))
        lows = [ends["first_us"], known.first_us if known else None]
        highs = [ends["last_us"], known.last_us if known else None]
        return (
            min((low for low in lows if low is not None), default=None),
            max((high for high in highs if high is not None), default=None),
        )

    def _strangers(self, exposures: ir.Table, files: Mapping[str, int]) -> ir.Table:
        found = strangers(self.experiment, exposures, self.watermark)
        return found.anti_join(self.kept.read(files), "unit") if files else found

    def _count(self, table: ir.Table) -> int:
        (row,) = rows_of(self.engine, table.aggregate(rows=table.count()))
        return int(row["rows"])

    def _some(self, files: Mapping[str, int], touched: ir.Table | None) -> ir.Table:
        found = self.kept.read(files)
        return found if touched is None else found.semi_join(touched, "unit")

    def _fewer(self, name: str, files: Mapping[str, int]) -> Mapping[str, int]:
        """Write many files of one kind as one."""
        if len(files) <= MOST_FILES:
            return files
        found = self.kept.read(files)
        if name == "firsts":
            found = first_seen(found)
        if name == "sums":
            found = _summed(found)
        return self.kept.write(self.keep(found))


def _require_few(bill: Reduced) -> None:
    """Refuse more distinct durations than an analysis of all facts would."""
    found = bill.latencies
    if isinstance(found, Mapping) and sum(len(one.values) for one in found.values()) > MAXIMUM:
        raise WornOffError


def _summed(sums: ir.Table) -> ir.Table:
    names = [name for name in sums.columns if name != "unit"]
    each = sums.group_by("unit").aggregate(**{name: sums[name].sum() for name in names})
    return each.cast(sums.schema())


def _has_floats(table: ir.Table) -> bool:
    return any(kind.is_floating() for kind in table.schema().types)


def _instant(since_1970: int | None) -> datetime | None:
    return None if since_1970 is None else from_microseconds(since_1970)
