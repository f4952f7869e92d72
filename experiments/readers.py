"""Row streams of CSV, JSON Lines and Parquet files; a broken row is an item, not an end.

Every row of a file comes out once, in order, numbered from one: as a `Row` with the cells asked
for, or as a `Broken` with a reason. What concerns the file as a whole is an exception.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO, TypeAlias

from klartext.experiments.cells import Cell
from klartext.experiments.errors import KlartextError, NotFoundError

FormatName: TypeAlias = Literal["csv", "jsonl", "parquet"]

SUFFIXES: dict[str, FormatName] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
MAX_RECORD_LINES = 1_000
"""A record over more lines than this is an unclosed quote."""

PEEK_ROWS = 1_000
_PARQUET_ROWS = 10_000
_UNDECODED = re.compile("[\ud800-\udfff]")
_REPLACED = re.compile("\ufffd")


class Row(NamedTuple):
    """One row: its one-based position, the cells asked for in their order, and all it holds."""

    position: int
    cells: Sequence[Cell]
    content: object


class Broken(NamedTuple):
    """A row that could not be read; ``detail`` tells nothing of what it holds."""

    position: int
    reason: str
    detail: str
    content: object


class FileError(KlartextError):
    """The file as a whole cannot be read."""


class ColumnsError(KlartextError):
    """Columns that are asked for are missing or ambiguous; ``present`` are those there are."""

    def __init__(
        self, missing: Sequence[str], ambiguous: Sequence[str], present: Sequence[str]
    ) -> None:
        super().__init__(f"columns {', '.join([*missing, *ambiguous])} cannot be used")
        self.missing = tuple(missing)
        self.ambiguous = tuple(ambiguous)
        self.present = tuple(present)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a file is written."""

    name: FormatName
    encoding: str = "utf-8"
    delimiter: str = ","


def read(
    path: Path,
    format: FileFormat,  # noqa: A002 - the noun
    columns: Sequence[str],
    *,
    optional: Collection[str] = (),
) -> Iterator[Row | Broken]:
    """Return the rows of a file.

    Parameters
    ----------
    path
        The file.
    format
        How it is written.
    columns
        Cells that each `Row` is to have. In JSON Lines ``user.id`` also means the key ``id`` of
        the object ``user``.
    optional
        Those of them that JSON Lines may leave out altogether.

    Raises
    ------
    NotFoundError
        There is no such file.
    ColumnsError
        Columns are missing, or a name asked for stands twice in the header.
    FileError
        It is empty, or not of this format.
    """
    require_file(path)
    if path.stat().st_size == 0:
        raise FileError(f"{path.name} is empty")
    match format.name:
        case "csv":
            return _read_csv(path, format, columns)
        case "jsonl":
            return _read_json_lines(path, columns, frozenset(optional))
        case "parquet":
            return _read_parquet(path, columns)


def require_file(path: Path) -> None:
    """Raise NotFoundError unless ``path`` is a file, FileError unless it may be read."""
    try:
        is_file = path.is_file()
        if is_file:
            path.open("rb").close()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    if not is_file:
        raise NotFoundError(f"there is no file {path}")


def _read_csv(path: Path, form: FileFormat, columns: Sequence[str]) -> Iterator[Row | Broken]:
    with path.open("rb") as beginning:
        start = beginning.read(4)
    if form.encoding != "utf-16" and start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise FileError(f"{path.name} is UTF-16: set encoding: utf-16 in the mapping")
    encoding = "utf-8-sig" if form.encoding == "utf-8" else form.encoding
    # Bytes that are no text are marked, so that they break their row only.
    is_wide = form.encoding == "utf-16"
    errors = "replace" if is_wide else "surrogateescape"
    stream = path.open(encoding=encoding, errors=errors, newline="")
    lines = _Lines(stream, _REPLACED if is_wide else _UNDECODED)
    reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    try:
        header = next((record for record in reader if record), None)
    except csv.Error as error:
        stream.close()
        raise FileError(f"the header of {path.name} cannot be read: {error}") from None
    except UnicodeError:  # UTF-16 has to say in which order its bytes stand
        stream.close()
        raise FileError(
            f"{path.name} is not {form.encoding} text; set another encoding in the mapping"
        ) from None
    if header is None:
        stream.close()
        raise FileError(f"{path.name} has no header line")
    if lines.is_undecoded:
        stream.close()
        raise FileError(
            f"the header of {path.name} is not {form.encoding} text; set encoding in the mapping"
        )
    try:
        indices = _indices(header, columns)
    except ColumnsError:
        stream.close()
        raise
    return _csv_rows(stream, lines, form.delimiter, len(header), indices)


def _csv_rows(
    stream: TextIO, lines: _Lines, delimiter: str, width: int, indices: Sequence[int]
) -> Iterator[Row | Broken]:
    pick = _picker(indices)
    position = 0
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    with stream:
        while True:
            lines.begin_record()
            record: list[str] = []
            problem = ""
            try:
                record = next(reader)
            except StopIteration:
                return
            except (csv.Error, _RecordTooLongError) as error:
                problem = f"its quoting is broken ({error})"
            if not record and not problem:
                continue  # a blank line is no row
            position += 1
            if not problem and len(record) != width:
                problem = f"{len(record)} fields where the header has {width}"
            if problem:
                # Only the first line is given up: what followed it may be good rows.
                first = lines.give_back_rest()
                reader = csv.reader(lines, delimiter=delimiter, strict=True)
                where = f"line {lines.number}: "
                yield Broken(position, "broken-row", where + problem, first)
            elif lines.is_undecoded:
                where = f"line {lines.number}: "
                yield Broken(position, "bad-encoding", where + "bytes that are not text", record)
            else:
                yield Row(position, pick(record), record)


class _RecordTooLongError(Exception):
    """A record has swallowed more lines than a record can have."""


@dataclass(slots=True)
class _Lines:
    """The lines of a file, remembering those of the record that is being read."""

    stream: TextIO
    undecoded: re.Pattern[str]
    number: int = 0
    is_undecoded: bool = False
    _record: list[str] = field(default_factory=list)
    _given_back: deque[str] = field(default_factory=deque)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else next(self.stream)
        self._record.append(line)
        self.number += 1
        if len(self._record) > MAX_RECORD_LINES:
            raise _RecordTooLongError(f"a quote stays open for {MAX_RECORD_LINES} lines")
        if not line.isascii() and self.undecoded.search(line):
            self.is_undecoded = True
        return line

    def begin_record(self) -> None:
        """Forget the lines of the record before."""
        self._record.clear()
        self.is_undecoded = False

    def give_back_rest(self) -> str:
        """Return the first line of the record; the others will be read again."""
        first, *rest = self._record
        self._given_back.extendleft(reversed(rest))
        self.number -= len(rest)
        return first


def _indices(header: Sequence[str], columns: Sequence[str]) -> list[int]:
    missing = [name for name in columns if name not in header]
    ambiguous = [name for name in columns if header.count(name) > 1]
    if missing or ambiguous:
        raise ColumnsError(missing, ambiguous, header)
    return [header.index(name) for name in columns]


def _picker(indices: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Cell]]:
    match indices:
        case []:
            return lambda _record: ()
        case [index]:
            return lambda record: (record[index],)
        case _:
            return itemgetter(*indices)


class _DuplicateKeyError(ValueError):
    """An object of a JSON line has a key twice."""


def _read_json_lines(
    path: Path, columns: Sequence[str], optional: frozenset[str]
) -> Iterator[Row | Broken]:
    rows = _json_rows(path, columns)
    unseen = {name for name in columns if name not in optional}
    peeked: list[Row | Broken] = []
    present: dict[str, None] = {}
    for row in rows:
        peeked.append(row)
        if isinstance(row, Row) and isinstance(row.content, dict):
            present |= dict.fromkeys(row.content)
            unseen -= {
                name for name, cell in zip(columns, row.cells, strict=True) if cell is not None
            }
        if not unseen or len(peeked) >= PEEK_ROWS:
            break
    if unseen and present:
        rows.close()
        raise ColumnsError([name for name in columns if name in unseen], (), list(present))
    return _chained(peeked, rows)


def _chained(peeked: list[Row | Broken], rows: Iterator[Row | Broken]) -> Iterator[Row | Broken]:
    yield from peeked
    peeked.clear()
    yield from rows


def _json_rows(path: Path, columns: Sequence[str]) -> Any:
    position = 0
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            if not line.strip():
                continue
            position += 1
            yield _json_row(position, number, line, columns)


def _json_row(position: int, number: int, line: bytes, columns: Sequence[str]) -> Row | Broken:
    where = f"line {number}: "
    try:
        document = json.loads(
            line.decode(),
            parse_float=Decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except UnicodeDecodeError:
        return Broken(position, "bad-encoding", where + "bytes that are not UTF-8", repr(line))
    except _DuplicateKeyError:
        return Broken(position, "broken-row", where + "an object has a key twice", repr(line))
    except (ValueError, RecursionError):
        return Broken(position, "broken-row", where + "not a JSON value", repr(line))
    if not isinstance(document, dict):
        return Broken(position, "broken-row", where + "not a JSON object", repr(line))
    cells = [_at(document, name) for name in columns]
    for name, cell in zip(columns, cells, strict=True):
        if isinstance(cell, dict | list):
            detail = f"{where}{name} is an object or a list"
            return Broken(position, "broken-row", detail, repr(line))
    return Row(position, cells, document)


def _at(document: dict[str, Any], name: str) -> Any:
    if name in document or "." not in name:
        return document.get(name)
    found: Any = document
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise _DuplicateKeyError
    return document


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Row | Broken]:
    import pyarrow as pa  # noqa: PLC0415 - CSV files need none of it
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        source = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        raise FileError(f"{path.name} is not a Parquet file") from None
    schema = source.schema_arrow
    indices = _indices(schema.names, columns)
    for index in indices:
        kind = schema.field(index).type
        if pa.types.is_map(kind):
            continue  # read as the text of a JSON object
        if pa.types.is_nested(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
            raise FileError(
                f"column {schema.names[index]} of {path.name} is {kind}; "
                "text, numbers, booleans, dates and timestamps can be read"
            )
        if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
            raise FileError(f"column {schema.names[index]} of {path.name} is binary, not text")
    return _parquet_rows(path.name, source, indices)


def _parquet_rows(name: str, source: Any, indices: Sequence[int]) -> Iterator[Row | Broken]:
    import pyarrow as pa  # noqa: PLC0415

    pick = _picker(indices)
    position = 0
    with source:
        batches = source.iter_batches(batch_size=_PARQUET_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise damaged(name, position, error) from None
            if batch is None:
                return
            for record in zip(*(_python_values(column) for column in batch.columns), strict=True):
                position += 1
                yield Row(position, pick(record), record)


def damaged(name: str, position: int, error: Exception) -> FileError:
    """Return the error of a file that breaks off after a row, of what came before it."""
    told = " ".join(str(error).split())
    return FileError(
        f"{name} is damaged after row {position:,} ({told}). The rows before it may be stored "
        "already; send a sound copy of the file."
    )


def _python_values(column: Any) -> list[Any]:
    import pyarrow as pa  # noqa: PLC0415

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)  # else pandas timestamps
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        # Widening 0.1 would give 0.10000000149: go by its shortest text.
        texts = column.cast(pa.float32()).cast(pa.string()).to_pylist()
        return [None if text is None else float(text) for text in texts]
    if pa.types.is_map(kind):
        maps = column.to_pylist()
        return [None if each is None else json.dumps(dict(each), default=str) for each in maps]
    values: list[Any] = column.to_pylist()
    return values
