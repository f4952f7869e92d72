"""What `klartext analyze` and `klartext decide` print."""

from __future__ import annotations

import pytest

from tests.app.conftest import Run
from tests.app.mails import DAY, START, Shop

MATURE = START + 40 * DAY


@pytest.fixture
def mails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A test with a clear gain, in the current directory."""
    shop.begin()
    shop.deliver(3000, lift=0.15, until=MATURE)
    monkeypatch.chdir(shop.root)
    return shop


def test_the_scorecard_begins_with_the_verdict_and_fits_the_terminal(
    mails: Shop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    ran = run("analyze", "mail")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0] == "GO ai  by rule go"
    assert "net benefit lower" in ran.out
    assert "of it realised savings" in ran.out
    assert "cost left out: inference compute" in ran.out
    assert max(map(len, lines)) <= 100
    assert ran.err == "Next: klartext report mail -o report.html\n"


def test_it_says_what_was_kept_when_asked_to_keep(mails: Shop, run: Run) -> None:
    told = run("analyze", "mail", "--kept").err.splitlines()[0]
    assert told == (
        "Kept by earlier analyses: 0 units; built from facts: 3,000 "
        "(all, for the reason few-facts: docs/facts.md)"
    )


def test_json_has_a_schema_and_the_figures(mails: Shop, run: Run) -> None:
    document = run("analyze", "mail", "--json", "--kept").json
    assert document["cohorts"] == {
        "cached": 0, "built": 3000, "reason": "few-facts", "detail": None,
    }  # fmt: skip
    assert document["schema"] == "klartext/analysis/v1"
    assert document["registered"] is True
    (one,) = document["by_variant"]
    assert one["net_benefit_interval"][0] < one["net_benefit"] < one["net_benefit_interval"][1]
    assert one["cost"] == pytest.approx(150.0)
    assert one["costs"][0]["amount"] == "150.000000000000"


def test_the_course_is_printed_as_charts_not_as_estimates(mails: Shop, run: Run) -> None:
    ran = run("analyze", "mail", "--series")
    assert ran.status == 0
    assert ran.out.splitlines()[0] == "mail by days since exposure, EUR per unit and day"
    assert "Charts, never estimands" in ran.err
    document = run("analyze", "mail", "--series", "--json").json
    assert document["schema"] == "klartext/series/v1"
    assert sum(row["exposed"] for row in document["days"]) == 3000
    assert {"totals", "means"} <= document["ages"][0].keys()
    assert document["cohorts"][-1]["weeks_since_exposure"] >= 1


def test_a_round_of_watching_is_one_document(mails: Shop, run: Run) -> None:
    first = run("watch", "--as", "scheduler", "--json").json
    assert first["schema"] == "klartext/watched/v1"
    (one,) = first["experiments"]
    assert (one["experiment"], one["verdict"], one["status"]) == ("mail", "GO", "decided")
    # it is decided: nothing runs any more, and that is said
    assert run("watch", "--as", "scheduler", "--json").json["experiments"] == []
    assert run("watch", "--as", "scheduler").out == "No experiment is running.\n"


def test_decide_says_which_look_it_recorded(mails: Shop, run: Run) -> None:
    ran = run("decide", "mail", "--as", "lena.vogt")
    assert ran.status == 0
    assert "Look 1 of mail is recorded; the experiment is decided." in ran.out
    again = run("decide", "mail", "--as", "lena.vogt")
    assert again.status == 2
    assert "nothing left to decide" in again.err


def test_decide_as_json(mails: Shop, run: Run) -> None:
    document = run("decide", "mail", "--json").json
    assert (document["schema"], document["look"], document["status"]) == (
        "klartext/look/v1",
        1,
        "decided",
    )
    assert document["analysis"]["decision"]["verdict"] == "GO"


def test_without_facts_the_status_is_not_ready(
    shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.begin()
    monkeypatch.chdir(shop.root)
    ran = run("analyze", "mail")
    assert ran.status == 3
    assert "klartext ingest" in ran.err
