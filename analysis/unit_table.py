"""The unit table: one row per exposed unit, with its metrics, margin, cost and net value.

One Ibis expression over the facts, so that any engine can run it. Amounts are summed as decimals
per unit and leave DECIMAL for float64 in one place, the last projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir

from klartext.analysis import attribution, covariates
from klartext.analysis.filters import filtered
from klartext.analysis.instants import microseconds, since_epoch, whole
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    CostLine,
    Experiment,
    Metric,
    Saving,
)
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables

MONEY_COLUMNS = ("margin", "cost", "net", "outlook", "cost_high", "outlook_high")
"""Columns every unit table has beside the metrics."""

KEY_COLUMNS = ("unit", "variant", "exposed_at", "excluded", "mature")

_SLOT_BITS = 8  # a variant's place in the spec, packed under the instant: one MIN finds both


@dataclass(frozen=True, slots=True)
class Windows:
    """Time after exposure in which things count.

    Parameters
    ----------
    value
        Longest window of a metric that carries value; events of cost lines count within it.
    maturity
        Longest window of all metrics and refunds; a unit whose exposure is longer ago than this
        and the declared lateness is mature.
    """

    value: timedelta
    maturity: timedelta


def windows(experiment: Experiment) -> Windows:
    """Return the windows of ``experiment``.

    Notes
    -----
    Maturity waits for every metric, also those without value: one set of units serves all
    columns, and a guardrail read before its window has closed would look better than it is.
    """
    valued = {entry.metric for entry in experiment.value if not isinstance(entry, Saving)}
    every = [metric.closes_after for metric in experiment.metrics]
    value = [metric.closes_after for metric in experiment.metrics if metric.key in valued]
    refunds = [metric.refunds.window for metric in experiment.metrics if metric.refunds]
    longest = max(every, default=timedelta(0))
    return Windows(max(value, default=longest), max([longest, *refunds]))


def counted_metrics(experiment: Experiment) -> tuple[Metric, ...]:
    """Metrics with a column of their own: all but ratios, which divide two of the others."""
    return tuple(metric for metric in experiment.metrics if metric.kind != "ratio")


def uncapped(experiment: Experiment) -> dict[str, str]:
    """Map each capped metric to the column of its values without the cap."""
    return {
        metric.key: f"{metric.key}.uncapped"
        for metric in counted_metrics(experiment)
        if metric.cap is not None
    }


def value_columns(experiment: Experiment) -> tuple[str, ...]:
    """Names of the float64 columns: metrics but ratios, uncapped ones, covariates, then money.

    Raises
    ------
    KlartextError
        A metric is named like another column of the unit table.
    """
    metrics = tuple(metric.key for metric in counted_metrics(experiment))
    taken = sorted({*MONEY_COLUMNS, *KEY_COLUMNS}.intersection(metrics))
    if taken:
        raise KlartextError(
            f"metric {taken[0]!r} of {experiment.key} has the name of a column of the unit "
            "table; give it another key"
        )
    beside = (*uncapped(experiment).values(), *covariates.all_columns(experiment))
    return (*metrics, *beside, *MONEY_COLUMNS)


def count_columns(experiment: Experiment) -> dict[str, str]:
    """Map each event name that a cost line counts to its column."""
    names = {line.event for line in experiment.costs.lines if line.event is not None}
    return {name: f"events.{name}" for name in sorted(names)}


def build(experiment: Experiment, tables: FactTables, watermark: Watermark) -> ir.Table:
    """Return the unit table: a lazy expression, one row per unit exposed in a known variant.

    Parameters
    ----------
    experiment
        Resolved spec.
    tables
        Facts as Ibis tables of one engine.
    watermark
        Facts of later batches are not seen; maturity is judged at its cutoff.

    Returns
    -------
    ibis.Table
        ``unit``, ``variant`` (of the first exposure), ``exposed_at``, ``excluded`` (seen in two
        variants), ``mature``, one column per metric but ratios (capped; ``<metric>.uncapped``
        beside it), one per covariate, ``margin`` (value entries except savings), ``cost``
        (variable AI cost), ``net`` = margin - cost, ``outlook`` = persistence margin - cost,
        ``cost_high`` and ``outlook_high`` (lines at their upper bound, unpriced
        calls at the highest priced one, calls of nobody charged to every treatment), and
        ``events.<name>`` counts of cost lines. Money is in the reporting currency.

    Notes
    -----
    The first exposure wins; at the same instant the variant that comes first in the spec. An
    event counts in ``[start, start + window)``, from the exposure or the delay after it. The cost
    of AI calls follows the variant on the call and not the exposure window: a mail is generated
    before it is sent.
    """
    units = exposed_units(experiment, tables.exposures, watermark)
    events = events_in_window(experiment, tables.events, watermark, units)
    calls = attribution.attribute(experiment, tables.usage_costs, watermark, units)
    known = with_covariates(experiment, units, tables.events, watermark)
    return assemble(experiment, known, outcomes(experiment, events), calls)


def assemble(
    experiment: Experiment, units: ir.Table, outcomes: ir.Table, calls: ir.Table
) -> ir.Table:
    """Return the unit table of `build` from its parts.

    Parameters
    ----------
    experiment
        Resolved spec.
    units
        From `with_covariates`.
    outcomes
        From `outcomes`; more columns do not matter.
    calls
        From `klartext.analysis.attribution.attribute`.
    """
    columns = [*_metric_columns(experiment), *count_columns(experiment).values()]
    columns += [f"pre.{column}" for column in covariates.lookbacks(experiment)]
    joined = units.left_join(outcomes.select("unit", *columns), "unit").drop("unit_right")
    joined = joined.left_join(attribution.per_unit(calls), "unit").drop("unit_right")
    joined = joined.left_join(attribution.per_variant(calls, units), "variant")
    joined = joined.drop("variant_right").cross_join(attribution.unattributed(calls))
    return _project(experiment, joined)


def exposed_units(experiment: Experiment, exposures: ir.Table, watermark: Watermark) -> ir.Table:
    """Return unit, variant, exposed_at, exposed_us (since 1970), excluded and mature."""
    keys = [variant.key for variant in experiment.variants]
    seen = exposures.filter(
        exposures.ingest_batch <= watermark.batch,
        exposures.experiment == experiment.key,
        exposures.variant.isin(keys),
    )
    slot = ibis.cases(*((seen.variant == key, place) for place, key in enumerate(keys)))
    seen = seen.select(
        "unit",
        "occurred_at",
        instant=microseconds(seen.occurred_at),
        slot=slot.cast("int64"),
    )
    first = seen.group_by("unit").aggregate(
        packed=(seen.instant * (1 << _SLOT_BITS) + seen.slot).min(),
        exposed_at=seen.occurred_at.min(),
        lowest=seen.slot.min(),
        highest=seen.slot.max(),
    )
    place = first.packed & ((1 << _SLOT_BITS) - 1)
    units = first.select(
        "unit",
        "exposed_at",
        variant=ibis.cases(*((place == i, key) for i, key in enumerate(keys))),
        exposed_us=first.packed >> _SLOT_BITS,
        excluded=first.lowest != first.highest,
    )
    wait = whole(windows(experiment).maturity + experiment.lateness)
    cutoff = since_epoch(watermark.cutoff)
    return units.mutate(mature=units.exposed_us + wait <= cutoff)


def events_in_window(
    experiment: Experiment, events: ir.Table, watermark: Watermark, units: ir.Table
) -> ir.Table:
    """Return the events that some metric or cost line may count, with ``age`` since exposure.

    ``age`` is in microseconds, from minus the longest look back to the longest window.
    """
    names = {metric.event for metric in experiment.metrics if metric.event is not None}
    names |= {metric.refunds.event for metric in experiment.metrics if metric.refunds}
    names |= set(count_columns(experiment))
    # By name before the join: it is the join that costs.
    wanted = events.filter(events.ingest_batch <= watermark.batch, events.name.isin(sorted(names)))
    since = units.select("unit", "exposed_us")
    age = microseconds(wanted.occurred_at) - since.exposed_us
    earliest = -whole(covariates.longest_lookback(experiment))
    latest = whole(windows(experiment).maturity)
    # In the join and not after it: most events are too early or too late for their unit.
    joined = wanted.inner_join(
        since, [wanted.unit == since.unit, age >= earliest, age < latest]
    ).drop("unit_right")
    return joined.mutate(age=microseconds(joined.occurred_at) - joined.exposed_us)


def counts(
    events: ir.Table, name: str, window: timedelta, *, delay: timedelta = timedelta(0)
) -> ir.BooleanValue:
    """Whether an event of `events_in_window` is called ``name``, from ``delay`` to ``window``.

    Both are counted from the exposure; ``window`` itself is outside.
    """
    return (events.name == name) & (events.age >= whole(delay)) & (events.age < whole(window))


def hits(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.BooleanValue:
    """Whether a metric counts an event: name, time after exposure and filters.

    Raises
    ------
    KlartextError
        A property is not declared in the workspace, or the metric has no events of its own.
    """
    if metric.event is None:
        raise KlartextError(f"metric {metric.key!r} of {experiment.key} has no event")
    hit = counts(events, metric.event, metric.closes_after, delay=metric.delay)
    return filtered(experiment, events, metric, hit)


def refund_hits(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.BooleanValue:
    """Whether an event is a refund of the metric, by the metric's own delay and filters."""
    if metric.refunds is None:
        return ibis.literal(False)  # noqa: FBT003 - a column of no
    back = counts(events, metric.refunds.event, metric.refunds.window, delay=metric.delay)
    return filtered(experiment, events, metric, back)


def amount(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericValue:
    """Return what an event adds to a mean metric; null where it has no such number.

    An amount in another currency than the experiment's is null too: unlike currencies never add,
    and `klartext.analysis.readout` reports it.

    Raises
    ------
    KlartextError
        The property is not declared in the workspace.
    """
    if metric.value == "value":
        foreign = is_foreign(experiment, events)
        return foreign.ifelse(ibis.null(events.value.type()), events.value)
    column = f"p_{metric.value}"
    if column not in events.columns:
        raise KlartextError(
            f"metric {metric.key!r} of {experiment.key} sums the property {metric.value!r}, "
            "which klartext.yaml does not declare"
        )
    return events[column]


def refund_amount(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericValue:
    """Return what a refund takes off a mean metric: the metric's property, else its own amount."""
    own = is_foreign(experiment, events).ifelse(ibis.null(events.value.type()), events.value)
    return ibis.coalesce(amount(experiment, events, metric), own)


def is_foreign(experiment: Experiment, events: ir.Table) -> ir.BooleanValue:
    """Whether the event's own amount is money in another currency than the experiment's."""
    return events.currency.notnull() & (events.currency != experiment.currency)


def outcomes(
    experiment: Experiment, events: ir.Table, also: Mapping[str, ir.Scalar] | None = None
) -> ir.Table:
    """Sum each metric and count each cost event, per unit that has an event at all.

    Parameters
    ----------
    experiment
        Resolved spec.
    events
        From `events_in_window`.
    also
        More aggregates of ``events``, to be computed in the same pass.
    """
    value_window = windows(experiment).value
    columns = {
        column: _outcome(experiment, events, metric)
        for column, metric in _metric_columns(experiment).items()
    }
    for name, column in count_columns(experiment).items():
        columns[column] = events.count(where=counts(events, name, value_window))
    for column, (metric, span) in covariates.lookbacks(experiment).items():
        before = (events.name == metric.event) & (events.age < 0) & (events.age >= -whole(span))
        hit = filtered(experiment, events, metric, before)
        columns[f"pre.{column}"] = _total(experiment, events, metric, hit)
    return events.group_by("unit").aggregate(**columns, **(also or {}))


def _metric_columns(experiment: Experiment) -> dict[str, Metric]:
    return {f"metric.{metric.key}": metric for metric in counted_metrics(experiment)}


def _outcome(experiment: Experiment, events: ir.Table, metric: Metric) -> ir.NumericScalar:
    total = _total(experiment, events, metric, hits(experiment, events, metric))
    if metric.refunds is None:
        return total
    refunded = refund_hits(experiment, events, metric)
    back = refund_amount(experiment, events, metric).sum(where=refunded).fill_null(0)
    return _subtractable(total) - _subtractable(back)


def _subtractable(total: ir.NumericScalar) -> ir.NumericScalar:
    """Leave room for a carry: a difference of full DECIMALs loses its last digit on Spark."""
    return total.cast("decimal(37, 12)") if total.type().is_decimal() else total


def _total(
    experiment: Experiment, events: ir.Table, metric: Metric, hit: ir.BooleanValue
) -> ir.NumericScalar:
    """Return what the events that ``hit`` make of a metric, before refunds."""
    if metric.is_rate:
        return hit.ifelse(1, 0).max()
    if metric.kind == "count":
        return events.count(where=hit)
    return amount(experiment, events, metric).sum(where=hit).fill_null(0)


def with_covariates(
    experiment: Experiment, units: ir.Table, events: ir.Table, watermark: Watermark
) -> ir.Table:
    """Return the exposed units with the latest value of each named covariate before exposure.

    Null without one. Of several at one instant the largest counts, so that no order of delivery
    matters.
    """
    names = covariates.named(experiment)
    if not names:
        return units
    known = events.filter(events.ingest_batch <= watermark.batch, events.name.isin(names))
    known = known.inner_join(units.select("unit", "exposed_us"), "unit")
    known = known.mutate(instant=microseconds(known.occurred_at))
    known = known.filter(
        known.instant < known.exposed_us,
        known.value.notnull(),
        ~is_foreign(experiment, known),
    )
    latest = known.group_by("unit", "name").aggregate(
        last=known.instant.max(), owner=known.unit.max(), called=known.name.max()
    )
    latest = latest.select("owner", "called", "last")
    known = known.inner_join(
        latest,
        [
            known.unit == latest.owner,
            known.name == latest.called,
            known.instant == latest["last"],
        ],
    )
    values = known.group_by("unit").aggregate(
        **{f"pre.{name}": known.value.max(where=known.name == name) for name in names}
    )
    return units.left_join(values, "unit").drop("unit_right")


def _project(experiment: Experiment, joined: ir.Table) -> ir.Table:
    """Leave DECIMAL for float64: the one place."""

    def number(column: str) -> ir.FloatingValue:
        return joined[column].fill_null(0).cast("float64")

    metrics = {metric.key: number(f"metric.{metric.key}") for metric in counted_metrics(experiment)}
    beside = {column: metrics[key] for key, column in uncapped(experiment).items()}
    beside |= {name: number(f"pre.{name}") for name in covariates.all_columns(experiment)}
    for metric in counted_metrics(experiment):
        if metric.cap is not None:
            metrics[metric.key] = ibis.least(metrics[metric.key], _factor(metric.cap))
    zero = ibis.literal(0.0)
    margin = zero
    for entry in experiment.value:
        match entry:
            case Saving():
                continue  # a fixed amount per month, never per unit
            case ContributionMargin(metric=key, rate=worth):
                margin += metrics[key] * _factor(worth.base)
            case _:
                margin += metrics[entry.metric] * _factor(entry.amount.base)

    def lines(bound: str) -> ir.FloatingValue:
        return reduce(add, _line_costs(experiment, joined, bound), zero)

    calls = number("unit.amount") + number("variant.amount") / joined["variant.units"]
    highest = number("highest")
    guessed = number("unit.unpriced") + number("variant.unpriced") / joined["variant.units"]
    nobody = number("nobody.amount") + number("nobody.unpriced") * highest
    at_worst = calls + guessed * highest
    at_worst += (joined.variant == experiment.control).ifelse(
        zero, nobody / joined["variant.units"]
    )
    persistence = _factor(experiment.rollout.persistence.base) if experiment.rollout else 1.0
    table = joined.select(
        *KEY_COLUMNS,
        **metrics,
        **beside,
        margin=margin,
        cost=calls + lines("base"),
        cost_high=at_worst + lines("high"),
        **{
            column: joined[column].fill_null(0).cast("int64")
            for column in count_columns(experiment).values()
        },
    )
    table = table.mutate(
        net=table.margin - table.cost,
        outlook=table.margin * persistence - table.cost,
        outlook_high=table.margin * persistence - table.cost_high,
    )
    order = (*KEY_COLUMNS, *value_columns(experiment), *count_columns(experiment).values())
    return table.select(*order)


def _line_costs(experiment: Experiment, joined: ir.Table, bound: str) -> Iterable[ir.FloatingValue]:
    columns = count_columns(experiment)
    for line in experiment.costs.lines:
        if line.behaviour not in {"unit", "event"}:
            continue
        each = _factor(line_amount(line, bound))
        times = (
            ibis.literal(1.0)
            if line.event is None
            else joined[columns[line.event]].fill_null(0).cast("float64")
        )
        cost = times * each
        if line.variant is not None:
            cost = (joined.variant == line.variant).ifelse(cost, 0.0)
        yield cost


def line_amount(line: CostLine, bound: str) -> Decimal:
    """Return the amount of a cost line at its ``base``, or at ``high``: never below the base."""
    return upper(line.amount) if bound == "high" else line.amount.base


def upper(assumption: Assumption) -> Decimal:
    """Return the upper end of a stated range; the base when there is none."""
    return assumption.base if assumption.high is None else max(assumption.base, assumption.high)


def _factor(number: Decimal) -> float:
    return float(number)
