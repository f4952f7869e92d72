"""Unit sums: the columns of units and what their AI calls cost, reduced in the engine.

No unit row comes to Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import ai_calls, amounts
from klartext.analysis.attribution import UNIT
from klartext.analysis.columns import REGIME, STATE, count_columns, derived, value_columns
from klartext.analysis.diagnostics import halves
from klartext.analysis.engine import Pending, asked_rows
from klartext.analysis.instants import whole
from klartext.analysis.local_days import clock_changes, midnight
from klartext.analysis.reduced import Key, Reduced
from klartext.analysis.reduction import Columns, moments_of, reduce, reduced
from klartext.analysis.unit_table import Parts
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment
from klartext.experiments.records import from_microseconds

GROUP = ("variant", "excluded", "mature")
MATURED, EXPOSED = "matured.day", "exposed.day"  # no metric can be called that
BEARER = ("charged_to", "variant", "counted", "excluded", "bill", "category", "model", "source")
UNITS, USAGE = "units", "usage"

_CLOCKS = datetime(2020, 1, 1, tzinfo=UTC)
"""Local days before have the offset of this instant: a change is one more case in each query."""


def billed(
    experiment: Experiment,
    calls: ir.Table,
    *,
    engine: BaseBackend,
    known: Reduced | None = None,
) -> Pending[Reduced]:
    """Ask for the sums of AI calls.

    Parameters
    ----------
    experiment
        Resolved spec.
    calls
        From `klartext.analysis.attribution.attribute`; with a ``state``, which all keys of what
        is returned then begin with.
    engine
        The engine of them.
    known
        Sums of other calls, to begin with.
    """
    variants = [variant.key for variant in experiment.variants]
    usage = _usage(calls, engine)
    sums = ai_calls.sums(calls, variants, engine, known)
    return lambda: usage() | sums()


def dearest(calls: ir.Table, known: Reduced | None = None) -> ir.NumericValue:
    """Return what an unpriced call costs at most, as `billed` finds and has ``known`` it."""
    before = None if known is None else known.highest
    price = calls.amount.max().fill_null(0).cast("float64").as_scalar()
    return price if before is None else ibis.greatest(price, float(before))


def any_unpriced(bill: Reduced) -> bool:
    """Whether units had calls that count with the price of the `dearest`."""
    return any(
        unpriced
        for (charged_to, *_), (_, unpriced, *_) in bill.exact[USAGE].items()
        if charged_to == UNIT
    )


def outcomes(  # noqa: PLR0913 - units, and how they are reduced
    experiment: Experiment,
    parts: Parts,
    units: ir.Table,
    *,
    first_us: int | None,
    last_us: int | None,
    engine: BaseBackend,
    known: Reduced | None = None,
) -> Pending[Reduced]:
    """Ask for the sums of the columns of units.

    Parameters
    ----------
    experiment
        Resolved spec.
    parts
        From `klartext.analysis.unit_table.gather`; with a ``state``, which all keys of what is
        returned then begin with.
    units
        From `klartext.analysis.unit_table.complete`.
    first_us, last_us
        From `klartext.analysis.exposed.span_of`, of all units.
    engine
        The engine of both.
    known
        Sums of other units, to begin with.
    """
    if first_us is None or last_us is None:
        return lambda: Reduced({UNITS: {}})
    dated = _dated(experiment, parts.table, first_us, last_us)
    states = tuple({STATE} & set(dated.columns))
    keys = (*states, *GROUP, MATURED, EXPOSED, *({REGIME} & set(dated.columns)))
    tallied = dated.select(
        *keys,
        **{name: parts.tallies.of(dated, name).cast("int64") for name in totals_of(experiment)},
    )
    sums = tallied.group_by(*keys).aggregate(
        n=tallied.count(), **{name: tallied[name].sum() for name in totals_of(experiment)}
    )
    totals = asked_rows(engine, sums)
    compared = _dated(experiment, units.filter(units.mature, ~units.excluded), first_us, last_us)
    columns = Columns(value_columns(experiment), derived(experiment))
    groups = reduce(
        compared,
        columns,
        keys,
        engine=engine,
        merged_over=(MATURED, EXPOSED),
        known=None if known is None else known.by_variant(UNITS),
    )
    halved = halves(experiment, parts, engine, known)
    numbers = ("n", *totals_of(experiment))
    place = len(states)
    return lambda: Reduced(
        {UNITS: {key_of(row, keys): tuple(row[name] for name in numbers) for row in totals()}},
        {
            **{
                (*key[:place], UNITS, *key[place:]): moments_of(columns.names, [row])
                for row in groups()
                for key in [key_of(row, keys)]
            },
            **halved(),
        },
    )


def _dated(experiment: Experiment, units: ir.Table, first_us: int, last_us: int) -> ir.Table:
    """Add the local days on which units were exposed and are mature, for `local_days.day_of`."""
    wait = windows(experiment).maturity + experiment.lateness
    first, last = map(from_microseconds, (first_us, last_us))
    changes = clock_changes(experiment.timezone, max(first, _CLOCKS), max(last, _CLOCKS) + wait)
    at = units.exposed_us
    return units.mutate(
        **{MATURED: midnight(at + whole(wait), changes), EXPOSED: midnight(at, changes)}
    )


def sums(experiment: Experiment, units: ir.Table) -> ir.Table:
    """Return the sums that the moments follow from, to be shown; deviations start at 0 here."""
    columns = Columns(value_columns(experiment), derived(experiment))
    group = (*GROUP, *({REGIME} & set(units.columns)))
    return reduced(units, columns, group, totals=tuple(count_columns(experiment).values()))


def totals_of(experiment: Experiment) -> tuple[str, ...]:
    """Return the columns whose sums are exact integers."""
    return (*count_columns(experiment).values(), *amounts.names(experiment))


def key_of(row: Mapping[str, Any], keys: Iterable[str]) -> Key:
    """Return the values of ``keys`` in a row."""
    return tuple(row[name] for name in keys)


def _usage(calls: ir.Table, engine: BaseBackend) -> Pending[Reduced]:
    """Ask for the calls by who bears them, and the dearest."""
    keys = (*({STATE} & set(calls.columns)), *BEARER, "evidence")
    sums = calls.group_by(*keys).aggregate(
        calls=calls.count(),
        unpriced=(calls.amount.isnull() & ~calls.is_billed).sum(),
        paid=(calls.amount.isnull() & calls.is_billed).sum(),
        amount=calls.amount.sum().fill_null(0),
        highest=calls.amount.max(),
    )
    rows = asked_rows(engine, sums)

    def found() -> Reduced:
        told = rows()
        usage = {
            key_of(row, keys): (row["calls"], row["unpriced"], row["paid"], Decimal(row["amount"]))
            for row in told
        }
        prices = [row["highest"] for row in told if row["highest"] is not None]
        return Reduced({USAGE: usage}, highest=max(prices, default=None))

    return found
