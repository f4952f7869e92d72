"""Results of the metrics of a treatment: over all units, and by segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from klartext.analysis import quantile_metrics
from klartext.analysis.ai_metrics import ai_metrics
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.look import Look
from klartext.analysis.metric_estimates import metric_estimates, unadjusted
from klartext.analysis.moments import Moments
from klartext.analysis.ratio_metrics import Quantity, Ratio, quantity
from klartext.analysis.result import (
    MetricResult,
    Number,
)
from klartext.analysis.segment_effects import SegmentEffect, segment_effect
from klartext.analysis.subject import Subject, replayed
from klartext.experiments.experiment import AI_KEYS, ContributionMargin, Metric

PRIMARY = "net"
"""The primary metric: margin minus AI cost per unit."""


def metric_results(subject: Subject, treatment: str) -> Iterator[MetricResult]:
    """Yield the primary metric first, then those of the spec, of one treatment.

    Without a value entry there is no net value to speak of, and the first metric is primary.
    """
    experiment, readout = subject.experiment, subject.readout
    one, base = readout.moments[treatment], readout.moments[experiment.control]
    money = {amounts.metric for amounts in readout.amounts if amounts.is_money}
    money |= {e.metric for e in experiment.value if isinstance(e, ContributionMargin)}
    look, alpha = subject.look(treatment), float(experiment.inference.alpha)
    columns: list[tuple[str, Quantity, Metric | None]]
    columns = [
        (metric.key, quantity(metric), metric)
        for metric in experiment.metrics
        if metric.kind != "quantile"
    ]
    if experiment.value:
        columns.insert(0, (PRIMARY, PRIMARY, None))
        money.add(PRIMARY)
    for place, (key, what, metric) in enumerate(columns):
        found = metric_estimates(experiment, metric, what, one, base, look=look, alpha=alpha)
        yield MetricResult(
            metric=key,
            kind="mean" if metric is None else metric.kind,
            variant=treatment,
            baseline=experiment.control,
            primary=place == 0,
            is_money=_is_money(what, money),
            is_rate=metric is not None and metric.is_rate,
            mean=_level(one, what),
            baseline_mean=_level(base, what),
            estimates=found.estimates,
            adjustment=found.adjustment,
            running=(
                None
                if isinstance(what, Ratio) or experiment.inference.mode != "anytime"
                else replayed(experiment, subject.days, treatment, what)
            ),
        )
    for metric in experiment.metrics:
        if metric.kind == "quantile":
            yield _quantile(subject, treatment, metric, is_money=metric.key in money)
    yield from ai_metrics(readout.calls, treatment, experiment.control, look=look, alpha=alpha)


def _quantile(subject: Subject, treatment: str, metric: Metric, *, is_money: bool) -> MetricResult:
    """Return a quantile metric of one treatment against the control."""
    control, look = subject.experiment.control, subject.look(treatment)
    found = subject.readout.observations[metric.key]
    q, alpha = quantile_metrics.share_of(metric), float(subject.experiment.inference.alpha)
    method = "quantile" if look.mode == "fixed" else "anytime-quantile"
    estimates: tuple[tuple[str, Estimate | NotEstimable], ...]
    levels: tuple[Number, Number]
    if isinstance(found, NotEstimable):
        levels, estimates = (found, found), ((method, found),)
    else:
        one, base = found[treatment], found[control]
        levels = quantile_metrics.level(one, q), quantile_metrics.level(base, q)
        estimates = quantile_metrics.estimates(look, one, base, q, alpha=alpha)
    return MetricResult(
        metric=metric.key,
        kind=metric.kind,
        variant=treatment,
        baseline=control,
        primary=metric == subject.experiment.metrics[0] and not subject.experiment.value,
        is_money=is_money,
        is_rate=False,
        mean=levels[0],
        baseline_mean=levels[1],
        estimates=estimates,
    )


def _is_money(what: Quantity, money: set[str]) -> bool:
    """Revenue per order is money; orders per visit and the share of margin in revenue are not."""
    if isinstance(what, Ratio):
        return what.numerator in money and what.denominator not in money
    return what in money


def _level(moments: Moments, what: Quantity) -> Number:
    if moments.n == 0:
        return NotEstimable("no-units", "the variant has no mature units")
    if moments.missing is not None:
        return moments.missing
    if not isinstance(what, Ratio):
        return moments.sample(what).mean
    below = moments.sample(what.denominator).mean
    if below == 0:
        return NotEstimable("zero-denominator", "the denominator's mean is zero")
    return moments.sample(what.numerator).mean / below


def segment_effects(subject: Subject, metrics: Iterable[MetricResult]) -> Iterator[SegmentEffect]:
    """Yield every metric by every segment, segments first."""
    experiment, alpha = subject.experiment, float(subject.experiment.inference.alpha)
    compared = tuple(metrics)
    for segment in subject.readout.segments:
        for result in compared:
            known = next((m for m in experiment.metrics if m.key == result.metric), None)
            if result.metric in AI_KEYS or (known is not None and known.kind == "quantile"):
                continue  # of calls and of single events, which no moments of units tell apart
            what = PRIMARY if known is None else quantity(known)
            look = subject.look(result.variant)

            def read(
                one: Moments,
                base: Moments,
                *,
                what: Quantity = what,
                look: Look = look,
                is_rate: bool = result.is_rate,
            ) -> tuple[str, Estimate | NotEstimable]:
                return unadjusted(look, one, base, what, alpha, is_rate=is_rate)[0]

            yield segment_effect(
                segment,
                result,
                what,
                look=look,
                read=read,
                alpha=alpha,
                prior_relative_sd=float(experiment.inference.prior_relative_sd),
            )
