import re
import string
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from klartext.reports.language import LANGUAGES, Locale, catalogue

EN = Locale("en", "EUR", "Europe/Berlin")
DE = Locale("de", "EUR", "Europe/Berlin")
NBSP = "\N{NO-BREAK SPACE}"


def placeholders(message: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(message) if name is not None}


def test_every_message_exists_in_both_languages_with_the_same_placeholders() -> None:
    english, german = catalogue("en"), catalogue("de")
    assert set(english) == set(german)
    for key, message in english.items():
        assert placeholders(message) == placeholders(german[key]), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_message_is_empty_or_has_stray_spaces(language: str) -> None:
    for key, message in catalogue(language).items():
        assert message.strip() == message != "", key
        assert "  " not in message, key


def test_german_is_not_english() -> None:
    alike = {
        key
        for key, message in catalogue("en").items()
        if message == catalogue("de")[key] and re.search("[a-z]{2}", re.sub("{.*?}", "", message))
    }
    assert alike <= {
        "assumptions.hours_times_rate",
        "audit.fingerprint",
        "audit.software",
        "audit.alpha",
        "cost_category.compliance",
        "cost_category.media",
        "figure.row",
        "glossary.roi",
        "glossary.sha256",
        "page.key",
        "page.status",
        "page.title",
        "page.version",
        "portfolio.column.budget",
        "portfolio.column.experiment",
        "portfolio.kind",
        "audit.status",
        "table.of",
        "unit.times_short",
        "range.labelled",
    }


@pytest.mark.parametrize(
    ("value", "english", "german"),
    [
        (0.0042, "€0.0042", f"0,0042{NBSP}€"),
        (0.734460, "€0.73", f"0,73{NBSP}€"),
        (-999.994, "−€999.99", f"−999,99{NBSP}€"),
        (1234.5, "€1,234", f"1.234{NBSP}€"),
        (16402.7072, "€16,403", f"16.403{NBSP}€"),
        (-0.0000001, "€0.0000", f"0,0000{NBSP}€"),
        (0, "€0.00", f"0,00{NBSP}€"),
    ],
)
def test_money_has_cents_below_a_thousand(value: float, english: str, german: str) -> None:
    assert EN.money(value) == english
    assert DE.money(value) == german


def test_an_interval_is_rounded_like_its_value() -> None:
    assert EN.money(999.5, like=16402.7) == "€1,000"
    assert EN.money(22468.5421, like=0.5) == "€22,468.54"


def test_dollars_in_germany_and_yen_without_sen() -> None:
    assert Locale("de", "USD", "UTC").money(16402.7072) == f"16.403{NBSP}$"
    assert Locale("en", "JPY", "UTC").money(512.4) == "JP¥512"


def test_ledger_amounts_keep_every_decimal() -> None:
    assert EN.exact(Decimal("106.492448706501")) == "€106.492448706501"
    assert DE.exact(Decimal("96.791325000000")) == f"96,791325{NBSP}€"
    assert EN.exact(Decimal(1440)) == "€1,440.00"
    assert (
        EN.exact(Decimal("12345678901234567.123456789012"))
        == "€12,345,678,901,234,567.123456789012"
    )


@pytest.mark.parametrize(
    ("value", "english", "german"),
    [(0.99999, "> 99.9%", "> 99,9 %"), (0.0001, "< 0.1%", "< 0,1 %"), (0.982, "98.2%", "98,2 %")],
)
def test_a_probability_is_never_falsely_certain(value: float, english: str, german: str) -> None:
    assert EN.probability(value).replace(NBSP, " ") == english
    assert DE.probability(value).replace(NBSP, " ") == german


def test_percent_and_points() -> None:
    assert EN.percent(1.18842, signed=True) == "+118.8%"
    assert DE.percent(-0.043119, signed=True) == f"−4,31{NBSP}%"
    assert EN.points(0.0068050065) == "+0.681 pp"
    assert DE.points(-0.0082013) == "−0,820 Pp."
    assert DE.share(Decimal("0.425")) == f"42,5{NBSP}%"


def test_p_values() -> None:
    assert EN.p_value(0.903694) == "0.9037"
    assert DE.p_value(1.1638e-7) == f"<{NBSP}0,0001"


def test_dates_are_those_of_the_experiment() -> None:
    late = datetime(2027, 3, 31, 22, 30, tzinfo=UTC)
    assert EN.date(late) == "1 April 2027"
    assert DE.date(late) == "1. April 2027"
    assert DE.instant(late) == "1. Apr. 2027, 00:30 Uhr"


def test_a_value_with_braces_is_left_alone() -> None:
    assert EN.text("treatment.against", baseline="{x} & {0}") == "against {x} & {0}"
