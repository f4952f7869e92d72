"""Audit log and database on the command line: sound, tampered with, missing, too new."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from klartext.experiments.migrations import HEAD
from klartext.experiments.state import open_state

Run = Callable[..., Any]


def edit(workspace: Path, statement: str) -> None:
    engine = open_state(f"sqlite:///{workspace}/.klartext/state.db")
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_an_untouched_log_verifies_and_names_its_last_hash(workspace: Path, run: Run) -> None:
    assert run("audit", "verify").out.startswith("0 entries, whole")
    run("apply")
    assert run("audit", "verify").out.startswith("1 entry, whole and in order.\nLast: 1 ")
    found = run("audit", "verify", "--json").json
    assert (found["schema"], found["intact"], found["entries"]) == (
        "klartext/audit-verification/v1", True, 1
    )  # fmt: skip
    run("start", "mail-subject")
    assert run("audit", "verify", "--noted", found["head"]["hash"]).status == 0
    assert run("audit", "verify", "--noted", "f" * 64).status == 1


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE audit SET actor = 'me' WHERE seq = 1", "entry 1"),
        ("UPDATE audit SET detail = 'not JSON' WHERE seq = 2", "entry 2"),
        ("DELETE FROM audit WHERE seq = 2", "entry 2"),
        ("DELETE FROM settings WHERE name = 'audit_head'", "entry 2"),
        (
            "UPDATE experiment_versions SET canonical = replace(canonical, '0.05', '0.5')",
            "mail-subject version 1 is not what the audit log registered",
        ),
    ],
)
def test_tampering_is_found(workspace: Path, run: Run, statement: str, says: str) -> None:
    run("apply")
    run("start", "mail-subject")
    edit(workspace, statement)
    found = run("audit", "verify")
    assert found.status == 1
    assert says in found.out
    assert not run("audit", "verify", "--json").json["intact"]
    checked = run("db", "check")
    assert checked.status == 1
    assert says in checked.out


def test_the_log_as_a_table(workspace: Path, run: Run) -> None:
    run("apply", "--as", "lena")
    header, row = run("audit", "list").out.splitlines()
    assert header.split() == ["SEQ", "AT", "ACTOR", "ACTION", "SUBJECT", "REASON"]
    assert row.split()[3:] == ["lena", "register", "mail-subject"]


def test_a_sound_database(workspace: Path, run: Run) -> None:
    assert run("db", "check").status == 3
    assert not (workspace / ".klartext").exists()
    assert run("db", "upgrade").status == 0
    assert run("db", "check").out.startswith("The state database is sound")
    assert run("db", "check", "--json").json["findings"] == []


def test_a_row_whose_parent_is_gone_is_found(workspace: Path, run: Run) -> None:
    run("apply")
    engine = sa.create_engine(f"sqlite:///{workspace}/.klartext/state.db")
    with engine.begin() as connection:  # without the pragma, as another program would
        connection.execute(sa.text("DELETE FROM experiments"))
    assert "Row 1 of experiment_versions refers to a row of experiments" in run("db", "check").out


def test_an_old_schema_is_a_finding_and_a_newer_one_an_error(workspace: Path, run: Run) -> None:
    run("apply")
    edit(workspace, "UPDATE alembic_version SET version_num = '9999'")
    assert "schema 9999" in run("list").err
    assert (
        f"schema is 9999, this Klartext needs {HEAD}. Install the newer" in run("db", "check").out
    )
    edit(workspace, "DROP TABLE alembic_version")
    assert f"schema is missing, this Klartext needs {HEAD}. Run" in run("db", "check").out
