"""The programme: which units are held out from which experiments, and that there is one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from klartext.experiments import programme, registry
from klartext.experiments.assignment import HoldOut, bucket_of
from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import Experiment
from tests.experiments.test_lifecycle import NOW, move, put

HOUR = timedelta(hours=1)


@pytest.fixture
def all_ai(experiment: Experiment) -> Experiment:
    """A programme that holds out 10 % of all units."""
    first, second = experiment.variants
    return replace(
        experiment,
        key="all-ai",
        layer="all-ai",
        scope="programme",
        audience={},
        traffic=1_000_000,
        variants=(replace(first, weight=100_000), replace(second, weight=900_000)),
    )


def held_out(state: sa.Engine, key: str) -> HoldOut | None:
    with state.connect() as connection:
        return programme.hold_out(connection, registry.load(connection, key))


def test_the_control_is_held_out_from_what_starts_later(
    state: sa.Engine, experiment: Experiment, all_ai: Experiment
) -> None:
    early = replace(experiment, key="early", layer="early")
    for each in (early, all_ai, experiment):
        put(state, each)
    move(state, "early", "running", now=NOW)
    move(state, "all-ai", "running", now=NOW + HOUR)
    move(state, "mail", "running", now=NOW + 2 * HOUR)
    assert held_out(state, "early") is None  # its units are assigned already
    assert held_out(state, "all-ai") is None
    found = held_out(state, "mail")
    assert found is not None
    units = [f"customer-{number}" for number in range(20_000)]
    held = {unit for unit in units if found.holds(unit.encode())}
    assert held == {unit for unit in units if bucket_of("all-ai", unit) < 100_000}
    assert len(held) == pytest.approx(2_000, abs=4 * (20_000 * 0.1 * 0.9) ** 0.5)


def test_a_pause_keeps_the_hold_out_and_an_end_frees_it(
    state: sa.Engine, experiment: Experiment, all_ai: Experiment
) -> None:
    put(state, all_ai)
    put(state, experiment)
    assert held_out(state, "mail") is None  # neither has started
    move(state, "all-ai", "running")
    move(state, "mail", "running", now=NOW + HOUR)
    move(state, "all-ai", "paused", now=NOW + 2 * HOUR)
    assert held_out(state, "mail") is not None
    move(state, "all-ai", "stopped", now=NOW + 3 * HOUR)
    assert held_out(state, "mail") is None


def test_a_workspace_has_one_programme(state: sa.Engine, all_ai: Experiment) -> None:
    put(state, all_ai)
    put(state, replace(all_ai, key="again", layer="again"))
    move(state, "all-ai", "running")
    with pytest.raises(ConflictError, match="all-ai is running and holds out"):
        move(state, "again", "running", now=NOW + HOUR)
    move(state, "all-ai", "paused", now=NOW + HOUR)
    move(state, "all-ai", "running", now=NOW + 2 * HOUR)  # it is no second one of itself
    move(state, "all-ai", "stopped", now=NOW + 3 * HOUR)
    assert move(state, "again", "running", now=NOW + 4 * HOUR).status == "running"


def test_words_in_a_payload_make_no_programme(state: sa.Engine, experiment: Experiment) -> None:
    first, second = experiment.variants
    odd = replace(
        experiment, key="odd", layer="odd",
        variants=(first, replace(second, payload={"scope": "programme"})),
    )  # fmt: skip
    put(state, odd)
    put(state, experiment)
    move(state, "odd", "running")
    move(state, "mail", "running", now=NOW + HOUR)
    with state.connect() as connection:
        assert programme.going_on(connection) == ("odd",)
    assert held_out(state, "mail") is None


def test_a_split_made_elsewhere_cannot_be_asked_by_hash(
    state: sa.Engine, experiment: Experiment, all_ai: Experiment
) -> None:
    put(state, replace(all_ai, assignment="external"))
    put(state, experiment)
    move(state, "all-ai", "running")
    move(state, "mail", "running", now=NOW + HOUR)
    assert held_out(state, "mail") is None


def test_the_share_held_out_does_not_move(state: sa.Engine, all_ai: Experiment) -> None:
    put(state, all_ai)
    move(state, "all-ai", "running")
    first, second = all_ai.variants
    moved = (replace(first, weight=50_000), replace(second, weight=950_000))
    with pytest.raises(ConflictError, match="cannot be made"):
        put(state, replace(all_ai, variants=moved))
