"""A recorded look read back: its verdict, its money, and the moments they were made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, affine
from klartext.analysis.look import MONEY_FROM_MARGIN
from klartext.analysis.moments import Moments
from klartext.analysis.result import Number, Verdict


@dataclass(frozen=True, slots=True)
class Figures:
    """The money of one treatment as a look recorded it, see `klartext.analysis.result`.

    ``margin``, ``incremental_cost``, ``cost``, ``net_benefit`` and ``interval`` are those of the
    window view; ``units``, ``persistence``, ``fixed_cost``, ``outlook`` and ``outlook_interval``
    those of the decision view. ``mature_share`` is the part of exposed units that is mature.
    """

    variant: str
    mature_share: float
    margin: Number
    incremental_cost: Number
    cost: Number
    net_benefit: Number
    interval: ConfidenceSet
    units: float
    persistence: float
    fixed_cost: float
    outlook: Number
    outlook_interval: ConfidenceSet

    def times(self, rate: float) -> Figures:
        """Return them in another currency, of which one unit of theirs is ``rate``."""

        def money(value: Number) -> Number:
            return value if isinstance(value, NotEstimable) else rate * value

        return replace(
            self,
            margin=money(self.margin),
            incremental_cost=money(self.incremental_cost),
            cost=money(self.cost),
            net_benefit=money(self.net_benefit),
            interval=affine(self.interval, scale=rate, shift=0.0),
            fixed_cost=rate * self.fixed_cost,
            outlook=money(self.outlook),
            outlook_interval=affine(self.outlook_interval, scale=rate, shift=0.0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RecordedLook:
    """What ``decide`` or ``watch`` recorded: the verdict, when, on which facts and which text."""

    number: int
    taken_at: datetime
    version: int
    cutoff: datetime
    verdict: Verdict
    rule: str
    variant: str | None
    registered: bool
    figures: tuple[Figures, ...]
    moments: Mapping[str, Moments]

    def of(self, variant: str) -> Figures:
        """Return the figures of a treatment.

        Raises
        ------
        KeyError
            The look has none of it.
        """
        for figures in self.figures:
            if figures.variant == variant:
                return figures
        raise KeyError(variant)

    def times(self, rate: float) -> RecordedLook:
        """Return the look in another currency, of which one unit of its own is ``rate``."""
        return replace(
            self,
            figures=tuple(one.times(rate) for one in self.figures),
            moments={variant: _times(one, rate) for variant, one in self.moments.items()},
        )


def read_look(result: str, moments: str, *, number: int, taken_at: datetime) -> RecordedLook:
    """Return a look from its two stored documents.

    Parameters
    ----------
    result
        JSON of the analysis, see `klartext.analysis.document.to_json`.
    moments
        JSON of the moments, see `klartext.analysis.document.moments_to_json`.
    number, taken_at
        Of the look.

    Raises
    ------
    ValueError
        They are not what a look records.
    """
    try:
        told: dict[str, Any] = json.loads(result)
        kept: dict[str, Any] = json.loads(moments)["variants"]
        decision = told["decision"]
        level = 1 - told["alpha"]
        mature = {
            count["variant"]: count["mature"] / count["exposed"] if count["exposed"] else 0.0
            for count in told["counts"]
        }
        return RecordedLook(
            number=number,
            taken_at=taken_at,
            version=told["version"],
            cutoff=datetime.fromisoformat(told["watermark"]["cutoff"]),
            verdict=decision["verdict"],
            rule=decision["rule"],
            variant=decision["variant"],
            registered=told["registered"],
            figures=tuple(_figures(one, level, mature) for one in told["by_variant"]),
            moments={variant: _moments(one) for variant, one in kept.items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"look {number} cannot be read back: {error!r}") from error


def _figures(treatment: dict[str, Any], level: float, mature: Mapping[str, float]) -> Figures:
    outlook = treatment["outlook"]
    return Figures(
        variant=treatment["variant"],
        mature_share=mature[treatment["variant"]],
        margin=_number(treatment, "incremental_margin"),
        incremental_cost=_number(treatment, "incremental_cost"),
        cost=_number(treatment, "cost"),
        net_benefit=_number(treatment, "net_benefit"),
        interval=_region(treatment, "net_benefit_interval", level),
        units=float(outlook["units"]),
        persistence=float(outlook["persistence"]),
        fixed_cost=float(outlook["fixed_cost"]),
        outlook=_number(outlook, "net_benefit"),
        outlook_interval=_region(outlook, "net_benefit_interval", level),
    )


def _number(document: dict[str, Any], field: str) -> Number:
    value = document[field]
    return _reason(document, field) if value is None else float(value)


def _region(document: dict[str, Any], field: str, level: float) -> ConfidenceSet:
    value = document[field]
    if value is None:
        return _reason(document, field)
    lower, upper = value
    return Interval(float(lower), float(upper), level)


def _reason(document: dict[str, Any], field: str) -> NotEstimable:
    reason = document["reason"][field]
    return NotEstimable(reason["code"], reason["detail"])


def _moments(kept: dict[str, Any]) -> Moments:
    columns, n = tuple(kept["columns"]), int(kept["n"])
    if "reason" in kept:
        k = len(columns)
        unknown = np.full(k, np.nan)
        missing = NotEstimable(kept["reason"], "the look could not compare this variant")
        return Moments(columns, n, unknown, np.full((k, k), np.nan), unknown,
                       np.zeros(k, dtype=np.int64), missing=missing)  # fmt: skip
    return Moments(
        columns,
        n,
        np.asarray(kept["mean"], dtype=np.float64),
        np.asarray(kept["m2"], dtype=np.float64),
        np.asarray(kept["m3"], dtype=np.float64),
        np.asarray(kept["nonzero"], dtype=np.int64),
    )


def _times(moments: Moments, rate: float) -> Moments:
    factors = np.array([rate if name in MONEY_FROM_MARGIN else 1.0 for name in moments.columns])
    return replace(
        moments,
        mean=moments.mean * factors,
        m2=moments.m2 * np.outer(factors, factors),
        m3=moments.m3 * factors**3,
    )
