"""What checks need beside moments: units by day, calls by model, and a metric by halves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import hits
from klartext.analysis.checks.ai_version import AiCalls
from klartext.analysis.checks.novelty import Halves
from klartext.analysis.engine import rows_of
from klartext.analysis.local_days import clock_changes, day_of, midnight
from klartext.analysis.unit_table import Parts
from klartext.experiments.experiment import Experiment, Metric, Saving
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

_EARLY, _LATE = "novelty.early", "novelty.late"


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What the checks of one look read.

    Parameters
    ----------
    days
        Per calendar day of the workspace and variant: units by their first exposure, all of them.
    calls
        AI calls that name a variant of the spec, of the source that the spec declares.
    halved
        The metric whose halves follow, None when no metric has a window of two days.
    halves
        Per variant, mature units seen in one variant only.
    """

    days: Mapping[str, Mapping[str, int]]
    calls: tuple[AiCalls, ...]
    halved: str | None
    halves: Mapping[str, Halves]


def halved(experiment: Experiment) -> Metric | None:
    """Return the metric for the novelty check: the first one with value, else the first of all."""
    valued = {entry.metric for entry in experiment.value if not isinstance(entry, Saving)}
    fits = [
        metric
        for metric in experiment.metrics
        if metric.kind in {"conversion", "count", "mean"} and metric.window >= timedelta(days=2)
    ]
    return next((m for m in fits if m.key in valued), fits[0] if fits else None)


def halves_of(experiment: Experiment, events: ir.Table) -> dict[str, ir.NumericScalar]:
    """Return sums of the metric by halves of its window, per unit, without refunds.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        From `klartext.analysis.outcomes.events_in_window`.
    """
    metric = halved(experiment)
    if metric is None:
        return {}
    half = metric.window / 2
    early = replace(metric, window=half)
    late = replace(metric, window=metric.window - half, delay=metric.delay + half)
    return {_EARLY: _total(experiment, events, early), _LATE: _total(experiment, events, late)}


def _total(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericScalar:
    hit = hits.hits(experiment, events, metric)
    if metric.kind == "mean":
        return hits.amount(experiment, events, metric).sum(where=hit).fill_null(0)
    return events.count(where=hit)


def read_diagnostics(
    experiment: Experiment,
    parts: Parts,
    usage_costs: ir.Table,
    watermark: Watermark,
    *,
    engine: BaseBackend,
) -> Diagnostics:
    """Read what the checks need.

    Parameters
    ----------
    experiment
        Resolved spec.
    parts
        Of the analysed units, with `halves_of`.
    usage_costs
        All calls.
    watermark
        Calls of later batches are not seen.
    engine
        The engine of all of them.
    """
    metric = halved(experiment)
    return Diagnostics(
        days=_days(experiment, parts.table, engine),
        calls=_calls(experiment, usage_costs, watermark, engine),
        halved=None if metric is None else metric.key,
        halves={} if metric is None else _halves(experiment, metric, parts, engine),
    )


def _days(
    experiment: Experiment, units: ir.Table, engine: BaseBackend
) -> Mapping[str, Mapping[str, int]]:
    ends = units.aggregate(first=units.exposed_us.min(), last=units.exposed_us.max())
    (extent,) = rows_of(engine, ends)
    if extent["first"] is None:
        return {}
    first, last = (from_microseconds(extent[end]) for end in ("first", "last"))
    changes = clock_changes(experiment.timezone, first, last)
    keyed = units.select("variant", day=midnight(units.exposed_us, changes))
    rows = rows_of(engine, keyed.group_by("variant", "day").aggregate(n=keyed.count()))
    found: dict[int, dict[str, int]] = {}
    for row in rows:
        empty = {variant.key: 0 for variant in experiment.variants}
        found.setdefault(row["day"], empty)[row["variant"]] = row["n"]
    return {day_of(day).isoformat(): found[day] for day in sorted(found)}


def _calls(
    experiment: Experiment, usage_costs: ir.Table, watermark: Watermark, engine: BaseBackend
) -> tuple[AiCalls, ...]:
    calls = usage_costs.filter(
        usage_costs.ingest_batch <= watermark.batch,
        usage_costs.experiment == experiment.key,
        usage_costs.variant.isin([variant.key for variant in experiment.variants]),
    )
    if experiment.costs.usage_source is not None:
        calls = calls.filter(calls.source == experiment.costs.usage_source)
    rows = calls.group_by("variant", "model", "prompt").aggregate(calls=calls.count())
    found = (AiCalls(**row) for row in rows_of(engine, rows))
    return tuple(sorted(found, key=lambda one: (one.variant, one.model, one.prompt or "")))


def _halves(
    experiment: Experiment, metric: Metric, parts: Parts, engine: BaseBackend
) -> Mapping[str, Halves]:
    compared = parts.table.filter(parts.table.mature, ~parts.table.excluded)
    early, late = (parts.tallies.of(compared, name).cast("float64") for name in (_EARLY, _LATE))
    if metric.is_rate:
        early, late = ibis.least(early, 1.0), ibis.least(late, 1.0)
    keyed = compared.select("variant", early=early, late=late)
    sums = keyed.group_by("variant").aggregate(
        n=keyed.count(),
        early=keyed.early.mean(),
        late=keyed.late.mean(),
        early_variance=keyed.early.var(how="pop"),
        late_variance=keyed.late.var(how="pop"),
        covariance=keyed.early.cov(keyed.late, how="pop"),
    )
    found = {row.pop("variant"): Halves(**row) for row in rows_of(engine, sums)}
    nothing = Halves(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return {variant.key: found.get(variant.key, nothing) for variant in experiment.variants}
