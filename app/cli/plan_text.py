"""A plan as plain text: the answer first, then tables and a curve of blocks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klartext.reports.figures import Curve
    from klartext.reports.plan_view import PlanView
    from klartext.reports.tables import Table

_WIDTH = 98
_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def plan_text(view: PlanView) -> str:
    """Return the plan in words, tables and bars."""
    head = [view.title, "", *_wrapped(view.headline), *_wrapped(" ".join(view.sentences))]
    sections = ["\n".join(head), _facts(view), table_text(view.answers)]
    curves = {curve.key: curve for curve in view.curves}
    sections += [bars(curve) for key in ("sizes", "lifts") if (curve := curves.get(key))]
    tables = (view.ladder, view.modes, view.stakes)
    sections += [f"{table.title}\n{table_text(table)}" for table in tables if table.rows]
    sections += ["\n".join(_wrapped(f"! {note}")) for note in view.notes]
    return "\n\n".join(section for section in sections if section)


def table_text(table: Table) -> str:
    """Return aligned columns, numbers to the right; why a number is missing stands below."""
    header = [column.label for column in table.columns]
    rows = [[cell.text for cell in row] for row in table.rows]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            text.rjust(width) if column.numeric else text.ljust(width)
            for text, width, column in zip(row, widths, table.columns, strict=True)
        ).rstrip()
        for row in [header, *rows]
    ]
    missing = {
        cell.note: None for row in table.rows for cell in row[1:] if cell.text == "–" and cell.note
    }
    for note in missing:
        lines += _wrapped(f"–: {note}")
    return "\n".join(lines)


def bars(curve: Curve) -> str:
    """Return one bar per point, in eighths of a block, with its words before it."""
    values = [abs(y) for _, y in curve.points]
    longest, widest = max(values), max(len(told) for told in curve.told)
    every = -(-len(values) // 12)
    lines = [
        f"{told.ljust(widest)}  {_bar(value / longest if longest else 0.0)}".rstrip()
        for told, value in list(zip(curve.told, values, strict=True))[::every]
    ]
    levels = [level.text for level in curve.levels]
    return "\n".join([curve.title, *lines, *([", ".join(levels)] if levels else [])])


def _bar(part: float) -> str:
    eighths = round(part * _BAR * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _facts(view: PlanView) -> str:
    widest = max(len(name) for name, _ in view.facts)
    return "\n".join(f"{name.ljust(widest)}  {value}" for name, value in view.facts)


def _wrapped(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
