from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from klartext.experiments.records import (
    EventRow,
    ExposureRow,
    Parsed,
    Reject,
    parse_event,
    parse_exposure,
)
from tests.experiments.doors import NOW, door

EVENT = {
    "id": "order-1",
    "unit": "anna@example.org",
    "name": "purchase",
    "occurred_at": "2026-05-30T12:00:00Z",
    "value": "12.50",
    "currency": "EUR",
    "properties": {"country": "DE", "net": 10, "secret": "anna@example.org"},
}
EXPOSURE = {
    "id": "x1",
    "experiment": "mail",
    "unit": "anna",
    "variant": "ai",
    "occurred_at": "2026-05-30T12:00:00Z",
    "propensity": 300_000,
}


def event(**changes: Any) -> EventRow:
    parsed = parse_event({**EVENT, **changes}, door())
    assert isinstance(parsed, Parsed)
    (row,) = parsed.facts
    assert isinstance(row, EventRow)
    return row


def test_an_event_passes_the_door() -> None:
    parsed = parse_event(EVENT, door())
    assert isinstance(parsed, Parsed)
    assert parsed.dropped == ("secret",)
    row = event()
    assert row.unit == door().pseudonymiser.unit("anna@example.org")
    assert (row.value, row.currency) == (Decimal("12.5"), "EUR")
    assert row.properties == {"country": "DE", "net": Decimal(10)}
    assert row.occurred_at == datetime(2026, 5, 30, 12, tzinfo=UTC)


def test_money_is_converted_at_the_rate_of_its_day() -> None:
    row = event(currency="USD")
    assert (row.value, row.currency) == (Decimal(10), "EUR")  # 12.50 USD / 1.25 USD per EUR
    assert row.properties["net"] == Decimal(8)


def test_a_repeat_has_the_same_id_and_payload() -> None:
    assert event(value=12.5, occurred_at="2026-05-30T14:00:00+02:00") == event()
    assert event(value="12.51").id == event().id
    assert event(value="12.51").payload != event().payload
    assert event(source="shop").id != event().id


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "id-missing"),
        ({"unit": ""}, "unit-missing"),
        ({"name": "anna@example.org"}, "bad-name"),
        ({"name": None}, "name-missing"),
        ({"occurred_at": "2026-05-30T12:00:00"}, "naive-time"),
        ({"occurred_at": (NOW + timedelta(seconds=1)).isoformat()}, "time-in-future"),
        ({"value": "NaN"}, "bad-number"),
        ({"currency": "euro"}, "unknown-currency"),
        ({"currency": "GBP"}, "no-exchange-rate"),
        ({"currency": None}, "missing-currency"),  # of the property net
        ({"properties": [1]}, "bad-properties"),
        ({"properties": {"items": "many"}}, "bad-number"),
        ({"properties": {"country": {"x": 1}}}, "bad-properties"),
    ],
)
def test_what_cannot_pass_is_a_reject_without_raw_ids(changes: dict[str, Any], reason: str) -> None:
    rejected = parse_event({**EVENT, **changes}, door(), position=7)
    assert isinstance(rejected, Reject)
    assert (rejected.position, rejected.reason) == (7, reason)
    assert "example" not in repr(rejected)


def test_an_exposure_passes_the_door() -> None:
    parsed = parse_exposure(EXPOSURE, door())
    assert isinstance(parsed, Parsed)
    (row,) = parsed.facts
    assert isinstance(row, ExposureRow)
    assert (row.experiment, row.variant, row.propensity) == ("mail", "ai", 300_000)


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"variant": "AI"}, "unknown-variant", "'aa' is not one of control, ai"),
        ({"variant": "contol"}, "unknown-variant", "'contol' resembles 'control' but"),
        ({"variant": "ben@example.org"}, "unknown-variant", "'aaa@aaaaaaa.aaa' is not"),
        ({"experiment": "other"}, "unknown-experiment", "not registered"),
        ({"propensity": 0}, "bad-number", "millionths"),
    ],
)
def test_exposures_that_cannot_pass(changes: dict[str, Any], reason: str, detail: str) -> None:
    rejected = parse_exposure({**EXPOSURE, **changes}, door())
    assert isinstance(rejected, Reject)
    assert rejected.reason == reason
    assert detail in rejected.detail
    assert rejected.unit == door().pseudonymiser.unit("anna")
