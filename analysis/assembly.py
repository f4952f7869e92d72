"""Assembly: the readout that follows from reduced facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import ibis.expr.types as ir

from klartext.analysis import ai_calls, amounts, attribution
from klartext.analysis.columns import REGIME, count_columns, derived, value_columns
from klartext.analysis.diagnostics import diagnosed
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.local_days import day_of
from klartext.analysis.quantiles import Observations
from klartext.analysis.readout import MaturityDay, Readout, Regime, UsageSum
from klartext.analysis.reduced import EXACT, Key, Reduced
from klartext.analysis.reduction import Group, moments_of
from klartext.analysis.regimes import combined
from klartext.analysis.result import VariantCounts
from klartext.analysis.unit_sums import (
    BEARER,
    EXPOSED,
    GROUP,
    MATURED,
    UNITS,
    USAGE,
    key_of,
    totals_of,
)
from klartext.experiments.experiment import Experiment
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.splits import Split


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
    keys = (*GROUP, MATURED, EXPOSED, *((REGIME,) if len(splits) > 1 else ()))
    groups: list[Group] = [
        dict(zip((*keys, "n", *totals_of(experiment)), (*key, *numbers), strict=True))
        for key, numbers in sums.exact[UNITS].items()
    ]
    columns = value_columns(experiment)
    usage, shares = usage_of(sums), shares_of(experiment, sums)
    groups = [
        shifted(group | {"moments": sums.moments[UNITS, *key_of(group, keys)]}, shares)
        if is_compared(group)
        else group
        for group in groups
    ]
    compared = [group for group in groups if is_compared(group)]
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


def shares_of(experiment: Experiment, sums: Reduced) -> dict[str, dict[str, float]]:
    """Return per variant what its units share of the calls that are charged to none.

    Added to the moments, which it moves and nothing else: in an analysis of a few units as of
    all, whatever calls without a unit the day has brought.
    """
    units = {variant.key: 0 for variant in experiment.variants}
    for (variant, excluded, *_), (n, *_) in sums.exact[UNITS].items():
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


def shifted(group: Group, shares: Mapping[str, Mapping[str, float]]) -> Group:
    """Return a group with the ``shares`` of its variant in the moments of its units."""
    return group | {"moments": group["moments"].shifted(shares[group["variant"]])}


def _exposed_by_day(groups: Iterable[Group]) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for group in groups:
        key = group["variant"], group[EXPOSED]
        found[key] = found.get(key, 0) + group["n"]
    return found


def _by_day(groups: list[Group]) -> Iterator[tuple[int, list[Group]]]:
    for day in sorted({group[MATURED] for group in groups}):
        yield day, [group for group in groups if group[MATURED] == day]


def _regime(
    columns: tuple[str, ...],
    variants: Iterable[str],
    split: Split,
    groups: list[Group],
) -> Regime:
    """Return the units of one split; strays in a variant of weight zero are no sample of it."""
    excluded = [group for group in groups if group["excluded"]]
    compared = [group for group in groups if is_compared(group)]
    return Regime(
        weights=split.weights,
        moments={
            key: moments_of(columns, _of(compared, key) if split.weights[key] else [])
            for key in variants
        },
        first={key: _units(_of(groups, key)) for key in variants},
        excluded={key: _units(_of(excluded, key)) for key in variants},
    )


def is_compared(group: Group) -> bool:
    """Whether the units of a group are in the comparison."""
    return bool(group["mature"] and not group["excluded"])


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


def usage_of(sums: Reduced) -> tuple[UsageSum, ...]:
    """Return the calls by who bears them, in order."""
    found: dict[Key, dict[str, Any]] = {}
    for (*who, evidence), (calls, unpriced, paid, amount) in sums.exact[USAGE].items():
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
    rows = [UsageSum(**dict(zip(BEARER, who, strict=True)), **row) for who, row in found.items()]
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
