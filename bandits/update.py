"""One policy update: mature rewards per variant become the next weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from klartext.bandits.floors import apportion, floored
from klartext.bandits.thompson import BetaPosterior, probability_best
from klartext.experiments.assignment import MILLION
from klartext.experiments.experiment import Experiment
from klartext.experiments.policies import ArmEvidence, Evidence


@dataclass(frozen=True, slots=True)
class Reward:
    """Mature units of a variant, and those that have the reward conversion."""

    trials: int
    successes: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """(variant, weight, floor) in millionths, in the order of the spec, and the evidence."""

    arms: tuple[tuple[str, int, int], ...]
    evidence: Evidence


def propose(experiment: Experiment, rewards: Mapping[str, Reward]) -> Proposal:
    """Return Thompson weights from mature rewards.

    Parameters
    ----------
    experiment
        A bandit whose reward is a conversion metric.
    rewards
        Per variant; a variant without mature units counts as Beta(1, 1).

    Raises
    ------
    ValueError
        The experiment is not a bandit, its reward is not a conversion, or a reward belongs to a
        variant it does not have.

    Notes
    -----
    The expected share of a variant under Thompson sampling is P(best); serving that share by hash
    is Thompson sampling for a whole batch, without a draw per unit. Weights are
    ``floor + (1 - K floor) P(best)``.

    References
    ----------
    Chapelle, Li (2011), "An empirical evaluation of Thompson sampling", section 3.
    """
    policy = experiment.bandit
    if policy is None:
        raise ValueError(f"{experiment.key} is not a bandit")
    metric = experiment.metric(policy.reward)
    if metric.kind != "conversion":
        raise ValueError(f"the reward {metric.key} of {experiment.key} is not a conversion")
    keys = tuple(variant.key for variant in experiment.variants)
    if unknown := set(rewards) - set(keys):
        raise ValueError(f"rewards of variants that {experiment.key} does not have: {unknown}")
    facts = [rewards.get(key, Reward(0, 0)) for key in keys]
    best = probability_best(
        [BetaPosterior.of(trials=fact.trials, successes=fact.successes) for fact in facts],
        direction=metric.direction,
    ).tolist()
    shown = apportion(best, total=MILLION)
    return Proposal(
        arms=tuple(
            (key, weight, policy.floor)
            for key, weight in zip(keys, floored(best, floor=policy.floor), strict=True)
        ),
        evidence=Evidence(
            reward=metric.key,
            direction=metric.direction,
            arms=tuple(
                ArmEvidence(key, fact.trials, fact.successes, millionths)
                for key, fact, millionths in zip(keys, facts, shown, strict=True)
            ),
        ),
    )
