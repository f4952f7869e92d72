"""Whether draws may be shown: convergence, effective sample size, predictive checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.estimate import Interval
from klartext.analysis.models import extra
from klartext.analysis.models.sampling import Drawn, Draws

FEWEST_ESS = 400.0
"""Effective draws below which means and quantiles are not shown."""

LARGEST_R_HAT = 1.01
"""R-hat above which the chains have not found the same distribution."""

PREDICTIVE_ALPHA = 0.01
"""Error of all predictive checks of a model together, if it is true."""


@dataclass(frozen=True, slots=True)
class ModelEffect:
    """Posterior of one named quantity.

    Parameters
    ----------
    name
        Of the variable, with its labels: ``effects[de, short]``.
    mean, sd, interval
        Posterior; the interval is equal-tailed.
    probability_positive
        Share of draws above zero.
    ess, r_hat
        Effective draws (the smaller of bulk and tail) and rank-normalised split R-hat.
    mc_error
        Standard error of the mean from having drawn and not integrated.
    """

    name: str
    mean: float
    sd: float
    interval: Interval
    probability_positive: float
    ess: float
    r_hat: float
    mc_error: float


@dataclass(frozen=True, slots=True, eq=False)
class PredictiveCheck:
    """A statistic of the data beside those of data that the fitted model produces.

    Parameters
    ----------
    name
        Of the statistic.
    observed
        Its value in the data.
    replicated
        ``(S,)`` values in replicated data sets, one per draw.
    """

    name: str
    observed: float
    replicated: FloatArray

    @property
    def p_value(self) -> float:
        """Two-sided share of replicates at least as extreme, never 0."""
        above = np.count_nonzero(self.replicated >= self.observed)
        below = np.count_nonzero(self.replicated <= self.observed)
        return min(1.0, 2 * (min(above, below) + 1) / (len(self.replicated) + 1))


@dataclass(frozen=True, slots=True)
class Shown:
    """Draws that passed every gate, summarised.

    Parameters
    ----------
    effects
        The named quantities.
    min_ess, max_r_hat
        The worst over all quantities of the model, named or not.
    checks
        Predictive checks: name and p-value.
    sampler, seed
        What made the draws; the same again makes the same.
    """

    effects: tuple[ModelEffect, ...]
    min_ess: float
    max_r_hat: float
    checks: tuple[tuple[str, float], ...]
    sampler: str
    seed: int


@dataclass(frozen=True, slots=True)
class NotShown:
    """Draws that may not be shown, and why.

    Parameters
    ----------
    reason
        Stable kebab-case code.
    detail
        One English clause.
    min_ess, max_r_hat
        The worst over all quantities, None when not known.
    """

    reason: str
    detail: str
    min_ess: float | None
    max_r_hat: float | None


def judge(
    drawn: Drawn, *, effects: Sequence[str], checks: Sequence[PredictiveCheck], level: float
) -> Shown | NotShown:
    """Summarise draws if they may be shown.

    Parameters
    ----------
    drawn
        With the group ``posterior``, (chain, draw, ...) per variable.
    effects
        Names of the variables to summarise.
    checks
        Predictive checks of the same fit, see `predictive_checks`.
    level
        Of the credible intervals; 0.95 is 95 %.

    Returns
    -------
    Shown or NotShown
        Not shown: ``too-few-chains`` (fewer than two), ``not-finite``, ``constant`` (an effect
        that does not vary), ``divergences`` (a single one: part of the posterior was not
        reached), ``not-converged`` (R-hat above 1.01), ``too-few-draws`` (fewer than 400
        effective ones), ``no-predictive-check``, ``predictive-check-unresolved`` (too few
        draws for so many statistics), ``predictive-check-failed``.

    Raises
    ------
    ValueError
        ``level`` is not between 0 and 1, or an effect is not among the draws.
    MissingExtraError
        ArviZ is not installed.

    Notes
    -----
    R-hat and effective draws are ArviZ's, rank-normalised and split; all variables of the model
    that vary have to pass, not only the effects. The predictive checks share an error of 1 % by
    Bonferroni. Passing them says that the model can produce such data, not that it is true.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter, Buerkner (2021), "Rank-normalization, folding, and
    localization: an improved R-hat", Bayesian Analysis 16, 667-718 (400 and 1.01). Gelman, Meng,
    Stern (1996), "Posterior predictive assessment of model fitness via realized discrepancies",
    Statist. Sinica 6, 733-760.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: it must lie between 0 and 1")
    quantities = _quantities(drawn.draws)
    named = {
        key: values
        for key, values in quantities.items()
        if key.split("[", maxsplit=1)[0] in effects
    }
    known = sorted({key.split("[", maxsplit=1)[0] for key in quantities})
    if missing := [name for name in effects if name not in known]:
        raise ValueError(f"the model has no {missing}; it has {known}")
    if len(next(iter(quantities.values()))) < 2:
        return NotShown("too-few-chains", "two chains are needed to compare", None, None)
    if not all(np.isfinite(values).all() for values in quantities.values()):
        return NotShown("not-finite", "a draw is not a finite number", None, None)
    if still := [key for key, values in named.items() if np.ptp(values) == 0]:
        return NotShown("constant", f"{still[0]} does not vary", None, None)
    summaries = {
        key: _convergence(values) for key, values in quantities.items() if np.ptp(values) > 0
    }
    min_ess = min(ess for ess, _ in summaries.values())
    max_r_hat = max(r_hat for _, r_hat in summaries.values())
    refused = _converged(drawn.draws, min_ess, max_r_hat) or _plausible(checks)
    if refused is not None:
        return NotShown(*refused, min_ess, max_r_hat)
    return Shown(
        effects=tuple(
            _effect(key, values, *summaries[key], level=level) for key, values in named.items()
        ),
        min_ess=min_ess,
        max_r_hat=max_r_hat,
        checks=tuple((check.name, check.p_value) for check in checks),
        sampler=drawn.sampler,
        seed=drawn.seed,
    )


def predictive_checks(draws: Draws) -> tuple[PredictiveCheck, ...]:
    """Mean, sd, smallest and largest value of every observed variable, and replicated.

    Reads the groups ``posterior_predictive`` and ``observed_data``; without them there are no
    checks, and nothing is shown.
    """
    replicated = getattr(draws, "posterior_predictive", None)
    observed = getattr(draws, "observed_data", None)
    if replicated is None or observed is None:
        return ()
    checks: list[PredictiveCheck] = []
    for name in observed:
        if name not in replicated:
            continue
        data = np.asarray(observed[name], dtype=np.float64).ravel()
        copies = np.asarray(replicated[name], dtype=np.float64)
        copies = copies.reshape(copies.shape[0] * copies.shape[1], -1)
        checks.extend(statistics(str(name), data, copies))
    return tuple(checks)


def statistics(name: str, data: FloatArray, copies: FloatArray) -> tuple[PredictiveCheck, ...]:
    """Mean, sd, smallest and largest value of data ``(n,)`` and of copies ``(S, n)``."""
    found = [("mean", data.mean(), copies.mean(axis=1))]
    if len(data) > 1:
        found += [
            ("sd", data.std(), copies.std(axis=1)),
            ("smallest", data.min(), copies.min(axis=1)),
            ("largest", data.max(), copies.max(axis=1)),
        ]
    return tuple(
        PredictiveCheck(f"{kind} of {name}", float(value), np.asarray(replicated))
        for kind, value, replicated in found
    )


def _converged(draws: Draws, min_ess: float, max_r_hat: float) -> tuple[str, str] | None:
    stats: Mapping[str, Any] = getattr(draws, "sample_stats", None) or {}
    diverged = int(np.asarray(stats["diverging"]).sum()) if "diverging" in stats else 0
    if diverged:
        return "divergences", f"{diverged} draws diverged"
    if not max_r_hat <= LARGEST_R_HAT:
        return "not-converged", f"R-hat is {max_r_hat:.3f}, above {LARGEST_R_HAT}"
    if not min_ess >= FEWEST_ESS:
        return "too-few-draws", f"{min_ess:.0f} effective draws, fewer than {FEWEST_ESS:.0f}"
    return None


def _plausible(checks: Sequence[PredictiveCheck]) -> tuple[str, str] | None:
    if not checks:
        return "no-predictive-check", "the model does not replicate its data"
    threshold = PREDICTIVE_ALPHA / len(checks)
    smallest = 2 / (min(len(check.replicated) for check in checks) + 1)
    if smallest > threshold:
        return (
            "predictive-check-unresolved",
            f"{len(checks)} statistics need {math.ceil(2 / threshold)} draws",
        )
    worst = min(checks, key=lambda check: check.p_value)
    if worst.p_value <= threshold:
        return (
            "predictive-check-failed",
            f"{worst.name} is {worst.observed:.6g}, which the model hardly ever produces",
        )
    return None


def _quantities(draws: Draws) -> dict[str, FloatArray]:
    """Every scalar of the posterior, ``(chains, draws)`` each, by its labelled name."""
    found: dict[str, FloatArray] = {}
    for variable in draws.posterior.data_vars:
        array = draws.posterior[variable]
        values = np.asarray(array, dtype=np.float64)
        labels = [
            [str(label) for label in np.asarray(array[dimension])] for dimension in array.dims[2:]
        ]
        for index in np.ndindex(*values.shape[2:]):
            place = ", ".join(names[i] for names, i in zip(labels, index, strict=True))
            found[f"{variable}[{place}]" if place else str(variable)] = values[
                (slice(None), slice(None), *index)
            ]
    return found


def _convergence(values: FloatArray) -> tuple[float, float]:
    arviz = extra.library("arviz")
    ess = min(_number(arviz.ess(values, method=method)) for method in ("bulk", "tail"))
    return ess, _number(arviz.rhat(values, method="rank"))


def _effect(
    name: str, values: FloatArray, ess: float, r_hat: float, *, level: float
) -> ModelEffect:
    arviz = extra.library("arviz")
    lower, upper = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
    return ModelEffect(
        name=name,
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)),
        interval=Interval(float(lower), float(upper), level),
        probability_positive=float((values > 0).mean()),
        ess=ess,
        r_hat=r_hat,
        mc_error=_number(arviz.mcse(values, method="mean")),
    )


def _number(value: Any) -> float:
    """Unwrap what ArviZ returns: a number here, an array of one there."""
    return float(np.asarray(value).item())
