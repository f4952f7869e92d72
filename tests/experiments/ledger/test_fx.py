from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from klartext.experiments.errors import ConfigurationError, NotFoundError
from klartext.experiments.ledger.fx import Conversion, NoRate, Rates, read_rates
from klartext.experiments.money import stored

# Reference rates of the ECB for the days around Easter 2024 (29 March to 1 April had none).
ECB = """\
date,currency,rate
2024-03-28,USD,1.0811
2024-04-02,USD,1.0749
2024-04-02,CHF,0.9765
"""


@pytest.fixture
def rates(tmp_path: Path) -> Rates:
    return read_rates(written(tmp_path, ECB))


def written(folder: Path, text: str) -> Path:
    path = folder / "ecb.csv"
    path.write_text(text, "utf-8")
    return path


def converted(answer: Conversion | NoRate) -> Decimal:
    assert isinstance(answer, Conversion), answer
    return stored(answer.amount)


def test_dollars_are_divided_by_the_rate(rates: Rates) -> None:
    # 100 / 1.0811 = 92.498381278328 EUR
    answer = rates.convert(Decimal(100), "USD", "EUR", day=date(2024, 3, 28))
    assert converted(answer) == Decimal("92.498381278328")
    assert isinstance(answer, Conversion)
    assert answer.evidence == "1.0811 USD per EUR of 2024-03-28 (ecb.csv)"


def test_euros_are_multiplied(rates: Rates) -> None:
    assert converted(rates.convert(Decimal(100), "EUR", "USD", day=date(2024, 3, 28))) == Decimal(
        "108.11"
    )


def test_other_currencies_go_through_the_euro(rates: Rates) -> None:
    # 100 x 0.9765 / 1.0749 = 90.845660061401 CHF
    answer = rates.convert(Decimal(100), "USD", "CHF", day=date(2024, 4, 2))
    assert converted(answer) == Decimal("90.845660061401")
    assert isinstance(answer, Conversion)
    assert "1.0749 USD per EUR" in answer.evidence
    assert "0.9765 CHF per EUR" in answer.evidence


def test_same_currency_needs_no_rate() -> None:
    assert Rates().convert(Decimal("1.5"), "USD", "USD", day=date(2024, 1, 1)) == Conversion(
        Decimal("1.5"), ""
    )


def test_easter_uses_the_rate_of_maundy_thursday(rates: Rates) -> None:
    for day in (date(2024, 3, 29), date(2024, 4, 1)):
        assert rates.per_euro("USD", day) == (date(2024, 3, 28), Decimal("1.0811"))


def test_five_days_are_the_limit(rates: Rates) -> None:
    assert isinstance(rates.convert(Decimal(1), "USD", "EUR", day=date(2024, 4, 7)), Conversion)
    answer = rates.convert(Decimal(1), "USD", "EUR", day=date(2024, 4, 8))
    assert answer == NoRate(
        "the last rate for USD before 2024-04-08 is of 2024-04-02, more than 5 days old"
    )


def test_missing_rates_are_a_reason(rates: Rates) -> None:
    assert rates.convert(Decimal(1), "GBP", "EUR", day=date(2024, 4, 2)) == NoRate(
        "ecb.csv has no rate for GBP"
    )
    assert rates.convert(Decimal(1), "EUR", "CHF", day=date(2024, 4, 1)) == NoRate(
        "ecb.csv has no rate for CHF on or before 2024-04-01"
    )
    assert Rates().convert(Decimal(1), "USD", "EUR", day=date(2024, 4, 1)) == NoRate(
        "the workspace (no rates file) has no rate for USD"
    )


def test_all_broken_lines_are_named(tmp_path: Path) -> None:
    text = ECB + "2024-13-01,USD,1\n2024-04-03,usd,1\n2024-04-03,USD,0\n2024-04-02,USD,1.2\n1,2\n"
    with pytest.raises(ConfigurationError) as raised:
        read_rates(written(tmp_path, text))
    assert [problem.line for problem in raised.value.problems] == [5, 6, 7, 8, 9]
    assert "two rates" in str(raised.value.problems[3])


def test_header_and_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        read_rates(written(tmp_path, "Date,USD\n"))
    with pytest.raises(NotFoundError):
        read_rates(tmp_path / "none.csv")
    (tmp_path / "wide.csv").write_bytes(ECB.encode("utf-16"))  # as a spreadsheet may save it
    with pytest.raises(ConfigurationError, match=r"wide.csv:1 the file is not UTF-8"):
        read_rates(tmp_path / "wide.csv")
