"""PyMC and the quadrature agree on the same segment model within Monte Carlo error."""

import importlib.util

import numpy as np
import pytest

from klartext.analysis.bayes.pooling import Block, Pooling, pool
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.models.diagnostics import NotShown, Shown
from klartext.analysis.models.sampling import Sampling
from klartext.analysis.models.segments import fit


def blocks(segments: int, treatments: int, *, unit: float) -> tuple[Block, ...]:
    rng = np.random.default_rng(31)
    names = tuple(f"t{k}" for k in range(treatments))
    found = []
    for number in range(segments):
        own, shared = rng.uniform(0.5, 1, treatments), rng.uniform(0.3, 0.8)
        covariance = np.diag(own**2) + shared**2
        effects = rng.multivariate_normal(rng.normal(1.0, 0.6, treatments), covariance)
        found.append(Block(f"s{number}", names, effects * unit, covariance * unit**2))
    return tuple(found)


@pytest.mark.slow
@pytest.mark.parametrize("flat", [True, False])
def test_agrees_with_the_quadrature(models_extra: None, *, flat: bool) -> None:
    # 4 variants x 20 segments: means, sds, tails and the scale, four Monte Carlo errors each
    unit = 1e-3
    data = blocks(20, 3, unit=unit)
    prior = None if flat else 0.7 * unit
    found = fit(
        data, mean_prior_sd=prior, scale_prior_sd=0.5 * unit, sampling=Sampling(5), level=0.9
    )
    exact = pool(data, mean_prior_sd=prior, scale_prior_sd=0.5 * unit, level=0.9)
    assert isinstance(found, Shown)
    assert isinstance(exact, Pooling)
    assert found.min_ess >= 400
    assert found.max_r_hat <= 1.01
    drawn = {effect.name: effect for effect in found.effects}
    assert len(drawn) == 20 * 3 + 3 + 1
    pairs = [(drawn[f"effects[{e.key}, {e.treatment}]"], e) for e in exact.effects]
    pairs += [(drawn[f"common[{c.treatment}]"], c) for c in exact.common]  # type: ignore[misc]  # alike
    for sampled, known in pairs:
        assert sampled.mean == pytest.approx(known.mean, abs=4.5 * sampled.mc_error)
        # an sd from n effective draws is off by sd / sqrt(2 n), a tail by sqrt(p (1 - p) / n)
        assert sampled.sd == pytest.approx(known.sd, rel=4.5 / np.sqrt(2 * sampled.ess) * 1.5)
        p = known.probability_positive
        allowed = 4.5 * np.sqrt(p * (1 - p) / sampled.ess) + 1e-3
        assert sampled.probability_positive == pytest.approx(p, abs=allowed)
        end = 4.5 * known.sd * np.sqrt(0.05 * 0.95 / sampled.ess) / 0.1
        assert sampled.interval.lower == pytest.approx(known.interval.lower, abs=end)
        assert sampled.interval.upper == pytest.approx(known.interval.upper, abs=end)
    spread = drawn["spread"]
    assert spread.mean == pytest.approx(exact.spread.mean, abs=4.5 * spread.mc_error)
    assert spread.sd == pytest.approx(exact.spread.sd, rel=0.15)


@pytest.mark.slow
def test_the_seed_decides(models_extra: None) -> None:
    data = blocks(5, 2, unit=1.0)
    results = [
        fit(data, mean_prior_sd=1.0, scale_prior_sd=0.5, sampling=Sampling(seed), level=0.9)
        for seed in (1, 1, 2)
    ]
    assert all(isinstance(found, Shown) for found in results)
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.slow
def test_too_few_draws_are_not_shown(models_extra: None) -> None:
    found = fit(
        blocks(5, 2, unit=1.0),
        mean_prior_sd=1.0,
        scale_prior_sd=0.5,
        sampling=Sampling(1, draws=50, tune=500),
        level=0.9,
    )
    assert isinstance(found, NotShown)
    assert found.reason in {"too-few-draws", "not-converged"}


@pytest.mark.slow
def test_one_outlying_segment_fails_the_predictive_check(models_extra: None) -> None:
    # thirty equal segments and one 30 standard errors away are not normal around a common mean
    usual = [Block(f"s{i}", ("t",), np.array([0.01 * i]), np.array([[0.01]])) for i in range(30)]
    found = fit(
        (*usual, Block("odd", ("t",), np.array([3.0]), np.array([[0.01]]))),
        mean_prior_sd=None,
        scale_prior_sd=0.1,
        sampling=Sampling(1),
        level=0.9,
    )
    assert isinstance(found, NotShown)
    assert found.reason == "predictive-check-failed"


def test_one_segment_is_not_pooled() -> None:
    found = fit(
        blocks(1, 2, unit=1.0),
        mean_prior_sd=None,
        scale_prior_sd=0.5,
        sampling=Sampling(1),
        level=0.9,
    )
    assert isinstance(found, NotEstimable)
    assert found.reason == "too-few-segments"


@pytest.mark.skipif(importlib.util.find_spec("pymc") is not None, reason="PyMC is installed")
def test_without_the_extra_the_error_says_what_to_do() -> None:
    from klartext.analysis.models.extra import MissingExtraError  # noqa: PLC0415 - only here

    with pytest.raises(MissingExtraError, match="pip install"):
        fit(
            blocks(3, 2, unit=1.0),
            mean_prior_sd=None,
            scale_prior_sd=0.5,
            sampling=Sampling(1),
            level=0.9,
        )
