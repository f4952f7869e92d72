"""Post-stratification: compare inside strata known before exposure, then average."""

from __future__ import annotations

from collections.abc import Mapping

from klartext.analysis.adjustment import Adjusted
from klartext.analysis.contrast import Contrast, Source, of_means
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments, Sample, unusable


def post_stratified(
    strata: Mapping[str, tuple[Moments, Moments]], column: str
) -> Adjusted | NotEstimable:
    """Difference of means averaged over strata with their shares of all units.

    Parameters
    ----------
    strata
        Moments of treatment and control per stratum; a stratum is a property known before
        exposure. Units without it form a stratum of their own: no unit may be left out.
    column
        What is compared.

    Returns
    -------
    Adjusted or NotEstimable
        ``used`` and ``dropped`` are empty. Refused: ``no-units`` (no stratum);
        ``too-few-units`` (a stratum has fewer than two units of a variant; merge it with
        another *before* looking at outcomes); the other reasons of `unusable`.

    Raises
    ------
    ValueError
        There is no such column.

    Notes
    -----
    With ``W_h = n_h / n`` from both variants together and ``t_h`` the difference in stratum h:
    ``t = sum W_h t_h``, squared standard error
    ``sum W_h^2 (s_hT^2 / n_hT + s_hC^2 / n_hC) + sum W_h (t_h - t)^2 / n``. The last term is
    the error of the estimated shares; without it the interval would be for these units only,
    not for those to come. Both levels share that error: their covariance has
    ``sum W_h (y_hT - y_T)(y_hC - y_C) / n``. ``t_h`` carries noise into that term, which makes
    it slightly too large, never too small.

    References
    ----------
    Miratrix, Sekhon, Yu (2013), "Adjusting treatment effect estimates by post-stratification in
    randomized experiments", J. R. Statist. Soc. B 75, 369-396. Holt, Smith (1979), "Post
    stratification", J. R. Statist. Soc. A 142, 33-46.
    """
    cells = {key: tuple(side.sample(column) for side in pair) for key, pair in strata.items()}
    if not cells:
        return NotEstimable("no-units", "there is no stratum")
    for key, cell in cells.items():
        refused = unusable(*cell)
        if refused is not None and refused.reason != "no-variance":
            return NotEstimable(refused.reason, f"stratum {key}: {refused.detail}")
    pairs = [(one, base) for one, base in cells.values()]
    unadjusted = of_means(*(_merged(strata, column, side) for side in (0, 1)))
    if isinstance(unadjusted, NotEstimable):
        return unadjusted
    n = unadjusted.n + unadjusted.baseline_n
    shares = [(one.n + base.n) / n for one, base in pairs]
    level = sum(share * one.mean for share, (one, _) in zip(shares, pairs, strict=True))
    baseline = sum(share * base.mean for share, (_, base) in zip(shares, pairs, strict=True))
    sources: list[Source] = []
    between = [0.0, 0.0, 0.0]
    for share, (one, base) in zip(shares, pairs, strict=True):
        sources += [
            Source(share**2 * one.variance_of_mean, 0.0, 0.0, one.n - 1),
            Source(0.0, share**2 * base.variance_of_mean, 0.0, base.n - 1),
        ]
        above, base_above = one.mean - level, base.mean - baseline
        between[0] += share * above * above / n
        between[1] += share * base_above * base_above / n
        between[2] += share * above * base_above / n
    return Adjusted(
        contrast=Contrast(
            method="post-stratified",
            treatment=level,
            control=baseline,
            sources=(*sources, Source(between[0], between[1], between[2], n - 1)),
            n=unadjusted.n,
            baseline_n=unadjusted.baseline_n,
        ),
        unadjusted=unadjusted,
        used=(),
        dropped=(),
    )


def _merged(strata: Mapping[str, tuple[Moments, Moments]], column: str, side: int) -> Sample:
    sides = [pair[side] for pair in strata.values()]
    merged = sides[0]
    for moments in sides[1:]:
        merged += moments
    return merged.sample(column)
