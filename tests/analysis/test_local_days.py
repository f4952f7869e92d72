"""Local days on the days when clocks change, against zoneinfo."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import ibis
import pytest

from klartext.analysis.instants import since_epoch
from klartext.analysis.local_days import clock_changes, day_of, end_of, midnight

MICROSECOND = timedelta(microseconds=1)
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC",
         "Pacific/Apia", "America/Sao_Paulo")  # fmt: skip


def local_days(timezone: str, instants: list[datetime]) -> list[date]:
    changes = clock_changes(timezone, min(instants), max(instants))
    table = ibis.memtable({"at": [since_epoch(at) for at in instants]}, schema={"at": "int64"})
    rows = table.mutate(day=midnight(table.at, changes)).to_pyarrow().to_pylist()
    found = {row["at"]: day_of(row["day"]) for row in rows}
    return [found[since_epoch(at)] for at in instants]


def test_days_of_23_and_25_hours_end_at_midnight() -> None:
    march = datetime(2026, 3, 28, 23, tzinfo=UTC)  # midnight of the 29th in Berlin, 23 hours
    october = datetime(2026, 10, 24, 22, tzinfo=UTC)  # of the 25th, 25 hours
    instants = [
        march - MICROSECOND, march, march + timedelta(hours=23) - MICROSECOND,
        march + timedelta(hours=23),
        october - MICROSECOND, october, october + timedelta(hours=25) - MICROSECOND,
        october + timedelta(hours=25),
    ]  # fmt: skip
    assert [str(day)[5:] for day in local_days("Europe/Berlin", instants)] == [
        "03-28", "03-29", "03-29", "03-30", "10-24", "10-25", "10-25", "10-26",
    ]  # fmt: skip


@pytest.mark.parametrize("timezone", ZONES)
def test_they_are_those_of_zoneinfo(timezone: str) -> None:
    rng = random.Random(5)  # noqa: S311 - no secret
    start = datetime(1965, 1, 1, tzinfo=UTC)
    instants = [
        start + rng.randrange(62 * 365 * 86_400_000_000) * MICROSECOND for _ in range(2_000)
    ]
    zone = ZoneInfo(timezone)
    assert local_days(timezone, instants) == [at.astimezone(zone).date() for at in instants]


def test_a_day_ends_where_the_next_begins() -> None:
    assert end_of(date(2026, 3, 29), "Europe/Berlin") == datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert end_of(date(2026, 12, 31), "UTC") == datetime(2027, 1, 1, tzinfo=UTC)
