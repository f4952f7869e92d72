"""The posterior of a scale against exact laws and scipy."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from klartext.analysis.bayes import scale
from klartext.analysis.bayes.marginal import FloatArray


@pytest.mark.golden("scipy 1.17: stats.halfnorm")
@pytest.mark.parametrize("prior_sd", [1e-6, 1.0, 3e7])
def test_without_data_it_is_the_prior(prior_sd: float) -> None:
    # scipy.stats.halfnorm
    found = scale.posterior(np.zeros_like, prior_sd=prior_sd, finest=prior_sd)
    law = stats.halfnorm(scale=prior_sd)
    assert found.mean == pytest.approx(law.mean(), rel=1e-12)
    assert found.sd == pytest.approx(law.std(), rel=1e-12)
    assert found.mean_square == pytest.approx(prior_sd**2, rel=1e-12)
    for p in (0.025, 0.5, 0.975):
        assert found.quantile(p) == pytest.approx(law.ppf(p), rel=1e-10)


@pytest.mark.golden("scipy 1.17: special.gammainc")
@pytest.mark.parametrize(("count", "size"), [(4, 1.0), (100, 1e-3), (20_000, 50.0)])
def test_known_effects_give_the_law_of_a_scale(count: int, size: float) -> None:
    # effects seen without error, sum of squares c: density s^-n exp(-c / (2 s^2)) and a prior so
    # wide that it is flat; then c / s^2 is gamma distributed, by scipy.special.gammainc
    total = count * size**2

    def log_likelihood(s: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(s > 0, -count * np.log(s) - total / (2 * s * s), -np.inf)

    found = scale.posterior(log_likelihood, prior_sd=1e6 * size, finest=size / 100)
    shape = (count - 1) / 2
    for p in (0.025, 0.5, 0.975):
        expected = math.sqrt(total / (2 * special.gammainccinv(shape, p)))
        assert found.quantile(p) == pytest.approx(expected, rel=1e-9)
    assert found.interval(0.95).lower == pytest.approx(found.quantile(0.025), rel=1e-12)


def test_a_prior_far_below_the_data_gives_way() -> None:
    # the density lies beyond nine prior sds; scipy.integrate finds it around its peak
    def log_likelihood(s: FloatArray) -> FloatArray:
        return -50 * np.log(s * s + 1e-4) - 50 / (s * s + 1e-4)

    found = scale.posterior(log_likelihood, prior_sd=0.02, finest=0.01)

    def density(s: float) -> float:
        log = log_likelihood(np.array([s]))[0] - (s / 0.02) ** 2 / 2
        return math.exp(log + 430)

    whole, _ = integrate.quad(density, 0, 2, points=[0.3, 0.4, 0.5], epsabs=0, limit=200)
    first, _ = integrate.quad(
        lambda s: s * density(s), 0, 2, points=[0.3, 0.4, 0.5], epsabs=0, limit=200
    )
    assert found.mean == pytest.approx(first / whole, rel=1e-8)


def test_impossible_priors_raise() -> None:
    for prior_sd in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="prior"):
            scale.posterior(np.zeros_like, prior_sd=prior_sd, finest=1.0)
