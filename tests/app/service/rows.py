"""Rows for tests that do not care what is in them."""

from datetime import UTC, datetime

from klartext.experiments.records import EventRow


def row(number: int) -> EventRow:
    """Return an event with its own id."""
    return EventRow(
        number.to_bytes(16), b"p" * 16, number, "purchase", datetime(2027, 1, 12, tzinfo=UTC)
    )
