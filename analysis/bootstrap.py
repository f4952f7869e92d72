"""BCa bootstrap: an interval for any statistic of unit rows, where no formula fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from scipy import special

from klartext.analysis.estimate import ConfidenceSet, Estimate, Interval, NotEstimable
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import FloatArray

Statistic: TypeAlias = Callable[[FloatArray, FloatArray], float]
"""Effect of treatment rows against control rows: ``(n, k), (m, k)`` or ``(n,), (m,)``."""


def bca(  # noqa: PLR0913 - two variants, a statistic and how to draw
    treatment: FloatArray,
    control: FloatArray,
    statistic: Statistic,
    *,
    alpha: float,
    single_look: bool,
    resamples: int,
    rng: np.random.Generator,
) -> Estimate | NotEstimable:
    """Effect by any statistic of unit rows, with its bias-corrected and accelerated interval.

    Parameters
    ----------
    treatment, control
        One row per *unit* (never per order): ``(n,)`` or ``(n, k)``, finite.
    statistic
        Function of the rows of both variants that returns the effect; must not depend on the
        order of rows, and be smooth (a quantile is not).
    alpha
        Two-sided error; the interval has level ``1 - alpha``.
    single_look
        Whether this is the one look that was planned in advance. Becomes ``valid_for_look``.
    resamples
        Draws B; 2,000 to 10,000. An end has a Monte Carlo error of about
        ``se sqrt(a (1 - a) / B) / phi(z_a)``.
    rng
        The only source of randomness: one seed, one interval.

    Returns
    -------
    Estimate or NotEstimable
        ``std_error`` is the standard deviation of the draws; the p-value and the relative
        effect are `NotEstimable` (``not-defined``): read the interval. Refused:
        ``too-few-units``; ``not-finite`` (rows, the effect or a draw); ``no-variance`` (all
        draws or all leave-one-out effects are equal); ``beyond-resamples`` (the effect lies
        outside of all draws).

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 1, or fewer than 1,000 resamples.

    Notes
    -----
    Variants are resampled apart, each at its own size. With ``z0 = Phi^-1`` of the share of
    draws below the effect (ties half) and the acceleration of `acceleration`, the ends are the
    draws' quantiles at ``Phi(z0 + (z0 + z) / (1 - a (z0 + z)))``, z = ± the normal quantile.
    Second-order accurate for smooth statistics of independent units; with heavy tails and few
    non-zero units (below about 100 per variant) it still covers too little. Costs n + m + B
    evaluations. Not valid when looked at repeatedly.

    References
    ----------
    Efron (1987), "Better bootstrap confidence intervals", J. Am. Statist. Assoc. 82, 171-185
    (the interval and, for one sample, the acceleration).
    """
    multiplier_of(alpha)
    if resamples < 1000:
        raise ValueError(f"{resamples} resamples: at least 1,000 are needed for an end")
    rows = (np.asarray(treatment, dtype=np.float64), np.asarray(control, dtype=np.float64))
    smallest = min(len(sample) for sample in rows)
    if smallest < 2:
        return NotEstimable("too-few-units", f"a variant has {smallest} units; two are needed")
    if not all(np.isfinite(sample).all() for sample in rows):
        return NotEstimable("not-finite", "a row holds a value that is not a finite number")
    value = float(statistic(*rows))
    draws = np.array(
        [statistic(*(_resampled(each, rng) for each in rows)) for _ in range(resamples)]
    )
    if not (np.isfinite(draws).all() and math.isfinite(value)):
        return NotEstimable("not-finite", "the statistic is not finite in some resample")
    skewness = acceleration(rows, statistic)
    if isinstance(skewness, NotEstimable):
        return skewness
    interval = bca_interval(draws, value, skewness, alpha=alpha)
    if isinstance(interval, NotEstimable):
        return interval
    undefined = NotEstimable("not-defined", "the bootstrap gives an interval only")
    return Estimate(
        method="bca",
        valid_for_look=single_look,
        value=value,
        interval=interval,
        std_error=float(draws.std(ddof=1)),
        p_value=undefined,
        relative=undefined,
        relative_interval=undefined,
        n=len(rows[0]),
        baseline_n=len(rows[1]),
    )


def bca_interval(
    draws: FloatArray, value: float, skewness: float, *, alpha: float
) -> ConfidenceSet:
    """Bias-corrected and accelerated ends from bootstrap draws.

    Parameters
    ----------
    draws
        ``(B,)`` bootstrap effects, finite.
    value
        The effect itself.
    skewness
        Acceleration.
    alpha
        Two-sided error.
    """
    if draws.min() == draws.max():
        return NotEstimable("no-variance", "every resample gives the same effect")
    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / 2 / len(draws)
    if not 0 < below < 1:
        return NotEstimable("beyond-resamples", "the effect lies outside of all resamples")
    bias = float(special.ndtri(below))
    ends = []
    for z in (-multiplier_of(alpha), multiplier_of(alpha)):
        stretched = 1 - skewness * (bias + z)
        if stretched <= 0:
            return NotEstimable("beyond-resamples", "the acceleration is too large for the level")
        ends.append(float(special.ndtr(bias + (bias + z) / stretched)))
    lower, upper = np.quantile(draws, ends)
    return Interval(float(lower), float(upper), 1 - alpha)


def acceleration(rows: Sequence[FloatArray], statistic: Statistic) -> float | NotEstimable:
    """Acceleration of the effect, from leaving out one unit at a time.

    ``sum_v sum_i u_vi^3 / n_v^3 / (6 (sum_v sum_i u_vi^2 / n_v^2)^1.5)`` with
    ``u_vi = (n_v - 1)(mean of the leave-one-out effects of variant v - that without unit i)``.
    """
    second = third = 0.0
    for place, sample in enumerate(rows):
        n = len(sample)
        effects = np.empty(n)
        for unit in range(n):
            parts = [
                np.delete(sample, unit, axis=0) if at == place else other
                for at, other in enumerate(rows)
            ]
            effects[unit] = statistic(parts[0], parts[1])
        if not np.isfinite(effects).all():
            return NotEstimable("not-finite", "the statistic is not finite without some unit")
        influence = (n - 1) * (effects.mean() - effects)
        second += float((influence**2).sum()) / n**2
        third += float((influence**3).sum()) / n**3
    if second == 0:
        return NotEstimable("no-variance", "no single unit moves the effect")
    return float(third / (6 * second**1.5))


def _resampled(sample: FloatArray, rng: np.random.Generator) -> FloatArray:
    drawn: FloatArray = sample[rng.integers(0, len(sample), len(sample))]
    return drawn
