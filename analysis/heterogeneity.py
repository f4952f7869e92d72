"""Whether an effect differs between segments: Cochran's Q, also for several treatments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from klartext.analysis.estimate import SMALLEST_P_VALUE, NotEstimable
from klartext.analysis.moments import FloatArray, Moments, Sample, unusable


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """A test of equal effects in all segments.

    Parameters
    ----------
    statistic
        Q, chi-square distributed with ``df`` degrees of freedom when the effects are equal.
    df
        (Segments - 1) times treatments.
    p_value
        Of equal effects; not valid when looked at repeatedly.
    effects
        Per segment the differences of the treatments from the control, in their order.
    common
        The precision-weighted common effect per treatment: of descriptive use only, the effect
        in the population is `poststratification.post_stratified`.
    i_squared
        ``max(0, 1 - df / Q)``: share of the spread of the effects that is not chance.
    """

    statistic: float
    df: int
    p_value: float
    effects: Mapping[str, tuple[float, ...]]
    common: tuple[float, ...]
    i_squared: float


def heterogeneity(
    segments: Mapping[str, Mapping[str, Moments]],
    column: str,
    *,
    control: str,
    treatments: Sequence[str],
) -> Heterogeneity | NotEstimable:
    """Test whether the effects on a metric's mean are the same in every segment.

    Parameters
    ----------
    segments
        Moments per segment and variant. Segments are disjoint groups of units, by a property
        known before exposure.
    column
        What is compared.
    control, treatments
        Keys of the variants; one treatment gives Cochran's Q, several their joint test.

    Returns
    -------
    Heterogeneity or NotEstimable
        Refused: ``too-few-segments`` (fewer than two); ``empty-segment`` (a variant is missing
        in one); and for the reasons of `unusable` in a segment, ``no-variance`` when a variant
        does not vary there. No segment is left out silently: leave it out of ``segments``.

    Raises
    ------
    ValueError
        No treatments, or there is no such column.

    Notes
    -----
    In segment h the effects ``d_h = y_treatments - y_control`` have the block covariance
    ``V_h = diag(s_k^2/n_k) + s_C^2/n_C 11'``: the control is shared. Different segments have
    different units, so their effects are independent. With ``d = (sum V_h^-1)^-1 sum V_h^-1 d_h``
    the statistic is ``Q = sum (d_h - d)' V_h^-1 (d_h - d)``; for one treatment Cochran's Q.

    Chi-square needs normal means with well-known variances in *every* segment: as a rule at
    least 30 units and 20 outcomes per variant and segment. A test on the absolute scale: equal
    relative lifts on unequal baselines are different effects here. Exploratory: many ways to cut
    find something; correct with `klartext.analysis.multiplicity`.

    References
    ----------
    Cochran (1954), "The combination of estimates from different experiments", Biometrics 10,
    101-129 (Q). Higgins, Thompson (2002), "Quantifying heterogeneity in a meta-analysis",
    Statist. Med. 21, 1539-1558 (I^2).
    """
    if not treatments:
        raise ValueError("a comparison needs at least one treatment")
    if len(segments) < 2:
        return NotEstimable("too-few-segments", "two segments are needed for a comparison")
    effects: list[FloatArray] = []
    precisions: list[FloatArray] = []
    for key, variants in segments.items():
        samples = segment_samples(key, variants, column, (control, *treatments))
        if isinstance(samples, NotEstimable):
            return samples
        base, *others = samples
        errors = np.array([sample.variance_of_mean for sample in others])
        effects.append(np.array([sample.mean - base.mean for sample in others]))
        precisions.append(_inverse(np.diag(errors) + base.variance_of_mean))
    total = sum(precisions, start=np.zeros_like(precisions[0]))
    weighted = [p @ d for p, d in zip(precisions, effects, strict=True)]
    common = np.linalg.solve(total, sum(weighted, start=np.zeros(len(treatments))))
    statistic = float(
        sum((d - common) @ p @ (d - common) for p, d in zip(precisions, effects, strict=True))
    )
    df = (len(segments) - 1) * len(treatments)
    return Heterogeneity(
        statistic=statistic,
        df=df,
        p_value=max(float(special.chdtrc(df, statistic)), SMALLEST_P_VALUE),
        effects={key: tuple(map(float, each)) for key, each in zip(segments, effects, strict=True)},
        common=tuple(map(float, common)),
        i_squared=max(0.0, 1 - df / statistic) if statistic > 0 else 0.0,
    )


def segment_samples(
    segment: str, variants: Mapping[str, Moments], column: str, keys: Sequence[str]
) -> tuple[Sample, ...] | NotEstimable:
    """Return the samples of the variants in one segment, or why it cannot be compared."""
    samples: list[Sample] = []
    for key in keys:
        if key not in variants or variants[key].n == 0:
            return NotEstimable("empty-segment", f"segment {segment} has no units in {key}")
        sample = variants[key].sample(column)
        refused = unusable(sample)
        if refused is not None:
            return NotEstimable(refused.reason, f"segment {segment}, {key}: {refused.detail}")
        samples.append(sample)
    return tuple(samples)


def _inverse(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
