from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from klartext.analysis.document import to_json
from klartext.analysis.result import Assumed
from klartext.analysis.verdicts import Beside, Past, Revised, verdict_of
from klartext.app.cli.beside import beside_text
from klartext.experiments.changes import Change
from klartext.experiments.revisions import Change as Other
from klartext.experiments.revisions import Revision
from klartext.reports import beside, page, wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import Language
from tests.reports import samples

AT = datetime(2027, 4, 3, 8, 30, tzinfo=UTC)
MARGIN = "value.spend.contribution_margin"
HOSTILE = "<script>alert('x')</script> & “doubts”"


def document(*, reproduced: bool = True) -> ReportDocument:
    """Return a STOP that was a CONTINUE at its look, with a revision that makes it a GO."""
    shown = samples.stop()
    shown = replace(shown, analysis=replace(shown.analysis, version=3))
    present = verdict_of(to_json(shown.analysis))
    then = replace(
        present, verdict="CONTINUE", rule="continue", variant=None, version=1, spec_sha256="c" * 64
    )
    better = replace(
        present,
        verdict="GO",
        rule="go",
        revision=2,
        treatments=(replace(present.treatments[0], net_benefit=1_000.0, interval=None),),
    )
    past = Past(
        7, AT, "lena.vogt", then, "d" * 64,
        (Change("title", "Old title", HOSTILE, "safe", "a text"),
         Change("variants[bot].weight", "50%", None, "new_phase", "no pooling")),
    )  # fmt: skip
    revision = Revision(
        2, 1, "c" * 64, 7, AT, "m.huber", HOSTILE,
        (Other(MARGIN, "fraction", Decimal("0.42"), Decimal("0.40"), Decimal("0.55")),),
        {MARGIN: Decimal("0.55"), "rollout.persistence": Decimal("0.6")},
        None, "{}", "{}", reproduced, "e" * 64,
    )  # fmt: skip
    revised = Revised(revision, (then, better), reproduced, (present, better), (present, better))
    return replace(shown, beside=Beside(past, revised))


@pytest.mark.parametrize("language", ["de", "en"])
def test_the_page_shows_both_with_version_hash_and_difference(language: Language) -> None:
    shown = document()
    locale = wording.locale_of(shown, language)
    past, revised = beside.blocks(shown, locale)
    recorded, changes = past.tables
    rows = [[cell.text for cell in row] for row in recorded.rows]
    assert rows[1][1:3] == [locale.text("beside.version", version=v) for v in ("1", "3")]
    assert [cell.note for cell in recorded.rows[1][1:3]] == [
        "c" * 12, shown.analysis.spec_sha256[:12],
    ]  # fmt: skip
    assert [row[0].text for row in changes.rows] == ["title", "variants[bot].weight"]
    assert changes.rows[1][2].text == "–"
    inputs, at_look, now = revised.tables
    assert [row[0].note for row in inputs.rows] == [MARGIN, "rollout.persistence"]
    percent = [cell.text.replace("\N{NO-BREAK SPACE}", "") for cell in inputs.rows[0][1:]]
    assert percent == ["42%", "40%", "55%"]
    difference = at_look.rows[-1][-1].text
    assert difference.startswith("+")
    assert at_look.rows[-1][2].note is None
    assert now.columns[0].label == locale.text("beside.now")
    source = page.render(shown, language)
    assert HOSTILE not in source
    assert "&lt;script&gt;alert" in source
    assert locale.text("beside.stands") in source


@pytest.mark.parametrize("language", ["de", "en"])
def test_figures_that_did_not_come_again_are_said_to(language: Language) -> None:
    for reproduced in (True, False):
        shown = document(reproduced=reproduced)
        locale = wording.locale_of(shown, language)
        said = locale.text("beside.not_reproduced", look="7")
        assert (said in page.render(shown, language)) is not reproduced
        text = beside_text(shown.beside)
        assert ("do not give the recorded figures again" in text) is not reproduced
        assert "still revised: rollout.persistence" in text
        assert "40% -> 55% (registered 42%)" in text


@pytest.mark.parametrize("name", samples.SAMPLES)
@pytest.mark.parametrize("language", ["de", "en"])
def test_a_what_if_takes_the_colour_and_the_word_of_every_verdict(
    name: str, language: Language
) -> None:
    shown = samples.SAMPLES[name]()
    tried = Assumed("rollout.persistence", "fraction", Decimal("0.7"), Decimal("0.5"))
    what_if = replace(shown, analysis=replace(shown.analysis, assumed=(tried,)))
    locale = wording.locale_of(shown, language)
    plain, marked = page.render(shown, language), page.render(what_if, language)
    mark = f'<p class="what-if-mark" aria-hidden="true">{locale.text("what_if.mark")}</p>'
    assert mark in marked
    assert mark not in plain
    assert locale.text("what_if.next") in marked
    invalid = shown.analysis.decision.verdict == "INVALID"
    assert f'class="banner {"invalid" if invalid else "wait"}"' in marked
    word = locale.text(f"verdict.{shown.analysis.decision.verdict}.word")
    assert f"<title>{locale.text('what_if.word', word=word)}" in marked
    # one signed as a revision is none
    signed = replace(what_if, analysis=replace(what_if.analysis, revision=1))
    assert mark not in page.render(signed, language)
