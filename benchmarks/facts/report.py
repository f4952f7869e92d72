"""The page: machine, versions, medians and ratios of each size, beside the goals."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FLOOR, LIMIT, OURS = "SQL by hand", "column scan", "Klartext"
REFRESH = "daily refresh"
IBIS, POLARS = "tea-tasting, Ibis", "tea-tasting, polars"
STEPS = {
    LIMIT: "reading the columns at all",
    POLARS: "the narrower question in polars, money in floats",
    IBIS: "the same question in DuckDB, money in decimals",
    FLOOR: "the whole answer in DuckDB",
    OURS: "the whole answer from one expression for any experiment and engine",
}
"""What each path does beyond the one before it."""

GIB = 2**30
_PACKAGES = {
    "Klartext": ("duckdb", "ibis-framework", "pyarrow", "deltalake", "pyspark"),
    "tea-tasting": ("tea-tasting", "polars", "ibis-framework", "duckdb"),
    "gbstats": ("gbstats", "pandas", "numpy", "pyarrow"),
}

HEAD = """\
# Benchmarks

Written by `python -m benchmarks.facts`; do not edit. Times of one machine mean little: the ratios
are what to compare. A ratio is the median over rounds in which the paths run one after the other,
each in a process of its own; CPU time is that of all threads. Imports are not counted, opening the
engine and the tables is. Peak memory is the largest resident size of the whole process.

## From raw facts to a readout

Exposures, events and AI calls lie in Delta tables partitioned by day, one file a day, maintained
once a week: a third as many exposures as events, one call for twenty events, eleven units for 120
events. Two variants,
four metrics (two conversions, revenue net of refunds, items) with windows of 7, 21 and 35 days,
each adjusted for itself in the 28 days before exposure, margin, AI cost and net value. Two thirds
of the units are mature.

- **Klartext**: `read_out`, as `klartext analyze` runs it: Ibis on DuckDB.
- **daily refresh**: the same answer (checked in every round) by `klartext analyze --kept`, a day
  after another one; in pairs of its own with a full run.
- **SQL by hand**: the same answer (counts and money exactly, moments to 1e-9; checked in every
  round) in DuckDB SQL written for this one experiment, by somebody who knows that its means are
  small: raw sums of squares will do.
- **Klartext, Spark**: the same expression on Spark in one process, its start included; on facts of
  this size that is a proof that it answers alike, not what Spark is for.
- **column scan**: reads the columns that are needed and does nothing with them.
- **tea-tasting, Ibis** and **tea-tasting, polars**: unit rows as a careful user writes them, then
  tea-tasting: tests of the four metrics, adjusted, and of net value. Less than the above: no third
  moments, no bounds of cost, no checks of amounts, no list of calls, no units that wait or are
  excluded, and nothing for a mean far from zero.
- **gbstats, pandas**: the same in pandas, from columns and rows that Arrow has filtered; up to
  10 million events.
"""


STEPS_HEAD = """\
### Why the other tools are faster

tea-tasting is asked less than Klartext answers. CPU seconds (median), and how much more each step
takes than the one before it: what polars does better than DuckDB, what the longer answer costs, and
what it costs not to be written for one experiment and one engine.
"""


def figures(found: Mapping[str, float]) -> str:
    """Return one run in short."""
    return (
        f"{found['seconds']:.2f} s, {found['cpu']:.2f} s CPU, {found['peak'] / GIB:.2f} GiB, "
        f"load {found.get('load', 0):.1f}"
    )


def page(known: Mapping[str, Any], machine: str) -> str:
    """Return the page about all sizes measured so far."""
    sizes = sorted(known, key=lambda name: int(name.removesuffix("m")))
    parts = [HEAD, machine, *(_size(name, known[name]) for name in sizes), _goals(known, sizes)]
    steps = [_steps(name, known[name]["runs"]) for name in sizes if _has_steps(known[name])]
    return "\n".join([*parts, *([STEPS_HEAD, *steps] if steps else [])])


def machine(pythons: Mapping[str, Path]) -> str:
    """Return what the runs ran on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    lines = [
        "### Machine",
        "",
        (
            f"{os.cpu_count()} processors ({_processor()}), {memory:.0f} GiB memory, "
            f"{platform.system()}, CPython {platform.python_version()}"
        ),
        "",
    ]
    for name, python in {"Klartext": Path(sys.executable), **pythons}.items():
        lines.append(f"- {name}: {_versions(python, _PACKAGES[name])}")
    return "\n".join([*lines, ""])


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions(python: Path, packages: tuple[str, ...]) -> str:
    code = "import sys, importlib.metadata as m; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"  # noqa: E501 - one line of code
    ran = subprocess.run(  # noqa: S603 - an interpreter that this benchmark made
        [str(python), "-c", code, *packages], stdout=subprocess.PIPE, text=True, check=True
    )
    return ran.stdout.strip()


def _size(name: str, found: Mapping[str, Any]) -> str:
    runs = found["runs"]
    rounds = len(next(iter(runs.values())))
    loads = [run["load"] for each in runs.values() for run in each]
    lines = [
        f"### {int(name.removesuffix('m'))} million events ({found['rows'] / 1e6:.1f} M rows)",
        "",
        (
            f"{found['measured_at']}; {rounds} {'round' if rounds == 1 else 'rounds'}, "
            f"{found['threads']} threads, memory limit "
            f"of DuckDB {found['memory_limit']}, load of the machine {min(loads):.1f} to "
            f"{max(loads):.1f}."
        ),
        "",
        "| path | seconds | CPU s | peak GiB | seconds / SQL by hand | CPU / SQL by hand |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for path, each in runs.items():
        seconds, cpu, peak = (
            statistics.median(run[what] for run in each) for what in ("seconds", "cpu", "peak")
        )
        ratios = [_shown(_ratio(runs, path, FLOOR, what)) for what in ("seconds", "cpu")]
        lines.append(
            f"| {path} | {seconds:.2f} | {cpu:.2f} | {peak / GIB:.2f} | {ratios[0]} | {ratios[1]} |"
        )
    days = found.get("days", {})
    if days.get(REFRESH):
        told = [
            " s and ".join(
                f"{statistics.median(run[what] for run in days[path]):.2f}"
                for what in ("seconds", "cpu")
            )
            for path in (REFRESH, OURS)
        ]
        lines += [
            "",
            (
                f"A day later (medians of {len(days[REFRESH])} pairs): daily refresh "
                f"{told[0]} s CPU, full run {told[1]} s CPU."
            ),
        ]
    return "\n".join([*lines, ""])


def _ratio(runs: Mapping[str, Any], one: str, other: str, what: str) -> float | None:
    if one not in runs or other not in runs:
        return None
    pairs = zip(runs[one], runs[other], strict=True)
    return float(statistics.median(mine[what] / theirs[what] for mine, theirs in pairs))


def _shown(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"


def _goals(known: Mapping[str, Any], sizes: list[str]) -> str:
    lines = [
        "### Goals",
        "",
        "| what | goal | measured (CPU) |",
        "|---|---|---|",
        *(line for name in sizes for line in _goals_of(name, known[name])),
    ]
    if {"10m", "100m"} <= set(sizes):
        small, large = known["10m"], known["100m"]
        per_row = [
            _median(large, what) / large["rows"] / (_median(small, what) / small["rows"])
            for what in ("seconds", "cpu")
        ]
        lines.append(
            "| time per row at 100 M events / at 10 M | <= 1.3 | "
            f"{per_row[0]:.2f} ({per_row[1]:.2f}) |"
        )
    return "\n".join([*lines, ""])


def _has_steps(found: Mapping[str, Any]) -> bool:
    return STEPS.keys() <= found["runs"].keys()


def _steps(name: str, runs: Mapping[str, Any]) -> str:
    cpu = [statistics.median(run["cpu"] for run in runs[path]) for path in STEPS]
    rows = zip(STEPS.items(), cpu, [0.0, *cpu], strict=False)
    return "\n".join(
        [
            f"| {name} | CPU s | more | what it adds |",
            "|---|---:|---:|---|",
            *(f"| {path} | {s:.2f} | {s - t:+.2f} | {what} |" for (path, what), s, t in rows),
            "",
        ]
    )


def _median(found: Mapping[str, Any], what: str) -> float:
    return float(statistics.median(run[what] for run in found["runs"][OURS]))


def _goals_of(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    runs = found["runs"]
    goals = (
        (FLOOR, "<= 1.25"),
        (IBIS, "<= 1.0"),
        (POLARS, "<= 1.0"),
        ("gbstats, pandas", "< 1.0"),
        (LIMIT, "–"),
    )
    for other, goal in goals:
        ratio, cpu = (_ratio(runs, OURS, other, what) for what in ("seconds", "cpu"))
        if ratio is not None:
            shown = f"{_shown(ratio)} ({_shown(cpu)})"
            yield f"| {name}: Klartext / {other} | {goal} | {shown} |"
    days = found.get("days", {})
    if all(days.get(path) for path in (REFRESH, OURS)):
        again = [_shown(_ratio(days, REFRESH, OURS, what)) for what in ("seconds", "cpu")]
        yield f"| {name}: {REFRESH} / Klartext | <= 0.10 | {again[0]} ({again[1]}) |"
    peak = max(run["peak"] for run in runs[OURS]) / GIB
    yield f"| {name}: peak memory, GiB | < 6 at a limit of 4 GiB | {peak:.2f} |"
