"""Floors: exact sums, nobody below the floor, largest remainder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.bandits.floors import apportion, floored

shares = st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda s: sum(s) > 1e-9)


@given(shares, st.integers(0, 125_000))
def test_weights_sum_to_a_million_and_respect_the_floor(parts: list[float], floor: int) -> None:
    weights = floored(parts, floor=floor)
    rest = 1_000_000 - floor * len(parts)
    assert sum(weights) == 1_000_000
    for share, weight in zip(parts, weights, strict=True):
        assert weight >= floor
        assert abs(weight - floor - share / sum(parts) * rest) <= 1


def test_floor_is_added_not_clipped() -> None:
    assert floored([0.05, 0.95], floor=20_000) == (68_000, 932_000)  # 0.02 + 0.96 P


def test_floors_that_fill_everything_leave_equal_weights() -> None:
    assert floored([0.0, 1.0], floor=500_000) == (500_000, 500_000)


def test_remainders_go_to_the_largest_then_to_the_first() -> None:
    assert apportion([0.4, 0.35, 0.25], total=10) == (4, 4, 2)  # 4, 3.5, 2.5: a tie at .5
    assert apportion([1, 1, 1], total=1_000_000) == (333_334, 333_333, 333_333)


@pytest.mark.parametrize(("parts", "floor"), [([0.5, 0.5], 500_001), ([0.5, 0.5], -1)])
def test_floors_that_do_not_fit_are_refused(parts: list[float], floor: int) -> None:
    with pytest.raises(ValueError, match="floors"):
        floored(parts, floor=floor)


@pytest.mark.parametrize("parts", [[0.0, 0.0], [float("nan"), 1.0], [-0.1, 1.1]])
def test_shares_that_are_none_are_refused(parts: list[float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        apportion(parts, total=10)
