"""The page of a portfolio: every experiment, every sum, both languages."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from klartext.analysis.outlay import Outlay
from klartext.analysis.portfolio import Entry, portfolio_of
from klartext.reports import portfolio_page
from klartext.reports.language import LANGUAGES, Language
from tests.analysis.samples import START
from tests.analysis.test_portfolio import LOSERS, entry, look
from tests.reports import portfolios

DEAR = Outlay(Decimal(90_000), Decimal(0), Decimal(0), Decimal(0), None, 0)


def page_of(language: Language = "en") -> str:
    text = portfolio_page.render(portfolios.many(), language, version="0")
    return " ".join(re.sub(r"<[^>]+>", " ", text.partition("</style>")[2]).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_experiment_is_there(language: Language) -> None:
    text = page_of(language)
    found = portfolios.many()
    for key in [*(one.key for one in found.entries), "broken"]:
        assert key in text


def test_naive_and_corrected_stand_side_by_side() -> None:
    text = page_of()
    assert "what was launched brings €54,000" in text  # 100,000 at 0.50 and 10,000 at 0.40 EUR
    assert "Added up as estimated: €54,000" in text
    assert "1 experiment cannot be read and is in no sum." in text
    assert "bandit teaches nothing here" in text
    assert "1.1 USD per EUR" in text
    assert "All AI against a hold-out" in text
    assert "all-ai" in text


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (entry("more", look(-0.01, "STOP"), outlay=DEAR), "AI does not pay"),
        (entry("won", look(0.5, "GO")), "AI pays"),
        (entry("won", look(0.012, "GO")), "Not clear yet"),
    ],
)
def test_the_headline_is_what_the_interval_says(last: Entry, said: str) -> None:
    found = portfolio_of((*LOSERS, last), (), currency="EUR", timezone="UTC", generated_at=START)
    assert said in portfolio_page.render(found, "en", version="0")


def test_an_empty_workspace_has_a_page() -> None:
    found = portfolio_of((), (), currency="EUR", timezone="UTC", generated_at=START)
    text = portfolio_page.render(found, "de", version="0")
    assert "Noch ist kein Experiment registriert" in text
