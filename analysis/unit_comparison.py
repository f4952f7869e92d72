"""Comparison of variants in a table of units that somebody else made."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce as fold
from itertools import chain
from operator import and_, or_
from typing import TYPE_CHECKING

import ibis.expr.types as ir
import numpy as np
from ibis.backends import BaseBackend

from klartext.analysis.adjusted import read_adjusted
from klartext.analysis.engine import rows_of
from klartext.analysis.frames import VariantMoments, estimates_frame
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.analysis.reduction import Columns, reduce
from klartext.analysis.result import MetricResult
from klartext.experiments.errors import KlartextError

if TYPE_CHECKING:
    import pandas as pd

_VARIANT = "variant"


class UnitTableError(KlartextError):
    """The table of units cannot be compared as it is."""


@dataclass(frozen=True, slots=True)
class UnitComparison:
    """Differences of each variant from the control; nothing is registered, so no verdict.

    Parameters
    ----------
    metrics
        Per treatment and metric, by each method, the one to be read first in front. Their
        p-values are not adjusted for each other.
    moments
        Per metric, by variant: the metric and its covariates.
    """

    metrics: tuple[MetricResult, ...]
    moments: Mapping[str, VariantMoments]

    def to_frame(self) -> pd.DataFrame:
        """Return the estimates as a table: one row per metric, treatment and method."""
        return estimates_frame(self.metrics)


def compare(  # noqa: PLR0913 - a table, which columns of it, and how they are read
    units: ir.Table,
    metrics: Mapping[str, Sequence[str]],
    *,
    engine: BaseBackend,
    variant: str,
    control: str,
    alpha: float,
    planned_n: int | None,
) -> UnitComparison:
    """Compare the variants of a table of units.

    Parameters
    ----------
    units
        One row per unit, in columns that are numbers.
    metrics
        Columns to compare the means of, each with the columns known before exposure that it is
        adjusted for; none is fine.
    engine
        Of ``units``.
    variant
        Column that says who got what.
    control
        The variant that the others are compared with.
    alpha
        Two-sided error.
    planned_n
        Units planned for a treatment and the control together, fixed before the start: then
        intervals hold however often one looks. None: this is the one look.

    Returns
    -------
    UnitComparison
        With covariates Lin's estimate and CUPED before the plain difference.

    Raises
    ------
    UnitTableError
        A column is missing, no number, or has gaps (NaN and infinity too); the control or a
        treatment has no units.
    ValueError
        ``alpha`` is not between 0 and 1, or ``planned_n`` not positive.
    """
    if planned_n is not None and planned_n < 1:
        raise ValueError(f"planned_n is {planned_n}: it must be positive")
    found = _moments(units, metrics, engine=engine, variant=variant)
    if control not in found or len(found) < 2:
        names = ", ".join(found) or "none"
        raise UnitTableError(f"{control} and another variant are to be compared; found: {names}")
    look = Look("fixed" if planned_n is None else "anytime", planned_n, deciding=True)
    moments = {
        metric: VariantMoments({key: one.only((metric, *others)) for key, one in found.items()})
        for metric, others in metrics.items()
    }
    results = tuple(
        _result(moments[metric], treatment, control, others, look=look, alpha=alpha)
        for treatment in found
        if treatment != control
        for metric, others in metrics.items()
    )
    return UnitComparison(results, moments)


def _moments(
    units: ir.Table, metrics: Mapping[str, Sequence[str]], *, engine: BaseBackend, variant: str
) -> dict[str, Moments]:
    names = tuple(dict.fromkeys(chain(metrics, *metrics.values())))
    problems = list(_problems(units, metrics, names, variant))
    if problems:
        raise UnitTableError("; ".join(problems))
    gaps = f"gaps in {names}"  # a name that no column of them can have
    table = units.select(
        **{name: units[name].cast("float64").fill_null(0.0) for name in names},
        **{
            _VARIANT: units[variant].cast("string"),
            gaps: fold(or_, (units[name].isnull() for name in names)).cast("int64"),  # noqa: PD003
        },
    )
    together = tuple(frozenset((metric, *others)) for metric, others in metrics.items())
    columns = Columns(names, {}, together)
    groups = reduce(table, columns, [_VARIANT], engine=engine, totals=[gaps], sampled=False)
    if any(group[_VARIANT] is None for group in groups):
        raise UnitTableError(f"units without a {variant}: leave them out or say what they got")
    missing = sum(group[gaps] for group in groups)
    if not all(np.isfinite(group["moments"].mean).all() for group in groups):
        (row,) = rows_of(engine, _without_number(units, names))
        missing = row["units"]
    if missing:
        fix = "write 0 where nothing happened, or leave the unit out"
        where = f"gaps in {', '.join(names)}, or no finite number"
        raise UnitTableError(f"{missing} units have {where}: {fix}")
    return {
        group[_VARIANT]: group["moments"] for group in sorted(groups, key=lambda one: one[_VARIANT])
    }


def _without_number(units: ir.Table, names: Sequence[str]) -> ir.Table:
    """Count the units with a null, NaN or infinity, which Arrow and Parquet keep apart."""
    values = (units[name].cast("float64").abs() for name in names)
    known = fold(and_, ((value <= sys.float_info.max).fill_null(False) for value in values))  # noqa: FBT003 - Ibis
    return units.aggregate(units=(~known).sum())


def _problems(
    units: ir.Table, metrics: Mapping[str, Sequence[str]], names: Sequence[str], variant: str
) -> Iterator[str]:
    if not metrics:
        yield "no metric is named"
    for name in (variant, *names):
        if name not in units.columns:
            yield f"there is no column {name} (there are {', '.join(units.columns)})"
            continue
        if sum(name.casefold() == other.casefold() for other in units.columns) > 1:
            yield f"{name} is another column's name too, but for upper and lower case"
        kind = units[name].type()
        if name != variant and not (kind.is_numeric() or kind.is_boolean()):
            yield f"{name} is {kind}: no number"
    if variant in names or _VARIANT in names:
        yield f"{variant if variant in names else _VARIANT} names the variant, not a metric"
    for name in sorted(set(chain.from_iterable(metrics.values())) & set(metrics)):
        yield f"{name} is a metric: what the treatment can change adjusts for nothing"


def _result(  # noqa: PLR0913 - a metric of two variants, and how it is read
    moments: VariantMoments,
    treatment: str,
    control: str,
    covariates: Sequence[str],
    *,
    look: Look,
    alpha: float,
) -> MetricResult:
    one, base = moments[treatment], moments[control]
    metric = one.columns[0]
    adjusted, did = read_adjusted(one, base, metric, covariates, look=look, alpha=alpha)
    return MetricResult(
        metric=metric,
        variant=treatment,
        baseline=control,
        primary=False,
        is_money=False,
        is_rate=False,
        mean=one.sample(metric).mean,
        baseline_mean=base.sample(metric).mean,
        estimates=(*adjusted, *look.estimates(one, base, metric, alpha=alpha, is_rate=False)),
        adjustment=did,
    )
