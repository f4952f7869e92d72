"""All estimates of one metric of a treatment, by every method, the one to be read first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from klartext.analysis import covariates
from klartext.analysis.adjusted import money, read_adjusted
from klartext.analysis.columns import uncapped
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.look import Look
from klartext.analysis.moments import Moments
from klartext.analysis.ratio_metrics import Quantity, Ratio
from klartext.analysis.result import Adjustment
from klartext.experiments.experiment import Experiment, Metric


@dataclass(frozen=True, slots=True)
class MetricEstimates:
    """Estimates by method, and what the adjustment for covariates did; None without them."""

    estimates: tuple[tuple[str, Estimate | NotEstimable], ...]
    adjustment: Adjustment | None


def metric_estimates(  # noqa: PLR0913 - a metric of two variants, and how it is read
    experiment: Experiment,
    metric: Metric | None,
    quantity: Quantity,
    treatment: Moments,
    control: Moments,
    *,
    look: Look,
    alpha: float,
) -> MetricEstimates:
    """Return the registered estimates of a metric: adjusted, plain, and without the cap.

    Parameters
    ----------
    experiment
        Resolved spec.
    metric
        None for the net value.
    quantity
        What is compared.
    treatment, control
        Moments of mature units.
    look
        How intervals are made.
    alpha
        Two-sided error.
    """
    if metric is None:
        net = money(experiment, treatment, control, look=look, alpha=alpha)
        adjusted, adjustment = net.estimates, net.adjustment
    else:
        names = covariates.columns(experiment, metric)
        adjusted, adjustment = read_adjusted(
            treatment, control, quantity, names, look=look, alpha=alpha
        )
    is_rate = metric is not None and metric.is_rate
    found = (
        *adjusted,
        *unadjusted(look, treatment, control, quantity, alpha, is_rate=is_rate),
        *_without_cap(experiment, look, treatment, control, quantity, alpha),
    )
    return MetricEstimates(found, adjustment)


def unadjusted(  # noqa: PLR0913 - two variants, a quantity, and how it is read
    look: Look, one: Moments, base: Moments, what: Quantity, alpha: float, *, is_rate: bool
) -> tuple[tuple[str, Estimate | NotEstimable], ...]:
    """Return the estimates without covariates by method, the one to be read first."""
    if isinstance(what, Ratio):
        return look.ratio(one, base, what, alpha=alpha)
    return look.estimates(one, base, what, alpha=alpha, is_rate=is_rate)


def _without_cap(  # noqa: PLR0913, PLR0917 - two variants, a quantity, and how it is read
    experiment: Experiment, look: Look, one: Moments, base: Moments, what: Quantity, alpha: float
) -> Iterator[tuple[str, Estimate | NotEstimable]]:
    """Yield the estimate that a capped metric would have without its cap."""
    columns = uncapped(experiment)
    plain = (
        Ratio(columns.get(what.numerator, what.numerator),
              columns.get(what.denominator, what.denominator))
        if isinstance(what, Ratio)
        else columns.get(what, what)
    )  # fmt: skip
    if plain != what:
        _, found = unadjusted(look, one, base, plain, alpha, is_rate=False)[0]
        yield "uncapped", found
