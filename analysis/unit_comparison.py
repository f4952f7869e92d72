"""Comparison of variants in a table of units that somebody else made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ibis.expr.types as ir
from pyarrow.dataset import Dataset

from klartext.analysis.adjusted import read_adjusted
from klartext.analysis.frames import VariantMoments, estimates_frame
from klartext.analysis.look import Look
from klartext.analysis.result import MetricResult
from klartext.analysis.unit_moments import UnitTableError, moments_by_variant

if TYPE_CHECKING:
    import pandas as pd


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
    units: ir.Table | Dataset,
    metrics: Mapping[str, Sequence[str]],
    *,
    variant: str,
    control: str,
    alpha: float,
    planned_n: int | None,
) -> UnitComparison:
    """Compare the variants of a table of units.

    Parameters
    ----------
    units
        One row per unit, in columns that are numbers; an Ibis table is summed by its engine.
    metrics
        Columns to compare the means of, each with the columns known before exposure that it is
        adjusted for; none is fine.
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
    found = moments_by_variant(units, metrics, variant)
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
