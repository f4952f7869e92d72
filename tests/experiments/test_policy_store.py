"""The policy store: a chain that nobody forks, start weights, and tampering that is noticed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from klartext.experiments import audit, policy_store, registry
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.experiment import BanditPolicy, Experiment
from klartext.experiments.policies import ArmEvidence, Evidence, PolicyVersion, compose
from klartext.experiments.policy_store import TamperedPolicyError
from klartext.experiments.spec.resolved import resolved
from klartext.experiments.tables import policy_versions
from klartext.experiments.watermark import Watermark

NOW = datetime(2027, 1, 12, 9, tzinfo=UTC)


@pytest.fixture
def bandit(experiment: Experiment) -> Experiment:
    return replace(experiment, kind="bandit", bandit=BanditPolicy("thompson", "conversion", 20_000))


@pytest.fixture
def engine(state: sa.Engine, bandit: Experiment) -> sa.Engine:
    with state.begin() as connection:
        registry.apply(connection, resolved(bandit, "# bandit\n"), actor="lena", now=NOW)
    return state


def begin(engine: sa.Engine, bandit: Experiment) -> PolicyVersion:
    with engine.begin() as connection:
        return policy_store.in_force(connection, bandit, actor="lena", now=NOW)


def following(parent: PolicyVersion) -> PolicyVersion:
    evidence = Evidence(
        "conversion",
        "increase",
        (ArmEvidence("control", 10, 1, 200_000), ArmEvidence("ai", 10, 3, 800_000)),
    )
    return compose(
        parent.experiment,
        (("control", 212_000, 20_000), ("ai", 788_000, 20_000)),
        parent=parent,
        basis=(Watermark(3, NOW + timedelta(days=20)), evidence),
        now=NOW + timedelta(days=20),
    )


def test_first_policy_is_the_start_weights_once(engine: sa.Engine, bandit: Experiment) -> None:
    first = begin(engine, bandit)
    assert first.weights == (("control", 700_000), ("ai", 300_000))
    assert (first.version, first.watermark, first.evidence) == (1, None, None)
    assert begin(engine, bandit) == first


def test_what_is_published_comes_back_equal_and_is_audited(
    engine: sa.Engine, bandit: Experiment
) -> None:
    first = begin(engine, bandit)
    second = following(first)
    with engine.begin() as connection:
        policy_store.publish(connection, second, actor="lena")
        assert policy_store.latest(connection, "mail") == second
        assert policy_store.load(connection, "mail", 1) == first
        assert policy_store.history(connection, "mail") == (first, second)
        assert policy_store.in_force(connection, bandit, actor="lena", now=NOW) == second
        logged = [e for e in audit.entries(connection, "mail") if e.action == "policy.publish"]
    assert [entry.detail["sha256"] for entry in logged] == [first.sha256, second.sha256]


def test_two_updates_from_one_parent_conflict(engine: sa.Engine, bandit: Experiment) -> None:
    second = following(begin(engine, bandit))
    with engine.begin() as connection:
        policy_store.publish(connection, second, actor="lena")
    with pytest.raises(ConflictError, match="version 2 is in force"), engine.begin() as connection:
        policy_store.publish(connection, second, actor="otto")


def test_unknown_version(engine: sa.Engine) -> None:
    with pytest.raises(NotFoundError, match="no policy version 4"), engine.begin() as connection:
        policy_store.load(connection, "mail", 4)


def test_policy_altered_by_hand_is_not_served(engine: sa.Engine, bandit: Experiment) -> None:
    begin(engine, bandit)
    with engine.begin() as connection:
        connection.execute(
            sa.update(policy_versions).values(weights='{"control": 1, "ai": 999999}')
        )
    with pytest.raises(TamperedPolicyError), engine.begin() as connection:
        policy_store.latest(connection, "mail")


def test_changed_start_weights_and_variants_start_again(
    engine: sa.Engine, bandit: Experiment
) -> None:
    begin(engine, bandit)
    control, ai = bandit.variants
    even = replace(bandit, variants=(replace(control, weight=500_000), replace(ai, weight=500_000)))
    restarted = begin(engine, even)
    assert (restarted.version, restarted.parent) == (2, 1)
    assert restarted.weights == (("control", 500_000), ("ai", 500_000))
    renamed = replace(even, variants=(even.variants[0], replace(even.variants[1], key="ai2")))
    assert begin(engine, renamed).variants == ("control", "ai2")


def test_learned_weights_outlive_the_start_weights(engine: sa.Engine, bandit: Experiment) -> None:
    second = following(begin(engine, bandit))
    with engine.begin() as connection:
        policy_store.publish(connection, second, actor="lena")
    assert begin(engine, bandit) == second


def test_an_ab_test_has_no_policy(engine: sa.Engine, experiment: Experiment) -> None:
    with pytest.raises(ValueError, match="not a bandit"):
        begin(engine, experiment)
