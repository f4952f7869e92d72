"""Reading an experiment file: all its mistakes at once, or the resolved experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from klartext.experiments.documents.validation import examine, problem_at, valid
from klartext.experiments.documents.yaml_document import file_bytes, parse
from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.spec.metric_rules import metric_findings
from klartext.experiments.spec.metric_syntax import MetricSyntax
from klartext.experiments.spec.names import Known, unique
from klartext.experiments.spec.resolve import resolve
from klartext.experiments.spec.resolved import Resolved, resolved
from klartext.experiments.spec.rules import findings
from klartext.experiments.spec.syntax import ExperimentDocument, MetricsDocument
from klartext.experiments.workspace import Workspace


def load(path: Path, workspace: Workspace) -> Resolved:
    """Return the experiment in the file at ``path``, resolved with the workspace's settings.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        The file, or the shared metrics it may name, have mistakes; all of them.
    """
    return loads(file_bytes(path), str(path), workspace)


def loads(text: bytes, file: str, workspace: Workspace) -> Resolved:
    """Return the experiment in ``text``; see `load`. ``file`` is the name problems give it."""
    shared, shared_problems = read_metrics(workspace)
    node, problems = parse(text, file)
    document = None
    if node is not None:
        document, found = examine(ExperimentDocument, node, file, settings=_settings(workspace))
        problems += found
    if document is not None and node is not None:
        known = Known(shared, workspace.properties)
        problems += tuple(
            problem_at(node, loc, file, wording) for loc, wording in findings(document, known)
        )
    if document is None or problems or shared_problems:
        raise ConfigurationError((*shared_problems, *_once(problems)))
    return resolved(resolve(document, shared, workspace), text.decode("utf-8"))


def read_metrics(workspace: Workspace) -> tuple[dict[str, MetricSyntax], tuple[Problem, ...]]:
    """Return the shared metrics by key, as far as they can be read, and what is wrong in them."""
    if workspace.metrics_file is None:
        return {}, ()
    file = workspace.metrics_file.name
    node, problems = parse(file_bytes(workspace.metrics_file), file)
    if node is None:
        return {}, problems
    document, found = examine(MetricsDocument, node, file, settings=_settings(workspace))
    if document is None or not valid(document.metrics):
        return {}, (*problems, *found)
    metrics = [(index, item) for index, item in enumerate(document.metrics) if valid(item)]
    keys = [(("metrics", index, "key"), item.key) for index, item in metrics]
    wrong = list(unique(keys, "metric"))
    for index, item in metrics:
        for loc, wording in metric_findings(item, workspace.properties):
            wrong.append((("metrics", index, *loc), wording))
    problems = (*problems, *found, *(problem_at(node, loc, file, words) for loc, words in wrong))
    first_come = {item.key: item for _, item in reversed(metrics) if valid(item.key)}
    return first_come, _once(problems)


def _settings(workspace: Workspace) -> Mapping[str, Any]:
    return {"currency": workspace.currency, "timezone": workspace.timezone}


def _once(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return tuple(dict.fromkeys(problems))
