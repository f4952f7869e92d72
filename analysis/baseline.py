"""Baselines: what a metric would be without the experiment, read from history or given."""

from __future__ import annotations

import math
from dataclasses import dataclass

from klartext.analysis import adjustment, covariates, outcome
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.outcome import Outcome
from klartext.analysis.ratio_metrics import Ratio, quantity
from klartext.analysis.result import Number
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment, Metric

MARGIN = "margin"
"""Margin per unit before AI cost: a baseline that no spec names, like the column."""


NOT_PLANNED = NotEstimable("not-planned", "quantiles and AI metrics are not planned")


@dataclass(frozen=True, slots=True)
class Baseline:
    """One metric without the experiment.

    Parameters
    ----------
    outcome
        Mean and variance per unit.
    removed
        Share of the variance that the registered covariates remove; None without covariates.
    covariates
        Those in use.
    given
        Whether somebody typed the numbers.
    """

    outcome: Outcome | NotEstimable
    removed: Number | None = None
    covariates: tuple[str, ...] = ()
    given: bool = False

    @property
    def variance_factor(self) -> float:
        """Share of the variance that is left; 1 when nothing is known to be removed."""
        if self.removed is None or isinstance(self.removed, NotEstimable):
            return 1.0
        return min(1.0, 1.0 - self.removed)


@dataclass(frozen=True, slots=True)
class Given:
    """A baseline as typed: mean per unit, and what else is known of it.

    ``sd`` is the standard deviation per unit (of a ratio: of a unit's contribution
    ``(y - R x) / mean(x)``), ``nonzero`` the share of units with an outcome, ``removed`` the share
    of variance that the covariates remove.
    """

    mean: float
    sd: float | None = None
    nonzero: float | None = None
    removed: float | None = None


def from_moments(experiment: Experiment, metric: Metric, moments: Moments) -> Baseline:
    """Return the baseline of ``metric`` in history.

    Notes
    -----
    The error of a quantile depends on the density around it, and AI metrics on calls that do not
    exist yet: neither is planned. The variance removed is that of `adjustment.lin` between two
    variants that both look like history: ``1 - R^2`` is left, degrees of freedom included.
    """
    if metric.kind == "quantile":
        return Baseline(NOT_PLANNED)
    what = quantity(metric)
    found = (
        outcome.ratio(moments, what.numerator, what.denominator)
        if isinstance(what, Ratio)
        else outcome.from_history(moments, what, kind="conversion" if metric.is_rate else "mean")
    )
    names = covariates.columns(experiment, metric)
    if not names:
        return Baseline(found)
    adjusted = adjustment.lin(moments, moments, what, names)
    if isinstance(adjusted, NotEstimable):
        return Baseline(found, adjusted)
    return Baseline(found, adjusted.variance_removed, tuple(map(str, adjusted.used)))


def from_given(key: str, given: Given, *, metric: Metric | None) -> Baseline:
    """Return a baseline as typed; ``metric`` is None for the margin.

    Raises
    ------
    KlartextError
        A number is out of its range, missing, or has no meaning for this kind of metric.
    """
    if metric is not None and metric.kind == "quantile":
        raise KlartextError(f"--baseline {key}: a quantile is not planned")
    problem = _problem(given, metric)
    if problem is not None:
        raise KlartextError(f"--baseline {key}: {problem}")
    removed = given.removed
    names = () if removed is None else ("given",)
    if metric is not None and metric.is_rate:
        return Baseline(outcome.conversion(given.mean), removed, names, given=True)
    sd = given.sd or 0.0
    kind = "ratio" if metric is not None and metric.kind == "ratio" else "mean"
    found = Outcome(
        "ratio" if kind == "ratio" else "mean", given.mean, sd * sd, nonzero_rate=given.nonzero
    )
    return Baseline(found, removed, names, given=True)


def _problem(given: Given, metric: Metric | None) -> str | None:  # noqa: PLR0911 - one per rule
    numbers = (given.mean, given.sd, given.nonzero, given.removed)
    if not all(math.isfinite(number) for number in numbers if number is not None):
        return "every number must be finite"
    if given.removed is not None and not 0 <= given.removed < 1:
        return f"removed is {given.removed:g}: must be a share from 0% to below 100%"
    if given.nonzero is not None and not 0 < given.nonzero <= 1:
        return f"nonzero is {given.nonzero:g}: must be a share above 0% up to 100%"
    if metric is not None and metric.is_rate:
        if given.sd is not None or given.nonzero is not None:
            return f"a {metric.kind} has one number, its rate, such as 6%"
        if not 0 < given.mean < 1:
            return f"the rate is {given.mean:g}: must be between 0% and 100%"
        return None
    if given.sd is None:
        return "needs the standard deviation per unit too, such as sd=11"
    if not given.sd > 0:
        return f"sd is {given.sd:g}: must be above 0; without variation there is nothing to plan"
    if metric is not None and metric.kind == "count" and given.mean < 0:
        return f"the mean is {given.mean:g}: a count is not negative"
    return None
