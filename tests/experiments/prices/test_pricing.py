from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from klartext.experiments.ledger.fx import Rates
from klartext.experiments.prices.catalog import Call, Price, PriceCatalog, Tokens, Unpriced
from klartext.experiments.prices.order import open_catalog
from klartext.experiments.prices.pricing import Charge, Pricing

LATE = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)  # already 2 March in Berlin
RATES = Rates(
    "ecb.csv",
    {"USD": ((date(2026, 2, 27), date(2026, 3, 2)), (Decimal("1.25"), Decimal("1.6")))},
)
CALL = Call("m", LATE, 1_000_000)


class OneModel:
    """A list with one price and one model it has no price for."""

    def price(self, call: Call) -> Price | Unpriced:
        if call.model != "m":
            return Unpriced("unknown-model", "add a contract price")
        return Price(Decimal("0.000002"), None, None, "USD", "list 2/- USD per 1M tokens")


def pricing(currency: str = "EUR", zone: str = "Europe/Berlin", rates: Rates = RATES) -> Pricing:
    catalog: PriceCatalog = OneModel()
    return Pricing(catalog, rates, currency, ZoneInfo(zone))


def test_rate_of_the_calls_calendar_day_converts() -> None:
    assert pricing().charge(CALL, Tokens(CALL.input_tokens, 0)) == Charge(
        Decimal("1.250000000000"),
        "list 2/- USD per 1M tokens; 1.6 USD per EUR of 2026-03-02 (ecb.csv)",
    )
    assert pricing(zone="UTC").charge(CALL, Tokens(CALL.input_tokens, 0)).amount == Decimal("1.6")


def test_same_currency_is_not_converted() -> None:
    assert pricing("USD").charge(CALL, Tokens(CALL.input_tokens, 0)) == Charge(
        Decimal("2.000000000000"), "list 2/- USD per 1M tokens"
    )


def test_unpriced_is_none_with_its_reason() -> None:
    other = Call("other", LATE, 1)
    assert pricing().charge(other, Tokens(other.input_tokens, 0)) == Charge(
        None, "unpriced unknown-model: add a contract price"
    )
    assert pricing().charge(CALL, Tokens(CALL.input_tokens, 1)) == Charge(
        None, "unpriced no-rate: list 2/- USD per 1M tokens has no rate for output tokens"
    )
    assert pricing(rates=Rates()).charge(CALL, Tokens(CALL.input_tokens, 0)) == Charge(
        None,
        "unpriced no-exchange-rate: list 2/- USD per 1M tokens;"
        " the workspace (no rates file) has no rate for USD",
    )


def test_repeating_decimals_are_rounded_once() -> None:
    thirds = Rates("ecb.csv", {"USD": ((date(2026, 3, 2),), (Decimal(3),))})
    assert pricing(rates=thirds).charge(CALL, Tokens(CALL.input_tokens, 0)).amount == Decimal(
        "0.666666666667"
    )


def test_list_price_of_one_azure_call() -> None:
    # 374 x 2.50 + 44 x 10.00 USD per million, by hand
    usd = Pricing(open_catalog(None, "UTC"), Rates(), "USD", ZoneInfo("UTC"))
    call = Call("gpt-4o", datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC), 374)
    assert usd.charge(call, Tokens(call.input_tokens, 44)).amount == Decimal("0.001375")
