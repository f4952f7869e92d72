"""One-sided questions: better at all, or not worse than a margin, absolute or relative."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from scipy import special

from klartext.analysis import proportions
from klartext.analysis.contrast import Contrast, checked, student
from klartext.analysis.estimate import SMALLEST_P_VALUE, Interval, NotEstimable
from klartext.analysis.moments import Sample
from klartext.analysis.sequential import mixture


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse a treatment may be; 0 asks whether it is better at all.

    Parameters
    ----------
    amount
        Not negative: in the metric's unit, or a fraction of the control's level (0.02 is 2 %).
    relative
        Whether ``amount`` is such a fraction.
    better
        Whether ``higher`` or ``lower`` values are better.

    Raises
    ------
    ValueError
        The amount is negative or not finite, or a relative one is not below 1.
    """

    amount: float
    relative: bool
    better: Literal["higher", "lower"]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise ValueError(f"the margin is {self.amount}: it must be finite and not negative")
        if self.relative and not self.amount < 1:
            raise ValueError(f"the relative margin is {self.amount}: it must be below 1")


@dataclass(frozen=True, slots=True)
class MarginTest:
    """Whether a treatment is inside a margin.

    Parameters
    ----------
    method
        Name of the estimator.
    valid_for_look
        Whether the bound may be read at this look.
    slack
        Estimated distance to the margin in the metric's unit: positive is inside.
    bound
        Lower confidence bound of the slack.
    std_error
        Of the slack.
    p_value
        One-sided, of a slack of at most zero.
    level
        Confidence of the bound; 0.975 is 97.5 %.
    """

    method: str
    valid_for_look: bool
    slack: float
    bound: float
    std_error: float
    p_value: float
    level: float

    @property
    def passed(self) -> bool:
        """Whether even the bound is inside the margin."""
        return self.bound > 0


def fixed(
    contrast: Contrast | NotEstimable, margin: Margin, *, alpha: float, single_look: bool
) -> MarginTest | NotEstimable:
    """One-sided test against a margin at a single planned look, with Student's t.

    Parameters
    ----------
    contrast
        Any; a `NotEstimable` passes through.
    margin
        Fixed before the start.
    alpha
        One-sided error; 0.025 goes with a two-sided interval at 95 %.
    single_look
        Whether this is the one look that was planned in advance. Becomes ``valid_for_look``.

    Returns
    -------
    MarginTest or NotEstimable
        Refused as by `contrast.checked`, and ``non-positive-mean`` when a relative margin meets
        a control level that is not above zero.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 0.5.

    Notes
    -----
    The slack is ``T - C + m`` when higher is better, ``C + m - T`` when lower is;
    ``T - (1 - m) C`` and ``(1 + m) C - T`` for a relative margin. The latter is one linear
    contrast with its own standard error: no ratio is taken, and the error of the control's
    level, of which the margin is a part, is in it. Passing a margin is a choice of values and
    not evidence of equality.

    References
    ----------
    Tamhane, Logan (2004), "Finding the maximum safe dose level for heteroscedastic data",
    J. Biopharm. Statist. 14, 843-856 (ratio margins as linear contrasts, Welch's df).
    """
    _check(alpha)
    slack = slack_of(contrast, margin)
    if isinstance(slack, NotEstimable):
        return slack
    df = slack.df
    statistic = slack.value / slack.std_error
    return MarginTest(
        method=slack.method,
        valid_for_look=single_look,
        slack=slack.value,
        bound=slack.value - student(df, tail=alpha) * slack.std_error,
        std_error=slack.std_error,
        p_value=max(float(special.stdtr(df, -statistic)), SMALLEST_P_VALUE),
        level=1 - alpha,
    )


def anytime(
    contrast: Contrast | NotEstimable,
    margin: Margin,
    *,
    alpha: float,
    planned_n: int,
    burn_in: NotEstimable | None,
) -> MarginTest | NotEstimable:
    """One-sided test against a margin that stays valid at every look.

    Parameters
    ----------
    contrast, margin
        As for `fixed`.
    alpha
        One-sided error over all looks together.
    planned_n
        Units planned for both variants together.
    burn_in
        As for `contrast.anytime`.

    Returns
    -------
    MarginTest or NotEstimable
        As for `fixed`, and ``burn_in``.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 0.5.

    Notes
    -----
    The bound is `mixture.multiplier_one_sided` standard errors below the slack. The p-value is
    the smallest level, with the tuning constant of ``alpha``, at which the bound is positive:
    ``sqrt(1 + n/g) / (2 (exp(z^2 n / (2 (n + g))) - 1))`` for z > 0, at most 1; else 1. It
    falls below a at any look with probability at most a. See there and `contrast.anytime`.
    """
    _check(alpha)
    slack = slack_of(contrast, margin)
    if isinstance(slack, NotEstimable):
        return slack
    if burn_in is not None:
        return burn_in
    n = slack.n + slack.baseline_n
    width = mixture.multiplier_one_sided(n, planned_n, alpha=alpha)
    return MarginTest(
        method="anytime" if slack.method == "welch" else f"anytime-{slack.method}",
        valid_for_look=True,
        slack=slack.value,
        bound=slack.value - width * slack.std_error,
        std_error=slack.std_error,
        p_value=one_sided_p_value(slack.value / slack.std_error, n, planned_n, alpha=alpha),
        level=1 - alpha,
    )


def newcombe(
    treatment: Sample, control: Sample, margin: Margin, *, alpha: float, single_look: bool
) -> MarginTest | NotEstimable:
    """One-sided test of proportions against an absolute margin, also at 0 of n and n of n.

    Parameters
    ----------
    treatment, control
        A 0/1 column of independent variants.
    margin
        An absolute one.
    alpha, single_look
        As for `fixed`.

    Returns
    -------
    MarginTest or NotEstimable
        ``bound`` is the unfavourable limit of `proportions.newcombe` at ``2 alpha``, plus the
        margin; the p-value is the smallest alpha at which it is positive (1/2 or more when the
        estimate is outside the margin is reported as 1). Refused for its reasons.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 0.5, or the margin is relative.

    References
    ----------
    Newcombe (1998), Statist. Med. 17, 873-890, method 10.
    """
    _check(alpha)
    if margin.relative:
        raise ValueError("Newcombe's limits are for absolute margins; use a contrast")
    estimate = proportions.newcombe(treatment, control, alpha=2 * alpha, single_look=single_look)
    if isinstance(estimate, NotEstimable):
        return estimate
    sign = 1.0 if margin.better == "higher" else -1.0

    def lowest(tail: float) -> float:
        found = proportions.newcombe(treatment, control, alpha=2 * tail, single_look=single_look)
        if isinstance(found, NotEstimable) or not isinstance(found.interval, Interval):
            return -math.inf
        return min(sign * found.interval.lower, sign * found.interval.upper) + margin.amount

    return MarginTest(
        method="newcombe",
        valid_for_look=single_look,
        slack=sign * estimate.value + margin.amount,
        bound=lowest(alpha),
        std_error=estimate.std_error,
        p_value=_smallest_passing(lowest),
        level=1 - alpha,
    )


def one_sided_p_value(statistic: float, n: int, planned_n: int, *, alpha: float) -> float:
    """Anytime one-sided p-value: the smallest level whose bound, with *this* g, is above zero.

    Parameters
    ----------
    statistic
        Slack over its standard error.
    n, planned_n, alpha
        As for `mixture.multiplier_one_sided`; ``alpha`` fixes g and is not re-tuned.
    """
    if statistic <= 0:
        return 1.0
    tail = -2 * math.log(2 * alpha)
    elapsed = n / planned_n * (tail + math.log1p(tail))
    exponent = statistic * statistic * elapsed / (1 + elapsed) / 2
    if exponent > 700:
        return SMALLEST_P_VALUE
    return min(1.0, math.sqrt(1 + elapsed) / (2 * math.expm1(exponent)))


def slack_of(contrast: Contrast | NotEstimable, margin: Margin) -> Contrast | NotEstimable:
    """Contrast whose difference is the distance to the margin, positive inside.

    Refused as by `contrast.checked`, and ``non-positive-mean`` when a relative margin meets a
    control level that is not above zero.
    """
    if isinstance(contrast, NotEstimable):
        return contrast
    higher = margin.better == "higher"
    if margin.relative:
        if not contrast.control > 0:
            return NotEstimable("non-positive-mean", "a relative margin needs a level above zero")
        moved = contrast.times_control(1 - margin.amount if higher else 1 + margin.amount)
    else:
        shift = margin.amount if higher else -margin.amount
        moved = replace(contrast, treatment=contrast.treatment + shift)
    return checked(moved if higher else _mirrored(moved))


def _mirrored(contrast: Contrast) -> Contrast:
    return replace(contrast, treatment=-contrast.treatment, control=-contrast.control)


def _smallest_passing(lowest: Callable[[float], float]) -> float:
    """Return the smallest one-sided alpha with a positive bound, by bisection on the normal z."""
    low, high = 0.0, 38.0
    if lowest(float(special.ndtr(-1e-9))) <= 0:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if lowest(float(special.ndtr(-middle))) > 0 else (low, middle)
    return max(float(special.ndtr(-low)), SMALLEST_P_VALUE)


def _check(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}: a one-sided error must lie between 0 and 0.5")
