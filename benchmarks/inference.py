"""What reading an experiment costs in CPU time: from moments to every estimate and the verdict.

Run: ``python -m benchmarks.inference``. 20 metrics with two covariates each (Lin and CUPED) in four
variants, confidence sequences, Holm: `klartext.analysis.evaluate.analyse` as ``klartext analyze``
calls it, on moments of drawn units. Times depend on the machine: the column "of Welch" gives them
as multiples of one Welch test measured beside them. Each figure is the median of interleaved
rounds. The budget of 50 ms is that of everything but the posteriors, 240 of them here at about
1 ms each, which `bayes.py` measures one by one.
"""

# ruff: noqa: T201 - its output

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from klartext.analysis.beliefs import believed
from klartext.analysis.columns import value_columns
from klartext.analysis.corrections import corrected
from klartext.analysis.evaluate import Registration, analyse
from klartext.analysis.means import welch
from klartext.analysis.moments import Moments, Sample
from klartext.analysis.readout import MaturityDay, Readout
from klartext.analysis.result import Analysis, VariantCounts
from klartext.analysis.value import period_of
from klartext.experiments.experiment import Experiment
from klartext.experiments.spec.loading import loads
from klartext.experiments.watermark import Watermark
from klartext.experiments.workspace import find_workspace

ROUNDS, CALLS = 15, 3
DAYS, UNITS_PER_DAY = 28, 500
BUDGET_MS = 50
WHOLE, BAYES = "the whole analysis, of moments", "of this: posteriors of all metrics"
START = datetime(2026, 1, 5, tzinfo=UTC)

WORKSPACE = """\
schema: klartext/workspace/v1
name: benchmark
properties: {amount: money}
"""
KINDS = {
    "rate": "kind: conversion, event: e{}, window: 14d",
    "count": "kind: count, event: e{}, window: 14d",
    "amount": "kind: mean, event: e{}, value: amount, window: 14d",
}
COVARIATES = "covariates: [{lookback: 28d}, history]"
METRICS = [
    f"  - {{key: {kind}{number}, {body.format(number)}, {COVARIATES}}}"
    for number in range(6)
    for kind, body in KINDS.items()
] + [
    f"  - {{key: ratio{number}, kind: ratio, numerator: amount{number}, denominator: count{number},"
    f" {COVARIATES}}}"
    for number in range(2)
]
EXPERIMENT = f"""\
schema: klartext/experiment/v1
key: benchmark
title: Twenty metrics
owner: lena.vogt
hypothesis: One of the variants pays.
kind: ab
unit: customer
variants:
  - {{key: control, weight: 25%}}
  - {{key: a, weight: 25%}}
  - {{key: b, weight: 25%}}
  - {{key: c, weight: 25%}}
control: control
metrics:
{chr(10).join(METRICS)}
value:
  - {{metric: amount0, contribution_margin: 40%}}
guardrails:
  - {{metric: rate1, may_worsen_by: 1pp}}
plan: {{start: 2026-01-05, total_units: 100000}}
inference: {{mode: anytime, alpha: 5%, correction: holm}}
decision: {{hurdle_roi: 0%, probability: 80%, expected_loss: 100 EUR}}
"""


def experiment() -> Experiment:
    """Resolve the spec as any other."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "klartext.yaml").write_text(WORKSPACE)
        return loads(EXPERIMENT.encode(), "benchmark.yaml", find_workspace(Path(folder))).experiment


def drawn(spec: Experiment, rng: np.random.Generator) -> Moments:
    """Draw the units of one variant and day: outcomes that follow from what was before."""
    history = rng.exponential(1.0, UNITS_PER_DAY)
    columns: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
    for name in value_columns(spec):
        kind = name.split(".")[-1]
        if kind == "history":
            columns[name] = history
        elif kind.startswith("rate"):
            columns[name] = (rng.random(UNITS_PER_DAY) < 0.1 + 0.05 * history).astype(np.float64)
        else:
            columns[name] = rng.poisson(0.5 + history) * rng.exponential(10.0, UNITS_PER_DAY)
    margin, cost = 0.4 * columns["amount0"], np.full(UNITS_PER_DAY, 0.01)
    columns |= {"margin": margin, "cost": cost, "net": margin - cost, "outlook": margin - cost,
                "cost_high": cost, "outlook_high": margin - cost}  # fmt: skip
    return Moments.of(tuple(columns), np.column_stack(list(columns.values())))


def readout(spec: Experiment) -> Readout:
    """Return a readout of drawn units with its days."""
    rng = np.random.default_rng(20261122)
    daily = tuple(
        MaturityDay(
            (START + timedelta(days=30 + day)).date(),
            {variant.key: drawn(spec, rng) for variant in spec.variants},
        )
        for day in range(DAYS)
    )
    moments = {
        variant.key: reduce(add, (day.moments[variant.key] for day in daily))
        for variant in spec.variants
    }
    sizes = {key: found.n for key, found in moments.items()}
    return Readout(
        watermark=Watermark(1, START + timedelta(days=60)),
        moments=moments,
        counts=tuple(
            VariantCounts(one.key, one.weight, sizes[one.key], sizes[one.key], 0)
            for one in spec.variants
        ),
        events={},
        all_units=sizes,
        all_events={},
        first_exposure=START,
        last_exposure=START + timedelta(days=DAYS),
        usage=(),
        highest_price=None,
        amounts=(),
        strangers=0,
        daily=daily,
    )


def analysed(spec: Experiment, found: Readout) -> Analysis:
    """Analyse a readout."""
    period = period_of(spec, found, started_at=None)
    registration = Registration(1, "0" * 64, START - timedelta(days=1))
    return analyse(spec, registration, found, period=period)


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is measured, by name."""
    sample = Sample(1000, 5.0, 2000.0, 100.0)
    yield (
        "Welch test, for comparison",
        lambda: [welch(sample, sample, alpha=0.05, single_look=True) for _ in range(100)],
    )
    spec = experiment()
    with_days = readout(spec)
    at_once = replace(with_days, daily=())
    results = analysed(spec, at_once).metrics
    yield WHOLE, lambda: analysed(spec, at_once)
    yield BAYES, lambda: believed(spec, at_once.moments, results)
    yield "of this: Holm", lambda: corrected(spec, results)
    yield f"the whole analysis, {DAYS} days replayed", lambda: analysed(spec, with_days)


def main() -> None:
    """Print the medians."""
    times: dict[str, list[float]] = {}
    measured = dict(cases())
    for run in measured.values():
        run()
    for _ in range(ROUNDS):
        for name, run in measured.items():
            before = time.process_time()
            for _ in range(CALLS):
                run()
            times.setdefault(name, []).append((time.process_time() - before) / CALLS * 1e3)
    times["the analysis without posteriors"] = [
        whole - posteriors for whole, posteriors in zip(times[WHOLE], times[BAYES], strict=True)
    ]
    medians = {name: statistics.median(found) for name, found in times.items()}
    base, *_ = medians.values()
    print(f"{'CPU ms':>10}{'of Welch':>10}   (budget {BUDGET_MS} ms without posteriors)")
    for name, median in medians.items():
        print(f"{median:10.2f}{100 * median / base:10.0f}   {name}")


if __name__ == "__main__":
    main()
