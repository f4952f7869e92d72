"""Covariates: which columns of the unit table hold what was known before exposure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta

from klartext.experiments.experiment import Experiment, Metric, Saving

_LOOKED_BACK = re.compile(r"(?P<metric>.+)\.before\.(?P<hours>\d+)h")

PREFIX = "covariate."
"""Events of covariates that unit tables carry are called this and the name."""

_HOUR = timedelta(hours=1)


def columns(experiment: Experiment, metric: Metric) -> tuple[str, ...]:
    """Columns that the estimates of ``metric`` are adjusted for, in the order of the spec.

    A ratio looks back on numerator and denominator: two columns, since a unit's own ratio need
    not exist.
    """
    found: list[str] = []
    for covariate in metric.covariates:
        if covariate.lookback is None:
            found.append(f"{PREFIX}{covariate.name}")
        else:
            found += [_column(part, covariate.lookback) for part in _parts(experiment, metric)]
    return tuple(found)


def of_value(experiment: Experiment) -> tuple[str, ...]:
    """Columns that margin, cost and net value are adjusted for: those of metrics of value."""
    entries = [entry for entry in experiment.value if not isinstance(entry, Saving)]
    every = (
        name for entry in entries for name in columns(experiment, experiment.metric(entry.metric))
    )
    return tuple(dict.fromkeys(every))


def all_columns(experiment: Experiment) -> tuple[str, ...]:
    """Columns of all covariates of the experiment, each once."""
    every = (name for metric in experiment.metrics for name in columns(experiment, metric))
    return tuple(dict.fromkeys(every))


def lookbacks(experiment: Experiment) -> Mapping[str, tuple[Metric, timedelta]]:
    """Map each column that looks back to its metric and how long before exposure."""
    return dict(_lookbacks(experiment))


def named(experiment: Experiment) -> tuple[str, ...]:
    """Columns of named covariates; their events are called alike."""
    return tuple(name for name in all_columns(experiment) if name.startswith(PREFIX))


def longest_lookback(experiment: Experiment) -> timedelta:
    """How long before exposure the events of metrics are needed."""
    return max((span for _, span in lookbacks(experiment).values()), default=timedelta(0))


def looked_back(column: str) -> tuple[str, timedelta] | None:
    """Return metric and time of a column that looks back; None for a named covariate."""
    found = _LOOKED_BACK.fullmatch(column)
    if found is None:
        return None
    return found["metric"], int(found["hours"]) * _HOUR


def readable(column: str) -> str:
    """Name a column as a reader would.

    Examples
    --------
    >>> readable("revenue.before.672h"), readable("covariate.history")
    ('revenue 28d before', 'history')
    """
    found = looked_back(column)
    if found is None:
        return column.removeprefix(PREFIX)
    metric, span = found
    whole = not span % timedelta(days=1)
    return f"{metric} {span.days}d before" if whole else f"{metric} {span // _HOUR}h before"


def _lookbacks(experiment: Experiment) -> Iterator[tuple[str, tuple[Metric, timedelta]]]:
    for metric in experiment.metrics:
        for covariate in metric.covariates:
            if covariate.lookback is not None:
                for part in _parts(experiment, metric):
                    yield _column(part, covariate.lookback), (part, covariate.lookback)


def _parts(experiment: Experiment, metric: Metric) -> tuple[Metric, ...]:
    if metric.numerator is None or metric.denominator is None:
        return (metric,)
    return experiment.metric(metric.numerator), experiment.metric(metric.denominator)


def _column(metric: Metric, lookback: timedelta) -> str:
    return f"{metric.key}.before.{lookback // _HOUR}h"
