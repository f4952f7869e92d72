"""Cells: what one field of a row holds, turned into exact numbers, flags, instants and ids.

Details of errors never quote what was seen, since any column of a broken row can hold an id;
they show its shape instead (``99.99.9999 99:99``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

from klartext.experiments.money import MoneyError, stored

Cell: TypeAlias = "str | int | float | Decimal | bool | date | datetime | None"

MAX_NUMBER_LENGTH = 64
MAX_ID_LENGTH = 512
INT64_LIMIT = 2**63
_SHAPE_LENGTH = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d.*)?", re.ASCII)
_PLAIN = re.compile(r"[-+]?\d+(?:\.\d+)?", re.ASCII)
_TRUE = frozenset({"1", "true", "t", "yes", "y"})
_PLAIN_FLAGS = ("0", "1")  # the common case, quickly
_FALSE = frozenset({"0", "false", "f", "no", "n"})
EPOCH_FORMATS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}


class RowError(ValueError):
    """Why one row cannot be a fact: a stable ``reason`` and a ``detail`` without raw values."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def shape(cell: Cell) -> str:
    """Return what a cell looks like, with letters and digits masked.

    Examples
    --------
    >>> shape("anna@example.org 12,50")
    "'aaaa@aaaaaaa.aaa 99,99'"
    """
    if cell is None:
        return "nothing"
    if not isinstance(cell, str):
        kind = type(cell).__name__
        return f"an {kind}" if kind == "int" else f"a {kind}"
    masked = "".join(
        "9" if c.isdigit() else "a" if c.isalpha() else c for c in cell[:_SHAPE_LENGTH]
    )
    return f"{masked!r}{'…' if len(cell) > _SHAPE_LENGTH else ''}"


def is_missing(cell: Cell) -> bool:
    """Whether the field is absent or empty."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def identifier(cell: Cell, label: str, *, reason: str = "unit-missing") -> str:
    """Return a raw id as text; integers are written out, anything inexact is refused.

    Blanks around it are how a file pads its columns, not part of the id: with them the purchases
    of a customer would be those of a stranger. Capital letters stay: ids can differ by them.
    """
    if is_missing(cell):
        raise RowError(reason, f"{label} is empty")
    if isinstance(cell, str) and len(text := cell.strip()) <= MAX_ID_LENGTH:
        return unicode_text(text, label)
    if isinstance(cell, int) and not isinstance(cell, bool):
        return str(cell)
    if isinstance(cell, str):
        raise RowError("bad-id", f"{label} has {len(cell)} characters, more than {MAX_ID_LENGTH}")
    raise RowError("bad-id", f"{label} is {shape(cell)}; an id is text or an integer")


def unicode_text(text: str, label: str) -> str:
    """Return ``text`` when it can be written as UTF-8; half of a UTF-16 pair cannot."""
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise RowError("bad-encoding", f"{label} holds bytes that are not text")
    return text


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How numbers are written: the decimal mark, and the mark between thousands if any."""

    decimal: str = "."
    thousands: str = ""
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        point, group = re.escape(self.decimal), re.escape(self.thousands)
        # A group has exactly three digits, else 1.5 read with German marks would be 15.
        whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d+)" if group else r"\d+"
        pattern = rf"[-+]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][-+]?\d{{1,3}})?"
        object.__setattr__(self, "_pattern", re.compile(pattern, re.ASCII))

    def parse(self, text: str) -> Decimal | None:
        """Return the exact number, or None when ``text`` is not one."""
        text = text.strip()
        if len(text) > MAX_NUMBER_LENGTH or not self._pattern.fullmatch(text):
            return None
        if self.thousands:
            text = text.replace(self.thousands, "")
        return Decimal(text.replace(self.decimal, "."))


PLAIN_NUMBERS = NumberFormat()


def decimal(cell: Cell, label: str, numbers: NumberFormat = PLAIN_NUMBERS) -> Decimal:
    """Return a number as the facts keep it: exact, twelve decimal places, half to even."""
    number: Decimal | None = None
    if isinstance(cell, str):
        number = _parsed(cell, numbers)
    elif isinstance(cell, Decimal):
        number = _kept(cell) if cell.is_finite() else None
    elif isinstance(cell, int) and not isinstance(cell, bool):  # yes is no amount of one euro
        number = _kept(Decimal(int(cell)))
    elif isinstance(cell, float):
        number = _parsed(repr(cell), PLAIN_NUMBERS)
    if number is None:
        raise RowError("bad-number", f"{label} is not a number: {shape(cell)}")
    return number


@lru_cache(maxsize=65536)  # amounts repeat, most of all zero
def _parsed(text: str, numbers: NumberFormat) -> Decimal | None:
    number = numbers.parse(text)
    return None if number is None else _kept(number)


def _kept(number: Decimal) -> Decimal:
    try:
        kept = stored(number)
    except MoneyError:
        raise RowError("bad-number", "a number has more than 26 digits before the point") from None
    return abs(kept) if kept.is_zero() else kept  # one zero: -0 and 0 are the same payload


def integer(cell: Cell, label: str, numbers: NumberFormat = PLAIN_NUMBERS) -> int:
    """Return a whole number of at most 64 bits."""
    number = decimal(cell, label, numbers)
    if number != int(number) or not -INT64_LIMIT <= int(number) < INT64_LIMIT:
        raise RowError("bad-number", f"{label} is not a whole number of 64 bits: {shape(cell)}")
    return int(number)


def flag(cell: Cell, label: str) -> bool:
    """Return true or false from ``1 true t yes y`` and ``0 false f no n``."""
    if cell in _PLAIN_FLAGS:
        return cell == "1"
    seen = str(cell).strip().lower()
    if seen in _TRUE:
        return True
    if seen in _FALSE:
        return False
    raise RowError("bad-flag", f"{label} is neither true nor false: {shape(cell)}")


def instant(cell: Cell, label: str, *, format: str = "iso", zone: str | None = None) -> datetime:  # noqa: A002 - the word of the mapping
    """Return an aware UTC instant.

    Parameters
    ----------
    cell
        A datetime, or text or a number in ``format``.
    label
        Name of the field, for the error.
    format
        ``iso``, ``epoch_s``, ``epoch_ms``, ``epoch_us``, or a `datetime.strptime` format.
    zone
        IANA time zone of naive times; None refuses them. A time that a clock change repeats is
        taken as its first occurrence.
    """
    if is_missing(cell):
        raise RowError("time-missing", f"{label} is empty")
    try:
        read = _moment(cell, format)
        if read.tzinfo is None and zone is not None:
            read = read.replace(tzinfo=ZoneInfo(zone))
        moment = None if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RowError("bad-time", f"{label} is not a time in {format}: {shape(cell)}") from None
    if moment is None:
        detail = f"{label} has no time zone: {shape(cell)}; set timezone in the mapping, or send Z"
        raise RowError("naive-time", detail)
    if moment < _EPOCH:
        raise RowError("bad-time", f"{label} lies before 1970")
    return moment


def _moment(cell: Cell, layout: str) -> datetime:
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, date):
        return datetime(cell.year, cell.month, cell.day)  # noqa: DTZ001 - judged by the caller
    text = str(cell).strip()
    if layout in EPOCH_FORMATS:
        return _from_epoch(text, EPOCH_FORMATS[layout])
    return _from_text(text, layout)


@lru_cache(maxsize=8192)
def _from_text(text: str, layout: str) -> datetime:
    if layout != "iso":
        return datetime.strptime(text, layout)  # noqa: DTZ007 - judged by the caller
    if not _ISO.fullmatch(text):
        raise ValueError(text)  # fromisoformat takes bare digits and week dates too
    return datetime.fromisoformat(text)


def _from_epoch(text: str, microseconds: int) -> datetime:
    if len(text) > MAX_NUMBER_LENGTH or not _PLAIN.fullmatch(text):
        raise ValueError(text)
    return _EPOCH + timedelta(microseconds=int(Decimal(text) * microseconds))
