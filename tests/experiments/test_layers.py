"""Layers: disjoint slots, no more than there are, and ramping up that takes nothing away."""

import shutil
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from klartext.experiments import layers
from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import MILLION
from klartext.experiments.state import open_state
from klartext.experiments.tables import experiments

KEYS = "abcd"


@pytest.fixture
def engine(state: sa.Engine) -> sa.Engine:
    rows = [
        {"key": key, "status": "running", "version": 1, "created_at": datetime.now(UTC)}
        for key in KEYS
    ]
    with state.begin() as connection:
        connection.execute(sa.insert(experiments), rows)
    return state


def test_experiments_of_a_layer_hold_disjoint_slots(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        layers.reserve(connection, "crm", "a", 300_000)
        layers.reserve(connection, "crm", "b", 700_000)
        layers.reserve(connection, "other", "c", MILLION)
        assert layers.slots(connection, "a") == ((0, 300_000),)
        assert layers.slots(connection, "b") == ((300_000, MILLION),)
        assert layers.slots(connection, "c") == ((0, MILLION),)
        assert layers.slots(connection, "d") == ()


def test_a_full_layer_refuses_and_names_the_holders(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        layers.reserve(connection, "crm", "a", 300_000)
        layers.reserve(connection, "crm", "b", 625_000)
        with pytest.raises(ConflictError) as caught:
            layers.reserve(connection, "crm", "c", 75_001)
        assert layers.slots(connection, "c") == ()
    assert str(caught.value) == (
        "c needs 7.5001% of layer crm, which has 7.5% left (a 30%, b 62.5%). "
        "Stop one of these experiments, lower traffic, or name another layer."
    )


def test_ramping_up_extends_and_fills_gaps(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        for key in "abc":
            layers.reserve(connection, "crm", key, 200_000)
        layers.release(connection, "b")
        layers.reserve(connection, "crm", "a", 500_000)
        assert layers.slots(connection, "a") == ((0, 200_000), (600_000, 900_000))
        layers.reserve(connection, "crm", "a", 800_000)
        assert layers.slots(connection, "a") == ((0, 400_000), (600_000, MILLION))
        layers.reserve(connection, "crm", "a", 100_000)
        assert layers.slots(connection, "a") == ((0, 400_000), (600_000, MILLION))


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(KEYS), st.integers(0, 12).map(lambda n: n * MILLION // 12)),
        max_size=12,
    )
)
def test_any_history_keeps_slots_disjoint(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path, steps: list[tuple[str, int]]
) -> None:
    path = shutil.copy(migrated, tmp_path_factory.mktemp("layers"))
    engine = open_state(f"sqlite:///{path}")
    now = datetime.now(UTC)
    with engine.begin() as connection:
        for key in KEYS:
            row = {"key": key, "status": "running", "version": 1, "created_at": now}
            connection.execute(sa.insert(experiments).values(row))
        for key, traffic in steps:
            before = {slot for held in layers.slots(connection, key) for slot in points(held)}
            if traffic == 0:
                layers.release(connection, key)
                continue
            try:
                layers.reserve(connection, "crm", key, traffic)
            except ConflictError:
                pass
            else:
                width = sum(end - start for start, end in layers.slots(connection, key))
                assert width >= traffic
            after = {slot for held in layers.slots(connection, key) for slot in points(held)}
            assert before <= after
        ranges = sorted(held for key in KEYS for held in layers.slots(connection, key))
    assert all(0 <= start < end <= MILLION for start, end in ranges)
    assert all(left[1] <= right[0] for left, right in pairwise(ranges))


def points(held: tuple[int, int]) -> range:
    """Every 83,333rd slot or so: the steps above are multiples of a twelfth."""
    return range(held[0], held[1], MILLION // 12)
