"""Splits: which weights were in force since when, from the registry and from policies."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from klartext.experiments import lifecycle, policy_store, registry
from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import BanditPolicy, Experiment
from klartext.experiments.policies import ArmEvidence, Evidence, compose
from klartext.experiments.registry import Registered
from klartext.experiments.spec.resolved import resolved
from klartext.experiments.splits import Split, splits
from klartext.experiments.watermark import Watermark

NOW = datetime(2027, 1, 12, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def put(state: sa.Engine, experiment: Experiment, now: datetime) -> Registered:
    with state.begin() as connection:
        return registry.apply(connection, resolved(experiment, "#\n"), actor="lena", now=now)


def start(state: sa.Engine, now: datetime) -> None:
    with state.begin() as connection:
        lifecycle.transition(connection, "mail", "running", actor="lena", now=now, reason="planned")


def found(state: sa.Engine) -> tuple[Split, ...]:
    with state.connect() as connection:
        return splits(connection, registry.load(connection, "mail"))


def weighted(experiment: Experiment, control: int) -> Experiment:
    one, other = experiment.variants
    other = replace(other, weight=1_000_000 - control)
    return replace(experiment, variants=(replace(one, weight=control), other))


def test_weights_of_a_running_test_may_move(state: sa.Engine, experiment: Experiment) -> None:
    put(state, weighted(experiment, 900_000), NOW)  # a draft: nobody was assigned by it
    put(state, experiment, NOW + DAY)
    assert found(state) == ()
    start(state, NOW + 2 * DAY)
    first = Split(2, NOW + 2 * DAY, {"control": 700_000, "ai": 300_000})
    assert found(state) == (first,)
    put(state, replace(experiment, title="Post"), NOW + 3 * DAY)
    assert found(state) == (first,)
    moved = put(state, weighted(experiment, 200_000), NOW + 4 * DAY)
    assert (moved.version, moved.status) == (4, "running")
    assert moved.recorded_at == NOW + DAY  # the rule that binds is the one from before the start
    second = Split(4, NOW + 4 * DAY, {"control": 200_000, "ai": 800_000})
    assert found(state) == (first, second)
    put(state, experiment, NOW + 5 * DAY)
    assert found(state) == (first, second, replace(first, version=5, since=NOW + 5 * DAY))


def test_moved_weights_excuse_no_other_change(state: sa.Engine, experiment: Experiment) -> None:
    put(state, experiment, NOW)
    start(state, NOW)
    moved = weighted(experiment, 200_000)
    with pytest.raises(ConflictError, match="1 of 3 changes cannot be made"):
        put(state, replace(moved, audience={"country": ("DE",)}), NOW)
    with state.begin() as connection:
        lifecycle.transition(connection, "mail", "stopped", actor="lena", now=NOW, reason="over")
    with pytest.raises(ConflictError, match="2 of 2 changes"):
        put(state, moved, NOW)


def test_a_bandit_has_the_splits_of_its_policies(state: sa.Engine, experiment: Experiment) -> None:
    bandit = replace(
        experiment, kind="bandit", bandit=BanditPolicy("thompson", "conversion", 20_000)
    )
    put(state, bandit, NOW)
    start(state, NOW)
    with pytest.raises(ConflictError, match="2 of 2 changes"):
        put(state, weighted(bandit, 200_000), NOW)
    evidence = Evidence(
        "conversion", "increase", (ArmEvidence("control", 9, 1, 0), ArmEvidence("ai", 9, 3, 0))
    )
    arms = (("control", 212_000, 20_000), ("ai", 788_000, 20_000))
    with state.begin() as connection:
        policy = policy_store.in_force(connection, bandit, actor="lena", now=NOW)
        for days in (1, 2):  # the second has the same weights
            policy = compose(
                "mail",
                arms,
                parent=policy,
                basis=(Watermark(days, NOW), evidence),
                now=NOW + days * DAY,
            )
            policy_store.publish(connection, policy, actor="lena")
    assert found(state) == (
        Split(1, NOW, {"control": 700_000, "ai": 300_000}),
        Split(2, NOW + DAY, {"control": 212_000, "ai": 788_000}),
    )
