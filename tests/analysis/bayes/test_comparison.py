"""The comparison of all variants puts together what its parts say."""

import numpy as np
import pytest

from klartext.analysis.bayes import beta
from klartext.analysis.bayes.best import standing
from klartext.analysis.bayes.beta import BetaPosterior
from klartext.analysis.bayes.comparison import Comparison, Region, compare
from klartext.analysis.bayes.difference import Difference
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Sample

ARMS = {
    "control": BetaPosterior.of(trials=1000, successes=100),
    "short": BetaPosterior.of(trials=1000, successes=125),
    "long": BetaPosterior.of(trials=1000, successes=90),
}


def test_parts() -> None:
    found = compare(
        ARMS, control="control", direction="increase", level=0.9, region=Region(-0.01, 0.01)
    )
    assert isinstance(found, Comparison)
    assert [belief.variant for belief in found.beliefs] == ["control", "short", "long"]
    assert sum(belief.probability_best for belief in found.beliefs) == pytest.approx(1)
    assert found.beliefs[0].mean == ARMS["control"].mean
    assert found.beliefs[0].interval == ARMS["control"].interval(0.9)
    short, long = found.advantages
    assert (short.variant, long.variant) == ("short", "long")
    difference = Difference(ARMS["short"], ARMS["control"])
    assert short.mean == difference.mean
    assert short.interval == difference.interval(0.9)
    assert short.probability_better == difference.probability_above(0.0)
    assert short.probability_equivalent == difference.probability_between(-0.01, 0.01)
    assert (short.relative, short.relative_interval) == difference.relative(0.9)


def test_direction_turns_better_and_best() -> None:
    up, down = (
        compare(ARMS, control="control", direction=direction, level=0.9, region=None)
        for direction in ("increase", "decrease")
    )
    assert isinstance(up, Comparison)
    assert isinstance(down, Comparison)
    for one, other in zip(up.advantages, down.advantages, strict=True):
        assert one.probability_better + other.probability_better == pytest.approx(1)
        assert one.interval == other.interval
        assert one.probability_equivalent == NotEstimable(
            "no-region", "no region of practical equivalence is registered"
        )
    assert down.beliefs[2].probability_best > 0.7


def test_a_variant_without_posterior_refuses_all() -> None:
    empty = beta.rate(Sample(0, 0.0, 0.0, 0.0), prior=beta.UNIFORM)
    found = compare(
        ARMS | {"new": empty}, control="control", direction="increase", level=0.9, region=None
    )
    assert isinstance(found, NotEstimable)
    assert found.reason == "no-units"
    assert found.detail.startswith("new: ")


def test_mistakes_raise() -> None:
    with pytest.raises(ValueError, match="level"):
        compare(ARMS, control="control", direction="increase", level=95, region=None)
    with pytest.raises(ValueError, match="no posterior"):
        compare(ARMS, control="old", direction="increase", level=0.9, region=None)
    for lower, upper in ((0.1, 0.2), (-0.2, -0.1), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="does not hold 0"):
            Region(lower, upper)


@pytest.mark.slow
def test_calibration_under_the_prior() -> None:
    # 2,000 experiments whose rates come from the prior: P(better) must be right on average in
    # every band, 90 % intervals cover 90 %, and expected loss is the mean loss (seeded)
    rng = np.random.default_rng(93)
    prior = BetaPosterior(5, 45)
    runs = 2000
    said, came, covered, promised, lost = [], [], 0, [], []
    for _ in range(runs):
        truth = rng.beta(5, 45, size=2)
        arms = [
            prior.updated(trials=n, successes=int(rng.binomial(n, p)))
            for n, p in zip((80, 200), truth, strict=True)
        ]
        found = Difference(arms[1], arms[0])
        interval = found.interval(0.9)
        said.append(found.probability_above(0.0))
        came.append(truth[1] > truth[0])
        covered += interval.lower <= truth[1] - truth[0] <= interval.upper
        chosen = int(said[-1] > 0.5)
        promised.append(standing(arms, direction="increase").expected_loss[chosen])
        lost.append(truth.max() - truth[chosen])
    band = 4 * np.sqrt(0.9 * 0.1 / runs)
    assert covered / runs == pytest.approx(0.9, abs=band)
    chances, happened = np.array(said), np.array(came)
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        inside = (chances >= low) & (chances < low + 0.2)
        error = 4 * 0.5 / np.sqrt(inside.sum())
        assert happened[inside].mean() == pytest.approx(chances[inside].mean(), abs=error)
    error = 4 * np.std(np.array(lost) - np.array(promised)) / np.sqrt(runs)
    assert np.mean(lost) == pytest.approx(np.mean(promised), abs=error)
