"""What-ifs are marked wherever they are shown; a revision shows both verdicts."""

from __future__ import annotations

import re

import pytest

from klartext.app.usecases import registry
from tests.app.conftest import Run
from tests.app.mails import DAY, START, Shop

MATURE = START + 40 * DAY
WORST = "value.revenue.contribution_margin=0.5%"


@pytest.fixture
def mails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A test that was decided to be a GO, in the current directory."""
    shop.begin()
    shop.deliver(3000, lift=0.15, until=MATURE)
    monkeypatch.chdir(shop.root)
    return shop


def text_of(source: str) -> str:
    source = re.sub(r"<(style|title|desc)\b.*?</\1>", " ", source, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", source).split())


def test_a_what_if_says_so_above_below_in_json_and_on_the_page(mails: Shop, run: Run) -> None:
    ran = run("analyze", "mail", "--assume", WORST)
    assert ran.status == 0
    lines = ran.out.splitlines()
    mark = "*** WHAT IF, NOT THE VERDICT: value.revenue.contribution_margin 0.5% instead of 40% ***"
    assert (lines[0], lines[2]) == (mark, "what if: STOP ai  by rule loss")
    assert lines[-2:] == [mark, "As registered it is GO: klartext analyze mail"]
    document = run("analyze", "mail", "--assume", WORST, "--json").json
    assert document["what_if"] is True
    assert document["decision"]["verdict"] == "STOP"
    assert document["registered_decision"]["verdict"] == "GO"
    for language, mark, verdict in (
        ("en", "WHAT IF", "What if: STOP"),
        ("de", "WAS WÄRE WENN", "Was wäre wenn: STOP"),
    ):
        ran = run("report", "mail", "--assume", WORST, "--language", language, "--json")
        assert ran.json["what_if"] is True
        assert ran.json["path"] == "mail.what-if.html"
        source = (mails.root / "mail.what-if.html").read_text()
        assert f'<p class="what-if-mark" aria-hidden="true">{mark}</p>' in source
        assert source.index('class="what-if"') < source.index('class="paper"')
        assert source.index(".what-if-mark") < source.index("@media print")
        assert text_of(source).count(verdict) == 1
        assert f"<title>{verdict}" in source
    assert not (mails.root / "mail.html").exists()
    ran = run("decide", "mail", "--assume", WORST)
    assert ran.status == 2
    assert "No such option" in ran.err
    for more in (("--series",), ("--show-sql",), ("--model", "hurdle")):
        assert run("analyze", "mail", "--assume", WORST, *more).status == 2
    for wrong in ("alpha=10%", "rollout.share=0.5", "rollout.share", ""):
        assert run("analyze", "mail", "--assume", wrong).status == 2
        assert run("report", "mail", "--assume", wrong).status == 2


def test_a_revision_and_a_changed_spec_stand_beside_the_figures(mails: Shop, run: Run) -> None:
    assert run("decide", "mail", "--as", "lena.vogt").status == 0
    path = mails.root / "experiments" / "mail.yaml"
    path.write_text(mails.spec().replace("title: AI mails", "title: Mails by a model"))
    registry.apply(mails.session, [path], actor="lena.vogt")
    ran = run("assume", "mail", WORST, "--comment", "the margin was wrong", "--as", "m.huber")
    assert ran.status == 0
    assert "no proof of who signed" in ran.err
    for expected in (
        "REVISED ASSUMPTIONS  revision 1 by m.huber",
        "the margin was wrong",
        "value.revenue.contribution_margin: 40% -> 0.5%",
        "ON THE FACTS OF LOOK 1",
        "ON THE FACTS THERE WERE",
    ):
        assert expected in ran.out
    verdicts = [line for line in ran.out.splitlines() if line.startswith("verdict")]
    assert len(verdicts) == 2
    assert all("GO ai by rule go" in line and "STOP ai by rule loss" in line for line in verdicts)
    specs = [line for line in ran.out.splitlines() if line.startswith("spec")]
    assert [re.findall(r"version (\d)", line) for line in specs] == [["1", "1"], ["2", "2"]]

    shown = run("analyze", "mail").out
    assert shown.startswith("GO ai  by rule go")
    for expected in (
        "RECORDED  look 1 by lena.vogt",
        "GO ai by rule go",
        "spec version 1, SHA-256",
        "title: AI mails -> Mails by a model (safe: a text)",
        "ON THE FACTS SO FAR",
        "STOP ai by rule loss",
    ):
        assert expected in shown
    document = run("analyze", "mail", "--json").json
    assert document["decision"]["verdict"] == "GO"
    assert "what_if" not in document
    assert (document["version"], document["last_look"]["version"]) == (2, 1)
    assert document["last_look"]["changes"][0]["path"] == "title"
    both = document["revision"]["now"]
    assert (both["registered"]["verdict"], both["revised"]["verdict"]) == ("GO", "STOP")
    (difference,) = both["difference"]
    assert difference["net_benefit"] == pytest.approx(
        both["revised"]["by_variant"][0]["net_benefit"]
        - both["registered"]["by_variant"][0]["net_benefit"]
    )

    standing = run("status", "mail")
    assert "RECORDED  look 1" in standing.out
    assert "ON THE FACTS THERE WERE" in standing.out
    status = run("status", "mail", "--json").json
    assert status["last_look"]["verdict"] == "GO"
    assert status["revision"]["at_look"]["revised"]["verdict"] == "STOP"
    assert status["revision"]["at_look"]["reproduced"] is True

    for language, words in (
        ("en", ("Recorded: look 1", "version 1", "version 2", "Mails by a model", "AI mails",
                "Revised assumptions: revision 1", "“the margin was wrong”", "0.5%",
                "the registered one stands")),
        ("de", ("Festgehalten: Blick 1", "Version 1", "Version 2", "AI mails",
                "Revidierte Annahmen: Revision 1", "„the margin was wrong“", "0,5 %",
                "das registrierte gilt", "Annahmen revidiert")),
    ):  # fmt: skip
        assert run("report", "mail", "--language", language).status == 0
        text = text_of((mails.root / "mail.html").read_text()).replace("\N{NO-BREAK SPACE}", " ")
        for word in words:
            assert word in text, word
        assert "what-if-mark" not in (mails.root / "mail.html").read_text().split("</style>")[1]

    again = run("assume", "mail", "rollout.share=50%", "--comment", "less", "--json").json
    assert again["schema"] == "klartext/revision/v1"
    assert again["values"] == {"rollout.share": "0.5", WORST.split("=", maxsplit=1)[0]: "0.005"}
    assert run("assume", "mail", WORST, "--comment", "again").status == 2
    assert run("assume", "mail", "control=ai", "--comment", "no").status == 2
    assert run("assume", "mail", WORST).status == 2
    assert run("audit", "verify").status == 0
    exported = run("export", "mail").json["experiments"][0]
    assert [one["number"] for one in exported["revisions"]] == [1, 2]


def test_without_a_look_or_revision_nothing_stands_beside(mails: Shop, run: Run) -> None:
    document = run("analyze", "mail", "--json").json
    assert not {"last_look", "revision"} & set(document)
    assert "RECORDED" not in run("analyze", "mail").out
    status = run("status", "mail", "--json").json
    assert (status["last_look"], status["revision"]) == (None, None)
