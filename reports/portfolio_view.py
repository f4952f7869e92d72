"""What the page of a portfolio shows, in words: banner, figures, one row per treatment, notes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from klartext.analysis.estimate import ConfidenceSet, NotEstimable
from klartext.analysis.portfolio import LEVEL, Entry, Portfolio
from klartext.analysis.recorded import Figures
from klartext.analysis.result import Number
from klartext.reports import wording
from klartext.reports.language import MISSING, Locale
from klartext.reports.tables import Cell, Column, Table
from klartext.reports.tiles import Tile
from klartext.reports.verdict import Tone

ALPHA = 1 - LEVEL


@dataclass(frozen=True, slots=True)
class PortfolioView:
    """The words of the page, in order."""

    tone: Tone
    headline: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]
    experiments: Table
    programmes: Table
    unreadable: Table
    notes: tuple[str, ...]


def view(portfolio: Portfolio, locale: Locale) -> PortfolioView:
    """Word a portfolio."""
    tone, headline = _headline(portfolio, locale)
    return PortfolioView(
        tone=tone,
        headline=headline,
        sentences=tuple(_sentences(portfolio, locale)),
        tiles=tuple(_tiles(portfolio, locale)),
        experiments=_experiments(portfolio, locale),
        programmes=_programmes(portfolio, locale),
        unreadable=_unreadable(portfolio, locale),
        notes=tuple(_notes(portfolio, locale)),
    )


def _headline(portfolio: Portfolio, locale: Locale) -> tuple[Tone, str]:
    cost = locale.money(portfolio.cost)
    result = portfolio.result
    if not portfolio.entries:
        return "wait", locale.text("portfolio.headline.empty")
    if isinstance(result, NotEstimable):
        return "wait", locale.text("portfolio.headline.unknown", cost=cost)
    tone: Tone = "wait"
    name = "open"
    if result.interval.lower > 0:
        tone, name = "go", "gain"
    elif result.interval.upper < 0:
        tone, name = "stop", "loss"
    value = locale.money(abs(result.value))
    return tone, locale.text(f"portfolio.headline.{name}", value=value, cost=cost)


def _sentences(portfolio: Portfolio, locale: Locale) -> Iterator[str]:
    result, found = portfolio.result, portfolio.corrected
    if isinstance(result, NotEstimable):
        yield locale.text("portfolio.not_corrected", reason=wording.reason(locale, result))
    else:
        show = wording.money_like(locale, result.value)
        region = wording.labelled_region(
            locale, result.interval, show, alpha=ALPHA, kind="credible"
        )
        yield locale.text("portfolio.result", value=show(result.value), range=region)
    if not isinstance(found, NotEstimable) and not isinstance(found.launched, NotEstimable):
        launched = found.launched
        show = wording.money_like(locale, launched.naive)
        yield locale.text(
            "portfolio.curse",
            naive=show(launched.naive),
            value=show(launched.value),
            curse=show(launched.naive - launched.value),
        )
    if portfolio.unreadable:
        yield locale.plural("portfolio.incomplete", len(portfolio.unreadable))


def _tiles(portfolio: Portfolio, locale: Locale) -> Iterator[Tile]:
    result, found, tests = portfolio.result, portfolio.corrected, portfolio.tests
    if isinstance(result, NotEstimable):
        yield _missing(locale, "result", result)
    else:
        naive = locale.text("portfolio.tile.naive", value=locale.money(result.naive))
        yield _money(locale, "result", result.value, result.interval, naive)
    launched = found if isinstance(found, NotEstimable) else found.launched
    naive_sum = portfolio.naive
    if isinstance(launched, NotEstimable):
        notes = () if isinstance(naive_sum, NotEstimable) else (
            locale.text("portfolio.tile.naive", value=locale.money(naive_sum)),
        )  # fmt: skip
        yield _missing(locale, "launched", launched, *notes)
    else:
        naive = locale.text("portfolio.tile.naive", value=locale.money(launched.naive))
        yield _money(locale, "launched", launched.value, launched.interval, naive)
    if isinstance(result, NotEstimable):
        yield _missing(locale, "roi", result)
    else:
        show = wording.roi_like(locale, result.roi)
        said = wording.number(locale, result.roi, show)
        region = wording.labelled_region(
            locale, result.roi_interval, show, alpha=ALPHA, kind="credible"
        )
        about = locale.text("portfolio.tile.roi_note", cost=locale.money(result.cost))
        yield Tile(
            locale.text("portfolio.tile.roi"),
            said.text,
            said.reason,
            None if said.reason else region,
            (about,),
        )
    unpriced = portfolio.unpriced_calls
    yield Tile(
        locale.text("portfolio.tile.cost"),
        locale.money(portfolio.cost),
        None,
        None,
        (
            locale.plural("portfolio.tile.cost_note", len(portfolio.entries)),
            *((locale.plural("portfolio.tile.unpriced", unpriced),) if unpriced else ()),
        ),
    )
    yield Tile(
        locale.text("portfolio.tile.tests"),
        locale.money(tests.net_benefit),
        None,
        None,
        (
            locale.text(
                "portfolio.tile.tests_note",
                margin=locale.money(tests.margin),
                cost=locale.money(tests.cost),
            ),
        ),
    )
    if portfolio.budget:
        spent = locale.money(portfolio.budgeted)
        yield Tile(
            locale.text("portfolio.tile.budget"),
            locale.percent(portfolio.budgeted / portfolio.budget, like=1.0),
            None,
            None,
            (
                locale.text(
                    "portfolio.spent_of", spent=spent, budget=locale.money(portfolio.budget)
                ),
            ),
        )


def _money(locale: Locale, name: str, value: float, interval: ConfidenceSet, note: str) -> Tile:
    show = wording.money_like(locale, value)
    region = wording.labelled_region(locale, interval, show, alpha=ALPHA, kind="credible")
    return Tile(locale.text(f"portfolio.tile.{name}"), show(value), None, region, (note,))


def _missing(locale: Locale, name: str, why: NotEstimable, *notes: str) -> Tile:
    label = locale.text(f"portfolio.tile.{name}")
    return Tile(label, MISSING, wording.reason(locale, why), None, notes)


def _experiments(portfolio: Portfolio, locale: Locale) -> Table:
    names = ("experiment", "verdict", "outlook", "corrected", "test", "cost", "budget")
    columns = tuple(
        Column(locale.text(f"portfolio.column.{name}"), numeric=place > 1)
        for place, name in enumerate(names)
    )
    rows = tuple(row for entry in portfolio.entries for row in _rows(portfolio, locale, entry))
    total = None
    if portfolio.entries:
        launched = (
            portfolio.corrected
            if isinstance(portfolio.corrected, NotEstimable)
            else portfolio.corrected.launched
        )
        total = (
            Cell(locale.text("portfolio.total")),
            Cell(locale.text("portfolio.total_of")),
            Cell(wording.number(locale, portfolio.naive, locale.money).text),
            Cell(MISSING if isinstance(launched, NotEstimable) else locale.money(launched.value)),
            Cell(locale.money(portfolio.tests.net_benefit)),
            Cell(locale.money(portfolio.cost)),
            Cell(locale.money(portfolio.budget) if portfolio.budget else ""),
        )
    return Table(locale.text("portfolio.section.experiments"), columns, rows, total)


def _rows(portfolio: Portfolio, locale: Locale, entry: Entry) -> Iterator[tuple[Cell, ...]]:
    figures: tuple[Figures | None, ...] = entry.look.figures if entry.look else (None,)
    several = len(figures) > 1
    for place, one in enumerate(figures):
        title = entry.experiment.title
        name = one.variant if several and one is not None else title
        yield (
            Cell(entry.key, name, again=place > 0),
            _verdict(locale, entry) if place == 0 else Cell(""),
            _outlook(locale, entry, one),
            _corrected(portfolio, locale, entry, one),
            Cell("") if one is None else _amount(locale, one.net_benefit, one.interval),
            *(_spent(locale, entry) if place == 0 else (Cell(""), Cell(""))),
        )


def _verdict(locale: Locale, entry: Entry) -> Cell:
    look, status = entry.look, wording.coded(locale, "status", entry.status)
    if look is None:
        return Cell(MISSING, f"{status}; {locale.text('missing.no-look')}")
    when = locale.text(
        "portfolio.look",
        status=status,
        look=locale.integer(look.number),
        date=locale.date(look.taken_at),
    )
    if not look.registered:
        when += ", " + locale.text("portfolio.unregistered")
    return Cell(locale.text(f"verdict.{look.verdict}.word"), when)


def _outlook(locale: Locale, entry: Entry, one: Figures | None) -> Cell:
    if one is None:
        return Cell("")
    shown = _amount(locale, one.outlook, one.outlook_interval)
    if entry.experiment.rollout is not None or isinstance(one.outlook, NotEstimable):
        return shown
    return Cell(shown.text, f"{shown.note} ({locale.text('horizon.planned')})")


def _corrected(portfolio: Portfolio, locale: Locale, entry: Entry, one: Figures | None) -> Cell:
    found = portfolio.corrected
    if one is None or entry.launched != one.variant:
        return Cell("")
    if isinstance(found, NotEstimable) or entry.key not in found.launches:
        return Cell(MISSING)
    launch = found.launches[entry.key]
    show = wording.money_like(locale, launch.value)
    return Cell(show(launch.value), wording.region(locale, launch.interval, show))


def _amount(locale: Locale, value: Number, region: ConfidenceSet) -> Cell:
    said = wording.number(locale, value, locale.money)
    if said.reason:
        return Cell(said.text, said.reason)
    return Cell(said.text, wording.region(locale, region, wording.money_like(locale, value)))


def _spent(locale: Locale, entry: Entry) -> tuple[Cell, Cell]:
    outlay = entry.outlay
    unpriced = outlay.unpriced_calls
    note = locale.plural("portfolio.tile.unpriced", unpriced) if unpriced else None
    cost = Cell(locale.money(outlay.total), note)
    if outlay.budget is None:
        return cost, Cell("")
    share = locale.percent(outlay.variable / outlay.budget, like=1.0) if outlay.budget else ""
    return cost, Cell(
        share,
        locale.text(
            "portfolio.spent_of",
            spent=locale.money(outlay.variable),
            budget=locale.money(outlay.budget),
        ),
    )


def _programmes(portfolio: Portfolio, locale: Locale) -> Table:
    names = ("experiment", "verdict", "held_out", "net", "stated", "value")
    columns = tuple(
        Column(locale.text(f"portfolio.column.{name}"), numeric=place > 1)
        for place, name in enumerate(names)
    )
    rows = tuple(
        (
            Cell(one.entry.key, one.entry.experiment.title),
            _verdict(locale, one.entry),
            Cell(locale.percent(one.held_out, like=1.0)),
            _amount(locale, one.net_benefit, one.interval),
            Cell(locale.money(one.stated)),
            _amount(locale, one.value, one.value_interval),
        )
        for one in portfolio.programmes
    )
    return Table(locale.text("portfolio.section.programmes"), columns, rows)


def _unreadable(portfolio: Portfolio, locale: Locale) -> Table:
    columns = (
        Column(locale.text("portfolio.column.experiment")),
        Column(locale.text("portfolio.column.why")),
    )
    rows = tuple((Cell(one.key), Cell(one.detail)) for one in portfolio.unreadable)
    return Table(locale.text("portfolio.section.unreadable"), columns, rows)


def _notes(portfolio: Portfolio, locale: Locale) -> Iterator[str]:
    found = portfolio.corrected
    yield locale.text("portfolio.note.cost")
    yield locale.text("portfolio.note.looks")
    yield locale.text("portfolio.note.curse")
    if not isinstance(found, NotEstimable):
        yield locale.text(
            "portfolio.note.learned",
            experiments=locale.integer(found.experiments),
            usual=locale.percent(found.usual_effect, like=0.05, signed=True),
            spread=locale.percent(found.spread.mean, like=0.05),
        )
    for key, why in portfolio.left_out:
        yield locale.text(
            "portfolio.note.left_out", experiment=key, reason=wording.reason(locale, why)
        )
    for entry in portfolio.entries:
        if entry.exchange:
            yield locale.text("portfolio.note.exchange", experiment=entry.key, rates=entry.exchange)
