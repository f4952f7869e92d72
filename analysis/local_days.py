"""Local days: which calendar day of a time zone an instant lies on, in whole numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import ibis
import ibis.expr.types as ir

from klartext.analysis.instants import since_epoch, whole

DAY = whole(timedelta(days=1))
_EPOCH = date(1970, 1, 1)
_STEP = timedelta(hours=6)  # no zone changes its clocks twice within it
_SHIFT = 1_000_000 * DAY  # makes every instant positive: engines disagree about -1 mod 2


def clock_changes(timezone: str, first: datetime, last: datetime) -> tuple[tuple[int, int], ...]:
    """Return the offsets of a zone between two instants.

    Parameters
    ----------
    timezone
        IANA name.
    first, last
        Aware instants.

    Returns
    -------
    tuple
        Pairs of the microsecond since 1970 from which an offset holds and the offset in
        microseconds east of UTC, the first from ``first`` on.

    Examples
    --------
    >>> year = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    >>> [offset // 3_600_000_000 for _, offset in clock_changes("Europe/Berlin", *year)]
    [1, 2, 1]
    """
    zone = ZoneInfo(timezone)

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta(0)

    at = first.astimezone(UTC)
    before = offset(at)
    found = [(at, before)]
    while at < last:
        following = at + _STEP
        after = offset(following)
        if after != before:
            low, high = at, following
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset(middle) == before else (low, middle)
            found.append((high.replace(microsecond=0), offset(high)))
        at, before = following, after
    return tuple((since_epoch(since), whole(value)) for since, value in found)


def midnight(instant: ir.IntegerValue, changes: tuple[tuple[int, int], ...]) -> ir.IntegerValue:
    """Return the local day of an instant, as microseconds of its wall clock since 1970.

    `day_of` makes a date of it. Integers only: a day with 23 or 25 hours is one day like others,
    and every engine agrees on its ends.
    """
    (_, before), *later = changes
    offset = (
        ibis.cases(
            *(
                (instant >= since, ibis.literal(value, type="int64"))
                for since, value in later[::-1]
            ),
            else_=ibis.literal(before, type="int64"),
        )
        if later
        else ibis.literal(before, type="int64")
    )
    shifted = instant + offset + _SHIFT
    return shifted - shifted % DAY - _SHIFT


def whole_days(span: ir.IntegerValue) -> ir.IntegerValue:
    """Return a span of microseconds, zero or more, without the started day."""
    return span - span % DAY


def day_of(local: int) -> date:
    """Return the date of a value of `midnight`."""
    return _EPOCH + timedelta(days=local // DAY)


def end_of(day: date, timezone: str) -> datetime:
    """Return the instant at which a local day ends."""
    following = day + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=ZoneInfo(timezone))
