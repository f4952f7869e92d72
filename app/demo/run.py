"""Run the demo: register, deliver, analyse, decide and report, on a simulated clock."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np

from klartext.app.demo.simulate import START, TODAY, Shop, simulate
from klartext.app.session import Session
from klartext.app.usecases import analysis, cost_import, facts, registry, reports
from klartext.experiments.errors import ConflictError
from klartext.experiments.workspace import WORKSPACE_FILE, find_workspace

EXPERIMENT = "reactivation-mail"
OWNER = "lena.vogt"
SEED = 20260112

Tell = Callable[[str, str], None]
"""Takes a command as one would type it, and what came of it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What the demo leaves behind."""

    folder: Path
    report: Path
    verdict: str


def run(folder: Path, *, replace: bool, seed: int, tell: Tell) -> Finished:
    """Make a workspace in ``folder`` and take it from YAML to the report.

    Parameters
    ----------
    folder
        Made; must be empty or missing, or hold an earlier demo and ``replace`` be true.
    replace
        Whether an earlier demo may be deleted.
    seed
        Of the simulated shop; the same seed gives the same files.
    tell
        Called after each step.

    Raises
    ------
    ConflictError
        The folder holds something else.
    """
    _make_workspace(folder, replace=replace)
    written = simulate(Shop(), folder / "data", np.random.default_rng(seed))
    tell("", f"a simulated shop: {Shop().customers:,} customers, files in {folder / 'data'}")

    before = _at(folder, START - timedelta(days=3))
    registered = registry.apply(before, (), actor=OWNER)[0].experiment
    tell("klartext apply", f"{EXPERIMENT} registered, sha256 {registered.sha256[:12]}")
    registry.move(_at(folder, START), EXPERIMENT, "running", actor=OWNER)
    tell(f"klartext start {EXPERIMENT}", "running; the rule of the decision is fixed from here on")

    today = _at(folder, TODAY)
    for path in (written.exposures, written.events):
        mapping = folder / "mappings" / f"{path.stem}.yaml"
        counts = facts.ingest(today, path, mapping).counts
        tell(
            f"klartext ingest data/{path.name} --mapping mappings/{mapping.name}",
            f"{counts.accepted:,} accepted, {counts.duplicate:,} duplicates, "
            f"{counts.conflict:,} conflicts, {counts.rejected:,} rejected",
        )
    mapping = folder / "mappings" / f"{written.calls.stem}.yaml"
    bill = cost_import.import_calls(today, written.calls, mapping)
    tell(
        f"klartext costs import data/{written.calls.name} --mapping mappings/{mapping.name}",
        f"{bill.calls.calls:,} calls, {bill.calls.amount:,.2f} {bill.currency}",
    )
    taken = analysis.decide(today, EXPERIMENT, actor=OWNER)
    verdict = taken.analysis.decision.verdict
    tell(f"klartext decide {EXPERIMENT}", f"{verdict}, recorded as look {taken.look}")
    page = reports.report(today, EXPERIMENT, folder / "report.html", language="en")
    tell(f"klartext report {EXPERIMENT} -o report.html", f"{page.size / 1000:,.0f} kB, one file")
    return Finished(folder, page.path, verdict)


def _at(folder: Path, instant: datetime) -> Session:
    return Session(find_workspace(folder), now=lambda: instant)


def _make_workspace(folder: Path, *, replace: bool) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not _is_demo(folder):
            raise ConflictError(f"{folder} holds something else than a demo. Name another folder.")
        if not replace:
            raise ConflictError(f"{folder} holds a demo already. Add --force to make it anew.")
        shutil.rmtree(folder)
    with as_file(files("klartext.app.demo") / "workspace") as template:
        shutil.copytree(template, folder, dirs_exist_ok=True)


def _is_demo(folder: Path) -> bool:
    file = folder / WORKSPACE_FILE
    return file.is_file() and "\nname: klartext-demo\n" in file.read_text(encoding="utf-8")
