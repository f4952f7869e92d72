"""One path, once, in a process of its own: ``python -m benchmarks.facts.measure PATH PLAN``.

Prints one JSON object: seconds, CPU seconds, peak memory and the answer. Imports and the start
of the interpreter are not in the time; opening the engine and the tables is.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import ibis.backends.duckdb  # noqa: F401 - loaded late otherwise, and imports are not measured
import pandas as pd  # noqa: F401 - Ibis imports it with the first result; imports are not measured

from benchmarks.facts import handwritten
from benchmarks.facts.scenario import PROPERTIES, WATERMARK, experiment
from klartext.analysis.engine import open_engine
from klartext.analysis.moments import Moments
from klartext.analysis.readout import Readout, read_out
from klartext.experiments.engines import DuckDbEngine
from klartext.experiments.facts import FactsStore

Plan = Mapping[str, Any]
Answer = dict[str, Any]


def klartext(plan: Plan) -> Answer:
    """Our path, as `klartext analyze` runs it."""
    store = FactsStore(plan["root"], PROPERTIES)  # type: ignore[arg-type] # literals widen to str
    settings = DuckDbEngine(plan["memory_limit"], plan["threads"], Path(plan["spill"]))
    with open_engine(settings) as engine:
        found = read_out(experiment(), store.tables(engine), WATERMARK, engine=engine)
    return _of_readout(found)


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
    return {
        "moments": {variant: _plain(moments) for variant, moments in found.moments.items()},
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


def _of_rows(found: dict[str, Any]) -> Answer:
    groups = found["groups"]
    moments: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    for place, variant in enumerate(handwritten.VARIANTS):
        own = [group for group in groups if group["is_ai"] == bool(place)]
        (group,) = (group for group in own if group["mature"] and not group["excluded"])
        moments[variant] = _plain(handwritten.moments(group))
        counts[variant] = [
            sum(each["n"] for each in own if not each["excluded"]),
            group["n"],
            sum(each["n"] for each in own if each["excluded"]),
        ]
    amounts = {name: int(value) for name, value in found["amounts"].items()}
    bought, in_money = amounts["purchases"], amounts["in_money"] > 0
    prices = [row["highest"] for row in found["usage"] if row["highest"] is not None]
    return {
        "moments": moments,
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


def _exact(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


PATHS = {"Klartext": klartext, "SQL by hand": written_by_hand, "column scan": column_scan}


def main() -> None:
    """Run the path named on the command line."""
    _, path, plan_file = sys.argv
    plan = json.loads(Path(plan_file).read_text())
    before, cpu_before = time.perf_counter(), time.process_time()
    answer = PATHS[path](plan)
    found = {
        "seconds": time.perf_counter() - before,
        "cpu": time.process_time() - cpu_before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "answer": answer,
    }
    print(json.dumps(found))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
