"""What the tests of several modules need: exact sums, samples, strategies."""

from fractions import Fraction
from math import comb

import numpy as np
from hypothesis import strategies as st

from klartext.analysis.bayes.beta import BetaPosterior
from klartext.analysis.bayes.gamma import GammaPosterior
from klartext.analysis.bayes.marginal import Marginal
from klartext.analysis.bayes.student import StudentPosterior
from klartext.analysis.moments import Moments, Sample


def beta_reciprocal(a: int, b: int) -> int:
    """1 / B(a, b) for integers, exactly."""
    return a * comb(a + b - 1, a)


def first_is_higher(one: tuple[int, int], other: tuple[int, int]) -> Fraction:
    """P(p1 > p2), exact for integers: Evan Miller (2015), "Formulas for Bayesian A/B testing"."""
    a1, b1 = one
    a2, b2 = other
    return sum(
        (
            Fraction(
                beta_reciprocal(1 + i, b1) * beta_reciprocal(a2, b2),
                (b1 + i) * beta_reciprocal(a2 + i, b1 + b2),
            )
            for i in range(a1)
        ),
        start=Fraction(0),
    )


def loss_of_first(one: tuple[int, int], other: tuple[int, int]) -> float:
    """E max(p2 - p1, 0), exact for integers.

    Stucchio (2015), "Bayesian A/B testing at VWO": with p Beta(a, b), p times its
    density is a / (a + b) times the density of Beta(a + 1, b).
    """
    (a1, b1), (a2, b2) = one, other
    return float(
        Fraction(a2, a2 + b2) * (1 - first_is_higher(one, (a2 + 1, b2)))
        - Fraction(a1, a1 + b1) * (1 - first_is_higher((a1 + 1, b1), other))
    )


def column(rows: list[float]) -> Sample:
    return Moments.of(("x",), np.array(rows, dtype=np.float64).reshape(-1, 1)).sample("x")


def ones(n: int, successes: int) -> Sample:
    p = successes / n
    return Sample(n, p, n * p * (1 - p), n * p * (1 - p) * (1 - 2 * p))


rates: st.SearchStrategy[Marginal] = st.integers(0, 10**9).flatmap(
    lambda n: st.integers(0, n).map(lambda k: BetaPosterior.of(trials=n, successes=k))
)
counts: st.SearchStrategy[Marginal] = st.builds(
    GammaPosterior, st.floats(0.5, 1e6), st.floats(1, 1e6)
)
means: st.SearchStrategy[Marginal] = st.builds(
    StudentPosterior, st.floats(2, 1e6), st.floats(-100, 100), st.floats(0.01, 10)
)
families = st.sampled_from([rates, counts, means])
