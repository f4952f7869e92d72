"""Splits: by which weights units were given their variants, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from klartext.experiments import policy_store, registry
from klartext.experiments.registry import Registered
from klartext.experiments.spec.canonical import restore


@dataclass(frozen=True, slots=True)
class Split:
    """Weights in force from ``version`` on, since ``since``.

    ``version`` is what exposures carry as ``policy_version``: the version of the spec, for a
    bandit that of the policy. ``weights`` are millionths per variant.
    """

    version: int
    since: datetime
    weights: Mapping[str, int]


def splits(connection: sa.Connection, registered: Registered) -> tuple[Split, ...]:
    """Return the splits of a started experiment, oldest first; none before it was started.

    Versions with the same weights in a row are one split: pooling them is right.
    """
    if registered.experiment.bandit is not None:
        found = _policies(connection, registered)
    else:
        found = _phases(connection, registered)
    return tuple(_moved(found))


def _phases(connection: sa.Connection, registered: Registered) -> Iterator[Split]:
    started = registered.started_at
    if started is None:
        return
    known = [
        version
        for version in registry.history(connection, registered.key)
        if version.version <= registered.version
    ]
    before = [version.version for version in known if version.recorded_at <= started]
    for version in known:
        if version.version >= max(before):
            weights = {one.key: one.weight for one in restore(version.canonical).variants}
            yield Split(version.version, max(version.recorded_at, started), weights)


def _policies(connection: sa.Connection, registered: Registered) -> Iterator[Split]:
    keys = tuple(variant.key for variant in registered.experiment.variants)
    for policy in policy_store.history(connection, registered.key):
        if policy.variants == keys:
            yield Split(policy.version, policy.published_at, dict(policy.weights))


def _moved(found: Iterable[Split]) -> Iterator[Split]:
    weights: Mapping[str, int] | None = None
    for split in found:
        if split.weights != weights:
            yield split
        weights = split.weights
