"""The inbox: facts that were acknowledged over HTTP and are on their way to the tables.

`put` is part of the transaction that acknowledges; `klartext.experiments.flush` moves them on.
Imported by the hot route, so nothing heavy is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from klartext.experiments.door import PropertyValue
from klartext.experiments.errors import KlartextError
from klartext.experiments.records import (
    AliasRow,
    EventRow,
    ExposureRow,
    FactRow,
    from_microseconds,
    microseconds,
)
from klartext.experiments.tables import inbox, settings

_LIVE = "events.live_at"


def put(connection: sa.Connection, rows: Iterable[FactRow], *, now: datetime) -> int:
    """Keep rows until they are flushed; they are safe when the caller's transaction commits.

    Returns
    -------
    int
        How many rows there were.
    """
    records = [
        {"fact_table": row.table, "record": to_record(row), "received_at": now} for row in rows
    ]
    if records:
        connection.execute(inbox.insert(), records)
    return len(records)


def pending(connection: sa.Connection) -> int:
    """Return how many acknowledged rows are not in the tables yet."""
    return connection.scalar(sa.select(sa.func.count()).select_from(inbox)) or 0


def live_at(connection: sa.Connection) -> datetime | None:
    """Return when whoever sends events was last heard of, None when nobody was yet."""
    found = connection.scalar(sa.select(settings.c.value).where(settings.c.name == _LIVE))
    return None if found is None else from_microseconds(int(found))


def mark_live(connection: sa.Connection, at: datetime) -> None:
    """Record that whoever sends events was there: all that happened before has been sent."""
    known = live_at(connection)
    if known is None:
        connection.execute(settings.insert().values(name=_LIVE, value=str(microseconds(at))))
    elif known < at:
        connection.execute(
            settings.update().where(settings.c.name == _LIVE).values(value=str(microseconds(at)))
        )


def to_record(row: FactRow) -> str:
    """Return a fact row as JSON text, from which `from_record` makes an equal one."""
    document: dict[str, Any] = {
        **asdict(row),
        "id": row.id.hex(),
        "payload": row.payload.hex(),
        "occurred_at": microseconds(row.occurred_at),
    }
    return json.dumps(document, default=_plain, separators=(",", ":"))


def from_record(table: str, record: str) -> FactRow:
    """Return the fact row that `to_record` wrote.

    Raises
    ------
    KlartextError
        The inbox does not hold rows of this table.
    """
    document = json.loads(record)
    document["id"] = bytes.fromhex(document["id"])
    document["payload"] = bytes.fromhex(document["payload"])
    document["occurred_at"] = from_microseconds(document["occurred_at"])
    properties: Mapping[str, PropertyValue] = {
        name: _exact(value) for name, value in document.pop("properties", {}).items()
    }
    match table:
        case "exposures":
            return ExposureRow(**document, properties=properties)
        case "events":
            value = document.pop("value")
            amount = None if value is None else Decimal(value["decimal"])
            return EventRow(**document, value=amount, properties=properties)
        case "aliases":
            return AliasRow(**document)
        case _:
            raise KlartextError(f"the inbox holds a row of {table}, which it does not take")


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    raise TypeError(f"{type(value).__name__} does not belong into a fact row")


def _exact(value: Any) -> PropertyValue:
    return Decimal(value["decimal"]) if isinstance(value, dict) else value
