"""Figures as plain data: points, intervals and bars with their texts; nothing is drawn here.

`svg` and `interactive` draw the same objects, so both show the same numbers and words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded
from klartext.analysis.result import Number
from klartext.experiments.experiment import AI_KEYS
from klartext.reports import wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import MISSING, Locale

Sign: TypeAlias = Literal["above", "below", "across", "none"]


@dataclass(frozen=True, slots=True)
class Tick:
    """One mark of an axis."""

    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from ``low`` to ``high``."""

    low: float
    high: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A drawn interval; an open end goes on beyond the axis."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One effect: measured value, its interval, the wider one a rule reads, the best estimate.

    ``value`` None means that there is nothing to draw; ``detail`` then says why, else it is the
    interval in words.
    """

    label: str
    sublabel: str
    value: float | None
    best: float | None
    span: Span | None
    rule_span: Span | None
    sign: Sign
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Forest:
    """Intervals of effects around zero, one row each."""

    key: str
    title: str
    alt: str
    axis: Axis
    rows: tuple[ForestRow, ...]
    legend: tuple[tuple[str, str], ...]

    @property
    def has_anything(self) -> bool:
        """Whether there is anything to draw."""
        return any(row.value is not None for row in self.rows)


@dataclass(frozen=True, slots=True)
class Bar:
    """One amount from zero, or what lies between two: from ``start`` to ``value``."""

    label: str
    sublabel: str
    value: float
    text: str
    start: float = 0.0


@dataclass(frozen=True, slots=True)
class Bars:
    """Amounts, one bar each, and a level that they are compared with."""

    key: str
    title: str
    alt: str
    axis: Axis
    bars: tuple[Bar, ...]
    level: float | None = None

    @property
    def has_anything(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.bars)


@dataclass(frozen=True, slots=True)
class Point:
    """A place on a line: ``x`` counts steps, days or ages, from 0."""

    x: int
    y: float


@dataclass(frozen=True, slots=True)
class Line:
    """What one variant did; steps without a point are gaps at its end."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over steps; ``labels`` names every step."""

    key: str
    title: str
    alt: str
    axis: Axis
    labels: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def has_anything(self) -> bool:
        """Whether there is anything to draw."""
        return len(self.labels) > 1 and any(len(line.points) > 1 for line in self.lines)


@dataclass(frozen=True, slots=True)
class Level:
    """A straight line across a curve, at a value of one of its axes, with its name."""

    on: Literal["x", "y"]
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over another; ``told`` says each point in words."""

    key: str
    title: str
    alt: str
    x: Axis
    y: Axis
    x_label: str
    points: tuple[tuple[float, float], ...]
    told: tuple[str, ...]
    levels: tuple[Level, ...]

    @property
    def has_anything(self) -> bool:
        """Whether there is a line to draw."""
        return len(self.points) > 1


Figure: TypeAlias = Forest | Bars | Lines
Drawing: TypeAlias = Figure | Curve
"""What has a static drawing; a `Figure` has an interactive one too."""
Ticks: TypeAlias = Callable[[float, int], str]
"""Text of a tick, from its value and the decimals that all of them need."""


def nice_ticks(low: float, high: float, *, about: int = 5) -> tuple[float, ...]:
    """Return round numbers that cover ``[low, high]``, about ``about`` of them.

    Examples
    --------
    >>> nice_ticks(-0.3, 1.7)
    (-0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
    """
    width = high - low
    rough = width / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def axis(values: Iterable[float], show: Callable[[float, int], str]) -> Axis:
    """Return an axis that shows zero and every finite value; ticks have the decimals they need."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    if low == high:
        high = 1.0
    ticks = nice_ticks(low, high)
    decimals = next(d for d in range(13) if all(round(tick, d) == tick for tick in ticks))
    return Axis(ticks[0], ticks[-1], tuple(Tick(value, show(value, decimals)) for value in ticks))


def lines(  # noqa: PLR0913 - the parts of a figure, by name
    *,
    key: str,
    title: str,
    alt: str,
    drawn: tuple[Line, ...],
    labels: list[str],
    show: Ticks,
) -> Lines:
    """Return lines with a vertical axis that fits them and shows zero."""
    values = (point.y for line in drawn for point in line.points)
    return Lines(key, title, alt, axis(values, show), tuple(labels), drawn)


def net_benefit(document: ReportDocument, locale: Locale) -> Forest:
    """Net benefit of the decision view, one row per treatment."""
    analysis = document.analysis
    ahead = wording.horizon(document, locale)
    several = analysis.rule_alpha != analysis.alpha
    rows = []
    for treatment in analysis.treatments:
        outlook = treatment.outlook
        show = wording.money_like(locale, outlook.net_benefit)
        rows.append(
            forest_row(
                label=treatment.variant,
                sublabel=locale.text("treatment.against", baseline=treatment.baseline),
                value=outlook.net_benefit,
                best=outlook.posterior_mean,
                found=outlook.interval,
                rule_found=outlook.rule_interval if several else None,
                said=said(locale, outlook.net_benefit, outlook.interval, show),
            )
        )
    legend = [("best", locale.text("figure.legend_best"))]
    if several:
        rule_level = wording.level(locale, analysis.rule_alpha)
        legend.append(("rule", locale.text("figure.legend_rule", level=rule_level)))
    return forest(
        locale,
        key="net_benefit",
        title=locale.text("figure.net_benefit", horizon=ahead),
        alt=locale.text("figure.net_benefit_alt", horizon=ahead),
        rows=rows,
        show=locale.money_tick,
        legend=legend,
    )


def effects(document: ReportDocument, locale: Locale) -> Forest:
    """Relative change of every metric, one row per treatment, by its preferred method.

    AI metrics only where there is one: a control without AI has none to compare with.
    """
    rows = []
    for metric in document.analysis.metrics:
        _, estimate = metric.estimates[0]
        if metric.metric in AI_KEYS and isinstance(estimate, NotEstimable):
            continue
        relative: Number = estimate if isinstance(estimate, NotEstimable) else estimate.relative
        found = estimate if isinstance(estimate, NotEstimable) else estimate.relative_interval
        show = wording.relative_like(locale, relative)
        rows.append(
            forest_row(
                label=wording.metric_name(locale, metric),
                sublabel=metric.variant,
                value=relative,
                best=None,
                found=found,
                rule_found=None,
                said=said(locale, relative, found, show),
            )
        )
    baseline = document.experiment.control
    return forest(
        locale,
        key="effects",
        title=locale.text("figure.effects", baseline=baseline),
        alt=locale.text("figure.effects_alt", baseline=baseline),
        rows=rows,
        show=locale.percent_tick,
        legend=[],
    )


def costs(document: ReportDocument, locale: Locale) -> Bars:
    """AI cost in the test by category, one bar per treatment and category."""
    bars = []
    for block in document.costs:
        for category, amount in block.by_category:
            bars.append(
                Bar(
                    label=wording.coded(locale, "cost_category", category),
                    sublabel=block.variant,
                    value=float(amount),
                    text=locale.money(amount),
                )
            )
    return Bars(
        key="costs",
        title=locale.text("figure.costs"),
        alt=locale.text("figure.costs_alt"),
        axis=axis((bar.value for bar in bars), locale.money_tick),
        bars=tuple(bars),
    )


def forest(  # noqa: PLR0913 - the parts of a figure, by name
    locale: Locale,
    *,
    key: str,
    title: str,
    alt: str,
    rows: list[ForestRow],
    show: Ticks,
    legend: list[tuple[str, str]],
) -> Forest:
    """Return a figure of intervals with an axis that fits them and a legend of what is used."""
    used = {row.sign for row in rows}
    signs: list[tuple[str, str]] = [
        (sign, locale.text(f"figure.legend_{sign}"))
        for sign in ("above", "below", "across")
        if sign in used
    ]
    return Forest(
        key=key,
        title=title,
        alt=alt,
        axis=axis(_numbers(rows), show),
        rows=tuple(rows),
        legend=(*signs, *legend),
    )


def forest_row(  # noqa: PLR0913 - the parts of a row, by name
    *,
    label: str,
    sublabel: str,
    value: Number,
    best: Number | None,
    found: ConfidenceSet,
    rule_found: ConfidenceSet | None,
    said: tuple[str, str],
) -> ForestRow:
    """Return one row; what cannot be estimated is drawn as nothing, with its reason."""
    span = span_of(found)
    drawn = _finite(value)
    return ForestRow(
        label=label,
        sublabel=sublabel,
        value=drawn,
        best=_finite(best),
        span=span,
        rule_span=None if rule_found is None else span_of(rule_found),
        sign="none" if drawn is None else sign_of(span),
        text=said[0],
        detail=said[1],
    )


def said(
    locale: Locale, value: Number, found: ConfidenceSet, show: wording.Show
) -> tuple[str, str]:
    """Return a value and its interval in words, or a dash and its reason."""
    said = wording.number(locale, value, show)
    if said.reason is not None:
        return MISSING, said.reason
    return said.text, wording.region(locale, found, show)


def _finite(value: Number | None) -> float | None:
    if value is None or isinstance(value, NotEstimable) or not math.isfinite(value):
        return None
    return value


def span_of(found: ConfidenceSet) -> Span | None:
    """Return what can be drawn of a confidence set; None when it has no finite end."""
    match found:
        case Interval(lower, upper) if math.isfinite(lower) and math.isfinite(upper):
            return Span(lower, upper)
        case Unbounded("left", bounds):
            return Span(bounds[0], bounds[0], open_low=True)
        case Unbounded("right", bounds):
            return Span(bounds[0], bounds[0], open_high=True)
        case _:
            return None


def sign_of(span: Span | None) -> Sign:
    """Say on which side of zero an interval lies entirely."""
    if span is None:
        return "across"
    if span.low > 0 and not span.open_low:
        return "above"
    if span.high < 0 and not span.open_high:
        return "below"
    return "across"


def _numbers(rows: list[ForestRow]) -> list[float]:
    """Return all that the axis of these rows must show."""
    numbers = []
    for row in rows:
        spans = [span for span in (row.span, row.rule_span) if span is not None]
        numbers += [end for span in spans for end in (span.low, span.high)]
        numbers += [value for value in (row.value, row.best) if value is not None]
    return numbers
