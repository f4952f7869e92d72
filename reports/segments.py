"""Segments in a report: a figure of the primary metric by level, and a table of every metric."""

from __future__ import annotations

from dataclasses import dataclass

from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.result import MetricResult
from klartext.analysis.segment_effects import LevelEffect, SegmentEffect
from klartext.analysis.segments import Level
from klartext.reports import figures, wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import MISSING, Locale
from klartext.reports.tables import Cell, Column, Table

MAX_LABEL = 60
"""Characters of a value that a report shows; a value may be anything that somebody sent."""


@dataclass(frozen=True, slots=True)
class SegmentBlock:
    """One property of one treatment: what to say first, and the table.

    ``figure`` is the key of its figure, which is there when it has anything to draw.
    """

    title: str
    figure: str
    summary: str
    notes: tuple[str, ...]
    table: Table


def blocks(document: ReportDocument, locale: Locale) -> tuple[SegmentBlock, ...]:
    """Return what the page shows of every property and treatment, in the order of the spec."""
    return tuple(
        SegmentBlock(
            title=_title(document, locale, effects[0]),
            figure=f"segment_{place}",
            summary=_summary(locale, effects[0]),
            notes=tuple(_notes(locale, effects[0])),
            table=_table(document, locale, effects),
        )
        for place, effects in enumerate(_cuts(document))
    )


def forests(document: ReportDocument, locale: Locale) -> dict[str, figures.Figure]:
    """Return the figures of the primary metric by level."""
    found: dict[str, figures.Figure] = {}
    for place, (effect, *_) in enumerate(_cuts(document)):
        metric = _metric(document, effect)
        rows = [
            _drawn(locale, metric, locale.text("segments.all"), effect.raw),
            *(_drawn(locale, metric, label(locale, one.level), one.estimate, one.pooled)
              for one in effect.levels),
        ]  # fmt: skip
        title = _title(document, locale, effect)
        name = wording.metric_name(locale, metric)
        found[f"segment_{place}"] = figures.forest(
            locale,
            key=f"segment_{place}",
            title=locale.text("segments.figure", metric=name, title=title),
            alt=locale.text("segments.figure_alt", metric=name, title=title),
            rows=rows,
            show=_tick(locale, metric),
            legend=[("best", locale.text("segments.pooled"))],
        )
    return found


def label(locale: Locale, level: Level) -> str:
    """Name a level; a value is shown as it was sent, shortened, without control characters."""
    if level.kind != "value":
        return locale.text(f"segments.{level.kind}")
    if not level.value.strip():
        return locale.text("segments.blank")
    text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in level.value)
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 1]}…"


def _cuts(document: ReportDocument) -> list[list[SegmentEffect]]:
    """Return the metrics of each property and treatment together."""
    found: dict[tuple[str, str], list[SegmentEffect]] = {}
    for effect in document.analysis.segments:
        found.setdefault((effect.property, effect.variant), []).append(effect)
    return list(found.values())


def _metric(document: ReportDocument, effect: SegmentEffect) -> MetricResult:
    return next(
        one
        for one in document.analysis.metrics
        if (one.metric, one.variant) == (effect.metric, effect.variant)
    )


def _title(document: ReportDocument, locale: Locale, effect: SegmentEffect) -> str:
    if len(document.analysis.treatments) == 1:
        return effect.property
    return locale.text("table.of", label=effect.property, variant=effect.variant)


def _drawn(
    locale: Locale,
    metric: MetricResult,
    name: str,
    estimate: Estimate | NotEstimable,
    pooled: float | NotEstimable | None = None,
) -> figures.ForestRow:
    if isinstance(estimate, NotEstimable):
        return figures.forest_row(
            label=name,
            sublabel="",
            value=estimate,
            best=None,
            found=estimate,
            rule_found=None,
            said=(MISSING, wording.reason(locale, estimate)),
        )
    show = wording.metric_difference(locale, metric, estimate.value)
    units = locale.integer(estimate.n + estimate.baseline_n)
    return figures.forest_row(
        label=name,
        sublabel=locale.text("segments.units", count=units),
        value=estimate.value,
        best=pooled,
        found=estimate.interval,
        rule_found=None,
        said=figures.said(locale, estimate.value, estimate.interval, show),
    )


def _tick(locale: Locale, metric: MetricResult) -> figures.Ticks:
    if metric.is_rate:
        return locale.percent_tick
    if metric.is_money:
        return locale.money_tick
    return lambda value, decimals: locale.number(value, decimals=decimals)


def _summary(locale: Locale, effect: SegmentEffect) -> str:
    """Say of the primary metric whether the levels differ."""
    test = effect.differs
    if isinstance(test, NotEstimable):
        return locale.text("segments.untested", reason=wording.reason(locale, test))
    p = locale.p_value(test.p_value)
    look = "" if effect.valid_for_look else f" {locale.text('segments.single_look')}"
    key = "segments.differ" if test.p_value <= 0.05 else "segments.alike"
    return f"{locale.text(key, p=p)}{look}"


def _notes(locale: Locale, effect: SegmentEffect) -> list[str]:
    notes = []
    if effect.left_out and not isinstance(effect.differs, NotEstimable):
        names = ", ".join(label(locale, level) for level in effect.left_out)
        notes.append(locale.text("segments.left_out", levels=names))
    if effect.joined:
        names = ", ".join(label(locale, level) for level in effect.joined)
        notes.append(locale.text("segments.joined", levels=names))
    return notes


def _table(document: ReportDocument, locale: Locale, effects: list[SegmentEffect]) -> Table:
    level = wording.level(locale, document.analysis.alpha)
    columns = (
        Column(locale.text("metrics.metric")),
        Column(effects[0].property),
        Column(locale.text("segments.count"), numeric=True),
        Column(locale.text("metrics.baseline_mean"), numeric=True),
        Column(locale.text("metrics.mean"), numeric=True),
        Column(locale.text("metrics.difference", level=level), numeric=True),
        Column(locale.text("segments.holm"), numeric=True),
        Column(locale.text("segments.pooled"), numeric=True),
    )
    rows = []
    for effect in effects:
        metric = _metric(document, effect)
        for place, found in enumerate(effect.levels):
            rows.append(_row(locale, metric, found, again=place > 0))
        rows.append(_total(locale, metric, "segments.all", effect.raw))
        rows.append(_total(locale, metric, "segments.stratified", effect.total))
    title = locale.text("table.of", label=effects[0].property, variant=effects[0].variant)
    return Table(title, columns, tuple(rows))


def _row(
    locale: Locale, metric: MetricResult, found: LevelEffect, *, again: bool
) -> tuple[Cell, ...]:
    baseline = wording.metric_mean(locale, metric, found.baseline_mean)
    mean = wording.metric_mean(locale, metric, found.mean)
    p_value = wording.number(locale, found.p_adjusted, locale.p_value)
    pooled = Cell(MISSING)
    if not isinstance(found.estimate, NotEstimable):
        show = wording.metric_difference(locale, metric, found.estimate.value)
        best = wording.number(locale, found.pooled, show)
        pooled = Cell(best.text, best.reason or wording.region(locale, found.pooled_interval, show))
    return (
        Cell(wording.metric_name(locale, metric), again=again),
        Cell(label(locale, found.level)),
        Cell(locale.integer(found.n + found.baseline_n)),
        Cell(baseline.text, baseline.reason),
        Cell(mean.text, mean.reason),
        _difference(locale, metric, found.estimate),
        Cell(p_value.text),
        pooled,
    )


def _total(
    locale: Locale, metric: MetricResult, key: str, found: Estimate | NotEstimable
) -> tuple[Cell, ...]:
    units = (
        MISSING if isinstance(found, NotEstimable) else locale.integer(found.n + found.baseline_n)
    )
    return (
        Cell(wording.metric_name(locale, metric), again=True),
        Cell(locale.text(key)),
        Cell(units),
        Cell(""),
        Cell(""),
        _difference(locale, metric, found),
        Cell(""),
        Cell(""),
    )


def _difference(locale: Locale, metric: MetricResult, found: Estimate | NotEstimable) -> Cell:
    if isinstance(found, NotEstimable):
        return Cell(MISSING, wording.reason(locale, found))
    show = wording.metric_difference(locale, metric, found.value)
    return Cell(show(found.value), wording.region(locale, found.interval, show))
