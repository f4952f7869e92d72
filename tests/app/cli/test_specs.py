"""Specs on the command line: make, check, show, compare."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from klartext.experiments.spec.scaffold import FIRST_KEYS, TEMPLATES
from tests.experiments.spec.conftest import EXPERIMENT, METRICS, WORKSPACE, changed
from tests.experiments.spec.test_loading import TEN

Run = Callable[..., Any]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace with the example of the design, as the current directory."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "klartext.yaml").write_text(WORKSPACE)
    (tmp_path / "metrics.yaml").write_text(METRICS)
    (tmp_path / "experiments" / "mail.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("template", TEMPLATES)
def test_from_nothing_to_a_registered_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, template: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = run("init", "My Shop", "--template", template, "--owner", "lena.vogt")
    key = FIRST_KEYS[template]  # type: ignore[index] # one of the templates
    assert made.status == 0
    assert made.out.splitlines() == [
        "My Shop/klartext.yaml",
        "My Shop/metrics.yaml",
        f"My Shop/experiments/{key}.yaml",
        "My Shop/.gitignore",
    ]
    assert made.err.rstrip().endswith("klartext validate")
    monkeypatch.chdir(tmp_path / "My Shop")
    checked = run("validate")
    assert (checked.status, "warning" in checked.out) == (0, False)
    assert f"ok: experiments/{key}.yaml  {key}  sha256 " in checked.out
    assert "Next: klartext apply" in checked.err
    assert run("apply").status == 0
    assert run("diff", key).status == 0
    assert "name: my-shop\n" in Path("klartext.yaml").read_text()


def test_init_overwrites_nothing(shop: Path, run: Run) -> None:
    refused = run("init", ".")
    assert refused.status == 2
    assert "klartext.yaml, metrics.yaml: there already; nothing was written" in refused.err
    assert (shop / "klartext.yaml").read_text() == WORKSPACE
    assert not (shop / ".gitignore").exists()
    assert run("init", "new", "--json").json["files"][0] == "new/klartext.yaml"


def test_new(shop: Path, run: Run) -> None:
    made = run("new", "landing-pages", "--template", "leads", "--owner", "lena.vogt")
    assert (made.status, made.out) == (0, "experiments/landing-pages.yaml\n")
    assert run("validate").status == 0
    assert run("new", "landing-pages").status == 2
    assert run("new", "mail-subject-ai").err == (
        "experiments/mail.yaml has the key 'mail-subject-ai' already.\n"
    )
    assert run("new", "Landing Pages").status == 1
    assert run("new", "x", "--template", "cooking").status == 2
    assert run("new", "by-json", "--json").json == {
        "schema": "klartext/new/v1",
        "key": "by-json",
        "file": "experiments/by-json.yaml",
    }


def test_ten_mistakes_print_ten_errors(shop: Path, run: Run) -> None:
    (shop / "experiments" / "mail.yaml").write_text(changed(*TEN))
    checked = run("validate", "experiments/mail.yaml")
    assert checked.status == 1
    lines = checked.out.splitlines()
    assert len(lines) == 10
    for line in lines:
        assert line.startswith("error: experiments/mail.yaml:")
        assert line.endswith("]")  # the rule's name
    assert lines[0] == (
        "error: experiments/mail.yaml:3 titel is not a known key. "
        "Did you mean 'title'? [unknown-key]"
    )
    assert checked.err == "1 file, 10 errors, 0 warnings\n"
    document = run("validate", "--json").json
    assert document["schema"] == "klartext/validation/v1"
    metrics, mail = document["files"]
    assert metrics == {
        "file": "metrics.yaml", "valid": True, "key": None, "sha256": None, "problems": []
    }  # fmt: skip
    assert mail["valid"] is False
    assert len(mail["problems"]) == 10
    assert mail["problems"][3] == {
        "severity": "error",
        "file": "experiments/mail.yaml",
        "line": 11,
        "column": 1,
        "path": "variants",
        "message": "have weights that sum to 110% (50% + 60%): they must sum to 100%",
        "fix": "Lower them by 10% in all.",
        "code": "weights-sum",
    }


def test_warnings_are_no_errors(shop: Path, run: Run) -> None:
    text = changed(("min_duration: 14d", "min_duration: 10d"))
    (shop / "experiments" / "mail.yaml").write_text(text)
    checked = run("validate")
    assert checked.status == 0
    assert (
        "warning: experiments/mail.yaml:32 decision.min_duration is 10 days, not whole weeks. "
        "Use whole weeks: weekdays differ. [part-week]\n"
    ) in checked.out
    assert run("validate", "--json").json["files"][1]["problems"][0]["severity"] == "warning"


def test_every_file_of_the_workspace_is_checked(shop: Path, run: Run) -> None:
    (shop / "metrics.yaml").write_text(METRICS.replace("kind: conversion", "kind: clustered", 1))
    (shop / "experiments" / "twin.yaml").write_text(EXPERIMENT)
    checked = run("validate")
    assert checked.status == 1
    assert [line.split(" ")[1] for line in checked.out.splitlines()] == ["metrics.yaml:3"]
    (shop / "metrics.yaml").write_text(METRICS)
    checked = run("validate")
    assert "experiments/twin.yaml key is 'mail-subject-ai', which experiments/mail.yaml has" in (
        checked.out
    )
    (shop / "klartext.yaml").write_text(WORKSPACE + "nam: x\n")
    checked = run("validate")
    assert checked.status == 1
    assert checked.out.startswith("error: klartext.yaml:5 nam is not a known key")
    assert run("validate", "--json").json["files"][0]["problems"][0]["code"] == "unknown-key"


def test_what_is_not_there(shop: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    missing = run("validate", "experiments/nothing.yaml")
    assert (missing.status, missing.out) == (2, "")
    assert "cannot read experiments/nothing.yaml" in missing.err
    nowhere = run("--workspace", str(tmp_path_factory.mktemp("empty")), "validate")
    assert nowhere.status == 2
    assert "klartext init" in nowhere.err


def test_schema(run: Run) -> None:
    for kind in ("experiment", "metrics", "workspace"):
        document = run("schema", "--kind", kind).json
        assert document["title"] == f"klartext/{kind}/v1"
    assert run("schema", "--json").json["title"] == "klartext/experiment/v1"


def test_show(shop: Path, run: Run) -> None:
    assert run("show", "experiments/mail.yaml").out == EXPERIMENT
    by_key = run("show", "mail-subject-ai", "--json").json
    assert by_key["schema"] == "klartext/show/v1"
    assert by_key["name"] == "experiments/mail.yaml"
    assert by_key["resolved"]["decision"]["approvals"]["by"] == ["controlling", "cfo"]
    resolved = run("show", "mail-subject-ai", "--resolved")
    assert resolved.out.startswith("schema: klartext/experiment/v1\nkey: mail-subject-ai\n")
    assert by_key["sha256"] in resolved.err
    run("apply")
    assert run("show", "mail-subject-ai", "--json").json["name"] == "mail-subject-ai@1"
    assert run("show", "mail-subject-ai@1").out == EXPERIMENT
    assert "has versions 1 to 1, not 7" in run("show", "mail-subject-ai@7").err
    assert "Did you mean 'mail-subject-ai'?" in run("show", "mail-subject").err
    assert run("show", "Mail Subject").status == 2


def test_a_broken_file_is_why_it_cannot_be_shown(shop: Path, run: Run) -> None:
    (shop / "experiments" / "other.yaml").write_text(changed(("title", "titel")))
    broken = run("show", "other")
    assert broken.status == 1
    assert "experiments/other.yaml:3 titel is not a known key" in broken.err


def test_diff(shop: Path, run: Run) -> None:
    assert run("diff", "mail-subject-ai").status == 2  # nothing to compare with yet
    run("apply")
    same = run("diff", "mail-subject-ai")
    assert (same.status, same.out) == (0, "")
    assert "No difference" in same.err
    text = changed(("alpha: 5%", "alpha: 1%"), ("title: AI-", "title: Model-"))
    (shop / "experiments" / "mail.yaml").write_text(text)
    drafted = run("diff", "mail-subject-ai")
    assert drafted.status == 1
    assert drafted.out.splitlines() == [
        "title: AI-written subject lines -> Model-written subject lines (safe: a text)",
        (
            "inference.alpha: 0.05 -> 0.01 "
            "(refused: the error rate and method are fixed before the first exposure)"
        ),
    ]
    assert "not started: every change may be applied" in drafted.err
    run("start", "mail-subject-ai")
    started = run("diff", "mail-subject-ai", "experiments/mail.yaml", "--json").json
    assert started["started"] is True
    assert [change["effect"] for change in started["changes"]] == ["safe", "refused"]
    assert "would not be applied" in run("diff", "experiments/mail.yaml").err
    reverse = run("diff", "experiments/mail.yaml", "mail-subject-ai@1").out
    assert "0.01 -> 0.05" in reverse


def test_safe_changes_of_a_running_test(shop: Path, run: Run) -> None:
    run("apply")
    run("start", "mail-subject-ai")
    (shop / "experiments" / "mail.yaml").write_text(changed(("title: AI-", "title: Model-")))
    assert "may be applied: klartext apply" in run("diff", "mail-subject-ai").err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, klartext.app.cli.specs\n"
        "print([n for n in ('pydantic', 'yaml', 'sqlalchemy', 'numpy') if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout.replace("'", '"')) == []
