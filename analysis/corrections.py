"""Secondary metrics: their p-values, adjusted for each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from klartext.analysis import multiplicity
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.result import Correction, MetricResult, Number
from klartext.experiments.experiment import Experiment

_METHODS = {
    "holm": multiplicity.holm,
    "benjamini_hochberg": multiplicity.benjamini_hochberg,
    "benjamini_yekutieli": multiplicity.benjamini_yekutieli,
}


def corrected(experiment: Experiment, results: Sequence[MetricResult]) -> tuple[MetricResult, ...]:
    """Adjust the p-values of the secondary metrics of all treatments for each other.

    Parameters
    ----------
    experiment
        Resolved spec; ``inference.correction`` says what is controlled.
    results
        All metrics of all treatments.

    Notes
    -----
    The family is every metric of the spec but the primary one, for every treatment. The metrics of
    AI calls, which are always there, belong to it where the spec names them. What is read first
    counts, with the p-value of the mode. The false discovery rate of Benjamini and Hochberg holds
    at one fixed look only; else it takes Benjamini and Yekutieli.
    """
    name: Correction = "holm"
    if experiment.inference.correction == "false_discovery":
        fixed = experiment.inference.mode == "fixed"
        name = "benjamini_hochberg" if fixed else "benjamini_yekutieli"
    registered = {metric.key for metric in experiment.metrics}
    family = [one for one in results if not one.primary and one.metric in registered]
    adjusted = dict(
        zip(map(id, family), _METHODS[name]([_p_value(one) for one in family]), strict=True)
    )
    return tuple(
        replace(one, adjusted_p=adjusted[id(one)], correction=name) if id(one) in adjusted else one
        for one in results
    )


def _p_value(result: MetricResult) -> Number:
    _, first = result.estimates[0]
    return first if isinstance(first, NotEstimable) else first.p_value
