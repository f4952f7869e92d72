"""Coverage at one look: how often a 95 % set holds the truth, and on which side it misses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.calibrate import draws
from benchmarks.calibrate.draws import Population
from benchmarks.calibrate.judgement import Row
from klartext.analysis import means, proportions, ratios, relative
from klartext.analysis.estimate import (
    ConfidenceSet,
    Estimate,
    Interval,
    NotEstimable,
    Unbounded,
)
from klartext.analysis.moments import Moments, Sample
from klartext.analysis.sequential import group, mixture, repeated

ALPHA = 0.05
Z = means.multiplier_of(ALPHA)
Judged = Literal["inside", "not below", "contrast"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Treatment and control of one replication."""

    treatment: Sample
    control: Sample
    nonzero: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Method:
    """One row per cell: its name, what it estimates, how it is judged, and the call."""

    name: str
    target: Literal["difference", "lift"]
    judged: Judged
    call: Callable[[Pair], ConfidenceSet]
    kinds: tuple[str, ...] = ("normal", "binary", "revenue")


def _interval(found: Estimate | NotEstimable) -> ConfidenceSet:
    return found if isinstance(found, NotEstimable) else found.interval


def _welch(pair: Pair) -> ConfidenceSet:
    return _interval(means.welch(pair.treatment, pair.control, alpha=ALPHA, single_look=True))


def _wald(pair: Pair) -> ConfidenceSet:
    return _interval(proportions.wald(pair.treatment, pair.control, alpha=ALPHA, single_look=True))


def _newcombe(pair: Pair) -> ConfidenceSet:
    found = proportions.newcombe(pair.treatment, pair.control, alpha=ALPHA, single_look=True)
    return _interval(found)


def _lift(pair: Pair) -> ConfidenceSet:
    return relative.lift(pair.treatment, pair.control, multiplier=Z, level=1 - ALPHA)[1]


def _fieller(pair: Pair) -> ConfidenceSet:
    return relative.fieller(pair.treatment, pair.control, multiplier=Z, level=1 - ALPHA)[1]


def _planned_n(pair: Pair) -> int:
    return pair.treatment.n + pair.control.n


def _anytime(pair: Pair) -> ConfidenceSet:
    found = mixture.anytime(
        pair.treatment,
        pair.control,
        alpha=ALPHA,
        planned_n=_planned_n(pair),
        nonzero=pair.nonzero,
    )
    return _interval(found)


def _anytime_lift(pair: Pair) -> ConfidenceSet:
    found = mixture.anytime(
        pair.treatment,
        pair.control,
        alpha=ALPHA,
        planned_n=_planned_n(pair),
        nonzero=pair.nonzero,
    )
    return found if isinstance(found, NotEstimable) else found.relative_interval


_DESIGN = group.Design("obrien_fleming", ALPHA, 2, (0.25, 0.5, 0.75, 1.0))
_LOOKS = tuple(group.Look(k + 1, t, t) for k, t in enumerate(_DESIGN.fractions))


def _repeated(pair: Pair) -> ConfidenceSet:
    refused = repeated.burn_in(pair.treatment, pair.control, nonzero=pair.nonzero)
    if refused is not None:
        return refused
    value, variance = means.difference(pair.treatment, pair.control)
    half = group.multipliers(_DESIGN, _LOOKS)[-1] * math.sqrt(variance)
    return Interval(value - half, value + half, 1 - ALPHA)


METHODS = (
    Method("welch", "difference", "inside", _welch, ("normal", "revenue")),
    Method("wald", "difference", "inside", _wald, ("binary",)),
    Method("newcombe", "difference", "not below", _newcombe, ("binary",)),
    Method("lift (log ratio, Fieller when weak)", "lift", "inside", _lift),
    Method("lift, Fieller", "lift", "not below", _fieller),
    Method("anytime", "difference", "not below", _anytime),
    Method("anytime lift", "lift", "not below", _anytime_lift),
    Method("repeated interval, last of 4 looks", "difference", "not below", _repeated),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Two populations and their sizes."""

    name: str
    treatment: Population
    control: Population
    sizes: tuple[int, int]

    def run(self, rng: np.random.Generator, replications: int) -> Iterator[Row]:
        """Yield one row per method."""
        one = draws.draw(self.treatment, np.array([self.sizes[0]], float), replications, rng)
        other = draws.draw(self.control, np.array([self.sizes[1]], float), replications, rng)
        pairs = [
            Pair(one.sample(r, 0), other.sample(r, 0), (one.outcomes(r, 0), other.outcomes(r, 0)))
            for r in range(replications)
        ]
        truth = {
            "difference": self.treatment.mean - self.control.mean,
            "lift": self.treatment.mean / self.control.mean - 1,
        }
        for method in METHODS:
            if self.treatment.kind in method.kinds:
                regions = [method.call(pair) for pair in pairs]
                yield _row(
                    "coverage",
                    self.name,
                    (method.name, method.judged),
                    regions,
                    truth[method.target],
                )


def _row(
    section: str,
    cell: str,
    method: tuple[str, Judged],
    regions: list[ConfidenceSet],
    truth: float,
) -> Row:
    sides = [side(region, truth) for region in regions if not isinstance(region, NotEstimable)]
    return Row(
        section=section,
        cell=cell,
        method=method[0],
        judged=method[1],
        nominal=1 - ALPHA,
        hits=sides.count(0),
        low=sides.count(-1),
        high=sides.count(1),
        read=len(sides),
        replications=len(regions),
    )


def side(region: Interval | Unbounded, truth: float) -> int:
    """0 when the set holds the truth, -1 when the truth lies below it, 1 when above."""
    match region:
        case Interval(lower, upper, _):
            return (truth > upper) - (truth < lower)
        case Unbounded("rays", (lower, upper), _):  # in the gap: on the side of the nearer ray
            inside = lower < truth < upper
            return 0 if not inside else (1 if truth - lower < upper - truth else -1)
        case Unbounded("left", (bound,), _):
            return int(truth > bound)
        case Unbounded("right", (bound,), _):
            return -int(truth < bound)
        case _:
            return 0


SPLITS = {"50/50": (0.5, 0.5), "95/5": (0.95, 0.05), "5/95": (0.05, 0.95)}
"""Shares of treatment and control."""


def _cells() -> Iterator[Cell]:
    for name, shares in SPLITS.items():
        small = min(shares)
        sizes = {
            n: tuple(round(n / small * share) for share in shares) for n in (500, 5000, 60_000)
        }
        yield Cell(
            f"normal, effect 5 %, {name}, {500:,} in the smaller",
            Population("normal", 10.5, 6.0),
            Population("normal", 10.0, 4.0),
            (sizes[500][0], sizes[500][1]),
        )
        yield Cell(
            f"0/1, 20 % to 22 %, {name}, {5000:,} in the smaller",
            Population("binary", rate=0.22),
            Population("binary", rate=0.20),
            (sizes[5000][0], sizes[5000][1]),
        )
        yield Cell(
            f"2 % buy for lognormal (sigma 1) amounts, +10 %, {name}, {60_000:,} in the smaller",
            Population("revenue", 3.0, 1.0, 0.022),
            Population("revenue", 3.0, 1.0, 0.020),
            (sizes[60_000][0], sizes[60_000][1]),
        )
    yield Cell(
        "heavy tail: 30 % buy for lognormal (sigma 1.5) amounts, no effect, 50/50, 50,000 each",
        Population("revenue", 3.0, 1.5, 0.3),
        Population("revenue", 3.0, 1.5, 0.3),
        (50_000, 50_000),
    )
    yield Cell(
        "rare: 0/1, 1 % and 1 %, 50/50, 20,000 each",
        Population("binary", rate=0.01),
        Population("binary", rate=0.01),
        (20_000, 20_000),
    )


CELLS = tuple(_cells())


@dataclass(frozen=True, slots=True)
class RatioMethod:
    """A confidence set of a ratio of two correlated estimates."""

    name: str
    judged: Judged
    call: Callable[[float, float, float, float, float], ConfidenceSet]


def _ratio_fieller(a: float, b: float, var_a: float, var_b: float, cov: float) -> ConfidenceSet:
    return ratios.fieller(a, b, var_a, var_b, cov, multiplier=Z, level=1 - ALPHA)


def delta(a: float, b: float, var_a: float, var_b: float, cov: float) -> Interval:
    """Return what the delta method says of a ratio, for contrast."""
    ratio = a / b
    half = Z * math.sqrt(max(0.0, var_a - 2 * ratio * cov + ratio * ratio * var_b)) / abs(b)
    return Interval(ratio - half, ratio + half, 1 - ALPHA)


@dataclass(frozen=True, slots=True)
class RatioCell:
    """A ratio of column means of one variant, or of the differences of two variants.

    ``effect`` None: revenue per order inside one variant. Else: incremental margin over
    incremental cost, with these differences, sd 12 and 4, correlation 0.6.
    """

    name: str
    effect: tuple[float, float] | None
    n: int
    approximate: Judged

    def run(self, rng: np.random.Generator, replications: int) -> Iterator[Row]:
        """Yield one row per method."""
        if self.effect is None:
            truth, variants = 10.0, [draws.orders(self.n, replications, rng)]
        else:
            truth = self.effect[0] / self.effect[1]
            treated = (20 + self.effect[0], 2 + self.effect[1])
            variants = [
                draws.margin_and_cost(mean, self.n, replications, rng)
                for mean in (treated, (20.0, 2.0))
            ]
        numbers = [_contrast(*moments) for moments in zip(*variants, strict=True)]
        methods = (
            RatioMethod("Fieller", "not below", _ratio_fieller),
            RatioMethod("delta", self.approximate, delta),
        )
        for method in methods:
            regions = [method.call(*five) for five in numbers]
            yield _row("ratios", self.name, (method.name, method.judged), regions, truth)


def _contrast(
    treatment: Moments, control: Moments | None = None
) -> tuple[float, float, float, float, float]:
    """Means of numerator and denominator, or their differences, with covariance matrix."""
    margin, cost = draws.PAIR
    found = []
    for moments in (treatment, control):
        if moments is not None:
            one, other = moments.sample(margin), moments.sample(cost)
            found.append(
                (
                    *(one.mean, other.mean, one.variance_of_mean, other.variance_of_mean),
                    moments.covariance(margin, cost) / moments.n,
                )
            )
    if len(found) == 1:
        return found[0]
    a, b = found
    return (a[0] - b[0], a[1] - b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4])


RATIO_CELLS = (
    RatioCell("revenue per order, 3,000 units", None, 3000, "inside"),
    RatioCell("margin per cost, strong: cost 20 standard errors", (5.0, 2.83), 800, "inside"),
    RatioCell("margin per cost, weak: cost 2 standard errors", (0.5, 0.283), 800, "contrast"),
    RatioCell(
        "margin per cost, very weak: cost half a standard error", (1.5, 0.07), 800, "contrast"
    ),
)
