"""Percentile caps: resolved from data once, then frozen for good, with what they came from.

A cap that moved with the data would make every look measure something else. So `start` freezes
what the events before the test say, else the first recorded look that has seen enough units does;
reading never freezes anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Literal, TypeAlias

import sqlalchemy as sa

from klartext.experiments import audit
from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import Experiment, Json
from klartext.experiments.tables import metric_caps

Source: TypeAlias = Literal["pre_period", "burn_in"]


@dataclass(frozen=True, slots=True)
class PercentileCap:
    """The cap of one metric.

    Parameters
    ----------
    metric
        Its key.
    percentile
        A fraction.
    value
        The cap in the metric's unit; None while there are too few units.
    source
        ``pre_period``: events before the start; ``burn_in``: mature units of all variants.
    units
        Units with a value above 0 that it comes from, or that there are so far.
    needed
        How many are asked for.
    evidence
        What it was computed from.
    frozen_at
        None while it is provisional: the next recorded look may freeze another value.
    """

    metric: str
    percentile: Decimal
    value: Decimal | None
    source: Source
    units: int
    needed: int
    evidence: Mapping[str, Json]
    frozen_at: datetime | None = None


def needed(percentile: Decimal) -> int:
    """Return how many units with a value a percentile asks for: ten beyond it.

    Examples
    --------
    >>> needed(Decimal("0.99"))
    1000
    """
    return -int(-10 // (1 - percentile))


def frozen(connection: sa.Connection, key: str) -> dict[str, PercentileCap]:
    """Return the frozen caps of an experiment by metric."""
    query = sa.select(metric_caps).where(metric_caps.c.experiment == key)
    return {
        row.metric: PercentileCap(
            metric=row.metric,
            percentile=row.percentile,
            value=row.value,
            source=row.source,
            units=row.units,
            needed=needed(row.percentile),
            evidence=json.loads(row.evidence),
            frozen_at=row.frozen_at,
        )
        for row in connection.execute(query.order_by(metric_caps.c.metric))
    }


def as_frozen(cap: PercentileCap, now: datetime) -> PercentileCap:
    """Return the cap as `freeze` stores it."""
    if cap.value is None or cap.frozen_at is not None:
        return cap
    return replace(cap, frozen_at=now)


def freeze(
    connection: sa.Connection,
    key: str,
    caps: Iterable[PercentileCap],
    *,
    actor: str,
    now: datetime,
) -> tuple[PercentileCap, ...]:
    """Store the caps that have a value and are not frozen yet, and audit each.

    Raises
    ------
    ConflictError
        Somebody froze one of them meanwhile.
    """
    known = frozen(connection, key)
    stored = []
    for cap in caps:
        if cap.value is None or cap.frozen_at is not None:
            continue
        if cap.metric in known:
            raise ConflictError(
                f"the cap of {cap.metric} in {key} was frozen meanwhile. Try again."
            )
        evidence = audit.canonical(dict(cap.evidence))
        digest = sha256(evidence.encode()).hexdigest()
        connection.execute(
            sa.insert(metric_caps).values(
                experiment=key,
                metric=cap.metric,
                percentile=cap.percentile,
                value=cap.value,
                source=cap.source,
                units=cap.units,
                evidence=evidence,
                sha256=digest,
                frozen_at=now,
                actor=actor,
            )
        )
        audit.record(
            connection,
            now=now,
            actor=actor,
            action="freeze-cap",
            subject=key,
            detail={
                "metric": cap.metric,
                "value": str(cap.value),
                "source": cap.source,
                "evidence_sha256": digest,
            },
        )
        stored.append(replace(cap, frozen_at=now))
    return tuple(stored)


def in_force(experiment: Experiment, caps: Mapping[str, PercentileCap]) -> Experiment:
    """Return the experiment with the caps that have a value set on their metrics."""
    return replace(
        experiment,
        metrics=tuple(
            replace(metric, cap=caps[metric.key].value) if metric.key in caps else metric
            for metric in experiment.metrics
        ),
    )
