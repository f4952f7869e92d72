"""The registry on the command line: every command once, and what it says when it cannot."""

import getpass
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def change(workspace: Path, old: str, new: str) -> None:
    file = workspace / "experiments" / "mail.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_life_on_the_command_line(workspace: Path, run: Run) -> None:
    applied = run("apply", "--as", "lena")
    assert applied.status == 0
    assert applied.out.splitlines()[1].split()[:4] == ["mail-subject", "registered", "1", "draft"]
    assert "Next: klartext start mail-subject" in applied.err
    assert run("start", "mail-subject", "--as", "max").out.startswith("mail-subject is running")
    assert run("pause", "mail-subject", "-r", "server down").status == 0
    assert run("start", "mail-subject").status == 0
    assert run("stop", "mail-subject", "--reason", "planned end").status == 0
    log = run("audit", "list", "mail-subject", "--json").json
    assert [(entry["action"], entry["actor"]) for entry in log["entries"]] == [
        ("register", "lena"),
        ("start", "max"),
        ("pause", getpass.getuser()),
        ("resume", getpass.getuser()),
        ("stop", getpass.getuser()),
    ]


def test_apply_is_idempotent(workspace: Path, run: Run) -> None:
    first = run("apply", "--json").json
    again = run("apply", "experiments/mail.yaml", "--json").json
    assert first["schema"] == "klartext/apply/v1"
    assert [one["outcome"] for one in (*first["experiments"], *again["experiments"])] == [
        "registered", "unchanged"
    ]  # fmt: skip
    assert first["experiments"][0]["sha256"] == again["experiments"][0]["sha256"]


def test_apply_registers_all_files_or_none(workspace: Path, run: Run) -> None:
    good = (workspace / "experiments" / "mail.yaml").read_text()
    bad = good.replace("key: mail-subject", "key: other").replace("control: control", "control: x")
    (workspace / "experiments" / "other.yaml").write_text(bad + "surplus: 1\n")
    refused = run("apply")
    assert refused.status == 1
    assert refused.err.count("experiments/other.yaml:") == 2
    assert "registered; experiments/ holds 2 file(s)" in run("list").err


def test_two_files_with_one_key_are_a_mistake(workspace: Path, run: Run) -> None:
    text = (workspace / "experiments" / "mail.yaml").read_text()
    (workspace / "experiments" / "twin.yaml").write_text(text)
    refused = run("apply")
    assert refused.status == 1
    assert "experiments/twin.yaml key is 'mail-subject', which experiments/mail.yaml has" in (
        refused.err
    )


def test_a_started_experiment_refuses_and_nothing_else_is_registered(
    workspace: Path, run: Run
) -> None:
    run("apply")
    run("start", "mail-subject")
    (workspace / "experiments" / "other.yaml").write_text(
        (workspace / "experiments" / "mail.yaml").read_text().replace("mail-subject", "a-new-one")
    )
    change(workspace, "alpha: 5%", "alpha: 10%")
    refused = run("apply")
    assert refused.status == 2
    assert "inference.alpha: 0.05 -> 0.1 (refused:" in refused.err
    assert refused.err.endswith("Nothing was registered.\n")
    assert [one["key"] for one in run("list", "--json").json["experiments"]] == ["mail-subject"]
    change(workspace, "alpha: 10%", "alpha: 5%")
    change(workspace, "AI subject lines", "Subject lines by AI")
    assert run("apply", "--json").json["experiments"][0]["outcome"] == "new version"


def test_apply_without_files_says_how_to_make_one(workspace: Path, run: Run) -> None:
    (workspace / "experiments" / "mail.yaml").unlink()
    nothing = run("apply")
    assert nothing.status == 2
    assert "klartext new" in nothing.err
    assert run("apply", "absent.yaml").status == 2


def test_list_shows_status_and_title(workspace: Path, run: Run) -> None:
    assert "Next: `klartext apply`" in run("list").err
    run("apply")
    header, row = run("list").out.splitlines()
    assert header.split() == ["KEY", "STATUS", "SINCE", "KIND", "VERSION", "TITLE"]
    assert row.split()[:2] == ["mail-subject", "draft"]
    assert row.endswith("AI subject lines")


def test_status_before_apply_is_not_ready_and_names_the_command(workspace: Path, run: Run) -> None:
    waiting = run("status", "mail-subject")
    assert waiting.status == 3
    assert "Run `klartext apply experiments/mail.yaml` first." in waiting.err
    unknown = run("status", "mail-subjet")
    assert unknown.status == 2
    assert "Did you mean 'mail-subject'?" in unknown.err


@pytest.mark.parametrize("command", ["start", "stop", "pause", "abandon"])
def test_moves_before_apply_are_not_ready_too(workspace: Path, run: Run, command: str) -> None:
    assert run(command, "mail-subject", "--reason", "x").status == 3


def test_status_of_a_running_test(workspace: Path, run: Run) -> None:
    run("apply")
    run("start", "mail-subject")
    text = run("status", "mail-subject").out
    assert "100% of layer crm" in text
    assert "klartext serve" in text
    document = run("status", "mail-subject", "--json").json
    assert document["schema"] == "klartext/status/v1"
    assert document["slots"] == [[0, 1_000_000]]
    assert (document["status"], document["exposed_units"]) == ("running", None)
    assert document["recorded_at"] <= document["started_at"] == document["since"]


def test_stop_without_a_reason_is_refused(workspace: Path, run: Run) -> None:
    run("apply")
    run("start", "mail-subject")
    refused = run("stop", "mail-subject")
    assert (refused.status, refused.out) == (2, "")
    assert "--reason" in refused.err


def test_a_retrospective_experiment_starts_nothing(workspace: Path, run: Run) -> None:
    change(workspace, "unit: customer", "unit: customer\nregistration: retrospective")
    change(workspace, "mode: anytime", "mode: fixed")
    assert run("apply", "--json").json["experiments"][0]["status"] == "stopped"
    assert "klartext ingest" in run("start", "mail-subject").err
    text = run("status", "mail-subject").out
    assert "retrospective: not before the data existed" in text


def test_export_can_be_checked_by_anyone(workspace: Path, run: Run) -> None:
    run("apply")
    run("start", "mail-subject")
    document = run("export", "mail-subject").json
    assert document == run("export", "--all").json
    assert document["schema"] == "klartext/export/v1"
    (exported,) = document["experiments"]
    (version,) = exported["versions"]
    assert hashlib.sha256(version["canonical"].encode()).hexdigest() == version["sha256"]
    assert version["spec"]["key"] == "mail-subject"
    assert version["source"] == (workspace / "experiments" / "mail.yaml").read_text()
    assert [entry["action"] for entry in exported["audit"]] == ["register", "start"]
    assert document["audit_head"]["hash"] == exported["audit"][-1]["hash"]
    assert (exported["looks"], exported["policies"], document["batches"]) == ([], [], {})


def test_export_asks_for_keys(workspace: Path, run: Run) -> None:
    assert run("export").status == 2
    assert run("export", "mail-subject", "--all").status == 2
    assert run("export", "mail-subject").status == 3


def test_help_says_that_a_typed_name_is_no_proof(workspace: Path, run: Run) -> None:
    assert "no proof" in " ".join(run("start", "--help").out.split())
    assert run("apply", "--as", " ").status == 2
