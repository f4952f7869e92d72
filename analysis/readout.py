"""The readout: everything an analysis needs from the facts, as moments, counts and exact sums.

The unit table is computed once in the engine and reduced there; no unit row comes to Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import ibis.expr.types as ir
import numpy as np
from ibis.backends import BaseBackend

from klartext.analysis import amounts, attribution
from klartext.analysis.amounts import Amounts
from klartext.analysis.columns import count_columns, value_columns
from klartext.analysis.days import day_of, to_date
from klartext.analysis.engine import materialised, rows_of
from klartext.analysis.exposed import exposed_units, with_covariates
from klartext.analysis.instants import microseconds, whole
from klartext.analysis.moments import Moments
from klartext.analysis.outcomes import events_in_window, outcomes
from klartext.analysis.result import VariantCounts
from klartext.analysis.unit_table import assemble
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables

_GROUP = ("variant", "excluded", "mature")
_MATURED = "matured.day"  # no metric can be called that


@dataclass(frozen=True, slots=True)
class UsageSum:
    """AI calls of one kind: how many, how many unpriced, and what the priced ones cost, exactly.

    Parameters
    ----------
    charged_to
        ``unit``, ``shared`` or ``nobody``, see `klartext.analysis.attribution`.
    variant
        None for nobody.
    counted
        Whether the calls belong to units in the comparison: mature, seen in one variant only.
        True for shared calls, of which a share counts.
    category, model, source
        As imported.
    evidence
        The price used; the first one in alphabetical order when there are several.
    calls, unpriced
        Number of calls, and of those without a price.
    amount
        Sum of the priced ones, in the reporting currency.
    """

    charged_to: str
    variant: str | None
    counted: bool
    category: str
    model: str
    source: str
    evidence: str
    calls: int
    unpriced: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class MaturityDay:
    """Units of the comparison that became mature on one calendar day, as moments per variant.

    A unit is mature from ``exposed_at`` plus the longest window and the lateness; the day is that
    of the workspace's time zone. The days of a readout add up to its moments, so that those of a
    past day are a sum too, on today's facts.
    """

    day: date
    moments: Mapping[str, Moments]


@dataclass(frozen=True, slots=True)
class Readout:
    """One experiment at one watermark, reduced.

    Parameters
    ----------
    watermark
        Which facts were seen.
    moments
        Per variant, in the order of the spec: mature units seen in one variant only.
    counts
        Exposed, mature and excluded units per variant; ``exposed`` leaves out the excluded.
    events
        Events of cost lines per ``(variant, name)``, of the units in ``moments``.
    all_units, all_events
        The same for every unit with this first variant: what was spent so far.
    first_exposure, last_exposure
        None when nothing was exposed.
    usage
        AI calls by who bears them.
    highest_price
        The dearest priced call, for a bound on the unpriced ones; None when none is priced.
    amounts
        What the events of mean metrics carried.
    strangers
        Units with an exposure in a variant that the spec does not have.
    daily
        The units of ``moments`` by the day on which they became mature, in order.
    """

    watermark: Watermark
    moments: Mapping[str, Moments]
    counts: tuple[VariantCounts, ...]
    events: Mapping[tuple[str, str], int]
    all_units: Mapping[str, int]
    all_events: Mapping[tuple[str, str], int]
    first_exposure: datetime | None
    last_exposure: datetime | None
    usage: tuple[UsageSum, ...]
    highest_price: Decimal | None
    amounts: tuple[Amounts, ...]
    strangers: int
    daily: tuple[MaturityDay, ...] = ()

    def count(self, variant: str) -> VariantCounts:
        """Return the counts of ``variant``."""
        return next(count for count in self.counts if count.variant == variant)


def read_out(
    experiment: Experiment, tables: FactTables, watermark: Watermark, *, engine: BaseBackend
) -> Readout:
    """Reduce the facts of ``experiment`` up to ``watermark``.

    Parameters
    ----------
    experiment
        Resolved spec.
    tables
        Facts as Ibis tables of one engine.
    watermark
        Later batches are not seen; maturity is judged at its cutoff.
    engine
        The engine of ``tables``; it keeps units, outcomes and the unit table meanwhile.

    Notes
    -----
    Means first, then products of deviations from them: raw sums of squares lose every digit of
    the variance when the mean is large. Two runs agree within rounding, whatever the order or
    batching of the facts.
    """
    with ExitStack() as kept:
        return _read(
            experiment,
            tables,
            watermark,
            engine=engine,
            keep=lambda lazy: kept.enter_context(materialised(engine, lazy)),
        )


def _read(
    experiment: Experiment,
    tables: FactTables,
    watermark: Watermark,
    *,
    engine: BaseBackend,
    keep: Callable[[ir.Table], ir.Table],
) -> Readout:
    exposed = keep(exposed_units(experiment, tables.exposures, watermark))
    events = events_in_window(experiment, tables.events, watermark, exposed)
    examined = amounts.counters(experiment, events)
    per_unit = keep(outcomes(experiment, events, examined))
    calls = attribution.attribute(experiment, tables.usage_costs, watermark, exposed)
    known = with_covariates(experiment, exposed, tables.events, watermark)
    units = keep(assemble(experiment, known, per_unit, calls))
    dated = units.mutate(**{_MATURED: _matured_on(experiment, units, watermark)})
    groups = rows_of(engine, reduced(experiment, dated, by=(*_GROUP, _MATURED)))
    usage, highest = _usage(calls, engine)
    columns = value_columns(experiment)
    compared = [group for group in groups if group["mature"] and not group["excluded"]]
    included = [group for group in groups if not group["excluded"]]
    exposures = [from_microseconds(group[end]) for group in groups for end in ("first", "last")]
    variants = [variant.key for variant in experiment.variants]
    return Readout(
        watermark=watermark,
        moments={key: _moments(columns, _of(compared, key)) for key in variants},
        counts=tuple(
            VariantCounts(
                variant=variant.key,
                weight=variant.weight,
                exposed=_units(_of(included, variant.key)),
                mature=_units(_of(compared, variant.key)),
                excluded=_units(_of(groups, variant.key)) - _units(_of(included, variant.key)),
            )
            for variant in experiment.variants
        ),
        events=_events(experiment, compared),
        all_units={key: _units(_of(groups, key)) for key in variants},
        all_events=_events(experiment, groups),
        first_exposure=min(exposures, default=None),
        last_exposure=max(exposures, default=None),
        usage=usage,
        highest_price=highest,
        amounts=amounts.examine(experiment, tables.events, per_unit, engine),
        strangers=_strangers(experiment, tables.exposures, watermark, engine),
        daily=tuple(
            MaturityDay(
                to_date(day),
                {key: _moments(columns, _of(found, key)) for key in variants},
            )
            for day, found in _by_day(compared)
        ),
    )


def _matured_on(experiment: Experiment, units: ir.Table, watermark: Watermark) -> ir.IntegerValue:
    """Return the local day on which a unit is mature, in days since 1970."""
    wait = windows(experiment).maturity + experiment.lateness
    instant = microseconds(units.exposed_at) + whole(wait)
    return day_of(instant, experiment.timezone, until=watermark.cutoff + wait)


def _by_day(groups: list[dict[str, Any]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for day in sorted({group[_MATURED] for group in groups}):
        yield day, [group for group in groups if group[_MATURED] == day]


def reduced(experiment: Experiment, units: ir.Table, *, by: Sequence[str] = _GROUP) -> ir.Table:
    """Return one row per variant, excluded and mature: n, means, non-zero counts, m2 and m3.

    Columns are numbered, since a metric may be called anything. ``by`` names the columns that
    units are grouped by.
    """
    columns = value_columns(experiment)
    counted = count_columns(experiment)
    means = units.group_by(*by).aggregate(
        n=units.count(),
        first=microseconds(units.exposed_at.min()),
        last=microseconds(units.exposed_at.max()),
        **{f"mean{i}": units[column].mean() for i, column in enumerate(columns)},
        **{f"nonzero{i}": (units[column] != 0).sum() for i, column in enumerate(columns)},
        **{f"events{i}": units[column].sum() for i, column in enumerate(counted.values())},
    )
    joined = units.inner_join(means, by)
    centred = joined.select(
        *by,
        **{f"d{i}": joined[column] - joined[f"mean{i}"] for i, column in enumerate(columns)},
    )
    pairs = [(i, j) for i in range(len(columns)) for j in range(i + 1)]
    sums = centred.group_by(*by).aggregate(
        **{f"m2_{i}_{j}": (centred[f"d{i}"] * centred[f"d{j}"]).sum() for i, j in pairs},
        **{
            f"m3_{i}": (centred[f"d{i}"] * centred[f"d{i}"] * centred[f"d{i}"]).sum()
            for i in range(len(columns))
        },
    )
    return means.inner_join(sums, by)


def _of(groups: Iterable[Mapping[str, Any]], variant: str) -> list[Mapping[str, Any]]:
    return [group for group in groups if group["variant"] == variant]


def _units(groups: Iterable[Mapping[str, Any]]) -> int:
    return sum(group["n"] for group in groups)


def _moments(columns: tuple[str, ...], groups: list[Mapping[str, Any]]) -> Moments:
    empty = Moments.of(columns, np.empty((0, len(columns))))
    return reduce(add, (_group_moments(columns, group) for group in groups), empty)


def _group_moments(columns: tuple[str, ...], group: Mapping[str, Any]) -> Moments:
    places = range(len(columns))
    m2 = [[group[f"m2_{max(i, j)}_{min(i, j)}"] for j in places] for i in places]
    return Moments(
        columns=columns,
        n=group["n"],
        mean=np.array([group[f"mean{i}"] for i in places], dtype=np.float64),
        m2=np.array(m2, dtype=np.float64),
        m3=np.array([group[f"m3_{i}"] for i in places], dtype=np.float64),
        nonzero=np.array([group[f"nonzero{i}"] for i in places], dtype=np.int64),
    )


def _events(experiment: Experiment, groups: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    return {
        (variant.key, name): sum(int(group[f"events{i}"]) for group in _of(groups, variant.key))
        for i, name in enumerate(count_columns(experiment))
        for variant in experiment.variants
    }


def _usage(calls: ir.Table, engine: BaseBackend) -> tuple[tuple[UsageSum, ...], Decimal | None]:
    """Sum the calls by who bears them, and find the dearest."""
    keys = ("charged_to", "variant", "counted", "category", "model", "source")
    sums = calls.group_by(*keys).aggregate(
        evidence=calls.evidence.min(),
        calls=calls.count(),
        unpriced=calls.amount.isnull().sum(),
        amount=calls.amount.sum().fill_null(0),
        highest=calls.amount.max(),
    )
    found = rows_of(engine, sums)
    prices = [row.pop("highest") for row in found]
    rows = [UsageSum(**row) for row in found]
    ordered = tuple(
        sorted(
            rows,
            key=lambda row: (
                row.charged_to,
                row.variant or "",
                row.counted,
                row.category,
                row.model,
                row.source,
            ),
        )
    )
    return ordered, max((price for price in prices if price is not None), default=None)


def _strangers(
    experiment: Experiment, exposures: ir.Table, watermark: Watermark, engine: BaseBackend
) -> int:
    found = exposures.filter(
        exposures.ingest_batch <= watermark.batch,
        exposures.experiment == experiment.key,
        ~exposures.variant.isin([variant.key for variant in experiment.variants]),
    )
    (row,) = rows_of(engine, found.aggregate(strangers=found.unit.nunique()))
    return int(row["strangers"])
