"""What moves the result: every stated input, how far its range carries the net benefit."""

from __future__ import annotations

from dataclasses import dataclass

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.result import Number, Sway, TreatmentResult
from klartext.reports import figures, wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import MISSING, Locale
from klartext.reports.tables import Cell, Column, Table

DRAWN = 10
"""Inputs that the figure shows; the table has all."""


@dataclass(frozen=True, slots=True)
class TornadoBlock:
    """The inputs of one treatment: the key of their figure, what to say first, the table."""

    variant: str
    figure: str
    intro: str
    table: Table


def blocks(document: ReportDocument, locale: Locale) -> tuple[TornadoBlock, ...]:
    """Return what the page shows, per treatment; nothing without a stated input."""
    return tuple(
        TornadoBlock(
            variant=treatment.variant,
            figure=f"tornado_{place}",
            intro=_intro(document, locale, treatment),
            table=_table(locale, treatment),
        )
        for place, treatment in enumerate(document.analysis.treatments)
        if treatment.tornado
    )


def drawn(document: ReportDocument, locale: Locale) -> dict[str, figures.Figure]:
    """Return the figures: the inputs whose range moves the net benefit, the widest first."""
    found: dict[str, figures.Figure] = {}
    for place, treatment in enumerate(document.analysis.treatments):
        bars = [
            bar
            for sway in treatment.tornado[:DRAWN]
            if (bar := _bar(locale, treatment, sway)) is not None
        ]
        base = treatment.outlook.net_benefit
        ends = [end for bar in bars for end in (bar.start, bar.value)]
        key = f"tornado_{place}"
        told = {"variant": treatment.variant, "horizon": wording.horizon(document, locale)}
        found[key] = figures.Bars(
            key=key,
            title=locale.text("tornado.figure", **told),
            alt=locale.text("tornado.figure_alt", **told),
            axis=figures.axis(ends, locale.money_tick),
            bars=tuple(bars),
            level=None if isinstance(base, NotEstimable) else base,
        )
    return found


def _bar(locale: Locale, treatment: TreatmentResult, sway: Sway) -> figures.Bar | None:
    low, high = sway.at_low, sway.at_high
    if isinstance(low, NotEstimable) or isinstance(high, NotEstimable) or not sway.width:
        return None
    show = wording.money_like(locale, treatment.outlook.net_benefit)
    return figures.Bar(
        label=wording.assumption(locale, sway.input),
        sublabel=_stated_range(locale, sway),
        start=min(low, high),
        value=max(low, high),
        text=locale.text("range.between", low=show(low), high=show(high)),
    )


def _stated_range(locale: Locale, sway: Sway) -> str:
    stated = sway.input.assumption
    ends = ("base" if stated.low is None else "low", "base" if stated.high is None else "high")
    low, high = (wording.assumption_value(locale, sway.input, end) for end in ends)
    return locale.text("range.between", low=low, high=high)


def _intro(document: ReportDocument, locale: Locale, treatment: TreatmentResult) -> str:
    base = treatment.outlook.net_benefit
    said = wording.number(locale, base, wording.money_like(locale, base))
    told = locale.text("tornado.intro", horizon=wording.horizon(document, locale), base=said.text)
    return told if said.reason is None else f"{told} {said.reason}."


def _table(locale: Locale, treatment: TreatmentResult) -> Table:
    columns = (
        Column(locale.text("assumptions.input")),
        Column(locale.text("assumptions.base"), numeric=True),
        Column(locale.text("assumptions.span"), numeric=True),
        Column(locale.text("tornado.at_low"), numeric=True),
        Column(locale.text("tornado.at_high"), numeric=True),
        Column(locale.text("tornado.break_even"), numeric=True),
    )
    title = locale.text("table.of", label=locale.text("section.tornado"), variant=treatment.variant)
    show = wording.money_like(locale, treatment.outlook.net_benefit)
    return Table(title, columns, tuple(_row(locale, sway, show) for sway in treatment.tornado))


def _row(locale: Locale, sway: Sway, show: wording.Show) -> tuple[Cell, ...]:
    span = wording.assumption_span(locale, sway.input)
    return (
        Cell(wording.assumption(locale, sway.input), sway.input.path),
        Cell(wording.assumption_value(locale, sway.input)),
        Cell(span.text, span.reason),
        _money(locale, sway.at_low, show),
        _money(locale, sway.at_high, show),
        _break_even(locale, sway),
    )


def _money(locale: Locale, value: Number, show: wording.Show) -> Cell:
    """Say an end; that none is stated was said beside it already."""
    if isinstance(value, NotEstimable) and value.reason == "no-range":
        return Cell(MISSING)
    said = wording.number(locale, value, show)
    return Cell(said.text, said.reason)


def _break_even(locale: Locale, sway: Sway) -> Cell:
    if isinstance(sway.break_even, NotEstimable):
        return Cell(MISSING, wording.reason(locale, sway.break_even))
    key = {True: "inside", False: "outside", None: None}[sway.in_range]
    note = None if key is None else locale.text(f"tornado.{key}")
    return Cell(wording.input_value(locale, sway.input, sway.break_even), note)
