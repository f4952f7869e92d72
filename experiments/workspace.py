"""The workspace: a folder with ``klartext.yaml``, and everything that file settles."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from klartext.experiments.engines import EngineSettings
from klartext.experiments.errors import ConfigurationError, NotFoundError, Problem

if TYPE_CHECKING:
    from klartext.experiments.mapped_tables import MappedFacts
    from klartext.experiments.workspace_document import WorkspaceDocument

WORKSPACE_FILE = "klartext.yaml"
KEY_VARIABLE = "KLARTEXT_PSEUDONYM_KEY"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where things are and how money, language and time are meant.

    ``facts_root`` is a path or URL of Delta tables, ``mapped`` what lies in tables of the company
    instead (None: nothing), ``state_url`` an SQLAlchemy URL. ``lateness``
    is how late events may arrive. The pseudonym key lies outside the workspace by default, so
    that a backup of state and facts does not hold it.
    """

    root: Path
    name: str
    state_url: str
    facts_root: str
    mapped: MappedFacts | None
    engine: EngineSettings
    currency: str
    language: Literal["en", "de"]
    timezone: str
    lateness: timedelta
    properties: Mapping[str, Literal["text", "number", "integer", "boolean", "money"]]
    key_file: Path
    prices_file: Path | None
    rates_file: Path | None
    metrics_file: Path | None
    roles: Mapping[str, tuple[str, ...]]

    @property
    def experiment_files(self) -> tuple[Path, ...]:
        """The YAML files in ``experiments/``, sorted by name."""
        folder = self.root / "experiments"
        return tuple(sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))))


def find_workspace(start: Path) -> Workspace:
    """Return the workspace whose ``klartext.yaml`` is ``start``, or lies in it or above it.

    Raises
    ------
    NotFoundError
        There is none.
    ConfigurationError
        ``klartext.yaml`` has mistakes; all of them.
    """
    start = start.absolute()
    if start.name == WORKSPACE_FILE and start.is_file():
        return read_workspace(start)
    for folder in (start, *start.parents):
        if (folder / WORKSPACE_FILE).is_file():
            return read_workspace(folder / WORKSPACE_FILE)
    raise NotFoundError(
        f"no {WORKSPACE_FILE} in {start} or above it. "
        "Make a workspace with 'klartext init', or name one with --workspace."
    )


def read_workspace(path: Path) -> Workspace:
    """Return the workspace that the ``klartext.yaml`` at ``path`` describes."""
    from klartext.experiments.documents.validation import (  # noqa: PLC0415 - pydantic is heavy
        examine,
        problem_at,
    )
    from klartext.experiments.documents.yaml_document import file_bytes, parse  # noqa: PLC0415
    from klartext.experiments.engine_document import settings_of  # noqa: PLC0415
    from klartext.experiments.mapped_document import FactsForm, mapped_facts  # noqa: PLC0415
    from klartext.experiments.workspace_document import WorkspaceDocument  # noqa: PLC0415

    node, found = parse(file_bytes(path), path.name)
    if node is None:
        raise ConfigurationError(found)
    document, more = examine(WorkspaceDocument, node, path.name)
    if document is None or found or more:
        raise ConfigurationError((*found, *more))
    root = path.parent.resolve()
    problems: list[Problem] = []

    def named_file(key: str, name: str | None, default: str) -> Path | None:
        chosen = root / (name or default)
        if chosen.is_file():
            return chosen
        if name is not None:
            words = ("missing-file", f"is {name!r}: there is no such file", "Make it, or fix it.")
            problems.append(problem_at(node, (key,), path.name, words))
        return None

    facts, mapped = document.facts, None
    if isinstance(facts, FactsForm):
        mapped, undeclared = mapped_facts(
            facts, document.properties, document.currency, file=path.name, node=node
        )
        problems += undeclared
        facts = facts.location
    workspace = Workspace(
        root=root,
        name=document.name,
        state_url=_state_url(root, document.state),
        facts_root=_facts_root(root, facts),
        mapped=mapped,
        engine=settings_of(document.engine, root),
        currency=document.currency,
        language=document.language,
        timezone=document.timezone,
        lateness=document.lateness,
        properties=dict(document.properties),
        key_file=_key_file(root, document),
        prices_file=named_file("prices", document.prices, "prices.yaml"),
        rates_file=named_file("rates", document.rates, "rates.csv"),
        metrics_file=named_file("metrics", document.metrics, "metrics.yaml"),
        roles=dict(document.roles),
    )
    for name, other in _alike(document.properties):
        words = (
            "alike",
            f"is {name!r} beside {other!r}: facts have one column for both",
            "Rename one.",
        )
        problems.append(problem_at(node, ("properties", name), path.name, words))
    stated = document.pseudonym_key
    if stated is not None and (root / Path(stated).expanduser()).resolve().is_relative_to(root):
        words = (
            "key-in-workspace",
            f"is {stated!r}, inside the workspace: a copy or backup of it would name every unit",
            "Name a file elsewhere, or remove the line for ~/.config/klartext/keys.",
        )
        problems.append(problem_at(node, ("pseudonym_key",), path.name, words))
    if problems:
        raise ConfigurationError(problems)
    return workspace


def _alike(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name that differs from an earlier one in case only, and that one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            yield name, other


def _state_url(root: Path, stated: str | None) -> str:
    """Return the URL; a relative SQLite path is meant from the workspace, not from the caller."""
    if stated is None:
        return f"sqlite:///{root / '.klartext' / 'state.db'}"
    scheme, separator, rest = stated.partition(":///")
    if separator and scheme.startswith("sqlite") and rest and not rest.startswith(("/", ":")):
        return f"{scheme}:///{root / rest}"
    return stated


def _facts_root(root: Path, stated: str | None) -> str:
    if stated is not None and "://" in stated:
        return stated
    return str(root / (stated or ".klartext/facts"))


def _key_file(root: Path, document: WorkspaceDocument) -> Path:
    if named := os.environ.get(KEY_VARIABLE):
        return Path(named).expanduser().absolute()
    if document.pseudonym_key is not None:
        return root / Path(document.pseudonym_key).expanduser()
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    place = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    return configuration / "klartext" / "keys" / f"{document.name}-{place}.key"
