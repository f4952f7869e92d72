"""The metrics of AI calls of one treatment against the control, where there are calls."""

from __future__ import annotations

from collections.abc import Iterator

from klartext.analysis import quantile_metrics
from klartext.analysis.ai_calls import AiCalls
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.analysis.quantiles import Observations
from klartext.analysis.ratio_metrics import Ratio
from klartext.analysis.result import MetricResult, Number
from klartext.experiments.experiment import AI_METRICS, Metric

MONEY = frozenset({"ai.cost_per_task"})
SHARES = frozenset({"ai.error_rate", "ai.cache_share"})
_Estimates = tuple[tuple[str, Estimate | NotEstimable], ...]


def ai_metrics(
    calls: AiCalls | None, treatment: str, control: str, *, look: Look, alpha: float
) -> Iterator[MetricResult]:
    """Yield each AI metric that a variant of the two has; none without calls.

    Parameters
    ----------
    calls
        From `klartext.analysis.ai_calls.assembled`.
    treatment, control
        Keys of variants.
    look
        How intervals are made.
    alpha
        Two-sided error.

    Notes
    -----
    Ratios and quantiles over calls, with units as clusters. Where a variant's calls name no unit
    the level stands alone: counting calls as independent would make any interval too short.
    """
    if calls is None:
        return
    for metric in AI_METRICS:
        means = [_level(calls, metric, variant) for variant in (treatment, control)]
        if all(isinstance(mean, NotEstimable) for mean in means):
            continue
        yield MetricResult(
            metric=metric.key,
            kind=metric.kind,
            variant=treatment,
            baseline=control,
            primary=False,
            is_money=metric.key in MONEY,
            is_rate=metric.key in SHARES,
            mean=means[0],
            baseline_mean=means[1],
            estimates=_estimates(calls, metric, treatment, control, look, alpha),
        )


def _level(calls: AiCalls, metric: Metric, variant: str) -> Number:
    """Return the level over units where they can stand for all calls, else over all calls."""
    if metric.kind == "quantile":
        if isinstance(calls.latencies, NotEstimable):
            return calls.latencies
        q = quantile_metrics.share_of(metric)
        return quantile_metrics.level(calls.latencies[variant], q)
    sides = _parts(metric)
    found = calls.measured(metric, variant)
    if isinstance(found, Moments) and found.n:
        above, below = (found.sample(column).mean for column in sides)
    else:
        above, below = (calls.totals[variant][column] for column in sides)
    return above / below if below else _none(variant)


def _estimates(  # noqa: PLR0913, PLR0917 - a metric of two variants, and how it is read
    calls: AiCalls, metric: Metric, treatment: str, control: str, look: Look, alpha: float
) -> _Estimates:
    method = metric.kind if look.mode == "fixed" else f"anytime-{metric.kind}"
    for variant in (treatment, control):
        if isinstance(_level(calls, metric, variant), NotEstimable):
            return ((method, _none(variant)),)
    match calls.measured(metric, treatment), calls.measured(metric, control):
        case Moments() as one, Moments() as base:
            return look.ratio(one, base, Ratio(*_parts(metric)), alpha=alpha)
        case Observations() as one, Observations() as base:
            q = quantile_metrics.share_of(metric)
            return quantile_metrics.estimates(look, one, base, q, alpha=alpha)
        case (NotEstimable() as refused, _) | (_, NotEstimable() as refused):
            return ((method, refused),)
        case found:
            raise TypeError(f"{metric.key} is read from {found}")


def _parts(metric: Metric) -> tuple[str, str]:
    return metric.numerator or "", metric.denominator or ""


def _none(variant: str) -> NotEstimable:
    return NotEstimable("no-calls", f"{variant} has no AI calls that say it")
