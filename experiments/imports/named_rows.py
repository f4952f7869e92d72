"""Rows by the names of their columns, with what stands inside JSON cells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from klartext.experiments.readers import (
    SUFFIXES,
    Broken,
    ColumnsError,
    FileError,
    FileFormat,
    Row,
    read,
)

MAX_NESTED = 1_000_000
"""Characters of a cell that is read as JSON; longer ones are bodies that nobody looks at."""


def named_rows(path: Path) -> Iterator[Row | Broken]:
    """Return the rows of a CSV, JSON Lines or Parquet file; ``content`` maps names to cells.

    Raises
    ------
    NotFoundError
        There is no such file.
    FileError
        Its suffix tells no format, it is empty, or a name stands twice in its header.
    """
    name = SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise FileError(f"{path.name}: name it .csv, .jsonl or .parquet, as it is written")
    form = FileFormat(name)
    if name == "jsonl":
        return read(path, form, ())
    try:
        # Asking for a column that no file has brings those there are.
        read(path, form, ("\0",))
    except ColumnsError as error:
        columns = error.present
    else:
        columns = ()
    try:
        rows = read(path, form, columns)
    except ColumnsError as error:
        twice = ", ".join(dict.fromkeys(error.ambiguous))
        raise FileError(f"{path.name} has columns twice: {twice}") from None
    return (
        row
        if isinstance(row, Broken)
        else row._replace(content=dict(zip(columns, row.cells, strict=True)))
        for row in rows
    )


def at(document: Mapping[str, Any], *names: str) -> Any:
    """Return the first of several fields that is not empty; ``a.b`` is ``b`` inside ``a``.

    Examples
    --------
    >>> at({"metadata": '{"task": "t1"}'}, "task", "metadata.task")
    't1'
    """
    for name in names:
        found: Any = document
        for key in [name] if name in document else name.split("."):
            found = inside(found).get(key)
        if found is not None and (not isinstance(found, str) or found.strip()):
            return found
    return None


def inside(value: Any) -> Mapping[str, Any]:
    """Return an object, also one written as JSON text; anything else is empty."""
    if isinstance(value, str) and value.lstrip().startswith("{") and len(value) <= MAX_NESTED:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def scalar(value: Any) -> Any:
    """Return a cell; lists and objects are none."""
    return None if isinstance(value, dict | list) else value
