"""The hierarchical model against Stan, a book, dense linear algebra and its own prior."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from klartext.analysis.bayes import hierarchy
from klartext.analysis.bayes.hierarchy import Hierarchy
from klartext.analysis.bayes.marginal import FloatArray

# Rubin (1981), "Estimation in parallel randomized experiments"; Gelman et al. (2013), table 5.2
SCHOOLS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

# Stan 2.17 (rstan), model 8schools.stan of its getting-started page with flat priors on mu and
# tau, 4 chains, 20,000 draws, as printed by a tutorial of January 2018:
# mean, Monte Carlo error of the mean, sd, then the quantiles 2.5, 25, 50, 75, 97.5 %
STAN = {
    "mu": (7.95, 0.05, 5.06, -1.73, 4.67, 7.84, 11.11, 18.32, 9000),
    "tau": (6.49, 0.07, 5.56, 0.22, 2.39, 5.13, 9.08, 20.48, 7301),
    "A": (11.32, 0.07, 8.25, -2.04, 5.90, 10.19, 15.47, 31.17, 12989),
    "B": (7.87, 0.04, 6.21, -4.41, 4.02, 7.83, 11.72, 20.50, 20000),
    "C": (6.14, 0.06, 7.68, -11.14, 2.12, 6.71, 10.79, 20.25, 17666),
    "D": (7.66, 0.05, 6.46, -5.23, 3.72, 7.65, 11.58, 20.78, 20000),
    "E": (5.15, 0.04, 6.36, -8.80, 1.35, 5.66, 9.41, 16.35, 20000),
    "F": (6.21, 0.05, 6.64, -8.44, 2.33, 6.51, 10.45, 18.77, 20000),
    "G": (10.61, 0.05, 6.75, -1.25, 6.04, 10.04, 14.52, 25.78, 20000),
    "H": (8.45, 0.06, 7.91, -7.29, 3.90, 8.20, 12.70, 25.51, 16545),
}
LEVELS = (0.025, 0.25, 0.5, 0.75, 0.975)

# Gelman et al. (2013), table 5.3: posterior medians of the schools, from 200 draws
BOOK = {"A": 10, "B": 8, "C": 7, "D": 8, "E": 5, "F": 6, "G": 10, "H": 8}


@pytest.fixture(scope="module")
def schools() -> Hierarchy:
    """Eight schools with a flat prior on mu and one on tau that is as good as flat."""
    return hierarchy.posterior(
        SCHOOLS[:, None], (ERRORS**2)[:, None, None], mean_prior_sd=None, scale_prior_sd=1e4
    )


def summary(found: Hierarchy, name: str) -> tuple[float, float, list[float]]:
    if name == "tau":
        scale = found.scale
        return scale.mean, scale.sd, [scale.quantile(p) for p in LEVELS]
    which, i = (found.means, 0) if name == "mu" else (found.effects, "ABCDEFGH".index(name))
    quantiles = [float(which.quantile(p)[i]) for p in LEVELS]
    return float(which.mean[i]), float(which.sd[i]), quantiles


@pytest.mark.golden("Stan 2.17: 8schools.stan, flat priors, 20,000 draws")
@pytest.mark.parametrize("name", STAN)
def test_eight_schools_agree_with_stan(schools: Hierarchy, name: str) -> None:
    mean, sd, quantiles = summary(schools, name)
    stan_mean, error, stan_sd, *stan_quantiles, draws = STAN[name]
    assert mean == pytest.approx(stan_mean, abs=4 * error)
    assert sd == pytest.approx(stan_sd, rel=0.05)
    for p, found, sampled in zip(LEVELS, quantiles, stan_quantiles, strict=True):
        # error of a sampled quantile: sqrt(p (1 - p) / n) over the density, taken as normal and
        # doubled for tails that are not; the neighbours of a heavy tail vary more
        density = stats.norm.pdf(stats.norm.ppf(p)) / sd
        allowed = 4 * 2 * math.sqrt(p * (1 - p) / float(draws)) / density
        assert found == pytest.approx(sampled, abs=allowed)


@pytest.mark.golden("Gelman et al. (2013), table 5.3")
def test_eight_schools_agree_with_the_book(schools: Hierarchy) -> None:
    for name, median in BOOK.items():
        _, sd, quantiles = summary(schools, name)
        assert quantiles[2] == pytest.approx(median, abs=0.5 + 4 * 1.2533 * sd / math.sqrt(200))


@pytest.mark.golden("Gelman et al. (2013), equation 5.20 at tau = 0")
def test_eight_schools_conditional_moments_of_the_book() -> None:
    # equation 5.20 at tau = 0, from a prior whose mass is all there: complete pooling, mean
    # 7.69 and sd 4.07
    found = hierarchy.posterior(
        SCHOOLS[:, None], (ERRORS**2)[:, None, None], mean_prior_sd=None, scale_prior_sd=1e-4
    )
    assert found.means.mean[0] == pytest.approx(7.686, abs=1e-3)
    assert found.means.sd[0] == pytest.approx(4.072, abs=1e-3)
    assert found.effects.mean == pytest.approx(np.full(8, found.means.mean[0]), abs=1e-4)


def blocks(seed: int, groups: int, m: int) -> tuple[FloatArray, FloatArray]:
    """Effects of m treatments that share a control, in groups."""
    rng = np.random.default_rng(seed)
    own, shared = rng.uniform(0.3, 1, (groups, m)), rng.uniform(0.2, 0.9, groups)
    covariances = np.array(
        [np.diag(o**2) + s**2 for o, s in zip(own, shared, strict=True)], dtype=np.float64
    )
    truth = rng.normal(0.5, 0.6, (groups, m))
    estimates = np.array(
        [rng.multivariate_normal(t, v) for t, v in zip(truth, covariances, strict=True)]
    )
    return estimates, covariances


@pytest.mark.golden("scipy 1.17: stats.multivariate_normal and integrate.quad")
@pytest.mark.parametrize(("groups", "m", "prior"), [(4, 1, 0.7), (5, 3, 0.4), (3, 2, 2.0)])
def test_against_one_large_gaussian(groups: int, m: int, prior: float) -> None:
    # everything stacked in one vector: y ~ N(0, V + tau^2 I + s^2 11' x I), the effects by
    # conditioning; tau by scipy.integrate
    estimates, covariances = blocks(7, groups, m)
    size, scale_prior = groups * m, 0.8
    noise = np.zeros((size, size))
    for g in range(groups):
        noise[g * m : (g + 1) * m, g * m : (g + 1) * m] = covariances[g]
    shared = prior**2 * np.kron(np.ones((groups, groups)), np.eye(m))
    y = estimates.ravel()

    def density(tau: float) -> float:
        law = stats.multivariate_normal(cov=noise + tau**2 * np.eye(size) + shared)
        return float(law.pdf(y) * math.exp(-((tau / scale_prior) ** 2) / 2))

    def expected(function: object) -> float:
        value, _ = integrate.quad(
            lambda tau: function(tau) * density(tau),  # type: ignore[operator]  # a callable
            0,
            10,
            points=[0.3, 1.0, 3.0],
            epsabs=0,
            epsrel=1e-10,
        )
        return value

    def conditional(tau: float) -> tuple[FloatArray, FloatArray]:
        own = tau**2 * np.eye(size) + shared
        gain = own @ np.linalg.inv(own + noise)
        return gain @ y, own - gain @ own

    found = hierarchy.posterior(
        estimates, covariances, mean_prior_sd=prior, scale_prior_sd=scale_prior
    )
    whole = expected(lambda _: 1.0)
    assert found.scale.mean == pytest.approx(expected(lambda tau: tau) / whole, rel=1e-8)
    for i in (0, size - 1):
        mean = expected(lambda tau, i=i: conditional(tau)[0][i]) / whole
        assert found.effects.mean[i] == pytest.approx(mean, rel=1e-8)
        second = expected(lambda tau, i=i: conditional(tau)[1][i, i] + conditional(tau)[0][i] ** 2)
        assert found.effects.sd[i] == pytest.approx(math.sqrt(second / whole - mean**2), rel=1e-7)
        above = expected(
            lambda tau, i=i: stats.norm.cdf(
                conditional(tau)[0][i] / math.sqrt(conditional(tau)[1][i, i])
            )
        )
        assert found.effects.probability_above(0.0)[i] == pytest.approx(above / whole, rel=1e-8)


@pytest.mark.golden("scipy 1.17: stats.multivariate_normal and integrate.quad")
@pytest.mark.parametrize("prior", [0.3, 2.0])
def test_a_total_around_one_mean_against_one_large_gaussian(prior: float) -> None:
    # one mean for both treatments of all groups; a total over the first three groups
    estimates, covariances = blocks(13, 4, 2)
    noise = np.zeros((8, 8))
    for g in range(4):
        noise[2 * g : 2 * g + 2, 2 * g : 2 * g + 2] = covariances[g]
    y = estimates.ravel()
    wanted = np.array([[2.0, 0.0], [0.0, -1.0], [0.5, 1.5], [0.0, 0.0]])
    line = wanted.ravel()

    def density(tau: float) -> float:
        law = stats.multivariate_normal(cov=noise + tau**2 * np.eye(8) + prior**2)
        return float(law.pdf(y) * math.exp(-(tau**2) / 2))

    def conditional(tau: float) -> tuple[float, float]:
        own = tau**2 * np.eye(8) + prior**2
        gain = own @ np.linalg.inv(own + noise)
        return float(line @ gain @ y), float(line @ (own - gain @ own) @ line)

    def expected(power: int) -> float:
        def integrand(tau: float) -> float:
            mean, variance = conditional(tau)
            return density(tau) * (1.0, mean, variance + mean**2)[power]

        return float(integrate.quad(integrand, 0, 12, epsabs=0, epsrel=1e-10)[0])

    found = hierarchy.posterior(
        estimates, covariances, mean_prior_sd=prior, scale_prior_sd=1.0,
        one_mean=True, combinations=wanted[None],
    )  # fmt: skip
    mean = expected(1) / expected(0)
    assert found.combinations.mean[0] == pytest.approx(mean, rel=1e-8)
    sd = math.sqrt(expected(2) / expected(0) - mean**2)
    assert found.combinations.sd[0] == pytest.approx(sd, rel=1e-7)
    assert found.means.mean[0] == found.means.mean[1]


def test_a_combination_of_one_effect_is_that_effect() -> None:
    estimates, covariances = blocks(14, 3, 2)
    single = np.zeros((1, 3, 2))
    single[0, 1, 1] = 1.0
    found = hierarchy.posterior(
        estimates, covariances, mean_prior_sd=None, scale_prior_sd=0.5, combinations=single
    )
    for p in (0.1, 0.5, 0.9):
        assert found.combinations.quantile(p)[0] == pytest.approx(found.effects.quantile(p)[3])


@pytest.mark.golden("scipy 1.17: stats.multivariate_normal and integrate.quad")
def test_missing_treatments_and_means_fixed_at_zero() -> None:
    # a group without its second treatment: the same as leaving that row and column out of one
    # large Gaussian with means 0
    estimates, covariances = blocks(8, 3, 2)
    estimates[1, 1] = math.nan
    kept = np.array([0, 1, 2, 4, 5])
    noise = np.zeros((6, 6))
    for g in range(3):
        noise[2 * g : 2 * g + 2, 2 * g : 2 * g + 2] = covariances[g]
    noise, y = noise[np.ix_(kept, kept)], estimates.ravel()[kept]

    def density(tau: float) -> float:
        law = stats.multivariate_normal(cov=noise + tau**2 * np.eye(5))
        return float(law.pdf(y) * math.exp(-(tau**2) / 2))

    def shrunken(tau: float) -> float:
        return float((tau**2 * np.linalg.inv(noise + tau**2 * np.eye(5)) @ y)[2])

    whole, _ = integrate.quad(density, 0, 12, epsabs=0, epsrel=1e-10)
    first, _ = integrate.quad(lambda t: t * density(t), 0, 12, epsabs=0, epsrel=1e-10)
    effect, _ = integrate.quad(lambda t: shrunken(t) * density(t), 0, 12, epsabs=0, epsrel=1e-10)
    found = hierarchy.posterior(estimates, covariances, mean_prior_sd=0.0, scale_prior_sd=1.0)
    assert found.scale.mean == pytest.approx(first / whole, rel=1e-8)
    assert found.effects.mean[2] == pytest.approx(effect / whole, rel=1e-8)
    assert found.means.mean.tolist() == [0.0, 0.0]


def test_limits() -> None:
    estimates, covariances = blocks(9, 12, 2)
    pooled = hierarchy.posterior(estimates, covariances, mean_prior_sd=None, scale_prior_sd=1e-7)
    assert np.ptp(pooled.effects.mean.reshape(12, 2), axis=0) == pytest.approx([0, 0], abs=1e-9)
    far = estimates + 1e4 * np.arange(12)[:, None]
    alone = hierarchy.posterior(far, covariances, mean_prior_sd=None, scale_prior_sd=1e6)
    assert alone.effects.mean == pytest.approx(far.ravel(), rel=1e-6, abs=1e-3)
    own = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2)).ravel()
    assert alone.effects.sd == pytest.approx(own, rel=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_order_sign_and_scale(factor: float) -> None:
    estimates, covariances = blocks(10, 6, 2)
    found = hierarchy.posterior(estimates, covariances, mean_prior_sd=0.5, scale_prior_sd=0.3)
    other = hierarchy.posterior(
        -factor * estimates[::-1, ::-1],
        factor**2 * covariances[::-1, ::-1, ::-1],
        mean_prior_sd=0.5 * factor,
        scale_prior_sd=0.3 * factor,
    )
    assert -other.effects.mean[::-1] / factor == pytest.approx(found.effects.mean, rel=1e-9)
    assert other.effects.sd[::-1] / factor == pytest.approx(found.effects.sd, rel=1e-9)
    low, high = found.effects.quantile(0.025), other.effects.quantile(0.975)[::-1]
    assert -high / factor == pytest.approx(low, rel=1e-8, abs=1e-8)
    assert other.scale.quantile(0.9) / factor == pytest.approx(found.scale.quantile(0.9), rel=1e-9)


def test_thousands_of_groups_find_the_scale() -> None:
    rng = np.random.default_rng(11)
    truth = rng.normal(0.2, 0.05, 3000)
    estimates = (truth + rng.normal(0, 0.02, 3000))[:, None]
    covariances = np.full((3000, 1, 1), 0.02**2)
    found = hierarchy.posterior(estimates, covariances, mean_prior_sd=None, scale_prior_sd=10.0)
    # with equal errors tau^2 + s^2 is estimated by the variance of the estimates
    expected = math.sqrt(estimates.var(ddof=1) - 0.02**2)
    assert found.scale.mean == pytest.approx(expected, rel=2e-3)
    assert found.scale.sd == pytest.approx(expected / math.sqrt(6000) * 1.16, rel=0.05)


def test_mistakes_raise() -> None:
    estimates, covariances = blocks(12, 3, 2)
    with pytest.raises(ValueError, match="positive definite"):
        hierarchy.posterior(estimates, 0 * covariances, mean_prior_sd=None, scale_prior_sd=1.0)
    for sd in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="means"):
            hierarchy.posterior(estimates, covariances, mean_prior_sd=sd, scale_prior_sd=1.0)


@pytest.mark.slow
def test_calibration_under_the_prior() -> None:
    # 600 data sets from the prior (Cook, Gelman, Rubin 2006): 90 % intervals of effects, means
    # and scale cover 90 %, P(effect > 0) is right on average in every band
    rng = np.random.default_rng(13)
    runs, hits, said, came = 600, np.zeros(3), [], []
    _, covariances = blocks(14, 6, 2)
    for _ in range(runs):
        tau = abs(rng.normal(0, 0.5))
        mean = rng.normal(0, 0.7, 2)
        truth = mean + rng.normal(0, tau, (6, 2))
        seen = np.array(
            [rng.multivariate_normal(t, v) for t, v in zip(truth, covariances, strict=True)]
        )
        found = hierarchy.posterior(seen, covariances, mean_prior_sd=0.7, scale_prior_sd=0.5)
        for i, (which, true) in enumerate(((found.effects, truth[2, 1]), (found.means, mean[0]))):
            j = 5 if i == 0 else 0
            hits[i] += which.quantile(0.05)[j] <= true <= which.quantile(0.95)[j]
        hits[2] += found.scale.quantile(0.05) <= tau <= found.scale.quantile(0.95)
        said.append(float(found.effects.probability_above(0.0)[5]))
        came.append(truth[2, 1] > 0)
    assert hits / runs == pytest.approx(np.full(3, 0.9), abs=4 * math.sqrt(0.09 / runs))
    chances, happened = np.array(said), np.array(came)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (chances >= low) & (chances < low + 0.25)
        error = 4 * 0.5 / math.sqrt(inside.sum())
        assert happened[inside].mean() == pytest.approx(chances[inside].mean(), abs=error)
