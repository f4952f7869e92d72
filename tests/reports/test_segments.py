"""Segments and intention to treat on the page, in both languages."""

from dataclasses import replace

import numpy as np
import pytest

from klartext.analysis.engine import open_engine
from klartext.analysis.segments import Level
from klartext.analysis.series import read_series
from klartext.app.cli.scorecard import scorecard
from klartext.reports import courses, page, segments
from klartext.reports.document import ReportDocument, build
from klartext.reports.language import Language, Locale
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    WATERMARK,
    evaluated,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
)
from tests.reports import samples

HOSTILE = "<script>alert(1)</script>\x1b[2J"


@pytest.fixture(scope="module")
def document() -> ReportDocument:
    spec = experiment(
        segments=("country",), metrics=(CONVERSION, REVENUE), exposure_event="mail_sent",
        registration="retrospective", audience={"country": ("DE", "AT", "LI")},
        inference=replace(experiment().inference, mode="fixed"),
    )  # fmt: skip
    rng = np.random.default_rng(8)
    exposures, events = [], []
    for unit in range(1_200):
        variant = "ai" if rng.random() < 0.5 else "control"
        country = ["DE", "AT", HOSTILE, None][unit % 4]
        exposures.append(
            exposure(unit, variant, p_country=country, occurred_at=START + unit % 20 * DAY)
        )
        if unit % 5:
            events.append(event(unit, "mail_sent", days=unit % 20 + 1))
        if rng.random() < 0.3:
            events.append(purchase(unit, f"{rng.exponential(40):.2f}", days=unit % 20 + 2))
    facts = tables(exposures, events)
    analysis = evaluated(spec, read(spec, facts))
    with open_engine() as engine:
        course = read_series(spec, facts, WATERMARK, engine=engine)  # type: ignore[arg-type]  # alike
    audit = samples.go().audit
    return build(analysis, spec, audit, generated_at=samples.GENERATED, series=course)


@pytest.mark.parametrize("language", ["de", "en"])
def test_the_page_shows_every_level_and_all_units(
    document: ReportDocument, language: Language
) -> None:
    html = page.render(document, language)
    assert "segment_0-wide" in html
    assert "<script>alert" not in html
    assert "\x1b" not in html
    assert "&lt;script&gt;alert(1)" in html
    (block,) = segments.blocks(document, Locale(language, "EUR", "Europe/Berlin"))
    names = [row[1].text for row in block.table.rows[:7]]
    missing = {"de": "nicht bekannt", "en": "not known"}[language]
    assert names[:3] == ["DE", "AT", "LI"]
    assert missing in names
    assert len(block.table.rows) == 3 * (5 + 2)  # net, conversion, revenue
    event_named = {"de": "ab dem Ereignis mail_sent", "en": "from the event mail_sent"}[language]
    assert event_named in html


@pytest.mark.parametrize("language", ["de", "en"])
def test_the_page_shows_the_course_and_says_that_it_is_no_estimate(
    document: ReportDocument, language: Language
) -> None:
    html = page.render(document, language)
    for key in ("course_exposed", "course_days", "course_ages"):
        assert f"{key}-wide" in html
        assert f"{key}-narrow" in html
    said = {"de": "Bilder, keine Schätzungen", "en": "Charts, never estimates"}[language]
    assert said in html
    table = courses.cohorts(document, Locale(language, "EUR", "Europe/Berlin"))
    assert table is not None
    assert len(table.rows) == 2 * 3  # mails from the 6th to the 25th of January, three weeks
    assert [column.numeric for column in table.columns[:3]] == [False, False, True]


def test_the_course_can_be_drawn_interactively(document: ReportDocument) -> None:
    assert "course_ages" in page.render(document, "en", interactive=True)


def test_without_a_course_there_is_no_section(document: ReportDocument) -> None:
    assert "Charts, never estimates" not in page.render(replace(document, series=None), "en")


def test_an_empty_level_says_why(document: ReportDocument) -> None:
    (block,) = segments.blocks(document, Locale("en", "EUR", "Europe/Berlin"))
    (row,) = [row for row in block.table.rows[:5] if row[1].text == "LI"]
    assert row[5].text == "–"
    assert row[5].note


def test_the_scorecard_is_short_and_sends_nothing_to_the_terminal(document: ReportDocument) -> None:
    text = scorecard(document.analysis)
    assert "net ai by country; levels differ: p " in text
    assert "ALL UNITS, whether they reached the event or not" in text
    assert "\x1b" not in text
    assert "conversion ai by country" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", "(blank)"), (" \n", "(blank)"), ("a\tb", "a\ufffdb"), ("x" * 99, "x" * 59 + "…")],
)
def test_a_value_may_be_anything(value: str, shown: str) -> None:
    assert segments.label(Locale("en", "EUR", "UTC"), Level("value", value)) == shown
