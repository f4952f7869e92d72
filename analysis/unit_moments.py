"""Moments of units in a table that somebody else made: a file, a data frame, or an engine's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce as fold
from itertools import chain
from operator import and_, or_
from pathlib import Path
from typing import Any, TypeAlias

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from pyarrow import dataset

from klartext.analysis.engine import rows_of
from klartext.analysis.moments import Moments
from klartext.analysis.reduction import Columns, reduce
from klartext.experiments.errors import KlartextError

MOST_VARIANTS = 1_000
"""More values than this name no variants: the column is another."""

_VARIANT = "variant"
_ROWS = 65_536
"""Read at a time: a file may be larger than memory, and few stay in the processor's cache."""

_Found: TypeAlias = tuple[dict[str | None, Moments], int]
"""Moments per variant, and how many units lack a number."""


class UnitTableError(KlartextError):
    """The table of units cannot be compared as it is."""


def opened(units: str | Path | Any, variant: str) -> dataset.Dataset:
    """Return a Parquet file, or a frame that Arrow understands, to be read in batches.

    Raises
    ------
    UnitTableError
        There is no such file, or it is no Parquet.
    """
    if not isinstance(units, str | Path):
        return dataset.dataset(pa.table(units))
    texts = dataset.ParquetFileFormat(dictionary_columns={variant})
    try:
        return dataset.dataset(units, format=texts)
    except FileNotFoundError:
        raise UnitTableError(f"there is no file {units}") from None
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(error) from error


def moments_by_variant(
    units: ir.Table | dataset.Dataset, metrics: Mapping[str, Sequence[str]], variant: str
) -> dict[str, Moments]:
    """Return the moments of all metrics and covariates, by variant.

    Parameters
    ----------
    units
        One row per unit. Of an Ibis table its engine computes sums of what is needed; products
        of columns that no metric combines are NaN then.
    metrics
        Columns, each with its covariates.
    variant
        Column that says who got what.

    Raises
    ------
    UnitTableError
        A column is missing, no number, or has gaps (NaN and infinity too); a unit has no variant;
        the file cannot be read to its end.
    """
    names = tuple(dict.fromkeys(chain(metrics, *metrics.values())))
    if isinstance(units, dataset.Dataset):
        _refuse(_problems(units.schema.names, lambda name: _kind(units, name), metrics, variant))
        try:
            found, missing = _of_batches(units, names, variant)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(error) from error
    else:
        _refuse(_problems(units.columns, lambda name: units[name].type(), metrics, variant))
        together = tuple(frozenset((metric, *others)) for metric, others in metrics.items())
        found, missing = _of_engine(units, Columns(names, {}, together), variant)
    known = {key: moments for key, moments in found.items() if key is not None}
    if len(known) < len(found):
        raise UnitTableError(f"units without a {variant}: leave them out or say what they got")
    if missing:
        fix = "write 0 where nothing happened, or leave the unit out"
        where = f"gaps in {', '.join(names)}, or no finite number"
        raise UnitTableError(f"{missing} units have {where}: {fix}")
    return dict(sorted(known.items()))


@np.errstate(invalid="ignore", over="ignore")  # then units are counted, or `unusable` says so
def _of_batches(units: dataset.Dataset, names: tuple[str, ...], variant: str) -> _Found:
    columns = {name: dataset.field(name) for name in names}
    for name in names:
        if units.schema.field(name).type != pa.float64():  # which a cast would copy
            columns[name] = columns[name].cast("float64", safe=False)
    columns[_VARIANT] = dataset.field(variant)
    found: dict[str | None, Moments] = {}
    missing, room = 0, np.empty((len(names), _ROWS))
    for batch in units.to_batches(columns=columns, batch_size=_ROWS):
        values = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
        coded = batch.column(_VARIANT).dictionary_encode()
        keys = [*coded.dictionary.cast("string").to_pylist(), None]
        codes = coded.indices.cast("int64").fill_null(len(keys) - 1).to_numpy()
        for code in np.flatnonzero(np.bincount(codes)):
            chosen = np.flatnonzero(codes == code)
            rows = room[:, : len(chosen)]
            for place, column in enumerate(values):
                column.take(chosen, out=rows[place], mode="clip")  # any other copies twice
            moments = Moments.of(names, rows.T)
            if not np.isfinite(moments.mean).all():
                missing += int((~np.isfinite(rows)).any(axis=0).sum())
            key = keys[code]
            found[key] = found[key] + moments if key in found else moments
            if len(found) > MOST_VARIANTS:
                raise UnitTableError(f"{variant} has over {MOST_VARIANTS} values: no variants")
    return found, missing


def _of_engine(units: ir.Table, columns: Columns, variant: str) -> _Found:
    names, engine = columns.names, units.get_backend()
    gaps = f"gaps in {names}"  # a name that no column of them can have
    table = units.select(
        **{name: units[name].cast("float64").fill_null(0.0) for name in names},
        **{
            _VARIANT: units[variant].cast("string"),
            gaps: fold(or_, (units[name].isnull() for name in names)).cast("int64"),
        },
    )
    groups = reduce(table, columns, [_VARIANT], engine=engine, totals=[gaps], sampled=False)()
    missing = sum(group[gaps] for group in groups)
    if not all(np.isfinite(group["moments"].mean).all() for group in groups):
        (row,) = rows_of(engine, _without_number(units, names))
        missing = row["units"]
    return {group[_VARIANT]: group["moments"] for group in groups}, missing


def _without_number(units: ir.Table, names: Sequence[str]) -> ir.Table:
    """Count the units with a null, NaN or infinity, which Arrow and Parquet keep apart."""
    values = (units[name].cast("float64").abs() for name in names)
    known = fold(and_, ((value <= sys.float_info.max).fill_null(False) for value in values))  # noqa: FBT003 - Ibis
    return units.aggregate(units=(~known).sum())


def _kind(units: dataset.Dataset, name: str) -> dt.DataType:
    try:
        return ibis.dtype(units.schema.field(name).type)
    except (KeyError, ValueError):  # Arrow has types that no engine has
        return dt.unknown


def _problems(
    columns: Sequence[str],
    kind_of: Callable[[str], dt.DataType],
    metrics: Mapping[str, Sequence[str]],
    variant: str,
) -> Iterator[str]:
    if not metrics:
        yield "no metric is named"
    names = dict.fromkeys(chain(metrics, *metrics.values()))
    for name in (variant, *names):
        if name not in columns:
            yield f"there is no column {name} (there are {', '.join(columns)})"
            continue
        if sum(name.casefold() == other.casefold() for other in columns) > 1:
            yield f"{name} is another column's name too, but for upper and lower case"
            continue
        kind = kind_of(name)
        if name == variant and kind.is_nested():
            yield f"{name} is {kind}: no name of a variant"
        if name != variant and not (kind.is_numeric() or kind.is_boolean()):
            yield f"{name} is {kind}: no number"
    if variant in names or _VARIANT in names:
        yield f"{variant if variant in names else _VARIANT} names the variant, not a metric"
    for name in sorted(set(chain.from_iterable(metrics.values())) & set(metrics)):
        yield f"{name} is a metric: what the treatment can change adjusts for nothing"


def _refuse(problems: Iterator[str]) -> None:
    found = list(problems)
    if found:
        raise UnitTableError("; ".join(found))


def _unreadable(error: Exception) -> UnitTableError:
    said = str(error).strip().splitlines()
    return UnitTableError(f"the units cannot be read: {said[0] if said else type(error).__name__}")
