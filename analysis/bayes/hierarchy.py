"""Effects of groups around common means, normal on both levels, by quadrature over one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from klartext.analysis.bayes import scale
from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.bayes.mixture import NormalMixture
from klartext.analysis.bayes.scale import ScalePosterior


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """Joint posterior of effects, their common means and the scale between groups.

    Parameters
    ----------
    effects
        ``G m`` quantities, groups first: the effects themselves, shrunken.
    means
        ``m`` quantities: the common means.
    scale
        Standard deviation of the effects around their means.
    combinations
        The linear combinations of effects that were asked for.
    """

    effects: NormalMixture
    means: NormalMixture
    scale: ScalePosterior
    combinations: NormalMixture


def posterior(  # noqa: PLR0913 - the data, both priors, and what is asked, by name
    estimates: FloatArray,
    covariances: FloatArray,
    *,
    mean_prior_sd: float | None,
    scale_prior_sd: float,
    one_mean: bool = False,
    combinations: FloatArray | None = None,
) -> Hierarchy:
    r"""Posterior of the normal-normal hierarchical model with a half-normal scale.

    Parameters
    ----------
    estimates
        ``(G, m)`` estimated effects of m treatments in G groups; NaN where a group does not have
        the treatment.
    covariances
        ``(G, m, m)`` their sampling covariances, taken as known; different groups are
        independent, treatments of one group need not be.
    mean_prior_sd
        Prior sd of each common mean around 0; None is flat, 0 fixes the means at 0.
    scale_prior_sd
        Of the half-normal prior of the scale.
    one_mean
        Whether the m treatments have one common mean instead of one each.
    combinations
        ``(C, G, m)`` coefficients l of linear combinations ``sum_g l_g' delta_g``, such as a total
        over groups; 0 where a group does not have the treatment.

    Raises
    ------
    ValueError
        A covariance is not positive definite, or a prior sd is negative or not finite.

    Notes
    -----
    .. math::
        y_g \mid \delta_g \sim N(\delta_g, V_g), \quad
        \delta_g \mid \mu, \tau \sim N(\mu, \tau^2 I), \quad
        \mu \sim N(0, s^2 I), \quad \tau \sim N^+(0, A^2) .

    Given tau everything is normal. With ``W_g = (V_g + tau^2 I)^-1``,
    ``P = sum W_g + I / s^2`` and ``m = P^-1 sum W_g y_g``, the likelihood of tau is

    .. math::
        \prod_g |W_g|^{1/2} \, |P|^{-1/2}
        \exp\bigl(-\tfrac12 \sum_g (y_g - m)' W_g (y_g - m) - \tfrac12 m'm / s^2\bigr),

    and with ``B_g = tau^2 W_g`` the effects have mean ``m + B_g (y_g - m)`` and covariance
    ``B_g V_g + (I - B_g) P^-1 (I - B_g)'``. One integral over tau remains; it is done by
    `klartext.analysis.bayes.scale.posterior`. Effects of different groups share only the error of
    m: a combination has variance ``sum l_g' B_g V_g l_g + u' P^-1 u``, ``u = sum (I - B_g)' l_g``.
    With one mean m is ``X b``, X a column of ones, and X surrounds ``P^-1`` alike.

    The effects of different treatments of one group are taken as exchangeable deviations with
    one scale for all treatments. Not valid when the estimates are not normal or their variances
    poorly known (as a rule below 30 units and 20 outcomes per variant and group), nor when the
    groups that are shown were chosen by their results.

    References
    ----------
    Gelman et al. (2013), "Bayesian Data Analysis", 3rd ed., equations 5.17 to 5.21 (one
    treatment, flat priors).
    """
    groups, m = estimates.shape
    roots, vectors = _eigen(estimates, covariances)
    seen = np.isfinite(estimates)
    estimates, covariances = (
        np.where(seen, estimates, 0.0),
        np.where(seen[:, :, None] & seen[:, None, :], covariances, 0.0),
    )
    if mean_prior_sd is not None and not 0 <= mean_prior_sd < math.inf:
        raise ValueError(f"the prior sd of the means is {mean_prior_sd}: it must not be negative")
    seen_roots = np.isfinite(roots)
    known = np.where(seen_roots, roots, 1.0)
    precision = 0.0 if mean_prior_sd is None else _inverse_square(mean_prior_sd)

    design = np.ones((m, 1)) if one_mean else np.eye(m)

    def log_likelihood(tau: FloatArray) -> FloatArray:
        weight = _weights(tau, roots, vectors)
        log_inverse = np.where(seen_roots, -np.log(known + tau[:, None, None] ** 2), 0.0)
        _, log_total, common = _common(weight, estimates, design, precision)
        gap = estimates - (common @ design.T)[:, None, :]
        misfit = np.einsum("tgi,tgij,tgj->t", gap, weight, gap)
        if 0 < precision < math.inf:
            misfit += precision * (common**2).sum(axis=1)
        return np.asarray(0.5 * (log_inverse.sum(axis=(1, 2)) - log_total - misfit))

    between = scale.posterior(
        log_likelihood, prior_sd=scale_prior_sd, finest=math.sqrt(float(roots.min()))
    )
    tau = between.nodes
    weight = _weights(tau, roots, vectors)
    inverse, _, common = _common(weight, estimates, design, precision)
    mean, covariance = common @ design.T, design @ inverse @ design.T
    kept = tau[:, None, None, None] ** 2 * weight  # B
    lost = np.eye(m) - kept
    gap = estimates - mean[:, None, :]
    means = mean[:, None, :] + np.einsum("tgij,tgj->tgi", kept, gap)
    within = np.einsum("tgij,gji->tgi", kept, covariances)
    between_groups = np.einsum("tgij,tjk,tgik->tgi", lost, covariance, lost)
    wanted = np.zeros((0, groups, m)) if combinations is None else combinations
    own = np.einsum("cgi,tgij,gjk,cgk->tc", wanted, kept, covariances, wanted, optimize=True)
    leaning = np.einsum("cgi,tgij->tcj", wanted, lost)
    return Hierarchy(
        effects=NormalMixture(
            between.weights,
            means.reshape(len(tau), groups * m),
            (within + between_groups).reshape(len(tau), groups * m),
        ),
        means=NormalMixture(between.weights, mean, np.einsum("tii->ti", covariance)),
        scale=between,
        combinations=NormalMixture(
            between.weights,
            np.einsum("cgi,tgi->tc", wanted, means),
            own + np.einsum("tci,tij,tcj->tc", leaning, covariance, leaning),
        ),
    )


def _eigen(estimates: FloatArray, covariances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return eigenvalues and eigenvectors per group; a missing treatment varies infinitely."""
    groups, m = estimates.shape
    roots, vectors = np.full((groups, m), math.inf), np.zeros((groups, m, m))
    for g, (estimate, covariance) in enumerate(zip(estimates, covariances, strict=True)):
        seen = np.flatnonzero(np.isfinite(estimate))
        values, columns = np.linalg.eigh(covariance[np.ix_(seen, seen)])
        if not (values > 0).all() or not np.isfinite(values).all():
            raise ValueError("a covariance of the estimates is not positive definite")
        roots[g, : len(seen)] = values
        vectors[g, seen, : len(seen)] = columns
    return roots, vectors


def _weights(tau: FloatArray, roots: FloatArray, vectors: FloatArray) -> FloatArray:
    """Inverses of ``V_g + tau^2 I``, ``(T, G, m, m)``, from the eigenvectors of ``V_g``."""
    inverse = 1 / (roots + tau[:, None, None] ** 2)
    return np.asarray(np.einsum("gij,tgj,gkj->tgik", vectors, inverse, vectors, optimize=True))


def _common(
    weight: FloatArray, estimates: FloatArray, design: FloatArray, precision: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Covariance, log determinant of its inverse, and mean of the common means given the scale.

    ``design`` ``(m, p)`` makes the m means of the p free ones.
    """
    nodes, free = len(weight), design.shape[1]
    if precision == math.inf:
        return np.zeros((nodes, free, free)), np.zeros(nodes), np.zeros((nodes, free))
    total = design.T @ weight.sum(axis=1) @ design + precision * np.eye(free)
    covariance = np.linalg.inv(total)
    seen = np.einsum("tgjk,gk->tj", weight, estimates, optimize=True) @ design
    mean = np.einsum("tij,tj->ti", covariance, seen)
    return covariance, np.asarray(np.linalg.slogdet(total)[1]), mean


def _inverse_square(sd: float) -> float:
    return math.inf if sd == 0 else 1 / sd**2
