"""Quantiles that may be watched: confidence sequences for their difference.

A value x is the q-quantile of a variant exactly when the number K of its units at or below x
behaves like heads of a coin with chance q. Mixing the coin's likelihood ratios over a
Beta(q r, (1 - q) r) prior on the chance,

    ``M(K) = B(q r + K, (1 - q) r + n - K) / (B(q r, (1 - q) r) q^K (1 - q)^(n - K))``,

is a non-negative martingale that starts at 1, exactly, at every n, for every distribution. For two
independent variants the product ``M_T(x_T) M_C(x_C)`` at their true quantiles is one as well, so
that by Ville's inequality the pairs with a product below ``1/a`` hold the true pair at all looks
at once with probability at least ``1 - a``; the differences of these pairs are the sequence. With
ties x may lie inside a jump of the distribution, and K is only known to be between the counts
below x and at or below x; some count in between behaves like the coin, and the smallest M over
them is at most its M.

Observations in clusters have no such coin. There the sum over units of (count at or below x - q
times count) has mean zero at the quantile, and the asymptotic mixture of
`klartext.analysis.sequential.mixture` takes the place of M, on that sum's own variance.

References
----------
Howard, Ramdas (2022), "Sequential estimation of quantiles with applications to A/B testing and
best-arm identification", Bernoulli 28, 1704-1728 (the beta-binomial sequence and the A/B test by
a product). Robbins (1970), Ann. Math. Statist. 41, 1397-1409.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy import special

from klartext.analysis.estimate import (
    SMALLEST_P_VALUE,
    ConfidenceSet,
    Estimate,
    Interval,
    NotEstimable,
)
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import FloatArray
from klartext.analysis.quantiles import MINIMUM_TAIL, IntArray, Observations, exact


def anytime(
    treatment: Observations, control: Observations, q: float, *, alpha: float, planned_n: int
) -> Estimate | NotEstimable:
    """Difference of a quantile between two variants with its confidence sequence at this look.

    Parameters
    ----------
    treatment, control
        Observations of independent variants.
    q
        Share of the observations below the quantile.
    alpha
        Two-sided error over all looks together; the sets have level ``1 - alpha``.
    planned_n
        Units planned for both variants together. Sets where the sequence is narrowest; fixed
        before the start.

    Returns
    -------
    Estimate or NotEstimable
        ``p_value`` is at most alpha whenever the interval excludes zero. ``std_error`` is what
        a normal estimate whose sequence is as wide would have, for comparison only.
        ``relative_interval`` holds ``x_T / x_C - 1`` for the same pairs. Refused: ``no-units``;
        ``not-finite``; ``unbounded`` (too few units to bound the quantile at this level);
        ``no-variance`` (the interval is a point: all observations are equal at the quantile);
        and ``burn-in`` for clustered observations with ``n min(q, 1 - q)`` below 200 units,
        where the sequence is asymptotic. With one observation per unit it is exact and needs
        no gate.

    Raises
    ------
    ValueError
        ``alpha`` or ``q`` is not between 0 and 1, or ``planned_n`` not positive.

    Notes
    -----
    See the module. The prior has ``r = max(g - 1, 0.001)`` heads and tails with the tuning
    ``g = (N / 2) / (-2 ln a + ln(1 - 2 ln a))``; every value fixed in advance is valid. Clusters:
    ``ln M = (z^2 n / (n + g) - ln(1 + n / g)) / 2`` with z the sum over its standard error; with
    ties z is the nearest to zero of those below and at x, with the larger standard error.
    """
    share, tail, tuning = exact(q), *_design(alpha, planned_n)
    refused = _refused((treatment, control), share)
    if refused is not None:
        return refused
    one, base = (_evidence(side, q, tuning) for side in (treatment, control))
    lower, upper = _range(one, base, tail / 2)
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return _UNBOUNDED
    if lower == upper:
        return NotEstimable("no-variance", "all observations are equal at the quantile")
    elapsed = (treatment.n + control.n) / 2 / tuning
    width = math.sqrt((1 + 1 / elapsed) * (math.log1p(elapsed) + tail))
    value, baseline = treatment.at_rank(share), control.at_rank(share)
    relative, region = _relative(
        one, base, tail / 2, levels=(value, baseline), confidence=1 - alpha
    )
    return Estimate(
        method="anytime-quantile",
        valid_for_look=True,
        value=value - baseline,
        interval=Interval(lower, upper, 1 - alpha),
        std_error=(upper - lower) / (2 * width),
        p_value=_p_value(one, base),
        relative=relative,
        relative_interval=region,
        n=treatment.n,
        baseline_n=control.n,
    )


def level(side: Observations, q: float, *, alpha: float, planned_n: int) -> ConfidenceSet:
    """Confidence sequence of one variant's quantile at this look.

    The values whose M stays below ``1/a``. Parameters and refusals as for `anytime`.

    Raises
    ------
    ValueError
        ``alpha`` or ``q`` is not between 0 and 1, or ``planned_n`` not positive.
    """
    share, tail, tuning = exact(q), *_design(alpha, planned_n)
    refused = _refused((side,), share)
    if refused is not None:
        return refused
    evidence = _evidence(side, q, tuning)
    possible = evidence.points[evidence.at < tail / 2]
    lower, upper = float(possible.min()), float(possible.max())
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return _UNBOUNDED
    return Interval(lower, upper, 1 - alpha)


def multiplier(
    n: tuple[float, float],
    variances: tuple[float, float],
    *,
    alpha: float,
    planned_n: int,
) -> float:
    """Half-width of the sequence in standard errors of the difference, to first order: to plan.

    Parameters
    ----------
    n
        Units of both variants with an observation.
    variances
        Squared standard errors of both quantiles, of which only the proportion matters; a zero
        is a number without an error, and the sequence that of the other's level.
    alpha, planned_n
        As for `anytime`.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 1, ``planned_n`` not positive, or no variance is.

    Notes
    -----
    In large samples either M is ``ln M = (z^2 n / (n + g) - ln(1 + n / g)) / 2``, z the distance
    from the sample quantile in standard errors s. The farthest pair with ``M M < 1/a`` is then
    ``(s_T^2 (1 + g/n_T) + s_C^2 (1 + g/n_C))^(1/2) (-2 ln a + sum ln(1 + n / g))^(1/2)`` away.
    """
    tail, tuning = _design(alpha, planned_n)
    sides = [(units, part) for units, part in zip(n, variances, strict=True) if part > 0]
    if not sides:
        raise ValueError("neither variance is positive")
    room = tail + math.fsum(math.log1p(units / tuning) for units, _ in sides)
    slower = math.fsum(part * (1 + tuning / units) for units, part in sides)
    return math.sqrt(slower / math.fsum(part for _, part in sides) * room)


_UNBOUNDED = NotEstimable("unbounded", "there are too few units to bound this quantile")


def _design(alpha: float, planned_n: int) -> tuple[float, float]:
    """Return ``-2 ln a`` and the tuning g."""
    multiplier_of(alpha)
    if not planned_n > 0:
        raise ValueError(f"planned_n is {planned_n}: it must be positive")
    tail = -2 * math.log(alpha)
    return tail, planned_n / 2 / (tail + math.log1p(tail))


def _refused(sides: tuple[Observations, ...], share: Fraction) -> NotEstimable | None:
    for side in sides:
        if side.n == 0:
            return NotEstimable("no-units", "a variant has no observations")
        if not side.is_finite:
            return NotEstimable("not-finite", "an observation is not a finite number")
        if side.is_clustered and side.n * min(share, 1 - share) < MINIMUM_TAIL:
            return NotEstimable("burn-in", f"a variant has {side.n} units: too few for clusters")
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """``ln M`` against each value being the quantile of one variant.

    Parameters
    ----------
    points
        ``(D + 2,)`` distinct observations between minus and plus infinity.
    at
        ``(D + 2,)`` for the points themselves.
    between
        ``(D + 1,)`` for the open gaps between neighbouring points.
    """

    points: FloatArray
    at: FloatArray
    between: FloatArray

    def against(self, values: FloatArray) -> FloatArray:
        """Return ``ln M`` against arbitrary values."""
        place = np.searchsorted(self.points, values)
        hit = self.points[place] == values
        found: FloatArray = np.where(hit, self.at[place], self.between[np.maximum(place - 1, 0)])
        return found


def _evidence(side: Observations, q: float, tuning: float) -> _Evidence:
    reached = np.concatenate(([0], np.cumsum(side.counts)))
    if side.is_clustered:
        between, at = _clusters(side, reached, q, tuning)
    else:
        between, at = _coin(side.n, reached, q, tuning)
    return _Evidence(
        points=np.concatenate(([-math.inf], side.values, [math.inf])),
        at=np.concatenate((between[:1], at, between[-1:])),
        between=between,
    )


def _coin(n: int, reached: IntArray, q: float, tuning: float) -> tuple[FloatArray, FloatArray]:
    """Return ln M of the beta-binomial mixture in the gaps and, least over ties, at the points."""
    heads, tails = (share * max(tuning - 1, 1e-3) for share in (q, 1 - q))
    count = np.arange(n + 1, dtype=np.float64)
    log_m: FloatArray = (
        special.betaln(heads + count, tails + n - count)
        - special.betaln(heads, tails)
        - count * math.log(q)
        - (n - count) * math.log1p(-q)
    )
    least = int(np.argmin(log_m))  # ln M is convex in the count
    nearest = np.clip(least, reached[:-1], reached[1:])
    return log_m[reached], log_m[nearest]


def _clusters(
    side: Observations, reached: IntArray, q: float, tuning: float
) -> tuple[FloatArray, FloatArray]:
    """Return ln M of the normal mixture over units' sums, in the gaps and at the points.

    A unit's sum starts at ``-q m`` and grows by 1 with each of its m observations passed, so
    that its square grows by ``2 (k - q m) + 1`` with the one after k.
    """
    step = 2 * (side.earlier - q * side.sizes) + side.counts
    start = q * q * float(side.sizes.sum())
    squares = start + np.concatenate(([0.0], np.cumsum(step)))
    total = np.asarray(reached - q * side.total, dtype=np.float64)
    clock: FloatArray = np.maximum(squares - total**2 / side.n, 0.0) * side.n / (side.n - 1)
    nearest = np.where(total[1:] < 0, total[1:], np.maximum(total[:-1], 0.0))
    slower: FloatArray = np.maximum(clock[1:], clock[:-1])
    return _normal(total, clock, side.n, tuning), _normal(nearest, slower, side.n, tuning)


def _normal(total: FloatArray, clock: FloatArray, n: int, tuning: float) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.where(total == 0, 0.0, total * total / clock)
    found: FloatArray = (squared * (n / (n + tuning)) - math.log1p(n / tuning)) / 2
    return found


def _range(one: _Evidence, base: _Evidence, budget: float) -> tuple[float, float]:
    """Return the ends of ``x_T - x_C`` over all pairs whose evidence stays below the budget."""
    return -_furthest(base, one, budget), _furthest(one, base, budget)


def _furthest(high: _Evidence, low: _Evidence, budget: float) -> float:
    """Return the largest difference of a point of ``high`` and one of ``low``."""
    envelope = np.minimum.accumulate(high.at[::-1])[::-1]  # least evidence from here upwards
    reach = np.searchsorted(envelope, budget - low.at, side="left") - 1
    possible = reach >= 0
    with np.errstate(invalid="ignore"):
        apart = high.points[reach[possible]] - low.points[possible]
    return float(np.max(np.where(np.isnan(apart), math.inf, apart), initial=-math.inf))


def _p_value(one: _Evidence, base: _Evidence) -> float:
    """Return 1 / M at the common value against which there is least evidence, at most 1."""
    values = np.concatenate((one.points, base.points))
    least = float(np.min(one.against(values) + base.against(values)))
    return max(math.exp(-max(0.0, least)), SMALLEST_P_VALUE)


def _relative(
    one: _Evidence,
    base: _Evidence,
    budget: float,
    *,
    levels: tuple[float, float],
    confidence: float,
) -> tuple[float | NotEstimable, ConfidenceSet]:
    """Return ``x_T / x_C - 1`` and its range over the pairs, all of which must be positive."""
    logs = []
    for side, other in ((one, base), (base, one)):
        possible = side.at + other.at.min() < budget
        if side.points[possible].min() <= 0 or min(levels) <= 0:
            refused = NotEstimable("non-positive-quantile", "a quantile may be zero or below")
            return refused, refused
        # A range needs no gaps.
        logs.append(_Evidence(np.log(side.points[possible]), side.at[possible], side.between[:0]))
    lower, upper = _range(logs[0], logs[1], budget)
    region = Interval(math.expm1(lower), math.expm1(upper), confidence)
    return levels[0] / levels[1] - 1, region
