"""Difference of two means at a single planned look: Welch."""

from __future__ import annotations

import math

from scipy import special

from klartext.analysis import relative
from klartext.analysis.estimate import SMALLEST_P_VALUE, Estimate, Interval, NotEstimable
from klartext.analysis.moments import Sample, unusable


def welch(
    treatment: Sample, control: Sample, *, alpha: float, single_look: bool
) -> Estimate | NotEstimable:
    """Difference of means with Student's t and Satterthwaite's degrees of freedom.

    Parameters
    ----------
    treatment, control
        One column, in the same unit, of independent variants.
    alpha
        Two-sided error; the intervals have level ``1 - alpha``.
    single_look
        Whether this is the one look that was planned in advance. Becomes ``valid_for_look``.

    Returns
    -------
    Estimate or NotEstimable
        Refused for the reasons of `unusable`: fewer than two units, moments that are not
        finite, or no variance in either variant. No variance in one of them is no obstacle.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 1.

    Notes
    -----
    ``t = (mT - mC) / se``, ``se^2 = vT/nT + vC/nC``,
    ``df = se^4 / ((vT/nT)^2 / (nT - 1) + (vC/nC)^2 / (nC - 1))``; the p-value is
    ``2 F(-abs(t); df)``, which keeps its digits in the far tail.
    The relative lift is `relative.lift` with the same multiplier.

    Not valid when looked at repeatedly (50 looks at 5 %: about one false alarm in three), nor
    with so few and skewed non-zero outcomes that the difference of means is not yet normal;
    see `klartext.analysis.sequential.mixture.burn_in`.

    References
    ----------
    Welch (1947), "The generalization of 'Student's' problem when several different population
    variances are involved", Biometrika 34, 28-35. Satterthwaite (1946), Biometrics Bull. 2,
    110-114.
    """
    multiplier_of(alpha)
    refused = unusable(treatment, control)
    if refused is not None:
        return refused
    value, variance = difference(treatment, control)
    std_error = math.sqrt(variance)
    df = degrees_of_freedom(treatment, control)
    multiplier = float(special.stdtrit(df, 1 - alpha / 2))
    relative_value, relative_interval = relative.lift(
        treatment, control, multiplier=multiplier, level=1 - alpha
    )
    return Estimate(
        method="welch",
        valid_for_look=single_look,
        value=value,
        interval=Interval(
            value - multiplier * std_error, value + multiplier * std_error, 1 - alpha
        ),
        std_error=std_error,
        p_value=max(2 * float(special.stdtr(df, -abs(value) / std_error)), SMALLEST_P_VALUE),
        relative=relative_value,
        relative_interval=relative_interval,
        n=treatment.n,
        baseline_n=control.n,
    )


def difference(treatment: Sample, control: Sample) -> tuple[float, float]:
    """Difference of means, treatment minus control, and its squared standard error."""
    variance = treatment.variance_of_mean + control.variance_of_mean
    return treatment.mean - control.mean, variance


def degrees_of_freedom(treatment: Sample, control: Sample) -> float:
    """Satterthwaite's degrees of freedom, between ``min(nT, nC) - 1`` and ``nT + nC - 2``."""
    _, variance = difference(treatment, control)
    share = treatment.variance_of_mean / variance
    return 1 / (share**2 / (treatment.n - 1) + (1 - share) ** 2 / (control.n - 1))


def multiplier_of(alpha: float) -> float:
    """Two-sided normal multiplier, 1.96 for ``alpha=0.05``.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: it must lie between 0 and 1")
    return -float(special.ndtri(alpha / 2))
