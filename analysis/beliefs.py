"""What is believed of a metric: the posteriors of all variants, compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from klartext.analysis.bayes import beta, gamma, student
from klartext.analysis.bayes.comparison import Comparison, Region, compare
from klartext.analysis.bayes.marginal import Marginal
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.ratio_metrics import Quantity, Ratio, quantity
from klartext.analysis.result import Beliefs, MetricResult
from klartext.experiments.experiment import Experiment, Metric

NET = "net"
"""The net value, which no metric declares."""


def believed(
    experiment: Experiment, moments: Mapping[str, Moments], results: Iterable[MetricResult]
) -> tuple[MetricResult, ...]:
    """Add what is believed of each metric; the variants are compared once, not per treatment."""
    declared = {metric.key: metric for metric in experiment.metrics}
    level = 1 - float(experiment.inference.alpha)
    known: dict[str, Comparison | NotEstimable] = {}
    found = []
    for result in results:
        metric = declared.get(result.metric)
        if result.metric not in known:
            known[result.metric] = (
                beliefs(
                    experiment,
                    moments,
                    metric,
                    NET if metric is None else quantity(metric),
                    level=level,
                )
                if result.metric == NET or (metric is not None and metric.kind != "quantile")
                else NotEstimable("no-posterior", "it is no mean of units")
            )
        comparison = known[result.metric]
        if isinstance(comparison, NotEstimable):
            found.append(replace(result, bayes=comparison))
            continue
        (better,) = [one for one in comparison.advantages if one.variant == result.variant]
        found.append(replace(result, bayes=Beliefs(better, comparison.beliefs)))
    return tuple(found)


def beliefs(
    experiment: Experiment,
    moments: Mapping[str, Moments],
    metric: Metric | None,
    what: Quantity,
    *,
    level: float,
) -> Comparison | NotEstimable:
    """Compare all variants of a metric by their posteriors under reference priors.

    Parameters
    ----------
    experiment
        Resolved spec.
    moments
        Per variant, mature units.
    metric
        None for the net value.
    what
        Column or ratio.
    level
        Of the credible intervals.

    Returns
    -------
    Comparison or NotEstimable
        Refused: ``no-posterior`` for ratios, and the reasons of `compare`.

    Notes
    -----
    Rates: Beta with Jeffreys' prior. Counts: gamma with Jeffreys' prior while every variant's
    column is Poisson. Means, and counts that are not: Student's t of the normal with unknown
    variance under the reference prior. Variants are independent and nothing is shrunken towards
    zero: the registered prior on the effect belongs to the value, in the decision view.
    """
    if isinstance(what, Ratio):
        return NotEstimable("no-posterior", "a ratio of two means has no closed posterior")
    region = None
    if metric is not None and metric.negligible is not None:
        reach = float(metric.negligible)
        region = Region(-reach, reach)
    return compare(
        _posteriors(moments, metric, what),
        control=experiment.control,
        direction="increase" if metric is None else metric.direction,
        level=level,
        region=region,
    )


def _posteriors(
    moments: Mapping[str, Moments], metric: Metric | None, column: str
) -> Mapping[str, Marginal | NotEstimable]:
    samples = {key: found.sample(column) for key, found in moments.items()}
    if metric is not None and metric.is_rate:
        return {key: beta.rate(one, prior=beta.JEFFREYS) for key, one in samples.items()}
    if metric is not None and metric.kind == "count":
        counts = {key: gamma.count(one, prior=gamma.JEFFREYS) for key, one in samples.items()}
        if not any(isinstance(one, NotEstimable) for one in counts.values()):
            return counts
    return {key: student.level(one, prior=student.REFERENCE) for key, one in samples.items()}
