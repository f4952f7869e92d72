"""The schema: what the steps make is what the tables say, from an installed package too."""

import subprocess
import sys
from pathlib import Path

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from klartext.experiments import deadletters, migrations
from klartext.experiments.errors import ConflictError
from klartext.experiments.state import open_state
from klartext.experiments.tables import metadata


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return open_state(f"sqlite:///{tmp_path}/a folder/50%/state.db")


def test_migrated_schema_equals_the_tables(engine: sa.Engine) -> None:
    migrations.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        names = set(sa.inspect(connection).get_table_names())
    assert names == {*metadata.tables, "alembic_version"}


def test_upgrade_twice_changes_nothing(engine: sa.Engine) -> None:
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO settings (name, value) VALUES ('a', 'b')")
    migrations.upgrade(engine)
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("SELECT value FROM settings WHERE name = 'a'").scalar()
    assert kept == "b"
    assert migrations.current(engine) == migrations.HEAD


def test_dead_letters_outlive_the_column_that_nothing_filled(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        alembic.command.upgrade(migrations.alembic_config(connection), "0008")
        connection.exec_driver_sql(
            "INSERT INTO batches (batch, kind, source, content_sha256, mapping_sha256, received_at,"
            " accepted, duplicate, conflict, rejected) VALUES (7, 'events', 's', '', '', 0,0,0,0,1)"
        )
        connection.exec_driver_sql(
            "INSERT INTO dead_letters (batch, position, reason, detail, row_sha256, unit, parsed)"
            " VALUES (7, 3, 'naive-time', 'no zone', 'hash', -5, NULL)"
        )
    migrations.upgrade(engine)
    with engine.connect() as connection:
        (letter,) = deadletters.letters(connection)
    assert (letter.batch, letter.position, letter.reason, letter.unit) == (7, 3, "naive-time", -5)


def test_head_constant_is_the_newest_step(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(migrations.alembic_config(connection))
    assert script.get_heads() == [migrations.HEAD]


def test_newer_database_is_refused(engine: sa.Engine) -> None:
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConflictError, match=r"schema 9999.*up to 0009.*newer Klartext") as caught:
        migrations.upgrade(engine)
    assert "install that version" in str(caught.value)


def test_current_database_needs_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    migrations.upgrade(open_state(url))
    program = (
        "import sys\n"
        "from klartext.experiments.migrations import upgrade\n"
        "from klartext.experiments.state import open_state\n"
        f"upgrade(open_state({url!r}))\n"
        "print('alembic' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    program = (
        "from klartext.experiments.migrations import upgrade\n"
        "from klartext.experiments.state import open_state\n"
        f"upgrade(open_state('sqlite:///{tmp_path}/state.db'))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    messages = [process.communicate()[1] for process in running]
    assert [
        (process.returncode, text) for process, text in zip(running, messages, strict=True)
    ] == [(0, "")] * 3
