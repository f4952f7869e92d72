"""The lifecycle: only the allowed moves, each on record, slots reserved and freed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import get_args

import pytest
import sqlalchemy as sa

from klartext.experiments import audit, layers, lifecycle, registry
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.experiment import Experiment
from klartext.experiments.lifecycle import TRANSITIONS
from klartext.experiments.registry import Registered, Status
from klartext.experiments.spec.resolved import resolved

NOW = datetime(2027, 1, 12, 9, tzinfo=UTC)
DAY = timedelta(days=1)
STATUSES: tuple[Status, ...] = get_args(Status)


def put(state: sa.Engine, experiment: Experiment) -> Registered:
    with state.begin() as connection:
        return registry.apply(connection, resolved(experiment, ""), actor="lena", now=NOW)


def move(
    state: sa.Engine, key: str, to: Status, *, now: datetime = NOW, reason: str = "as planned"
) -> Registered:
    with state.begin() as connection:
        return lifecycle.transition(connection, key, to, actor="max", now=now, reason=reason)


def slots(state: sa.Engine, key: str) -> tuple[tuple[int, int], ...]:
    with state.connect() as connection:
        return layers.slots(connection, key)


def path_to(status: Status) -> list[Status]:
    """Shortest way from a draft."""
    ways: list[list[Status]] = [["draft"]]
    for way in ways:
        if way[-1] == status:
            return way[1:]
        ways.extend([*way, after] for after in TRANSITIONS[way[-1]])
    raise AssertionError(status)


@pytest.mark.parametrize(("before", "after"), list(product(STATUSES, STATUSES)))
def test_only_the_allowed_moves(
    state: sa.Engine, experiment: Experiment, before: Status, after: Status
) -> None:
    put(state, experiment)
    for status in path_to(before):
        move(state, "mail", status)
    if after in TRANSITIONS[before]:
        assert move(state, "mail", after).status == after
    else:
        with pytest.raises(ConflictError, match="mail"):
            move(state, "mail", after)
        with state.connect() as connection:
            assert registry.load(connection, "mail").status == before


def test_a_whole_life_with_its_times_slots_and_record(
    state: sa.Engine, experiment: Experiment
) -> None:
    put(state, experiment)
    assert slots(state, "mail") == ()
    move(state, "mail", "running", now=NOW + DAY)
    assert slots(state, "mail") == ((0, 500_000),)
    move(state, "mail", "paused", now=NOW + 2 * DAY, reason="mail server down")
    assert slots(state, "mail") == ((0, 500_000),)
    resumed = move(state, "mail", "running", now=NOW + 3 * DAY)
    assert (resumed.started_at, resumed.stopped_at) == (NOW + DAY, None)
    stopped = move(state, "mail", "stopped", now=NOW + 4 * DAY)
    assert (stopped.started_at, stopped.stopped_at) == (NOW + DAY, NOW + 4 * DAY)
    assert slots(state, "mail") == ()
    move(state, "mail", "decided", now=NOW + 5 * DAY)
    with state.connect() as connection:
        log = audit.entries(connection, "mail")
        assert lifecycle.since(connection, "mail") == NOW + 5 * DAY
        assert audit.verify(connection) is None
    assert [entry.action for entry in log] == [
        "register", "start", "pause", "resume", "stop", "decide"
    ]  # fmt: skip
    assert (log[2].actor, log[2].at) == ("max", NOW + 2 * DAY)
    assert log[2].detail == {
        "from": "running",
        "to": "paused",
        "version": 1,
        "sha256": log[0].detail["sha256"],
        "reason": "mail server down",
    }


def test_a_draft_has_its_status_since_it_was_recorded(
    state: sa.Engine, experiment: Experiment
) -> None:
    put(state, experiment)
    with state.connect() as connection:
        assert lifecycle.since(connection, "mail") == NOW


def test_a_full_layer_is_a_conflict_until_a_stop_frees_it(
    state: sa.Engine, experiment: Experiment
) -> None:
    for key in ("a", "b", "c"):
        put(state, replace(experiment, key=key))
    move(state, "a", "running")
    move(state, "b", "running")
    with pytest.raises(ConflictError, match=r"which has 0% left \(a 50%, b 50%\)"):
        move(state, "c", "running")
    move(state, "a", "paused")
    with pytest.raises(ConflictError, match="0% left"):
        move(state, "c", "running")
    move(state, "a", "stopped")
    move(state, "c", "running")
    assert slots(state, "c") == ((0, 500_000),)


def test_a_split_made_elsewhere_needs_no_slots(state: sa.Engine, experiment: Experiment) -> None:
    put(state, replace(experiment, assignment="external"))
    move(state, "mail", "running")
    assert slots(state, "mail") == ()


@pytest.mark.parametrize("to", ["paused", "stopped", "abandoned"])
def test_ending_needs_a_reason(state: sa.Engine, experiment: Experiment, to: Status) -> None:
    put(state, experiment)
    move(state, "mail", "running")
    with pytest.raises(ConflictError, match="--reason"):
        move(state, "mail", to, reason=" ")


def test_an_import_after_the_fact_never_starts(state: sa.Engine, experiment: Experiment) -> None:
    put(state, replace(experiment, registration="retrospective"))
    with pytest.raises(ConflictError, match=r"mail is retrospective.*klartext ingest"):
        move(state, "mail", "running")
    assert move(state, "mail", "decided").stopped_at is None


def test_registration_precedes_the_start(state: sa.Engine, experiment: Experiment) -> None:
    put(state, experiment)
    with pytest.raises(ConflictError, match="registration precedes the start"):
        move(state, "mail", "running", now=NOW - DAY)


def test_a_test_whose_end_is_over_does_not_start(state: sa.Engine, experiment: Experiment) -> None:
    put(state, experiment)
    with pytest.raises(ConflictError, match=r"Move plan\.latest_end"):
        move(state, "mail", "running", now=datetime(2027, 3, 31, tzinfo=UTC))


def test_unknown_key(state: sa.Engine) -> None:
    with pytest.raises(NotFoundError, match="klartext apply"):
        move(state, "mail", "running")
