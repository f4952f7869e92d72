"""Hurdle log-normal revenue: against exact integrals, in other currencies, and when it is false."""

import math

import numpy as np
import pytest

from klartext.analysis.bayes import scale
from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.models.diagnostics import NotShown, Shown
from klartext.analysis.models.hurdle import Purchases, fit, purchases
from klartext.analysis.models.sampling import Sampling


def revenue(seed: int, units: int, *, rate: float, log_sd: float = 0.8) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.asarray((rng.random(units) < rate) * rng.lognormal(3.5, log_sd, units))


def exact_mean(found: Purchases | NotEstimable) -> tuple[float, float]:
    """Posterior mean and sd of the mean revenue, by integrals.

    p is Beta(1 + k, 1 + n - k). Given sigma, mu is N(mean log, sigma^2 / k), its own prior is
    flat over the data. Sigma has the density s^-(k - 1) exp(-m2 / (2 s^2)): the likelihood with
    mu integrated out, on a uniform prior. Then E exp(j (mu + s^2 / 2)) = exp(j mean log +
    j^2 s^2 / (2 k) + j s^2 / 2) for j = 1, 2.
    """
    assert isinstance(found, Purchases)
    logs = np.log(found.amounts)
    k, m2 = len(logs), ((logs - logs.mean()) ** 2).sum()

    def log_likelihood(s: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(s > 0, -(k - 1) * np.log(s) - m2 / (2 * s * s), -np.inf)

    sigma = scale.posterior(log_likelihood, prior_sd=1e4, finest=1e-3)
    a, b = 1 + k, 1 + found.units - k
    rate = (a / (a + b), a * (a + 1) / ((a + b) * (a + b + 1)))
    square = sigma.nodes**2
    moments = [
        rate[j - 1]
        * float(sigma.weights @ np.exp(j * logs.mean() + j * j * square / (2 * k) + j * square / 2))
        for j in (1, 2)
    ]
    return moments[0], math.sqrt(moments[1] - moments[0] ** 2)


@pytest.mark.slow
def test_agrees_with_exact_integrals(models_extra: None) -> None:
    arms = {
        "control": purchases(revenue(41, 4000, rate=0.05)),
        "ai": purchases(revenue(42, 3000, rate=0.08, log_sd=1.0)),
        "short": purchases(revenue(43, 1500, rate=0.05)),
    }
    found = fit(arms, control="control", sampling=Sampling(3), level=0.9)
    assert isinstance(found, Shown)
    assert found.min_ess >= 400
    assert found.max_r_hat <= 1.01
    drawn = {effect.name: effect for effect in found.effects}
    assert sorted(drawn) == [
        "difference[ai]", "difference[short]", "relative[ai]", "relative[short]",
        "revenue[ai]", "revenue[control]", "revenue[short]",
    ]  # fmt: skip
    means = {}
    for key, arm in arms.items():
        mean, sd = exact_mean(arm)
        means[key] = mean, sd
        one = drawn[f"revenue[{key}]"]
        assert one.mean == pytest.approx(mean, abs=4.5 * one.mc_error)
        assert one.sd == pytest.approx(sd, rel=0.15)
    for key in ("ai", "short"):
        one = drawn[f"difference[{key}]"]
        expected = means[key][0] - means["control"][0]
        assert one.mean == pytest.approx(expected, abs=4.5 * one.mc_error)
        assert one.sd == pytest.approx(math.hypot(means[key][1], means["control"][1]), rel=0.15)
        assert drawn[f"relative[{key}]"].probability_positive == one.probability_positive


@pytest.mark.slow
def test_the_seed_decides_and_the_currency_does_not(models_extra: None) -> None:
    euros = [revenue(44, 2000, rate=0.1), revenue(45, 2000, rate=0.12)]

    def run(factor: float, seed: int) -> Shown:
        arms = {
            key: purchases(factor * each)
            for key, each in zip(("control", "ai"), euros, strict=True)
        }
        found = fit(arms, control="control", sampling=Sampling(seed), level=0.9)
        assert isinstance(found, Shown)
        return found

    one = run(1.0, 1)
    assert one == run(1.0, 1)
    assert one != run(1.0, 2)
    cents = {effect.name: effect for effect in run(100.0, 1).effects}
    for effect in one.effects:
        factor = 1.0 if effect.name.startswith("relative") else 100.0
        assert cents[effect.name].mean == pytest.approx(factor * effect.mean, rel=1e-3)


@pytest.mark.slow
def test_amounts_with_another_tail_are_not_shown(models_extra: None) -> None:
    # amounts of two price points are no log-normal: the sd and the quantile give it away
    rng = np.random.default_rng(46)
    values = np.where(rng.random(4000) < 0.3, rng.choice([5.0, 500.0], 4000, p=[0.9, 0.1]), 0.0)
    arms = {"control": purchases(values[:2000]), "ai": purchases(values[2000:])}
    found = fit(arms, control="control", sampling=Sampling(3), level=0.9)
    assert isinstance(found, NotShown)
    assert found.reason == "predictive-check-failed"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(0), "no-units"),
        (np.zeros(500), "too-few-units"),
        (np.append(np.zeros(500), np.arange(1.0, 20.0)), "too-few-units"),
        (np.append(np.arange(1.0, 40.0), np.nan), "not-finite"),
        (np.append(np.arange(1.0, 40.0), np.inf), "not-finite"),
        (np.append(np.arange(1.0, 40.0), -5.0), "negative"),
        (np.full(50, 0.1), "no-variance"),
    ],
)
def test_refuses_with_a_reason(values: FloatArray, reason: str) -> None:
    found = purchases(values)
    assert isinstance(found, NotEstimable)
    assert found.reason == reason
    assert found.detail


def test_split_by_hand() -> None:
    found = purchases(np.append(np.zeros(30), np.arange(1.0, 31.0)))
    assert isinstance(found, Purchases)
    assert found.units == 60
    assert found.amounts.tolist() == list(range(1, 31))


def test_a_variant_without_purchases_refuses_all_and_mistakes_raise() -> None:
    good = purchases(revenue(47, 2000, rate=0.1))
    empty = purchases(np.zeros(3))
    found = fit({"control": good, "ai": empty}, control="control", sampling=Sampling(1), level=0.9)
    assert isinstance(found, NotEstimable)
    assert found.detail.startswith("ai: ")
    for arms, control in (({"control": good}, "control"), ({"a": good, "b": good}, "control")):
        with pytest.raises(ValueError, match="control"):
            fit(arms, control=control, sampling=Sampling(1), level=0.9)
