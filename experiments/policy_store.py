"""Policy versions in the state database: publish, read, and the start weights of a bandit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from klartext.experiments import audit, tables
from klartext.experiments.errors import ConflictError, KlartextError, NotFoundError
from klartext.experiments.experiment import Experiment
from klartext.experiments.policies import ArmEvidence, Evidence, PolicyVersion, compose
from klartext.experiments.watermark import Watermark

_versions = tables.policy_versions


class TamperedPolicyError(KlartextError):
    """A stored policy no longer has the hash it was published with."""


def publish(connection: sa.Connection, policy: PolicyVersion, *, actor: str) -> None:
    """Store a policy version and record it in the audit log.

    Raises
    ------
    ConflictError
        Somebody else published that version first.
    """
    newest = latest(connection, policy.experiment)
    if (newest.version if newest else None) != policy.parent:
        raise ConflictError(
            f"policy {policy.version} of {policy.experiment} builds on version {policy.parent}, "
            f"but version {newest.version if newest else None} is in force; run the update again"
        )
    connection.execute(
        _versions.insert().values(
            experiment=policy.experiment,
            version=policy.version,
            parent=policy.parent,
            weights=json.dumps(dict(policy.weights)),
            floors=json.dumps(dict(policy.floors)),
            watermark_batch=policy.watermark.batch if policy.watermark else 0,
            watermark_cutoff=policy.watermark.cutoff if policy.watermark else None,
            evidence=json.dumps(_evidence_document(policy.evidence)),
            published_at=policy.published_at,
            sha256=policy.sha256,
        )
    )
    audit.record(
        connection,
        now=policy.published_at,
        actor=actor,
        action="policy.publish",
        subject=policy.experiment,
        detail={
            "version": policy.version,
            "parent": policy.parent,
            "weights": dict(policy.weights),
            "sha256": policy.sha256,
        },
    )


def latest(connection: sa.Connection, experiment: str) -> PolicyVersion | None:
    """Return the policy in force, or None when none was published.

    Raises
    ------
    TamperedPolicyError
        The stored content does not have its hash.
    """
    row = connection.execute(
        sa.select(_versions)
        .where(_versions.c.experiment == experiment)
        .order_by(_versions.c.version.desc())
        .limit(1)
    ).first()
    return None if row is None else _restore(row)


def load(connection: sa.Connection, experiment: str, version: int) -> PolicyVersion:
    """Return one version.

    Raises
    ------
    NotFoundError
        There is none.
    TamperedPolicyError
        The stored content does not have its hash.
    """
    row = connection.execute(
        sa.select(_versions).where(
            _versions.c.experiment == experiment, _versions.c.version == version
        )
    ).first()
    if row is None:
        raise NotFoundError(f"experiment {experiment} has no policy version {version}")
    return _restore(row)


def history(connection: sa.Connection, experiment: str) -> tuple[PolicyVersion, ...]:
    """Return all versions, oldest first.

    Raises
    ------
    TamperedPolicyError
        A stored content does not have its hash.
    """
    rows = connection.execute(
        sa.select(_versions)
        .where(_versions.c.experiment == experiment)
        .order_by(_versions.c.version)
    )
    return tuple(_restore(row) for row in rows)


def serves(policy: PolicyVersion, experiment: Experiment) -> bool:
    """Whether the policy belongs to the experiment as it is now.

    One that names other variants belongs to an earlier phase; start weights must be the spec's.
    """
    start = tuple((variant.key, variant.weight) for variant in experiment.variants)
    if policy.evidence is None:
        return policy.weights == start
    return policy.variants == tuple(key for key, _ in start)


def in_force(
    connection: sa.Connection, experiment: Experiment, *, actor: str, now: datetime
) -> PolicyVersion:
    """Return the policy to serve; publishes the spec's start weights when none `serves` it yet.

    Raises
    ------
    ValueError
        The experiment is not a bandit.
    """
    if experiment.bandit is None:
        raise ValueError(f"{experiment.key} is not a bandit")
    newest = latest(connection, experiment.key)
    if newest is not None and serves(newest, experiment):
        return newest
    floor = experiment.bandit.floor
    start = compose(
        experiment.key,
        (
            (variant.key, variant.weight, min(floor, variant.weight))
            for variant in experiment.variants
        ),
        parent=newest,
        basis=None,
        now=now,
    )
    publish(connection, start, actor=actor)
    return start


def _evidence_document(evidence: Evidence | None) -> dict[str, Any] | None:
    if evidence is None:
        return None
    return {
        "reward": evidence.reward,
        "direction": evidence.direction,
        "arms": [
            {
                "variant": arm.variant,
                "trials": arm.trials,
                "successes": arm.successes,
                "best": arm.best,
            }
            for arm in evidence.arms
        ],
    }


def _restore(row: sa.Row[Any]) -> PolicyVersion:
    policy = PolicyVersion(
        experiment=row.experiment,
        version=row.version,
        parent=row.parent,
        weights=_pairs(json.loads(row.weights)),
        floors=_pairs(json.loads(row.floors)),
        watermark=(
            None
            if row.watermark_cutoff is None
            else Watermark(row.watermark_batch, row.watermark_cutoff)
        ),
        evidence=_evidence(json.loads(row.evidence)),
        published_at=row.published_at,
        sha256=row.sha256,
    )
    if not policy.intact():
        raise TamperedPolicyError(
            f"policy {policy.version} of {policy.experiment} was changed after it was published: "
            f"its content does not have the hash {policy.sha256}"
        )
    return policy


def _pairs(document: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(document.items())


def _evidence(document: dict[str, Any] | None) -> Evidence | None:
    if document is None:
        return None
    arms: Iterable[dict[str, Any]] = document["arms"]
    return Evidence(
        reward=document["reward"],
        direction=document["direction"],
        arms=tuple(ArmEvidence(**arm) for arm in arms),
    )
