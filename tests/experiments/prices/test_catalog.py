from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from klartext.experiments.prices.catalog import (
    Call,
    InOrder,
    Price,
    PriceCatalog,
    Tokens,
    Unpriced,
    terms_of,
)

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
    amount = rates().amount(Tokens(1000, 50, 400))
    assert amount == Decimal("0.002")


def test_cached_tokens_cost_what_input_costs_when_no_rate_is_known() -> None:
    price = rates(cached=None)
    assert price.amount(Tokens(1000, 0, 400)) == Decimal("0.002")


def test_a_fee_per_call_is_charged_once() -> None:
    price = Price(Decimal(0), Decimal(0), None, "USD", "proof", per_call=Decimal("0.012"))
    assert price.amount(Tokens(7, 7)) == Decimal("0.012")


def test_tokens_without_a_rate_are_unpriced_and_never_zero() -> None:
    price = rates(made=None)
    assert price.amount(Tokens(1000, 0)) == Decimal("0.002")
    answer = price.amount(Tokens(1000, 1))
    assert answer == Unpriced("no-rate", "proof has no rate for output tokens")


@pytest.mark.parametrize(
    "counts", [(-1, 0, 0), (1, -1, 0), (1, 0, -1), (1, 0, 2)], ids=["in", "out", "cached", "more"]
)
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    given, made, cached = counts
    with pytest.raises(ValueError, match="token counts"):
        rates().amount(Tokens(given, made, cached))


def test_first_list_with_a_price_is_believed() -> None:
    none, one, two = Unpriced("no-contract", ""), rates(), rates("1")
    chain: PriceCatalog = InOrder((Fixed(none), Fixed(one), Fixed(two)))
    assert chain.price(CALL) == one


def test_reason_of_the_last_list_stands() -> None:
    last = Unpriced("unknown-model", "add a contract price")
    assert InOrder((Fixed(Unpriced("no-contract", "")), Fixed(last))).price(CALL) == last
    assert InOrder(()).price(CALL) == Unpriced("no-catalog", "there is no price list")


def test_writing_to_a_cache_is_never_charged_as_mere_input() -> None:
    price = replace(rates(), cache_write_per_token=Decimal("0.0000025"))
    # 500 x 2e-6 + 400 x 1e-6 + 100 x 2.5e-6 + 50 x 8e-6, by hand
    assert price.amount(Tokens(1000, 50, 400, 100)) == Decimal("0.00205")
    answer = rates().amount(Tokens(1000, 50, 400, 100))
    assert answer == Unpriced("no-rate", "proof has no rate for cache-write tokens")


def test_the_tier_of_a_call_is_a_term_in_the_words_of_price_lists() -> None:
    assert terms_of("batch") == (("processing", "batch"),)
    assert terms_of("priority") == (("service_tier", "priority"),)
    assert [terms_of(tier) for tier in (None, "auto", "default", "standard")] == [()] * 4
