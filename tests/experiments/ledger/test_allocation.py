from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.ledger.allocation import allocate

amounts = st.decimals(
    min_value=Decimal("-1e12"), max_value=Decimal("1e12"), places=12, allow_nan=False
)
weights = st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=8).filter(any)


def test_a_third_of_a_cent_goes_to_the_first() -> None:
    assert allocate(Decimal("0.01"), (1, 1, 1)) == (Decimal("0.01"), Decimal(0), Decimal(0))
    assert allocate(Decimal("10.00"), (1, 1, 1)) == (
        Decimal("3.34"),
        Decimal("3.33"),
        Decimal("3.33"),
    )


def test_largest_remainder_wins() -> None:
    # 100 cents over 1:2:4 are 14.29, 28.57 and 57.14 cents: the second has the largest remainder.
    assert allocate(Decimal(1), (1, 2, 4)) == (Decimal("0.14"), Decimal("0.29"), Decimal("0.57"))


def test_finer_amounts_are_shared_to_their_own_last_digit() -> None:
    assert allocate(Decimal("0.005"), (1, 1)) == (Decimal("0.003"), Decimal("0.002"))


def test_a_credit_is_shared_like_a_charge() -> None:
    assert allocate(Decimal(-1), (1, 2)) == (Decimal("-0.33"), Decimal("-0.67"))


@pytest.mark.parametrize("wrong", [(), (0, 0), (1, -1)])
def test_weights_must_say_something(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="weights"):
        allocate(Decimal(1), wrong)


@given(amounts, weights)
def test_shares_add_up_and_stay_within_a_step(amount: Decimal, given_weights: list[int]) -> None:
    shares = allocate(amount, given_weights)
    assert sum(shares, Decimal(0)) == amount
    total = sum(given_weights)
    for share, weight in zip(shares, given_weights, strict=True):
        assert abs(share - amount * weight / total) <= Decimal("0.010000001")
        assert weight or not share
