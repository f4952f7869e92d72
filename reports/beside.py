"""What stands beside the present figures: the recorded look, and revised assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from klartext.analysis.document import to_json
from klartext.analysis.verdicts import (
    Past,
    Revised,
    TreatmentVerdict,
    Verdict,
    difference,
    verdict_of,
)
from klartext.experiments.inputs import InputUnit, inputs
from klartext.reports import wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import MISSING, Locale
from klartext.reports.tables import Cell, Column, Table

SHORT = 12
"""Characters of a hash that a sentence shows."""


@dataclass(frozen=True, slots=True)
class BesideBlock:
    """A recorded look or a revision: what to say first, tables, and what to say about them."""

    title: str
    intro: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


def blocks(document: ReportDocument, locale: Locale) -> tuple[BesideBlock, ...]:
    """Return what the page shows beside the present figures; nothing without either."""
    found = []
    if document.beside.past is not None:
        found.append(_past(document, locale, document.beside.past))
    if document.beside.revised is not None:
        found.append(_revised(document, locale, document.beside.revised))
    return tuple(found)


def _past(document: ReportDocument, locale: Locale, past: Past) -> BesideBlock:
    look, present = locale.integer(past.look), _present(document)
    tables = [
        _compared(
            document,
            locale,
            title=locale.text("beside.past_table", look=look),
            heads=(locale.text("beside.recorded", look=look), locale.text("beside.present")),
            pair=(past.verdict, present),
        )
    ]
    if past.changes:
        tables.append(_changes(locale, past))
    return BesideBlock(
        title=locale.text("beside.past_title", look=look),
        intro=locale.text(
            "beside.past_intro",
            actor=past.actor,
            look=look,
            at=locale.instant(past.taken_at),
            sha=past.result_sha256[:SHORT],
        ),
        tables=tuple(tables),
        notes=() if past.changes else (locale.text("beside.unchanged"),),
    )


def _present(document: ReportDocument) -> Verdict:
    return verdict_of(to_json(document.analysis))


def _revised(document: ReportDocument, locale: Locale, revised: Revised) -> BesideBlock:
    revision = revised.revision
    heads = (locale.text("beside.registered"), locale.text("beside.revised"))
    tables, notes = [_inputs(document, locale, revised)], []
    if revised.at_look is not None:
        look = locale.integer(revision.look or 0)
        title = locale.text("beside.at_look", look=look)
        tables.append(_compared(document, locale, title=title, heads=heads, pair=revised.at_look))
        if not revised.reproduced:
            notes.append(locale.text("beside.not_reproduced", look=look))
    pair = revised.at_revision if revised.now is None else revised.now
    title = locale.text("beside.now")
    tables.append(_compared(document, locale, title=title, heads=heads, pair=pair))
    number = locale.integer(revision.number)
    return BesideBlock(
        title=locale.text("beside.revision_title", number=number),
        intro=locale.text(
            "beside.revision_intro",
            actor=revision.actor,
            number=number,
            at=locale.instant(revision.revised_at),
            comment=revision.comment,
            sha=revision.sha256[:SHORT],
        ),
        tables=tuple(tables),
        notes=(*notes, locale.text("beside.stands")),
    )


def _compared(
    document: ReportDocument,
    locale: Locale,
    *,
    title: str,
    heads: tuple[str, str],
    pair: tuple[Verdict, Verdict],
) -> Table:
    one, other = pair
    columns = (
        Column(title),
        *(Column(head, numeric=True) for head in heads),
        Column(locale.text("beside.difference"), numeric=True),
    )
    rows = [
        (Cell(locale.text("beside.verdict")), *(_verdict(locale, side) for side in pair), Cell("")),
        (
            Cell(locale.text("beside.spec")),
            *(
                Cell(
                    locale.text("beside.version", version=locale.integer(side.version)),
                    side.spec_sha256[:SHORT],
                )
                for side in pair
            ),
            Cell(""),
        ),
        (Cell(locale.text("beside.until")), *(_until(locale, side.cutoff) for side in pair),
         Cell("")),
    ]  # fmt: skip
    ahead = wording.horizon(document, locale)
    for treated in other.treatments:
        before = one.of(treated.variant)
        name = locale.text("beside.net_benefit", horizon=ahead, variant=treated.variant)
        more = difference(before, treated)
        rows.append(
            (
                Cell(name),
                _money(locale, before),
                _money(locale, treated),
                Cell(MISSING if more is None else locale.money(more, like=more, signed=True)),
            )
        )
    return Table(title, columns, tuple(rows))


def _verdict(locale: Locale, found: Verdict) -> Cell:
    word = locale.text(f"verdict.{found.verdict}.word")
    about = f"{word}, {found.variant}" if found.variant else word
    return Cell(about, wording.coded(locale, "rule", found.rule))


def _until(locale: Locale, instant: datetime) -> Cell:
    return Cell(locale.instant(instant))


def _money(locale: Locale, found: TreatmentVerdict | None) -> Cell:
    if found is None or found.net_benefit is None:
        return Cell(MISSING)
    show = wording.money_like(locale, found.net_benefit)
    if found.interval is None:
        return Cell(show(found.net_benefit))
    low, high = (show(end) for end in found.interval)
    return Cell(show(found.net_benefit), locale.text("range.between", low=low, high=high))


def _changes(locale: Locale, past: Past) -> Table:
    rows = tuple(
        (
            Cell(change.path, code=True),
            Cell(change.before or MISSING),
            Cell(change.after or MISSING),
            Cell(locale.text(f"change.{change.effect}")),
        )
        for change in past.changes
    )
    names = ("changes", "before", "after", "effect")
    columns = tuple(Column(locale.text(f"beside.{name}")) for name in names)
    return Table(locale.text("beside.changes"), columns, rows)


def _inputs(document: ReportDocument, locale: Locale, revised: Revised) -> Table:
    """Give every input that is not as registered; what this revision changed has its old value."""
    known = {one.path: one for one in inputs(document.experiment)}
    before = {change.path: change.before for change in revised.revision.changes}
    paths = dict.fromkeys([*before, *revised.revision.values])
    units = {change.path: change.unit for change in revised.revision.changes}
    rows = []
    for path in paths:
        one = known[path]
        registered = one.assumption.base
        now = revised.revision.values.get(path, registered)
        unit = units.get(path, one.unit)
        rows.append(
            (
                Cell(wording.assumption(locale, one), path),
                _value(locale, unit, registered),
                _value(locale, unit, before.get(path, now)),
                _value(locale, unit, now),
            )
        )
    columns = (
        Column(locale.text("beside.inputs")),
        Column(locale.text("beside.registered"), numeric=True),
        Column(locale.text("beside.before"), numeric=True),
        Column(locale.text("beside.revised"), numeric=True),
    )
    return Table(locale.text("beside.inputs"), columns, tuple(rows))


def _value(locale: Locale, unit: InputUnit, value: Decimal) -> Cell:
    return Cell(wording.stated(locale, unit, value))
