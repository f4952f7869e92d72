"""Token traces: files with one AI call per row, as CSV, JSON Lines or Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from klartext.experiments.cells import Cell, RowError, identifier, instant, is_missing
from klartext.experiments.door import Door
from klartext.experiments.errors import ConfigurationError
from klartext.experiments.imports.calls import CallReader
from klartext.experiments.imports.observed import CallFile, usage_source
from klartext.experiments.imports.usage_mapping import LoadedUsage, TraceOptions, trace_mapping
from klartext.experiments.mapping import Column, Constant, VariantColumn
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.readers import (
    SUFFIXES,
    Broken,
    ColumnsError,
    FileFormat,
    Row,
    require_file,
)
from klartext.experiments.readers import read as read_rows
from klartext.experiments.records import Parsed, Reject, UsageRow, reject

_Get: TypeAlias = Callable[[Sequence[Cell]], Cell]


def open_trace(path: Path, loaded: LoadedUsage, door: Door, pricing: Pricing) -> CallFile:
    """Return what a token trace is as a source, and its rows as priced calls.

    Parameters
    ----------
    path
        The data file.
    loaded
        What its columns mean.
    door
        What its rows are judged by.
    pricing
        What puts a price on each call.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        The file lacks columns that the mapping names, or the experiment is not registered.
    FileError
        The file cannot be read as a whole.

    Notes
    -----
    Times are kept to the microsecond; more digits (Azure writes seven) are cut off, not rounded,
    so that no call moves into the next day.
    """
    require_file(path)
    _require_experiment(loaded, door)
    source = usage_source(path, loaded.mapping.source, loaded.sha256, door)
    if loaded.mapping.complete_until is not None:
        until = loaded.mapping.instant(loaded.mapping.complete_until, "complete_until")
        source = replace(source, complete_until=until)
    trace = _Trace(loaded, door, pricing, source.content_sha256)
    form = loaded.format_of(path)
    try:
        rows = read_rows(path, form, trace.columns, optional=trace.optional)
    except ColumnsError as error:
        raise loaded.column_problems(error, path.name) from None
    return CallFile(source, map(trace.row, rows))


def token_trace_mapping(path: Path, options: TraceOptions) -> LoadedUsage:
    """Return the mapping of a file that names its columns as a token trace does.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        Its suffix does not tell the format, a column is missing, or an option is wrong.
    """
    require_file(path)
    name = SUFFIXES.get(path.suffix.lower())
    try:
        # Asking for a column that no file has brings those there are.
        read_rows(path, FileFormat(name or "csv"), ("\0",))
    except ColumnsError as error:
        return trace_mapping(options, error.present)
    return trace_mapping(options, ())


class _Trace:
    """How rows of one file become calls."""

    def __init__(
        self, loaded: LoadedUsage, door: Door, pricing: Pricing, content_sha256: str
    ) -> None:
        mapping = loaded.mapping
        self.columns: list[str] = []
        self._door = door
        self._content = content_sha256
        self._mapping = mapping
        self._id_cells = [(name, self._column(name)) for name in mapping.id_columns]
        self._time: _Get | None = None
        if isinstance(mapping.time, Constant):
            self._fixed_time = mapping.instant(mapping.time.constant, "time")
        else:
            self._time = self._column(mapping.time.column)
            self._time_format = mapping.time.format
        self._fields = [(name, self._cell(where)) for name, where in mapping.fields()]
        required = {"input_tokens", "output_tokens"}
        self.optional = {
            where.column
            for name, where in mapping.fields()
            if name not in required and not isinstance(where, Constant)
        }
        self._calls = CallReader(
            door,
            pricing,
            mapping.source,
            mapping.category,
            tuple(sorted(mapping.terms.items())),
            mapping.number_format,
        )

    def row(self, row: Row | Broken) -> Parsed | Reject:
        """Return the call of a row, or why there is none."""
        if isinstance(row, Broken):
            return reject(RowError(row.reason, row.detail), self._door, row.position, row.content)
        cells = {name: cell(row.cells) for name, cell in self._fields}
        try:
            return Parsed(row.position, (self._call(row, cells),))
        except RowError as error:
            unit = cells.get("unit")
            return reject(error, self._door, row.position, row.content, unit=unit)

    def _call(self, row: Row, cells: dict[str, Cell]) -> UsageRow:
        occurred_at = self._door.past(self._occurred_at(row))
        fact = self._door.fact_id("usage_costs", self._mapping.source, *self._identity(row))
        return self._calls.read(cells, id=fact, occurred_at=occurred_at)

    def _occurred_at(self, row: Row) -> datetime:
        if self._time is None:
            return self._fixed_time
        zone = self._mapping.timezone
        return instant(self._time(row.cells), "time", format=self._time_format, zone=zone)

    def _identity(self, row: Row) -> tuple[str, ...]:
        if self._id_cells:
            return tuple(
                identifier(cell(row.cells), f"id column {name}", reason="id-missing")
                for name, cell in self._id_cells
            )
        if self._mapping.id == "row_number":
            return (self._content, str(row.position))
        return (json.dumps(row.content, sort_keys=True, default=str),)

    def _column(self, name: str) -> _Get:
        if name not in self.columns:
            self.columns.append(name)
        index = self.columns.index(name)
        return lambda cells: cells[index]

    def _cell(self, where: Column | VariantColumn | Constant) -> _Get:
        match where:
            case Constant(constant=text):
                return lambda _cells: text
            case VariantColumn(column=name, values=values):
                get = self._column(name)
                return lambda cells: _translated(get(cells), values)
            case Column(column=name):
                return self._column(name)


def _translated(cell: Cell, values: dict[str, str]) -> Cell:
    return cell if is_missing(cell) else values.get(str(cell), cell)


def _require_experiment(loaded: LoadedUsage, door: Door) -> None:
    experiment = loaded.mapping.experiment
    if not isinstance(experiment, str) or experiment in door.variants:
        return
    known = ", ".join(sorted(door.variants)) or "none yet"
    message = f"is {experiment!r}, which is not registered"
    fix = f"Register it with klartext apply; registered: {known}."
    problem = loaded.problem(("experiment",), ("unknown-experiment", message, fix))
    raise ConfigurationError([problem])
