from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from klartext.experiments.ledger.book import append, number_of, standing
from klartext.experiments.ledger.lines import LineError
from klartext.experiments.ledger.sums import by_category, reconciled
from klartext.experiments.money import Money
from tests.experiments.ledger.books import LATER, NOVEMBER, OCTOBER, draft, line, opened

HOUR = timedelta(hours=1)


def test_a_late_invoice_takes_the_place_of_its_accrual(tmp_path: Path) -> None:
    """October's service is accrued at 1,000 and billed with 1,180 in November: two as-of dates."""
    with opened(tmp_path) as book:
        accrual = line("1000", status="accrued")
        append(book, [draft("a", accrual)], actor="lena", now=NOVEMBER)
        invoice = line("1180", status="invoiced", supersedes=number_of(book, "a"))
        append(book, [draft("b", invoice)], actor="lena", now=LATER)

        def cost(at: datetime) -> tuple[Decimal, Decimal]:
            (found,) = by_category(standing(book, as_of=at), start=OCTOBER, end=NOVEMBER)
            return found.amount, found.not_invoiced

        assert cost(LATER - HOUR) == (Decimal(1000), Decimal(1000))
        assert cost(LATER) == (Decimal(1180), Decimal(0))
        assert list(standing(book, as_of=NOVEMBER - HOUR)) == []


def test_everything_comes_back_as_it_was_recorded(tmp_path: Path) -> None:
    whole = replace(
        line(),
        reporting=Decimal("12345678901234567.123456789012"),
        amount=Money(Decimal("0.1"), "USD"),
        billed=Decimal("0.30"),
        vat=Decimal("0.019"),
        experiment="mail",
        variant="ai",
        cost_centre="4711",
        account="6300",
        label="Dev",
        billing_start=OCTOBER,
    )
    with opened(tmp_path) as book:
        assert append(book, [draft("a", whole)], actor="lena", now=LATER) == ["accepted"]
        (found,) = standing(book)
    assert (found.line, found.recorded_at, found.actor) == (whole, LATER, "lena")


def test_a_repeat_changes_nothing_and_a_contradiction_loses(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        drafts = [draft("a"), draft("b"), draft("a"), draft("a", line("7"), "other")]
        outcomes = append(book, drafts, actor="lena", now=LATER)
        assert outcomes == ["accepted", "accepted", "duplicate", "conflict"]
        before = list(standing(book))
        assert append(book, drafts[:2], actor="ben", now=LATER) == ["duplicate", "duplicate"]
        assert list(standing(book)) == before


def test_a_report_of_the_past_stays_when_the_clock_runs_backwards(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        append(book, [draft("a")], actor="lena", now=LATER)
        seen = list(standing(book, as_of=LATER - HOUR))
        append(book, [draft("b")], actor="lena", now=NOVEMBER)
        assert list(standing(book, as_of=LATER - HOUR)) == seen == []
        assert len(list(standing(book, as_of=LATER))) == 2


def test_a_line_is_superseded_once(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        append(book, [draft("a")], actor="lena", now=OCTOBER)
        number = number_of(book, "a")
        append(book, [draft("b", line("5", supersedes=number))], actor="lena", now=NOVEMBER)
        for supersedes in (number, 99):
            with pytest.raises(LineError, match="bad-supersedes"):
                append(book, [draft("c", line(supersedes=supersedes))], actor="lena", now=NOVEMBER)
        (left,) = standing(book)
        assert left.line.reporting == 5
        append(book, [draft("d", left.line.voided(left.number))], actor="lena", now=LATER)
        assert list(standing(book)) == []
        assert len(list(standing(book, as_of=NOVEMBER))) == 1


def test_tax_is_kept_beside_and_billed_is_never_added(tmp_path: Path) -> None:
    with opened(tmp_path) as book:
        lines = [
            line("100", billed=Decimal(1200), status="invoiced"),
            line("-30", kind="credit", billed=Decimal(-30), status="invoiced"),
            line("19", kind="tax", status="invoiced"),
            line("0.01", status="estimated"),
        ]
        drafts = [draft(str(number), each) for number, each in enumerate(lines)]
        append(book, drafts, actor="lena", now=LATER)
        (cost,) = by_category(standing(book))
        assert (cost.lines, cost.amount, cost.not_invoiced, cost.tax) == (
            4,
            Decimal("70.01"),
            Decimal("0.01"),
            Decimal(19),
        )
        (bill,) = reconciled(standing(book))
        assert (bill.billed, bill.effective, bill.lines) == (Decimal(1170), Decimal(70), 2)
