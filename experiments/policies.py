"""Policy versions: the immutable weights a bandit serves, their evidence, and their hash."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

from klartext.experiments.assignment import MILLION
from klartext.experiments.watermark import Watermark

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """Mature facts of one variant behind a policy: units, units with the reward, P(best).

    ``best`` is the posterior probability of being the best variant, in millionths.
    """

    variant: str
    trials: int
    successes: int
    best: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a policy has its weights: the reward metric, its goal, and the facts per variant."""

    reward: str
    direction: Literal["increase", "decrease"]
    arms: tuple[ArmEvidence, ...]

    @property
    def counts(self) -> tuple[tuple[str, int, int], ...]:
        """(variant, trials, successes): two updates with the same counts are the same update."""
        return tuple((arm.variant, arm.trials, arm.successes) for arm in self.arms)


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """Weights that were served from ``published_at`` until the next version; never changed.

    Parameters
    ----------
    experiment, version
        Key, and number from 1.
    parent
        The version it replaced; None for the first.
    weights
        (variant, millionths) in the order of the spec; they sum to 1,000,000.
    floors
        (variant, millionths) that each weight contains at least.
    watermark
        Facts the evidence was read at; None for start weights.
    evidence
        None for start weights.
    published_at
        Aware UTC instant.
    sha256
        Of all the above but the instant: integers and names only, so every platform agrees.
    """

    experiment: str
    version: int
    parent: int | None
    weights: tuple[tuple[str, int], ...]
    floors: tuple[tuple[str, int], ...]
    watermark: Watermark | None
    evidence: Evidence | None
    published_at: datetime
    sha256: str

    @property
    def variants(self) -> tuple[str, ...]:
        """Keys in the order of the weights."""
        return tuple(variant for variant, _ in self.weights)

    def intact(self) -> bool:
        """Whether the content still has the hash it was published with."""
        return self.sha256 == _digest(self)


def compose(
    experiment: str,
    arms: Iterable[tuple[str, int, int]],
    *,
    parent: PolicyVersion | None,
    basis: tuple[Watermark, Evidence] | None,
    now: datetime,
) -> PolicyVersion:
    """Return the next policy version of an experiment.

    Parameters
    ----------
    experiment
        Key.
    arms
        (variant, weight, floor) in millionths, in the order of the spec.
    parent
        The version in force; None when this is the first.
    basis
        The facts behind the weights; None for start weights.
    now
        When it is published.

    Raises
    ------
    ValueError
        Weights do not sum to 1,000,000, or one falls below its floor.
    """
    rows = tuple(arms)
    weights = tuple((variant, weight) for variant, weight, _ in rows)
    if sum(weight for _, weight in weights) != MILLION:
        raise ValueError(f"weights {weights} must sum to {MILLION}")
    if not all(0 <= floor <= weight for _, weight, floor in rows):
        raise ValueError(f"each weight must be at least its floor in {rows}")
    policy = PolicyVersion(
        experiment=experiment,
        version=parent.version + 1 if parent else 1,
        parent=parent.version if parent else None,
        weights=weights,
        floors=tuple((variant, floor) for variant, _, floor in rows),
        watermark=basis[0] if basis else None,
        evidence=basis[1] if basis else None,
        published_at=now,
        sha256="",
    )
    return replace(policy, sha256=_digest(policy))


def _digest(policy: PolicyVersion) -> str:
    """SHA-256 of compact JSON of integers and names, fields in the order of `PolicyVersion`."""
    watermark = policy.watermark
    evidence = policy.evidence
    content = [
        "klartext/policy/v1",
        policy.experiment,
        policy.version,
        policy.parent,
        policy.weights,
        policy.floors,
        watermark and [watermark.batch, (watermark.cutoff - _EPOCH) // timedelta(microseconds=1)],
        evidence
        and [
            evidence.reward,
            evidence.direction,
            [[a.variant, a.trials, a.successes, a.best] for a in evidence.arms],
        ],
    ]
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()
