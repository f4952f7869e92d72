"""Random shops: margin, cost and conversions per unit, drawn as the sums that moments are of.

A unit buys with probability ``rate`` for a lognormal amount A; else nothing. Its AI cost is
``per_unit``, plus ``per_order`` and a ``share`` of the amount when it buys, so that cost and margin
are correlated. Every column is ``g + (b + a A) B`` with B = 1 for buyers: moments follow exactly
from the number of buyers and the sums of their amounts, squares and cubes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from benchmarks.calibrate import draws
from benchmarks.calibrate.draws import Population
from klartext.analysis.columns import value_columns
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.readout import Readout
from klartext.analysis.result import VariantCounts
from klartext.experiments.experiment import (
    MILLION,
    Approvals,
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    DecisionRule,
    Experiment,
    Inference,
    Metric,
    Plan,
    Rollout,
    Variant,
)
from klartext.experiments.watermark import Watermark

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
DAY = timedelta(days=1)
WAIT = timedelta(hours=1)
MARGIN = 0.4
PERSISTENCE = 0.7
UNITS_PER_YEAR = 500_000


@dataclass(frozen=True, slots=True)
class Shop:
    """What the units of one variant do, and what their AI costs."""

    rate: float
    location: float = 3.0
    scale: float = 1.0
    per_unit: float = 0.0
    per_order: float = 0.0
    share: float = 0.0

    @property
    def amount(self) -> float:
        """Mean amount of a buyer."""
        return Population("revenue", self.location, self.scale).mean

    @property
    def margin(self) -> float:
        """Mean margin per unit."""
        return MARGIN * self.rate * self.amount

    @property
    def cost(self) -> float:
        """Mean cost per unit."""
        return self.per_unit + self.rate * (self.per_order + self.share * self.amount)

    @property
    def outlook(self) -> float:
        """Mean of what a decision counts per unit."""
        return PERSISTENCE * self.margin - self.cost

    def worth(self, outlook: float) -> Shop:
        """Return the shop at the rate of buyers that makes ``outlook`` per unit."""
        each = (PERSISTENCE * MARGIN - self.share) * self.amount - self.per_order
        return replace(self, rate=(outlook + self.per_unit) / each)


def trial(  # noqa: PLR0913 - what the cells vary
    shares: tuple[float, ...],
    units: int,
    *,
    looks: int,
    inference: Inference,
    decision: DecisionRule,
    monthly: float = 0.0,
) -> Experiment:
    """Return the experiment: control first, ``units`` planned over ``looks`` days."""
    keys = ("control", *(f"ai_{number}" for number in range(1, len(shares))))
    planned = tuple(Decimal(k + 1) / 5 for k in range(5))
    lines = tuple(
        CostLine("monitoring", "month", Assumption(Decimal(str(monthly))), key)
        for key in keys[1:]
        if monthly
    )
    return Experiment(
        key="shop",
        title="Shop",
        owner="lena.vogt",
        hypothesis="It pays.",
        kind="ab",
        unit="customer",
        registration="prospective",
        assignment="klartext",
        exposure="posted",
        layer="shop",
        traffic=MILLION,
        audience={},
        variants=tuple(
            Variant(key, round(MILLION * share), {})
            for key, share in zip(keys, shares, strict=True)
        ),
        control="control",
        metrics=(
            Metric("conversion", "conversion", "purchase", None, WAIT, "increase"),
            Metric("revenue", "mean", "purchase", "value", WAIT, "increase"),
        ),
        guardrails=(),
        value=(ContributionMargin("revenue", Assumption(Decimal(str(MARGIN)))),),
        costs=Costs(None, None, lines),
        plan=Plan(
            START,
            START + looks * DAY,
            units,
            {},
            planned if inference.mode == "group_sequential" else (),
        ),
        inference=inference,
        decision=decision,
        rollout=Rollout(
            *(Assumption(Decimal(str(one))) for one in (UNITS_PER_YEAR, 1, PERSISTENCE, 0.1))
        ),
        bandit=None,
        currency="EUR",
        timezone="UTC",
        lateness=timedelta(0),
    )


def inference_of(mode: str) -> Inference:
    """Return ``anytime``, ``fixed`` or ``group_sequential`` (O'Brien-Fleming), alpha 5 %."""
    alpha, prior = Decimal("0.05"), Decimal("0.1")
    if mode == "group_sequential":
        return Inference("group_sequential", alpha, prior, "obrien_fleming")
    return Inference("fixed" if mode == "fixed" else "anytime", alpha, prior)


PERMISSIVE = DecisionRule(
    Decimal(0), Decimal(0), Decimal(10**12), timedelta(0), Approvals(("cfo",), 365 * DAY)
)
"""Asks for nothing but the bounds, so that no other condition hides an error of theirs."""


@dataclass(frozen=True, slots=True, eq=False)
class Sales:
    """One variant at each look, for all replications: ``(replications, looks)``, cumulative."""

    shop: Shop
    n: FloatArray
    buyers: FloatArray
    amounts: tuple[FloatArray, FloatArray, FloatArray]

    def moments(self, spec: Experiment, replication: int, look: int) -> Moments:
        """Return the moments of the unit table's columns."""
        at = (replication, look)
        n, count = int(self.n[look]), float(self.buyers[at])
        one, two, three = (float(each[at]) for each in self.amounts)
        columns = value_columns(spec)
        g, b, a = _features(self.shop) @ np.array([_WEIGHTS[name] for name in columns]).T
        cross = np.outer(b, a)
        return Moments.about(
            columns,
            n,
            g,
            sums=b * count + a * one,
            products=np.outer(b, b) * count + (cross + cross.T) * one + np.outer(a, a) * two,
            cubes=b**3 * count + 3 * b * b * a * one + 3 * b * a * a * two + a**3 * three,
            nonzero=np.where(g != 0, n, round(count)).astype(np.int64),
        )

    def outlook(self) -> tuple[FloatArray, FloatArray]:
        """Return mean and squared standard error of the column ``outlook``, for all at once."""
        g, b, a = _features(self.shop) @ np.array(_WEIGHTS["outlook"])
        mean = (b * self.buyers + a * self.amounts[0]) / self.n
        square = (
            b * b * self.buyers + 2 * a * b * self.amounts[0] + a * a * self.amounts[1]
        ) / self.n
        return g + mean, (square - mean**2) / (self.n - 1)


_WEIGHTS: Mapping[str, tuple[float, float, float]] = {
    "conversion": (1.0, 0.0, 0.0),
    "revenue": (0.0, 1.0, 0.0),
    "margin": (0.0, MARGIN, 0.0),
    "cost": (0.0, 0.0, 1.0),
    "net": (0.0, MARGIN, -1.0),
    "outlook": (0.0, PERSISTENCE * MARGIN, -1.0),
    "cost_high": (0.0, 0.0, 1.0),
    "outlook_high": (0.0, PERSISTENCE * MARGIN, -1.0),
}
"""Columns as sums of conversions, revenue and cost."""


def _features(shop: Shop) -> FloatArray:
    """Return g, b and a (rows) of conversions, revenue and cost: ``(3, 3)``."""
    return np.array(
        [
            [0.0, 0.0, shop.per_unit],
            [1.0, 0.0, shop.per_order],
            [0.0, 1.0, shop.share],
        ]
    )


def sell(shop: Shop, steps: FloatArray, replications: int, rng: np.random.Generator) -> Sales:
    """Draw one variant that gains ``steps[k]`` units before look k."""
    buyers = rng.binomial(steps.astype(np.int64), shop.rate, (replications, len(steps)))
    amounts = draws.amounts(Population("revenue", shop.location, shop.scale), buyers, rng)
    return Sales(shop, np.cumsum(steps), buyers.cumsum(axis=1).astype(np.float64), amounts)


def readout(spec: Experiment, moments: Mapping[str, Moments], *, day: int) -> Readout:
    """Return the readout ``day`` days after the start: everybody who came is mature."""
    sizes = {key: found.n for key, found in moments.items()}
    return Readout(
        watermark=Watermark(day, START + day * DAY + WAIT),
        moments=moments,
        counts=tuple(
            VariantCounts(one.key, one.weight, sizes[one.key], sizes[one.key], 0)
            for one in spec.variants
        ),
        events={},
        all_units=sizes,
        all_events={},
        first_exposure=START,
        last_exposure=START + day * DAY,
        usage=(),
        highest_price=None,
        amounts=(),
        strangers=0,
    )
