"""What finished experiments say about the next one: the default prior sd of its effect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from klartext.analysis.bayes import hierarchy
from klartext.analysis.bayes.pooling import (
    Block,
    PooledEffect,
    Spread,
    check_level,
    pooled_effects,
    spread_of,
)
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Sample, unusable
from klartext.analysis.relative import WEAK

FEWEST = 5
"""Finished experiments below which their spread says too little."""


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """Finished experiments pooled.

    Parameters
    ----------
    experiments
        How many.
    prior_sd
        Sd of a new treatment's relative effect around 0 (0.03 is 3 %); times the control's mean
        it is the default prior sd of a new experiment.
    spread
        Posterior of the scale of relative effects.
    effects
        Every finished treatment's relative effect, shrunken towards 0.
    """

    experiments: int
    prior_sd: float
    spread: Spread
    effects: tuple[PooledEffect, ...]


def relative_effects(
    experiment: str, control: Sample, treatments: Mapping[str, Sample]
) -> Block | NotEstimable:
    """Relative effects of an experiment's treatments with their block covariance.

    Parameters
    ----------
    experiment
        Key.
    control, treatments
        One column, in the same unit, of independent variants.

    Returns
    -------
    Block or NotEstimable
        Refused: the reasons of `klartext.analysis.moments.unusable` for each variant;
        ``weak-control`` when the control's mean is fewer than ten standard errors above zero.

    Raises
    ------
    ValueError
        There are no treatments.

    Notes
    -----
    ``r_k = m_k / m_C - 1``; to first order ``var r_k = v_k / m_C^2 + m_k^2 v_C / m_C^4`` and
    ``cov(r_k, r_l) = m_k m_l v_C / m_C^4``, with v the squared standard errors. With a control
    of ten standard errors the next order adds about 1 % of an effect and 3 % of its variance.
    """
    if not treatments:
        raise ValueError(f"{experiment} has no treatments")
    for key, sample in (("control", control), *treatments.items()):
        refused = unusable(sample)
        if refused is not None:
            return NotEstimable(refused.reason, f"{experiment}, {key}: {refused.detail}")
    error = control.variance_of_mean
    if not (control.mean > 0 and control.mean**2 >= WEAK**2 * error):
        return NotEstimable(
            "weak-control",
            f"{experiment}: the control's mean is not ten standard errors above zero",
        )
    ratio = np.array([sample.mean / control.mean for sample in treatments.values()])
    own = np.array([sample.variance_of_mean for sample in treatments.values()])
    return Block(
        key=experiment,
        treatments=tuple(treatments),
        effects=ratio - 1,
        covariance=(np.diag(own) + error * np.outer(ratio, ratio)) / control.mean**2,
    )


def pool_experiments(
    finished: Sequence[Block], *, scale_prior_sd: float, level: float
) -> TrackRecord | NotEstimable:
    """Learn from finished experiments how large relative effects are.

    Parameters
    ----------
    finished
        One per experiment, from `relative_effects`: *all* that finished, with any number of
        treatments. Leaving out those that failed makes the next one look better than it is.
    scale_prior_sd
        Of the half-normal prior of the scale of relative effects; 0.1 is 10 %.
    level
        Of the credible intervals; 0.95 is 95 %.

    Returns
    -------
    TrackRecord or NotEstimable
        Refused: ``too-few-experiments`` (fewer than five).

    Raises
    ------
    ValueError
        An experiment occurs twice, or ``level`` is not between 0 and 1.

    Notes
    -----
    ``r_ek | t_ek ~ N(t_ek, V_e)``, ``t_ek ~ N(0, s^2)``, s half-normal. A new effect is a
    mixture of ``N(0, s^2)`` over the posterior of s; its sd is ``sqrt(E s^2)``, which is the
    ``prior_sd``: the normal with the same variance. Integrals as in `hierarchy.posterior`.

    Valid for a new experiment that is like the finished ones; a redesign is not like a button.
    """
    check_level(level)
    keys = [block.key for block in finished]
    if len(set(keys)) < len(keys):
        raise ValueError("every experiment counts once")
    if len(finished) < FEWEST:
        return NotEstimable(
            "too-few-experiments",
            f"it takes {FEWEST} finished experiments; so far: {len(finished)}",
        )
    m = max(len(block.effects) for block in finished)
    estimates = np.full((len(finished), m), math.nan)
    covariances = np.zeros((len(finished), m, m))
    for e, block in enumerate(finished):
        k = len(block.effects)
        estimates[e, :k], covariances[e, :k, :k] = block.effects, block.covariance
    found = hierarchy.posterior(
        estimates, covariances, mean_prior_sd=0.0, scale_prior_sd=scale_prior_sd
    )
    return TrackRecord(
        experiments=len(finished),
        prior_sd=math.sqrt(found.scale.mean_square),
        spread=spread_of(found, level),
        effects=pooled_effects(finished, found, level=level),
    )
