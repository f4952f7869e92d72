"""The unit table: one row per exposed unit, with its metrics, margin, cost and net value.

One Ibis expression over the facts, so that any engine can run it. Amounts are summed as decimals
per unit and leave DECIMAL for float64 in one place, the last projection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir

from klartext.analysis import aliases, amounts, attribution, covariates
from klartext.analysis.columns import (
    KEY_COLUMNS,
    REGIME,
    STATE,
    count_columns,
    counted_metrics,
    derived,
    uncapped,
    value_columns,
)
from klartext.analysis.exposed import exposed_units, known_before, reached_units
from klartext.analysis.outcomes import Tallies, events_in_window, tallies
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Experiment,
    Metric,
    Saving,
)
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables
    from klartext.experiments.splits import Split


@dataclass(frozen=True, slots=True)
class Parts:
    """What the facts say of each exposed unit, before anything is priced, capped or shared out.

    Parameters
    ----------
    table
        The units with the stored columns of ``tallies``, and ``pre.<name>`` of named covariates.
    tallies
        What the stored columns are.
    """

    table: ir.Table
    tallies: Tallies


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
        ratios (capped; ``<metric>.uncapped`` beside it), one per covariate, ``events.<name>``
        counts of cost lines, ``margin`` (value entries except savings), ``cost`` (variable AI
        cost), ``net`` = margin - cost, ``outlook`` = persistence margin - cost, ``cost_high`` and
        ``outlook_high`` (lines at their upper bound, unpriced calls at the highest priced one,
        calls of nobody charged to every treatment). Money is in the reporting currency.

    Notes
    -----
    With an exposure event, only the units that reached it, and ``exposed_at`` is the time of it.
    The first exposure wins; at the same instant the variant that comes first in the spec. An
    event counts in ``[start, start + window)``, from the exposure or the delay after it. The cost
    of AI calls follows the variant on the call, and counts from long before the exposure (a mail is
    generated before it is sent) until the window of cost closes.
    """
    table = whole_table(experiment, tables, watermark, splits)
    keys = (*KEY_COLUMNS, *({REGIME} & set(table.columns)))
    return table.select(*keys, *value_columns(experiment))


def whole_table(
    experiment: Experiment,
    tables: FactTables,
    watermark: Watermark,
    splits: Sequence[Split] = (),
) -> ir.Table:
    """Return the unit table of `build` with the further columns of `complete`."""
    tables = aliases.merged(tables, watermark)
    units = exposed_units(experiment, tables.exposures, watermark, splits)
    units = reached_units(experiment, units, tables.events, watermark)
    near = events_in_window(experiment, tables.events, watermark, units)
    known = known_before(experiment, units, tables.events, watermark)
    parts = gather(units, near, tallies(experiment, near), known)
    calls = attribution.attribute(experiment, tables.usage_costs, watermark, units)
    highest = calls.amount.max().fill_null(0).cast("float64").as_scalar()
    table = complete(experiment, parts, attribution.per_unit(calls), highest)
    return _shared_out(experiment, table, attribution.shares(calls, units))


def gather(units: ir.Table, near: ir.Table, tallies: Tallies, known: ir.Table | None) -> Parts:
    """Return the parts of the unit table.

    Parameters
    ----------
    units
        From `klartext.analysis.exposed.reached_units`.
    near
        From `klartext.analysis.outcomes.events_in_window`.
    tallies
        Of ``near``.
    known
        From `klartext.analysis.exposed.known_before`.
    """
    table = units.left_join(tallies.per_unit(near), "unit").drop("unit_right")
    if known is not None:
        table = table.left_join(known, "unit").drop("unit_right")
    return Parts(table, tallies)


def complete(
    experiment: Experiment, parts: Parts, own: ir.Table, highest: ir.NumericValue
) -> ir.Table:
    """Return the unit table from its parts, with ``exposed_us`` and the counts of amounts.

    What units share of the calls of a variant, or of nobody's, is not in it: a constant.

    Parameters
    ----------
    experiment
        Resolved spec.
    parts
        From `gather`.
    own
        From `klartext.analysis.attribution.per_unit`.
    highest
        The dearest call, 0 without any.
    """
    keys = [*({STATE} & set(own.columns)), "unit"]
    joined = parts.table.left_join(own, keys).drop(*(f"{name}_right" for name in keys))
    return _project(experiment, joined, parts.tallies, highest)


def _shared_out(experiment: Experiment, units: ir.Table, shares: ir.Table) -> ir.Table:
    """Add to the cost of each unit its share of the calls that are charged to no unit."""
    joined = units.left_join(shares, "variant")

    def each(name: str) -> ir.FloatingValue:
        return joined[name].fill_null(0).cast("float64") / joined["variant.units"]

    highest = joined.highest.fill_null(0).cast("float64")
    share = each("variant.amount")
    at_worst = share + each("variant.unpriced") * highest
    at_worst += (joined.variant == experiment.control).ifelse(
        0.0, each("nobody.amount") + each("nobody.unpriced") * highest
    )
    table = joined.mutate(cost=joined.cost + share, cost_high=joined.cost_high + at_worst)
    return _with_derived(experiment, table.select(*units.columns))


def _project(
    experiment: Experiment, joined: ir.Table, tallies: Tallies, highest: ir.NumericValue
) -> ir.Table:
    """Leave DECIMAL for float64: the one place."""

    def tally(name: str) -> ir.FloatingValue:
        return tallies.of(joined, name).cast("float64")

    def number(column: str) -> ir.FloatingValue:
        return joined[column].fill_null(0).cast("float64")

    def value(name: str, metric: Metric) -> ir.FloatingValue:
        return ibis.least(tally(name), 1.0) if metric.is_rate else tally(name)

    before = covariates.lookbacks(experiment)
    metrics = {name: value(f"metric.{name}", metric) for name, metric in _counted(experiment)}
    beside = {column: metrics[key] for key, column in uncapped(experiment).items()}
    beside |= {name: tally(name) for name in count_columns(experiment).values()}
    beside |= {
        name: value(f"pre.{name}", before[name][0]) if name in before else number(f"pre.{name}")
        for name in covariates.all_columns(experiment)
    }
    for metric in counted_metrics(experiment):
        if metric.cap is not None:
            metrics[metric.key] = ibis.least(metrics[metric.key], _factor(metric.cap))
    zero = ibis.literal(0.0)
    margin = zero
    for entry in experiment.value:
        match entry:
            case Saving():
                continue  # a fixed amount per month, never per unit
            case _:
                margin += metrics[entry.metric] * _factor(entry.each)

    def lines(bound: str) -> ir.FloatingValue:
        return reduce(add, _line_costs(experiment, joined, tallies, bound), zero)

    calls = number("unit.amount")
    at_worst = calls + number("unit.unpriced") * highest
    keys = (*KEY_COLUMNS, REGIME, STATE, "exposed_us")
    table = joined.select(
        *(name for name in keys if name in joined.columns),
        **metrics,
        **beside,
        margin=margin,
        cost=calls + lines("base"),
        cost_high=at_worst + lines("high"),
        **{name: tallies.of(joined, name).cast("int64") for name in amounts.names(experiment)},
    )
    return _with_derived(experiment, table)


def _with_derived(experiment: Experiment, table: ir.Table) -> ir.Table:
    return table.mutate(
        **{
            name: reduce(add, (table[part] * weight for part, weight in parts.items()))
            for name, parts in derived(experiment).items()
        }
    )


def _counted(experiment: Experiment) -> Iterable[tuple[str, Metric]]:
    return ((metric.key, metric) for metric in counted_metrics(experiment))


def _line_costs(
    experiment: Experiment, joined: ir.Table, tallies: Tallies, bound: str
) -> Iterable[ir.FloatingValue]:
    columns = count_columns(experiment)
    for line in experiment.costs.lines:
        if line.behaviour not in {"unit", "event"}:
            continue
        each = _factor(line_amount(line, bound))
        times = (
            ibis.literal(1.0)
            if line.event is None
            else tallies.of(joined, columns[line.event]).cast("float64")
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
