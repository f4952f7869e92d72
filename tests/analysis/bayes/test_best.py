"""P(best) and expected loss: exact sums, scipy integrals, Monte Carlo, symmetries, extremes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from klartext.analysis.bayes import quadrature
from klartext.analysis.bayes.best import standing
from klartext.analysis.bayes.beta import BetaPosterior
from klartext.analysis.bayes.gamma import GammaPosterior
from klartext.analysis.bayes.marginal import Marginal
from klartext.analysis.bayes.student import StudentPosterior
from tests.analysis.bayes.families import families, first_is_higher, loss_of_first

PAIRS = [
    ((1, 1), (1, 1)),
    ((4, 8), (2, 9)),
    ((40, 800), (50, 800)),
    ((400, 8_000), (450, 8_000)),
    ((1, 1), (5_000, 5_000)),
    ((1, 1_000_000), (2, 3)),
    ((2, 3), (1, 10**12)),
    ((300, 100), (20, 1)),
    ((200, 1), (300, 1)),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_rates_agree_with_the_exact_sums(one: tuple[int, int], other: tuple[int, int]) -> None:
    # Miller (2015) for the probability, Stucchio (2015) for the loss; rational arithmetic
    found = standing([BetaPosterior(*one), BetaPosterior(*other)], direction="increase")
    exact = float(first_is_higher(one, other))
    assert found.probability_best[0] == pytest.approx(exact, abs=1e-13)
    assert found.probability_best.sum() == pytest.approx(1, abs=1e-15)
    assert found.expected_loss[0] == pytest.approx(loss_of_first(one, other), rel=1e-9)
    gap = one[0] / sum(one) - other[0] / sum(other)
    assert found.expected_loss[1] - found.expected_loss[0] == pytest.approx(gap, rel=1e-9)


def test_expected_loss_of_uniform_rates_by_hand() -> None:
    # uniform priors, nothing seen: E max(p2 - p1, 0) of two uniforms is 1/6, of three E max - 1/2
    # = 3/4 - 1/2; the largest of k uniforms has mean k / (k + 1)
    for k, expected in ((2, 1 / 6), (3, 1 / 4), (4, 3 / 10)):
        found = standing([BetaPosterior(1, 1)] * k, direction="increase")
        assert found.expected_loss == pytest.approx([expected] * k, rel=1e-13)
        assert found.probability_best == pytest.approx([1 / k] * k, rel=1e-13)


@pytest.mark.golden("scipy 1.17: special.betainc")
def test_two_counts_agree_with_the_incomplete_beta_function() -> None:
    # G1 / (G1 + G2) of gamma variables is beta: P(x1 > x2) = I(rate2 / (rate1 + rate2); s2, s1)
    for s1, r1, s2, r2 in ((4.5, 3, 2.5, 4), (300.5, 1e4, 330.5, 1e4), (1e9, 1e6, 1.0001e9, 1e6)):
        found = standing([GammaPosterior(s1, r1), GammaPosterior(s2, r2)], direction="increase")
        expected = special.betainc(s2, s1, r2 / (r1 + r2))
        assert found.probability_best[0] == pytest.approx(expected, abs=1e-10)


def test_two_means_agree_with_the_normal_limit() -> None:
    # with 10^8 degrees of freedom t is normal: P = Phi(d / s), loss s (phi(z) - z Phi(-z))
    one, other = StudentPosterior(1e8, 0.3, 0.3), StudentPosterior(1e8, 0.0, 0.4)
    found = standing([one, other], direction="increase")
    z, s = 0.3 / 0.5, 0.5
    assert found.probability_best[0] == pytest.approx(stats.norm.cdf(z), abs=1e-8)
    expected = s * (stats.norm.pdf(z) - z * stats.norm.sf(z))
    assert found.expected_loss[0] == pytest.approx(expected, abs=1e-8)


@pytest.mark.golden("scipy 1.17: stats.t and integrate.quad")
@pytest.mark.parametrize("df", [2.0, 3.0, 7.5, 40.0])
def test_three_means_agree_with_scipy(df: float) -> None:
    # the definitions, integrated by scipy.integrate.quad over arctan(x)
    arms = [StudentPosterior(df, m, s) for m, s in ((0.0, 1.0), (0.7, 0.5), (-1.0, 3.0))]
    laws = [stats.t(df, arm.location, arm.scale) for arm in arms]

    def line(function: object) -> float:
        def substituted(angle: float) -> float:
            x = math.tan(angle)
            return float(function(x)) * (1 + x * x)  # type: ignore[operator]  # a callable

        value, _ = integrate.quad(
            substituted, -math.pi / 2, math.pi / 2, limit=2000, epsabs=1e-12, epsrel=1e-12
        )
        return value

    found = standing(arms, direction="increase")
    for i, law in enumerate(laws):
        others = [each for j, each in enumerate(laws) if j != i]
        best = line(lambda x, law=law, o=others: law.pdf(x) * o[0].cdf(x) * o[1].cdf(x))
        loss = line(
            lambda x, law=law, o=others: (
                law.cdf(x) * (o[0].sf(x) + o[1].sf(x) - o[0].sf(x) * o[1].sf(x))
            )
        )
        assert found.probability_best[i] == pytest.approx(best, abs=1e-9)
        assert found.expected_loss[i] == pytest.approx(loss, rel=1e-6 if df > 2 else 1e-3)


@pytest.mark.parametrize(
    "arms",
    [
        [BetaPosterior(1, 1)] * 5,
        [BetaPosterior(*ab) for ab in ((31, 970), (41, 960), (51, 950), (38, 963), (45, 956))],
        [BetaPosterior(*ab) for ab in ((0.5, 0.5), (50, 1e3), (500, 1e4), (5e4, 1e6), (5e6, 1e8))],
        [BetaPosterior(*ab) for ab in ((5e7 + 1, 95e7), (5e7 + 8e3, 95e7), (10, 200))],
        [GammaPosterior(*sr) for sr in ((0.5, 3), (2.5, 3), (1e4, 2.5e4), (1e6, 2.6e6))],
        [StudentPosterior(*dls) for dls in ((4, 0, 1), (9, 0.5, 2), (1e4, 1, 0.01), (50, 1, 0.5))],
    ],
)
def test_many_arms_agree_with_monte_carlo(arms: list[Marginal]) -> None:
    # 200,000 draws by numpy; five standard errors
    draws, rng = 200_000, np.random.default_rng(20270112)

    def draw(arm: Marginal) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        match arm:
            case BetaPosterior(a, b):
                return rng.beta(a, b, draws)
            case GammaPosterior(shape, rate):
                return rng.gamma(shape, 1 / rate, draws)
            case StudentPosterior(df, location, scale):
                return location + scale * rng.standard_t(df, draws)
            case _:
                raise TypeError(arm)

    levels = np.array([draw(arm) for arm in arms])
    frequency = np.bincount(levels.argmax(axis=0), minlength=len(arms)) / draws
    found = standing(arms, direction="increase")
    best = found.probability_best
    assert (abs(best - frequency) < 5 * np.sqrt(best * (1 - best) / draws) + 1e-5).all()
    losses = levels.max(axis=0) - levels
    errors = 5 * losses.std(axis=1) / math.sqrt(draws) + 1e-9
    assert (abs(found.expected_loss - losses.mean(axis=1)) < errors).all()


@given(families.flatmap(lambda family: st.lists(family, min_size=1, max_size=5)))
@settings(max_examples=50)
def test_identities(arms: list[Marginal]) -> None:
    found = standing(arms, direction="increase")
    assert np.isfinite(found.probability_best).all()
    assert (found.probability_best >= 0).all()
    assert found.probability_best.sum() == pytest.approx(1, abs=1e-12)
    assert (found.expected_loss >= 0).all()
    # losses differ by the means: E max cancels
    size = max(abs(arm.mean) + min(arm.sd, 100 * abs(arm.mean) + 100) for arm in arms)
    gaps = [arm.mean - arms[0].mean for arm in arms]
    assert found.expected_loss[0] - found.expected_loss == pytest.approx(
        np.array(gaps), abs=1e-9 * size
    )
    # any order of the arms gives the same
    back = standing(arms[::-1], direction="increase")
    assert back.probability_best[::-1] == pytest.approx(found.probability_best, abs=1e-9)
    assert back.expected_loss[::-1] == pytest.approx(found.expected_loss, abs=1e-9 * size)


@given(st.lists(st.tuples(st.floats(0.5, 1e6), st.floats(0.5, 1e6)), min_size=2, max_size=4))
@settings(max_examples=40)
def test_lowest_is_best_when_the_metric_should_decrease(arms: list[tuple[float, float]]) -> None:
    low = standing([BetaPosterior(a, b) for a, b in arms], direction="decrease")
    high = standing([BetaPosterior(b, a) for a, b in arms], direction="increase")
    assert low.probability_best == pytest.approx(high.probability_best, abs=1e-11)
    assert low.expected_loss == pytest.approx(high.expected_loss, abs=1e-11)


def test_a_narrow_rate_beside_the_end_of_a_wide_one() -> None:
    # L2 - L1 = E x2 - E x1, and the narrow one is surely higher: the gap of the means by hand
    arms = [BetaPosterior(1, 40), BetaPosterior(110_293, 111_526)]
    found = standing(arms, direction="decrease")
    gap = 110_293 / 221_819 - 1 / 41
    assert found.expected_loss[1] - found.expected_loss[0] == pytest.approx(gap, rel=1e-13)


@given(st.lists(st.tuples(st.floats(2, 1e4), st.floats(-5, 5), st.floats(0.1, 5)), min_size=2,
                max_size=4), st.sampled_from([1e-6, 0.01, 100.0, 1e9]))  # fmt: skip
@settings(max_examples=40)
def test_units_of_money_do_not_matter(arms: list[tuple[float, float, float]], scale: float) -> None:
    euros = standing([StudentPosterior(*arm) for arm in arms], direction="increase")
    scaled = standing(
        [StudentPosterior(df, m * scale, s * scale) for df, m, s in arms], direction="increase"
    )
    assert scaled.probability_best == pytest.approx(euros.probability_best, abs=1e-10)
    assert scaled.expected_loss == pytest.approx(euros.expected_loss * scale, rel=1e-8)


@given(families.flatmap(lambda family: st.lists(family, min_size=2, max_size=4)))
@settings(max_examples=40)
def test_more_nodes_change_nothing(arms: list[Marginal]) -> None:
    found = standing(arms, direction="increase")
    own = [arm.coordinates(arm.cuts()) for arm in arms]
    fine = np.unique(np.concatenate([*own, *((cut[1:] + cut[:-1]) / 2 for cut in own)]))
    nodes, weights = quadrature.panels(fine, nodes=40)
    points = arms[0].points(nodes)
    others = np.prod([arm.tails(points)[0] for arm in arms[1:]], axis=0)
    share = quadrature.mass(arms[0], nodes, weights) @ others
    assert found.probability_best[0] == pytest.approx(share, abs=3e-10)


def test_a_billion_trials_agree_with_the_normal_limit() -> None:
    n, p = 10**9, 0.05
    sd = math.sqrt(2 * p * (1 - p) / n)
    other = round(n * (p + sd))
    arms = [BetaPosterior.of(trials=n, successes=k) for k in (round(n * p), other)]
    found = standing(arms, direction="increase")
    assert found.probability_best[1] == pytest.approx(0.8413447, abs=2e-5)  # normal table, z = 1
    # s (phi(1) - Phi(-1)) = 0.0833155 s: unit normal loss table, z = 1
    assert found.expected_loss[1] == pytest.approx(0.0833155 * sd, rel=2e-4)


def test_a_certain_winner_and_a_single_arm() -> None:
    arms = [BetaPosterior.of(trials=10**8, successes=k * 10**7) for k in (1, 2, 9)]
    found = standing(arms, direction="increase")
    assert found.probability_best.tolist() == pytest.approx([0, 0, 1])
    assert found.expected_loss.tolist() == pytest.approx([0.8, 0.7, 0.0], rel=1e-6)
    alone = standing(arms[:1], direction="increase")
    assert alone.probability_best.tolist() == [1.0]
    assert alone.expected_loss.tolist() == [0.0]


def test_families_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="one family"):
        standing([BetaPosterior(1, 1), GammaPosterior(1, 1)], direction="increase")
    with pytest.raises(ValueError, match="one family"):
        standing([], direction="increase")
