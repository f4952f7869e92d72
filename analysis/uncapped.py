"""What the net benefit would be without caps: a cap must not make the verdict."""

from __future__ import annotations

from klartext.analysis.columns import uncapped
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.percentile_caps import unresolved
from klartext.analysis.result import DecisionView, Number
from klartext.experiments.experiment import Experiment, Saving


def uncapped_net_benefit(
    experiment: Experiment, treatment: Moments, control: Moments, view: DecisionView
) -> Number | None:
    """Return the raw net benefit of the decision view without caps; None when nothing is capped.

    Notes
    -----
    A cap that is still to be resolved is ``cap-pending``: until then nothing is capped, and what
    a GO would be about is not settled. The margin is linear in the metrics, so the mean of the
    margin without caps differs by the value of each metric times the difference of its two means.
    """
    columns = uncapped(experiment)
    entries = [entry for entry in experiment.value if not isinstance(entry, Saving)]
    pending = {metric.key for metric in unresolved(experiment)}
    if any(entry.metric in pending for entry in entries):
        detail = "a percentile cap on a metric of value is not resolved yet"
        return NotEstimable("cap-pending", detail)
    if not any(entry.metric in columns for entry in entries):
        return None
    if isinstance(view.net_benefit, NotEstimable):
        return view.net_benefit
    more = 0.0
    for entry in entries:
        if entry.metric not in columns:
            continue
        for sign, moments in ((1, treatment), (-1, control)):
            cut = moments.sample(columns[entry.metric]).mean - moments.sample(entry.metric).mean
            more += sign * float(entry.each) * cut
    return view.net_benefit + view.units * view.persistence * more
