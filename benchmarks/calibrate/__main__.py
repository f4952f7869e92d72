"""Run all cells, show progress, write the page; exit 1 when a judged row fails."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.calibrate import coverage, peeking, power, returns, verdicts
from benchmarks.calibrate.judgement import Row, failures
from benchmarks.calibrate.page import page

SEED = 20261121
REPLICATIONS = 2500
DESTINATION = Path(__file__).parents[2] / "docs" / "calibration.md"


class Cell(Protocol):
    """One drawn setting with several methods."""

    @property
    def name(self) -> str:
        """Return what is drawn."""

    def run(self, rng: np.random.Generator, replications: int) -> Iterator[Row]:
        """Yield one row per method."""


CELLS: tuple[Cell, ...] = (
    *coverage.CELLS,
    *coverage.RATIO_CELLS,
    *peeking.CELLS,
    *power.CELLS,
    *returns.CELLS,
    *verdicts.CELLS,
)


def run_cell(index: int, seed: int, replications: int) -> tuple[Row, ...]:
    """Run one cell; its random numbers depend on seed and place only."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
    return tuple(CELLS[index].run(rng, replications))


def run(seed: int, replications: int, workers: int) -> tuple[Row, ...]:
    """Run all cells in ``workers`` processes; rows come back in the order of the cells."""
    found: dict[int, tuple[Row, ...]] = {}
    # The slowest cells are the last ones: start with them.
    order = sorted(range(len(CELLS)), reverse=True)
    with ProcessPoolExecutor(max_workers=workers) as pool:
        pending: dict[Future[tuple[Row, ...]], int] = {
            pool.submit(run_cell, index, seed, replications): index for index in order
        }
        for done, future in enumerate(as_completed(pending), start=1):
            index = pending[future]
            found[index] = future.result()
            _progress(done, CELLS[index].name)
    return tuple(row for index in range(len(CELLS)) for row in found[index])


def _progress(done: int, name: str) -> None:
    width = 24
    filled = round(width * done / len(CELLS))
    bar = "#" * filled + "-" * (width - filled)
    line = f"[{bar}] {done}/{len(CELLS)} {name[:60]}"
    sys.stderr.write(f"\r{line:<100}" if sys.stderr.isatty() else f"{line}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every judged row passes, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibrate", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=DESTINATION)
    options = parser.parse_args(arguments)
    rows = run(options.seed, options.replications, options.workers)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page(rows, seed=options.seed), encoding="utf-8")
    failed = failures(rows)
    sys.stderr.write(f"\n{options.output}: {len(rows)} rows, {len(failed)} failed\n")
    for row in failed:
        sys.stderr.write(f"FAILED {row.section}: {row.method} in {row.cell}: {row.rate:.2%}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
