"""Words of plain text: a count with its noun, and what the codes beside a dash mean."""

from __future__ import annotations

import re
import textwrap

_CODE = re.compile(r"– \(?([a-z][a-z0-9-]*[a-z0-9])\b")
_WIDTH = 98


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> counted(1, "row"), counted(2_000, "row"), counted(0, "entry", "entries")
    ('1 row', '2,000 rows', '0 entries')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def with_legend(text: str) -> str:
    """Return ``text`` with a line below for every code that stands in it where a number is missing.

    Examples
    --------
    >>> print(with_legend("ROI  – (no-cost)"))
    ROI  – (no-cost)
    <BLANKLINE>
    – no-cost: there is no cost to divide by
    """
    from klartext.reports.language import catalogue  # noqa: PLC0415 - heavy

    messages = catalogue("en")
    lines: list[str] = []
    for code in dict.fromkeys(_CODE.findall(text)):
        if (meaning := messages.get(f"missing.{code}")) is not None:
            lines += textwrap.wrap(f"– {code}: {meaning}", _WIDTH, subsequent_indent="  ")
    return "\n".join([text, "", *lines]) if lines else text
