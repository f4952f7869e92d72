"""The engine: exact columns, durable settings, writers in a row and readers beside them."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.experiments.errors import StateError
from klartext.experiments.state import open_state, reading
from klartext.experiments.tables import ExactDecimal, Instant, leases, metadata

numbers = sa.Table(
    "numbers",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("amount", ExactDecimal),
    sa.Column("at", Instant),
)


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    engine = open_state(f"sqlite:///{tmp_path}/state.db")
    numbers.metadata.create_all(engine)
    metadata.create_all(engine)
    return engine


@pytest.mark.parametrize("text", ["12345678901234567.123456789012", "0.10", "-0.000000000001"])
def test_decimals_keep_every_digit(engine: sa.Engine, text: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(numbers).values(id=1, amount=Decimal(text)))
        stored = connection.execute(sa.select(numbers.c.amount)).scalar_one()
    assert stored is not None
    assert stored.as_tuple() == Decimal(text).as_tuple()


def test_instants_are_utc_to_the_microsecond(engine: sa.Engine) -> None:
    summer = datetime(2027, 7, 1, 12, 0, 0, 123457, tzinfo=timezone(timedelta(hours=2)))
    with engine.begin() as connection:
        connection.execute(sa.insert(numbers).values(id=1, at=summer))
        stored = connection.execute(sa.select(numbers.c.at)).scalar_one()
    assert stored == datetime(2027, 7, 1, 10, 0, 0, 123457, tzinfo=UTC)
    assert stored is not None
    assert stored.tzinfo is UTC


def test_naive_instants_are_refused(engine: sa.Engine) -> None:
    naive = datetime(2027, 7, 1)  # noqa: DTZ001 - the mistake under test
    with engine.begin() as connection, pytest.raises(sa.exc.StatementError, match="naive"):
        connection.execute(sa.insert(numbers).values(id=1, at=naive))


def test_sqlite_commits_are_durable(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1,
                     "busy_timeout": 30_000}  # fmt: skip


def test_readers_see_the_last_commit_while_a_writer_is_busy(engine: sa.Engine) -> None:
    lease = {"name": "flush", "holder": "me", "fence": 1, "expires_at": datetime.now(UTC)}
    with engine.begin() as writer:
        writer.execute(sa.insert(leases).values(lease))
        with reading(engine) as reader:
            assert reader.execute(sa.select(leases)).all() == []
    with reading(engine) as reader:
        assert len(reader.execute(sa.select(leases)).all()) == 1


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    broken = tmp_path / "state.db"
    broken.write_bytes(b"not a database at all " * 300)
    with pytest.raises(StateError, match=r"state\.db is not a database: restore it"):
        open_state(f"sqlite:///{broken}").connect()


def test_a_state_that_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StateError, match=r"state\.db cannot be opened"):
        open_state(f"sqlite:///{tmp_path}/state.db").connect()
