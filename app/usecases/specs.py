"""Make, check, show and compare experiments as they are written; nothing is registered here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from klartext.app.session import Session
from klartext.app.usecases.prior import keep_prior
from klartext.experiments import registry
from klartext.experiments.changes import Change, classify
from klartext.experiments.documents.yaml_document import file_bytes
from klartext.experiments.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    Problem,
)
from klartext.experiments.experiment import Experiment
from klartext.experiments.registry import Registered
from klartext.experiments.spec.canonical import canonical, restore
from klartext.experiments.spec.linter import lint
from klartext.experiments.spec.loading import loads, read_metrics
from klartext.experiments.spec.resolved import Resolved
from klartext.experiments.spec.scaffold import (
    FIRST_KEYS,
    Blanks,
    TemplateName,
    experiment_text,
    workspace_files,
)
from klartext.experiments.state import reading
from klartext.experiments.workspace import WORKSPACE_FILE

NEW_WORKSPACE_CURRENCY = "EUR"
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"(?P<key>[a-z0-9][a-z0-9_-]*)(?:@(?P<version>[0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Checked:
    """What `validate` found in one file: mistakes, warnings, and the hash if it is valid.

    A file without mistakes of its own is not valid while the shared metrics have some.
    """

    file: str
    valid: bool
    key: str | None
    sha256: str | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """An experiment as it is written in a file or registered."""

    name: str
    experiment: Experiment
    canonical: str
    sha256: str
    source: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What differs between two experiments; ``started`` is whether ``before`` runs or ran."""

    before: str
    after: str
    changes: tuple[Change, ...]
    started: bool


def init(directory: Path, template: TemplateName, *, owner: str, now: datetime) -> tuple[Path, ...]:
    """Make a workspace in ``directory`` from a template, and return its files.

    Raises
    ------
    ConflictError
        One of the files is there already; nothing was written.
    """
    name = re.sub(r"[^a-z0-9_-]+", "-", directory.resolve().name.lower()).strip("-_")[:64]
    key = FIRST_KEYS[template]
    blanks = Blanks(key, owner, NEW_WORKSPACE_CURRENCY, now.date())
    files = workspace_files(template, name or "workspace", blanks)
    paths = {directory / file: text for file, text in files.items()}
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise ConflictError(
            f"{', '.join(there)}: there already; nothing was written. "
            "Choose another directory, or add an experiment with 'klartext new KEY'."
        )
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tuple(paths)


def new(session: Session, key: str, template: TemplateName, *, owner: str) -> Path:
    """Write a new experiment from a template, and return its file.

    Raises
    ------
    ConflictError
        A file or experiment with this key is there already.
    ConfigurationError
        The key is none, or the shared metrics have mistakes.
    """
    if not _KEY.fullmatch(key):
        fix = "Use lower-case letters, digits, - and _, at most 64 of them."
        message = f"{key!r} is not a key"
        raise ConfigurationError([Problem("klartext new", 0, 0, "", message, fix, "key")])
    workspace = session.workspace
    shared, problems = read_metrics(workspace)
    if problems:
        raise ConfigurationError(problems)
    path = workspace.root / "experiments" / f"{key}.yaml"
    for file, resolved in _readable(session):
        if resolved.experiment.key == key:
            raise ConflictError(f"{_shown_path(file)} has the key {key!r} already.")
    today = session.now().astimezone(ZoneInfo(workspace.timezone)).date()
    text = experiment_text(template, Blanks(key, owner, workspace.currency, today), shared)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ConflictError(f"{_shown_path(path)} is there already; nothing was written.") from None
    return Path(_shown_path(path))


def validate(session: Session, files: Sequence[Path] = ()) -> tuple[Checked, ...]:
    """Check the files, default the shared metrics and all experiments of the workspace.

    Raises
    ------
    NotFoundError
        A file does not exist.
    """
    workspace = session.workspace
    chosen = list(files) or list(workspace.experiment_files)
    checked: list[Checked] = []
    _, shared_problems = read_metrics(workspace)
    metrics_file = workspace.metrics_file
    named = [file for file in chosen if metrics_file is not None and _same(file, metrics_file)]
    if metrics_file is not None and (not files or named or shared_problems):
        name = _shown_path(metrics_file)
        checked.append(Checked(name, not shared_problems, None, None, shared_problems, ()))
    owners: dict[str, str] = {}
    for file in chosen:
        if file in named or _same(file, workspace.root / WORKSPACE_FILE):
            continue  # opening the workspace has checked klartext.yaml
        one = _check(session, file, shared_problems)
        if one.key is not None and one.key in owners:
            message = f"is {one.key!r}, which {owners[one.key]} has already"
            fix = "Give one of them another key."
            problem = Problem(one.file, 0, 0, "key", message, fix, "key-twice")
            one = replace(one, valid=False, problems=(problem,))
        elif one.key is not None:
            owners[one.key] = one.file
        checked.append(one)
    return tuple(checked)


def refused(error: ConfigurationError) -> Checked:
    """Return what was found in the file that the first problem is in, such as klartext.yaml."""
    return Checked(
        error.problems[0].file,
        valid=False,
        key=None,
        sha256=None,
        problems=error.problems,
        warnings=(),
    )


def show(session: Session, subject: str) -> Shown:
    """Return the experiment in a file, else the registered one, else the one in the workspace.

    Parameters
    ----------
    session
        The workspace.
    subject
        A path, ``KEY`` or ``KEY@VERSION``.

    Raises
    ------
    NotFoundError
        There is neither; the message names the nearest key.
    """
    path = Path(subject)
    if path.is_file() or path.suffix in {".yaml", ".yml"}:
        return _written(_load(session, path), subject)
    try:
        return _registered(session, subject)[0]
    except NotFoundError:
        written = _in_workspace(session, subject)
        if written is None:
            raise
        return written


def diff(session: Session, before: str, after: str | None) -> Compared:
    """Return what changes from ``before`` to ``after``, and what that means for a running test.

    Parameters
    ----------
    session
        The workspace.
    before, after
        Paths, ``KEY`` or ``KEY@VERSION``. Without ``after``, the registered version is compared
        with the file of the workspace that has its key (or that ``before`` names).
    """
    if after is not None:
        first, second = show(session, before), show(session, after)
    else:
        second = show(session, before) if Path(before).is_file() else _expect(session, before)
        first, _ = _registered(session, second.experiment.key)
        second = replace(second, experiment=keep_prior(second.experiment, first.experiment))
    changes = classify(first.experiment, second.experiment)
    return Compared(first.name, second.name, changes, _has_started(session, first))


def _expect(session: Session, key: str) -> Shown:
    written = _in_workspace(session, key)
    if written is None:
        raise NotFoundError(f"no file in experiments/ has the key {key!r}. Name two things.")
    return written


def _check(session: Session, file: Path, shared_problems: tuple[Problem, ...]) -> Checked:
    name = _shown_path(file)
    try:
        resolved = loads(file_bytes(file), name, session.workspace)
    except ConfigurationError as error:
        own = tuple(problem for problem in error.problems if problem not in shared_problems)
        return replace(refused(error), file=name, problems=own)
    experiment = resolved.experiment
    warnings = lint(experiment, resolved.source, name)
    return Checked(
        name,
        valid=True,
        key=experiment.key,
        sha256=resolved.sha256,
        problems=(),
        warnings=warnings,
    )


def _load(session: Session, file: Path) -> Resolved:
    return loads(file_bytes(file), _shown_path(file), session.workspace)


def _readable(session: Session) -> tuple[tuple[Path, Resolved], ...]:
    """Return the experiments of the workspace whose files have no mistakes."""
    found = []
    for file in session.workspace.experiment_files:
        try:
            found.append((file, _load(session, file)))
        except ConfigurationError:
            continue  # `validate` reports it; here only keys of valid files are wanted
    return tuple(found)


def _in_workspace(session: Session, key: str) -> Shown | None:
    for file, resolved in _readable(session):
        if resolved.experiment.key == key:
            return _written(resolved, _shown_path(file))
    usual = session.workspace.root / "experiments" / f"{key}.yaml"
    if usual.is_file():
        _load(session, usual)  # raises its mistakes, which are why it was not found
    return None


def _written(resolved: Resolved, name: str) -> Shown:
    return Shown(name, resolved.experiment, resolved.canonical, resolved.sha256, resolved.source)


def _registered(session: Session, subject: str) -> tuple[Shown, Registered]:
    match = _VERSION.fullmatch(subject)
    if match is None:
        raise NotFoundError(f"{subject!r} is neither a file nor KEY or KEY@VERSION.")
    key = match["key"]
    with reading(session.engine) as connection:
        current = registry.load(connection, key)
        versions = registry.history(connection, key)
    if match["version"] is None:
        name = f"{key}@{current.version}"
        text = canonical(current.experiment)
        return Shown(name, current.experiment, text, current.sha256, current.source), current
    for version in versions:
        if version.version == int(match["version"]):
            experiment = restore(version.canonical)
            shown = Shown(subject, experiment, version.canonical, version.sha256, version.source)
            return shown, current
    raise NotFoundError(f"{key} has versions 1 to {len(versions)}, not {match['version']}.")


def _has_started(session: Session, shown: Shown) -> bool:
    try:
        _, current = _registered(session, shown.experiment.key)
    except NotFoundError:
        return False
    return current.started_at is not None


def _same(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()


def _shown_path(path: Path) -> str:
    """Return the path as somebody in the current directory would type it."""
    try:
        return os.path.relpath(path)
    except ValueError:  # another drive
        return str(path)


def resolved_form(shown: Shown) -> dict[str, object]:
    """Return the resolved form, keys in the order of the spec."""
    document = json.loads(shown.canonical)
    order = ["schema", *Experiment.__dataclass_fields__]
    return {key: document[key] for key in order}
