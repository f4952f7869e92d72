"""The page in a real browser: no network, no errors, nothing cut off, complete on paper."""

import os
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

from klartext.analysis.result import Assumed
from klartext.reports import page, portfolio_page
from klartext.reports.language import Language
from tests.reports import portfolios, samples


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not found:
        pytest.skip("no browser: install chromium or set CHROMIUM to its path for this test")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=found, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield started
        started.close()


@dataclass
class Opened:
    """An open page with all it asked the network for and all it complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def opened(browser: Browser, path: Path, *, width: int = 1280) -> Opened:
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_offline(True)
    shown = Opened(context.new_page())

    def refuse(route: Route) -> None:
        if route.request.url == path.as_uri():
            route.continue_()
        else:
            shown.requests.append(route.request.url)
            route.abort()

    context.route("**/*", refuse)
    shown.page.on("console", lambda message: shown.complaints.append(message.text))
    shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    shown.page.goto(path.as_uri())
    return shown


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Path]:
    paths = {}
    for name, make in samples.SAMPLES.items():
        paths[name] = tmp_path / f"{name}.html"
        paths[name].write_text(page.render(make(), "de"), encoding="utf-8")
    return paths


@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_opens_offline_without_a_word(
    browser: Browser, written: dict[str, Path], width: int
) -> None:
    for path in written.values():
        shown = opened(browser, path, width=width)
        assert shown.requests == []
        assert shown.complaints == []
        assert shown.page.locator("h1").count() == 1
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.page.locator(".plot:visible").count() >= 1
        shown.page.context.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("language", ["de", "en"])
def test_the_portfolio_opens_offline_without_a_word(
    browser: Browser, tmp_path: Path, width: int, language: Language
) -> None:
    path = tmp_path / "portfolio.html"
    shown_to = portfolio_page.render(portfolios.many(), language, version="0")
    path.write_text(shown_to, encoding="utf-8")
    shown = opened(browser, path, width=width)
    assert (shown.requests, shown.complaints) == ([], [])
    assert shown.page.locator("h1").count() == 1
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.page.locator(".experiments tbody tr").count() == 9
    assert shown.page.locator(".unreadable tbody tr").count() == 1
    shown.page.context.close()


def test_styles_pass_their_own_policy(browser: Browser, written: dict[str, Path]) -> None:
    shown = opened(browser, written["go"])
    colour = shown.page.locator(".banner").evaluate("e => getComputedStyle(e).borderLeftColor")
    assert colour == "rgb(11, 110, 95)"
    shown.page.context.close()


def test_all_text_has_contrast(browser: Browser, written: dict[str, Path]) -> None:
    """At least 4.5 : 1 (WCAG 2.2, 1.4.3) for every element that holds text."""
    measure = """() => {
      const channel = c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
      const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
        return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b) };
      const ground = e => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if (!c.endsWith(', 0)')) return c; }
        return 'rgb(255, 255, 255)' };
      const weak = [];
      for (const e of document.querySelectorAll('body *')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
        const style = getComputedStyle(e), svg = e.closest('svg');
        if (style.display === 'none' || ['STYLE', 'title', 'desc'].includes(e.tagName)) continue;
        const a = light(svg ? style.fill : style.color), b = light(ground(svg ?? e));
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5) weak.push([e.className, e.textContent.slice(0, 40), ratio]);
      }
      return weak;
    }"""
    for path in written.values():
        shown = opened(browser, path)
        assert shown.page.evaluate(measure) == []
        shown.page.context.close()


def test_print_is_complete(browser: Browser, written: dict[str, Path], tmp_path: Path) -> None:
    shown = opened(browser, written["go"])
    target = tmp_path / "go.pdf"
    shown.page.pdf(path=target, prefer_css_page_size=True, print_background=True)
    content = target.read_bytes()
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") in range(3, 8)
    shown.page.emulate_media(media="print")
    assert shown.page.locator(".plot.wide:visible").count() == 3
    shown.page.context.close()


@pytest.mark.parametrize("language", ["en", "de"])
def test_interactive_figures_work_offline_too(
    browser: Browser, tmp_path: Path, language: Language
) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "go.html"
    path.write_text(page.render(samples.go(), language, interactive=True), encoding="utf-8")
    shown = opened(browser, path)
    shown.page.locator(".main-svg").first.wait_for()
    assert shown.page.locator(".plotly .main-svg:visible").count() >= 3
    assert shown.page.locator(".plot:visible").count() == 0
    assert shown.requests == []
    assert shown.complaints == []
    shown.page.emulate_media(media="print")
    assert shown.page.locator(".plot.wide:visible").count() == 3
    shown.page.context.close()


def test_a_what_if_is_marked_on_every_sheet(browser: Browser, tmp_path: Path) -> None:
    """Its mark is a transparent form in 110 pt, which is 146.66 px; one page has one."""
    shown = samples.go()
    tried = Assumed("rollout.persistence", "fraction", Decimal("0.7"), Decimal("0.5"))
    path, target = tmp_path / "what-if.html", tmp_path / "what-if.pdf"
    what_if = replace(shown, analysis=replace(shown.analysis, assumed=(tried,)))
    path.write_text(page.render(what_if, "de"), encoding="utf-8")
    printed = opened(browser, path)
    assert printed.requests == printed.complaints == []
    printed.page.pdf(path=target, prefer_css_page_size=True)
    content = target.read_bytes()
    printed.page.context.close()
    sheets = len(re.findall(rb"/Type /Page\b", content))
    marks = 0
    for head, packed in re.findall(rb"<<(.*?)>> ?stream\n(.*?)endstream", content, re.DOTALL):
        if b"/Form" in head:
            marks += b" 146.66" in zlib.decompressobj().decompress(packed)
    assert sheets > 1
    assert marks == sheets
