"""Windows: how long after exposure things count, and when a unit is mature."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from klartext.experiments.experiment import Experiment, Saving


@dataclass(frozen=True, slots=True)
class Windows:
    """Time after exposure in which things count.

    Parameters
    ----------
    value
        Longest window of a metric that carries value; events of cost lines count within it.
    maturity
        Longest window of all metrics and refunds; a unit whose exposure is longer ago than this
        and the declared lateness is mature.
    """

    value: timedelta
    maturity: timedelta


def windows(experiment: Experiment) -> Windows:
    """Return the windows of ``experiment``.

    Notes
    -----
    Maturity waits for every metric, also those without value: one set of units serves all
    columns, and a guardrail read before its window has closed would look better than it is.
    """
    valued = {entry.metric for entry in experiment.value if not isinstance(entry, Saving)}
    every = [metric.closes_after for metric in experiment.metrics]
    value = [metric.closes_after for metric in experiment.metrics if metric.key in valued]
    refunds = [metric.refunds.window for metric in experiment.metrics if metric.refunds]
    longest = max(every, default=timedelta(0))
    return Windows(max(value, default=longest), max([longest, *refunds]))
