"""Scores: ratings, judgements and review outcomes, as events of the unit that a call was made for.

A score knows its task (a trace), or the allocation id that was served; the unit follows from the
calls of the task, or from the allocation id itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from klartext.experiments.batches import Source
from klartext.experiments.cells import RowError, decimal, flag, identifier, instant, is_missing
from klartext.experiments.door import Door, event_name
from klartext.experiments.errors import KlartextError
from klartext.experiments.imports.named_rows import at, named_rows, scalar
from klartext.experiments.imports.observed import SOURCE, SOURCE_RULE
from klartext.experiments.readers import Broken, Row
from klartext.experiments.records import Parsed, Reject, event, reject
from klartext.experiments.tokens import Signer, TokenError

CHUNK = 5_000
_CATEGORY = re.compile(r"[^\W_][\w -]{0,63}")

UnitsOfTasks: TypeAlias = Callable[[Sequence[str]], Mapping[str, AbstractSet[int | None]]]
"""Which units the calls of tasks were made for, by the pseudonym of the task."""


class Joins(NamedTuple):
    """How scores find their unit.

    ``state`` changes when a task can have got other calls: a file sent again is then read anew.
    """

    units_of_tasks: UnitsOfTasks
    signer: Signer
    state: str


def open_scores(
    path: Path, source: str, door: Door, joins: Joins
) -> tuple[Source, Iterator[Parsed | Reject]]:
    """Return a file of scores as a source, and its scores as events.

    Parameters
    ----------
    path
        CSV, JSON Lines or Parquet with the fields of Langfuse's scores.
    source
        Name of the system.
    door
        What its rows are judged by.
    joins
        How scores find their unit.

    Raises
    ------
    NotFoundError
        There is no such file.
    FileError
        It cannot be read as a whole.
    KlartextError
        The source has no proper name.

    Notes
    -----
    A number or a yes-or-no is the event ``score.<name>`` with the value, 1 for yes. A word is the
    event ``score.<name>.<word>`` without a value: ``score.review.accepted``.
    """
    if not SOURCE.fullmatch(source):
        raise KlartextError(f"--source is {source!r}: {SOURCE_RULE}")
    rows = named_rows(path)
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    mapping = hashlib.sha256(json.dumps(["scores/1", source]).encode()).hexdigest()
    decisive = (content, mapping, joins.state, door.pseudonymiser.fingerprint, str(door.latest))
    application = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
    found = Source("scores", source, content, mapping, application, "latest")
    return found, _joined(rows, source, door, joins)


def _joined(
    rows: Iterator[Row | Broken], source: str, door: Door, joins: Joins
) -> Iterator[Parsed | Reject]:
    while chunk := tuple(islice(rows, CHUNK)):
        tasks = {token for row in chunk if (token := _task(row, door)) is not None}
        units = joins.units_of_tasks(sorted(tasks))
        for row in chunk:
            yield _score(row, source, door, joins.signer, units)


def _task(row: Row | Broken, door: Door) -> str | None:
    if isinstance(row, Broken) or not isinstance(row.content, dict):
        return None
    task = scalar(at(row.content, "task", "traceId", "trace_id"))
    return None if is_missing(task) else door.pseudonymiser.token(str(task))


def _score(
    row: Row | Broken,
    source: str,
    door: Door,
    signer: Signer,
    units: Mapping[str, AbstractSet[int | None]],
) -> Parsed | Reject:
    if isinstance(row, Broken):
        return reject(RowError(row.reason, row.detail), door, row.position, row.content)
    try:
        document: Mapping[str, Any] = row.content if isinstance(row.content, dict) else {}
        key = identifier(scalar(at(document, "id")), "id", reason="id-missing")
        when = instant(scalar(at(document, "timestamp")), "timestamp", zone="UTC")
        unit = _unit(document, _task(row, door), signer, units)
        name, value = _said(document)
        fact = event(
            door,
            door.fact_id("events", source, key),
            unit,
            name,
            door.past(when, "timestamp"),
            value=value,
        )
    except RowError as error:
        return reject(error, door, row.position, row.content)
    return Parsed(row.position, (fact,))


def _unit(
    document: Mapping[str, Any],
    task: str | None,
    signer: Signer,
    units: Mapping[str, AbstractSet[int | None]],
) -> int:
    allocation = scalar(
        at(
            document,
            "allocationId",
            "allocation_id",
            "metadata.allocation_id",
            "metadata.allocationId",
        )
    )
    if not is_missing(allocation):
        try:
            return signer.verify(str(allocation)).pseudonym
        except TokenError as error:
            raise RowError("bad-allocation-id", str(error)) from None
    if task is None:
        raise RowError("task-missing", "the score has neither a task nor an allocation id")
    found = units.get(task)
    if found is None:
        raise RowError("unknown-task", "no call of its task has come in; import the calls first")
    known = [unit for unit in found if unit is not None]
    if not known:
        raise RowError("task-without-unit", "the calls of its task were made for no unit")
    if len(known) > 1:
        raise RowError("task-of-several-units", "the calls of its task were made for several units")
    return known[0]


def _said(document: Mapping[str, Any]) -> tuple[str, Any]:
    name = f"score.{at(document, 'name') or ''}".removesuffix(".")
    kind = str(at(document, "dataType", "data_type") or "NUMERIC").upper()
    value = scalar(at(document, "value"))
    word = scalar(at(document, "stringValue", "string_value"))
    match kind:
        case "NUMERIC":
            return event_name(name), decimal(value, "value")
        case "BOOLEAN":
            yes = flag(word if is_missing(value) else _whole(value), "value")
            return event_name(name), decimal(int(yes), "value")
        case "CATEGORICAL":
            text = str(value if is_missing(word) else word)
            if not _CATEGORY.fullmatch(text):
                raise RowError("bad-name", "the word of a score is no word such as accepted")
            return event_name(f"{name}.{text}"), None
        case _:
            raise RowError("bad-kind", "dataType is not NUMERIC, BOOLEAN or CATEGORICAL")


def _whole(value: Any) -> Any:
    """Return 1 for 1.0, as some exports write yes."""
    text = str(value)
    return text.removesuffix(".0")
