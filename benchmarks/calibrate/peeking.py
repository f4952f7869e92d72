"""False alarms when somebody looks fifty times and there is no effect."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from benchmarks.calibrate import draws
from benchmarks.calibrate.coverage import ALPHA, SPLITS
from benchmarks.calibrate.draws import Cumulative, Population
from benchmarks.calibrate.judgement import Row
from klartext.analysis import means
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import Sample
from klartext.analysis.sequential import group, mixture, repeated

LOOKS = 50


class BurnIn(Protocol):
    """Why a look cannot be read yet."""

    def __call__(
        self, treatment: Sample, control: Sample, *, nonzero: tuple[int, int]
    ) -> NotEstimable | None:
        """Return the reason, or None."""


@dataclass(frozen=True, slots=True)
class Path:
    """One replication of both variants over all looks."""

    treatment: Cumulative
    control: Cumulative
    replication: int
    planned_n: int

    def estimate(self, look: int) -> Estimate | NotEstimable:
        """Return the anytime estimate at one look."""
        return mixture.anytime(
            self.treatment.sample(self.replication, look),
            self.control.sample(self.replication, look),
            alpha=ALPHA,
            planned_n=self.planned_n,
            nonzero=self._nonzero(look),
        )

    def statistic(self, look: int, burn_in: BurnIn) -> float | None:
        """Return difference over standard error; None before the burn-in."""
        one = self.treatment.sample(self.replication, look)
        other = self.control.sample(self.replication, look)
        if burn_in(one, other, nonzero=self._nonzero(look)) is not None:
            return None
        value, variance = means.difference(one, other)
        return value / math.sqrt(variance)

    @property
    def looks(self) -> int:
        """Number of looks."""
        return len(self.treatment.n)

    def units(self, look: int) -> int:
        """Return the units of both variants."""
        return int(self.treatment.n[look] + self.control.n[look])

    def _nonzero(self, look: int) -> tuple[int, int]:
        r = self.replication
        return self.treatment.outcomes(r, look), self.control.outcomes(r, look)


def anytime(path: Path) -> int:
    """First alarm of the confidence sequence."""
    for look in range(path.looks):
        found = path.estimate(look)
        if isinstance(found, Estimate) and isinstance(found.interval, Interval):
            alarm = (found.interval.lower > 0) - (found.interval.upper < 0)
            if alarm:
                return alarm
    return 0


def _anytime_one_sided(path: Path) -> int:
    for look in range(path.looks):
        z = path.statistic(look, mixture.burn_in)
        width = mixture.multiplier_one_sided(path.units(look), path.planned_n, alpha=ALPHA)
        if z is not None and z > width:
            return 1
    return 0


def grouped(design: group.Design) -> Callable[[Path], int]:
    """Rule of a group sequential design, which reads the looks that its schedule grants."""
    least = means.multiplier_of(design.alpha)

    def alarm(path: Path) -> int:
        taken: tuple[group.Look, ...] = ()
        for look in range(path.looks):
            fraction = path.units(look) / path.planned_n
            found = group.schedule(design, taken, fraction=fraction, information=fraction)
            if isinstance(found, group.Unplanned):
                continue
            z = path.statistic(look, repeated.burn_in)
            if z is None:  # not taken: its alpha is spent at the next
                continue
            taken = (*taken, found)
            # Who is outside now is outside first now or was before: alpha in all. So no bound
            # is below that of a single look, and most bounds need not be computed.
            if abs(z) <= least:
                continue
            bound = group.multipliers(design, taken)[-1]
            if abs(z) > bound:
                return 1 if z > 0 else -1
        return 0

    return alarm


def fixed(path: Path) -> int:
    """First alarm of the fixed interval, read although nobody may."""
    for look in range(path.looks):
        one = path.treatment.sample(path.replication, look)
        other = path.control.sample(path.replication, look)
        found = means.welch(one, other, alpha=ALPHA, single_look=True)
        if isinstance(found, Estimate) and isinstance(found.interval, Interval):
            alarm = (found.interval.lower > 0) - (found.interval.upper < 0)
            if alarm:
                return alarm
    return 0


def _fractions(looks: int) -> tuple[float, ...]:
    return tuple((k + 1) / looks for k in range(looks))


@dataclass(frozen=True, slots=True)
class Method:
    """A rule that reads every look it may; returns 1, -1 or 0 for an alarm up, down, none."""

    name: str
    judged: Literal["not above", "contrast"]
    call: Callable[[Path], int]


_SPENDING: tuple[tuple[group.Spending, str], ...] = (
    ("obrien_fleming", "O'Brien-Fleming"),
    ("pocock", "Pocock"),
)

METHODS = (
    Method("anytime", "not above", anytime),
    Method("anytime, one-sided", "not above", _anytime_one_sided),
    *(
        Method(
            f"group sequential, {label}, {looks} looks",
            "not above",
            grouped(group.Design(spending, ALPHA, 2, _fractions(looks))),
        )
        for spending, label in _SPENDING
        for looks in (5, 50)
    ),
    Method("fixed interval at every look", "contrast", fixed),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One population for both variants: nothing to find."""

    name: str
    population: Population
    shares: tuple[float, float]
    smaller: int

    def run(self, rng: np.random.Generator, replications: int) -> Iterator[Row]:
        """Yield one row per method."""
        small = min(self.shares)
        steps = [round(self.smaller / LOOKS / small * share) for share in self.shares]
        one, other = (
            draws.draw(self.population, np.full(LOOKS, float(step)), replications, rng)
            for step in steps
        )
        paths = [Path(one, other, r, sum(steps) * LOOKS) for r in range(replications)]
        for method in METHODS:
            alarms = [method.call(path) for path in paths]
            low, high = alarms.count(-1), alarms.count(1)
            yield Row(
                section="peeking",
                cell=self.name,
                method=method.name,
                judged=method.judged,
                nominal=ALPHA,
                hits=low + high,
                low=low,
                high=high,
                read=replications,
                replications=replications,
            )


def _cells() -> Iterator[Cell]:
    for split, shares in SPLITS.items():
        yield Cell(
            f"normal, {split}, 5,000 in the smaller", Population("normal", 1.0, 2.0), shares, 5000
        )
        yield Cell(
            f"0/1, 5 %, {split}, 20,000 in the smaller",
            Population("binary", rate=0.05),
            shares,
            20_000,
        )
        yield Cell(
            f"2 % buy for lognormal (sigma 1) amounts, {split}, 120,000 in the smaller",
            Population("revenue", 3.0, 1.0, 0.02),
            shares,
            120_000,
        )


CELLS = tuple(_cells())
