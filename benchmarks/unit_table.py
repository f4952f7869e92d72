"""A unit table of a million rows to a readout: Klartext against tea-tasting on polars.

Run: ``python -m benchmarks.unit_table --folder FOLDER``. The table is a Parquet file: unit,
variant, three metrics, each with a covariate that it is adjusted for. Each run is a process of its
own that first reads a table of a thousand rows, so that what is imported late is not in the time;
opening the file is. The runs of a round follow each other; a ratio is the median over the rounds.
Writes docs/benchmark-units.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

METRICS = {f"metric{place}": f"before{place}" for place in range(3)}
ROWS, WARM_UP = 1_000_000, 1_000
ROW_GROUP = 125_000
"""Rows that one processor reads alone; a file of one such part is read by one of them."""

PAGE = Path(__file__).parents[1] / "docs" / "benchmark-units.md"
OURS, PEER = "Klartext", "tea-tasting, polars"


def klartext(file: str) -> dict[str, Any]:
    """Compare as an analyst would: `klartext.compare_units`."""
    import klartext  # noqa: PLC0415 - of one environment

    found = klartext.compare_units(
        file, {metric: [before] for metric, before in METRICS.items()}, control="control"
    )
    return {
        result.metric: dict(result.estimates)["cuped"].value  # type: ignore[union-attr] # else it fails
        for result in found.metrics
    }


def tea_tasting(file: str) -> dict[str, Any]:
    """Compare with CUPED; tea-tasting aggregates what it needs in polars, which reads the file."""
    import polars as pl  # noqa: PLC0415 - of one environment
    import tea_tasting as tt  # noqa: PLC0415

    metrics = {metric: tt.Mean(metric, before) for metric, before in METRICS.items()}
    found = tt.Experiment(metrics).analyze(pl.scan_parquet(file), control="control")
    return {row["metric"]: row["treatment"] - row["control"] for row in found.to_dicts()}


PATHS = {OURS: klartext, PEER: tea_tasting}


def measure(path: str, warm_up: str, file: str) -> None:
    """Run one path once, in this process, and print one JSON object."""
    PATHS[path](warm_up)
    seconds, cpu = time.perf_counter(), time.process_time()
    answer = PATHS[path](file)
    found = {
        "seconds": time.perf_counter() - seconds,
        "cpu": time.process_time() - cpu,
        "answer": answer,
    }
    print(json.dumps(found))  # noqa: T201 - its output


def generate(file: Path, rows: int) -> None:
    """Write units whose outcomes follow from what was before."""
    import numpy as np  # noqa: PLC0415 - not in the other environment
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    rng = np.random.default_rng(20261122)
    is_ai = rng.random(rows) < 0.5
    habit = rng.exponential(1.0, rows)
    columns = {"unit": np.arange(rows), "variant": np.where(is_ai, "ai", "control")}
    for metric, before in METRICS.items():
        columns[before] = rng.poisson(habit) * rng.exponential(10.0, rows)
        columns[metric] = rng.poisson(habit) * rng.exponential(10.0, rows) + 0.1 * is_ai
    pq.write_table(pa.table(columns), file, row_group_size=ROW_GROUP)


def main() -> None:
    """Measure the rounds and write the page."""
    from benchmarks.environment import environment, output  # noqa: PLC0415 - the peer has none
    from benchmarks.facts import report  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m benchmarks.unit_table", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for tables and environments")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = environment(folder, "tea-tasting")
    files = [str(folder / f"units-{rows}.parquet") for rows in (WARM_UP, ROWS)]
    for file, rows in zip(files, (WARM_UP, ROWS), strict=True):
        generate(Path(file), rows)
    runs: dict[str, list[dict[str, Any]]] = {path: [] for path in PATHS}
    load = [os.getloadavg()[0]]
    for _ in range(options.rounds):
        for path, interpreter in ((OURS, sys.executable), (PEER, str(python))):
            runs[path].append(json.loads(output([interpreter, __file__, path, *files])))
        load.append(os.getloadavg()[0])
        _require_agreement(runs[OURS][-1]["answer"], runs[PEER][-1]["answer"])
    page = "\n".join(
        [
            "# From a unit table to a readout",
            "",
            "`make bench-units` writes this page: one million rows of Parquet in eight row groups,",
            "two variants, three metrics, each adjusted for a covariate, by",
            "`klartext.compare_units` (Lin, CUPED and Welch) and by tea-tasting on polars (CUPED).",
            "The figures of CUPED agree to 1e-9.",
            "",
            f"{datetime.now(UTC).isoformat(timespec='seconds')}; {options.rounds} rounds;",
            f"load of the machine {min(load):.1f} to {max(load):.1f}.",
            "",
            f"| path | CPU s | seconds | CPU / {PEER} | seconds / {PEER} |",
            "|---|---|---|---|---|",
            *(_row(path, runs) for path in PATHS),
            "",
            report.machine({"tea-tasting": python}),
        ]
    )
    PAGE.write_text(page)
    print(page)  # noqa: T201 - its output


def _row(path: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    def ratio(what: str) -> float:
        pairs = zip(runs[path], runs[PEER], strict=True)
        return statistics.median(one[what] / other[what] for one, other in pairs)

    cpu, seconds = (
        statistics.median(run[what] for run in runs[path]) for what in ("cpu", "seconds")
    )
    return f"| {path} | {cpu:.3f} | {seconds:.3f} | {ratio('cpu'):.2f} | {ratio('seconds'):.2f} |"


def _require_agreement(ours: dict[str, float], theirs: dict[str, float]) -> None:
    """End unless the differences adjusted by CUPED agree."""
    for metric, value in ours.items():
        if abs(value - theirs[metric]) > 1e-9 * abs(value):
            raise SystemExit(f"{metric}: {value} here and {theirs[metric]} there")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in PATHS:
        measure(*sys.argv[1:])
    else:
        main()
