"""Relative lift: the ratio of two means minus one (0.03 is 3 %), with its confidence set."""

from __future__ import annotations

import math

from klartext.analysis import ratios
from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, affine
from klartext.analysis.moments import Sample, unusable

WEAK = 10.0
"""A mean of fewer standard errors than this is weak: `lift` then uses Fieller's set.

With normal means, ten standard errors each and z = 1.96 the log ratio covers 95.5 %; with a
control of ten and a treatment of thirty it misses 1.4 % on one side and 3.3 % on the other.
At five it is 0.1 % and 4.1 %: no longer a two-sided 95 % interval.
"""


def lift(
    treatment: Sample, control: Sample, *, multiplier: float, level: float
) -> tuple[float | NotEstimable, ConfidenceSet]:
    """Relative lift by the log ratio, or by Fieller's set when either mean is weak.

    Parameters
    ----------
    treatment, control
        One column, in the same unit, of independent variants.
    multiplier
        Half-width in standard errors for a single look. For anytime sets call `fieller`: the
        multiplier of a confidence sequence belongs to linear contrasts.
    level
        Confidence of ``multiplier``.
    """
    if _is_strong(treatment) and _is_strong(control):
        return log_ratio(treatment, control, multiplier=multiplier, level=level)
    return fieller(treatment, control, multiplier=multiplier, level=level)


def log_ratio(
    treatment: Sample, control: Sample, *, multiplier: float, level: float
) -> tuple[float | NotEstimable, ConfidenceSet]:
    """Relative lift with the delta method on the log ratio of means.

    Parameters
    ----------
    treatment, control
        One column, in the same unit, of independent variants.
    multiplier
        Half-width in standard errors.
    level
        Confidence of ``multiplier``.

    Returns
    -------
    tuple
        ``mT / mC - 1`` and ``[mT/mC exp(-c s) - 1, mT/mC exp(c s) - 1]`` with
        ``s^2 = se_T^2 / mT^2 + se_C^2 / mC^2``. Both are `NotEstimable`
        (``non-positive-mean``, or a reason of `unusable`) when a mean is not above zero.

    Notes
    -----
    First-order expansion of ``ln mT - ln mC``; for 0/1 columns with plug-in variances this is
    the log method of Katz. It stops being valid when a mean is less than about `WEAK`
    standard errors above zero.

    References
    ----------
    Katz, Baptista, Azen, Pike (1978), "Obtaining confidence intervals for the risk ratio in
    cohort studies", Biometrics 34, 469-474 (method C).
    """
    refused = unusable(treatment, control) or _not_positive(treatment, control)
    if refused is not None:
        return refused, refused
    ratio = treatment.mean / control.mean
    std_error = math.hypot(
        math.sqrt(treatment.variance_of_mean) / treatment.mean,
        math.sqrt(control.variance_of_mean) / control.mean,
    )
    try:
        factor = math.exp(multiplier * std_error)
    except OverflowError:
        overflow = NotEstimable("not-finite", "the upper end is beyond every number")
        return ratio - 1, overflow
    return ratio - 1, Interval(ratio / factor - 1, ratio * factor - 1, level)


def fieller(
    treatment: Sample, control: Sample, *, multiplier: float, level: float
) -> tuple[float | NotEstimable, ConfidenceSet]:
    """Relative lift with Fieller's set: all r - 1 for which ``mT - r mC = 0`` is not rejected.

    Parameters
    ----------
    treatment, control
        One column, in the same unit, of independent variants.
    multiplier
        Half-width in standard errors. That of a confidence sequence gives an anytime-valid
        set, because each ``mT - r mC`` is a mean difference with the same clock.
    level
        Confidence of ``multiplier``.

    Returns
    -------
    tuple
        ``mT / mC - 1`` and its set, which may be unbounded. `NotEstimable`
        (``non-positive-mean``) when the control's mean is not above zero: a percentage of a
        loss has no direction.
    """
    refused = unusable(treatment, control) or _not_positive(control)
    if refused is not None:
        return refused, refused
    region = ratios.fieller(
        treatment.mean,
        control.mean,
        treatment.variance_of_mean,
        control.variance_of_mean,
        0.0,
        multiplier=multiplier,
        level=level,
    )
    return treatment.mean / control.mean - 1, affine(region, scale=1.0, shift=-1.0)


def _is_strong(sample: Sample) -> bool:
    return sample.n >= 2 and sample.mean > 0 and sample.mean**2 >= WEAK**2 * sample.variance_of_mean


def _not_positive(*samples: Sample) -> NotEstimable | None:
    if all(sample.mean > 0 for sample in samples):
        return None
    return NotEstimable("non-positive-mean", "a relative change needs means above zero")
