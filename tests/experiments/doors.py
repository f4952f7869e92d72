"""A door, rows and tables for tests of the facts."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

from klartext.experiments.door import Door, PropertyType
from klartext.experiments.identity import Pseudonymiser
from klartext.experiments.ledger.fx import Rates
from klartext.experiments.records import EventRow, ExposureRow, Parsed

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROPERTIES: Mapping[str, PropertyType] = {
    "country": "text",
    "net": "money",
    "items": "integer",
    "score": "number",
    "is_new": "boolean",
}
RATES = Rates("test rates", {"USD": ((date(2026, 5, 29),), (Decimal("1.25"),))})


def door(latest: datetime = NOW) -> Door:
    return Door(
        pseudonymiser=Pseudonymiser(bytes(range(32))),
        properties=PROPERTIES,
        currency="EUR",
        timezone="Europe/Berlin",
        rates=RATES,
        latest=latest,
        variants={"mail": ("control", "ai")},
    )


def exposure_row(number: int, payload: bytes = b"p" * 16, variant: str = "ai") -> ExposureRow:
    return ExposureRow(number.to_bytes(16, "big"), payload, "mail", number, variant, NOW)


def event_row(number: int, payload: bytes = b"p" * 16, unit: int = 1) -> EventRow:
    return EventRow(
        number.to_bytes(16, "big"), payload, unit, "buy", NOW, Decimal("1.50"), "EUR", {"items": 2}
    )


def whole(position: int, payload: bytes = b"p" * 16) -> Parsed:
    """Return a row of a unit table: an exposure and an event."""
    return Parsed(position, (exposure_row(position, payload), event_row(position, payload)))
