"""Calls as other systems have recorded them: what they say, told apart from what is no call."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from klartext.experiments.batches import Source
from klartext.experiments.cells import Cell, RowError
from klartext.experiments.door import Door
from klartext.experiments.errors import KlartextError
from klartext.experiments.imports.calls import BY_TOKENS, Billing, CallReader
from klartext.experiments.ingest import CHUNK_ROWS
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.readers import Broken, Row
from klartext.experiments.records import Parsed, Reject, reject

SOURCE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}")
SOURCE_RULE = "use letters, digits and _ . : / -, starting with a letter."
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What a file of calls cannot say by itself.

    Parameters
    ----------
    format
        Who wrote the file: ``otlp``, ``litellm``, ``langfuse``.
    source
        Name of the system, as ``costs.usage.source`` of an experiment has it.
    experiment, variant
        Of all calls that do not name their own.
    unit, task
        Name of the field with the id of the unit, and of the task that several calls belong to;
        None is the usual one of the format.
    exclusive
        Producers (OpenTelemetry: names of instrumentation scopes) whose input tokens leave out
        those read from or written to a cache.
    """

    format: str
    source: str
    experiment: str | None = None
    variant: str | None = None
    unit: str | None = None
    task: str | None = None
    exclusive: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """One recorded call: its id within the source, its time, and the fields of a call."""

    id: tuple[str, ...]
    occurred_at: datetime
    cells: Mapping[str, Cell]
    billing: Billing = BY_TOKENS


@dataclass(frozen=True, slots=True)
class Other:
    """A record that is no call of its own, such as a step of an agent, and what it is."""

    kind: str


Extract: TypeAlias = Callable[[Any], Observed | Other]


@dataclass(frozen=True, slots=True)
class CallFile:
    """A file of recorded calls, ready to be delivered.

    ``others`` counts, while ``rows`` are read, the records that are no calls: they are not among
    the rows sent.
    """

    source: Source
    rows: Iterator[Parsed | Reject]
    others: Counter[str] = field(default_factory=Counter)


def call_file(  # noqa: PLR0913 - one argument per part, by name
    path: Path,
    rows: Iterator[Row | Broken],
    extract: Extract,
    options: CallOptions,
    *,
    door: Door,
    pricing: Pricing,
) -> CallFile:
    """Return a file as a source, and its records as priced calls.

    Parameters
    ----------
    path
        The file.
    rows
        Its records, whose ``content`` is what ``extract`` takes.
    extract
        What a record says; raises `RowError` when it cannot be understood.
    options
        What it does not say.
    door
        What its calls are judged by.
    pricing
        What puts a price on each.

    Raises
    ------
    KlartextError
        The source has no proper name.
    """
    if not SOURCE.fullmatch(options.source):
        raise KlartextError(f"--source is {options.source!r}: {SOURCE_RULE}")
    others: Counter[str] = Counter()
    reader = CallReader(door, pricing, options.source)
    source = usage_source(
        path, options.source, hashlib.sha256(_text(asdict(options))).hexdigest(), door
    )
    return CallFile(source, _calls(rows, extract, reader, others), others)


def usage_source(path: Path, name: str, mapping_sha256: str, door: Door) -> Source:
    """Return what a file of calls is as a source, complete until its latest call."""
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    # Everything that decides which rows are accepted; what they cost does not.
    decisive = (
        _VERSION,
        content,
        mapping_sha256,
        CHUNK_ROWS,
        door.pseudonymiser.fingerprint,
        door.currency,
        door.latest.isoformat(),
        sorted(door.variants.items()),
    )
    application = hashlib.sha256(_text(*decisive)).hexdigest()
    return Source("usage", name, content, mapping_sha256, application, "latest")


def _text(*parts: object) -> bytes:
    return json.dumps(parts).encode()


def _calls(
    rows: Iterator[Row | Broken], extract: Extract, reader: CallReader, others: Counter[str]
) -> Iterator[Parsed | Reject]:
    door = reader.door
    for row in rows:
        if isinstance(row, Broken):
            error = RowError(row.reason, row.detail)
            yield reject(error, door, row.position, row.content)
            continue
        unit: Cell = None
        try:
            seen = extract(row.content)
            if isinstance(seen, Other):
                others[seen.kind] += 1
                continue
            unit = seen.cells.get("unit")
            fact = door.fact_id("usage_costs", reader.source, *seen.id)
            at = door.past(seen.occurred_at)
            call = reader.read(seen.cells, id=fact, occurred_at=at, billing=seen.billing)
        except RowError as error:
            yield reject(error, door, row.position, row.content, unit=unit)
        else:
            yield Parsed(row.position, (call,))


def attributed(named: Mapping[str, Cell], options: CallOptions) -> dict[str, Cell]:
    """Return experiment and variant: as the record names them, else as the options do.

    A record that names another experiment keeps it, and then the variant of the options is not
    its own.
    """
    experiment = named.get("experiment") or options.experiment
    variant = named.get("variant")
    if variant is None and experiment == options.experiment:
        variant = options.variant
    return {"experiment": experiment, "variant": variant}
