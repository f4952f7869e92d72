"""Difference of two proportions at a single planned look: Wald and Newcombe."""

from __future__ import annotations

import math
from dataclasses import replace

from scipy import special

from klartext.analysis import relative
from klartext.analysis.estimate import (
    SMALLEST_P_VALUE,
    ConfidenceSet,
    Estimate,
    Interval,
    NotEstimable,
)
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import Sample


def wald(
    treatment: Sample, control: Sample, *, alpha: float, single_look: bool
) -> Estimate | NotEstimable:
    """Difference of proportions with the unpooled normal interval and its z-test.

    Parameters
    ----------
    treatment, control
        A 0/1 column of independent variants.
    alpha
        Two-sided error; the intervals have level ``1 - alpha``.
    single_look
        Whether this is the one look that was planned in advance. Becomes ``valid_for_look``.

    Returns
    -------
    Estimate or NotEstimable
        Refused: ``no-units``, ``not-finite``, ``not-a-proportion`` (the column is not 0/1), and
        ``no-variance`` when both proportions are 0 or 1.

    Notes
    -----
    ``se^2 = pT (1 - pT) / nT + pC (1 - pC) / nC``, interval ``pT - pC ± z se``, p-value
    ``2 Phi(-abs(pT - pC) / se)``. The relative lift is the log ratio with the same variances,
    or Fieller's set for a weak mean. Covers too little when a variant has fewer than about
    ten ones or ten zeros: read `newcombe` then. Not valid when looked at repeatedly.
    """
    z = multiplier_of(alpha)
    refused = not_proportions(treatment, control)
    if refused is not None:
        return refused
    value, std_error = treatment.mean - control.mean, _unpooled(treatment, control)
    if std_error == 0:
        return NotEstimable("no-variance", "both proportions are 0 or 1: no standard error")
    relative_value, relative_interval = _lift(treatment, control, z=z, level=1 - alpha)
    return Estimate(
        method="wald",
        valid_for_look=single_look,
        value=value,
        interval=Interval(value - z * std_error, value + z * std_error, 1 - alpha),
        std_error=std_error,
        p_value=_two_sided(value / std_error),
        relative=relative_value,
        relative_interval=relative_interval,
        n=treatment.n,
        baseline_n=control.n,
    )


def newcombe(
    treatment: Sample, control: Sample, *, alpha: float, single_look: bool
) -> Estimate | NotEstimable:
    """Difference of proportions with Newcombe's hybrid score interval and the pooled z-test.

    Parameters
    ----------
    treatment, control
        A 0/1 column of independent variants; 0 of n and n of n are fine.
    alpha
        Two-sided error; the intervals have level ``1 - alpha``.
    single_look
        Whether this is the one look that was planned in advance. Becomes ``valid_for_look``.

    Returns
    -------
    Estimate or NotEstimable
        Refused: ``no-units``, ``not-finite``, ``not-a-proportion``. ``std_error`` is the
        interval's width over ``2 z``, since the plug-in one is 0 at 0 of n and n of n. The
        p-value is that of `pooled_z_test`.

    Notes
    -----
    With Wilson limits ``l, u`` of each proportion the interval is
    ``d - sqrt((pT - lT)^2 + (uC - pC)^2)`` to ``d + sqrt((uT - pT)^2 + (pC - lC)^2)``, without
    continuity correction. Interval and test are not inversions of each other and may disagree
    at the margin. Not valid when looked at repeatedly.

    References
    ----------
    Newcombe (1998), "Interval estimation for the difference between independent proportions:
    comparison of eleven methods", Statist. Med. 17, 873-890, method 10. Wilson (1927), J. Am.
    Statist. Assoc. 22, 209-212.
    """
    z = multiplier_of(alpha)
    refused = not_proportions(treatment, control)
    if refused is not None:
        return refused
    value = treatment.mean - control.mean
    lower_t, upper_t = wilson(treatment, multiplier=z)
    lower_c, upper_c = wilson(control, multiplier=z)
    below = math.hypot(treatment.mean - lower_t, upper_c - control.mean)
    above = math.hypot(upper_t - treatment.mean, control.mean - lower_c)
    relative_value, relative_interval = _lift(treatment, control, z=z, level=1 - alpha)
    return Estimate(
        method="newcombe",
        valid_for_look=single_look,
        value=value,
        interval=Interval(value - below, value + above, 1 - alpha),
        std_error=(below + above) / (2 * z),
        p_value=pooled_z_test(treatment, control),
        relative=relative_value,
        relative_interval=relative_interval,
        n=treatment.n,
        baseline_n=control.n,
    )


def wilson(sample: Sample, *, multiplier: float) -> tuple[float, float]:
    """Score interval of one proportion, exactly 0 or 1 at an end where the estimate is.

    Roots of ``(p - q)^2 = z^2 q (1 - q) / n`` in q.
    """
    n, p, z = sample.n, sample.mean, multiplier
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    lower = 0.0 if p == 0 else (centre - spread) / scale
    upper = 1.0 if p == 1 else (centre + spread) / scale
    return lower, upper


def pooled_z_test(treatment: Sample, control: Sample) -> float | NotEstimable:
    """Two-sided p-value of equal proportions, with the variance under that hypothesis.

    Its square is the chi-square statistic of the 2x2 table. `NotEstimable` (``no-variance``)
    when every unit of both variants has the same value.
    """
    n = treatment.n + control.n
    pooled = treatment.mean * (treatment.n / n) + control.mean * (control.n / n)
    variance = pooled * (1 - pooled) * (1 / treatment.n + 1 / control.n)
    if variance <= 0:
        return NotEstimable("no-variance", "every unit of both variants has the same value")
    return _two_sided((treatment.mean - control.mean) / math.sqrt(variance))


def _lift(
    treatment: Sample, control: Sample, *, z: float, level: float
) -> tuple[float | NotEstimable, ConfidenceSet]:
    """Relative lift with the plug-in variance ``p (1 - p)`` in place of ``m2 / (n - 1)``."""
    return relative.lift(
        replace(treatment, m2=treatment.m2 * (treatment.n - 1) / treatment.n),
        replace(control, m2=control.m2 * (control.n - 1) / control.n),
        multiplier=z,
        level=level,
    )


def _two_sided(z: float) -> float:
    return max(2 * float(special.ndtr(-abs(z))), SMALLEST_P_VALUE)


def _unpooled(treatment: Sample, control: Sample) -> float:
    return math.sqrt(
        treatment.mean * (1 - treatment.mean) / treatment.n
        + control.mean * (1 - control.mean) / control.n
    )


def not_proportions(*samples: Sample) -> NotEstimable | None:
    """Why these are not 0/1 columns: such a column has ``m2 = n p (1 - p)``."""
    for sample in samples:
        if sample.n < 1:
            return NotEstimable("no-units", "a variant has no units")
        if not (math.isfinite(sample.mean) and math.isfinite(sample.m2)):
            return NotEstimable("not-finite", "a mean or variance is not a finite number")
        expected = sample.n * sample.mean * (1 - sample.mean)
        if not 0 <= sample.mean <= 1 or abs(sample.m2 - expected) > 1e-6 * max(1.0, expected):
            return NotEstimable("not-a-proportion", "the column holds values other than 0 and 1")
    return None
