from datetime import UTC, datetime
from decimal import Decimal

import pytest

from klartext.experiments.prices.catalog import Call, InOrder, Price, PriceCatalog, Unpriced

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
CALL = Call("m", AT, 10)


class Fixed:
    def __init__(self, answer: Price | Unpriced) -> None:
        self.answer = answer

    def price(self, call: Call) -> Price | Unpriced:
        assert call == CALL
        return self.answer


def rates(
    given: str = "0.000002", made: str | None = "0.000008", cached: str | None = "0.000001"
) -> Price:
    return Price(
        Decimal(given),
        None if made is None else Decimal(made),
        None if cached is None else Decimal(cached),
        "USD",
        "proof",
    )


def test_amount_charges_cached_tokens_at_their_own_rate() -> None:
    # 600 x 2e-6 + 400 x 1e-6 + 50 x 8e-6, by hand
    amount = rates().amount(input_tokens=1000, output_tokens=50, cached_tokens=400)
    assert amount == Decimal("0.002")


def test_cached_tokens_cost_what_input_costs_when_no_rate_is_known() -> None:
    price = rates(cached=None)
    assert price.amount(input_tokens=1000, output_tokens=0, cached_tokens=400) == Decimal("0.002")


def test_a_fee_per_call_is_charged_once() -> None:
    price = Price(Decimal(0), Decimal(0), None, "USD", "proof", per_call=Decimal("0.012"))
    assert price.amount(input_tokens=7, output_tokens=7) == Decimal("0.012")


def test_tokens_without_a_rate_are_unpriced_and_never_zero() -> None:
    price = rates(made=None)
    assert price.amount(input_tokens=1000, output_tokens=0) == Decimal("0.002")
    answer = price.amount(input_tokens=1000, output_tokens=1)
    assert answer == Unpriced("no-rate", "proof has no rate for output tokens")


@pytest.mark.parametrize(
    "counts", [(-1, 0, 0), (1, -1, 0), (1, 0, -1), (1, 0, 2)], ids=["in", "out", "cached", "more"]
)
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    given, made, cached = counts
    with pytest.raises(ValueError, match="token counts"):
        rates().amount(input_tokens=given, output_tokens=made, cached_tokens=cached)


def test_first_list_with_a_price_is_believed() -> None:
    none, one, two = Unpriced("no-contract", ""), rates(), rates("1")
    chain: PriceCatalog = InOrder((Fixed(none), Fixed(one), Fixed(two)))
    assert chain.price(CALL) == one


def test_reason_of_the_last_list_stands() -> None:
    last = Unpriced("unknown-model", "add a contract price")
    assert InOrder((Fixed(Unpriced("no-contract", "")), Fixed(last))).price(CALL) == last
    assert InOrder(()).price(CALL) == Unpriced("no-catalog", "there is no price list")
