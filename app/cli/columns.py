"""Plain text tables: aligned columns that a pipe and a narrow terminal can take."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of aligned columns; the last one is cut to the width of a terminal.

    A pipe gets everything, unless COLUMNS is set: what is cut there is lost.

    Examples
    --------
    >>> print(columns(["KEY", "STATUS"], [["mail-subject", "draft"]]))
    KEY           STATUS
    mail-subject  draft
    """
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(header) - 1)]
    is_bounded = sys.stdout.isatty() or "COLUMNS" in os.environ
    width = shutil.get_terminal_size().columns if is_bounded else sys.maxsize
    room = max(width - sum(widths) - 2 * len(widths), 20)
    return "\n".join(
        "  ".join(
            [
                *(cell.ljust(width) for cell, width in zip(row, widths, strict=False)),
                row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…",
            ]
        ).rstrip()
        for row in table
    )
