"""Rows of the result and the binomial bands that judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

FAMILY = 0.01
"""Probability that a correct set of methods fails anywhere: shared by all judged rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method in one cell.

    Parameters
    ----------
    section
        Table it stands in.
    cell
        Population, split and size.
    method
        Method.
    judged
        ``inside``: exact, the rate lies in the band around ``nominal``. ``not below``:
        conservative, no less than the band. ``not above``: an error that may not exceed it.
        ``contrast``: a method known to fail here, shown and not judged.
    nominal
        What the rate should be.
    hits
        Replications that covered, raised an alarm, or found the effect.
    low, high
        Misses with the truth below and above the set, or alarms downwards and upwards.
    read
        Replications in which the method gave an answer.
    replications
        All of them.
    """

    section: str
    cell: str
    method: str
    judged: Literal["inside", "not below", "not above", "contrast"]
    nominal: float
    hits: int
    low: int
    high: int
    read: int
    replications: int

    @property
    def rate(self) -> float:
        """Share of hits among the answers."""
        return self.hits / self.read if self.read else float("nan")


def band(row: Row, judged: int) -> tuple[float, float]:
    """Rates that a method with the nominal rate leaves with probability ``FAMILY / judged``."""
    sides = 2 if row.judged == "inside" else 1
    tail = FAMILY / max(1, judged) / sides
    law = stats.binom(row.read, row.nominal)
    low = float(law.ppf(tail)) / row.read if row.judged in {"inside", "not below"} else 0.0
    high = float(law.isf(tail)) / row.read if row.judged in {"inside", "not above"} else 1.0
    return low, high


def passes(row: Row, judged: int) -> bool:
    """Whether the rate lies in its band; a method that never answers fails."""
    if row.judged == "contrast":
        return True
    if row.read == 0:
        return False
    low, high = band(row, judged)
    return low <= row.rate <= high


def failures(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the judged rows outside their band."""
    judged = sum(row.judged != "contrast" for row in rows)
    return tuple(row for row in rows if not passes(row, judged))
