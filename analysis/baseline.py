"""Baselines: what a metric would be without the experiment, read from history or given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from klartext.analysis import adjustment, covariates, outcome
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.guardrails import Measured
from klartext.analysis.moments import Moments
from klartext.analysis.outcome import Outcome
from klartext.analysis.quantile_metrics import share_of
from klartext.analysis.quantiles import Observations, quantile
from klartext.analysis.ratio_metrics import Ratio, quantity
from klartext.analysis.result import Number
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import AI_KEYS, Experiment, Metric

MARGIN = "margin"
"""Margin per unit before AI cost: a baseline that no spec names, like the column."""


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
    treatment
        What an earlier treatment showed, for a limit on the level of AI calls, which a control
        need not make; None: take ``outcome``.
    """

    outcome: Outcome | NotEstimable
    removed: Number | None = None
    covariates: tuple[str, ...] = ()
    given: bool = False
    treatment: Outcome | NotEstimable | None = None

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
    ``(y - R x) / mean(x)``; of a quantile: its standard error times the root of the units),
    ``nonzero`` the share of units with an outcome, ``removed`` the share of variance that the
    covariates remove.
    """

    mean: float
    sd: float | None = None
    nonzero: float | None = None
    removed: float | None = None


def from_history(
    experiment: Experiment, metric: Metric, measured: Measured, *, units: int
) -> Baseline:
    """Return the baseline of ``metric`` from what it was read from in ``units`` units."""
    match measured:
        case NotEstimable():
            return Baseline(measured)
        case Observations():
            return Baseline(from_observations(measured, share_of(metric), units=units))
        case Moments():
            return from_moments(experiment, metric, measured)


def from_observations(
    observations: Observations, q: float, *, units: int
) -> Outcome | NotEstimable:
    """Outcome whose mean is the q-quantile of history; refused as `quantiles.quantile` refuses.

    Parameters
    ----------
    observations
        Of the units that have one.
    q
        Share of the observations below it.
    units
        All units, those without an observation too.

    Notes
    -----
    The variance per unit is ``units * se^2``, se clustered by unit as the analysis clusters it:
    with a density f around the quantile and one observation in each unit ``q (1 - q) / f^2``.
    """
    found = quantile(observations, q)
    if isinstance(found, NotEstimable):
        return found
    seen = observations.n / units
    return Outcome("quantile", found.value, units * found.variance, nonzero_rate=seen, quantile=q)


def from_moments(experiment: Experiment, metric: Metric, moments: Moments) -> Baseline:
    """Return the baseline of ``metric`` in history.

    Notes
    -----
    The variance removed is that of `adjustment.lin` between two variants that both look like
    history: ``1 - R^2`` is left, degrees of freedom included.
    """
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
    problem = _problem(given, metric)
    if problem is not None:
        raise KlartextError(f"--baseline {key}: {problem}")
    removed = given.removed
    names = () if removed is None else ("given",)
    if metric is not None and metric.is_rate:
        return Baseline(outcome.conversion(given.mean), removed, names, given=True)
    sd = given.sd or 0.0
    kind: Literal["mean", "ratio", "quantile"] = "mean"
    if metric is not None and metric.kind in {"ratio", "quantile"}:
        kind = "quantile" if metric.kind == "quantile" else "ratio"
    found = Outcome(
        kind,
        given.mean,
        sd * sd,
        nonzero_rate=given.nonzero,
        quantile=share_of(metric) if metric is not None and kind == "quantile" else None,
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
    if (
        given.removed is not None
        and metric is not None
        and (metric.kind == "quantile" or metric.key in AI_KEYS)
    ):
        return "nothing is removed by covariates from quantiles and AI metrics"
    if metric is not None and metric.is_rate:
        return _rate_problem(given, metric)
    if given.sd is None:
        return "needs the standard deviation per unit too, such as sd=11"
    if not given.sd > 0:
        return f"sd is {given.sd:g}: must be above 0; without variation there is nothing to plan"
    if metric is not None and metric.kind == "count" and given.mean < 0:
        return f"the mean is {given.mean:g}: a count is not negative"
    return None


def _rate_problem(given: Given, metric: Metric) -> str | None:
    if given.sd is not None or given.nonzero is not None:
        return f"a {metric.kind} has one number, its rate, such as 6%"
    if not 0 < given.mean < 1:
        return f"the rate is {given.mean:g}: must be between 0% and 100%"
    return None
