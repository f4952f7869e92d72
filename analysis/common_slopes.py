"""Several outcomes adjusted for covariates with common slopes: moments that read like raw ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from klartext.analysis.adjustment import regressed, with_slopes
from klartext.analysis.contrast import Contrast
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.ratio_metrics import Linearised, linearise

METHOD = "adjusted"


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """Two variants whose outcomes are adjusted.

    Parameters
    ----------
    treatment, control
        Moments in which the outcomes are adjusted: means, second moments and products with every
        other column. Third moments and non-zero counts are still those of the raw columns.
    slopes
        Per outcome, those of ``used``.
    used, dropped
        Covariates in the adjustment, and those left out with the reason.
    """

    treatment: Moments
    control: Moments
    slopes: dict[str, list[float]]
    used: tuple[str, ...]
    dropped: tuple[tuple[str, Literal["constant", "collinear"]], ...]

    def contrast(self, outcome: str) -> Contrast | NotEstimable:
        """Return the contrast of one outcome, with the error that both levels share.

        The common mean of the covariates drops out of the difference, but not out of relative
        effects.
        """
        theta = self.slopes[outcome]
        sides = []
        for moments in (self.treatment, self.control):
            side = linearise(moments, (outcome, *self.used))
            if isinstance(side, NotEstimable):
                return side
            sides.append(_with_raw_outcome(side, theta))
        one, base = sides
        raw = with_slopes(METHOD, (one, base), (theta, theta))
        # The levels are adjusted in the moments already; their errors follow from the slopes.
        return replace(
            raw,
            treatment=self.treatment.sample(outcome).mean,
            control=self.control.sample(outcome).mean,
        )


def adjusted(
    treatment: Moments, control: Moments, outcomes: Sequence[str], covariates: Sequence[str]
) -> Adjusted | NotEstimable:
    """Adjust several outcomes jointly, so that sums and ratios of them stay consistent.

    Parameters
    ----------
    treatment, control
        Moments of independent variants.
    outcomes
        Columns to adjust, such as margin, cost and net value.
    covariates
        Columns known before exposure, at least one.

    Returns
    -------
    Adjusted or NotEstimable
        Refused for the reasons of `linearise`, and ``too-few-units`` (fewer than covariates + 2
        in a variant). Constant and collinear covariates are left out; without any left the
        moments are as they were.

    Raises
    ------
    ValueError
        No covariates, or a column that does not exist.

    Notes
    -----
    Every unit's outcome y becomes ``y - theta' (x - mean(x))`` with, per outcome, the slopes
    ``theta = (Sxx_T/n_T + Sxx_C/n_C)^-1 (Sxy_T/n_T + Sxy_C/n_C)``, which make the variance of the
    difference least among all common slopes. Covariates are distributed alike in both variants,
    so theta tends to ``(n_C b_T + n_T b_C)/n``: the difference and its variance are
    asymptotically those of `klartext.analysis.adjustment.lin`, whatever the split and however
    much the slopes differ, and never worse than without adjustment. Theta is linear in the
    outcome, so that the adjusted net value is the adjusted margin minus the adjusted cost, and
    the variants stay independent: whatever reads moments (differences, Fieller sets, posteriors)
    reads these.

    Second moments are multiplied with ``(n - 1)/(n - 1 - p)``, p covariates; what else comes from
    estimating theta is of order 1/n^2.

    References
    ----------
    Lin (2013), "Agnostic notes on regression adjustments to experimental data", Ann. Appl.
    Statist. 7, 295-318 (regression with weights of the other variant's size, "tyranny of the
    minority", is asymptotically the regression with full interactions).
    """
    if not covariates:
        raise ValueError("an adjustment needs at least one covariate")
    pair = []
    for moments in (treatment, control):
        side = linearise(moments, (*outcomes, *covariates))
        if isinstance(side, NotEstimable):
            return side
        pair.append(side)
    fit = regressed(pair, covariates)
    smallest = min(side.n for side in pair)
    if smallest < len(fit.kept) + 2:
        detail = f"a variant has {smallest} units; {len(fit.kept) + 2} are needed"
        return NotEstimable("too-few-units", detail)
    used = tuple(covariates[place] for place in fit.kept)
    count = len(outcomes)
    one, base = (
        side.only((*range(count), *(count + place for place in fit.kept))) for side in pair
    )
    errors = Linearised(
        2, one.value - base.value, one.covariance / one.n + base.covariance / base.n
    )
    shared = regressed([errors], used)
    used = tuple(used[place] for place in shared.kept)
    slopes = {name: shared.fits[0].slopes(place) for place, name in enumerate(outcomes)}
    total = treatment.n + control.n
    centre = (treatment.n * _means(treatment, used) + control.n * _means(control, used)) / total
    sides = [_transformed(moments, slopes, used, centre) for moments in (treatment, control)]
    return Adjusted(
        sides[0], sides[1], slopes, used, tuple((str(name), why) for name, why in fit.dropped)
    )


def _means(moments: Moments, columns: Sequence[str]) -> FloatArray:
    return moments.mean[[moments.columns.index(column) for column in columns]]


def _transformed(
    moments: Moments, slopes: dict[str, list[float]], used: Sequence[str], centre: FloatArray
) -> Moments:
    """Return the moments of ``y - theta' (x - centre)`` for the outcomes, and of all else."""
    rows = [moments.columns.index(outcome) for outcome in slopes]
    at = [moments.columns.index(column) for column in used]
    change = np.eye(len(moments.columns))[rows]
    change[:, at] -= np.array(list(slopes.values())).reshape(len(rows), len(at))
    shift = [np.dot(theta, centre) for theta in slopes.values()]
    lost = np.sqrt((moments.n - 1) / (moments.n - 1 - len(used)))
    scale = np.array([lost if any(theta) else 1.0 for theta in slopes.values()])
    mean, m2 = moments.mean.copy(), moments.m2.copy()
    mean[rows] = change @ mean + shift
    m2[rows] = change @ m2 * scale[:, None]
    m2[:, rows] = m2 @ change.T * scale
    m2[rows, rows] = np.maximum(m2[rows, rows], 0.0)
    return replace(moments, mean=mean, m2=m2)


def _with_raw_outcome(side: Linearised, theta: Sequence[float]) -> Linearised:
    """Return the side as if its outcome were not adjusted, at the adjusted scale of error."""
    change = np.eye(len(side.value))
    change[0, 1:] = theta
    return Linearised(side.n, change @ side.value, change @ side.covariance @ change.T)
