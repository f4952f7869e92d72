"""XLSX sheets as rows; needs the extra ``xlsx`` (openpyxl)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

from klartext.experiments.readers import (
    Broken,
    ColumnsError,
    FileError,
    Row,
    damaged,
    require_file,
)

MAX_UNPACKED = 1024**3
"""Bytes of all parts unpacked; a sheet of a bill is far smaller, a bomb is not."""

_DAMAGES = (
    AttributeError,
    BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    ParseError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What openpyxl and what it rests on raise at parts of a workbook that are none."""


def read_sheet(path: Path, sheet: str | None, columns: Sequence[str]) -> Iterator[Row | Broken]:
    """Return the rows of a sheet below its header, which is its first row that is not empty.

    Parameters
    ----------
    path
        The workbook.
    sheet
        Name of the sheet; None is the first.
    columns
        Cells that each `Row` is to have.

    Raises
    ------
    NotFoundError
        There is no such file.
    ColumnsError
        Columns are missing, or a name asked for stands twice in the header.
    FileError
        It is no workbook, is far too large, has no such sheet, or openpyxl is missing.

    Notes
    -----
    A formula in a cell that is asked for breaks its row: the value that was last computed and
    stored beside it may be old, or missing. Rows without a single value are no rows.
    """
    require_file(path)
    try:
        from openpyxl import load_workbook  # noqa: PLC0415 - an extra
        from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415
    except ImportError:
        raise FileError("reading .xlsx needs openpyxl: pip install 'klartext[xlsx]'") from None
    try:
        with ZipFile(path) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > MAX_UNPACKED:
            raise FileError(f"{path.name} unpacks to more than {MAX_UNPACKED} bytes")
        workbook = load_workbook(path, read_only=True, keep_links=False)
    except (*_DAMAGES, InvalidFileException):
        raise FileError(f"{path.name} is not an .xlsx workbook") from None
    name = workbook.sheetnames[0] if sheet is None else sheet
    if name not in workbook.sheetnames:
        known = ", ".join(workbook.sheetnames)
        raise FileError(f"{path.name} has no sheet {name!r}; it has {known}")
    return _rows(_sound(workbook[name].iter_rows(), path), path, columns)


def _sound(rows: Iterator[Any], path: Path) -> Iterator[Any]:
    """Yield the rows of a sheet until it ends, or breaks off."""
    for position in count():
        try:
            row = next(rows, None)
        except _DAMAGES as error:
            raise damaged(path.name, position, error) from None
        if row is None:
            return
        yield row


def _rows(cells: Iterator[Any], path: Path, columns: Sequence[str]) -> Iterator[Row | Broken]:
    filled = (row for row in cells if any(cell.value is not None for cell in row))
    first = next(filled, None)
    if first is None:
        raise FileError(f"{path.name} has no header row")
    header = ["" if cell.value is None else str(cell.value).strip() for cell in first]
    missing = [name for name in columns if name not in header]
    ambiguous = [name for name in columns if header.count(name) > 1]
    if missing or ambiguous:
        raise ColumnsError(missing, ambiguous, header)
    return _below(filled, [header.index(name) for name in columns], columns)


def _below(
    rows: Iterator[Any], indices: Sequence[int], columns: Sequence[str]
) -> Iterator[Row | Broken]:
    for position, row in enumerate(rows, start=1):
        content = [_plain(cell.value) for cell in row]
        formulas = [
            name
            for name, index in zip(columns, indices, strict=True)
            if index < len(row) and row[index].data_type == "f"
        ]
        if formulas:
            detail = f"{formulas[0]} is a formula; paste values before exporting"
            yield Broken(position, "formula", detail, content)
        else:
            yield Row(position, [content[i] if i < len(row) else None for i in indices], content)


def _plain(value: Any) -> Any:
    """Return a cell; midnight is how sheets write a day."""
    if isinstance(value, datetime) and value.time() == datetime.min.time():
        return value.date()
    return value if isinstance(value, str | int | float | date | None) else str(value)
