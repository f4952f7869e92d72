"""The columns of the unit table, and of which metrics they are."""

from __future__ import annotations

from collections.abc import Mapping

from klartext.analysis import covariates
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment, Metric

MONEY_COLUMNS = ("margin", "cost", "net", "outlook", "cost_high", "outlook_high")
"""Columns every unit table has beside the metrics."""

KEY_COLUMNS = ("unit", "variant", "exposed_at", "excluded", "mature")

REGIME = "regime"
"""Key column beside the others when the weights moved."""

STATE = "state"
"""Key column beside the others when units stand in a table as they were and as they are."""


def counted_metrics(experiment: Experiment) -> tuple[Metric, ...]:
    """Metrics with a column of their own: all but ratios and quantiles."""
    return tuple(metric for metric in experiment.metrics if metric.is_column)


def uncapped(experiment: Experiment) -> dict[str, str]:
    """Map each capped metric to the column of its values without the cap."""
    return {
        metric.key: f"{metric.key}.uncapped"
        for metric in counted_metrics(experiment)
        if metric.cap is not None
    }


def value_columns(experiment: Experiment) -> tuple[str, ...]:
    """Names of the float64 columns: metrics of one number, what stands beside them, then money.

    Beside them: uncapped ones, covariates, and the events that cost lines count.

    Raises
    ------
    KlartextError
        A metric is named like another column of the unit table.
    """
    metrics = tuple(metric.key for metric in counted_metrics(experiment))
    taken = sorted({*MONEY_COLUMNS, *KEY_COLUMNS, REGIME}.intersection(metrics))
    if taken:
        raise KlartextError(
            f"metric {taken[0]!r} of {experiment.key} has the name of a column of the unit "
            "table; give it another key"
        )
    beside = (
        *uncapped(experiment).values(),
        *covariates.all_columns(experiment),
        *count_columns(experiment).values(),
    )
    return (*metrics, *beside, *MONEY_COLUMNS)


def derived(experiment: Experiment) -> Mapping[str, Mapping[str, float]]:
    """Map each value column that is a weighted sum of others to their weights."""
    rollout = experiment.rollout
    stays = 1.0 if rollout is None else float(rollout.persistence.base)
    return {
        "net": {"margin": 1.0, "cost": -1.0},
        "outlook": {"margin": stays, "cost": -1.0},
        "outlook_high": {"margin": stays, "cost_high": -1.0},
    }


def count_columns(experiment: Experiment) -> dict[str, str]:
    """Map each event name that a cost line counts to its column."""
    names = {line.event for line in experiment.costs.lines if line.event is not None}
    return {name: f"events.{name}" for name in sorted(names)}


def event_names(experiment: Experiment) -> tuple[str, ...]:
    """Return what the events that metrics and cost lines count are called, in order."""
    names = {metric.event for metric in experiment.metrics if metric.event is not None}
    names |= {metric.refunds.event for metric in experiment.metrics if metric.refunds}
    return tuple(sorted(names | set(count_columns(experiment))))


def metric_columns(experiment: Experiment) -> dict[str, Metric]:
    """Map the column of each counted metric in the outcomes to the metric."""
    return {f"metric.{metric.key}": metric for metric in counted_metrics(experiment)}
