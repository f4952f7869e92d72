"""The corrected sum: by hand, against scipy and a published formula, and right on average."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import integrate, stats

from klartext.analysis.bayes.pooling import Block
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.winners_curse import (
    Corrected,
    CorrectedSum,
    Finding,
    Stake,
    corrected,
    earned_of,
    launch_of,
    relative_effects,
)
from klartext.experiments.experiment import Experiment
from tests.analysis import samples

MONEY = 100_000.0  # what a relative effect of 1 brings


def finding(key: str, effect: float, error: float, *, go: bool) -> Finding:
    block = Block(key, ("ai",), np.array([effect]), np.array([[error**2]]))
    return Finding(block, Stake("ai", MONEY * effect, MONEY) if go else None)


def summed(findings: list[Finding]) -> CorrectedSum:
    found = corrected(findings, level=0.95)
    assert isinstance(found, Corrected)
    assert isinstance(found.launched, CorrectedSum)
    return found.launched


def test_against_integrals_over_mean_and_scale() -> None:
    # the model written down once more, effects integrated out by hand: given mu and tau,
    # t_e ~ N((y tau^2 + mu v) / (tau^2 + v), tau^2 v / (tau^2 + v))
    y = np.array([0.06, 0.01, -0.02, 0.03, 0.05])
    v = np.array([0.02, 0.01, 0.015, 0.02, 0.03]) ** 2
    go = np.array([True, False, False, False, True])

    def density(mu: float, tau: float) -> float:
        # normal densities without the constants, which cancel; scipy's take ten times as long
        spread = v + tau**2
        seen = np.exp(-(((y - mu) ** 2 / spread).sum()) / 2) / np.sqrt(spread.prod())
        return float(seen * math.exp(-(mu**2 + tau**2) / (2 * 0.1**2)))

    def total(mu: float, tau: float) -> float:
        return float((((y * tau**2 + mu * v) / (tau**2 + v)) * MONEY + 0.0)[go].sum())

    def integral(what: object) -> float:
        value, _ = integrate.dblquad(
            lambda mu, tau: what(mu, tau) * density(mu, tau),  # type: ignore[operator]
            0, 0.5, -0.3, 0.3, epsabs=0, epsrel=1e-7,
        )  # fmt: skip
        return float(value)

    findings = [finding(f"e{i}", y[i], math.sqrt(v[i]), go=bool(go[i])) for i in range(5)]
    found, whole = summed(findings), corrected(findings, level=0.95)
    assert isinstance(whole, Corrected)
    assert found.value == pytest.approx(integral(total) / integral(lambda *_: 1.0), rel=1e-5)
    assert found.naive == pytest.approx(0.11 * MONEY)
    assert found.value == pytest.approx(math.fsum(one.value for one in whole.launches.values()))
    assert list(whole.launches) == ["e0", "e4"]
    assert whole.whole == found


def test_noise_of_cost_widens_and_moves_nothing() -> None:
    quiet = [finding(f"e{i}", 0.01 * i, 0.02, go=i > 3) for i in range(6)]
    loud = [
        one if one.launch is None else replace(one, launch=replace(one.launch, unexplained=9e6))
        for one in quiet
    ]
    before, after = summed(quiet), summed(loud)
    assert after.value == pytest.approx(before.value, rel=1e-12)
    width = [one.interval.upper - one.interval.lower for one in (before, after)]
    # two launches: variances add, 1.8e7; the posterior is close to normal
    sd = width[0] / (2 * 1.959964)
    assert width[1] / (2 * 1.959964) == pytest.approx(math.sqrt(sd**2 + 1.8e7), rel=0.01)


def test_what_was_earned_in_tests_joins_the_launches() -> None:
    findings = [finding(f"e{i}", 0.01 * i, 0.02, go=i > 3) for i in range(6)]
    lost = replace(findings[0], earned=(Stake("ai", 500.0, 0.0),))  # money without an effect
    won = replace(findings[5], earned=(Stake("ai", MONEY * 0.05, MONEY),))
    before, after = (
        corrected(each, level=0.95) for each in (findings, [lost, *findings[1:5], won])
    )
    assert isinstance(before, Corrected)
    assert isinstance(after, Corrected)
    assert after.launched == before.launched
    assert after.whole.naive == pytest.approx(before.whole.naive + 500 + MONEY * 0.05)
    gained = before.whole.value + 500 + before.launches["e5"].value
    assert after.whole.value == pytest.approx(gained)


def test_precise_estimates_are_left_alone_and_vague_ones_are_not() -> None:
    others = [finding(f"e{i}", 0.01 * (i - 3), 0.01, go=False) for i in range(7)]
    precise = summed([*others, finding("one", 0.05, 1e-5, go=True)])
    assert precise.value == pytest.approx(precise.naive, rel=1e-4)
    vague = summed([*others, finding("one", 0.5, 0.4, go=True)])
    assert abs(vague.value) < 0.1 * vague.naive


def test_refusals() -> None:
    five = [finding(f"e{i}", 0.01 * i, 0.02, go=i == 4) for i in range(5)]
    few = corrected(five[1:], level=0.95)
    assert isinstance(few, NotEstimable)
    assert few.reason == "too-few-experiments"
    nothing = corrected([replace(one, launch=None) for one in five], level=0.95)
    assert isinstance(nothing, Corrected)
    assert isinstance(nothing.launched, NotEstimable)
    assert nothing.launched.reason == "nothing-launched"
    with pytest.raises(ValueError, match="once"):
        corrected([five[0], *five], level=0.95)
    with pytest.raises(ValueError, match="level"):
        corrected(five, level=1.0)


@dataclass(frozen=True)
class Run:
    """One simulated workspace: true, naive and corrected sum, and whether the interval covers."""

    true: float
    naive: float
    value: float
    covered: bool


def workspace(rng: np.random.Generator, *, looks: int, mean: float, spread: float) -> Run | None:
    """Fifty experiments; one is launched as soon as its lower bound is above zero at a look."""
    truth = rng.normal(mean, spread, 50)
    final = rng.uniform(0.01, 0.04, 50)  # standard error with all units
    steps = rng.normal(truth[:, None], final[:, None] * math.sqrt(looks), (50, looks))
    count = np.arange(1, looks + 1)
    seen, error = np.cumsum(steps, axis=1) / count, final[:, None] * np.sqrt(looks / count)
    passes = seen - 1.96 * error > 0
    at = np.where(passes.any(axis=1), passes.argmax(axis=1), looks - 1)
    row = np.arange(50)
    y, se, go = seen[row, at], error[row, at], passes[row, at]
    if not go.any():
        return None
    found = summed([finding(f"e{i}", y[i], se[i], go=bool(go[i])) for i in row])
    true = MONEY * float(truth[go].sum())
    return Run(true, found.naive, found.value, found.interval.lower < true < found.interval.upper)


def simulated(runs: int, *, looks: int, mean: float | None, spread: float | None) -> list[Run]:
    """Workspaces with a launch; what is None is drawn from its prior for each."""
    rng = np.random.default_rng(5)
    every = [
        workspace(
            rng,
            looks=looks,
            mean=rng.normal(0, 0.1) if mean is None else mean,
            spread=abs(rng.normal(0, 0.1)) if spread is None else spread,
        )
        for _ in range(runs)
    ]
    return [one for one in every if one is not None]


@pytest.mark.parametrize(
    ("looks", "runs"),
    [
        (10, 30),  # launched at the first success of ten looks: the worst case
        pytest.param(1, 1000, marks=pytest.mark.slow),
        pytest.param(10, 1000, marks=pytest.mark.slow),
    ],
)
def test_corrected_sums_are_right_on_average(looks: int, runs: int) -> None:
    found = simulated(runs, looks=looks, mean=None, spread=None)
    assert len(found) > 0.7 * runs
    luck = np.array([one.naive - one.true for one in found])
    left = np.array([one.value - one.true for one in found])
    error = left.std(ddof=1) / math.sqrt(len(found))
    assert luck.mean() > 5 * luck.std(ddof=1) / math.sqrt(len(found))
    assert abs(left.mean()) < 4 * error
    assert 4 * error < luck.mean() / 2  # the test would see half of the luck
    covered = np.mean([one.covered for one in found])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / len(found)))


@pytest.mark.parametrize(
    ("looks", "mean", "runs"),
    [
        (1, 0.01, 20),
        pytest.param(1, 0.0, 1000, marks=pytest.mark.slow),
        pytest.param(10, 0.01, 1000, marks=pytest.mark.slow),
    ],
)
def test_in_a_workspace_of_small_effects_nine_tenths_of_the_luck_are_taken_off(
    looks: int, mean: float, runs: int
) -> None:
    # effects of sd 2 %, where the prior of the scale expects up to 10 %: a little too much is left
    found = simulated(runs, looks=looks, mean=mean, spread=0.02)
    luck = np.mean([one.naive - one.true for one in found])
    left = np.array([one.value - one.true for one in found])
    error = left.std(ddof=1) / math.sqrt(len(found))
    assert -4 * error < left.mean() < luck / 10 + 4 * error
    covered = np.mean([one.covered for one in found])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / len(found)))


@pytest.mark.golden("Lee and Shen (2018), section 3: bias of a sum of winners with one threshold")
def test_bias_of_the_naive_sum_is_the_published_one() -> None:
    # what the correction removes on average is what their formula says the bias is
    rng = np.random.default_rng(6)
    published, removed, left = [], [], []
    for _ in range(40):
        truth, error = rng.normal(0.01, 0.03, 50), rng.uniform(0.01, 0.04, 50)
        y = rng.normal(truth, error)
        go = y / error > 1.96
        assert go.any()
        published.append(MONEY * float((error * stats.norm.pdf(1.96 - truth / error)).sum()))
        found = summed([finding(f"e{i}", y[i], error[i], go=bool(go[i])) for i in range(50)])
        removed.append(found.naive - found.value)
        left.append(found.naive - MONEY * float(truth[go].sum()))
    for each in (removed, left):
        gap = np.array(each) - np.array(published)
        assert abs(gap.mean()) < 4 * gap.std(ddof=1) / math.sqrt(40)


def variant(n: int, margin: float, cost: float) -> Moments:
    """Margins of sd 20 and costs of sd 0.5 with correlation 0.3."""
    covariance = np.array([[400.0, 3.0], [3.0, 0.25]])
    return Moments(("margin", "cost"), n, np.array([margin, cost]), (n - 1) * covariance,
                   np.zeros(2), np.full(2, n))  # fmt: skip


@pytest.fixture
def experiment() -> Experiment:
    return samples.experiment()


def test_effects_and_money_by_hand(experiment: Experiment) -> None:
    moments = {"control": variant(10_000, 10.0, 0.0), "ai": variant(20_000, 10.4, 0.1)}
    block = relative_effects(experiment, moments)
    assert isinstance(block, Block)
    assert block.effects == pytest.approx([0.04])
    # 400 / 10,000 + 400 / 20,000 = 0.06, over 10 squared
    assert block.covariance == pytest.approx(np.array([[0.0006]]))
    found = launch_of(
        experiment, moments, "ai", net_benefit=21_000.0, units=100_000, persistence=0.7
    )
    assert isinstance(found, Stake)
    # slope of the cost: 3 / 400 = 0.0075; 100,000 (0.7 - 0.0075) 10
    assert found.per_effect == pytest.approx(692_500.0)
    # var of the cost difference (1/10,000 + 1/20,000) (0.25 - 0.0075 * 3), times 1e10
    assert found.unexplained == pytest.approx(1e10 * 1.5e-4 * 0.2275)


def test_margin_of_a_test_by_hand(experiment: Experiment) -> None:
    moments = {"control": variant(10_000, 10.0, 0.0), "ai": variant(20_000, 10.4, 0.1)}
    found = earned_of(experiment, moments, "ai", margin=8_000.0)
    assert found == Stake("ai", 8_000.0, 200_000.0)  # 20,000 units of 10


def test_a_control_without_margin_is_no_yardstick(experiment: Experiment) -> None:
    # 0.4 over a standard error of 0.2
    moments = {"control": variant(10_000, 0.4, 0.0), "ai": variant(10_000, 0.5, 0.1)}
    found = relative_effects(experiment, moments)
    assert isinstance(found, NotEstimable)
    assert found.reason == "weak-control"


def test_treatments_that_never_earn_are_refused_before_the_algebra(experiment: Experiment) -> None:
    control, ai = experiment.variants
    several = replace(experiment, variants=(control, ai, replace(ai, key="gpt")))
    nothing = replace(variant(10_000, 0.0, 0.1), m2=np.zeros((2, 2)))
    moments = {"control": variant(10_000, 10.0, 0.0), "ai": nothing, "gpt": nothing}
    found = relative_effects(several, moments)
    assert isinstance(found, NotEstimable)
    assert found.reason == "no-variance"
    moments["gpt"] = variant(10_000, 10.2, 0.1)
    assert isinstance(relative_effects(several, moments), Block)
