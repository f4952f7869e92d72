"""Calendar days of a time zone, as whole days since 1970, alike on every engine."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir

from klartext.analysis.instants import since_epoch, whole

_DAY = timedelta(days=1)
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)


def day_of(instant: ir.IntegerValue, timezone: str, *, until: datetime) -> ir.IntegerValue:
    """Whole days since 1970 of the local date of an instant.

    Parameters
    ----------
    instant
        Microseconds since 1970 UTC.
    timezone
        Name in the IANA database.
    until
        The latest instant there can be; changes of the clock are known up to it.

    Notes
    -----
    The clock's offsets are written into the expression, newest first, since engines disagree
    about how, and with which database, they convert time zones. Before 2000 the first offset of
    that year is used.
    """
    *changes, (_, first) = _offsets(timezone, until.astimezone(UTC).year + 1)
    branches = [(instant >= start, offset) for start, offset in changes]
    offset = ibis.cases(*branches, else_=first) if branches else first
    return ((instant + offset) // whole(_DAY)).cast("int64")


def to_date(day: int) -> date:
    """Return the date of a number of days since 1970."""
    return date(1970, 1, 1) + timedelta(days=day)


@cache
def _offsets(timezone: str, last_year: int) -> tuple[tuple[int, int], ...]:
    """Return from when which offset holds, in microseconds, newest first."""
    zone = ZoneInfo(timezone)

    def offset(instant: datetime) -> timedelta:
        return instant.astimezone(zone).utcoffset() or timedelta(0)

    found = [(_FIRST, offset(_FIRST))]
    day, end = _FIRST, datetime(last_year, 1, 1, tzinfo=UTC)
    while day < end:
        before, day = day, day + _DAY
        if offset(day) == offset(before):
            continue
        low, high = before, day  # the change lies between them, at a whole second
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) // 2
            middle = middle.replace(microsecond=0)
            low, high = (middle, high) if offset(middle) == offset(before) else (low, middle)
        found.append((high, offset(day)))
    return tuple((since_epoch(start), whole(by)) for start, by in reversed(found))
