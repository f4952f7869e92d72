"""One path, once, in a process of its own: ``python -m benchmarks.facts.measure PATH PLAN``.

Prints one JSON object: seconds, CPU seconds, peak memory and the answer. Imports and the start
of the interpreter are not in the time; opening the engine and the tables is.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import astuple, fields
from datetime import date, timedelta
from decimal import Decimal
from functools import reduce
from importlib import import_module
from operator import add
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.facts import handwritten
from benchmarks.facts.scenario import DAY, PROPERTIES, WATERMARK, experiment
from klartext.analysis import cohort_refresh
from klartext.analysis.checks.novelty import Halves
from klartext.analysis.cohorts import Cohorts
from klartext.analysis.engine import open_engine
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.experiments.engines import DuckDbEngine, EngineSettings, SparkEngine
from klartext.experiments.facts import FactsStore
from klartext.experiments.watermark import Watermark

# They would be loaded late, and imports are not measured.
for _late in (
    "ibis.expr.types.groupby",
    "ibis.formats.pandas",
    "klartext.analysis.overlapped",
    "pandas",
):
    import_module(_late)

_KEPT = "cohorts-of-yesterday"

Plan = Mapping[str, Any]
Answer = dict[str, Any]


SPARK_MEMORY = "4g"
PARTS = ("known", "unit")
HALVES = tuple(field.name for field in fields(Halves))
CALLS_KNOWN = (
    "ai.cost_per_task",
    "ai.latency_p95",
    "ai.error_rate",
    "ai.tokens",
    "ai.cache_share",
)
"""The AI metrics in the order of `handwritten`: what a call must carry for each."""


def klartext(plan: Plan) -> Answer:
    """Our path, as `klartext analyze` runs it."""
    return _klartext(plan, DuckDbEngine(plan["memory_limit"], plan["threads"], Path(plan["spill"])))


def klartext_on_spark(plan: Plan) -> Answer:
    """Do the same on a local Spark, whose start counts."""
    options = {"spark.driver.memory": SPARK_MEMORY, "spark.local.dir": plan["spill"]}
    answer = _klartext(plan, SparkEngine(f"local[{plan['threads']}]", options))
    _end_spark()
    return answer


def _end_spark() -> None:
    """End the machine that Spark runs in: what it used is known only then."""
    from pyspark import SparkContext  # noqa: PLC0415 - an extra

    gateway = SparkContext._gateway  # noqa: SLF001 - it has no public name
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def _klartext(plan: Plan, settings: EngineSettings) -> Answer:
    store = FactsStore(plan["root"], PROPERTIES)  # type: ignore[arg-type] # literals widen to str
    with open_engine(settings) as engine:
        found = read_out(experiment(), store.tables(engine), WATERMARK, engine=engine)
    return _of_readout(found)


def yesterday(plan: Plan) -> Answer:
    """Analyse as of the day before, and keep what `refresh` begins with."""
    kept = Path(plan["root"]) / _KEPT
    shutil.rmtree(kept, ignore_errors=True)
    before = Watermark(WATERMARK.batch - 1, WATERMARK.cutoff - DAY)
    _of_cohorts(plan, kept, before)
    return {}


def refresh(plan: Plan) -> Answer:
    """Our path again, a day later: `klartext analyze` of an experiment that was analysed before."""
    with tempfile.TemporaryDirectory(dir=plan["spill"]) as folder:
        kept = Path(folder) / "cohorts"
        shutil.copytree(Path(plan["root"]) / _KEPT, kept, copy_function=os.link)
        found = _of_cohorts(plan, kept, WATERMARK)
    if found.cohorts is None or found.cohorts.reason is not None:
        raise RuntimeError(f"the cohorts of yesterday did not serve: {found.cohorts}")
    return _of_readout(found)


def _of_cohorts(plan: Plan, folder: Path, watermark: Watermark) -> Readout:
    store = FactsStore(plan["root"], PROPERTIES)  # type: ignore[arg-type] # literals widen to str
    settings = DuckDbEngine(plan["memory_limit"], plan["threads"], Path(plan["spill"]))
    with open_engine(settings) as engine:
        return cohort_refresh.read(experiment(), Cohorts(store, engine, folder), watermark)


def written_by_hand(plan: Plan) -> Answer:
    """Run the SQL of `benchmarks.facts.handwritten`."""
    with closing(_connect(plan)) as connection:
        return _of_rows(handwritten.answer(connection))


def column_scan(plan: Plan) -> Answer:
    """Read the columns and do nothing."""
    with closing(_connect(plan)) as connection:
        handwritten.scan(connection)
    return {}


def _connect(plan: Plan) -> duckdb.DuckDBPyConnection:
    settings = {
        "memory_limit": plan["memory_limit"],
        "threads": plan["threads"],
        "temp_directory": plan["spill"],
    }
    connection = duckdb.connect(config=settings)
    handwritten.view_facts(connection, plan["files"])
    return connection


def _of_readout(found: Readout) -> Answer:
    checks, calls = found.diagnostics, found.calls
    if checks is None or calls is None or isinstance(calls.latencies, NotEstimable):
        raise RuntimeError("the readout is not whole")
    return {
        "moments": {variant: _plain(moments) for variant, moments in found.moments.items()},
        "daily": {
            one.day.isoformat(): {key: _plain(each) for key, each in one.moments.items()}
            for one in found.daily
        },
        "call_moments": {variant: _plain(moments) for variant, moments in calls.moments.items()},
        "call_totals": {
            variant: [totals[name] for name in handwritten.CALL_COLUMNS]
            for variant, totals in calls.totals.items()
        },
        "covered": {
            variant: [[coverage[key].known, coverage[key].with_unit] for key in CALLS_KNOWN]
            for variant, coverage in calls.coverage.items()
        },
        "latencies": {
            variant: [
                getattr(one, name).tolist() for name in ("values", "counts", "earlier", "sizes")
            ]
            for variant, one in calls.latencies.items()
        },
        "days": {day: dict(sides) for day, sides in checks.days.items()},
        "models": [[one.variant, one.model, one.prompt, one.calls] for one in checks.calls],
        "halves": {variant: list(astuple(one)) for variant, one in checks.halves.items()},
        "counts": {
            count.variant: [count.exposed, count.mature, count.excluded] for count in found.counts
        },
        "usage": sorted(
            [
                row.charged_to,
                row.variant or "",
                row.counted,
                row.category,
                row.model,
                row.source,
                row.evidence,
                row.calls,
                row.unpriced,
                _exact(row.amount),
            ]
            for row in found.usage
        ),
        "highest": _exact(found.highest_price),
        "amounts": [
            [
                one.events,
                one.refunds,
                one.is_money,
                one.missing,
                one.foreign,
                one.negative_refunds,
            ]
            for one in found.amounts
        ],
        "strangers": found.strangers,
    }


def _plain(moments: Moments) -> Answer:
    return {
        "n": moments.n,
        "mean": moments.mean.tolist(),
        "m2": moments.m2.tolist(),
        "m3": moments.m3.tolist(),
        "nonzero": moments.nonzero.tolist(),
    }


NO_UNITS = _plain(Moments.of(handwritten.COLUMNS, np.empty((0, len(handwritten.COLUMNS)))))


def _of_rows(found: dict[str, Any]) -> Answer:
    groups = found["groups"]
    moments: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    daily: dict[str, Any] = {}
    for place, variant in enumerate(handwritten.VARIANTS):
        own = [group for group in groups if group["is_ai"] == bool(place)]
        mature = [group for group in own if group["mature"] and not group["excluded"]]
        parts = {group["matured"]: handwritten.moments(group) for group in mature}
        for day, one in parts.items():
            empty = dict.fromkeys(handwritten.VARIANTS, NO_UNITS)
            daily.setdefault(_date(day), empty)[variant] = _plain(one)
        together = reduce(add, parts.values())
        moments[variant] = _plain(together)
        counts[variant] = [
            sum(each["n"] for each in own if not each["excluded"]),
            together.n,
            sum(each["n"] for each in own if each["excluded"]),
        ]
    amounts = {name: int(value) for name, value in found["amounts"].items()}
    bought, in_money = amounts["purchases"], amounts["in_money"] > 0
    prices = [row["highest"] for row in found["usage"] if row["highest"] is not None]
    days: dict[str, Any] = {}
    for row in found["days"]:
        sides = days.setdefault(_date(row["day"]), dict.fromkeys(handwritten.VARIANTS, 0))
        sides[_variant(row)] = row["n"]
    totals = {row["bearer"]: row for row in found["call_totals"]}
    of_calls = {row["bearer"]: row for row in found["call_moments"]}
    return {
        "moments": moments,
        "daily": daily,
        "call_moments": {
            variant: _plain(handwritten.call_moments(of_calls.get(variant), moments[variant]["n"]))
            for variant in handwritten.VARIANTS
        },
        "call_totals": {
            variant: [
                totals[variant][f"call{i}"] if variant in totals else 0.0
                for i in range(len(handwritten.CALL_COLUMNS))
            ]
            for variant in handwritten.VARIANTS
        },
        "covered": {
            variant: [
                [totals[variant][f"{part}{i}"] if variant in totals else 0 for part in PARTS]
                for i in range(len(CALLS_KNOWN))
            ]
            for variant in handwritten.VARIANTS
        },
        "latencies": {
            variant: [
                [float(row[name]) for row in found["latencies"] if row["bearer"] == variant]
                for name in ("value", "count", "earlier", "size")
            ]
            for variant in handwritten.VARIANTS
        },
        "days": dict(sorted(days.items())),
        "models": sorted(
            [row["variant"], row["model"], row["prompt"], row["calls"]] for row in found["models"]
        ),
        "halves": {_variant(row): [row[name] for name in HALVES] for row in found["halves"]},
        "counts": counts,
        "usage": sorted(
            [
                row["charged_to"],
                row["bearer"] or "",
                row["is_counted"],
                row["category"],
                row["model"],
                row["source"],
                row["evidence"],
                row["calls"],
                row["unpriced"],
                _exact(row["amount"]),
            ]
            for row in found["usage"]
        ),
        "highest": _exact(max(prices, default=None)),
        "amounts": [
            [
                bought,
                amounts["refunds"],
                in_money,
                amounts["missing"],
                amounts["abroad"],
                amounts["negative"],
            ],
            [bought, 0, in_money, amounts["without_items"], 0, 0],
        ],
        "strangers": found["strangers"],
    }


def _variant(row: Mapping[str, Any]) -> str:
    return handwritten.VARIANTS[int(row["is_ai"])]


def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def _exact(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


PATHS = {
    "Klartext": klartext,
    "Klartext, Spark": klartext_on_spark,
    "yesterday": yesterday,
    "daily refresh": refresh,
    "SQL by hand": written_by_hand,
    "column scan": column_scan,
}


def main() -> None:
    """Run the path named on the command line."""
    _, path, plan_file = sys.argv
    plan = json.loads(Path(plan_file).read_text())
    before, cpu_before = time.perf_counter(), time.process_time()
    answer = PATHS[path](plan)
    seconds, cpu = time.perf_counter() - before, time.process_time() - cpu_before
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    found = {
        "seconds": seconds,
        "cpu": cpu + children.ru_utime + children.ru_stime,
        "peak": (own.ru_maxrss + children.ru_maxrss) * 1024,
        "answer": answer,
    }
    print(json.dumps(found))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
