"""Plotly figures from the same figure data; needs the extra ``interactive``."""

from __future__ import annotations

import html
import json
from typing import Any, Final

from markupsafe import Markup

from klartext.experiments.errors import KlartextError
from klartext.reports.figures import Bars, Figure, Forest, ForestRow, Lines

COLOURS: Final = {
    "above": "#0b6e5f",
    "below": "#b04a14",
    "across": "#5b6673",
    "none": "#5b6673",
    "bar": "#34558b",
}
_SHAPES: Final = {"above": "circle", "below": "square", "across": "diamond", "none": "diamond"}
_START: Final = """
for (const source of document.querySelectorAll("script[type='application/json'][data-plot]")) {
  const figure = JSON.parse(source.textContent);
  const place = document.getElementById(source.dataset.plot);
  place.closest("figure").classList.add("live");  // first: a hidden place has no width to fill
  Plotly.newPlot(place, figure.data, figure.layout, {displayModeBar: false, responsive: true});
}
"""


class MissingExtraError(KlartextError):
    """Plotly is not installed."""


def scripts() -> tuple[str, ...]:
    """Return the scripts of an interactive page: Plotly's bundle, and the one that starts it.

    Raises
    ------
    MissingExtraError
        Plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - heavy and optional
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "interactive figures need plotly: pip install 'klartext[interactive]'; "
            "without --interactive the report has static figures"
        ) from error
    return str(get_plotlyjs()), _START


def data(figure: Figure) -> Markup:
    """Return a figure as JSON that may stand inside a script element."""
    from plotly import graph_objects  # noqa: PLC0415 - heavy and optional

    match figure:
        case Forest():
            traces, layout = _forest(figure)
        case Bars():
            traces, layout = _bars(figure)
        case Lines():
            traces, layout = _lines(figure)
    drawn = graph_objects.Figure(data=traces, layout={**_LAYOUT, **layout, "template": "none"})
    content = json.loads(drawn.to_json(), parse_float=_ten_digits)
    document = json.dumps(content, ensure_ascii=True, sort_keys=True)
    for character in "<>&":
        document = document.replace(character, f"\\u{ord(character):04x}")
    return Markup(document)  # noqa: S704 - escaped above


def _ten_digits(number: str) -> float:
    """Drop the last digits, which differ between two runs of an engine with several threads."""
    return float(f"{float(number):.10g}")


_LAYOUT: Final[dict[str, Any]] = {
    "font": {"family": "-apple-system, Segoe UI, Roboto, Arial, sans-serif", "size": 13},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "showlegend": False,
    "hoverlabel": {"align": "left"},
}


def _forest(figure: Forest) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    labels = [_label(row.label, row.sublabel) for row in figure.rows]
    traces = []
    for label, row in zip(labels, figure.rows, strict=True):
        if row.value is None:
            continue
        if row.rule_span is not None:
            traces.append(_line(label, row.rule_span.low, row.rule_span.high, row, width=1.5))
        if row.span is not None:
            low = figure.axis.low if row.span.open_low else row.span.low
            high = figure.axis.high if row.span.open_high else row.span.high
            traces.append(_line(label, low, high, row, width=5))
        if row.best is not None:
            traces.append(_point(label, row.best, row, symbol="circle-open", size=9))
        traces.append(_point(label, row.value, row, symbol=_SHAPES[row.sign], size=13))
    return traces, _axes(figure, labels)


def _bars(figure: Bars) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    labels = [_label(bar.label, bar.sublabel) for bar in figure.bars]
    trace = {
        "type": "bar",
        "orientation": "h",
        "base": [bar.start for bar in figure.bars],
        "x": [bar.value - bar.start for bar in figure.bars],
        "y": labels,
        "hovertext": [_hover(bar.label, bar.sublabel, bar.text) for bar in figure.bars],
        "hoverinfo": "text",
        "marker": {"color": COLOURS["bar"]},
        "width": 0.5,
    }
    layout = _axes(figure, labels)
    if figure.level is not None:
        across = {"x0": figure.level, "x1": figure.level, "y0": 0, "y1": 1, "yref": "paper"}
        line = {"color": "#1b2430", "width": 1.25, "dash": "dash"}
        layout["shapes"] = [{"type": "line", **across, "line": line}]
    return [trace], layout


def _lines(figure: Lines) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": html.escape(line.label),
            "x": [figure.labels[point.x] for point in line.points],
            "y": [point.y for point in line.points],
        }
        for line in figure.lines
    ]
    axis = figure.axis
    layout: dict[str, Any] = {
        "height": 340,
        "showlegend": True,
        "margin": {"l": 8, "r": 40, "t": 8, "b": 48},
        "xaxis": {
            "type": "category", "categoryorder": "array", "categoryarray": list(figure.labels),
            "automargin": True, "nticks": 12,
        },
        "yaxis": {
            "range": [axis.low, axis.high],
            "tickvals": [tick.value for tick in axis.ticks],
            "ticktext": [tick.text for tick in axis.ticks],
            "gridcolor": "#e3e7ec",
            "automargin": True,
        },
    }  # fmt: skip
    return traces, layout


def _axes(figure: Forest | Bars, labels: list[str]) -> dict[str, Any]:
    axis = figure.axis
    return {
        "height": 90 + 64 * len(labels),
        "margin": {"l": 8, "r": 40, "t": 8, "b": 48},
        "xaxis": {
            "range": [axis.low, axis.high],
            "tickvals": [tick.value for tick in axis.ticks],
            "ticktext": [tick.text for tick in axis.ticks],
            "gridcolor": "#e3e7ec",
            "zeroline": True,
            "zerolinecolor": "#1b2430",
            "automargin": True,
        },
        "yaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": labels[::-1],
            "range": [-0.6, len(labels) - 0.4],
            "automargin": True,
            "showgrid": False,
            "zeroline": False,
            "ticklabelstandoff": 12,
        },
    }


def _line(label: str, low: float, high: float, row: ForestRow, *, width: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [low, high],
        "y": [label, label],
        "line": {"color": COLOURS[row.sign], "width": width},
        "hoverinfo": "skip",
    }


def _point(label: str, value: float, row: ForestRow, *, symbol: str, size: int) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [value],
        "y": [label],
        "marker": {"color": COLOURS[row.sign], "symbol": symbol, "size": size},
        "hovertext": [_hover(row.label, row.sublabel, f"{row.text} ({row.detail})")],
        "hoverinfo": "text",
    }


def _label(label: str, sublabel: str) -> str:
    """Join two lines; Plotly reads a little HTML, so the user's text is escaped."""
    return f"{html.escape(label)}<br>{html.escape(sublabel)}"


def _hover(label: str, sublabel: str, text: str) -> str:
    return f"<b>{html.escape(label)}</b> {html.escape(sublabel)}<br>{html.escape(text)}"
