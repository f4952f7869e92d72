"""The segment model of `klartext.analysis.bayes.pooling`, drawn by PyMC as an independent check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.bayes.pooling import Block
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.models import extra
from klartext.analysis.models.diagnostics import NotShown, PredictiveCheck, Shown, judge, statistics
from klartext.analysis.models.sampling import Draws, Sampling, draw

EFFECTS = ("effects", "common", "spread")
"""Effects by segment and treatment, their means by treatment, and the scale between segments."""


def fit(
    blocks: Sequence[Block],
    *,
    mean_prior_sd: float | None,
    scale_prior_sd: float,
    sampling: Sampling,
    level: float,
) -> Shown | NotShown | NotEstimable:
    """Draw the effects of segments, shrunken towards their common mean.

    Parameters
    ----------
    blocks
        One per segment, all with the same treatments; from `pooling.segment_effects`.
    mean_prior_sd, scale_prior_sd
        As in `pooling.pool`.
    sampling
        Seed and length of the chains.
    level
        Of the credible intervals; 0.95 is 95 %.

    Returns
    -------
    Shown, NotShown or NotEstimable
        Quantities `EFFECTS`. ``too-few-segments`` below two; else as `diagnostics.judge`.

    Raises
    ------
    MissingExtraError
        PyMC is not installed.

    Notes
    -----
    The model of `klartext.analysis.bayes.hierarchy.posterior`, written with standard normal
    deviations so that the sampler meets no funnel, in units of a typical standard error so that
    it starts near the data. `pool` gives the same in milliseconds without Monte Carlo error: this
    is its check, and a place to start from when a model leaves the normal world. The predictive
    check replicates estimates of *new* segments: the mean, sd, smallest and largest per treatment.
    """
    if len(blocks) < 2:
        return NotEstimable("too-few-segments", "two segments are needed for pooling")
    unit = math.sqrt(float(np.mean([np.diag(block.covariance) for block in blocks])))
    model = _model(
        blocks,
        unit,
        mean_prior_sd=None if mean_prior_sd is None else mean_prior_sd / unit,
        scale_prior_sd=scale_prior_sd / unit,
    )
    drawn = draw(model, sampling)
    checks = _checks(blocks, drawn.draws, np.random.default_rng(sampling.seed))
    return judge(drawn, effects=EFFECTS, checks=checks, level=level)


def _model(
    blocks: Sequence[Block], unit: float, *, mean_prior_sd: float | None, scale_prior_sd: float
) -> Any:
    pymc = extra.library("pymc")
    coords = {
        "segment": [block.key for block in blocks],
        "treatment": list(blocks[0].treatments),
    }
    estimates = np.array([block.effects for block in blocks]) / unit
    whitening = np.array(
        [np.linalg.inv(np.linalg.cholesky(block.covariance / unit**2)) for block in blocks]
    )
    with pymc.Model(coords=coords) as model:
        common = (
            pymc.Flat("common_units", dims="treatment")
            if mean_prior_sd is None
            else pymc.Normal("common_units", 0.0, mean_prior_sd, dims="treatment")
        )
        spread = pymc.HalfNormal("spread_units", scale_prior_sd)
        deviations = pymc.Normal("deviations", 0.0, 1.0, dims=("segment", "treatment"))
        effects = common + spread * deviations
        pymc.Deterministic("common", unit * common, dims="treatment")
        pymc.Deterministic("spread", unit * spread)
        pymc.Deterministic("effects", unit * effects, dims=("segment", "treatment"))
        pymc.Normal(
            "whitened",
            mu=(whitening * effects[:, None, :]).sum(axis=-1),
            sigma=1.0,
            observed=np.einsum("gij,gj->gi", whitening, estimates),
        )
    return model


def _checks(
    blocks: Sequence[Block], draws: Draws, rng: np.random.Generator
) -> tuple[PredictiveCheck, ...]:
    """Replicate the estimates of as many new segments with the same standard errors."""
    common = _flat(draws, "common")  # (S, m)
    spread = _flat(draws, "spread")  # (S,)
    roots = np.array([np.linalg.cholesky(block.covariance) for block in blocks])
    shape = (len(spread), len(blocks), common.shape[1])
    truth = common[:, None, :] + spread[:, None, None] * rng.standard_normal(shape)
    noise = np.einsum("gij,sgj->sgi", roots, rng.standard_normal(shape))
    copies, data = truth + noise, np.array([block.effects for block in blocks])
    return tuple(
        check
        for k, treatment in enumerate(blocks[0].treatments)
        for check in statistics(f"the estimates of {treatment}", data[:, k], copies[:, :, k])
    )


def _flat(draws: Draws, name: str) -> FloatArray:
    values = np.asarray(draws.posterior[name], dtype=np.float64)
    return np.asarray(values.reshape(-1, *values.shape[2:]))
