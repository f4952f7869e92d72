"""Static SVG from figure data: complete without scripts and in print, styled by page classes.

A figure is drawn twice, ``wide`` for screens and paper and ``narrow`` for phones, because text in
a scaled-down SVG is too small to read; the page shows one of them.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from markupsafe import Markup

from klartext.reports.figures import (
    Axis,
    Bar,
    Bars,
    Curve,
    Drawing,
    Forest,
    ForestRow,
    Lines,
    Span,
)

Layout: TypeAlias = Literal["wide", "narrow"]

COURSES: Final = 6
"""Line styles before they repeat."""

_LINE: Final = 17
_GLYPH: Final = 6.6
"""Mean width of a character at 13 px; texts are wrapped by it."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things are: total width, the plot from ``left`` to ``right``, columns beside it."""

    width: int
    left: int
    right: int
    label_width: int
    text_left: int
    stacked: bool

    def x(self, axis: Axis, value: float) -> float:
        clipped = min(max(value, axis.low), axis.high)
        share = (clipped - axis.low) / (axis.high - axis.low)
        return round(self.left + share * (self.right - self.left), 2)


_FRAMES: Final[dict[Layout, _Frame]] = {
    "wide": _Frame(920, 210, 640, 190, 668, stacked=False),
    "narrow": _Frame(340, 14, 326, 340, 0, stacked=True),
}


@dataclass(slots=True)
class _Canvas:
    """Collects escaped elements from top to bottom."""

    parts: list[Markup] = field(default_factory=list)

    def line(self, css: str, x1: float, y1: float, x2: float, y2: float) -> None:
        self.parts.append(
            Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(css, x1, y1, x2, y2)
        )

    def text(self, css: str, x: float, y: float, text: str, anchor: str = "start") -> None:
        self.parts.append(
            Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                css, x, y, anchor, text
            )
        )

    def path(self, css: str, data: str) -> None:
        self.parts.append(Markup('<path class="{}" d="{}"/>').format(css, data))

    def lines(self, css: str, x: float, y: float, texts: list[str]) -> None:
        for i, text in enumerate(texts):
            self.text(css, x, y + i * _LINE, text)


def draw(figure: Drawing, layout: Layout) -> Markup:
    """Return the figure as one ``<svg>`` element with title and description."""
    frame = _FRAMES[layout]
    canvas = _Canvas()
    match figure:
        case Forest():
            bottom = _forest(canvas, frame, figure)
            told = [f"{row.label}, {row.sublabel}: {row.text}, {row.detail}" for row in figure.rows]
        case Bars():
            bottom = _bars(canvas, frame, figure)
            told = [f"{bar.label}, {bar.sublabel}: {bar.text}" for bar in figure.bars]
        case Lines():
            bottom = _lines(canvas, frame, figure)
            told = [line.label for line in figure.lines]
        case Curve():
            bottom = _curve(canvas, frame, figure)
            told = list(figure.told)
    name = f"{figure.key}-{layout}"
    head = Markup(
        '<svg class="plot {layout}" viewBox="0 0 {width} {height}" role="img" '
        'aria-labelledby="{name}-t {name}-d" xmlns="http://www.w3.org/2000/svg">'
        '<title id="{name}-t">{alt}</title><desc id="{name}-d">{told}</desc>'
    ).format(
        layout=layout,
        width=frame.width,
        height=bottom,
        name=name,
        alt=figure.alt,
        told="; ".join(told),
    )
    return Markup("").join([head, *canvas.parts, Markup("</svg>")])


def swatch(key: str) -> Markup:
    """Return the sign of one legend entry, decorative."""
    canvas = _Canvas()
    if key == "rule":
        canvas.line("rule across", 2, 8, 26, 8)
    elif key == "best":
        _mark(canvas, "best", 14, 8)
    else:
        canvas.line(f"span {key}", 2, 8, 26, 8)
        _mark(canvas, key, 14, 8)
    head = Markup('<svg class="swatch" viewBox="0 0 28 16" aria-hidden="true">')
    return Markup("").join([head, *canvas.parts, Markup("</svg>")])


def _forest(canvas: _Canvas, frame: _Frame, figure: Forest) -> int:
    rows: list[tuple[ForestRow, float, float]] = []
    y = 8.0
    for row in figure.rows:
        height = _forest_row_height(frame, row)
        rows.append((row, y, height))
        y += height
    bands = [
        (top + height - 34, top + height - 8) for row, top, height in rows if row.value is not None
    ]
    _grid(canvas, frame, figure.axis, bands if frame.stacked else [(4, y)], y)
    for row, top, height in rows:
        _forest_row(canvas, frame, figure.axis, row, top, height)
    return int(y) + 28


def _forest_row_height(frame: _Frame, row: ForestRow) -> float:
    label = len(_label(frame, row.label)) + len(_label(frame, row.sublabel))
    if frame.stacked:
        detail = len(_wrap(f"{row.text} ({row.detail})", frame.width))
        return (label + detail) * _LINE + (26 if row.value is not None else 0) + 14
    detail = 1 + len(_wrap(row.detail, frame.width - frame.text_left))
    return max(label, detail) * _LINE + 20


def _forest_row(  # noqa: PLR0913, PLR0917 - where and what to draw
    canvas: _Canvas, frame: _Frame, axis: Axis, row: ForestRow, top: float, height: float
) -> None:
    first = top + _LINE
    label, sublabel = _label(frame, row.label), _label(frame, row.sublabel)
    canvas.lines("strong", 0, first, label)
    canvas.lines("soft", 0, first + len(label) * _LINE, sublabel)
    if frame.stacked:
        below = first + (len(label) + len(sublabel)) * _LINE
        said = f"{row.text} ({row.detail})" if row.value is not None else f"{row.text} {row.detail}"
        canvas.lines("value", 0, below, _wrap(said, frame.width))
        middle = top + height - 22
    else:
        canvas.text("strong", frame.text_left, first, row.text)
        room = frame.width - frame.text_left
        canvas.lines("soft", frame.text_left, first + _LINE, _wrap(row.detail, room))
        middle = top + height / 2
    if row.value is None:
        return
    if row.rule_span is not None:
        _span(canvas, frame, axis, row.rule_span, middle, f"rule {row.sign}")
    if row.span is not None:
        _span(canvas, frame, axis, row.span, middle, f"span {row.sign}")
    _mark(canvas, row.sign, frame.x(axis, row.value), middle)
    if row.best is not None:
        _mark(canvas, "best", frame.x(axis, row.best), middle)


def _span(  # noqa: PLR0913, PLR0917 - where and what to draw
    canvas: _Canvas, frame: _Frame, axis: Axis, span: Span, y: float, css: str
) -> None:
    low = frame.left if span.open_low else frame.x(axis, span.low)
    high = frame.right if span.open_high else frame.x(axis, span.high)
    canvas.line(css, low, y, high, y)
    cap = 4 if css.startswith("rule") else 6
    if span.open_low:
        canvas.path(f"arrow {css}", f"M{low + 7} {y - 5}L{low} {y}L{low + 7} {y + 5}")
    else:
        canvas.line(css, low, y - cap, low, y + cap)
    if span.open_high:
        canvas.path(f"arrow {css}", f"M{high - 7} {y - 5}L{high} {y}L{high - 7} {y + 5}")
    else:
        canvas.line(css, high, y - cap, high, y + cap)


def _mark(canvas: _Canvas, sign: str, x: float, y: float) -> None:
    """Draw a best value; its shape tells the sign as well as its colour."""
    if sign == "below":
        canvas.path("mark below", f"M{x - 5.5} {y - 5.5}h11v11h-11z")
    elif sign == "across":
        canvas.path("mark across", f"M{x} {y - 7}L{x + 7} {y}L{x} {y + 7}L{x - 7} {y}z")
    else:
        radius = 4 if sign == "best" else 6.5
        data = f"M{x - radius} {y}a{radius} {radius} 0 1 0 {2 * radius} 0"
        canvas.path(f"mark {sign}", f"{data}a{radius} {radius} 0 1 0 {-2 * radius} 0z")


def _bars(canvas: _Canvas, frame: _Frame, figure: Bars) -> int:
    rows: list[tuple[Bar, float]] = []
    y = 8.0
    for bar in figure.bars:
        rows.append((bar, y))
        labels = len(_label(frame, bar.label)) + len(_label(frame, bar.sublabel))
        y += labels * _LINE + (_LINE + 30 if frame.stacked else 14)
    ends = [top for _, top in rows[1:]] + [y]
    bands = [(end - 34, end - 6) for end in ends]
    _grid(canvas, frame, figure.axis, bands if frame.stacked else [(4, y)], y)
    for bar, top in rows:
        first = top + _LINE
        label, sublabel = _label(frame, bar.label), _label(frame, bar.sublabel)
        canvas.lines("strong", 0, first, label)
        canvas.lines("soft", 0, first + len(label) * _LINE, sublabel)
        labels = (len(label) + len(sublabel)) * _LINE
        start, end = frame.x(figure.axis, bar.start), frame.x(figure.axis, bar.value)
        left, width = min(start, end), round(max(abs(end - start), 1), 2)
        if frame.stacked:
            canvas.text("strong value", 0, first + labels, bar.text)
            upper = first + labels + 8
        else:
            canvas.text("strong", frame.text_left, top + labels / 2 + 9, bar.text)
            upper = top + labels / 2 - 4
        canvas.path("bar", f"M{left} {upper}h{width}v16h{-width}z")
        if figure.level is not None:
            x = frame.x(figure.axis, figure.level)
            canvas.line("level", x, upper - 5, x, upper + 21)
    return int(y) + 28


def _lines(canvas: _Canvas, frame: _Frame, figure: Lines) -> int:
    """Draw the lines from the left edge on; dashes and the name at the end tell them apart."""
    left = max(len(tick.text) for tick in figure.axis.ticks) * _GLYPH + 12
    right = frame.width - (150 if not frame.stacked else 16)
    top, bottom = 14.0, 230.0
    axis, steps = figure.axis, max(len(figure.labels) - 1, 1)

    def at(step: int, value: float) -> tuple[float, float]:
        share = (value - axis.low) / (axis.high - axis.low)
        x = left + step / steps * (right - left)
        return round(x, 2), round(bottom - share * (bottom - top), 2)

    for tick in axis.ticks:
        _, y = at(0, tick.value)
        canvas.line("zero" if tick.value == 0 else "grid", left, y, right, y)
        canvas.text("tick", left - 8, y + 4, tick.text, "end")
    widest = max(len(label) for label in figure.labels) * _GLYPH + 14
    every = max(1, -int(-widest * (steps + 1) // (right - left)))
    for step in range(0, steps + 1, every):
        x, _ = at(step, axis.low)
        canvas.text("tick", x, bottom + 18, figure.labels[step], "middle")
    below, taken = bottom + 40, list[float]()
    for place, line in enumerate(figure.lines):
        places = [at(point.x, point.y) for point in line.points]
        css = f"course c{place % COURSES}"
        if places:
            canvas.path(css, "M" + "L".join(f"{x} {y}" for x, y in places))
        if frame.stacked or not places:
            canvas.line(css, left, below - 4, left + 26, below - 4)
            canvas.text("strong", left + 32, below, line.label)
            below += _LINE
        else:
            x, y = places[-1]
            while any(abs(y - other) < _LINE for other in taken):
                y += _LINE / 2
            taken.append(y)
            canvas.text("strong", x + 8, round(y + 4, 2), line.label)
    return int(max(below, max(taken, default=0) + _LINE))


def _curve(canvas: _Canvas, frame: _Frame, figure: Curve) -> int:
    """Draw a line over two axes, as wide as the page; levels carry their names."""
    top, height = 14, 250 if frame.width > 500 else 220
    longest = max(len(tick.text) for tick in figure.y.ticks)
    plot = replace(frame, left=round(longest * _GLYPH) + 12, right=frame.width - 24)
    span = figure.y.high - figure.y.low

    def y(value: float) -> float:
        inside = min(max(value, figure.y.low), figure.y.high)
        return round(top + height * (1 - (inside - figure.y.low) / span), 2)

    for tick in figure.y.ticks:
        css = "zero" if tick.value == 0 else "grid"
        canvas.line(css, plot.left, y(tick.value), plot.right, y(tick.value))
        canvas.text("tick", plot.left - 8, y(tick.value) + 4, tick.text, "end")
    _grid(canvas, plot, figure.x, [(top, top + height)], top + height)
    for level in figure.levels:
        half = len(level.text) * _GLYPH / 2
        if level.on == "y":
            canvas.line("level", plot.left, y(level.value), plot.right, y(level.value))
            canvas.text("soft", plot.right, y(level.value) - 5, level.text, "end")
        else:
            x = plot.x(figure.x, level.value)
            canvas.line("level", x, top, x, top + height)
            inside = min(max(x, plot.left + half), plot.right - half)
            canvas.text("soft", round(inside, 2), top - 3, level.text, "middle")
    places = [f"{plot.x(figure.x, x)} {y(value)}" for x, value in figure.points]
    canvas.path("curve", "M" + "L".join(places))
    canvas.text("soft", plot.right, top + height + 38, figure.x_label, "end")
    return top + height + 48


def _grid(
    canvas: _Canvas, frame: _Frame, axis: Axis, bands: list[tuple[float, float]], bottom: float
) -> None:
    """Draw tick lines within the bands and their texts below, as many texts as have room."""
    longest = max(len(tick.text) for tick in axis.ticks) * _GLYPH + 10
    gap = (frame.right - frame.left) / max(len(axis.ticks) - 1, 1)
    every = max(1, -int(-longest // gap))
    zero = next((i for i, tick in enumerate(axis.ticks) if tick.value == 0), 0)
    for i, tick in enumerate(axis.ticks):
        x = frame.x(axis, tick.value)
        for top, end in bands:
            canvas.line("zero" if tick.value == 0 else "grid", x, top, x, end)
        if (i - zero) % every == 0:
            half = len(tick.text) * _GLYPH / 2
            inside = min(max(x, half), frame.width - half)
            canvas.text("tick", round(inside, 2), bottom + 18, tick.text, "middle")


def _label(frame: _Frame, text: str) -> list[str]:
    return _wrap(text, frame.label_width)


def _wrap(text: str, width: float) -> list[str]:
    """Break a text into lines of about ``width`` pixels; unbroken keys break anywhere."""
    return textwrap.wrap(text, max(8, int(width / _GLYPH)), break_on_hyphens=True) or [""]
