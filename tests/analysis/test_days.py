"""Local dates in the engine against Python's own, around every change of the clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import ibis
import pyarrow as pa
import pytest

from klartext.analysis.days import day_of, to_date
from klartext.analysis.instants import since_epoch

UNTIL = datetime(2027, 6, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    "timezone",
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kolkata",
        "Pacific/Apia",
        "Africa/Casablanca",
    ],
)
def test_dates_equal_those_of_python(timezone: str) -> None:
    zone = ZoneInfo(timezone)
    instants = []
    day = datetime(2000, 1, 2, tzinfo=zone)
    while day.astimezone(UTC) < UNTIL:
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        instants += [midnight - MICROSECOND, midnight, midnight + timedelta(hours=2)]
        day += timedelta(days=1)
    table = ibis.memtable(pa.table({"us": [since_epoch(instant) for instant in instants]}))
    found = table.select("us", day=day_of(table.us, timezone, until=UNTIL)).to_pyarrow()
    days = dict(zip(found["us"].to_pylist(), found["day"].to_pylist(), strict=True))
    for instant in instants:
        assert to_date(days[since_epoch(instant)]) == instant.astimezone(zone).date()
