"""What `klartext doctor` proves, and `analyze --show-sql` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from klartext.analysis.engine import open_engine, prove
from klartext.experiments.engines import PostgresEngine, SparkEngine
from tests.app.conftest import Run
from tests.app.mails import DAY, START, Shop


@pytest.fixture
def mails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop.begin()
    shop.deliver(50, lift=0.15, until=START + 40 * DAY)
    monkeypatch.chdir(shop.root)
    return shop


def test_a_working_workspace_is_healthy(mails: Shop, run: Run) -> None:
    ran = run("doctor", "--json")
    assert ran.status == 0
    assert ran.json["schema"] == "klartext/doctor/v1"
    assert ran.json["healthy"] is True
    checks = {check["name"]: check for check in ran.json["checks"]}
    states = {name: checks[name]["state"] for name in ("state", "facts", "key", "engine", "prices")}
    assert set(states.values()) == {"ok"}
    assert "duckdb" in checks["engine"]["detail"]
    assert checks["extra postgres"]["state"] == "ok"


def test_a_new_workspace_lacks_things_but_is_healthy_and_stays_untouched(
    tmp_path: Path, run: Run
) -> None:
    root = tmp_path / "shop"
    root.mkdir()
    key = tmp_path / "secret.key"
    (root / "klartext.yaml").write_text(
        f"schema: klartext/workspace/v1\nname: shop\npseudonym_key: {key}\n"
    )
    ran = run("-w", str(root), "doctor")
    assert ran.status == 0
    assert "absent  state " in ran.out
    assert "absent  key " in ran.out
    assert [path.name for path in root.iterdir()] == ["klartext.yaml"]


def test_what_does_not_work_is_a_finding(mails: Shop, run: Run) -> None:
    file = mails.root / "klartext.yaml"
    file.write_text(
        file.read_text() + 'engine: {kind: postgres, url: "postgresql://localhost:1/x"}\n'
    )
    (mails.root / "rates.csv").write_text("nonsense\n")
    ran = run("doctor")
    assert ran.status == 1
    assert "failed  engine " in ran.out
    assert "PostgreSQL does not answer at localhost" in ran.out
    assert "failed  rates " in ran.out
    assert "ok      state " in ran.out


def test_a_lost_key_is_a_finding_and_no_new_one_is_made(mails: Shop, run: Run) -> None:
    checks = {check["name"]: check for check in run("doctor", "--json").json["checks"]}
    key = Path(checks["key"]["detail"].split(",")[0])
    key.unlink()
    ran = run("doctor")
    assert ran.status == 1
    assert "failed  key " in ran.out
    assert not key.exists()


def test_postgresql_can_do_what_is_needed(postgres: PostgresEngine) -> None:
    with open_engine(postgres) as engine:
        assert prove(engine).startswith("18")


@pytest.mark.slow
def test_spark_can_do_what_is_needed(spark: SparkEngine) -> None:
    with open_engine(spark) as engine:
        assert prove(engine).startswith("4.0")


@pytest.mark.parametrize("dialect", [None, "postgres", "bigquery", "snowflake", "databricks"])
def test_the_queries_can_be_shown(mails: Shop, run: Run, dialect: str | None) -> None:
    ran = run("analyze", "mail", "--show-sql", *(["--dialect", dialect] if dialect else []))
    assert ran.status == 0
    assert "CREATE TEMPORARY TABLE units AS\n" in ran.out
    assert "-- sums that the moments follow from" in ran.out


def test_an_unknown_dialect_is_refused(mails: Shop, run: Run) -> None:
    ran = run("analyze", "mail", "--show-sql", "--dialect", "cobol")
    assert ran.status == 2
    assert "no SQL for 'cobol'" in ran.err
    assert "Traceback" not in ran.err
