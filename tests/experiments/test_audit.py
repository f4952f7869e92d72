"""The audit log: one chain, whatever the number of writers, and no way to edit it unnoticed."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256

import pytest
import sqlalchemy as sa

from klartext.experiments import audit
from klartext.experiments.errors import ConflictError

NOW = datetime(2027, 1, 12, 9, tzinfo=UTC)


@pytest.fixture
def engine(state: sa.Engine) -> sa.Engine:
    return state


def write(engine: sa.Engine, count: int, actor: str = "lena") -> None:
    for number in range(count):
        with engine.begin() as connection:
            audit.record(
                connection, now=NOW, actor=actor, action="note", subject="mail",
                detail={"n": number, "text": "Ä"},
            )  # fmt: skip


def verified(engine: sa.Engine) -> int | None:
    with engine.connect() as connection:
        return audit.verify(connection)


def tamper(engine: sa.Engine, *statements: str) -> int | None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    return verified(engine)


def test_hash_of_the_first_entry_by_hand(engine: sa.Engine) -> None:
    write(engine, 1)
    with engine.connect() as connection:
        (entry,) = audit.entries(connection)
    # NOW is 1799744400 s after 1970: 57 * 365 + 14 leap days + 11 days, plus nine hours
    seconds = (57 * 365 + 14 + 11) * 86_400 + 9 * 3600
    detail = r"{\"n\":0,\"text\":\"Ä\"}"
    text = f'["klartext/audit/v1",1,{seconds}000000,"lena","note","mail","{detail}","{64 * "0"}"]'
    assert entry.hash == sha256(text.encode()).hexdigest()
    assert entry.detail == {"n": 0, "text": "Ä"}


def test_untouched_chain_verifies(engine: sa.Engine) -> None:
    assert verified(engine) is None
    write(engine, 5)
    assert verified(engine) is None
    with engine.connect() as connection:
        chain = audit.entries(connection)
        assert audit.head(connection) == audit.Head(5, chain[-1].hash)
        assert audit.contains(connection, chain[2].hash)
        assert not audit.contains(connection, "0" * 63 + "1")
    assert [entry.previous for entry in chain] == [
        audit.GENESIS, *(entry.hash for entry in chain[:-1])
    ]  # fmt: skip


@pytest.mark.parametrize(
    "assignment",
    [
        "actor = 'someone'",
        "at = at + 1",
        "action = 'other'",
        "subject = 'other'",
        "detail = '{}'",
        "detail = replace(detail, ':', ': ')",
        "previous = hash",
        "hash = 'x'",
    ],
)
def test_changed_entry_is_found(engine: sa.Engine, assignment: str) -> None:
    write(engine, 5)
    statement = f"UPDATE audit SET {assignment} WHERE seq = 3"  # noqa: S608 - from the list above
    assert tamper(engine, statement) == 3


def test_removed_entries_are_found(engine: sa.Engine) -> None:
    write(engine, 5)
    assert tamper(engine, "DELETE FROM audit WHERE seq = 5") == 5
    assert tamper(engine, "DELETE FROM audit WHERE seq = 2") == 2
    assert tamper(engine, "DELETE FROM audit") == 1


def test_removed_and_renumbered_entry_is_found(engine: sa.Engine) -> None:
    write(engine, 5)
    broken = tamper(
        engine, "DELETE FROM audit WHERE seq = 2", "UPDATE audit SET seq = seq - 1 WHERE seq > 2"
    )
    assert broken == 2


def test_reordered_entries_are_found(engine: sa.Engine) -> None:
    write(engine, 5)
    broken = tamper(
        engine,
        "UPDATE audit SET seq = 100 WHERE seq = 2",
        "UPDATE audit SET seq = 2 WHERE seq = 4",
        "UPDATE audit SET seq = 4 WHERE seq = 100",
    )
    assert broken == 2


def test_inserted_entry_is_found(engine: sa.Engine) -> None:
    write(engine, 3)
    fake = (
        "INSERT INTO audit SELECT {seq}, at, actor, action, subject, detail, hash, 'fake' "
        "FROM audit WHERE seq = 3"
    )
    assert tamper(engine, fake.format(seq=4)) == 4
    assert tamper(engine, "DELETE FROM audit WHERE seq = 4", fake.format(seq=0)) == 1


def test_missing_head_is_found_and_stops_writing(engine: sa.Engine) -> None:
    write(engine, 3)
    assert tamper(engine, "DELETE FROM settings WHERE name = 'audit_head'") == 3
    with pytest.raises(ConflictError, match="altered by hand"):
        write(engine, 1)


def test_concurrent_writers_keep_one_chain(engine: sa.Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda actor: write(engine, 10, actor), "abcd"))
    assert verified(engine) is None
    with engine.connect() as connection:
        assert [entry.seq for entry in audit.entries(connection)] == list(range(1, 41))


def test_rolled_back_work_leaves_no_entry(engine: sa.Engine) -> None:
    write(engine, 1)
    with engine.connect() as connection:
        audit.record(connection, now=NOW, actor="lena", action="note", subject="x", detail={})
        connection.rollback()
    write(engine, 1)
    assert verified(engine) is None


def test_entries_of_one_subject(engine: sa.Engine) -> None:
    write(engine, 2)
    with engine.begin() as connection:
        audit.record(connection, now=NOW, actor="a", action="start", subject="chat", detail={})
    with engine.connect() as connection:
        assert [entry.seq for entry in audit.entries(connection, "chat")] == [3]
