"""The unit table: one row per exposed unit, with its metrics, margin, cost and net value.

One Ibis expression over the facts, so that any engine can run it. Amounts are summed as decimals
per unit and leave DECIMAL for float64 in one place, the last projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir

from klartext.analysis import aliases, attribution, covariates
from klartext.analysis.columns import (
    KEY_COLUMNS,
    REGIME,
    count_columns,
    counted_metrics,
    metric_columns,
    uncapped,
    value_columns,
)
from klartext.analysis.exposed import exposed_units, reached_units, with_covariates
from klartext.analysis.outcomes import events_in_window, outcomes
from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    CostLine,
    Experiment,
    Saving,
)
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables
    from klartext.experiments.splits import Split


def build(
    experiment: Experiment,
    tables: FactTables,
    watermark: Watermark,
    splits: Sequence[Split] = (),
) -> ir.Table:
    """Return the unit table: a lazy expression, one row per unit exposed in a known variant.

    Parameters
    ----------
    experiment
        Resolved spec.
    tables
        Facts as Ibis tables of one engine.
    watermark
        Facts of later batches are not seen; maturity is judged at its cutoff.
    splits
        By which weights units were assigned, oldest first.

    Returns
    -------
    ibis.Table
        ``unit``, ``variant`` (of the first exposure), ``exposed_at``, ``excluded`` (seen in two
        variants), ``mature``, ``regime`` (only with several splits), one column per metric but
        ratios (capped; ``<metric>.uncapped`` beside it), one per covariate, ``margin`` (value
        entries except savings), ``cost`` (variable AI cost), ``net`` = margin - cost, ``outlook``
        = persistence margin - cost, ``cost_high`` and ``outlook_high`` (lines at their upper
        bound, unpriced calls at the highest priced one, calls of nobody charged to every
        treatment), and ``events.<name>`` counts of cost lines. Money is in the reporting currency.

    Notes
    -----
    With an exposure event, only the units that reached it, and ``exposed_at`` is the time of it.
    The first exposure wins; at the same instant the variant that comes first in the spec. An
    event counts in ``[start, start + window)``, from the exposure or the delay after it. The cost
    of AI calls follows the variant on the call and not the exposure window: a mail is generated
    before it is sent.
    """
    tables = aliases.merged(tables, watermark)
    units = exposed_units(experiment, tables.exposures, watermark, splits)
    units = reached_units(experiment, units, tables.events, watermark)
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
        From `klartext.analysis.exposed.with_covariates`.
    outcomes
        From `klartext.analysis.outcomes.outcomes`; more columns do not matter.
    calls
        From `klartext.analysis.attribution.attribute`.
    """
    columns = [*metric_columns(experiment), *count_columns(experiment).values()]
    columns += [f"pre.{column}" for column in covariates.lookbacks(experiment)]
    joined = units.left_join(outcomes.select("unit", *columns), "unit").drop("unit_right")
    joined = joined.left_join(attribution.per_unit(calls), "unit").drop("unit_right")
    joined = joined.left_join(attribution.per_variant(calls, units), "variant")
    joined = joined.drop("variant_right").cross_join(attribution.unattributed(calls))
    return _project(experiment, joined)


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
    keys = (*KEY_COLUMNS, *({REGIME} & set(joined.columns)))
    table = joined.select(
        *keys,
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
    order = (*keys, *value_columns(experiment), *count_columns(experiment).values())
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
