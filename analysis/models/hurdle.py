"""Revenue as a hurdle and a log-normal amount: who buys, and for how much, drawn by PyMC."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.models import extra
from klartext.analysis.models.diagnostics import (
    PREDICTIVE_ALPHA,
    NotShown,
    PredictiveCheck,
    Shown,
    judge,
)
from klartext.analysis.models.sampling import Draws, Sampling, draw

EFFECTS = ("revenue", "difference", "relative")
"""Mean revenue per unit by variant, and its difference and relative lift by treatment."""

FEWEST_BUYERS = 20
"""Units with revenue below which a variant's spread of amounts says too little."""

FEWEST_REPLICATES = 3000
"""Replicated data sets for the predictive checks; more when there are many variants."""

WIDEST_LOG_SD = 5.0
"""Largest sd of log amounts; the prior is uniform from 0 to here."""


@dataclass(frozen=True, slots=True, eq=False)
class Purchases:
    """What the units of a variant paid.

    Parameters
    ----------
    units
        All units, those without revenue included.
    amounts
        ``(buyers,)`` revenue of those with any, above zero.
    """

    units: int
    amounts: FloatArray


def purchases(revenue: FloatArray) -> Purchases | NotEstimable:
    """Split a column of revenue per unit into the hurdle and the amounts.

    Parameters
    ----------
    revenue
        ``(n_units,)``, zero for units without.

    Returns
    -------
    Purchases or NotEstimable
        Refused: ``no-units``, ``not-finite``, ``negative`` (refunds above sales have no
        logarithm), ``too-few-units`` (fewer than twenty buyers), ``no-variance``.
    """
    values = np.asarray(revenue, dtype=np.float64)
    if not len(values):
        return NotEstimable("no-units", "the variant has no units")
    if not np.isfinite(values).all():
        return NotEstimable("not-finite", "an amount is not a finite number")
    if (values < 0).any():
        return NotEstimable("negative", "an amount is below zero: the model knows none")
    amounts = values[values > 0]
    if len(amounts) < FEWEST_BUYERS:
        return NotEstimable(
            "too-few-units", f"{len(amounts)} units have revenue; {FEWEST_BUYERS} are needed"
        )
    if np.ptp(np.log(amounts)) <= 1e-12 * (1 + abs(math.log(amounts[0]))):
        return NotEstimable("no-variance", "every amount is the same")
    return Purchases(len(values), amounts)


def fit(
    variants: Mapping[str, Purchases | NotEstimable],
    *,
    control: str,
    sampling: Sampling,
    level: float,
) -> Shown | NotShown | NotEstimable:
    r"""Draw the mean revenue per unit of every variant and the effects of the treatments.

    Parameters
    ----------
    variants
        From `purchases`.
    control
        Key of the control.
    sampling
        Seed and length of the chains.
    level
        Of the credible intervals; 0.95 is 95 %.

    Returns
    -------
    Shown, NotShown or NotEstimable
        Quantities `EFFECTS`, money per unit and relative (0.03 is 3 %). Refused for the first
        variant that has no purchases, with its reason; else as `diagnostics.judge`.

    Raises
    ------
    ValueError
        The control is not among the variants, or there is no treatment.
    MissingExtraError
        PyMC is not installed.

    Notes
    -----
    Per variant a unit buys with probability p, and its amount is log-normal:

    .. math::
        k \sim \mathrm{Bin}(n, p), \quad \log x \sim N(\mu, \sigma^2), \quad
        p \sim U(0, 1), \; \mu \sim N(c, 10^2), \; \sigma \sim U(0, 5), \quad
        E[\text{revenue}] = p \, e^{\mu + \sigma^2 / 2},

    with c the mean log amount of all variants, so that the currency does not matter. The
    likelihood of the logarithms is that of their mean, ``N(mu, sigma^2 / k)``, and of their sum of
    squared deviations, ``sigma^2`` times chi-square with k - 1 degrees of freedom: exact, and no
    slower for a million units. Sigma has a bound because under the usual priors
    ``E exp(sigma^2 / 2)`` is infinite: the posterior mean would not exist.

    Valid when log amounts are normal. The mean of a log-normal depends on its far tail: where the
    amounts have another one the model is confidently wrong. The predictive checks replicate the
    mean revenue per unit, the sd of the amounts and their 95 % quantile, per variant.

    References
    ----------
    Zellner (1971), "Bayesian and non-Bayesian analysis of the log-normal distribution and
    log-normal regression", J. Am. Statist. Assoc. 66, 327-330 (the mean that does not exist).
    """
    if control not in variants or len(variants) < 2:
        raise ValueError(f"a comparison needs the control {control} and a treatment")
    known: dict[str, Purchases] = {}
    for key, found in variants.items():
        if isinstance(found, NotEstimable):
            return NotEstimable(found.reason, f"{key}: {found.detail}")
        known[key] = found
    drawn = draw(_model(known, control), sampling)
    checks = _checks(known, drawn.draws, np.random.default_rng(sampling.seed))
    return judge(drawn, effects=EFFECTS, checks=checks, level=level)


def _model(variants: Mapping[str, Purchases], control: str) -> Any:
    pymc = extra.library("pymc")
    keys = list(variants)
    treatments = [key for key in keys if key != control]
    logs = [np.log(each.amounts) for each in variants.values()]
    buyers = np.array([len(log) for log in logs])
    means = np.array([log.mean() for log in logs])
    squares = np.array([((log - log.mean()) ** 2).sum() for log in logs])
    centre = float(np.concatenate(logs).mean())
    place = [keys.index(key) for key in treatments]
    with pymc.Model(coords={"variant": keys, "treatment": treatments}) as model:
        buying = pymc.Beta("buying", 1.0, 1.0, dims="variant")
        offset = pymc.Normal("offset", 0.0, 10.0, dims="variant")
        log_sd = pymc.Uniform("log_sd", 0.0, WIDEST_LOG_SD, dims="variant")
        units = np.array([each.units for each in variants.values()])
        pymc.Binomial("buyers", units, buying, observed=buyers)
        pymc.Normal("log_mean", offset, log_sd / np.sqrt(buyers), observed=means - centre)
        pymc.Gamma(
            "log_squares", alpha=(buyers - 1) / 2, beta=1 / (2 * log_sd**2), observed=squares
        )
        revenue = pymc.Deterministic(
            "revenue",
            buying * pymc.math.exp(centre + offset + log_sd**2 / 2),
            dims="variant",
        )
        base = revenue[keys.index(control)]
        pymc.Deterministic("difference", revenue[place] - base, dims="treatment")
        pymc.Deterministic("relative", revenue[place] / base - 1, dims="treatment")
        pymc.Deterministic("log_centre", centre + offset, dims="variant")
    return model


def _checks(
    variants: Mapping[str, Purchases], draws: Draws, rng: np.random.Generator
) -> tuple[PredictiveCheck, ...]:
    """Replicate the purchases of every variant for evenly spaced draws."""
    checks: list[PredictiveCheck] = []
    wanted = max(FEWEST_REPLICATES, math.ceil(2 * 2 * 3 * len(variants) / PREDICTIVE_ALPHA))
    for i, (key, each) in enumerate(variants.items()):
        buying, centre, log_sd = (
            _thinned(np.asarray(draws.posterior[name], dtype=np.float64)[..., i], wanted)
            for name in ("buying", "log_centre", "log_sd")
        )
        copies = np.array(
            [
                _summary(each.units, rng.lognormal(m, s, max(1, rng.binomial(each.units, p))))
                for p, m, s in zip(buying, centre, log_sd, strict=True)
            ]
        )
        for kind, value, replicated in zip(
            ("mean revenue", "sd of the amounts", "95 % quantile of the amounts"),
            _summary(each.units, each.amounts),
            copies.T,
            strict=True,
        ):
            checks.append(PredictiveCheck(f"{kind} of {key}", value, replicated))
    return tuple(checks)


def _thinned(values: FloatArray, wanted: int) -> FloatArray:
    """Return every so many draws, at least as many as wanted when there are."""
    return values.ravel()[:: max(1, values.size // wanted)]


def _summary(units: int, amounts: FloatArray) -> tuple[float, float, float]:
    return (
        float(amounts.sum() / units),
        float(amounts.std()),
        float(np.quantile(amounts, 0.95)),
    )
