"""Due units: of which the sums of all units are not right any more, as they were and as they are.

A table of them has a ``state``, so that one pass reduces both.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from klartext.analysis import covariates
from klartext.analysis.columns import STATE, event_names
from klartext.analysis.exposed import (
    assigned,
    instant_of,
    is_mature,
    latest_mature,
    maturing,
)
from klartext.analysis.instants import microseconds, since_epoch, whole
from klartext.analysis.outcomes import Tallies
from klartext.analysis.reduced import NEW, OLD
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment
from klartext.experiments.watermark import Watermark

MORE = 2
"""State of a unit that only has more events: in no comparison, neither before nor now."""


@dataclass(frozen=True, slots=True)
class Late:
    """Later batches: `klartext.analysis.exposed.first_seen`, events, calls of the experiment."""

    firsts: ir.Table
    events: ir.Table
    calls: ir.Table


def later(  # noqa: PLR0913 - what is kept, what came, and from when to when
    experiment: Experiment,
    firsts: ir.Table,
    late: Late,
    *,
    early_us: int,
    since: Watermark,
    until: Watermark,
) -> ir.Table:
    """Return the units that later facts or the time may say something new about.

    Parameters
    ----------
    experiment
        Resolved spec.
    firsts
        From `klartext.analysis.exposed.first_seen`; several rows of a unit are reduced.
    late
        What came after ``since``.
    early_us
        From which instant on the `early` events are kept.
    since, until
        Watermarks of ``firsts``, and of now.

    Returns
    -------
    ibis.Table
        As `klartext.analysis.exposed.first_seen`, with ``exposed_us`` and ``mature``. ``then``,
        ``least`` and ``most`` are what ``packed``, ``low`` and ``high`` were, ``then_us`` was
        ``exposed_us``; null when it ``is_new``. A unit ``is_changed`` when they differ. It is built
        ``is_anew`` from all facts of its days when the instant has moved, or is that of a new one
        before early events were kept. It ``is_due`` when the sums of all units are not right any
        more but for events added.
    """
    wanted = late.events.filter(late.events.name.isin(event_names(experiment)))
    called = late.calls.filter(late.calls.unit.notnull())
    called = called.group_by("unit").aggregate(called_us=microseconds(called.occurred_at).min())
    # Of a unit all rows are needed: a later one may say that it was exposed before.
    due = maturing(experiment, firsts, since, until).select("unit")
    touched = late.firsts.select("unit").union(wanted.select("unit"), called.select("unit"), due)
    before = firsts.semi_join(touched, "unit")
    nothing = ibis.null("int64")
    names = {"then": "packed", "least": "low", "most": "high"}
    rows = before.mutate(**{name: before[of] for name, of in names.items()}, called_us=nothing)
    rows = rows.union(
        late.firsts.mutate(**dict.fromkeys(names, nothing), called_us=nothing),
        called.select(
            "unit", packed=nothing, low=nothing, high=nothing,
            **dict.fromkeys(names, nothing), called_us="called_us",
        ),
    )  # fmt: skip
    found = rows.group_by("unit").aggregate(
        packed=rows.packed.min(), low=rows.low.min(), high=rows.high.max(),
        then=rows.then.min(), least=rows.least.min(), most=rows.most.max(),
        called_us=rows.called_us.min(),
    )  # fmt: skip
    found = found.filter(found.packed.notnull())
    now, then = instant_of(found.packed), instant_of(found.then)
    is_new = found.then.isnull()
    is_other = (
        (found.packed != found.then) | (found.low != found.least) | (found.high != found.most)
    )
    mature = is_mature(experiment, now, until)
    was_mature = is_mature(experiment, then, since)
    is_changed = is_new | is_other
    earliest = early_us + whole(covariates.longest_lookback(experiment))
    costs_more = found.called_us < now + whole(windows(experiment).cost)
    is_due = is_changed | (mature & (~was_mature | costs_more.fill_null(False)))  # noqa: FBT003 - Ibis
    return found.mutate(
        exposed_us=now,
        then_us=then,
        mature=mature,
        is_new=is_new,
        is_anew=is_new.ifelse(now < earliest, now != then),
        is_changed=is_changed,
        is_due=is_due,
    )


def in_states(
    experiment: Experiment, due: ir.Table, more: ir.Table, *, since: Watermark, until: Watermark
) -> ir.Table:
    """Return units that are due, and those that only have ``more`` events, in all their states."""
    known = due.filter(due.then.notnull())
    before = known.select("unit", packed="then", low="least", high="most")
    return stated(assigned(experiment, before, since), OLD).union(
        as_now(experiment, due, until), stated(assigned(experiment, more, until), MORE)
    )


def as_now(experiment: Experiment, units: ir.Table, until: Watermark) -> ir.Table:
    """Return units as they are."""
    return stated(assigned(experiment, units, until), NEW)


def standing(
    experiment: Experiment, sums: ir.Table, due: ir.Table, *, since: Watermark, until: Watermark
) -> ir.Table:
    """Return the kept sums of units that are due, as they were."""
    before, latest = (latest_mature(experiment, each) for each in (since, until))

    def matures(at: ir.IntegerValue) -> ir.BooleanValue:
        return (at > before) & (at <= latest)

    # Most of them are those that mature, which lie together: the rest of a file is for few.
    maturing, others = due.filter(matures(due.then_us)), due.filter(~matures(due.then_us))
    return (
        sums.filter(matures(sums.exposed_us))
        .semi_join(maturing, "unit")
        .union(sums.filter(~matures(sums.exposed_us)).semi_join(others, "unit"))
    )


def ends_of(units: ir.Table) -> ir.Table:
    """Return one row: how many are built, and the first and last instants of `later` units."""
    anew = units.is_anew
    return units.aggregate(
        first_us=units.exposed_us.min(),
        last_us=units.exposed_us.max(),
        built=(units.is_new | anew).sum().fill_null(0),
        anew_first_us=units.exposed_us.min(where=anew),
        anew_last_us=units.exposed_us.max(where=anew),
        gone_us=units.then_us.max(where=anew),
    )


def early(experiment: Experiment, events: ir.Table, exposed: ir.Table, since_us: int) -> ir.Table:
    """Return the events from an instant on, in UTC, of units that have no exposure.

    They may count for them once they have one. The columns are those that `events_in_window` reads.
    """
    own = [name for name in events.columns if name.startswith("p_")]
    found = events.filter(
        events.name.isin(event_names(experiment)), microseconds(events.occurred_at) >= since_us
    )
    found = found.select("unit", "name", "occurred_at", "value", "currency", "ingest_batch", *own)
    return found.anti_join(exposed, "unit")


def early_since(experiment: Experiment, watermark: Watermark) -> int:
    """Return the earliest instant of an event, in microseconds, that a later exposure may need."""
    wait = covariates.longest_lookback(experiment) + experiment.lateness
    return since_epoch(watermark.cutoff) - whole(wait)


def per_unit(near: ir.Table, stored: Tallies) -> ir.Table:
    """Sum events per unit and first exposure: one that moves makes its earlier sums void."""
    return near.group_by("unit", "exposed_us").aggregate(**stored.aggregates)


def summed(sums: ir.Table, *keys: str) -> ir.Table:
    """Add up rows that share ``keys``."""
    names = [name for name in sums.columns if name not in keys]
    each = sums.group_by(*keys).aggregate(**{name: sums[name].sum() for name in names})
    return each.select(*sums.columns).cast(sums.schema())


def with_sums(states: ir.Table, due: ir.Table, stands: ir.Table, added: ir.Table) -> ir.Table:
    """Return units with the sums of their events: those that stand, and those that are added."""
    keys = [STATE, "unit", "exposed_us"]
    stands = in_both(stands.select(*added.columns).cast(added.schema()))
    of_due = stated(added.semi_join(due, "unit"), NEW).select(*stands.columns)
    found = summed(stands.union(of_due), *keys)
    found = found.union(stated(added.anti_join(due, "unit"), MORE).select(*found.columns))
    return states.left_join(found, keys).drop(*(f"{key}_right" for key in keys))


def in_both(table: ir.Table, is_new: ir.BooleanValue | None = None) -> ir.Table:
    """Repeat rows in the state of the past and the present; those where ``is_new`` only in this."""
    both = ibis.array([OLD, NEW]).cast("array<int64>")
    states = both if is_new is None else is_new.ifelse(both[1:], both)
    return table.mutate(**{STATE: states.unnest()})


def stated(table: ir.Table, state: int) -> ir.Table:
    """Add a column with the state."""
    return table.mutate(**{STATE: ibis.literal(state, "int64")})
