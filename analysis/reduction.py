"""Reduction: unit columns to moments per group, in the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import ibis.expr.types as ir
import numpy as np

from klartext.analysis.moments import Moments


def reduced(
    units: ir.Table,
    columns: Sequence[str],
    group: Sequence[str],
    also: Mapping[str, ir.Scalar] | None = None,
) -> ir.Table:
    """Return one row per group: n, means, non-zero counts, m2 and m3 of unit columns.

    Parameters
    ----------
    units
        One row per unit, float64 ``columns`` without nulls.
    columns
        Which to reduce; they are numbered in the result, for a metric may be called anything.
    group
        Columns without nulls.
    also
        More aggregates of ``units``.

    Notes
    -----
    Means first, then products of deviations from them: raw sums of squares lose every digit of
    the variance when the mean is large.
    """
    means = units.group_by(*group).aggregate(
        n=units.count(),
        **{f"mean{i}": units[column].mean() for i, column in enumerate(columns)},
        **{f"nonzero{i}": (units[column] != 0).sum() for i, column in enumerate(columns)},
        **(also or {}),
    )
    joined = units.inner_join(means, tuple(group))
    centred = joined.select(
        *group,
        **{f"d{i}": joined[column] - joined[f"mean{i}"] for i, column in enumerate(columns)},
    )
    pairs = [(i, j) for i in range(len(columns)) for j in range(i + 1)]
    sums = centred.group_by(*group).aggregate(
        **{f"m2_{i}_{j}": (centred[f"d{i}"] * centred[f"d{j}"]).sum() for i, j in pairs},
        **{
            f"m3_{i}": (centred[f"d{i}"] * centred[f"d{i}"] * centred[f"d{i}"]).sum()
            for i in range(len(columns))
        },
    )
    return means.inner_join(sums, tuple(group))


def moments_of(columns: tuple[str, ...], groups: Iterable[Mapping[str, Any]]) -> Moments:
    """Return the moments of several rows of `reduced` together; of none those of no units."""
    empty = Moments.of(columns, np.empty((0, len(columns))))
    return reduce(add, (_moments(columns, group) for group in groups), empty)


def _moments(columns: tuple[str, ...], group: Mapping[str, Any]) -> Moments:
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
