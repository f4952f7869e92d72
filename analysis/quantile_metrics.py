"""Quantile metrics, read by the method of the mode: differences, and the level of one variant."""

from __future__ import annotations

from fractions import Fraction

from klartext.analysis import quantile_sequence, quantiles
from klartext.analysis.contrast import Contrast, Source
from klartext.analysis.estimate import ConfidenceSet, Estimate, NotEstimable
from klartext.analysis.look import NO_PLAN, Look
from klartext.analysis.quantiles import Observations
from klartext.experiments.experiment import Metric


def share_of(metric: Metric) -> float:
    """Return the quantile of a quantile metric as a fraction.

    Raises
    ------
    ValueError
        It is no quantile metric.
    """
    if metric.quantile is None:
        raise ValueError(f"{metric.key} is no quantile metric")
    return float(metric.quantile)


def level(observations: Observations, q: float) -> float | NotEstimable:
    """Return the quantile of one variant; ``no-events`` without observations."""
    if observations.total == 0:
        return NotEstimable("no-events", "the variant has no such events")
    return observations.at_rank(Fraction(str(q)))


def estimates(
    look: Look, treatment: Observations, control: Observations, q: float, *, alpha: float
) -> tuple[tuple[str, Estimate | NotEstimable], ...]:
    """Return the difference by each method, the one to be read first.

    Notes
    -----
    Where a look may be repeated it is the sequence of `klartext.analysis.quantile_sequence`; the
    fixed interval then stands beside it, marked as not valid.
    """
    found = quantiles.difference(treatment, control, q)
    if look.mode == "fixed":
        return (("quantile", look.read(found, alpha=alpha, burn_in=None)),)
    once = Look("fixed", look.planned_n, deciding=False)
    return (
        ("anytime-quantile", difference(look, treatment, control, q, alpha=alpha)),
        ("quantile", once.read(found, alpha=alpha, burn_in=None)),
    )


def difference(
    look: Look, treatment: Observations, control: Observations, q: float, *, alpha: float
) -> Estimate | NotEstimable:
    """Return the difference by the method of the mode."""
    if look.mode == "fixed":
        found = quantiles.difference(treatment, control, q)
        return look.read(found, alpha=alpha, burn_in=None)
    if look.planned_n is None:
        return NO_PLAN
    return quantile_sequence.anytime(treatment, control, q, alpha=alpha, planned_n=look.planned_n)


def level_set(look: Look, observations: Observations, q: float, *, alpha: float) -> ConfidenceSet:
    """Return the confidence set of one variant's quantile by the method of the mode."""
    if look.mode != "fixed":
        if look.planned_n is None:
            return NO_PLAN
        return quantile_sequence.level(observations, q, alpha=alpha, planned_n=look.planned_n)
    found = quantiles.quantile(observations, q)
    if isinstance(found, NotEstimable):
        return found
    above_zero = Contrast(
        method="quantile",
        treatment=found.value,
        control=0.0,
        sources=(Source(found.variance, 0.0, 0.0, float("inf")),),
        n=found.n,
        baseline_n=found.n,
    )
    read = look.read(above_zero, alpha=alpha, burn_in=None)
    return read if isinstance(read, NotEstimable) else read.interval
