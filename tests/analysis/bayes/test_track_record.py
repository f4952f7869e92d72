"""The default prior sd from finished experiments: by hand, recovered from simulation, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest

from klartext.analysis.bayes.pooling import Block
from klartext.analysis.bayes.track_record import (
    TrackRecord,
    pool_experiments,
    relative_effects,
)
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Sample

CONTROL = Sample(100, 10.0, 100.0 * 99, 0.0)  # squared standard error 1, ten of them above 0


def finished(seed: int, count: int, sd: float) -> list[Block]:
    """Experiments with one to three treatments and relative effects N(0, sd^2)."""
    rng = np.random.default_rng(seed)
    blocks = []
    for number in range(count):
        m = int(rng.integers(1, 4))
        error = rng.uniform(0.005, 0.02)
        covariance = error**2 * (np.eye(m) + 1) / 2
        effects = rng.multivariate_normal(rng.normal(0, sd, m), covariance)
        names = tuple(f"t{k}" for k in range(m))
        blocks.append(Block(f"e{number}", names, effects, covariance))
    return blocks


def test_relative_effects_by_hand() -> None:
    # means 12 and 9 on a control of 10 with squared standard errors 1, 2 and 4:
    # var (2 + 1.44) / 100 and (4 + 0.81) / 100, covariance 1.2 · 0.9 / 100
    arms = {"a": Sample(50, 12.0, 100.0 * 49, 0.0), "b": Sample(100, 9.0, 400.0 * 99, 0.0)}
    found = relative_effects("mail", CONTROL, arms)
    assert isinstance(found, Block)
    assert found.treatments == ("a", "b")
    assert found.effects == pytest.approx([0.2, -0.1], rel=1e-14)
    expected = np.array([[0.0344, 0.0108], [0.0108, 0.0481]])
    assert found.covariance == pytest.approx(expected, rel=1e-13)


def test_prior_sd_is_found_again() -> None:
    # 400 experiments with relative effects of sd 3 %: error of an sd about 3 % / sqrt(2 · 800)
    found = pool_experiments(finished(21, 400, 0.03), scale_prior_sd=0.1, level=0.95)
    assert isinstance(found, TrackRecord)
    assert found.experiments == 400
    assert found.prior_sd == pytest.approx(0.03, abs=4 * 0.03 / math.sqrt(2 * 700))
    assert found.spread.interval.lower < 0.03 < found.spread.interval.upper
    assert found.prior_sd == pytest.approx(
        math.sqrt(found.spread.mean**2 + found.spread.sd**2), rel=1e-12
    )
    for effect in found.effects:
        assert abs(effect.mean) < abs(effect.estimate) + 3 * effect.std_error
    shrunken = np.array([effect.mean for effect in found.effects])
    assert np.abs(shrunken).mean() < np.mean([abs(effect.estimate) for effect in found.effects])


def test_five_experiments_known_well_by_hand() -> None:
    # effects seen almost without error: density s^-5 exp(-c / (2 s^2)) under a flat prior, so
    # that E s^2 = c / (n - 3) = c / 2
    effects = (0.01, -0.02, 0.03, 0.0, 0.01)
    blocks = [
        Block(f"e{i}", ("t",), np.array([x]), np.array([[1e-14]])) for i, x in enumerate(effects)
    ]
    found = pool_experiments(blocks, scale_prior_sd=1e6, level=0.95)
    assert isinstance(found, TrackRecord)
    # with n = 5 the tail of s is s^-5: the half-normal prior at 10^6 cuts nothing that counts
    assert found.prior_sd == pytest.approx(math.sqrt(0.0015 / 2), rel=1e-6)
    for effect, value in zip(found.effects, effects, strict=True):
        assert effect.mean == pytest.approx(value, abs=1e-9)


def test_nothing_but_noise_leaves_a_small_sd() -> None:
    found = pool_experiments(finished(22, 60, 0.0), scale_prior_sd=0.1, level=0.95)
    assert isinstance(found, TrackRecord)
    assert 0 < found.prior_sd < 0.005


def test_order_does_not_matter() -> None:
    blocks = finished(23, 9, 0.02)
    one = pool_experiments(blocks, scale_prior_sd=0.1, level=0.95)
    other = pool_experiments(blocks[::-1], scale_prior_sd=0.1, level=0.95)
    assert isinstance(one, TrackRecord)
    assert isinstance(other, TrackRecord)
    assert one.prior_sd == pytest.approx(other.prior_sd, rel=1e-11)


def test_fewer_than_five_are_refused() -> None:
    for count in range(5):
        found = pool_experiments(finished(24, count, 0.02), scale_prior_sd=0.1, level=0.95)
        assert isinstance(found, NotEstimable)
        assert found.reason == "too-few-experiments"


@pytest.mark.parametrize(
    ("control", "treatment", "reason"),
    [
        (replace(CONTROL, mean=9.9), CONTROL, "weak-control"),
        (replace(CONTROL, mean=-50.0), CONTROL, "weak-control"),
        (replace(CONTROL, n=1), CONTROL, "too-few-units"),
        (CONTROL, replace(CONTROL, n=0), "too-few-units"),
        (CONTROL, replace(CONTROL, m2=0.0), "no-variance"),
        (CONTROL, replace(CONTROL, m2=-1.0), "invalid-moments"),
        (replace(CONTROL, mean=math.nan), CONTROL, "not-finite"),
    ],
)
def test_refuses_with_a_reason(control: Sample, treatment: Sample, reason: str) -> None:
    found = relative_effects("mail", control, {"a": treatment})
    assert isinstance(found, NotEstimable)
    assert found.reason == reason
    assert found.detail.startswith("mail")


def test_mistakes_raise() -> None:
    blocks = finished(25, 5, 0.02)
    with pytest.raises(ValueError, match="once"):
        pool_experiments([*blocks, blocks[0]], scale_prior_sd=0.1, level=0.95)
    with pytest.raises(ValueError, match="level"):
        pool_experiments(blocks, scale_prior_sd=0.1, level=0.0)
    with pytest.raises(ValueError, match="no treatments"):
        relative_effects("mail", CONTROL, {})
