"""klartext portfolio: text, JSON and page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app import companies
from tests.app.cli.test_report import text_of
from tests.app.conftest import Run
from tests.app.mails import START, Shop, shop

__all__ = ["shop"]


@pytest.fixture
def drafts(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Return a workspace that is the current directory, with two drafts of one budget each."""
    shop.instant = START
    for key in ("banner", "chat"):
        companies.register(shop, key)
    monkeypatch.chdir(shop.root)
    return shop


def test_text_names_every_experiment_and_the_sums(drafts: Shop, run: Run) -> None:
    ran = run("portfolio")
    assert ran.status == 0
    lines = ran.out.splitlines()
    assert lines[0].split()[:3] == ["EXPERIMENT", "STATUS", "VERDICT"]
    assert lines[1].split()[:3] == ["banner", "draft", "–"]
    assert "budgets: 0.00 of 1,000.00 EUR" in lines
    assert "launched, added up as estimated: –, no experiment has a GO" in lines
    takes = "it takes 5 experiments with a readable look to learn what experiments usually bring"
    assert f"launched, without the winner's curse: –, {takes}; so far: 0" in lines
    assert "(" not in ran.out  # no code without words


def test_json_has_a_schema_and_a_reason_for_every_null(drafts: Shop, run: Run) -> None:
    document = run("portfolio", "--json").json
    assert document["schema"] == "klartext/portfolio/v1"
    assert [one["experiment"] for one in document["experiments"]] == ["banner", "chat"]
    first = document["experiments"][0]
    assert first["look"] is None
    assert first["cost"]["total"] == "0"
    launched, result = (document["totals"][name] for name in ("launched", "result"))
    assert launched["corrected"] is None
    assert launched["reason"]["corrected"]["code"] == "too-few-experiments"
    assert set(result["reason"]) == {key for key, value in result.items() if value is None}


@pytest.mark.parametrize(
    ("language", "said"), [("de", "Bisher 0,00 € ausgegeben"), ("en", "€0.00 spent so far")]
)
def test_page(drafts: Shop, run: Run, tmp_path: Path, language: str, said: str) -> None:
    path = tmp_path / "portfolio.html"
    ran = run("portfolio", "--out", str(path), "--language", language)
    assert ran.status == 0
    assert "banner" in ran.out
    page = text_of(path)
    assert said in page
    assert "AI for chat" in page


def test_no_workspace_no_folder_no_experiment(
    shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop.root)
    ran = run("portfolio")
    assert ran.status == 0
    assert "No experiment is registered." in ran.out
    ran = run("portfolio", "-o", "nowhere/portfolio.html")
    assert ran.status != 0
    assert "not a folder" in ran.err
    assert "Traceback" not in ran.err
