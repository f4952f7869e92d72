"""Windows: how long after exposure things count, and when a unit is mature."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from klartext.experiments.experiment import Experiment


@dataclass(frozen=True, slots=True)
class Windows:
    """Time after exposure in which things count.

    Parameters
    ----------
    cost
        AI calls of a unit, and events of cost lines, count within it.
    maturity
        Longest window of all metrics, refunds and cost; a unit whose exposure is longer ago than
        this and the declared lateness is mature.
    """

    cost: timedelta
    maturity: timedelta


def windows(experiment: Experiment) -> Windows:
    """Return the windows of ``experiment``.

    Notes
    -----
    Cost counts as long as the value that it is held against, unless the spec says otherwise.
    Maturity waits for every metric, also those without value: one set of units serves all
    columns, and a guardrail read before its window has closed would look better than it is.
    """
    declared = experiment.costs.window
    cost = experiment.value_window if declared is None else declared
    closing = [metric.closes_after for metric in experiment.metrics]
    refunds = [metric.refunds.window for metric in experiment.metrics if metric.refunds]
    return Windows(cost, max([cost, *closing, *refunds]))
