"""Checkpoints: the table behind them is the same, and stopped anywhere it can be opened."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from klartext.experiments import fact_log
from klartext.experiments.compaction import delete_unused
from klartext.experiments.disk import force
from klartext.experiments.facts import FactsStore
from tests.experiments.doors import NOW, PROPERTIES, event_row

WEEK = timedelta(days=7)
DAY = f"day={NOW:%Y-%m-%d}"


@pytest.fixture
def store(tmp_path: Path) -> FactsStore:
    return FactsStore(f"{tmp_path}/facts", PROPERTIES)


def append(store: FactsStore, *numbers: int) -> None:
    for number in numbers:
        rows = store.to_arrow("events", [event_row(number)], batch=number, received_at=NOW)
        store.append("events", rows, application="test", version=number, fence=number)


def log_of(store: FactsStore) -> Path:
    return Path(store.location("events"), "_delta_log")


def names(store: FactsStore) -> set[str]:
    return {path.name for path in log_of(store).iterdir()}


def checkpoint(version: int) -> str:
    return f"{version:020d}.checkpoint.parquet"


def commits(*versions: int) -> set[str]:
    return {f"{version:020d}.json" for version in versions}


def latest(store: FactsStore) -> DeltaTable:
    delta = store.snapshot("events").delta
    assert delta is not None
    return delta


def shorten(store: FactsStore, keep: timedelta = WEEK) -> None:
    fact_log.shorten(store.location("events"), latest(store), keep=keep)


def expect(store: FactsStore, *numbers: int) -> None:
    ids = [event_row(number).id for number in numbers]
    found = latest(store).to_pyarrow_dataset().to_table(columns=["id"])["id"].to_pylist()
    assert sorted(found) == ids
    assert store.snapshot("events").known(ids).num_rows == len(ids)
    assert store.snapshot("events").committed("test") == max(numbers)


def grow_old(store: FactsStore, days: int) -> None:
    for path in log_of(store).iterdir():
        os.utime(path, (time.time() - days * 86_400,) * 2)


def test_the_hundredth_commit_is_followed_by_one(
    store: FactsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fact_log, "INTERVAL", 3)
    append(store, 1)
    assert names(store) == commits(0, 1)
    append(store, 2, 3, 4)
    assert names(store) == {*commits(*range(5)), checkpoint(2), "_last_checkpoint"}
    append(store, 5, 6)
    for superfluous in commits(*range(6)):  # the second one was made of the first one
        (log_of(store) / superfluous).unlink()
    (log_of(store) / checkpoint(2)).unlink()
    expect(store, *range(1, 7))
    append(store, 7)
    expect(store, *range(1, 8))


def test_it_has_its_name_once_it_is_on_the_disk(
    store: FactsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace

    def noted_force(path: Path) -> None:
        force(path)
        done.append("staged" if path.name.startswith("staged-") else path.name)

    def noted_replace(path: Path, target: Path) -> Path:
        done.append(f"named {target.name}")
        return replace(path, target)

    monkeypatch.setattr(fact_log, "force", noted_force)
    monkeypatch.setattr(Path, "replace", noted_replace)
    append(store, 1)
    data, *rest = done
    assert data.endswith(".parquet")
    assert rest == [
        *sorted(commits(0, 1)),
        "facts",
        "events",
        "_delta_log",
        DAY,
    ]
    done.clear()
    shorten(store)
    staged = "staged"
    assert done == [
        *(staged, f"named {checkpoint(1)}", "_delta_log"),
        *(staged, "named _last_checkpoint", "_delta_log"),
    ]
    assert (log_of(store) / checkpoint(1)).stat().st_mode & 0o777 == 0o666 & ~umask()
    expect(store, 1)


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_repeating_it_does_nothing(store: FactsStore) -> None:
    append(store, 1, 2)
    shorten(store)
    before = {path: path.stat().st_mtime_ns for path in log_of(store).iterdir()}
    shorten(store)
    assert {path: path.stat().st_mtime_ns for path in log_of(store).iterdir()} == before


@pytest.mark.parametrize("published", [0, 1])
def test_stopped_before_it_has_its_name(
    store: FactsStore, published: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, 1, 2)
    replace, calls = Path.replace, []

    def stopped(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) > published:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            shorten(store)
    assert not list(Path(store.location("events")).glob("staged-*"))
    expect(store, 1, 2)
    append(store, 3)
    shorten(store)
    assert {checkpoint(latest(store).version()), "_last_checkpoint"} < names(store)
    expect(store, 1, 2, 3)


def test_a_writer_that_is_late_changes_nothing(store: FactsStore) -> None:
    append(store, 1, 2)
    stale = latest(store)
    append(store, 3)
    shorten(store)
    before = names(store)
    fact_log.shorten(store.location("events"), stale, keep=WEEK)
    assert names(store) == before
    expect(store, 1, 2, 3)


def test_what_others_commit_meanwhile_is_not_in_it(store: FactsStore) -> None:
    append(store, 1, 2)
    stale = latest(store)
    append(store, 3)
    fact_log.shorten(store.location("events"), stale, keep=WEEK)
    assert {name for name in names(store) if "checkpoint" in name} == {
        checkpoint(2),
        "_last_checkpoint",
    }
    expect(store, 1, 2, 3)


def test_old_commits_go_unless_they_are_to_be_kept(store: FactsStore) -> None:
    append(store, 1, 2)
    shorten(store)
    grow_old(store, 40)
    append(store, 3)
    shorten(store, keep=timedelta(days=8))
    assert commits(0, 1, 2, 3) < names(store)
    grow_old(store, 29)
    shorten(store)
    assert commits(0, 1, 2, 3) < names(store)
    grow_old(store, 31)
    append(store, 4)
    shorten(store)
    assert not commits(0, 1, 2) & names(store)
    expect(store, 1, 2, 3, 4)


def test_commits_that_a_reader_may_be_reading_stay(store: FactsStore) -> None:
    append(store, 1, 2)
    shorten(store)
    append(store, 3)
    grow_old(store, 40)
    shorten(store)  # who began before this checkpoint was there reads the last one, and 3
    assert {checkpoint(2), *commits(3)} < names(store)
    expect(store, 1, 2, 3)


def test_files_of_killed_writers_are_deleted(store: FactsStore) -> None:
    append(store, 1)
    left = Path(store.location("events"), "staged-0")
    left.write_bytes(b"torn")
    os.utime(left, (0, 0))
    assert delete_unused(store, "events", keep=WEEK) == 1
    assert not left.exists()
    expect(store, 1)
