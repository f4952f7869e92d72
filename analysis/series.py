"""The course of an experiment: by calendar day, by days since exposure, and by weekly cohort.

Charts, never estimands: the rows of one chart hold different units, or units of different age. What
is decided on are the mature units of `klartext.analysis.readout`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import attribution, hits
from klartext.analysis.aliases import merged
from klartext.analysis.columns import count_columns
from klartext.analysis.engine import materialised, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.exposed import exposed_units, reached_units
from klartext.analysis.instants import microseconds, since_epoch, whole
from klartext.analysis.local_days import (
    DAY,
    clock_changes,
    day_of,
    end_of,
    midnight,
    whole_days,
)
from klartext.analysis.outcomes import events_in_window
from klartext.analysis.unit_table import line_amount
from klartext.analysis.windows import windows
from klartext.experiments.experiment import ContributionMargin, Experiment, Metric, Worth
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables

SUMMED = frozenset({"conversion", "retention", "count", "mean"})
"""Kinds of metrics whose total is the sum of those of the days."""

_Aggregate: TypeAlias = Callable[[ir.Table], ir.NumericScalar]

Totals: TypeAlias = Mapping[str, float]
"""Sums over units by metric, and ``margin``, ``cost`` and ``net``, in their units."""


@dataclass(frozen=True, slots=True)
class DayRow:
    """What happened on a calendar day of the workspace, over all exposed units of a variant.

    ``exposed`` counts those whose exposure was on it. A conversion is counted on its first day.
    ``complete``: the day was over, with the declared lateness, before the watermark's cutoff.
    """

    day: date
    variant: str
    exposed: int
    totals: Totals
    complete: bool


@dataclass(frozen=True, slots=True)
class AgeRow:
    """What units did on day ``age`` after their exposure, 24 hours each, from 0 on.

    Over the ``units`` that have lived through that day, with the declared lateness.
    """

    age: int
    variant: str
    units: int
    totals: Totals


@dataclass(frozen=True, slots=True)
class CohortRow:
    """What the units exposed in the week from ``week`` did in week ``age`` after their exposure.

    ``totals`` is `NotEstimable` until all of them have lived through it.
    """

    week: date
    age: int
    variant: str
    units: int
    totals: Totals | NotEstimable


@dataclass(frozen=True, slots=True)
class Series:
    """The course of an experiment at one watermark.

    Parameters
    ----------
    timezone
        Of the calendar days.
    metrics
        Those in the totals. Amounts are without caps: a cap holds for a unit, not for a day.
    ratios
        Numerator and denominator of each ratio, to be divided by the reader.
    left_out
        Metrics that are no sums.
    days, ages, cohorts
        In order of time, then of the variants in the spec; only days on which anything happened.
    """

    timezone: str
    metrics: tuple[str, ...]
    ratios: Mapping[str, tuple[str, str]]
    left_out: tuple[str, ...]
    days: tuple[DayRow, ...]
    ages: tuple[AgeRow, ...]
    cohorts: tuple[CohortRow, ...]


@dataclass(frozen=True, slots=True)
class _Sum:
    """A sum over some units of a variant, exposed on one day, at one age and on one day."""

    variant: str
    exposed: int
    age: int
    day: int
    lived: bool
    totals: Totals


@dataclass(frozen=True, slots=True)
class _Exposed:
    """Units of a variant exposed on one local day that have lived the same number of days."""

    variant: str
    exposed: int
    lived: int
    n: int


def read_series(
    experiment: Experiment, tables: FactTables, watermark: Watermark, *, engine: BaseBackend
) -> Series:
    """Read the course of an experiment out of the facts, as sums.

    Parameters
    ----------
    experiment
        Resolved spec.
    tables
        Facts as Ibis tables of one engine.
    watermark
        Later batches are not seen; which days are complete is judged at its cutoff.
    engine
        The engine of ``tables``.

    Notes
    -----
    Units seen in two variants are left out, and calls after the window of cost. AI calls count on
    the day they were made; before the exposure they have age 0. Calls that a variant's
    units share have no age: by age and by cohort they are spread evenly over the units, at age 0.
    """
    with ExitStack() as kept:

        def keep(lazy: ir.Table) -> ir.Table:
            return kept.enter_context(materialised(engine, lazy))

        tables = merged(tables, watermark, keep)
        units = keep(exposed_units(experiment, tables.exposures, watermark))
        units = keep(reached_units(experiment, units, tables.events, watermark))
        ends = units.aggregate(first=units.exposed_us.min(), last=units.exposed_us.max())
        (extent,) = rows_of(engine, ends)
        if extent["first"] is None:
            return _series(experiment, watermark, (), (), {})
        last = from_microseconds(extent["last"]) + windows(experiment).maturity
        first = min(from_microseconds(extent["first"]), watermark.cutoff)
        # Calls can be older than every exposure, and than the window of the youngest unit.
        margin = timedelta(days=1)
        calls = attribution.attribute(experiment, tables.usage_costs, watermark, units)
        called = microseconds(calls.occurred_at)
        (span,) = rows_of(engine, calls.aggregate(first=called.min(), last=called.max()))
        if span["first"] is not None:
            first = min(first, from_microseconds(span["first"]))
            last = max(last, from_microseconds(span["last"]))
        changes = clock_changes(
            experiment.timezone, first - margin, max(last, watermark.cutoff) + margin
        )
        compared = units.filter(~units.excluded).select("unit", "variant", "exposed_us")
        events = events_in_window(experiment, tables.events, watermark, compared)
        sums = _Sums(experiment, compared, changes, watermark, engine)
        found = [*sums.of_events(events), *sums.of_calls(calls)]
        for metric in _rates(experiment):
            found += sums.of_first(events, metric)
        return _series(experiment, watermark, tuple(found), sums.exposed(), sums.shared(calls))


@dataclass(frozen=True, slots=True)
class _Sums:
    """The queries: each groups by variant, day of exposure, age, day, and whether lived through."""

    experiment: Experiment
    units: ir.Table
    changes: tuple[tuple[int, int], ...]
    watermark: Watermark
    engine: BaseBackend

    def exposed(self) -> tuple[_Exposed, ...]:
        """Count the units by day of exposure and whole days lived since."""
        units, known = self.units, self._known()
        lived = whole_days(ibis.greatest(known - units.exposed_us, 0))
        keyed = units.select("variant", day=midnight(units.exposed_us, self.changes), lived=lived)
        rows = keyed.group_by("variant", "day", "lived").aggregate(n=keyed.count())
        return tuple(
            _Exposed(row["variant"], row["day"], row["lived"] // DAY, row["n"])
            for row in rows_of(self.engine, rows)
        )

    def of_events(self, events: ir.Table) -> Iterable[_Sum]:
        """Sum counts and amounts of events, and count those of cost lines."""
        experiment = self.experiment
        columns: dict[str, _Aggregate] = {}
        for metric in experiment.metrics:
            if metric.kind == "count":
                columns[metric.key] = partial(_count, experiment, metric)
            elif metric.kind == "mean":
                columns[metric.key] = partial(_amount, experiment, metric)
        window = windows(experiment).cost
        for name, column in count_columns(experiment).items():
            columns[column] = partial(_occurrences, experiment, name, window)
        if not columns:
            return ()
        after = events.filter(events.age >= 0)
        return self._grouped(after, microseconds(after.occurred_at), columns)

    def of_first(self, events: ir.Table, metric: Metric) -> Iterable[_Sum]:
        """Count units by the first event that makes them convert."""
        hit = hits.hits(self.experiment, events, metric)
        first = events.filter(hit).group_by("unit", "exposed_us").aggregate(age=events.age.min())
        return self._grouped(
            first, first.exposed_us + first.age, {metric.key: lambda table: table.count()}
        )

    def of_calls(self, calls: ir.Table) -> Iterable[_Sum]:
        """Sum what AI calls of units cost."""
        direct = calls.filter(calls.charged_to == attribution.UNIT).drop("variant")
        since = self.units.select(owner=self.units.unit, exposed_us=self.units.exposed_us)
        direct = direct.inner_join(since, direct.unit == since.owner)
        at = microseconds(direct.occurred_at)
        direct = direct.mutate(age=ibis.greatest(at - direct.exposed_us, 0))
        return self._grouped(
            direct, microseconds(direct.occurred_at), {_CALLS: lambda table: table.amount.sum()}
        )

    def shared(self, calls: ir.Table) -> Mapping[tuple[str, int], float]:
        """Sum the calls that units of a variant share, by variant and day."""
        shared = calls.filter(calls.charged_to == attribution.SHARED)
        shared = shared.mutate(day=midnight(microseconds(shared.occurred_at), self.changes))
        rows = shared.group_by("variant", "day").aggregate(total=_float(shared.amount.sum()))
        return {(row["variant"], row["day"]): row["total"] for row in rows_of(self.engine, rows)}

    def _grouped(
        self,
        rows: ir.Table,
        at: ir.IntegerValue,
        columns: Mapping[str, _Aggregate],
    ) -> Iterable[_Sum]:
        age = whole_days(rows.age)
        lived = rows.exposed_us + age + DAY <= self._known()
        keyed = rows.mutate(
            to_day=midnight(at, self.changes),
            from_day=midnight(rows.exposed_us, self.changes),
            at_age=age,
            lived=lived,
        )
        owners = self.units.select(owner=self.units.unit, of_variant=self.units.variant)
        keyed = keyed.inner_join(owners, keyed.unit == owners.owner)
        keys = ("of_variant", "from_day", "at_age", "to_day", "lived")
        sums = keyed.group_by(*keys).aggregate(
            **{f"c{i}": _float(make(keyed)) for i, make in enumerate(columns.values())}
        )
        for row in rows_of(self.engine, sums):
            totals = {name: row[f"c{i}"] for i, name in enumerate(columns)}
            yield _Sum(
                row["of_variant"], row["from_day"], row["at_age"] // DAY, row["to_day"],
                row["lived"], totals,
            )  # fmt: skip

    def _known(self) -> int:
        """Microsecond up to which everything that was to come has come."""
        return since_epoch(self.watermark.cutoff) - whole(self.experiment.lateness)


_CALLS = " calls"  # no metric can be called that


def _float(total: ir.NumericScalar) -> ir.FloatingScalar:
    return total.fill_null(0).cast("float64")


def _count(experiment: Experiment, metric: Metric, events: ir.Table) -> ir.NumericScalar:
    return events.count(where=hits.hits(experiment, events, metric))


def _occurrences(
    experiment: Experiment, name: str, window: timedelta, events: ir.Table
) -> ir.NumericScalar:
    return events.count(where=hits.counts(experiment, events, name, window))


def _amount(experiment: Experiment, metric: Metric, events: ir.Table) -> ir.NumericScalar:
    hit = hits.hits(experiment, events, metric)
    total = hits.amount(experiment, events, metric).sum(where=hit).fill_null(0)
    if metric.refunds is None:
        return total
    back = hits.refund_amount(experiment, events, metric)
    refunded = back.sum(where=hits.refund_hits(experiment, events, metric)).fill_null(0)
    return total.cast("decimal(37, 12)") - refunded.cast("decimal(37, 12)")


def _rates(experiment: Experiment) -> tuple[Metric, ...]:
    return tuple(metric for metric in experiment.metrics if metric.is_rate)


def _series(
    experiment: Experiment,
    watermark: Watermark,
    sums: tuple[_Sum, ...],
    exposed: tuple[_Exposed, ...],
    shared: Mapping[tuple[str, int], float],
) -> Series:
    """Add up the groups in the three ways."""
    summed = tuple(metric.key for metric in experiment.metrics if metric.kind in SUMMED)
    kinds = {metric.key: metric.kind for metric in experiment.metrics}
    return Series(
        timezone=experiment.timezone,
        metrics=summed,
        ratios={
            metric.key: (metric.numerator, metric.denominator)
            for metric in experiment.metrics
            if metric.numerator in summed and metric.denominator in summed
        },
        left_out=tuple(
            key for key, kind in kinds.items() if kind not in SUMMED and kind != "ratio"
        ),
        days=tuple(_days(experiment, watermark, sums, exposed, shared)),
        ages=tuple(_ages(experiment, sums, exposed, shared)),
        cohorts=tuple(_cohorts(experiment, sums, exposed, shared)),
    )


def _days(
    experiment: Experiment,
    watermark: Watermark,
    sums: Iterable[_Sum],
    exposed: Iterable[_Exposed],
    shared: Mapping[tuple[str, int], float],
) -> Iterable[DayRow]:
    totals, counts = _Adder(), defaultdict[tuple[int, str], int](int)
    for group in exposed:
        counts[group.exposed, group.variant] += group.n
        totals.units(experiment, (group.exposed, group.variant), group.n)
    for one in sums:
        totals.add((one.day, one.variant), one.totals)
    for (variant, at), amount in shared.items():
        totals.add((at, variant), {_CALLS: amount})
    for local in sorted({found for found, _ in totals.sums}):
        day = day_of(local)
        over = end_of(day, experiment.timezone) + experiment.lateness <= watermark.cutoff
        for arm in experiment.variants:
            key = (local, arm.key)
            yield DayRow(day, arm.key, counts[key], totals.of(experiment, key), complete=over)


def _ages(
    experiment: Experiment,
    sums: Iterable[_Sum],
    exposed: tuple[_Exposed, ...],
    shared: Mapping[tuple[str, int], float],
) -> Iterable[AgeRow]:
    totals = _Adder()
    for one in sums:
        if one.lived:
            totals.add((one.age, one.variant), one.totals)
    each = _shared_per_unit(exposed, shared)
    oldest = max((group.lived for group in exposed), default=0)
    for age in range(min(oldest, _ages_of(experiment))):
        for variant in experiment.variants:
            units = sum(g.n for g in exposed if g.variant == variant.key and g.lived > age)
            key = (age, variant.key)
            if age == 0:
                totals.units(experiment, key, units)
                totals.add(key, {_CALLS: units * each.get(variant.key, 0.0)})
            yield AgeRow(age, variant.key, units, totals.of(experiment, key))


def _cohorts(
    experiment: Experiment,
    sums: Iterable[_Sum],
    exposed: tuple[_Exposed, ...],
    shared: Mapping[tuple[str, int], float],
) -> Iterable[CohortRow]:
    totals, units = _Adder(), defaultdict[tuple[date, str], int](int)
    lived: dict[date, int] = {}
    for group in exposed:
        week = _week(group.exposed)
        units[week, group.variant] += group.n
        lived[week] = min(lived.get(week, group.lived), group.lived)
    for one in sums:
        totals.add((_week(one.exposed), one.age // 7, one.variant), one.totals)
    each = _shared_per_unit(exposed, shared)
    for (week, variant), n in units.items():
        totals.units(experiment, (week, 0, variant), n)
        totals.add((week, 0, variant), {_CALLS: n * each.get(variant, 0.0)})
    ages = -(-_ages_of(experiment) // 7)
    for week in sorted(lived):
        for age in range(ages):
            over = lived[week] >= 7 * (age + 1)
            for arm in experiment.variants:
                found = totals.of(experiment, (week, age, arm.key)) if over else _YOUNG
                yield CohortRow(week, age, arm.key, units[week, arm.key], found)


_YOUNG = NotEstimable("cohort-incomplete", "not all units of the cohort are that old yet")


def _ages_of(experiment: Experiment) -> int:
    """Return the days since exposure in which anything can count; at least one."""
    return max(1, -(-whole(windows(experiment).maturity) // DAY))


def _week(local: int) -> date:
    """Return the Monday of a local day."""
    day = day_of(local)
    return day - timedelta(days=day.weekday())


def _shared_per_unit(
    exposed: Iterable[_Exposed], shared: Mapping[tuple[str, int], float]
) -> Mapping[str, float]:
    units, amounts = defaultdict[str, int](int), defaultdict[str, float](float)
    for group in exposed:
        units[group.variant] += group.n
    for (variant, _), amount in shared.items():
        amounts[variant] += amount
    return {variant: amount / max(units[variant], 1) for variant, amount in amounts.items()}


class _Adder:
    """Adds totals up by key; the variant is the last part of every key."""

    def __init__(self) -> None:
        self.sums: dict[Any, dict[str, float]] = {}

    def add(self, key: Any, totals: Totals) -> None:
        found = self.sums.setdefault(key, {})
        for name, amount in totals.items():
            found[name] = found.get(name, 0.0) + amount

    def units(self, experiment: Experiment, key: Any, n: int) -> None:
        """Charge what exposed units cost by being exposed."""
        variant = key[-1]
        for line in experiment.costs.lines:
            if line.behaviour == "unit" and line.variant in {None, variant}:
                self.add(key, {_CALLS: n * float(line_amount(line, "base"))})
        self.add(key, {})

    def of(self, experiment: Experiment, key: Any) -> Totals:
        """Return the metrics, margin, cost and net of one key."""
        found, variant = self.sums.get(key, {}), key[-1]
        cost = found.get(_CALLS, 0.0)
        columns = count_columns(experiment)
        for line in experiment.costs.lines:
            if line.event is not None and line.variant in {None, variant}:
                cost += found.get(columns[line.event], 0.0) * float(line_amount(line, "base"))
        margin = 0.0
        for entry in experiment.value:
            match entry:
                case ContributionMargin() | Worth():
                    margin += found.get(entry.metric, 0.0) * float(entry.each)
                case _:
                    continue  # saved hours are no matter of a unit
        metrics = {m.key: found.get(m.key, 0.0) for m in experiment.metrics if m.kind in SUMMED}
        return {**metrics, "margin": margin, "cost": cost, "net": margin - cost}
