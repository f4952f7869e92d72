"""Reduction: unit columns to moments per group, in one pass of the engine.

Products of raw values lose every digit of the variance when the mean is large, so deviations from
an origin near the data are summed: a value that a unit of the group has. Were it far after all,
the pass is repeated about the means that it found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, TypeAlias

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from ibis.backends import BaseBackend

from klartext.analysis.engine import Pending, asked_rows, rows_of
from klartext.analysis.moments import FloatArray, Moments

SAMPLE = 1_000
"""Units looked at for the origin."""

Group: TypeAlias = dict[str, Any]
"""The columns that a group shares, its ``n``, its ``moments``, and whatever else was asked for."""

_MOMENTS = "moments"
_FAR = 100
"""How many times the square of a known mean exceeds the variance where sums begin at the mean.

Sums about 0 lose two digits there; `Moments.is_far` calls three too many.
"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns to reduce.

    Parameters
    ----------
    names
        All of them: float64, without nulls.
    combined
        Those that are weighted sums of others, with the weights: of these only third moments and
        non-zero values are computed, the rest follows.
    together
        Sets of columns, of which none is combined, within which second moments are wanted; those
        across them are NaN. Empty: all are wanted.
    """

    names: tuple[str, ...]
    combined: Mapping[str, Mapping[str, float]]
    together: tuple[frozenset[str], ...] = ()

    @property
    def base(self) -> tuple[str, ...]:
        """Names of those that are no sums of others."""
        return tuple(name for name in self.names if name not in self.combined)

    @property
    def weights(self) -> FloatArray:
        """``(names, base)``: each column as a sum of base columns."""
        rows = [self.combined.get(name, {name: 1.0}) for name in self.names]
        return np.array([[row.get(name, 0.0) for name in self.base] for row in rows])

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """Places of base columns whose product is wanted, the larger first."""
        places = [(self.names.index(name), name) for name in self.base]
        return tuple(
            (i, j)
            for i, one in places
            for j, other in places
            if j <= i and (not self.together or any({one, other} <= some for some in self.together))
        )

    def of_base(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return one value for each column from those of the base columns, and their rest.

        Together exact: groups with other origins are compared to the last digit.
        """
        if not values.any():
            return np.zeros(len(self.names)), np.zeros(len(self.names))
        given = dict(zip(self.base, map(Fraction, values.tolist()), strict=True))
        exact = [
            sum(
                (given[part] * Fraction(weight) for part, weight in parts.items()),
                start=Fraction(),
            )
            for parts in (self.combined.get(name, {name: 1.0}) for name in self.names)
        ]
        rounded = [float(value) for value in exact]
        rest = [float(one - Fraction(other)) for one, other in zip(exact, rounded, strict=True)]
        return np.array(rounded), np.array(rest)


@dataclass(frozen=True, slots=True)
class Origins:
    """Where deviations start: one number per base column, by the values of the columns ``by``."""

    by: tuple[str, ...]
    places: Mapping[tuple[Any, ...], FloatArray]

    def of_group(self, row: Mapping[str, Any], width: int) -> FloatArray:
        """Return the origin of the group that ``row`` is of, 0 where none is known."""
        return self.places.get(tuple(row[name] for name in self.by), np.zeros(width))

    @property
    def table(self) -> ir.Table:
        """One row per group: ``key0``, ``key1``, ... of ``by``, and ``start0``, ... per column.

        A table to join, since a case of every group in every column is a statement that engines
        plan for minutes.
        """
        keys = {f"key{i}": list(values) for i, values in enumerate(zip(*self.places, strict=True))}
        starts = np.array(list(self.places.values())).T
        return ibis.memtable(
            pa.table(keys | {f"start{place}": column for place, column in enumerate(starts)})
        )


def reduce(  # noqa: PLR0913 - what to reduce, by what, and what else
    units: ir.Table,
    columns: Columns,
    group: Sequence[str],
    *,
    engine: BaseBackend,
    totals: Sequence[str] = (),
    merged_over: Sequence[str] = (),
    matters: Callable[[Group], bool] = lambda _: True,
    sampled: bool = True,
    known: Mapping[str, Moments] | None = None,
) -> Pending[list[Group]]:
    """Ask for the groups of a unit table.

    Parameters
    ----------
    units
        One row per unit, with its ``variant``: each has its own origin.
    columns
        What to reduce.
    group
        Columns without nulls.
    engine
        The engine of ``units``.
    totals
        Integer columns whose sums are wanted, under their own names.
    merged_over
        Columns of ``group`` that the caller adds up over: the origin is judged by the sums, not
        by a day on which a few units happen to have one value.
    matters
        Of which groups the moments are needed to the last digits.
    sampled
        Whether to look at a few units for the origin first. Else it is 0: a query less, and a
        second pass where the data are far from it.
    known
        Moments of other units of each variant, to take the origins from: a query less too.
    """
    by = ("variant",)
    origins = Origins((), {})
    if known is not None:
        origins = Origins(by, {(key,): _start(columns, one) for key, one in known.items()})
    elif sampled:
        origins = _origins(by, rows_of(engine, origin(units, columns, by)))
    first = _pass(units, columns, group, totals, origins, engine)
    together = tuple(name for name in group if name not in merged_over)

    @cache
    def found() -> list[Group]:
        groups = first()
        if not _any_far(columns, origins, together, filter(matters, groups)):
            return groups
        means = {
            tuple(row[name] for name in group): _finite(
                [row[_MOMENTS].sample(name).mean for name in columns.base]
            )
            for row in groups
        }
        return _pass(units, columns, group, totals, Origins(tuple(group), means), engine)()

    return found


def moments_of(columns: tuple[str, ...], groups: Iterable[Group]) -> Moments:
    """Return the moments of several groups together; of none those of no units."""
    empty = Moments.of(columns, np.empty((0, len(columns))))
    return sum((group[_MOMENTS] for group in groups), start=empty)


def origin(units: ir.Table, columns: Columns, by: Sequence[str]) -> ir.Table:
    """Return ``by`` and where deviations of each base column start, from a sample of units.

    The least value where all are nearer to each other than to 0, exact where all are equal; mostly
    0, which costs nothing.
    """
    some = units.select(*by, *columns.base).limit(SAMPLE)

    def start(column: ir.Column) -> ir.Value:
        least = column.min()
        return (column.max() - least < least.abs()).ifelse(least, 0.0)

    return some.group_by(*by).aggregate(
        **{f"origin{i}": start(some[name]) for i, name in enumerate(columns.base)}
    )


def reduced(
    units: ir.Table,
    columns: Columns,
    group: Sequence[str],
    *,
    totals: Sequence[str] = (),
    origins: Origins | None = None,
) -> ir.Table:
    """Return one row per group: how many units, and sums of deviations from an origin.

    Columns are numbered, since a metric may be called anything.

    Parameters
    ----------
    units, columns, group, totals
        As for `reduce`.
    origins
        Where deviations start; 0 without.
    """
    names, away = columns.names, units
    values, less, counts = names, names, tuple(totals)
    if origins is not None and any(at.any() for at in origins.places.values()):
        away = _away(units, columns, group, totals, origins)
        values, less = (tuple(f"{kind}{i}" for i in range(len(names))) for kind in ("value", "d"))
        counts = tuple(f"total{i}" for i in range(len(totals)))
    d = [away[name] for name in less]
    return away.group_by(*group).aggregate(
        n=away.count(),
        **{f"nonzero{i}": (away[name] != 0).sum() for i, name in enumerate(values)},
        **{f"sum{i}": d[i].sum() for i in map(names.index, columns.base)},
        **{f"product{i}_{j}": (d[i] * d[j]).sum() for i, j in columns.products},
        **{f"cube{i}": (one * one * one).sum() for i, one in enumerate(d)},
        **{f"total{i}": away[name].sum() for i, name in enumerate(counts)},
    )


def _away(
    units: ir.Table, columns: Columns, group: Sequence[str], totals: Sequence[str], origins: Origins
) -> ir.Table:
    """Return the units with their deviations: ``value0``, ..., ``d0``, ..., ``total0``, ..."""
    names, starts = columns.names, origins.table
    away = units.select(
        *group,
        **{f"value{i}": units[name] for i, name in enumerate(names)},
        **{f"total{i}": units[name] for i, name in enumerate(totals)},
    )
    same = [away[name] == starts[f"key{i}"] for i, name in enumerate(origins.by)]
    away = away.left_join(starts, same)
    less = {
        name: away[f"value{names.index(name)}"] - away[f"start{place}"].fill_null(0.0)
        for place, name in enumerate(columns.base)
    }
    for name, parts in columns.combined.items():
        weighted = (less[part] * weight for part, weight in parts.items())
        less[name] = sum(weighted, start=ibis.literal(0.0))
    return away.mutate(**{f"d{names.index(name)}": value for name, value in less.items()})


def _pass(  # noqa: PLR0913, PLR0917 - as `reduce`
    units: ir.Table,
    columns: Columns,
    group: Sequence[str],
    totals: Sequence[str],
    origins: Origins,
    engine: BaseBackend,
) -> Pending[list[Group]]:
    """Reduce once, about ``origins``."""
    rows = asked_rows(engine, reduced(units, columns, group, totals=totals, origins=origins))

    def of_row(row: Mapping[str, Any]) -> Group:
        start, rest = columns.of_base(origins.of_group(row, len(columns.base)))
        with np.errstate(invalid="ignore", over="ignore"):  # then `unusable` says so
            moments = _moments(columns, row, start, rest)
        shared = {name: row[name] for name in (*group, "n")}
        counts = {name: int(row[f"total{i}"]) for i, name in enumerate(totals)}
        return {**counts, **shared, _MOMENTS: moments}

    return lambda: [of_row(row) for row in rows()]


def _finite(means: Sequence[float]) -> FloatArray:
    """Return where to start: at 0 where a sum has overflowed."""
    found = np.array(means)
    return np.where(np.isfinite(found), found, 0.0)


def _any_far(
    columns: Columns, origins: Origins, together: tuple[str, ...], groups: Iterable[Group]
) -> bool:
    """Whether an origin is too far from units that share the columns ``together``."""
    merged: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        merged.setdefault(tuple(group[name] for name in together), []).append(group)
    return any(
        moments_of(columns.names, several).is_far(
            columns.of_base(origins.of_group(several[0], len(columns.base)))[0]
        )
        for several in merged.values()
    )


def _moments(
    columns: Columns, row: Mapping[str, Any], start: FloatArray, rest: FloatArray
) -> Moments:
    names = columns.names
    places = [names.index(name) for name in columns.base]
    products = np.array(
        [[row.get(f"product{max(i, j)}_{min(i, j)}", math.nan) for j in places] for i in places]
    )
    sums = np.array([row[f"sum{i}"] for i in places])
    if columns.combined:
        weights = columns.weights
        sums, products = weights @ sums, weights @ products @ weights.T
    return Moments.about(
        names,
        row["n"],
        start,
        sums=sums,
        products=products,
        cubes=np.array([row[f"cube{i}"] for i in range(len(names))]),
        nonzero=np.array([row[f"nonzero{i}"] for i in range(len(names))], dtype=np.int64),
        rest=rest,
    )


def _start(columns: Columns, known: Moments) -> FloatArray:
    """Return the means of base columns that are far from 0, and 0 for the others."""
    places = [known.columns.index(name) for name in columns.base]
    mean, m2 = known.mean[places], np.diag(known.m2)[places]
    return np.where(known.n * mean**2 > _FAR * m2, mean, 0.0)


def _origins(by: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> Origins:
    places = {}
    for row in rows:
        width = range(len(row) - len(by))
        places[tuple(row[name] for name in by)] = np.array([row[f"origin{i}"] for i in width])
    return Origins(by, places)
