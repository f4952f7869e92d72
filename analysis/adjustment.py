"""Variance reduction with covariates known before exposure: CUPED and Lin's regression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import mul, sub
from typing import Literal

import numpy as np

from klartext.analysis.contrast import Contrast, Source
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.ratio_metrics import Linearised, Quantity, by_delta, columns_of, linearise

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
    return _adjusted("cuped", _sides(treatment, control, outcome, covariates))


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
    return _adjusted("lin", _sides(treatment, control, outcome, covariates))


def both(
    treatment: Moments, control: Moments, outcome: Quantity, covariates: Sequence[Quantity]
) -> dict[str, Adjusted | NotEstimable]:
    """`lin` and `cuped` of the same, by name."""
    sides = _sides(treatment, control, outcome, covariates)
    return {"lin": _adjusted("lin", sides), "cuped": _adjusted("cuped", sides)}


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """An outcome and its covariates in two variants, and the columns that they are made of."""

    quantities: tuple[Quantity, ...]
    pair: tuple[Linearised, Linearised]
    columns: tuple[Linearised, Linearised]

    def together(self) -> Linearised | NotEstimable:
        """Return the quantities of the units of both variants."""
        one, base = self.columns
        n, apart = one.n + base.n, one.value - base.value
        squares = (one.n - 1) * one.covariance + (base.n - 1) * base.covariance
        squares += np.outer(apart, apart) * (one.n * base.n / n)
        means = Linearised(n, (one.n * one.value + base.n * base.value) / n, squares / (n - 1))
        return by_delta(means, columns_of(self.quantities), self.quantities)


def _sides(
    treatment: Moments, control: Moments, outcome: Quantity, covariates: Sequence[Quantity]
) -> _Sides | NotEstimable:
    if not covariates:
        raise ValueError("an adjustment needs at least one covariate")
    quantities = (outcome, *covariates)
    names = columns_of(quantities)
    columns, pair = [], []
    for moments in (treatment, control):
        means = linearise(moments, names)
        if isinstance(means, NotEstimable):
            return means
        side = by_delta(means, names, quantities)
        if isinstance(side, NotEstimable):
            return side
        columns.append(means)
        pair.append(side)
    return _Sides(quantities, (pair[0], pair[1]), (columns[0], columns[1]))


def _adjusted(
    method: Literal["cuped", "lin"], sides: _Sides | NotEstimable
) -> Adjusted | NotEstimable:
    if isinstance(sides, NotEstimable):
        return sides
    outcome, *covariates = sides.quantities
    judged: tuple[Linearised, ...] = sides.pair
    if method == "cuped":
        together = sides.together()
        if isinstance(together, NotEstimable):
            return together
        judged = (together,)
    fit = regressed(judged, covariates)
    refused = _refused(sides.pair, fit)
    if refused is not None:
        return refused
    one, base = (side.only((0, *(place + 1 for place in fit.kept))) for side in sides.pair)
    if method == "cuped":
        theta = fit.fits[0].slopes()
        contrast = with_slopes(method, (one, base), (theta, theta))
    else:
        contrast = _least_squares(method, (one, base), fit.fits)
    adjusted = Adjusted(
        contrast=contrast,
        unadjusted=_unadjusted("welch" if isinstance(outcome, str) else "ratio", one, base),
        used=tuple(covariates[place] for place in fit.kept),
        dropped=fit.dropped,
    )
    if min(source.variance for source in contrast.sources) < -1e-9 * adjusted.unadjusted.variance:
        return NotEstimable("invalid-moments", "a covariance is larger than the variances allow")
    return adjusted


def _refused(pair: Sequence[Linearised], fit: Regression) -> NotEstimable | None:
    if all(_is_constant(side, 0) for side in pair):
        return NotEstimable("no-variance", "every unit of every variant has the same value")
    needed = len(fit.kept) + 2
    if not fit.kept:
        reasons = " or ".join(sorted({reason for _, reason in fit.dropped}))
        return NotEstimable("no-covariate", f"every covariate is {reasons}")
    smallest = min(side.n for side in pair)
    if smallest < needed:
        detail = f"a variant has {smallest} units; {needed} are needed"
        return NotEstimable("too-few-units", detail)
    return None


def with_slopes(
    method: str,
    sides: tuple[Linearised, Linearised],
    slopes: tuple[Sequence[float], Sequence[float]],
) -> Contrast:
    """Levels ``y_v - b_v' (x_v - x)`` for given slopes, with the error of the common mean x.

    With ``x = (n_T x_T + n_C x_C) / n`` both levels are linear in the independent means of the
    two variants: the treatment's units enter its own level with ``(1, -b_T n_C / n)`` and the
    control's with ``(0, b_C n_T / n)``, and the control's units likewise.
    """
    one, base = sides
    n = one.n + base.n
    level, *means = one.value.tolist()
    base_level, *base_means = base.value.tolist()
    apart = list(map(sub, means, base_means))
    to_treatment = [slope * (base.n / n) for slope in slopes[0]]
    to_control = [slope * (one.n / n) for slope in slopes[1]]
    from_treatment, from_control = [-each for each in to_treatment], [-each for each in to_control]
    return Contrast(
        method=method,
        treatment=level - _dot(to_treatment, apart),
        control=base_level + _dot(to_control, apart),
        sources=(
            _source(one, (1.0, *from_treatment), (0.0, *to_control)),
            _source(base, (0.0, *to_treatment), (1.0, *from_control)),
        ),
        n=one.n,
        baseline_n=base.n,
    )


def _source(side: Linearised, treatment: Sequence[float], control: Sequence[float]) -> Source:
    """Error of one variant's means in both levels, given their weights there."""
    rows = side.covariance.tolist()
    to_treatment = [_dot(row, treatment) for row in rows]
    to_control = [_dot(row, control) for row in rows]
    return Source(
        treatment=_dot(treatment, to_treatment) / side.n,
        control=_dot(control, to_control) / side.n,
        covariance=_dot(treatment, to_control) / side.n,
        df=side.n - 1,
    )


def _dot(one: Iterable[float], other: Iterable[float]) -> float:
    total: float = sum(map(mul, one, other))
    return total


def _unadjusted(method: str, one: Linearised, base: Linearised) -> Contrast:
    return Contrast(
        method=method,
        treatment=float(one.value[0]),
        control=float(base.value[0]),
        sources=(
            Source(float(one.covariance[0, 0]) / one.n, 0.0, 0.0, one.n - 1),
            Source(0.0, float(base.covariance[0, 0]) / base.n, 0.0, base.n - 1),
        ),
        n=one.n,
        baseline_n=base.n,
    )


def _least_squares(
    method: str, sides: tuple[Linearised, Linearised], fits: Sequence[Fit]
) -> Contrast:
    """`with_slopes` with each variant's own slopes and the error of estimating them."""
    one, base = sides
    plain = with_slopes(method, sides, (fits[0].slopes(), fits[1].slopes()))
    apart = (one.value[1:] - base.value[1:]).tolist()
    in_treatment, in_control = plain.sources
    added, degrees = _of_slopes(one, fits[0], apart, base.n / (one.n + base.n))
    base_added, base_degrees = _of_slopes(base, fits[1], apart, one.n / (one.n + base.n))
    return replace(
        plain,
        sources=(
            replace(in_treatment, treatment=in_treatment.treatment + added, df=degrees),
            replace(in_control, control=in_control.control + base_added, df=base_degrees),
        ),
    )


def _of_slopes(
    side: Linearised, fit: Fit, apart: Sequence[float], share: float
) -> tuple[float, int]:
    """Return what estimating slopes adds to a level's squared standard error, and what df is left.

    ``s^2 (1/n + d' Sxx^-1 d) - SSE / (n (n - 1))`` with ``d = x_v - x``, the other variant's share
    of the distance between the variants.
    """
    degrees = side.n - 1
    per_unit = fit.residual * degrees / (degrees - len(apart))
    leverage = share**2 * fit.leverage(apart) / degrees
    return per_unit * (1 / side.n + leverage) - fit.residual / side.n, degrees - len(apart)


def _is_constant(side: Linearised, place: int) -> bool:
    return float(side.covariance[place, place]) <= (_CONSTANT * float(side.value[place])) ** 2


@dataclass(frozen=True, slots=True)
class Fit:
    """Least squares of outcomes on covariates in one sample.

    Parameters
    ----------
    swept
        The covariance matrix of outcomes and covariates, swept on those in ``rows``: there it
        holds the slopes of the outcomes and the inverse covariance of the covariates, elsewhere
        on the diagonal the variances that are left.
    rows
        Of the covariates that are used.
    """

    swept: Sequence[Sequence[float]]
    rows: Sequence[int]

    def slopes(self, outcome: int = 0) -> list[float]:
        """Return the slopes of an outcome."""
        return [self.swept[row][outcome] for row in self.rows]

    @property
    def residual(self) -> float:
        """Variance of the first outcome that the covariates leave."""
        return max(0.0, self.swept[0][0])

    def leverage(self, distance: Sequence[float]) -> float:
        """Return the squared distance of covariates in units of their covariance."""
        return sum(
            one * other * self.swept[row][column]
            for one, row in zip(distance, self.rows, strict=True)
            for other, column in zip(distance, self.rows, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Regression:
    """Least squares in several samples, with the covariates that all of them can use.

    Parameters
    ----------
    kept
        Places of the covariates that are used.
    dropped
        The others, each with its reason.
    fits
        By sample.
    """

    kept: tuple[int, ...]
    dropped: tuple[tuple[Quantity, Literal["constant", "collinear"]], ...]
    fits: tuple[Fit, ...]


def regressed(samples: Sequence[Linearised], covariates: Sequence[Quantity]) -> Regression:
    """Regress the first quantities of each sample on its last ones, which are ``covariates``.

    Covariates are used in their order if they vary and the earlier ones do not explain them, in
    every sample.

    Notes
    -----
    Sweeping a covariance matrix on a row regresses all others on it. No entry ever exceeds the
    product of two standard deviations.

    References
    ----------
    Goodnight (1979), "A tutorial on the SWEEP operator", Am. Statist. 33, 149-158.
    """
    outcomes = len(samples[0].value) - len(covariates)
    left = [sample.covariance.tolist() for sample in samples]
    kept: list[int] = []
    dropped: list[tuple[Quantity, Literal["constant", "collinear"]]] = []
    for place, covariate in enumerate(covariates):
        at = outcomes + place
        if any(_is_constant(sample, at) for sample in samples):
            dropped.append((covariate, "constant"))
        elif any(
            matrix[at][at] <= _TOLERANCE * float(sample.covariance[at, at])
            for matrix, sample in zip(left, samples, strict=True)
        ):
            dropped.append((covariate, "collinear"))
        else:
            kept.append(place)
            left = [_swept(matrix, at) for matrix in left]
    rows = [outcomes + place for place in kept]
    fits = tuple(Fit(matrix, rows) for matrix in left)
    return Regression(tuple(kept), tuple(dropped), fits)


def _swept(matrix: list[list[float]], at: int) -> list[list[float]]:
    """Sweep a matrix on one of its rows."""
    pivot = matrix[at][at]
    by = [each / pivot for each in matrix[at]]
    found = []
    for row in matrix:
        factor = row[at]
        left = [each - factor * share for each, share in zip(row, by, strict=True)]
        left[at] = -factor / pivot
        found.append(left)
    by[at] = 1 / pivot
    found[at] = by
    return found
