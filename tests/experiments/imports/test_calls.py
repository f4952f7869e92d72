from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from klartext.experiments.cells import Cell, RowError
from klartext.experiments.door import Door
from klartext.experiments.identity import Pseudonymiser
from klartext.experiments.imports.calls import CallReader
from klartext.experiments.ledger.fx import Rates
from klartext.experiments.prices.order import open_catalog
from klartext.experiments.prices.pricing import Pricing
from klartext.experiments.records import UsageRow

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = Pseudonymiser(bytes(32))
DOOR = Door(
    pseudonymiser=KEY,
    properties={},
    currency="USD",
    timezone="UTC",
    rates=Rates(),
    latest=AT + timedelta(days=1),
    variants={"mail": ("control", "ai")},
)
CALL: dict[str, Cell] = {"input_tokens": "374", "output_tokens": 44, "model": "gpt-4o"}


@pytest.fixture(scope="module")
def reader() -> CallReader:
    pricing = Pricing(open_catalog(None, "UTC"), Rates(), "USD", ZoneInfo("UTC"))
    return CallReader(DOOR, pricing, "gateway")


def read(reader: CallReader, cells: Mapping[str, Cell]) -> UsageRow:
    return reader.read(CALL | dict(cells), id=b"i" * 16, occurred_at=AT)


def test_a_call_is_priced_with_its_proof(reader: CallReader) -> None:
    row = read(reader, {})
    assert row.amount == Decimal("0.001375")  # (374 x 2.50 + 44 x 10.00) / 1,000,000
    assert row.evidence.endswith("openai/gpt-4o 2.5/10 USD per 1M tokens, cached 1.25")
    assert (row.source, row.category, row.currency) == ("gateway", "model_fees", "USD")
    assert (row.cached_tokens, row.unit, row.variant) == (None, None, None)


def test_everything_a_call_can_say(reader: CallReader) -> None:
    row = read(
        reader,
        {
            "cached_tokens": "300",
            "provider": "openai",
            "experiment": "mail",
            "variant": "ai",
            "unit": "anna@example.org",
            "task": "case-17",
            "duration_ms": "812.6",
            "error": "rate_limit_exceeded",
            "prompt": "subject-lines@7",
        },
    )
    # 74 x 2.50 + 300 x 1.25 + 44 x 10.00, by hand
    assert row.amount == Decimal("0.001")
    assert (row.experiment, row.variant, row.unit) == ("mail", "ai", KEY.unit("anna@example.org"))
    assert row.task == KEY.token("case-17")
    assert (row.duration_ms, row.error, row.prompt) == (
        813,
        "rate_limit_exceeded",
        "subject-lines@7",
    )


def test_a_retry_that_returned_usage_is_billed(reader: CallReader) -> None:
    assert read(reader, {"error": "timeout"}).amount == read(reader, {}).amount


def test_an_unpriced_call_is_kept_without_an_amount(reader: CallReader) -> None:
    row = read(reader, {"model": "house-model"})
    assert row.amount is None
    assert row.evidence.startswith("unpriced unknown-model")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"input_tokens": "-1"}, "bad-tokens"),
        ({"output_tokens": 10**9}, "bad-tokens"),
        ({"input_tokens": "12.5"}, "bad-number"),
        ({"input_tokens": ""}, "tokens-missing"),
        ({"output_tokens": None}, "tokens-missing"),
        ({"cached_tokens": 375}, "bad-tokens"),
        ({"model": " "}, "model-missing"),
        ({"model": "anna@example.org"}, "bad-name"),
        ({"prompt": "anna@example.org"}, "bad-name"),
        ({"prompt": "Write a subject line for Anna, who bought…"}, "bad-name"),
        ({"provider": "anna@example.org"}, "bad-name"),
        ({"experiment": "mial"}, "unknown-experiment"),
        ({"experiment": "mail", "variant": "Ai "}, "unknown-variant"),
        ({"variant": "ai"}, "experiment-missing"),
        ({"duration_ms": -1}, "bad-duration"),
    ],
)
def test_what_is_no_call_is_refused_with_its_reason(
    reader: CallReader, cells: dict[str, Cell], reason: str
) -> None:
    with pytest.raises(RowError) as raised:
        read(reader, cells)
    assert raised.value.reason == reason
    assert "anna" not in str(raised.value)


@pytest.mark.parametrize(
    "model",
    ["claude-sonnet-4-5@20250929", "@cf/meta/llama-3", "accounts/fireworks/models/x", "gpt-4o"],
)
def test_names_of_models_are_taken_as_they_are(reader: CallReader, model: str) -> None:
    assert read(reader, {"model": model}).model == model


def test_words_of_an_error_are_not_kept(reader: CallReader) -> None:
    assert read(reader, {"error": "user anna@example.org not found"}).error == "other"
    assert read(reader, {"error": "429"}).error == "429"
    for nothing in ("", None, False, "False", "ok"):
        assert read(reader, {"error": nothing}).error is None


def test_payload_is_the_call_and_not_its_price(reader: CallReader) -> None:
    dearer = replace(
        reader, pricing=replace(reader.pricing, catalog=open_catalog(None, "UTC"), currency="EUR")
    )
    row = read(reader, {})
    assert read(dearer, {}).amount is None  # no exchange rate
    assert read(dearer, {}).payload == row.payload
    for other in ({"output_tokens": 45}, {"model": "gpt-4o-mini"}, {"unit": "1"}, {"error": "x"}):
        assert read(reader, other).payload != row.payload


def test_terms_and_category_of_the_delivery_apply(reader: CallReader) -> None:
    batch = replace(reader, terms=(("processing", "batch"),), category="inference_compute")
    row = batch.read(CALL, id=b"i", occurred_at=datetime(2026, 11, 1, tzinfo=UTC))
    assert row.amount == Decimal("0.0006875")  # half the list price
    assert row.category == "inference_compute"
    assert read(batch, {}).amount is None  # the catalogue has no batch price before October 2026
