"""A contrast: two levels with their joint error, the one shape every normal method returns.

Welch, ratio metrics, CUPED, Lin's adjustment, post-stratification and quantiles differ in how they
get at two levels and their error. What follows, interval, test, relative lift, margin, is the same
for all, and the same for fixed, anytime and group sequential multipliers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy import special

from klartext.analysis import ratios
from klartext.analysis.estimate import (
    SMALLEST_P_VALUE,
    ConfidenceSet,
    Estimate,
    Interval,
    NotEstimable,
    affine,
)
from klartext.analysis.means import multiplier_of
from klartext.analysis.moments import Sample, unusable
from klartext.analysis.relative import WEAK
from klartext.analysis.sequential import mixture

_ROUNDING = 1e-13
"""A variance below this share of its summands is what rounding left over."""


@dataclass(frozen=True, slots=True)
class Source:
    """One independent source of error of two levels, such as the units of one variant.

    Parameters
    ----------
    treatment, control
        What it adds to the squared standard error of each level.
    covariance
        What it adds to their covariance. Not zero when both levels use it, as they use the
        common mean of a covariate.
    df
        Degrees of freedom of this variance estimate; infinite when taken as known.
    """

    treatment: float
    control: float
    covariance: float
    df: float

    @property
    def variance(self) -> float:
        """What it adds to the squared standard error of the difference of the levels."""
        return self.treatment - 2 * self.covariance + self.control


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two levels of one metric and where their error comes from.

    Parameters
    ----------
    method
        Name of the estimator, such as ``lin``.
    treatment, control
        Estimated levels, in the metric's unit.
    sources
        Independent sources of error.
    n, baseline_n
        Mature units.

    Notes
    -----
    Every method here is asymptotically linear: the difference is a mean of independent unit
    contributions plus a remainder of order 1/n, so that the normal theory of a difference of
    means, fixed or anytime, holds for it as n grows.
    """

    method: str
    treatment: float
    control: float
    sources: tuple[Source, ...]
    n: int
    baseline_n: int

    @property
    def value(self) -> float:
        """Difference of the levels, treatment minus control."""
        return self.treatment - self.control

    @property
    def variance(self) -> float:
        """Squared standard error of the difference."""
        return math.fsum([source.variance for source in self.sources])

    @property
    def std_error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(max(0.0, self.variance))

    @property
    def covariance(self) -> tuple[float, float, float]:
        """Squared standard errors of treatment and control, and their covariance."""
        return (
            math.fsum([source.treatment for source in self.sources]),
            math.fsum([source.control for source in self.sources]),
            math.fsum([source.covariance for source in self.sources]),
        )

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom, ``V^2 / sum(V_i^2 / df_i)`` over the sources."""
        total = self.variance
        spread = math.fsum((source.variance / total) ** 2 / source.df for source in self.sources)
        return 1 / spread if spread > 0 else math.inf

    def times_control(self, factor: float) -> Contrast:
        """Contrast of the treatment with ``factor`` times the control.

        Its difference ``T - f C`` is tested where a relative margin or a ratio is in question.
        """
        return replace(
            self,
            control=factor * self.control,
            sources=tuple(
                replace(
                    source,
                    control=factor * factor * source.control,
                    covariance=factor * source.covariance,
                )
                for source in self.sources
            ),
        )


def of_means(treatment: Sample, control: Sample) -> Contrast | NotEstimable:
    """Contrast of two independent means (Welch); `fixed` of it is `means.welch`.

    Refused for the reasons of `unusable`.
    """
    refused = unusable(treatment, control)
    if refused is not None:
        return refused
    return Contrast(
        method="welch",
        treatment=treatment.mean,
        control=control.mean,
        sources=(
            Source(treatment.variance_of_mean, 0.0, 0.0, treatment.n - 1),
            Source(0.0, control.variance_of_mean, 0.0, control.n - 1),
        ),
        n=treatment.n,
        baseline_n=control.n,
    )


def fixed(
    contrast: Contrast | NotEstimable, *, alpha: float, single_look: bool
) -> Estimate | NotEstimable:
    """Estimate at a single planned look, with Student's t (the normal for infinite df).

    Parameters
    ----------
    contrast
        A `NotEstimable` passes through.
    alpha
        Two-sided error; the sets have level ``1 - alpha``.
    single_look
        Whether this is the one look that was planned in advance. Becomes ``valid_for_look``.

    Returns
    -------
    Estimate or NotEstimable
        The relative lift is the log ratio, or Fieller's set when a level is weak, as in
        `relative.lift`, here with the covariance of the levels. Refused as by `checked`.

    Raises
    ------
    ValueError
        ``alpha`` is not between 0 and 1.
    """
    multiplier_of(alpha)
    contrast = checked(contrast)
    if isinstance(contrast, NotEstimable):
        return contrast
    df, std_error = contrast.df, contrast.std_error
    multiplier = student(df, tail=alpha / 2)
    relative = (
        log_ratio(contrast, multiplier=multiplier, level=1 - alpha)
        if _is_strong(contrast)
        else fieller(contrast, multiplier=multiplier, level=1 - alpha)
    )
    return _estimate(
        contrast,
        method=contrast.method,
        std_error=std_error,
        multiplier=multiplier,
        level=1 - alpha,
        p_value=2 * float(special.stdtr(df, -abs(contrast.value / std_error))),
        valid_for_look=single_look,
        relative=relative,
    )


def anytime(
    contrast: Contrast | NotEstimable,
    *,
    alpha: float,
    planned_n: int,
    burn_in: NotEstimable | None,
) -> Estimate | NotEstimable:
    """Estimate with its confidence sequence at this look.

    Parameters
    ----------
    contrast
        A `NotEstimable` passes through.
    alpha
        Two-sided error over all looks together; the sets have level ``1 - alpha``.
    planned_n
        Units planned for both variants together.
    burn_in
        What `mixture.burn_in` says of the metric's own column (of a ratio's numerator): a
        contrast has no third moments. None opens the gate.

    Returns
    -------
    Estimate or NotEstimable
        ``relative_interval`` is Fieller's set ``{r - 1 : 0 in CS(T - r C)}``: each contrast
        ``T - r C`` is asymptotically linear and runs on the same clock. Refused as by `checked`,
        and for ``burn_in``.

    Notes
    -----
    See `klartext.analysis.sequential.mixture`. An asymptotically linear estimator whose
    remainder vanishes faster than ``sqrt(log log n / n)`` inherits the sequence of its linear
    part; smooth functions of means leave a remainder of order ``log log n / n``. Needs constant
    shares of the variants.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Ann. Statist. 52, 2613-2640, section 3
    (sequences for average effects from asymptotically linear estimators).
    """
    multiplier_of(alpha)
    contrast = checked(contrast)
    if isinstance(contrast, NotEstimable):
        return contrast
    if burn_in is not None:
        return burn_in
    n = contrast.n + contrast.baseline_n
    multiplier = mixture.multiplier(n, planned_n, alpha=alpha)
    std_error = contrast.std_error
    method = "anytime" if contrast.method == "welch" else f"anytime-{contrast.method}"
    return _estimate(
        contrast,
        method=method,
        std_error=std_error,
        multiplier=multiplier,
        level=1 - alpha,
        p_value=mixture.p_value(contrast.value / std_error, n, planned_n, alpha=alpha),
        valid_for_look=True,
        relative=fieller(contrast, multiplier=multiplier, level=1 - alpha),
    )


def at_boundary(
    contrast: Contrast | NotEstimable,
    *,
    multiplier: float,
    level: float,
    p_value: float | NotEstimable,
    valid_for_look: bool,
) -> Estimate | NotEstimable:
    """Estimate with a multiplier made elsewhere, such as a group sequential boundary.

    Parameters
    ----------
    contrast
        A `NotEstimable` passes through.
    multiplier
        Half-width in standard errors at this look.
    level
        Confidence it stands for over all looks together.
    p_value
        Of the same design, such as the repeated p-value.
    valid_for_look
        Whether the look was planned.

    Returns
    -------
    Estimate or NotEstimable
        Relative: Fieller's set, the only one that inherits the validity of the boundary from
        the linear contrasts ``T - r C``.
    """
    contrast = checked(contrast)
    if isinstance(contrast, NotEstimable):
        return contrast
    return _estimate(
        contrast,
        method=contrast.method,
        std_error=contrast.std_error,
        multiplier=multiplier,
        level=level,
        p_value=p_value,
        valid_for_look=valid_for_look,
        relative=fieller(contrast, multiplier=multiplier, level=level),
    )


def checked(contrast: Contrast | NotEstimable) -> Contrast | NotEstimable:
    """Return the contrast, or why it has no interval.

    Reasons: that of a `NotEstimable`; ``not-finite``; ``invalid-moments`` (a variance below
    zero beyond rounding); ``no-variance`` (the difference has no error left).
    """
    if isinstance(contrast, NotEstimable):
        return contrast
    parts = [part for s in contrast.sources for part in (s.treatment, s.control, s.covariance)]
    if not all(map(math.isfinite, (contrast.treatment, contrast.control, *parts))):
        return NotEstimable("not-finite", "a level or its variance is not a finite number")
    dust = _ROUNDING * math.fsum(map(abs, parts))
    if min((s.variance for s in contrast.sources), default=0.0) < -dust:
        return NotEstimable("invalid-moments", "a variance is negative")
    if contrast.variance <= dust:
        return NotEstimable("no-variance", "the difference of the variants has no error")
    return contrast


def student(df: float, *, tail: float) -> float:
    """Upper quantile of Student's t with ``tail`` beyond it; the normal one for infinite df."""
    if math.isinf(df):
        return -float(special.ndtri(tail))
    return -float(special.stdtrit(df, tail))


def log_ratio(
    contrast: Contrast, *, multiplier: float, level: float
) -> tuple[float | NotEstimable, ConfidenceSet]:
    """Relative lift by the joint delta method on ``ln T - ln C``.

    ``T/C - 1`` and ``T/C exp(± c s) - 1`` with
    ``s^2 = Var(T)/T^2 - 2 Cov(T, C)/(T C) + Var(C)/C^2``. Both are `NotEstimable`
    (``non-positive-mean``) unless both levels are above zero. Not valid when a level is weak,
    see `relative.WEAK`, nor for anytime multipliers.
    """
    if not (contrast.treatment > 0 and contrast.control > 0):
        refused = NotEstimable("non-positive-mean", "a relative change needs levels above zero")
        return refused, refused
    ratio = contrast.treatment / contrast.control
    # Var(ln T - ln C) is the variance of T - (T/C) C, in units of T.
    std_error = contrast.times_control(ratio).std_error / contrast.treatment
    try:
        factor = math.exp(multiplier * std_error)
    except OverflowError:
        return ratio - 1, NotEstimable("not-finite", "the upper end is beyond every number")
    return ratio - 1, Interval(ratio / factor - 1, ratio * factor - 1, level)


def fieller(
    contrast: Contrast, *, multiplier: float, level: float
) -> tuple[float | NotEstimable, ConfidenceSet]:
    """Relative lift with Fieller's set: all r - 1 for which ``T - r C = 0`` is not rejected.

    Both are `NotEstimable` (``non-positive-mean``) when the control's level is not above zero:
    a percentage of a loss has no direction.
    """
    if not contrast.control > 0:
        refused = NotEstimable("non-positive-mean", "a relative change needs a level above zero")
        return refused, refused
    var_treatment, var_control, covariance = contrast.covariance
    region = ratios.fieller(
        contrast.treatment,
        contrast.control,
        max(0.0, var_treatment),
        max(0.0, var_control),
        covariance,
        multiplier=multiplier,
        level=level,
    )
    return contrast.treatment / contrast.control - 1, affine(region, scale=1.0, shift=-1.0)


def _estimate(  # noqa: PLR0913 - what makes an estimate of a contrast
    contrast: Contrast,
    *,
    method: str,
    std_error: float,
    multiplier: float,
    level: float,
    p_value: float | NotEstimable,
    valid_for_look: bool,
    relative: tuple[float | NotEstimable, ConfidenceSet],
) -> Estimate:
    value, reach = contrast.value, multiplier * std_error
    return Estimate(
        method=method,
        valid_for_look=valid_for_look,
        value=value,
        interval=Interval(value - reach, value + reach, level),
        std_error=std_error,
        p_value=p_value if isinstance(p_value, NotEstimable) else max(p_value, SMALLEST_P_VALUE),
        relative=relative[0],
        relative_interval=relative[1],
        n=contrast.n,
        baseline_n=contrast.baseline_n,
    )


def _is_strong(contrast: Contrast) -> bool:
    var_treatment, var_control, _ = contrast.covariance
    return all(
        level > 0 and level * level >= WEAK**2 * variance
        for level, variance in (
            (contrast.treatment, var_treatment),
            (contrast.control, var_control),
        )
    )
