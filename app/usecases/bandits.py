"""Bandits: read mature rewards, publish the next policy version, show those there were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from klartext.analysis.engine import open_engine
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.bandits.update import Proposal, Reward, propose
from klartext.experiments import policy_store, registry
from klartext.experiments.errors import ConflictError, NotReadyError
from klartext.experiments.policies import PolicyVersion, compose
from klartext.experiments.state import reading

if TYPE_CHECKING:
    from datetime import datetime

    import sqlalchemy as sa

    from klartext.app.session import Session
    from klartext.experiments.experiment import Experiment
    from klartext.experiments.registry import Registered
    from klartext.experiments.watermark import Watermark


@dataclass(frozen=True, slots=True)
class Update:
    """What became of an update: the policy in force now, and why it is new or not.

    ``immature`` counts exposed units whose windows have not closed.
    """

    policy: PolicyVersion
    outcome: Literal["published", "no-rewards", "no-change"]
    immature: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A bandit: the experiment as it stands, and its policy versions, oldest first."""

    registered: Registered
    policies: tuple[PolicyVersion, ...]


def update(session: Session, key: str, *, actor: str) -> Update:
    """Publish the weights that follow from the mature rewards of a running bandit.

    Without mature units the weights stay; with the evidence of the policy in force nothing new is
    published, so that running it twice is harmless.

    Raises
    ------
    NotFoundError
        The experiment is not registered.
    ConflictError
        It is not a bandit, or somebody else published meanwhile.
    NotReadyError
        It is not running.
    """
    now = session.now()
    with session.engine.begin() as connection:
        registered = registry.load(connection, key)
        experiment = _bandit(registered)
        if registered.status != "running":
            raise NotReadyError(
                f"{key} is {registered.status}; weights move while it runs. "
                f"See its policies with `klartext bandit show {key}`."
            )
        current = policy_store.in_force(connection, experiment, actor=actor, now=now)
    with open_engine(session.workspace.engine) as engine:
        tables, watermark = session.see(engine, usage=False)
        if watermark is None:
            return Update(current, "no-rewards", 0)
        readout = read_out(experiment, tables, watermark, engine=engine)
    immature = sum(count.exposed - count.mature for count in readout.counts)
    rewards = rewards_of(experiment, readout)
    if not any(reward.trials for reward in rewards.values()):
        return Update(current, "no-rewards", immature)
    proposal = propose(experiment, rewards)
    if current.evidence is not None and current.evidence.counts == proposal.evidence.counts:
        return Update(current, "no-change", immature)
    with session.engine.begin() as connection:
        policy = _publish(connection, experiment, proposal, watermark, current, actor, now)
    return Update(policy, "published", immature)


def show(session: Session, key: str) -> Shown:
    """Return a bandit and its policy versions.

    Raises
    ------
    NotFoundError
        The experiment is not registered.
    ConflictError
        It is not a bandit.
    """
    with reading(session.engine) as connection:
        registered = registry.load(connection, key)
        _bandit(registered)
        return Shown(registered, policy_store.history(connection, key))


def rewards_of(experiment: Experiment, readout: Readout) -> Mapping[str, Reward]:
    """Return mature units and those with the reward, per variant.

    Raises
    ------
    ConflictError
        The experiment is not a bandit.
    """
    if experiment.bandit is None:
        raise ConflictError(f"{experiment.key} is not a bandit: its weights are fixed")
    rewards = {}
    for variant, moments in readout.moments.items():
        place = moments.columns.index(experiment.bandit.reward)
        rewards[variant] = Reward(moments.n, int(moments.nonzero[place]))
    return rewards


def _bandit(registered: Registered) -> Experiment:
    if registered.experiment.bandit is None:
        raise ConflictError(
            f"{registered.key} is an A/B test: its weights are those of the spec and do not move"
        )
    return registered.experiment


def _publish(  # noqa: PLR0913, PLR0917 - one sentence: what follows from what, for whom, when
    connection: sa.Connection,
    experiment: Experiment,
    proposal: Proposal,
    watermark: Watermark,
    parent: PolicyVersion,
    actor: str,
    now: datetime,
) -> PolicyVersion:
    policy = compose(
        experiment.key,
        proposal.arms,
        parent=parent,
        basis=(watermark, proposal.evidence),
        now=now,
    )
    policy_store.publish(connection, policy, actor=actor)
    return policy
