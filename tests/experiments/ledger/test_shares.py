"""Shares of a line of the company: exact in every currency, and gone with the line."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.ledger.book import Recorded, append, number_of, standing
from klartext.experiments.ledger.lines import Line, LineError
from klartext.experiments.ledger.shares import Receiver, shared_out
from klartext.experiments.ledger.sums import by_category
from klartext.experiments.money import Money
from tests.experiments.ledger.books import LATER, NOVEMBER, OCTOBER, draft, line, opened


def recorded(of: Line, number: int = 1) -> Recorded:
    return Recorded(number, "a", OCTOBER, "lena", of)


def test_thirds_of_a_hundred_are_exact_to_the_cent() -> None:
    """100 USD are 92.37 EUR: 33.34 + 33.33 + 33.33 and 30.79 each."""
    parent = replace(line("100"), amount=Money(Decimal(100), "USD"), reporting=Decimal("92.37"))
    lines = shared_out(recorded(parent), "even", [Receiver(key, None, 1) for key in "abc"])
    assert [one.amount.amount for one in lines] == [
        Decimal("33.34"),
        Decimal("33.33"),
        Decimal("33.33"),
        Decimal(-100),
    ]
    assert [one.reporting for one in lines] == [*[Decimal("30.79")] * 3, Decimal("-92.37")]
    assert [one.experiment for one in lines] == ["a", "b", "c", None]
    assert lines[0].evidence == "share 1/3 of line 1, even"


def test_what_is_not_shared_stays_with_the_company() -> None:
    """A tenth and a fifth of 10.01: 1.00 and 2.00; 7.01 stay."""
    receivers = [Receiver("a", "ai", 100_000), Receiver("b", None, 200_000)]
    lines = shared_out(recorded(line("10.01")), "fixed", receivers, rest=700_000)
    assert [one.amount.amount for one in lines] == [1, 2, -3]


@given(
    st.decimals(-(10**9), 10**9, places=4, allow_nan=False),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=6).filter(any),
    st.integers(0, 10**9),
)
def test_shares_add_up_whatever_is_shared(amount: Decimal, weights: list[int], rest: int) -> None:
    parent = recorded(line(str(amount)))
    receivers = [Receiver(f"e{place}", None, weight) for place, weight in enumerate(weights)]
    lines = shared_out(parent, "driver", receivers, rest=rest)
    assert sum(one.amount.amount for one in lines) == 0
    assert sum(one.reporting for one in lines) == 0
    if not rest:
        assert lines[-1].reporting == -amount


@pytest.mark.parametrize(
    ("parent", "receivers"),
    [
        (line(experiment="a"), [Receiver("b", None, 1)]),
        (line(kind="tax"), [Receiver("b", None, 1)]),
        (line(allocates=3), [Receiver("b", None, 1)]),
        (line(), [Receiver("b", None, 0)]),
        (line(), [Receiver("b", None, -1), Receiver("c", None, 2)]),
        (line(), [Receiver("b", None, 1), Receiver("b", None, 1)]),
    ],
)
def test_what_cannot_be_shared(parent: Line, receivers: list[Receiver]) -> None:
    with pytest.raises(LineError, match="bad-allocation"):
        shared_out(recorded(parent), "even", receivers)


def test_shares_move_no_total_and_fall_with_their_line(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        append(book, [draft("p", line("100"))], actor="lena", now=OCTOBER)
        (parent,) = standing(book)
        shares = shared_out(parent, "even", [Receiver("a", None, 1), Receiver("b", None, 2)])
        drafts = [draft(f"s{place}", one) for place, one in enumerate(shares)]
        append(book, drafts, actor="lena", now=OCTOBER)
        assert [cost.amount for cost in by_category(standing(book))] == [100]
        (own,) = standing(book, experiment="b")
        assert own.line.reporting == Decimal("66.67")
        bill = line("130", status="invoiced", supersedes=number_of(book, "p"))
        append(book, [draft("i", bill)], actor="lena", now=LATER)
        assert [cost.amount for cost in by_category(standing(book))] == [130]
        assert list(standing(book, experiment="b")) == []
        assert len(list(standing(book, as_of=NOVEMBER, experiment="b"))) == 1
