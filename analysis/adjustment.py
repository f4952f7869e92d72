"""Variance reduction with covariates known before exposure: CUPED and Lin's regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from klartext.analysis.contrast import Contrast, Source
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.ratio_metrics import Linearised, Quantity, columns_of, linearise

_TOLERANCE = 1e-8
"""Share of a covariate's variance that the others must leave unexplained for it to be used."""

_CONSTANT = 1e-12
"""Standard deviation in units of the mean below which a column is rounding dust."""


@dataclass(frozen=True, slots=True)
class Adjusted:
    """An adjusted contrast and what the adjustment did.

    Parameters
    ----------
    contrast
        Adjusted levels and their joint error.
    unadjusted
        The same without covariates.
    used
        Covariates in the adjustment.
    dropped
        Covariates left out, each with its reason: ``constant`` or ``collinear``.
    """

    contrast: Contrast
    unadjusted: Contrast
    used: tuple[Quantity, ...]
    dropped: tuple[tuple[Quantity, Literal["constant", "collinear"]], ...]

    @property
    def variance_removed(self) -> float:
        """Share of the unadjusted variance that is gone; negative when the adjustment hurt."""
        return 1 - self.contrast.variance / self.unadjusted.variance


def cuped(
    treatment: Moments, control: Moments, outcome: Quantity, covariates: Sequence[Quantity]
) -> Adjusted | NotEstimable:
    """Difference adjusted with one slope for both variants, for means and ratio metrics.

    Parameters
    ----------
    treatment, control
        Moments of independent variants; the covariates are columns of them (ratios of columns
        for a ratio covariate, such as last month's revenue per order).
    outcome
        A column or a `Ratio`.
    covariates
        Known before exposure, at least one; an outcome of the treatment among them biases.

    Returns
    -------
    Adjusted or NotEstimable
        Refused for the reasons of `linearise`; ``no-variance``; ``too-few-units`` (fewer than
        covariates + 2 in a variant); ``no-covariate`` when every covariate is constant.

    Raises
    ------
    ValueError
        No covariates, or a column that does not exist.

    Notes
    -----
    ``theta = Sxx^-1 Sxy`` from both variants merged, and
    ``(y_T - y_C) - theta' (x_T - x_C)`` with the variance of ``y - theta' x`` per variant: no
    assumption that its slopes are equal. Theta counts as known; its error enters at order
    1/n^2. For a ratio, y is each unit's contribution ``(y - R z) / mean(z)``. The levels are
    ``y_v - theta' (x_v - x)`` with the common mean x, whose error both share: hence their
    covariance in the relative effect.
    Expected gain: the squared correlation. There may be none, and with an unequal split and
    unequal slopes a loss (`lin` has none asymptotically).

    References
    ----------
    Deng, Xu, Kohavi, Walker (2013), "Improving the sensitivity of online controlled experiments
    by utilizing pre-experiment data", WSDM 2013, section 3, appendix B for ratios.
    """
    return _adjust("cuped", treatment, control, outcome, covariates)


def lin(
    treatment: Moments, control: Moments, outcome: Quantity, covariates: Sequence[Quantity]
) -> Adjusted | NotEstimable:
    """Difference adjusted with a regression per variant (full interactions).

    Parameters
    ----------
    treatment, control, outcome, covariates
        As for `cuped`.

    Returns
    -------
    Adjusted or NotEstimable
        As for `cuped`.

    Raises
    ------
    ValueError
        No covariates, or a column that does not exist.

    Notes
    -----
    Levels ``y_v - b_v' (x_v - x)`` with each variant's own least squares slopes and the common
    mean x of the covariates: the coefficient of the treatment in the regression on treatment,
    centred covariates and their products. The squared standard error of the difference is

    ``sum_v s_v^2 (1/n_v + (x_v - x)' Sxx_v^-1 (x_v - x)) + (b_T - b_C)' Sx (b_T - b_C) / n``

    with residual variances ``s_v^2 = SSE_v / (n_v - p - 1)`` and Sx the covariance of the
    covariates inside the variants. The first sum is what least squares reports for the two
    levels when x is given; the last term is the error of x itself, which the usual standard
    errors (HC0-HC3) of that regression leave out. The term with Sxx_v^-1, for estimating the
    slopes, is of order 1/n^2. Residuals may differ in variance between variants; that they may
    also vary with x changes only terms of order 1/n^2.

    Never less precise than no adjustment, asymptotically; in small samples and with covariates
    that explain nothing it may be.

    References
    ----------
    Lin (2013), "Agnostic notes on regression adjustments to experimental data: reexamining
    Freedman's critique", Ann. Appl. Statist. 7, 295-318. Negi, Wooldridge (2021), "Revisiting
    regression adjustment in experiments with heterogeneous treatment effects", Econometric
    Reviews 40, 504-534 (the term for the estimated mean of the covariates).
    """
    return _adjust("lin", treatment, control, outcome, covariates)


def _adjust(
    method: Literal["cuped", "lin"],
    treatment: Moments,
    control: Moments,
    outcome: Quantity,
    covariates: Sequence[Quantity],
) -> Adjusted | NotEstimable:
    if not covariates:
        raise ValueError("an adjustment needs at least one covariate")
    pair = _sides((treatment, control), (outcome, *covariates))
    if isinstance(pair, NotEstimable):
        return pair
    judged = pair
    if method == "cuped":
        merged = _sides(
            (_merged(treatment, control, (outcome, *covariates)),), (outcome, *covariates)
        )
        if isinstance(merged, NotEstimable):
            return merged
        judged = merged
    kept, dropped = usable(judged, covariates)
    refused = _refused(pair, kept, dropped)
    if refused is not None:
        return refused
    one, base = (_select(side, kept) for side in pair)
    if method == "cuped":
        theta = least_squares_slopes(_select(judged[0], kept))
        contrast = with_slopes(method, (one, base), (theta, theta))
    else:
        contrast = _least_squares(method, one, base)
    none = np.zeros(len(kept))
    plain = "welch" if isinstance(outcome, str) else "ratio"
    adjusted = Adjusted(
        contrast=contrast,
        unadjusted=with_slopes(plain, (one, base), (none, none)),
        used=tuple(covariates[place] for place in kept),
        dropped=dropped,
    )
    if min(source.variance for source in contrast.sources) < -1e-9 * adjusted.unadjusted.variance:
        return NotEstimable("invalid-moments", "a covariance is larger than the variances allow")
    return adjusted


def _sides(
    variants: Sequence[Moments], quantities: Sequence[Quantity]
) -> tuple[Linearised, ...] | NotEstimable:
    sides: list[Linearised] = []
    for moments in variants:
        side = linearise(moments, quantities)
        if isinstance(side, NotEstimable):
            return side
        sides.append(side)
    return tuple(sides)


def _refused(
    pair: Sequence[Linearised],
    kept: Sequence[int],
    dropped: Sequence[tuple[Quantity, Literal["constant", "collinear"]]],
) -> NotEstimable | None:
    if all(_is_constant(side, 0) for side in pair):
        return NotEstimable("no-variance", "every unit of every variant has the same value")
    if not kept:
        reasons = " or ".join(sorted({reason for _, reason in dropped}))
        return NotEstimable("no-covariate", f"every covariate is {reasons}")
    smallest = min(side.n for side in pair)
    if smallest < len(kept) + 2:
        detail = f"a variant has {smallest} units; {len(kept) + 2} are needed"
        return NotEstimable("too-few-units", detail)
    return None


def with_slopes(
    method: str, sides: tuple[Linearised, Linearised], slopes: tuple[FloatArray, FloatArray]
) -> Contrast:
    """Levels ``y_v - b_v' (x_v - x)`` for given slopes, with the error of the common mean x.

    With ``x = (n_T x_T + n_C x_C) / n`` both levels are linear in the independent means of the
    two variants: the treatment's units enter its own level with ``(1, -b_T n_C / n)`` and the
    control's with ``(0, b_C n_T / n)``, and the control's units likewise.
    """
    one, base = sides
    n = one.n + base.n
    apart = one.value[1:] - base.value[1:]
    to_treatment = slopes[0] * (base.n / n)
    to_control = slopes[1] * (one.n / n)
    own, other = np.array([1.0, *-to_treatment]), np.array([0.0, *to_control])
    base_other, base_own = np.array([0.0, *to_treatment]), np.array([1.0, *-to_control])
    return Contrast(
        method=method,
        treatment=float(one.value[0] - to_treatment @ apart),
        control=float(base.value[0] + to_control @ apart),
        sources=(
            _source(one, own, other, df=one.n - 1),
            _source(base, base_other, base_own, df=base.n - 1),
        ),
        n=one.n,
        baseline_n=base.n,
    )


def _source(side: Linearised, treatment: FloatArray, control: FloatArray, *, df: int) -> Source:
    """Error of one variant's means in both levels, given their weights there."""
    squared = side.covariance / side.n
    return Source(
        treatment=float(treatment @ squared @ treatment),
        control=float(control @ squared @ control),
        covariance=float(treatment @ squared @ control),
        df=df,
    )


def _least_squares(method: str, one: Linearised, base: Linearised) -> Contrast:
    """`with_slopes` with each variant's own slopes and the error of estimating them."""
    centre = (one.n * one.value[1:] + base.n * base.value[1:]) / (one.n + base.n)
    slopes, added = _fit(one, centre)
    base_slopes, base_added = _fit(base, centre)
    plain = with_slopes(method, (one, base), (slopes, base_slopes))
    in_treatment, in_control = plain.sources
    size = len(centre)
    return replace(
        plain,
        sources=(
            replace(in_treatment, treatment=in_treatment.treatment + added, df=one.n - 1 - size),
            replace(in_control, control=in_control.control + base_added, df=base.n - 1 - size),
        ),
    )


def _fit(side: Linearised, centre: FloatArray) -> tuple[FloatArray, float]:
    """Return slopes, and what estimating them adds to the squared standard error of a level.

    The latter is ``s^2 (1/n + d' Sxx^-1 d) - SSE / (n (n - 1))`` with ``d = x_v - x``.
    """
    scale, correlation = _standardised(side)
    distance = (side.value[1:] - centre) / scale
    slopes, reach = np.linalg.solve(
        correlation, np.column_stack([side.covariance[1:, 0] / scale, distance])
    ).T
    slopes = slopes / scale
    degrees = side.n - 1
    residual = max(0.0, float(side.covariance[0, 0] - slopes @ side.covariance[1:, 0]))
    per_unit = residual * degrees / (degrees - len(slopes))
    leverage = float(distance @ reach) / degrees
    return slopes, per_unit * (1 / side.n + leverage) - residual / side.n


def least_squares_slopes(side: Linearised) -> FloatArray:
    """Least squares slopes."""
    scale, correlation = _standardised(side)
    slopes: FloatArray = np.linalg.solve(correlation, side.covariance[1:, 0] / scale) / scale
    return slopes


def _standardised(side: Linearised) -> tuple[FloatArray, FloatArray]:
    """Return standard deviations and correlations of the covariates: no unit is too large."""
    scale = np.sqrt(side.covariance.diagonal()[1:])
    return scale, side.covariance[1:, 1:] / np.outer(scale, scale)


def _merged(treatment: Moments, control: Moments, quantities: Sequence[Quantity]) -> Moments:
    """Return the moments of both variants together, of the columns in question only."""
    columns = columns_of(quantities)

    def narrowed(moments: Moments) -> Moments:
        places = [moments.columns.index(column) for column in columns]
        return Moments(
            columns,
            moments.n,
            moments.mean[places],
            moments.m2.take(places, 0).take(places, 1),
            moments.m3[places],
            moments.nonzero[places],
            rest=np.broadcast_to(moments.rest, moments.mean.shape)[places],
        )

    return narrowed(treatment) + narrowed(control)


def _select(side: Linearised, kept: Sequence[int]) -> Linearised:
    """Return the outcome and the kept covariates."""
    if len(kept) == len(side.value) - 1:
        return side
    places = [0, *(place + 1 for place in kept)]
    return Linearised(side.n, side.value[places], side.covariance.take(places, 0).take(places, 1))


def _is_constant(side: Linearised, place: int) -> bool:
    return bool(side.covariance[place, place] <= (_CONSTANT * side.value[place]) ** 2)


def usable(
    sides: Sequence[Linearised], covariates: Sequence[Quantity]
) -> tuple[tuple[int, ...], tuple[tuple[Quantity, Literal["constant", "collinear"]], ...]]:
    """Choose covariates, in their order, that vary and that the earlier ones do not explain."""
    kept: list[int] = []
    dropped: list[tuple[Quantity, Literal["constant", "collinear"]]] = []
    for place, covariate in enumerate(covariates):
        if any(_is_constant(side, place + 1) for side in sides):
            dropped.append((covariate, "constant"))
        elif any(_unexplained(side, kept, place) <= _TOLERANCE for side in sides):
            dropped.append((covariate, "collinear"))
        else:
            kept.append(place)
    return tuple(kept), tuple(dropped)


def _unexplained(side: Linearised, kept: Sequence[int], place: int) -> float:
    """Share of a covariate's variance that a regression on the kept ones leaves."""
    if not kept:
        return 1.0
    places = [place + 1, *(each + 1 for each in kept)]
    block = side.covariance.take(places, 0).take(places, 1)
    scale = np.sqrt(np.diag(block))
    correlation = block / np.outer(scale, scale)
    explained = correlation[0, 1:] @ np.linalg.solve(correlation[1:, 1:], correlation[1:, 0])
    return float(1 - explained)
