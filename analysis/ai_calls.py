"""The AI calls of an experiment as unit columns: what the metrics ``ai.*`` are made of.

Units were randomised, so units are independent and calls are not. A call without a unit can tell
a level, but no error: nobody knows which other calls belong to the same unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
from ibis.backends import BaseBackend

from klartext.analysis import observed
from klartext.analysis.attribution import UNIT
from klartext.analysis.columns import STATE
from klartext.analysis.engine import Pending, asked_rows, materialised
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.quantiles import Observations
from klartext.analysis.reduced import STATES, Key, Number, Reduced, mark
from klartext.analysis.reduction import Columns, Group, moments_of, reduce
from klartext.experiments.experiment import AI_KEYS, AI_METRICS, Metric

COVERED = 0.95
"""Share of a variant's calls that must carry what a metric needs, and a unit, for an interval."""

COLUMNS = tuple(
    dict.fromkeys(
        part
        for metric in AI_METRICS
        for part in (metric.numerator, metric.denominator)
        if part is not None
    )
)
"""Unit columns, sums over the calls of a unit."""

NAME = "calls"
"""Name of the sums and moments of calls."""

_NUMBERS = (
    "ai.calls",
    *(name for name in COLUMNS if name != "ai.calls"),
    *(f"{of}.{key}" for of in ("known", "unit") for key in sorted(AI_KEYS)),
)
"""In an order that every process has: sums of one are added to those of another."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many calls of a variant carry what a metric needs.

    Parameters
    ----------
    calls
        All of them, those of mature units and shared ones.
    known
        Of these, those that carry it.
    with_unit
        Of these, those with a unit.
    """

    calls: int
    known: int
    with_unit: int

    @property
    def is_enough(self) -> bool:
        """Whether units can stand for all calls; true without any calls."""
        return self.with_unit >= COVERED * self.calls


@dataclass(frozen=True, slots=True)
class AiCalls:
    """The AI calls that count, reduced.

    Parameters
    ----------
    moments
        Per variant, of `COLUMNS` over the mature units seen in one variant only.
    totals
        Per variant, the same columns summed over all calls, shared ones included.
    coverage
        Per variant and metric.
    latencies
        Per variant, milliseconds: of the calls with a unit where that is enough in all variants,
        else of all calls, which have a level only.
    """

    moments: Mapping[str, Moments]
    totals: Mapping[str, Mapping[str, float]]
    coverage: Mapping[str, Mapping[str, Coverage]]
    latencies: Mapping[str, Observations] | NotEstimable

    def measured(self, metric: Metric, variant: str) -> Moments | Observations | NotEstimable:
        """Return what ``metric`` can be compared by, or why it has no interval."""
        found = self.coverage[variant][metric.key]
        if not found.is_enough:
            detail = (
                f"{found.with_unit:,} of {found.calls:,} AI calls of {variant} name a unit and "
                f"carry what {metric.key} needs"
            )
            return NotEstimable("calls-without-unit", detail)
        if metric.kind != "quantile":
            return self.moments[variant]
        return (
            self.latencies if isinstance(self.latencies, NotEstimable) else self.latencies[variant]
        )


def sums(
    calls: ir.Table,
    variants: Sequence[str],
    engine: BaseBackend,
    known: Reduced | None = None,
) -> Pending[Reduced]:
    """Ask for the calls that count; the latencies and moments are those of calls with a unit.

    Parameters
    ----------
    calls
        From `klartext.analysis.attribution.attribute`; keys begin with their ``state``, if any.
    variants
        Keys of all variants.
    engine
        The engine of ``calls``.
    known
        Sums of other calls, to begin with.

    Notes
    -----
    Per task: calls without a task are left out, and for the cost those without a price, so that
    numerator and denominator are of the same tasks. A task that two units share counts for both.
    The totals of tasks add up only where no task is in both.
    """
    counted = calls.filter(calls.counted)
    totals = asked_rows(engine, _totals(counted))
    has_some = known is not None and bool(known.exact[NAME])
    if not has_some and not totals():  # two queries less
        return lambda: Reduced({NAME: {}})
    direct = counted.filter(counted.charged_to == UNIT)
    states = tuple({STATE} & set(calls.columns))
    each = direct.group_by(*states, "variant", "unit").aggregate(**_sums(direct))
    table = each.select(
        *states, "variant", **{name: each[name].fill_null(0).cast("float64") for name in COLUMNS}
    )
    before = None if known is None else known.by_variant(NAME)
    with ExitStack() as meanwhile:
        if before is None:  # it is read more than once
            table = meanwhile.enter_context(materialised(engine, table))
        groups = reduce(
            table, Columns(COLUMNS, {}), (*states, "variant"), engine=engine, known=before
        )
        if before is None:
            groups()  # while the table is there
    durations = latencies(direct, variants, engine)

    def state(row: Group) -> Key:
        return tuple(row[name] for name in states)

    def found() -> Reduced:
        numbers = {
            (*state(row), row["variant"]): tuple(row[name] or 0 for name in _NUMBERS)
            for row in totals()
        }
        moments = {
            (*state(row), NAME, row["variant"]): moments_of(COLUMNS, [row]) for row in groups()
        }
        return Reduced({NAME: numbers}, moments, latencies=durations() if numbers else {})

    return found


def latencies(
    calls: ir.Table, variants: Sequence[str], engine: BaseBackend
) -> Pending[Mapping[str, Observations] | NotEstimable]:
    """Ask for the durations of calls per variant, marked with their `mark` of a state."""
    timed = calls.filter(calls.duration_ms.notnull())
    if STATE in calls.columns:
        timed = timed.mutate(variant=timed[STATE].cast("string") + " " + timed.variant)
        variants = [mark(state) + variant for state in STATES for variant in variants]
    timed = timed.select("variant", "unit", value=timed.duration_ms.cast("float64"))
    return observed.observations(timed, variants, engine)


def has_tasks(found: Reduced) -> bool:
    """Whether some call has a task: how many there are is no sum."""
    place = _NUMBERS.index("ai.tasks")
    return any(numbers[place] for numbers in found.exact[NAME].values())


def assembled(
    found: Reduced,
    units: Mapping[str, int],
    of_all: Callable[[], Mapping[str, Observations] | NotEstimable],
) -> AiCalls | None:
    """Return what the AI metrics are made of from the `sums`; None when no call counts.

    Parameters
    ----------
    found
        From `sums`.
    units
        Mature units seen in one variant only, per variant; most may have no call.
    of_all
        Returns the `latencies` of all calls that count.
    """
    totals = {
        variant: dict(zip(_NUMBERS, numbers, strict=True))
        for (variant,), numbers in found.exact[NAME].items()
    }
    if not totals:
        return None
    coverage = {key: _coverage(totals.get(key)) for key in units}
    timed = [each["ai.latency_p50"] for each in coverage.values()]
    # Without a timed call that names no unit, those of units are all there are.
    is_enough = all(one.is_enough or one.with_unit == one.known for one in timed)
    calling = {key: found.moments.get((NAME, key), moments_of(COLUMNS, [])) for key in units}
    return AiCalls(
        moments={key: calling[key] + _without_calls(units[key] - calling[key].n) for key in units},
        totals={
            key: {name: float(totals[key][name]) if key in totals else 0.0 for name in COLUMNS}
            for key in units
        },
        coverage=coverage,
        latencies=found.latencies if is_enough else of_all(),
    )


def _without_calls(n: int) -> Moments:
    k = len(COLUMNS)
    zero, nothing = np.zeros(k), np.zeros(k, dtype=np.int64)
    return Moments(COLUMNS, n, zero, np.zeros((k, k)), zero, nothing)


def _sums(calls: ir.Table) -> dict[str, ir.NumericScalar]:
    """Return the aggregates behind `COLUMNS`."""
    known = _known(calls)
    priced, tasked, cached = (
        known[key] for key in ("ai.cost_per_task", "ai.tokens", "ai.cache_share")
    )
    return {
        "ai.cost": calls.amount.sum(where=priced),
        "ai.priced_tasks": calls.task.nunique(where=priced),
        "ai.errors": calls.error.count(),
        "ai.calls": calls.count(),
        "ai.tokens": (calls.input_tokens + calls.output_tokens).sum(where=tasked),
        "ai.tasks": calls.task.nunique(),
        "ai.cached_tokens": calls.cached_tokens.sum(where=cached),
        "ai.input_tokens": calls.input_tokens.sum(where=cached),
    }


def _known(calls: ir.Table) -> dict[str, ir.BooleanValue]:
    """Which calls carry what each metric needs."""
    timed, tasked = calls.duration_ms.notnull(), calls.task.notnull()
    return {
        "ai.cost_per_task": tasked & calls.amount.notnull(),
        "ai.latency_p50": timed,
        "ai.latency_p95": timed,
        "ai.error_rate": ibis.literal(True),  # noqa: FBT003 - every call: no error is a fact too
        "ai.tokens": tasked,
        "ai.cache_share": calls.cached_tokens.notnull(),
    }


def _totals(calls: ir.Table) -> ir.Table:
    own = calls.charged_to == UNIT
    known = _known(calls)
    return calls.group_by(*({STATE} & set(calls.columns)), "variant").aggregate(
        **_sums(calls),
        **{f"known.{key}": calls.count(where=condition) for key, condition in known.items()},
        **{f"unit.{key}": calls.count(where=condition & own) for key, condition in known.items()},
    )


def _coverage(row: Mapping[str, Number] | None) -> dict[str, Coverage]:
    if row is None:
        return {key: Coverage(0, 0, 0) for key in AI_KEYS}
    return {
        key: Coverage(int(row["ai.calls"]), int(row[f"known.{key}"]), int(row[f"unit.{key}"]))
        for key in AI_KEYS
    }
