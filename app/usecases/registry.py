"""Register the experiments of a workspace and move them through their lifecycle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from klartext.app.session import Session
from klartext.app.usecases.prior import with_prior
from klartext.experiments import caps, lifecycle, registry
from klartext.experiments.caps import PercentileCap
from klartext.experiments.documents.yaml_document import file_bytes
from klartext.experiments.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    NotReadyError,
    Problem,
)
from klartext.experiments.registry import Registered, Status
from klartext.experiments.spec.loading import loads
from klartext.experiments.spec.resolved import Resolved
from klartext.experiments.state import reading

_KEY = re.compile(r"""^key:\s*["']?([^\s"'#]+)""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one file."""

    file: str
    outcome: Literal["registered", "new version", "unchanged"]
    experiment: Registered


def apply(session: Session, files: Sequence[Path], *, actor: str) -> tuple[Applied, ...]:
    """Register the experiments in ``files``, default all of the workspace; all of them or none.

    Raises
    ------
    ConfigurationError
        The mistakes of all files; nothing was registered.
    ConflictError
        A started experiment would change in what decides it; nothing was registered.
    NotFoundError
        A file does not exist, or the workspace has none.
    """
    specs = _load_all(session, files or _all_files(session))
    now = session.now()
    applied: list[Applied] = []
    conflicts: list[str] = []
    with session.engine.begin() as connection:
        for file, resolved in specs:
            key = resolved.experiment.key
            versions = len(registry.history(connection, key))
            try:
                known = with_prior(connection, resolved)
                experiment = registry.apply(connection, known, actor=actor, now=now)
            except ConflictError as conflict:
                conflicts.append(f"{file}: {conflict}")
                continue
            if experiment.version == versions:
                applied.append(Applied(file, "unchanged", experiment))
            else:
                outcome: Literal["registered", "new version"] = (
                    "new version" if versions else "registered"
                )
                applied.append(Applied(file, outcome, experiment))
        if conflicts:
            rest = "\nNothing was registered." if len(specs) > 1 else ""
            raise ConflictError("\n".join(conflicts) + rest)
    return tuple(applied)


def overview(session: Session) -> tuple[tuple[Registered, datetime], ...]:
    """Return all registered experiments, by key, with the instant their status began."""
    with reading(session.engine) as connection:
        return tuple(
            (experiment, lifecycle.since(connection, experiment.key))
            for experiment in registry.registered(connection)
        )


def move(session: Session, key: str, to: Status, *, actor: str, reason: str = "") -> Registered:
    """Move an experiment to another status, recorded with actor and reason.

    The first start freezes the percentile caps that events before it resolve.

    Raises
    ------
    NotReadyError
        It is described in the workspace but not registered.
    NotFoundError
        There is no such experiment.
    ConflictError
        The status may not follow, the reason is missing, or the layer has no room.
    """
    now = session.now()
    resolved = _caps_before(session, key) if to == "running" else ()
    with session.engine.begin() as connection:
        require_registered(session, connection, key)
        moved = lifecycle.transition(connection, key, to, actor=actor, now=now, reason=reason)
        if resolved:
            caps.freeze(connection, key, resolved, actor=actor, now=now)
        return moved


def _caps_before(session: Session, key: str) -> tuple[PercentileCap, ...]:
    """Return what the events before the first start say about percentile caps."""
    with reading(session.engine) as connection:
        if key not in registry.keys(connection):
            return ()  # the transition says so, in better words
        registered = registry.load(connection, key)
    percentiles = [metric.cap_percentile for metric in registered.experiment.metrics]
    if registered.status != "draft" or not any(percentiles):
        return ()
    from klartext.analysis.engine import open_engine  # noqa: PLC0415 - heavy, and rarely needed
    from klartext.analysis.percentile_caps import before_start  # noqa: PLC0415

    with open_engine(session.workspace.engine) as engine:
        tables, watermark = session.see(engine, usage=False)
        if watermark is None:
            return ()
        return before_start(registered.experiment, tables, watermark, engine=engine)


def require_registered(session: Session, connection: sa.Connection, key: str) -> None:
    """Raise when nothing is registered under ``key``, naming the command that would do it.

    Raises
    ------
    NotReadyError
        A file of the workspace describes it.
    NotFoundError
        None does.
    """
    known = registry.keys(connection)
    if key in known:
        return
    described = _described(session)
    if key in described:
        raise NotReadyError(
            f"{key} is described in {described[key]} but not registered. "
            f"Run `klartext apply {described[key]}` first."
        )
    raise NotFoundError(registry.not_registered(key, sorted({*known, *described})))


def _all_files(session: Session) -> tuple[Path, ...]:
    files = session.workspace.experiment_files
    if not files:
        raise NotFoundError(
            f"{session.workspace.root / 'experiments'} holds no experiment. "
            f"Make one with `klartext new KEY`, or name files: `klartext apply FILE`."
        )
    return files


def _load_all(session: Session, files: Sequence[Path]) -> list[tuple[str, Resolved]]:
    """Read every file before any is registered, and gather the mistakes of all."""
    specs: list[tuple[str, Resolved]] = []
    problems: list[Problem] = []
    owners: dict[str, str] = {}
    for path in files:
        file = _shown(session, path)
        try:
            resolved = loads(file_bytes(path), file, session.workspace)
        except ConfigurationError as error:
            problems.extend(error.problems)
            continue
        key = resolved.experiment.key
        if key in owners:
            message = f"is {key!r}, which {owners[key]} has too: a key names one experiment"
            fix = "Give one of them another key."
            problems.append(Problem(file, 0, 0, "key", message, fix, "duplicate-experiment"))
        owners[key] = file
        specs.append((file, resolved))
    if problems:
        raise ConfigurationError(set(problems))  # metrics.yaml's come with every file
    return specs


def _described(session: Session) -> dict[str, str]:
    """Keys and files of the workspace, by a glance at the text: the file may have mistakes."""
    found = {}
    for path in session.workspace.experiment_files:
        line = _KEY.search(path.read_text("utf-8", "replace"))
        if line:
            found[line[1]] = _shown(session, path)
    return found


def _shown(session: Session, path: Path) -> str:
    root = session.workspace.root
    full = path.resolve()
    return str(full.relative_to(root)) if full.is_relative_to(root) else str(path)
