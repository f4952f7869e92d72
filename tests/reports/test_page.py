import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.result import Beliefs, CostSource, LedgerView, MetricResult
from klartext.reports import page, tables
from klartext.reports.language import LANGUAGES, Language, Locale, catalogue
from tests.reports import samples

CASES = [(name, language) for name in samples.SAMPLES for language in LANGUAGES]
VOID = {"meta", "line", "path", "br"}


class Page(HTMLParser):
    """Collects the text and elements of a page, and refuses one that is not well nested."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def rendered(name: str, language: Language) -> str:
    return page.render(samples.SAMPLES[name](), language)


@pytest.mark.parametrize(("name", "language"), CASES)
def test_a_page_is_well_formed_and_self_contained(name: str, language: Language) -> None:
    source = rendered(name, language)
    found = Page(source)
    tags = {tag for tag, _ in found.elements}
    assert source.startswith("<!DOCTYPE html>")
    assert f'<html lang="{language}">' in source
    assert not tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert "http://" not in source.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in source
    assert "url(" not in source
    assert "@import" not in source
    assert not any("style" in attributes for _, attributes in found.elements)
    policy = next(
        attributes["content"]
        for tag, attributes in found.elements
        if tag == "meta" and "http-equiv" in attributes
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


@pytest.mark.parametrize(("name", "language"), CASES)
def test_a_missing_number_is_never_printed_as_one(name: str, language: Language) -> None:
    text = Page(rendered(name, language)).text
    assert not re.search(r"\b(nan|inf|None|NaN|Infinity|NotEstimable|Undefined|e[+-]\d\d)\b", text)


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_nothing_english_is_on_a_german_page(name: str) -> None:
    text = Page(rendered(name, "de")).text
    german = catalogue("de")
    leaks = {
        message
        for key, message in catalogue("en").items()
        if "{" not in message
        and message != german[key]
        and len(message) > 3
        and re.search(rf"(?<!\w){re.escape(message)}(?!\w)", text)
        and not any(message in other for other in german.values())
    }
    hypotheses = {"purchase", "Control", "control"}
    assert leaks - hypotheses == set()
    assert "English that no page may show" not in text


@pytest.mark.parametrize(("name", "language"), CASES)
def test_tables_and_figures_are_accessible(name: str, language: Language) -> None:
    found = Page(rendered(name, language))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.elements:
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}
        if tag == "svg" and attributes.get("aria-hidden") != "true":
            assert attributes["role"] == "img"
            named = (attributes["aria-labelledby"] or "").split()
            assert set(named) <= set(ids)
    headings = [tag for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    tables = [tag for tag, _ in found.elements].count("table")
    assert [tag for tag, _ in found.elements].count("caption") == tables


def test_go_tells_hillstroms_numbers_and_that_it_was_not_registered() -> None:
    text = Page(rendered("go", "en")).text
    assert "GO “mens” pays" in text
    assert "Not registered before the data existed" in text
    assert "153.0 × cost 95% interval: 96.1 × to 210.0 ×" in text
    assert "US$16,296 95% interval: US$10,230 to US$22,362" in text
    assert "US$106.492449" in text
    assert "145.0 incremental conversions" in text
    assert "Also with this verdict, with a smaller expected net benefit: womens." in text
    assert "Not included, because neither recorded nor stated: Inference compute" in text
    assert "interval the rule reads (97.5%)" in text


def test_go_in_german() -> None:
    text = Page(rendered("go", "de")).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "EINFÜHREN (GO) „mens“ rechnet sich" in text
    assert "Nicht vorab registriert" in text
    assert "16.296 $ 95 %-Intervall: 10.230 $ bis 22.362 $" in text
    assert "Zusätzlicher Deckungsbeitrag 16.403 $" in text


def test_a_registered_experiment_has_no_mark() -> None:
    assert "Not registered" not in Page(rendered("stop", "en")).text


def test_stop_names_the_loss_and_every_assumption() -> None:
    text = Page(rendered("stop", "de")).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "STOPP „bot“ beenden" in text
    assert "Regel 2, Verlust" in text
    assert "Deckungsbeitragsquote auf spend 42 % 38 % bis 45 % DB-Rechnung 2026 m.huber" in text
    assert "160 Std. × 95,00 €" in text
    assert "Beständigkeit der Wirkung über das Jahr 70 % 50 % bis 90 %" in text
    assert "Kalkulationszins pro Jahr 10 %" in text
    assert "–" in text
    assert "Kosten je Monat: Überwachung, für bot 250,00 € – nicht angegeben" in text


def test_what_is_not_estimable_is_a_dash_with_its_reason() -> None:
    text = Page(rendered("continue", "en")).text
    assert "Net benefit over 12 months – too early: until every variant has enough" in text
    assert "ROI of the test – cannot be determined reliably" in text
    assert "only values between −320.0% and 40.0% are ruled out Raw estimate 42.0%" in text
    assert "cannot be determined reliably – at least €12.50" in text


def test_unpriced_calls_are_shown_as_such() -> None:
    text = Page(rendered("continue", "de")).text
    assert "nicht bewertet kein Preis bekannt; gilt als unbekannt, nie als null" in text
    assert "Summe der bewerteten Posten" in text
    assert "Aufrufe, die keine Variante nennen und keiner belastet sind: 12." in text


def test_an_invalid_experiment_shows_no_effect_and_no_benefit() -> None:
    text = Page(rendered("invalid", "en")).text
    assert "No readout" in text
    assert "Units split as planned < 0.0001 ≥ 0.0005" in text
    assert "Effects on the metrics" not in text
    assert "130 units" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_text_stays_text(language: Language) -> None:
    document = samples.going_on()
    hostile = "\"'><img src=x onerror=alert(1)>{{7*7}}{% raw %}</title></style>"
    experiment = replace(document.experiment, hypothesis=hostile, owner=hostile)
    source = page.render(replace(document, experiment=experiment), language)
    assert "<script>" not in source
    assert "<img" not in source
    assert "{{7*7}}" in source
    found = Page(source)
    assert "<script>alert('x')</script> Betreffzeilen & Vorschautexte" in found.text
    assert hostile in found.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_the_time_of_making_differs_between_two_runs(language: Language) -> None:
    first, second = samples.go(), samples.go()
    assert page.render(first, language) == page.render(second, language)
    later = replace(second, generated_at=second.generated_at + timedelta(days=1))
    lines = zip(
        page.render(first, language).splitlines(),
        page.render(later, language).splitlines(),
        strict=True,
    )
    changed = [one for one, other in lines if one != other]
    assert len(changed) == 2
    assert all("Apr" in line for line in changed)


def test_every_glossary_term_of_a_page_is_explained() -> None:
    keys = {key.removeprefix("glossary.") for key in catalogue("en") if key.startswith("glossary.")}
    terms = {key for key in keys if not key.endswith("_text")}
    used = {term for make in samples.SAMPLES.values() for term in make().glossary}
    assert terms == used


def rows_of(metric: MetricResult) -> list[tuple[tables.Cell, ...]]:
    document = samples.between_looks()
    changed = replace(document, analysis=replace(document.analysis, metrics=(metric,)))
    return list(tables.metrics(changed, Locale("en", "EUR", "UTC"), metric.variant).rows)


def test_the_levels_with_a_cap_do_not_stand_beside_the_difference_without_it() -> None:
    metric = samples.between_looks().analysis.metrics[-1]
    both = (*metric.estimates, ("uncapped", metric.estimates[0][1]))
    row = next(
        row
        for row in rows_of(replace(metric, estimates=both))
        if row[-1].text == catalogue("en")["method.uncapped"]
    )
    assert [cell.text for cell in row[1:3]] == ["–", "–"]


def test_a_probability_short_of_one_is_not_printed_as_certain() -> None:
    metric = samples.between_looks().analysis.metrics[-1]
    assert isinstance(metric.bayes, Beliefs)
    better = replace(metric.bayes.better, probability_better=0.99986)
    row = rows_of(replace(metric, bayes=replace(metric.bayes, better=better)))
    notes = [cell.note for cells in row for cell in cells if cell.note]
    assert any("> 99.9%" in note.replace("\N{NO-BREAK SPACE}", " ") for note in notes)
    assert not any("100.0%" in note for note in notes)


def test_an_adjusted_p_that_is_missing_is_not_mentioned() -> None:
    metric = samples.between_looks().analysis.metrics[-1]
    rows = rows_of(replace(metric, adjusted_p=NotEstimable("burn-in", "early"), correction="holm"))
    assert not any("Holm" in (cell.note or "") for row in rows for cell in row)


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", ("the bill", "Difference")), ("de", ("die Rechnung", "Differenz"))],
)
def test_a_bill_and_the_prices_in_its_place_stand_side_by_side(
    language: Language, said: tuple[str, ...]
) -> None:
    plain = samples.stop()
    now = plain.generated_at
    source = CostSource(
        "model_fees", "acme-ai", None, now, now, "bill", Decimal(10), Decimal(8), 2, 0, (1,)
    )
    view = LedgerView(None, now, 1, Decimal(10), Decimal(3), Decimal(0), (source,))
    shown = replace(plain, analysis=replace(plain.analysis, ledger=view))
    words = Page(page.render(shown, language)).texts
    assert {text for text in said if any(text in word for word in words)} == set(said)
    assert any("acme-ai" in word for word in words)
    assert "acme-ai" not in page.render(plain, language)
