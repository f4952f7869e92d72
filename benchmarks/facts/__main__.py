"""Compare paths from raw facts to a readout, and write docs/benchmarks.md.

Every run is a process of its own; the runs of a round follow each other, and a ratio is the
median over the rounds. Rounds that were measured before are kept: the same command again goes on
where it was interrupted; delete ``results.json`` to measure anew. This process stays small: what
it used would count as theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.environment import environment, output
from benchmarks.facts import agreement, report
from benchmarks.facts.scenario import Size

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
OWN = ("Klartext", "SQL by hand", "column scan", "Klartext, Spark")
PEERS = {
    "tea-tasting, Ibis": "tea-tasting",
    "tea-tasting, polars": "tea-tasting",
    "gbstats, pandas": "gbstats",
}
DAILY = (report.REFRESH, "Klartext")
"""A pair of runs a day later."""
MOST_ROWS = {"gbstats, pandas": 15_000_000, "Klartext, Spark": 2_000_000}
"""More are not given to pandas, which would need the memory of the whole machine, nor to a Spark in
one process, which says nothing about a cluster."""


def main() -> None:
    """Parse the command line, measure each size, and write the page."""
    options = _options()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {name: environment(folder, name) for name in sorted(set(PEERS.values()))}
    results = folder / "results.json"
    known = json.loads(results.read_text()) if results.exists() else {}
    for size in options.sizes:
        if _is_done(known.get(size, {}), Size.of(size), options):
            continue
        command = [sys.executable, "-m", "benchmarks.facts.generator", str(folder), size]
        plan = json.loads(Path(output(command).split()[-1]).read_text())
        _measure(plan, options, pythons, known, results)
        if options.discard:
            shutil.rmtree(plan["root"])
    page = report.page(known, report.machine(pythons))
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page)
    _say(f"wrote {options.page}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.facts", description=__doc__)
    parser.add_argument(
        "--sizes", type=_sizes, default=["10m"], help="millions of events: 10m,60m,100m"
    )
    parser.add_argument("--folder", type=Path, required=True, help="for facts and environments")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument(
        "--days", type=int, default=3, help="pairs of a daily refresh and a full run (default: 3)"
    )
    parser.add_argument("--memory-limit", default="4GiB", help="of DuckDB (default: 4GiB)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of DuckDB")
    parser.add_argument("--only", nargs="+", default=[*OWN, *PEERS], help="names of paths")
    parser.add_argument(
        "--discard", action="store_true", help="delete the facts of a size once it is measured"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/benchmarks.md")
    return parser.parse_args()


def _sizes(text: str) -> list[str]:
    return [Size.of(name).name for name in text.split(",")]


def _measure(
    plan: dict[str, Any],
    options: argparse.Namespace,
    pythons: dict[str, Path],
    known: dict[str, Any],
    results: Path,
) -> None:
    """Measure the rounds that ``results`` do not hold yet, and write each one down."""
    spill = results.parent / "spill"
    spill.mkdir(exist_ok=True)
    plan |= {"memory_limit": options.memory_limit, "threads": options.threads, "spill": str(spill)}
    plan_file = results.parent / "plan.json"
    plan_file.write_text(json.dumps(plan))
    paths = _paths(Size.of(plan["size"]), options)
    found = known.get(plan["size"], {})
    if not _is_begun(found, paths, options):
        found = {"rows": plan["rows"], **_settings(options), "runs": {path: [] for path in paths}}
    days = found.setdefault("days", {path: [] for path in DAILY})
    if min(map(len, days.values())) < options.days:
        output(_command("yesterday", pythons, plan_file))
    for runs, rounds in ((found["runs"], options.rounds), (days, options.days)):
        for number in range(min(map(len, runs.values())), rounds):
            answers: dict[str, Any] = {}
            measured = {}
            for path in runs:
                load = os.getloadavg()[0]
                run = json.loads(output(_command(path, pythons, plan_file))) | {"load": load}
                answers[path] = run.pop("answer", None) or run.pop("means", None)
                measured[path] = run
                _say(f"{plan['size']} round {number + 1}: {path}: {report.figures(run)}")
            _require_agreement(answers)
            for path, run in measured.items():
                runs[path].append(run)
            found["measured_at"] = datetime.now(UTC).isoformat(timespec="seconds")
            known[plan["size"]] = found
            partial = results.with_suffix(".partial")
            partial.write_text(json.dumps(known, indent=1))
            partial.replace(results)


def _paths(size: Size, options: argparse.Namespace) -> list[str]:
    return [
        path
        for path in (*OWN, *PEERS)
        if path in options.only and size.rows <= MOST_ROWS.get(path, size.rows)
    ]


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {"memory_limit": options.memory_limit, "threads": options.threads}


def _is_begun(found: dict[str, Any], paths: list[str], options: argparse.Namespace) -> bool:
    return _settings(options).items() <= found.items() and list(found["runs"]) == paths


def _is_done(found: dict[str, Any], size: Size, options: argparse.Namespace) -> bool:
    days = found.get("days", {path: [] for path in DAILY})
    return _is_begun(found, _paths(size, options), options) and all(
        len(each) >= rounds
        for runs, rounds in ((found["runs"], options.rounds), (days, options.days))
        for each in runs.values()
    )


def _command(path: str, pythons: dict[str, Path], plan: Path) -> list[str]:
    if path in PEERS:
        return [str(pythons[PEERS[path]]), str(HERE / "peers.py"), path, str(plan)]
    return [sys.executable, "-m", "benchmarks.facts.measure", path, str(plan)]


def _require_agreement(answers: dict[str, Any]) -> None:
    ours = answers.get("Klartext")
    if ours is None:
        return
    found = [
        f"{path}: {text}"
        for path in (*OWN, report.REFRESH)
        if answers.get(path) and path != "Klartext"
        for text in agreement.differences(ours, answers[path])
    ]
    for path in PEERS:
        means = answers.get(path)
        if means is not None:
            found += [f"{path}: {text}" for text in agreement.mean_differences(ours, means)]
    if found:
        raise SystemExit("the answers differ:\n" + "\n".join(found))


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - progress


if __name__ == "__main__":
    main()
