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
from klartext.analysis.columns import STATE
from klartext.analysis.engine import Pending, asked_rows
from klartext.analysis.local_days import day_of
from klartext.analysis.moments import Moments
from klartext.analysis.reduced import Key, Reduced, Sums
from klartext.analysis.reduction import Columns, moments_of, reduce
from klartext.analysis.unit_table import Parts
from klartext.experiments.experiment import Experiment, Metric, Saving
from klartext.experiments.watermark import Watermark

_EARLY, _LATE = "novelty.early", "novelty.late"
HALVES = "halves"
"""Name of the moments of `halves`."""


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


def diagnosed(
    experiment: Experiment, sums: Reduced, days: Mapping[tuple[str, int], int]
) -> Diagnostics:
    """Return what the checks need from the sums of `models` and `halves`.

    Parameters
    ----------
    days
        Units per variant and local day of their first exposure.
    """
    metric = halved(experiment)
    variants = [variant.key for variant in experiment.variants]
    by_day: dict[int, dict[str, int]] = {}
    for (variant, day), n in days.items():
        by_day.setdefault(day, dict.fromkeys(variants, 0))[variant] = n
    calls = (
        AiCalls(variant, model, prompt, calls=int(n))
        for (variant, model, prompt), (n,) in sums.exact["models"].items()
    )
    return Diagnostics(
        days={day_of(day).isoformat(): by_day[day] for day in sorted(by_day)},
        calls=tuple(sorted(calls, key=lambda one: (one.variant, one.model, one.prompt or ""))),
        halved=None if metric is None else metric.key,
        halves={}
        if metric is None
        else {key: _halves(sums.moments.get((HALVES, key))) for key in variants},
    )


def models(
    experiment: Experiment, usage_costs: ir.Table, watermark: Watermark, engine: BaseBackend
) -> Pending[Sums]:
    """Ask how many calls name a variant of the spec, by variant, model and prompt."""
    calls = usage_costs.filter(
        usage_costs.ingest_batch <= watermark.batch,
        usage_costs.experiment == experiment.key,
        usage_costs.variant.isin([variant.key for variant in experiment.variants]),
    )
    if experiment.costs.usage_source is not None:
        calls = calls.filter(calls.source == experiment.costs.usage_source)
    rows = asked_rows(
        engine, calls.group_by("variant", "model", "prompt").aggregate(calls=calls.count())
    )
    return lambda: {
        (row["variant"], row["model"], row["prompt"]): (row["calls"],) for row in rows()
    }


def halves(
    experiment: Experiment, parts: Parts, engine: BaseBackend, known: Reduced | None = None
) -> Pending[Mapping[Key, Moments]]:
    """Ask for moments of the metric in both halves of its window, per variant.

    Keys begin with the ``state`` of units that have one; ``known`` are the sums of other units.
    """
    metric = halved(experiment)
    if metric is None:
        return dict
    compared = parts.table.filter(parts.table.mature, ~parts.table.excluded)
    early, late = (parts.tallies.of(compared, name).cast("float64") for name in (_EARLY, _LATE))
    if metric.is_rate:
        early, late = ibis.least(early, 1.0), ibis.least(late, 1.0)
    states = tuple({STATE} & set(compared.columns))
    keyed = compared.select(*states, "variant", **{_EARLY: early, _LATE: late})
    found = reduce(
        keyed,
        Columns((_EARLY, _LATE), {}),
        (*states, "variant"),
        engine=engine,
        sampled=False,
        known=None if known is None else known.by_variant(HALVES),
    )
    return lambda: {
        (*(row[name] for name in states), HALVES, row["variant"]): moments_of(
            (_EARLY, _LATE), [row]
        )
        for row in found()
    }


def _halves(moments: Moments | None) -> Halves:
    if moments is None:
        return Halves(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    (early, both), (_, late) = (moments.m2 / moments.n).tolist()
    means = moments.mean.tolist()
    return Halves(moments.n, means[0], means[1], early, late, both)
