"""Imports that were broken off: their rows are there in part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from klartext.analysis.result import Check


def checks(interrupted: Mapping[int, str], *, seen: int) -> Iterator[Check]:
    """Yield a warning when rows of an import are seen that did not come to its end.

    Parameters
    ----------
    interrupted
        Batches without an end, and the name of the source of each.
    seen
        The highest batch that the analysis sees.

    Notes
    -----
    Whoever reads the facts sees every batch up to the highest one that has ended, also one that was
    killed before. Nothing else would say that purchases of its file are missing.
    """
    found = [f"{batch} ({name})" for batch, name in sorted(interrupted.items()) if batch < seen]
    if found:
        detail = f"rows may be missing: no end came of batch {', '.join(found)}"
        yield Check("interrupted_imports", "warning", float(len(found)), detail)
