"""Coverage of ROI and cost per incremental conversion, as the window view reports them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from benchmarks.calibrate import shops
from benchmarks.calibrate.coverage import ALPHA, Judged, delta, side
from benchmarks.calibrate.judgement import Row
from benchmarks.calibrate.shops import Sales, Shop
from klartext.analysis import roi
from klartext.analysis.estimate import ConfidenceSet, NotEstimable, affine
from klartext.analysis.look import planned_look
from klartext.analysis.moments import Moments
from klartext.analysis.result import WindowView
from klartext.analysis.value import window_view
from klartext.experiments.experiment import Experiment

LOOKS = 20
Quantity = Literal["ROI", "cost per conversion"]
QUANTITIES: tuple[Quantity, ...] = ("ROI", "cost per conversion")


@dataclass(frozen=True, slots=True)
class Cell:
    """Two shops; ``weak`` names the quantities whose denominator is a few standard errors."""

    name: str
    treatment: Shop
    control: Shop
    shares: tuple[float, float]
    units: int
    weak: frozenset[Quantity] = frozenset()

    def truth(self, quantity: Quantity) -> float:
        """Return what the sets should hold."""
        cost = self.treatment.cost - self.control.cost
        if quantity == "ROI":
            return (self.treatment.margin - self.control.margin) / cost - 1
        return cost / (self.treatment.rate - self.control.rate)

    def run(self, rng: np.random.Generator, replications: int) -> Iterator[Row]:
        """Yield one row per quantity and method."""
        steps = [np.full(LOOKS, float(round(self.units * s / LOOKS))) for s in self.shares]
        one = shops.sell(self.treatment, steps[0], replications, rng)
        base = shops.sell(self.control, steps[1], replications, rng)
        fixed, anytime = (
            shops.trial(
                (self.shares[1], self.shares[0]),
                round(sum(float(each.sum()) for each in steps)),
                looks=LOOKS,
                inference=shops.inference_of(mode),
                decision=shops.PERMISSIVE,
            )
            for mode in ("fixed", "anytime")
        )
        last = [_view(fixed, one, base, r, LOOKS) for r in range(replications)]
        ratios = [_delta(fixed, one, base, r) for r in range(replications)]
        often = [
            [_view(anytime, one, base, r, look) for look in range(1, LOOKS + 1)]
            for r in range(replications)
        ]
        for quantity in QUANTITIES:
            truth = self.truth(quantity)
            exact: Judged = "not below" if quantity in self.weak else "inside"
            sides: dict[tuple[str, Judged], list[int | None]] = {
                ("Fieller, one look", exact): [
                    _side([_set(view, quantity)], truth) for view in last
                ],
                (f"anytime, all of {LOOKS} looks", "not below"): [
                    _side([_set(view, quantity) for view in views], truth) for views in often
                ],
                ("delta method, one look", "contrast"): [
                    _side([found[quantity]], truth) for found in ratios
                ],
            }
            for (name, judged), found in sides.items():
                answers = [each for each in found if each is not None]
                yield Row(
                    section="returns",
                    cell=self.name,
                    method=f"{quantity}: {name}",
                    judged=judged,
                    nominal=1 - ALPHA,
                    hits=answers.count(0),
                    low=answers.count(-1),
                    high=answers.count(1),
                    read=len(answers),
                    replications=replications,
                )


def _moments(
    spec: Experiment, one: Sales, base: Sales, replication: int, look: int
) -> tuple[Moments, Moments]:
    return one.moments(spec, replication, look - 1), base.moments(spec, replication, look - 1)


def _view(spec: Experiment, one: Sales, base: Sales, replication: int, look: int) -> WindowView:
    treated, control = _moments(spec, one, base, replication, look)
    (treatment,) = spec.treatments
    return window_view(
        spec,
        shops.readout(spec, {"control": control, treatment: treated}, day=look),
        (),
        treatment,
        months=Fraction(0),
        look=planned_look(spec, treatment, mature=treated.n + control.n),
    )


def _set(view: WindowView, quantity: Quantity) -> ConfidenceSet:
    if quantity == "ROI":
        return view.roi_interval
    return view.cost_per_incremental_conversion_interval


def _delta(
    spec: Experiment, one: Sales, base: Sales, replication: int
) -> dict[Quantity, ConfidenceSet]:
    """Return what the delta method would say; refused where the product refuses."""
    treated, control = _moments(spec, one, base, replication, LOOKS)
    found: dict[Quantity, ConfidenceSet] = {}
    parts: dict[Quantity, tuple[str, str, float]] = {
        "ROI": ("margin", "cost", -1.0),
        "cost per conversion": ("cost", "conversion", 0.0),
    }
    for quantity, (above, below, shift) in parts.items():
        each = roi.per_unit(treated, control, above, below)
        if isinstance(each, NotEstimable) or not each.other > 0:
            found[quantity] = NotEstimable("no-cost", "nothing to divide by")
            continue
        region = delta(each.one, each.other, each.var_one, each.var_other, each.covariance)
        found[quantity] = affine(region, scale=1.0, shift=shift)
    return found


def _side(regions: list[ConfidenceSet], truth: float) -> int | None:
    """0 when all sets hold the truth, else where it lay at the first that does not."""
    sides = [side(region, truth) for region in regions if not isinstance(region, NotEstimable)]
    return next((each for each in sides if each), 0) if sides else None


_BOTH = frozenset(QUANTITIES)
_PLAIN = Shop(0.10)

CELLS = (
    Cell(
        "strong: 3 points more buyers, 0.06 per unit and 0.80 per order, 50/50, 20,000 each",
        Shop(0.13, per_unit=0.06, per_order=0.8),
        _PLAIN,
        (0.5, 0.5),
        40_000,
    ),
    Cell(
        "correlated: cost is 0.02 per unit and a tenth of the amount, 50/50, 20,000 each",
        Shop(0.12, per_unit=0.02, share=0.1),
        _PLAIN,
        (0.5, 0.5),
        40_000,
    ),
    Cell(
        "weak conversion: 0.2 points more buyers (0.7 standard errors), 0.06 per unit, 20,000 each",
        Shop(0.102, per_unit=0.06),
        _PLAIN,
        (0.5, 0.5),
        40_000,
        frozenset({"cost per conversion"}),
    ),
    Cell(
        "weak and correlated: AI in both variants, a tenth of the amount; 0.01 per unit more "
        "(1.5 standard errors), 0.4 points more buyers",
        Shop(0.104, per_unit=0.01, share=0.1),
        Shop(0.10, share=0.1),
        (0.5, 0.5),
        40_000,
        _BOTH,
    ),
    Cell(
        "very weak: the same with 0.002 per unit more (a third of a standard error), 0.1 points "
        "more buyers",
        Shop(0.101, per_unit=0.002, share=0.1),
        Shop(0.10, share=0.1),
        (0.5, 0.5),
        40_000,
        _BOTH,
    ),
    Cell(
        "strong, 5/95: 3 points more buyers, 0.06 per unit and 0.80 per order, 8,000 treated",
        Shop(0.13, per_unit=0.06, per_order=0.8),
        _PLAIN,
        (0.05, 0.95),
        160_000,
    ),
)
