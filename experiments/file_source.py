"""A data file with its mapping, as a source that can be delivered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from klartext.experiments.batches import Source
from klartext.experiments.door import Door
from klartext.experiments.errors import ConfigurationError
from klartext.experiments.mapping import (
    AliasesMapping,
    AnyMapping,
    Column,
    EventsMapping,
    LoadedMapping,
)
from klartext.experiments.readers import ColumnsError, read, require_file
from klartext.experiments.records import Parsed, Reject
from klartext.experiments.translation import Translation

_VERSION = "1"


def open_file(
    path: Path, loaded: LoadedMapping, door: Door, *, context: str = ""
) -> tuple[Source, Iterator[Parsed | Reject]]:
    """Return what a data file is as a source, and its rows as facts.

    Parameters
    ----------
    path
        The data file.
    loaded
        What its columns mean.
    door
        What its rows are judged by.
    context
        Whatever else decides what becomes of a row, such as the hash of the rates file.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        The file lacks columns that the mapping names, or the experiment is not registered.
    FileError
        The file cannot be read as a whole.
    """
    mapping = loaded.mapping
    require_file(path)
    _require_experiment(loaded, door)
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    translation = Translation(mapping, door, content)
    optional = {item.column for item in mapping.properties.values()}
    try:
        rows = read(path, loaded.format_of(path), translation.columns, optional=optional)
    except ColumnsError as error:
        raise loaded.column_problems(error, path.name) from None
    source = Source(
        kind=mapping.kind,
        name=mapping.source or path.name,
        content_sha256=content,
        mapping_sha256=loaded.sha256,
        application=_application(content, loaded, door, context),
        complete_until=_complete_until(mapping),
        is_numbered=mapping.id == "row_number" and mapping.source is None,
    )
    return source, map(translation.row, rows)


def _application(content: str, loaded: LoadedMapping, door: Door, context: str) -> str:
    """Return a hash over everything that decides what becomes of a row.

    The file and the mapping are not enough: rows that were rejected because a variant was not
    registered are good once it is, and must not be taken for done.
    """
    decisive = (
        _VERSION,
        content,
        loaded.sha256,
        door.pseudonymiser.fingerprint,
        door.currency,
        door.timezone,
        door.latest.isoformat(),
        sorted(door.properties.items()),
        sorted(door.variants.items()),
        context,
    )
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


def _complete_until(mapping: AnyMapping) -> datetime | Literal["latest", "received"]:
    if mapping.complete_until is not None:
        return mapping.instant(mapping.complete_until, "complete_until")
    return "received" if mapping.kind == "unit_table" else "latest"


def _require_experiment(loaded: LoadedMapping, door: Door) -> None:
    mapping = loaded.mapping
    if isinstance(mapping, AliasesMapping | EventsMapping) or isinstance(
        mapping.experiment, Column
    ):
        return
    if mapping.experiment not in door.variants:
        known = ", ".join(sorted(door.variants)) or "none yet"
        message = f"is {mapping.experiment!r}, which is not registered"
        fix = f"Register it with klartext apply; registered: {known}."
        problem = loaded.problem(("experiment",), ("unknown-experiment", message, fix))
        raise ConfigurationError([problem])
