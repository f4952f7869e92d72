"""The mark of a what-if: it says on every page of it that this is no verdict."""

from __future__ import annotations

from dataclasses import dataclass

from klartext.reports import wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import Locale


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands across the page: a word, a sentence, the inputs that are not as registered."""

    word: str
    sentence: str
    inputs: tuple[str, ...]


def mark(document: ReportDocument, locale: Locale) -> Mark | None:
    """Return the mark of a what-if; None for what is as registered."""
    analysis = document.analysis
    if not analysis.is_what_if:
        return None
    return Mark(
        word=locale.text("what_if.mark"),
        sentence=locale.text("what_if.sentence"),
        inputs=tuple(
            locale.text(
                "what_if.input",
                path=one.path,
                assumed=wording.stated(locale, one.unit, one.assumed),
                registered=wording.stated(locale, one.unit, one.registered),
            )
            for one in analysis.assumed
        ),
    )
