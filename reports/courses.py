"""The course of an experiment in a report: lines by day and by age, and the table of cohorts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.series import AgeRow, CohortRow, DayRow, Series, Totals
from klartext.experiments.experiment import Experiment
from klartext.reports import figures, wording
from klartext.reports.document import ReportDocument
from klartext.reports.figures import Line, Point
from klartext.reports.language import MISSING, Locale
from klartext.reports.tables import Cell, Column, Table

MAX_DAYS = 400
"""Calendar days that a report draws, the latest ones; all are in the JSON."""

MAX_COHORTS = 26
"""Weeks of exposure that a report lists, the latest ones; all are in the JSON."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """The one quantity that a report draws: the net value, or the first metric without values."""

    column: str
    name: str
    is_money: bool


def drawn(document: ReportDocument, locale: Locale) -> dict[str, figures.Figure]:
    """Return exposures by calendar day, and the value per unit by day and by age."""
    series, experiment = document.series, document.experiment
    if series is None or not series.days:
        return {}
    shown = _shown(experiment, series, locale)
    keys = [variant.key for variant in experiment.variants]
    last = series.days[-1].day
    first = max(series.days[0].day, last - timedelta(days=MAX_DAYS - 1))
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    known = {(row.day, row.variant): row for row in series.days}
    open_from = min((row.day for row in series.days if not row.complete), default=None)

    def by_day(value: Callable[[DayRow], float], shown_days: list[date]) -> tuple[Line, ...]:
        """Draw a value by day, 0 where nothing happened."""
        return tuple(
            Line(
                key,
                tuple(
                    Point(x, value(known[day, key]) if (day, key) in known else 0.0)
                    for x, day in enumerate(shown_days)
                ),
            )
            for key in keys
        )

    over = [day for day in days if open_from is None or day < open_from]
    ages = tuple(Line(key, tuple(_means(_of_age(series.ages, key), shown.column))) for key in keys)
    show = locale.money_tick if shown.is_money else _plain(locale)
    return {
        "course_exposed": figures.lines(
            key="course_exposed",
            title=locale.text("course.exposed", zone=series.timezone),
            alt=locale.text("course.exposed_alt"),
            drawn=by_day(lambda row: float(row.exposed), days),
            labels=[locale.day(day) for day in days],
            show=_plain(locale),
        ),
        "course_days": figures.lines(
            key="course_days",
            title=locale.text("course.days", metric=shown.name, zone=series.timezone),
            alt=locale.text("course.days_alt", metric=shown.name),
            drawn=by_day(lambda row: row.totals[shown.column], over),
            labels=[locale.day(day) for day in over],
            show=show,
        ),
        "course_ages": figures.lines(
            key="course_ages",
            title=locale.text("course.ages", metric=shown.name),
            alt=locale.text("course.ages_alt", metric=shown.name),
            drawn=ages,
            labels=[locale.integer(row.age) for row in _of_age(series.ages, keys[0])],
            show=show,
        ),
    }


def cohorts(document: ReportDocument, locale: Locale) -> Table | None:
    """Give the value per unit by week of exposure and age in weeks, one row per variant."""
    series = document.series
    if series is None or not series.cohorts:
        return None
    shown = _shown(document.experiment, series, locale)
    ages = sorted({row.age for row in series.cohorts})
    weeks = sorted({row.week for row in series.cohorts})[-MAX_COHORTS:]
    found = {(row.week, row.variant, row.age): row for row in series.cohorts}
    rows = []
    for week in weeks:
        for place, variant in enumerate(document.experiment.variants):
            first = found[week, variant.key, ages[0]]
            cells = [
                Cell(locale.day(week), again=place > 0),
                Cell(variant.key),
                Cell(locale.integer(first.units)),
            ]
            cells += [_cell(locale, shown, found[week, variant.key, age]) for age in ages]
            rows.append(tuple(cells))
    columns = (
        Column(locale.text("course.week")),
        Column(locale.text("variants.variant")),
        Column(locale.text("segments.count"), numeric=True),
        *(Column(locale.text("course.age", age=str(age + 1)), numeric=True) for age in ages),
    )
    return Table(locale.text("course.cohorts", metric=shown.name), columns, tuple(rows))


def _shown(experiment: Experiment, series: Series, locale: Locale) -> _Shown:
    if experiment.value or not series.metrics:
        return _Shown("net", locale.text("course.net"), is_money=True)
    return _Shown(series.metrics[0], series.metrics[0], is_money=False)


def _of_age(rows: Iterable[AgeRow], variant: str) -> list[AgeRow]:
    return [row for row in rows if row.variant == variant]


def _means(rows: Iterable[AgeRow], column: str) -> Iterable[Point]:
    return (Point(row.age, row.totals[column] / row.units) for row in rows if row.units)


def _plain(locale: Locale) -> figures.Ticks:
    return lambda value, decimals: locale.number(value, decimals=decimals)


def _cell(locale: Locale, shown: _Shown, row: CohortRow) -> Cell:
    totals: Totals | NotEstimable = row.totals
    if isinstance(totals, NotEstimable) or not row.units:
        return Cell(MISSING)
    mean = totals[shown.column] / row.units
    return Cell(locale.money(mean) if shown.is_money else wording.quantity(locale, mean))
