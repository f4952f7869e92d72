"""Return on cost, and cost per incremental outcome: ratios of two totals with their joint error."""

from __future__ import annotations

import math
from dataclasses import dataclass

from klartext.analysis import ratios
from klartext.analysis.estimate import ConfidenceSet, NotEstimable, affine
from klartext.analysis.moments import Moments
from klartext.analysis.result import Number


@dataclass(frozen=True, slots=True)
class Totals:
    """Two amounts and the covariance of their estimates, for the same units.

    Parameters
    ----------
    one, other
        Differences of means, treatment minus control, times units, plus what is fixed.
    var_one, var_other, covariance
        Squared standard errors and covariance.
    """

    one: float
    other: float
    var_one: float
    var_other: float
    covariance: float

    def scaled(self, units: float, *, plus_one: float, plus_other: float) -> Totals:
        """Return the totals over ``units``, with fixed amounts added."""
        return Totals(
            units * self.one + plus_one,
            units * self.other + plus_other,
            units**2 * self.var_one,
            units**2 * self.var_other,
            units**2 * self.covariance,
        )


def per_unit(treatment: Moments, control: Moments, one: str, other: str) -> Totals | NotEstimable:
    """Differences of two columns per unit with their joint covariance.

    A column that is constant in a variant has no variance there, and no covariance: what rounding
    leaves of them is dust.
    """
    missing = treatment.missing or control.missing
    if missing is not None:
        return missing
    smallest = min(treatment.n, control.n)
    if smallest < 2:
        return NotEstimable("too-few-units", f"a variant has {smallest} units; two are needed")
    variances, covariance = {one: 0.0, other: 0.0}, 0.0
    for moments in (treatment, control):
        samples = {column: moments.sample(column) for column in (one, other)}
        if not all(math.isfinite(s.mean) and math.isfinite(s.m2) for s in samples.values()):
            return NotEstimable("not-finite", "a mean or variance is not a finite number")
        varying = {column: not sample.is_constant for column, sample in samples.items()}
        for column, sample in samples.items():
            variances[column] += sample.variance_of_mean if varying[column] else 0.0
        if all(varying.values()):
            covariance += moments.covariance(one, other) / moments.n
    return Totals(
        treatment.sample(one).mean - control.sample(one).mean,
        treatment.sample(other).mean - control.sample(other).mean,
        variances[one],
        variances[other],
        covariance,
    )


def return_on_cost(
    totals: Totals, *, multiplier: float | NotEstimable, level: float
) -> tuple[Number, ConfidenceSet]:
    """ROI = margin / cost - 1 with its Fieller set.

    Parameters
    ----------
    totals
        Incremental margin (one) and fully loaded incremental cost (other).
    multiplier
        Half-width in standard errors; why there is none passes through to the set.
    level
        Confidence of ``multiplier``.

    Returns
    -------
    tuple
        ROI may be below -1. Both `NotEstimable` (``no-cost``) when the cost is not positive: there
        is nothing the return could be of.

    Notes
    -----
    ``{r : 0 in CS(M - (1 + r) K)}``; with the multiplier of a confidence sequence it is valid at
    every look. Exact for a cost that is constant per unit, where it is an interval around ROI.
    """
    if not totals.other > 0:
        refused = NotEstimable("no-cost", "the incremental cost is not positive")
        return refused, refused
    value = totals.one / totals.other - 1
    region = _ratio(totals, multiplier=multiplier, level=level)
    return value, affine(region, scale=1.0, shift=-1.0)


def cost_per_outcome(
    totals: Totals, *, multiplier: float | NotEstimable, level: float
) -> tuple[Number, ConfidenceSet]:
    """Cost per incremental outcome with its Fieller set.

    Parameters
    ----------
    totals
        Fully loaded incremental cost (one) and incremental outcomes (other).
    multiplier, level
        As for `return_on_cost`.

    Returns
    -------
    tuple
        Money per outcome. Both `NotEstimable` (``no-gain``) when there are no more outcomes than
        without the treatment.
    """
    if not totals.other > 0:
        refused = NotEstimable("no-gain", "there are no additional conversions to divide by")
        return refused, refused
    return totals.one / totals.other, _ratio(totals, multiplier=multiplier, level=level)


def _ratio(totals: Totals, *, multiplier: float | NotEstimable, level: float) -> ConfidenceSet:
    if isinstance(multiplier, NotEstimable):
        return multiplier
    return ratios.fieller(
        totals.one,
        totals.other,
        totals.var_one,
        totals.var_other,
        totals.covariance,
        multiplier=multiplier,
        level=level,
    )
