"""Power of experiments of the planned size, against what planning promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from benchmarks.calibrate import draws, peeking
from benchmarks.calibrate.coverage import ALPHA
from benchmarks.calibrate.draws import Population
from benchmarks.calibrate.judgement import Row
from klartext.analysis import means, planning
from klartext.analysis.comparison import (
    Anytime,
    Comparison,
    Fixed,
    GroupSequential,
    Mode,
    evenly,
)
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.outcome import Outcome, conversion
from klartext.analysis.sequential import group

POWER = 0.8

MODES: tuple[Mode, ...] = (
    Fixed(),
    GroupSequential("obrien_fleming", evenly(5)),
    GroupSequential("pocock", evenly(5)),
    Anytime(evenly(28)),
)


def _last_look(path: peeking.Path) -> int:
    last = path.looks - 1
    one = path.treatment.sample(path.replication, last)
    other = path.control.sample(path.replication, last)
    found = means.welch(one, other, alpha=ALPHA, single_look=True)
    if isinstance(found, Estimate) and isinstance(found.interval, Interval):
        return (found.interval.lower > 0) - (found.interval.upper < 0)
    return 0


def _rule(mode: Mode) -> tuple[str, int, Callable[[peeking.Path], int]]:
    """Name, looks and rule of a mode, as the sequential calibration runs it."""
    match mode:
        case Fixed():
            return "fixed", 1, _last_look
        case GroupSequential(spending, fractions):
            design = group.Design(spending, ALPHA, 2, fractions)
            return f"group sequential, {spending}, 5 looks", 5, peeking.grouped(design)
        case Anytime(fractions):
            return "anytime, 28 looks", len(fractions), peeking.anytime
        case _:
            assert_never(mode)


@dataclass(frozen=True, slots=True)
class Cell:
    """A planned experiment: what history says, and what is then drawn."""

    name: str
    outcome: Outcome
    treatment: Population
    control: Population
    shares: tuple[float, float]

    def run(self, rng: np.random.Generator, replications: int) -> Iterator[Row]:
        """Yield one row per mode."""
        effect = self.treatment.mean - self.control.mean
        for mode in MODES:
            setup = Comparison(self.outcome, self.shares, mode, ALPHA)
            plan = planning.units_needed(setup, effect=effect, power=POWER)
            if isinstance(plan, NotEstimable):
                raise TypeError(f"{self.name}: {plan.detail}")
            name, looks, rule = _rule(mode)
            steps = [np.full(looks, np.ceil(plan.total_units * s / looks)) for s in self.shares]
            one = draws.draw(self.treatment, steps[0], replications, rng)
            other = draws.draw(self.control, steps[1], replications, rng)
            planned_n = int(steps[0].sum() + steps[1].sum())
            found = [rule(peeking.Path(one, other, r, planned_n)) for r in range(replications)]
            yield Row(
                section="power",
                cell=f"{self.name}, {planned_n:,} units",
                method=name,
                judged="inside",
                nominal=plan.power,
                hits=found.count(1),
                low=found.count(-1),
                high=0,
                read=replications,
                replications=replications,
            )


def _revenue(rate: float) -> Population:
    return Population("revenue", 3.0, 1.0, rate)


CELLS = (
    Cell(
        "normal, 50/50, +2 %",
        Outcome("mean", 50.0, 225.0),
        Population("normal", 51.0, 15.0),
        Population("normal", 50.0, 15.0),
        (0.5, 0.5),
    ),
    Cell(
        "0/1, 30/70, 20 % to 21 %",
        conversion(0.20),
        Population("binary", rate=0.21),
        Population("binary", rate=0.20),
        (0.3, 0.7),
    ),
    Cell(
        "net value, 50/50, 10 % buy for lognormal (sigma 1) amounts, 10 % more buyers",
        Outcome(
            "net",
            _revenue(0.10).mean,
            _revenue(0.10).variance,
            _revenue(0.11).variance,
            nonzero_rate=0.10,
        ),
        _revenue(0.11),
        _revenue(0.10),
        (0.5, 0.5),
    ),
)
