"""Watermark: which facts an analysis has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Watermark:
    """The highest ingested batch, and the UTC instant up to which facts are complete.

    A unit is mature when its windows and the declared lateness have closed before ``cutoff``.
    """

    batch: int
    cutoff: datetime
