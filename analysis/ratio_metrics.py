"""Ratio metrics: a sum over units divided by another, such as revenue per order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import optimize, special

from klartext.analysis import ratios
from klartext.analysis.contrast import Contrast, Source
from klartext.analysis.estimate import (
    SMALLEST_P_VALUE,
    ConfidenceSet,
    Estimate,
    Interval,
    NotEstimable,
)
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.relative import WEAK
from klartext.experiments.experiment import Metric

_ROUNDING = 1e-13
"""A variance below this share of its summands is what rounding left over, and taken for zero."""

_FARTHEST = 40.0
"""A multiplier beyond which a p-value is no number."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ratio of the sums (that is, of the means) of two unit columns."""

    numerator: str
    denominator: str


Quantity: TypeAlias = str | Ratio
"""What is compared per variant: the mean of a column, or a ratio of two."""


def quantity(metric: Metric) -> Quantity:
    """Return what a metric of a spec compares: its own column, or the ratio of two others."""
    if metric.numerator is None or metric.denominator is None:
        return metric.key
    return Ratio(metric.numerator, metric.denominator)


@dataclass(frozen=True, slots=True, eq=False)
class Linearised:
    """Quantities of one variant as if they were means of unit columns.

    Parameters
    ----------
    n
        Units.
    value
        ``(k,)``: the quantities.
    covariance
        ``(k, k)``: covariance of the unit contributions; divided by n that of the quantities.
    """

    n: int
    value: FloatArray
    covariance: FloatArray

    def only(self, places: Sequence[int]) -> Linearised:
        """Return the quantities at these places."""
        if len(places) == len(self.value):
            return self
        covariance = self.covariance.take(places, 0).take(places, 1)
        return Linearised(self.n, self.value.take(places), covariance)


def linearise(moments: Moments, quantities: Sequence[Quantity]) -> Linearised | NotEstimable:
    """Quantities with the joint covariance of their unit contributions (delta method).

    Parameters
    ----------
    moments
        One variant.
    quantities
        Columns or ratios of columns, k of them.

    Returns
    -------
    Linearised or NotEstimable
        ``too-few-units``, ``not-finite``, ``invalid-moments`` (a negative sum of squares) or
        ``zero-denominator``.

    Raises
    ------
    ValueError
        There is no such column.

    Notes
    -----
    A unit contributes ``x`` to a mean and ``(y - R z) / mean(z)`` to ``R = mean(y) / mean(z)``.
    With their gradients as rows of G the covariance is ``G S G'``, ``S = m2 / (n - 1)``.

    References
    ----------
    Deng, Knoblich, Lu (2018), "Applying the delta method in metric analytics: a practical guide
    with novel ideas", KDD 2018, sections 2 and 3.
    """
    if moments.n < 2:
        return NotEstimable("too-few-units", f"a variant has {moments.n} units; two are needed")
    columns = columns_of(quantities)
    places = [moments.columns.index(column) for column in columns]
    means, m2 = moments.mean.take(places), moments.m2.take(places, 0).take(places, 1)
    if not (np.isfinite(means).all() and np.isfinite(m2).all()):
        return NotEstimable("not-finite", "a mean or variance is not a finite number")
    if (m2.diagonal() < 0).any():
        return NotEstimable("invalid-moments", "a sum of squared deviations is negative")
    return by_delta(Linearised(moments.n, means, m2 / (moments.n - 1)), columns, quantities)


def by_delta(
    means: Linearised, columns: tuple[str, ...], quantities: Sequence[Quantity]
) -> Linearised | NotEstimable:
    """Quantities from the means of the columns that they are made of; see `linearise`."""
    if columns == tuple(quantities):
        return means
    found = _gradient(quantities, columns, means.value)
    if found is None:
        return NotEstimable("zero-denominator", "the denominator's mean is zero")
    value, gradient = found
    covariance = gradient @ means.covariance @ gradient.T
    summands = np.abs(gradient) @ np.abs(means.covariance) @ np.abs(gradient).T
    exact = covariance.diagonal() <= _ROUNDING * summands.diagonal()
    covariance[exact, :] = covariance[:, exact] = 0.0
    return Linearised(means.n, value, covariance)


def _gradient(
    quantities: Sequence[Quantity], columns: tuple[str, ...], means: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Return the quantities and their derivatives by the means; None for a zero denominator."""
    value = np.zeros(len(quantities))
    gradient = np.zeros((len(quantities), len(columns)))
    for row, quantity in enumerate(quantities):
        match quantity:
            case Ratio(numerator, denominator):
                top, bottom = columns.index(numerator), columns.index(denominator)
                below = float(means[bottom])
                if below == 0:
                    return None
                value[row] = means[top] / below
                gradient[row, top] += 1 / below
                gradient[row, bottom] -= value[row] / below
            case _:
                column = columns.index(quantity)
                value[row] = means[column]
                gradient[row, column] = 1.0
    return value, gradient


def columns_of(quantities: Sequence[Quantity]) -> tuple[str, ...]:
    """Columns that the quantities are made of, each once, in the order they are met."""
    names: dict[str, None] = {}
    for quantity in quantities:
        match quantity:
            case Ratio(numerator, denominator):
                names |= {numerator: None, denominator: None}
            case _:
                names[quantity] = None
    return tuple(names)


def difference(treatment: Moments, control: Moments, metric: Ratio) -> Contrast | NotEstimable:
    """Difference of a ratio metric between two variants by the delta method.

    Parameters
    ----------
    treatment, control
        Moments of independent variants with both columns.
    metric
        Numerator and denominator.

    Returns
    -------
    Contrast or NotEstimable
        Refused for the reasons of `linearise`; ``no-variance`` when no unit of either variant
        leaves its ratio; ``weak-denominator`` when the mean of a denominator is fewer than
        `relative.WEAK` standard errors away from zero, where the expansion fails: see `mover`.

    Notes
    -----
    ``R = mean(y)/mean(z)``,
    ``n Var(R) = (Var(y) - 2 R Cov(y, z) + R^2 Var(z)) / mean(z)^2`` per variant, with the full
    covariance of numerator and denominator over units: rows below the unit (orders, sessions)
    are not independent and never counted. The relative effect ``R_T/R_C - 1`` follows from the
    levels. The ratio is biased by order 1/n.

    References
    ----------
    Deng, Knoblich, Lu (2018), KDD 2018, section 3 (the variance of a ratio of sums over
    clusters).
    """
    sides = [_side(moments, metric) for moments in (treatment, control)]
    for side in sides:
        if isinstance(side, NotEstimable):
            return side
    (level_t, var_t), (level_c, var_c) = (s for s in sides if not isinstance(s, NotEstimable))
    if _is_dust(var_t, level_t) and _is_dust(var_c, level_c):
        return NotEstimable("no-variance", "no unit's numerator leaves the common ratio")
    for moments in (treatment, control):
        bottom = moments.sample(metric.denominator)
        if bottom.mean**2 < WEAK**2 * bottom.variance_of_mean:
            return NotEstimable("weak-denominator", "a denominator's mean may be near zero")
    return Contrast(
        method="ratio",
        treatment=level_t,
        control=level_c,
        sources=(
            Source(max(0.0, var_t), 0.0, 0.0, treatment.n - 1),
            Source(0.0, max(0.0, var_c), 0.0, control.n - 1),
        ),
        n=treatment.n,
        baseline_n=control.n,
    )


def level(
    moments: Moments, metric: Ratio, *, multiplier: float, confidence: float
) -> ConfidenceSet:
    """Fieller's set of one variant's ratio, true however weak the denominator.

    Parameters
    ----------
    moments
        One variant.
    metric
        Numerator and denominator.
    multiplier
        Half-width in standard errors; an anytime one makes the set anytime-valid, because each
        ``mean(y) - r mean(z)`` is a mean.
    confidence
        Level it stands for; 0.95 is 95 %.
    """
    parts = linearise(moments, (metric.numerator, metric.denominator))
    if isinstance(parts, NotEstimable):
        return parts
    return ratios.fieller(*_joint(parts), multiplier=multiplier, level=confidence)


def mover(
    treatment: Moments, control: Moments, metric: Ratio, *, alpha: float, single_look: bool
) -> Estimate | NotEstimable:
    """Difference of a ratio metric from Fieller's limits per variant, for weak denominators.

    Parameters
    ----------
    treatment, control
        Moments of independent variants with both columns.
    metric
        Numerator and denominator.
    alpha
        Two-sided error; the interval has level ``1 - alpha``.
    single_look
        Whether this is the one look that was planned in advance. Becomes ``valid_for_look``.

    Returns
    -------
    Estimate or NotEstimable
        The standard error is the interval's width over ``2 z``; the p-value is the smallest
        alpha at which the interval excludes zero; the relative effect is not estimable. Refused
        for the reasons of `linearise`; ``unbounded`` when a variant's own set is not bounded,
        since then no difference is.

    Notes
    -----
    With limits ``l, u`` of each ratio the interval is
    ``d - sqrt((R_T - l_T)^2 + (u_C - R_C)^2)`` to ``d + sqrt((u_T - R_T)^2 + (R_C - l_C)^2)``
    (MOVER; with Wilson's limits it is Newcombe's interval). For strong denominators it tends
    to the delta method's. Not a linear contrast: not valid when looked at repeatedly.

    References
    ----------
    Zou, Donner (2008), "Construction of confidence limits about effect measures: a general
    approach", Statist. Med. 27, 1693-1702.
    """
    z = multiplier_of(alpha)
    pair: list[_Joint] = []
    for moments in (treatment, control):
        parts = linearise(moments, (metric.numerator, metric.denominator))
        if isinstance(parts, NotEstimable):
            return parts
        pair.append(_joint(parts))
    limits = _limits(pair, z)
    if isinstance(limits, NotEstimable):
        return limits
    value, below, above = limits
    if below + above <= 1e-12 * abs(value):
        return NotEstimable("no-variance", "no unit's numerator leaves the common ratio")
    weak = NotEstimable("weak-denominator", "a ratio of such ratios is not determined")
    return Estimate(
        method="ratio-mover",
        valid_for_look=single_look,
        value=value,
        interval=Interval(value - below, value + above, 1 - alpha),
        std_error=(below + above) / (2 * z),
        p_value=_mover_p_value(pair),
        relative=weak,
        relative_interval=weak,
        n=treatment.n,
        baseline_n=control.n,
    )


def _side(moments: Moments, metric: Ratio) -> tuple[float, float] | NotEstimable:
    """Return the ratio of one variant and its squared standard error."""
    line = linearise(moments, (metric,))
    if isinstance(line, NotEstimable):
        return line
    return float(line.value[0]), float(line.covariance[0, 0]) / line.n


def _is_dust(variance: float, size: float) -> bool:
    return variance <= (1e-12 * size) ** 2


_Joint: TypeAlias = tuple[float, float, float, float, float]
"""Two means, their squared standard errors and their covariance."""


def _joint(parts: Linearised) -> _Joint:
    (top, bottom), squared = parts.value.tolist(), (parts.covariance / parts.n).tolist()
    return top, bottom, squared[0][0], squared[1][1], squared[0][1]


def _limits(pair: Sequence[_Joint], multiplier: float) -> tuple[float, float, float] | NotEstimable:
    """Return the difference and how far the interval reaches below and above it."""
    sides: list[tuple[float, float, float]] = []
    for joint in pair:
        region = ratios.fieller(*joint, multiplier=multiplier, level=0.0)
        if isinstance(region, NotEstimable):
            return region
        if not isinstance(region, Interval):
            return NotEstimable("unbounded", "a variant's ratio is not bounded by the data")
        sides.append((joint[0] / joint[1], region.lower, region.upper))
    (one, one_lower, one_upper), (base, base_lower, base_upper) = sides
    below = math.hypot(one - one_lower, base_upper - base)
    above = math.hypot(one_upper - one, base - base_lower)
    return one - base, below, above


def _mover_p_value(pair: Sequence[_Joint]) -> float:
    """Return the smallest alpha whose interval excludes zero.

    The interval reaches farther with every multiplier, up to where a variant's set is unbounded.
    """

    def room(multiplier: float) -> float:
        limits = _limits(pair, multiplier)
        if isinstance(limits, NotEstimable) or limits[0] == 0:
            return -1.0
        value, below, above = limits
        distance, reach = abs(value), below if value > 0 else above
        return (distance - reach) / (distance + reach)

    if room(0.0) <= 0:
        return 1.0
    if room(_FARTHEST) > 0:
        return SMALLEST_P_VALUE
    multiplier = float(optimize.brentq(room, 0.0, _FARTHEST, xtol=1e-14, rtol=1e-14))
    return max(2 * float(special.ndtr(-multiplier)), SMALLEST_P_VALUE)
