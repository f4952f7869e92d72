"""The readout: everything an analysis needs from the facts, as moments, counts and exact sums.

The unit table is computed once in the engine and reduced there; no unit row comes to Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis import ai_calls, amounts, attribution, observed
from klartext.analysis.ai_calls import AiCalls
from klartext.analysis.aliases import AliasCounts, count, merged
from klartext.analysis.amounts import Amounts
from klartext.analysis.columns import REGIME, STATE, count_columns, derived, value_columns
from klartext.analysis.diagnostics import (
    Diagnostics,
    diagnosed,
    halves,
    halves_of,
    models,
)
from klartext.analysis.engine import materialised, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.exposed import (
    exposed_units,
    known_before,
    reached_units,
    span_of,
    strangers,
)
from klartext.analysis.guardrails import Measured
from klartext.analysis.instants import whole
from klartext.analysis.local_days import clock_changes, day_of, midnight
from klartext.analysis.moments import Moments
from klartext.analysis.outcomes import events_in_window, of_days, tallies
from klartext.analysis.quantiles import Observations
from klartext.analysis.reduced import EXACT, Key, Reduced, Sums
from klartext.analysis.reduction import Columns, Group, moments_of, reduce, reduced
from klartext.analysis.regimes import combined
from klartext.analysis.result import CohortUse, VariantCounts
from klartext.analysis.segments import Segment, first_values, read_segments
from klartext.analysis.unit_table import Parts, complete, gather
from klartext.analysis.windows import windows
from klartext.experiments.caps import PercentileCap
from klartext.experiments.experiment import AI_KEYS, Experiment, Metric
from klartext.experiments.ledger.bills import Bill, Ledger
from klartext.experiments.records import from_microseconds
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables
    from klartext.experiments.splits import Split

_GROUP = ("variant", "excluded", "mature")
_MATURED, _EXPOSED = "matured.day", "exposed.day"  # no metric can be called that
_WHO = ("charged_to", "variant", "counted", "excluded", "bill", "category", "model", "source")
_UNITS, _USAGE = "units", "usage"

_CLOCKS = datetime(2020, 1, 1, tzinfo=UTC)
"""Local days before have the offset of this instant: a change is one more case in each query."""


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
        Number of calls, and of those without a price that no provider's bill pays for either.
    amount
        Sum of the priced ones, in the reporting currency.
    excluded
        Whether their units are out of the comparison for good: seen in two variants.
    bill
        Place among the bills of the ledger of the one that speaks of them;
        `klartext.analysis.attribution.NO_BILL` when none does.
    paid
        Calls without a price that a provider's bill pays for.
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
    excluded: bool = False
    bill: int = attribution.NO_BILL
    paid: int = 0


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
class Regime:
    """The units that one split assigned, per variant.

    Parameters
    ----------
    weights
        In millionths.
    moments
        Of mature units seen in one variant only.
    first
        Units whose first exposure was in the variant.
    excluded
        Those of them that saw another variant too.
    """

    weights: Mapping[str, int]
    moments: Mapping[str, Moments]
    first: Mapping[str, int]
    excluded: Mapping[str, int]


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
        The units of ``moments`` by the day on which they became mature, in order; none with
        several splits, whose moments do not add up over days.
    observations
        Per quantile metric the observations of each variant, or why there are none.
    calls
        What the AI metrics are made of; None when no AI call counts.
    caps
        Percentile caps, frozen or as they would be now.
    assigned
        With an exposure event: the readout of all units, counted from their exposure. None
        without one, when it would be this readout.
    segments
        The moments by level of each property that the spec names.
    diagnostics
        What the checks need beside all this; None when nobody asked.
    aliases
        Ids merged into exposed units; None when there never was an alias.
    regimes
        What ``moments`` are combined from, per split; empty before the start.
    ledger
        What the books say; its bills are those of the calls. ``moments`` know nothing of it.
    cohorts
        How much of it earlier analyses had left; None when nobody asked.
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
    observations: Mapping[str, Mapping[str, Observations] | NotEstimable] = field(
        default_factory=dict
    )
    calls: AiCalls | None = None
    caps: tuple[PercentileCap, ...] = ()
    assigned: Readout | None = None
    segments: tuple[Segment, ...] = ()
    diagnostics: Diagnostics | None = None
    aliases: AliasCounts | None = None
    regimes: tuple[Regime, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    cohorts: CohortUse | None = None

    def measured(self, metric: Metric, variant: str) -> Measured:
        """Return what ``metric`` is read from in ``variant``, or why it cannot be compared."""
        if metric.key in AI_KEYS:
            if self.calls is None:
                return NotEstimable("no-calls", "there are no AI calls to measure")
            return self._unmoved() or self.calls.measured(metric, variant)
        if metric.kind != "quantile":
            return self.moments[variant]
        found = self._unmoved() or self.observations[metric.key]
        return found if isinstance(found, NotEstimable) else found[variant]

    def _unmoved(self) -> NotEstimable | None:
        if len(self.regimes) < 2:
            return None
        return NotEstimable("moved-weights", "the weights moved; this is not combined over splits")

    def count(self, variant: str) -> VariantCounts:
        """Return the counts of ``variant``."""
        return next(count for count in self.counts if count.variant == variant)


def read_out(  # noqa: PLR0913 - facts of an experiment, and how they are computed
    experiment: Experiment,
    tables: FactTables,
    watermark: Watermark,
    *,
    engine: BaseBackend,
    splits: Sequence[Split] = (),
    ledger: Ledger | None = None,
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
    splits
        By which weights units were assigned, oldest first. With several, moments are those of
        `klartext.analysis.regimes`.
    ledger
        What the books say of the experiment; default: nothing.

    Notes
    -----
    Two runs agree within rounding, whatever the order or batching of the facts.
    """
    with ExitStack() as kept:
        found = _read(
            experiment,
            tables,
            watermark,
            engine=engine,
            splits=splits,
            ledger=ledger or Ledger(),
            keep=lambda lazy: kept.enter_context(materialised(engine, lazy)),
        )
    if experiment.exposure_event is None:
        return found
    whole = replace(experiment, exposure_event=None, segments=())
    every = read_out(whole, tables, watermark, engine=engine, splits=splits, ledger=ledger)
    return replace(found, assigned=every)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What there is of each unit before AI calls are charged to it.

    Parameters
    ----------
    exposed
        From `klartext.analysis.exposed.reached_units`.
    parts
        Of ``exposed``, with the halves of the novelty check.
    strangers
        Units with an exposure in a variant that the spec does not have.
    first
        From `klartext.analysis.exposed.exposed_units`; ``exposed`` itself without an exposure
        event.
    near
        From `klartext.analysis.outcomes.events_in_window`.
    """

    exposed: ir.Table
    parts: Parts
    strangers: int
    first: ir.Table
    near: ir.Table


def _read(  # noqa: PLR0913 - facts of an experiment, and how they are computed
    experiment: Experiment,
    tables: FactTables,
    watermark: Watermark,
    *,
    engine: BaseBackend,
    splits: Sequence[Split],
    ledger: Ledger,
    keep: Callable[[ir.Table], ir.Table],
) -> Readout:
    delivered = tables.aliases
    tables = merged(tables, watermark, keep)
    # Without the instants themselves: each is in microseconds too.
    exposed = first = keep(
        exposed_units(experiment, tables.exposures, watermark, splits).drop("exposed_at")
    )
    if experiment.exposure_event is not None:
        reached = reached_units(experiment, exposed, tables.events, watermark)
        exposed = keep(reached.drop("exposed_at"))
    (span,) = rows_of(engine, span_of(exposed))
    events = of_days(experiment, tables.events, **span)
    near = events_in_window(experiment, events, watermark, exposed)
    parts = gather(
        exposed,
        near,
        tallies(experiment, near, halves_of(experiment, near)),
        known_before(experiment, exposed, events, watermark),
    )
    unknown = strangers(experiment, tables.exposures, watermark)
    (row,) = rows_of(engine, unknown.aggregate(units=unknown.count()))
    gathered = Gathered(
        exposed, replace(parts, table=keep(parts.table)), int(row["units"]), first, near
    )
    found = _reduced(
        experiment,
        gathered,
        tables,
        watermark,
        engine=engine,
        splits=splits,
        bills=ledger.bills(watermark.cutoff),
        keep=keep,
    )
    return replace(found, aliases=count(delivered, first, watermark, engine), ledger=ledger)


def _reduced(  # noqa: PLR0913 - as `_read`
    experiment: Experiment,
    gathered: Gathered,
    tables: FactTables,
    watermark: Watermark,
    *,
    engine: BaseBackend,
    splits: Sequence[Split],
    bills: Sequence[Bill],
    keep: Callable[[ir.Table], ir.Table],
) -> Readout:
    """Reduce what was gathered; of ``tables`` the calls are read, and exposures for segments."""
    exposed, parts = gathered.exposed, gathered.parts
    calls = keep(attribution.attribute(experiment, tables.usage_costs, watermark, exposed, bills))
    (span,) = rows_of(engine, span_of(exposed))
    bill = billed(experiment, calls, engine=engine)
    units = complete(experiment, parts, keep(attribution.per_unit(calls)), dearest(bill))
    found = outcomes(experiment, parts, units, engine=engine, **span)
    found |= Reduced({"models": models(experiment, tables.usage_costs, watermark, engine)})
    segments: tuple[Segment, ...] = ()
    if experiment.segments and len(splits) < 2:  # not combined over splits, and never pooled
        columns = Columns(value_columns(experiment), derived(experiment))
        shares = _shares(experiment, bill | found)
        segments = read_segments(
            experiment,
            keep(units),
            keep(first_values(experiment, tables.exposures, watermark, gathered.first)),
            engine=engine,
            groups=lambda table, by: [
                _shifted(group, shares)
                for group in reduce(
                    table, columns, (*_GROUP, by), engine=engine, matters=_is_compared
                )
            ],
            moments=lambda found: moments_of(columns.names, found),
        )
    variants = [variant.key for variant in experiment.variants]
    return replace(
        assembled(
            experiment,
            bill | found,
            watermark,
            tables.events,
            splits=splits,
            of_all=lambda: ai_calls.latencies(calls.filter(calls.counted), variants, engine),
        ),
        first_exposure=instant(span["first_us"]),
        last_exposure=instant(span["last_us"]),
        strangers=gathered.strangers,
        segments=segments,
        observations={
            metric.key: observed.observations(
                observed.of_events(experiment, gathered.near, exposed, metric), variants, engine
            )
            for metric in experiment.metrics
            if metric.kind == "quantile"
        },
    )


def billed(
    experiment: Experiment,
    calls: ir.Table,
    *,
    engine: BaseBackend,
    known: Reduced | None = None,
) -> Reduced:
    """Reduce AI calls.

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
    usage, highest = _usage(calls, engine)
    found = ai_calls.sums(calls, variants, engine, known)
    return replace(Reduced({_USAGE: usage}) | found, highest=highest)


def dearest(*bills: Reduced | None) -> ir.NumericScalar:
    """Return what an unpriced call costs at most, from the sums of `billed`."""
    prices = [bill.highest for bill in bills if bill is not None and bill.highest is not None]
    return ibis.literal(float(max(prices, default=0)))


def outcomes(  # noqa: PLR0913 - units, and how they are reduced
    experiment: Experiment,
    parts: Parts,
    units: ir.Table,
    *,
    first_us: int | None,
    last_us: int | None,
    engine: BaseBackend,
    known: Reduced | None = None,
) -> Reduced:
    """Reduce the columns of units.

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
        return Reduced({_UNITS: {}})
    dated = _dated(experiment, parts.table, first_us, last_us)
    states = tuple({STATE} & set(dated.columns))
    keys = (*states, *_GROUP, _MATURED, _EXPOSED, *({REGIME} & set(dated.columns)))
    tallied = dated.select(
        *keys,
        **{name: parts.tallies.of(dated, name).cast("int64") for name in _totals(experiment)},
    )
    totals = tallied.group_by(*keys).aggregate(
        n=tallied.count(), **{name: tallied[name].sum() for name in _totals(experiment)}
    )
    compared = _dated(experiment, units.filter(units.mature, ~units.excluded), first_us, last_us)
    columns = Columns(value_columns(experiment), derived(experiment))
    groups = reduce(
        compared,
        columns,
        keys,
        engine=engine,
        merged_over=(_MATURED, _EXPOSED),
        known=None if known is None else known.by_variant(_UNITS),
    )
    numbers = ("n", *_totals(experiment))
    place = len(states)
    return Reduced(
        {
            _UNITS: {
                _key(row, keys): tuple(row[name] for name in numbers)
                for row in rows_of(engine, totals)
            }
        },
        {
            **{
                (*key[:place], _UNITS, *key[place:]): moments_of(columns.names, [row])
                for row in groups
                for key in [_key(row, keys)]
            },
            **halves(experiment, parts, engine, known),
        },
    )


def _dated(experiment: Experiment, units: ir.Table, first_us: int, last_us: int) -> ir.Table:
    """Add the local days on which units were exposed and are mature, for `local_days.day_of`."""
    wait = windows(experiment).maturity + experiment.lateness
    first, last = map(from_microseconds, (first_us, last_us))
    changes = clock_changes(experiment.timezone, max(first, _CLOCKS), max(last, _CLOCKS) + wait)
    at = units.exposed_us
    return units.mutate(
        **{_MATURED: midnight(at + whole(wait), changes), _EXPOSED: midnight(at, changes)}
    )


def assembled(  # noqa: PLR0913 - what was reduced, and what it is to be read with
    experiment: Experiment,
    sums: Reduced,
    watermark: Watermark,
    events: ir.Table,
    *,
    splits: Sequence[Split] = (),
    of_all: Callable[[], Mapping[str, Observations] | NotEstimable],
) -> Readout:
    """Return the readout of what was reduced; what no sums tell is left out.

    Parameters
    ----------
    experiment
        Resolved spec.
    sums
        Those of `billed` and `outcomes`.
    watermark
        Of the facts.
    events
        For the types of their properties.
    splits
        By which weights units were assigned.
    of_all
        Returns the latencies of all calls that count.
    """
    keys = (*_GROUP, _MATURED, _EXPOSED, *((REGIME,) if len(splits) > 1 else ()))
    groups: list[Group] = [
        dict(zip((*keys, "n", *_totals(experiment)), (*key, *numbers), strict=True))
        for key, numbers in sums.exact[_UNITS].items()
    ]
    columns = value_columns(experiment)
    usage, shares = usage_of(sums), _shares(experiment, sums)
    groups = [
        _shifted(group | {"moments": sums.moments[_UNITS, *_key(group, keys)]}, shares)
        if _is_compared(group)
        else group
        for group in groups
    ]
    compared = [group for group in groups if _is_compared(group)]
    included = [group for group in groups if not group["excluded"]]
    variants = [variant.key for variant in experiment.variants]
    regimes = tuple(
        _regime(columns, variants, split, [g for g in groups if g.get(REGIME, place) == place])
        for place, split in enumerate(splits)
    )
    moments = {key: moments_of(columns, _of(compared, key)) for key in variants}
    if len(regimes) > 1:
        moments = combined([regime.moments for regime in regimes])
    return Readout(
        watermark=watermark,
        moments=moments,
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
        first_exposure=None,
        last_exposure=None,
        usage=usage,
        highest_price=sums.highest,
        amounts=amounts.examine(
            experiment,
            events,
            {name: sum(group[name] for group in groups) for name in amounts.names(experiment)},
        ),
        strangers=0,
        daily=tuple(
            MaturityDay(
                day_of(day),
                {key: moments_of(columns, _of(found, key)) for key in variants},
            )
            for day, found in (_by_day(compared) if len(regimes) < 2 else ())
        ),
        regimes=regimes,
        calls=ai_calls.assembled(
            sums, {key: _units(_of(compared, key)) for key in variants}, of_all
        )
        if usage
        else None,
        diagnostics=diagnosed(experiment, sums, _exposed_by_day(groups)),
    )


def _shares(experiment: Experiment, sums: Reduced) -> dict[str, dict[str, float]]:
    """Return per variant what its units share of the calls that are charged to none.

    Added to the moments, which it moves and nothing else: in an analysis of a few units as of
    all, whatever calls without a unit the day has brought.
    """
    units = {variant.key: 0 for variant in experiment.variants}
    for (variant, excluded, *_), (n, *_) in sums.exact[_UNITS].items():
        units[variant] += 0 if excluded else int(n)
    amounts: dict[tuple[str, str | None], float] = {}
    unpriced: dict[tuple[str, str | None], int] = {}
    for row in usage_of(sums):
        bearer = row.charged_to, row.variant
        amounts[bearer] = amounts.get(bearer, 0.0) + float(row.amount)
        unpriced[bearer] = unpriced.get(bearer, 0) + row.unpriced
    highest = float(sums.highest or 0)
    found = {}
    for variant, n in units.items():
        shared, nobody = (attribution.SHARED, variant), (attribution.NOBODY, None)
        cost = amounts.get(shared, 0.0)
        worst = cost + unpriced.get(shared, 0) * highest
        if variant != experiment.control:
            worst += amounts.get(nobody, 0.0) + unpriced.get(nobody, 0) * highest
        each = {"cost": cost / max(n, 1), "cost_high": worst / max(n, 1)}
        found[variant] = each | {
            name: sum(weight * each.get(part, 0.0) for part, weight in parts.items())
            for name, parts in derived(experiment).items()
        }
    return found


def _shifted(group: Group, shares: Mapping[str, Mapping[str, float]]) -> Group:
    return group | {"moments": group["moments"].shifted(shares[group["variant"]])}


def _totals(experiment: Experiment) -> tuple[str, ...]:
    return (*count_columns(experiment).values(), *amounts.names(experiment))


def _key(row: Mapping[str, Any], keys: Iterable[str]) -> Key:
    return tuple(row[name] for name in keys)


def _exposed_by_day(groups: Iterable[Group]) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for group in groups:
        key = group["variant"], group[_EXPOSED]
        found[key] = found.get(key, 0) + group["n"]
    return found


def _by_day(groups: list[Group]) -> Iterator[tuple[int, list[Group]]]:
    for day in sorted({group[_MATURED] for group in groups}):
        yield day, [group for group in groups if group[_MATURED] == day]


def sums(experiment: Experiment, units: ir.Table) -> ir.Table:
    """Return the sums that the moments follow from, to be shown; deviations start at 0 here."""
    columns = Columns(value_columns(experiment), derived(experiment))
    group = (*_GROUP, *({REGIME} & set(units.columns)))
    return reduced(units, columns, group, totals=tuple(count_columns(experiment).values()))


def _regime(
    columns: tuple[str, ...],
    variants: Iterable[str],
    split: Split,
    groups: list[Group],
) -> Regime:
    """Return the units of one split; strays in a variant of weight zero are no sample of it."""
    excluded = [group for group in groups if group["excluded"]]
    compared = [group for group in groups if _is_compared(group)]
    return Regime(
        weights=split.weights,
        moments={
            key: moments_of(columns, _of(compared, key) if split.weights[key] else [])
            for key in variants
        },
        first={key: _units(_of(groups, key)) for key in variants},
        excluded={key: _units(_of(excluded, key)) for key in variants},
    )


def _is_compared(group: Group) -> bool:
    return bool(group["mature"] and not group["excluded"])


def instant(since_1970: int | None) -> datetime | None:
    """Return an instant from microseconds since 1970."""
    return None if since_1970 is None else from_microseconds(since_1970)


def _of(groups: Iterable[Group], variant: str) -> list[Group]:
    return [group for group in groups if group["variant"] == variant]


def _units(groups: Iterable[Group]) -> int:
    return sum(group["n"] for group in groups)


def _events(experiment: Experiment, groups: Iterable[Group]) -> dict[tuple[str, str], int]:
    return {
        (variant.key, name): sum(group[column] for group in _of(groups, variant.key))
        for name, column in count_columns(experiment).items()
        for variant in experiment.variants
    }


def _usage(calls: ir.Table, engine: BaseBackend) -> tuple[Sums, Decimal | None]:
    """Sum the calls by who bears them, and find the dearest."""
    keys = (*({STATE} & set(calls.columns)), *_WHO, "evidence")
    sums = calls.group_by(*keys).aggregate(
        calls=calls.count(),
        unpriced=(calls.amount.isnull() & ~calls.is_billed).sum(),
        paid=(calls.amount.isnull() & calls.is_billed).sum(),
        amount=calls.amount.sum().fill_null(0),
        highest=calls.amount.max(),
    )
    found = rows_of(engine, sums)
    prices = [row["highest"] for row in found]
    return (
        {
            _key(row, keys): (row["calls"], row["unpriced"], row["paid"], Decimal(row["amount"]))
            for row in found
        },
        max((price for price in prices if price is not None), default=None),
    )


def usage_of(sums: Reduced) -> tuple[UsageSum, ...]:
    """Return the calls by who bears them, in order."""
    found: dict[Key, dict[str, Any]] = {}
    for (*who, evidence), (calls, unpriced, paid, amount) in sums.exact[_USAGE].items():
        row = found.setdefault(
            tuple(who),
            {"evidence": None, "calls": 0, "unpriced": 0, "paid": 0, "amount": Decimal(0)},
        )
        told = [one for one in (row["evidence"], evidence) if one is not None]
        row["evidence"] = min(told, default=None)
        row["calls"] += calls
        row["unpriced"] += unpriced
        row["paid"] += paid
        row["amount"] = EXACT.add(row["amount"], Decimal(amount))
    rows = [UsageSum(**dict(zip(_WHO, who, strict=True)), **row) for who, row in found.items()]
    return tuple(
        sorted(
            rows,
            key=lambda row: (
                row.charged_to,
                row.variant or "",
                row.counted,
                row.category,
                row.model,
                row.source,
                row.bill,
                row.excluded,
            ),
        )
    )
