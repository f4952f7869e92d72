"""What Bayes costs in CPU time: closed forms, pooling by quadrature, and PyMC when installed.

Run: ``python benchmarks/bayes.py``. Times depend on the machine: the column "of Welch" gives them
as multiples of one Welch test measured beside them. Each figure is the median of interleaved
rounds. The PyMC models say how many effective draws a CPU second buys, and what the quadrature of
the same model costs.
"""

# ruff: noqa: T201 - its output

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable

import numpy as np

from klartext.analysis.bayes.best import standing
from klartext.analysis.bayes.beta import BetaPosterior
from klartext.analysis.bayes.difference import Difference
from klartext.analysis.bayes.gamma import GammaPosterior
from klartext.analysis.bayes.marginal import Marginal
from klartext.analysis.bayes.pooling import Block, pool
from klartext.analysis.bayes.student import StudentPosterior
from klartext.analysis.bayes.track_record import pool_experiments
from klartext.analysis.means import welch
from klartext.analysis.models import hurdle, segments
from klartext.analysis.models.diagnostics import NotShown, Shown
from klartext.analysis.models.sampling import Sampling
from klartext.analysis.moments import Sample

ROUNDS = 7
CALLS = 10
WELCH = "Welch test, for comparison"

Cases = dict[str, Callable[[], object]]


def cpu_ms(run: Callable[[], object], *, calls: int) -> float:
    """Return CPU milliseconds per call."""
    before = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - before) / calls * 1e3


def families() -> dict[str, tuple[Marginal, ...]]:
    """Return four variants of each family that are hard to tell apart."""
    sizes = (1_000, 100_000, 1_000_000_000)
    return {
        **{
            f"rates, {n:.0e} units": tuple(
                BetaPosterior.of(trials=n, successes=round(n * 0.05 + z * (0.05 * n) ** 0.5))
                for z in (0.0, 0.5, 1.0, 1.5)
            )
            for n in sizes
        },
        "counts, 1e+05 units": tuple(GammaPosterior(5_000.5 + 70 * k, 100_000.0) for k in range(4)),
        "means, 1e+01 units": tuple(StudentPosterior(9.0, 5 + k, 2.0) for k in range(4)),
        "means, 1e+05 units": tuple(StudentPosterior(99_999.0, 5 + k, 2.0) for k in range(4)),
    }


def closed_forms() -> Cases:
    """Return one case per family and figure."""
    cases: Cases = {}
    for name, arms in families().items():
        pair = arms[1], arms[0]
        cases |= {
            f"{name}: interval of a level": lambda arms=arms: arms[0].interval(0.95),
            f"{name}: P(best) and expected loss of 4": lambda arms=arms: standing(
                arms, direction="increase"
            ),
            f"{name}: P(better)": lambda p=pair: Difference(*p).probability_above(0.0),
            f"{name}: P(equivalent)": lambda p=pair: Difference(*p).probability_between(
                -0.001, 0.001
            ),
            f"{name}: interval of a difference": lambda p=pair: Difference(*p).interval(0.95),
            f"{name}: relative lift and interval": lambda p=pair: Difference(*p).relative(0.95),
        }
    return cases


def blocks(count: int, treatments: int) -> tuple[Block, ...]:
    """Return effects of treatments that share a control, in segments."""
    rng = np.random.default_rng(1)
    names = tuple(f"t{k}" for k in range(treatments))
    found = []
    for number in range(count):
        own, shared = rng.uniform(0.5, 1, treatments), rng.uniform(0.3, 0.8)
        covariance = np.diag(own**2) + shared**2
        effects = rng.multivariate_normal(rng.normal(1.0, 0.4, treatments), covariance)
        found.append(Block(f"s{number}", names, effects, covariance))
    return tuple(found)


def pooled() -> Cases:
    """Return the hierarchical models by quadrature."""
    data = blocks(20, 3)
    past = blocks(50, 2)
    return {
        "segment model, 4 variants x 20 segments": lambda: pool(
            data, mean_prior_sd=None, scale_prior_sd=0.5, level=0.95
        ),
        "prior sd from 50 experiments": lambda: pool_experiments(
            past, scale_prior_sd=0.5, level=0.95
        ),
    }


def table(cases: Cases, *, budget_ms: float) -> None:
    """Print medians of interleaved rounds, and their ratio to a Welch test in the same rounds."""
    sample = Sample(1000, 5.0, 2000.0, 100.0)
    everything = {WELCH: lambda: welch(sample, sample, alpha=0.05, single_look=True)} | cases
    times: dict[str, list[float]] = {name: [] for name in everything}
    for run in everything.values():
        run()
    for _ in range(ROUNDS):
        for name, run in everything.items():
            times[name].append(cpu_ms(run, calls=CALLS))
    base = statistics.median(times[WELCH])
    print(f"\n{'CPU ms':>10}{'of Welch':>10}   (budget {budget_ms:g} ms each)")
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{median:10.3f}{median / base:10.1f}   {name}{' !' * (median > budget_ms)}")


def drawn() -> None:
    """Print what the PyMC models cost, first run with compilation and second run."""
    if importlib.util.find_spec("pymc") is None:
        print('\nPyMC is not installed: pip install "klartext[models]" measures it too')
        return
    data = blocks(20, 3)
    rng = np.random.default_rng(2)
    arms = {
        key: hurdle.purchases((rng.random(100_000) < rate) * rng.lognormal(3.5, 0.8, 100_000))
        for key, rate in (("control", 0.05), ("a", 0.052), ("b", 0.055), ("c", 0.05))
    }
    models: dict[str, Callable[[], object]] = {
        "segment model, 4 variants x 20 segments": lambda: segments.fit(
            data, mean_prior_sd=None, scale_prior_sd=0.5, sampling=Sampling(1), level=0.95
        ),
        "hurdle revenue, 4 variants x 100,000 units": lambda: hurdle.fit(
            arms, control="control", sampling=Sampling(1), level=0.95
        ),
    }
    print(f"\n{'first s':>10}{'second s':>10}{'min ESS':>10}{'max R-hat':>11}   PyMC, wall time")
    for name, run in models.items():
        seconds = []
        for _ in range(2):
            before = time.perf_counter()
            found = run()
            seconds.append(time.perf_counter() - before)
        times = f"{seconds[0]:10.1f}{seconds[1]:10.1f}"
        match found:
            case Shown():
                print(f"{times}{found.min_ess:10.0f}{found.max_r_hat:11.4f}   {name}")
                print(f"{'':41}   {found.sampler}; {len(found.effects)} effects")
            case NotShown():
                print(f"{times}{'not shown: ':>21}   {name}: {found.reason}, {found.detail}")


if __name__ == "__main__":
    table(closed_forms(), budget_ms=5)
    table(pooled(), budget_ms=200)
    drawn()
