"""Test & Roll: the test size that earns most when the better variant is then rolled out.

A population of N units is all there is. A test gives n units to each of two variants, the one
with the higher mean is rolled out to the remaining ``N - 2 n``. Outcomes have standard deviation
s; the two true means are drawn from one normal prior with standard deviation sigma. More test
chooses better for fewer. No error rate is controlled: this plans a choice, not a proof.

References
----------
Feit, Berman (2019), "Test & Roll: Profit-maximizing A/B tests", Marketing Science 38, 1038-1058
(arXiv 1811.00457): the optimal size, the expected profit and the error rate under symmetric
normal priors, with the worked example of a website (N = 100,000, n = 2,284).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TestAndRoll:
    """A test of ``units_per_variant`` units and what to expect of it.

    Parameters
    ----------
    units_per_variant
        n.
    gain
        Expected gain of the whole population against choosing by chance, in the outcome's unit.
    perfect_gain
        The same if the better variant were known and given to all.
    error_rate
        Probability to roll out the worse variant.
    """

    __test__ = False  # not a test class, whatever pytest reads in the name

    units_per_variant: int
    gain: float
    perfect_gain: float
    error_rate: float


def best_size(*, population: int, response_sd: float, prior_sd: float) -> TestAndRoll:
    """Test size that maximises the expected outcome of the whole population.

    Parameters
    ----------
    population
        N, units that will be treated in the test or after it; at least 2.
    response_sd
        s, standard deviation of the outcome between units.
    prior_sd
        sigma, standard deviation of the true mean of each variant before the test. A prior of
        the *difference* with standard deviation d means ``sigma = d / sqrt(2)``.

    Returns
    -------
    TestAndRoll
        The best whole number of units.

    Raises
    ------
    ValueError
        Fewer than two units, or a standard deviation that is not positive and finite.

    Notes
    -----
    ``n = sqrt(N/4 (s/sigma)^2 + (3/4 (s/sigma)^2)^2) - 3/4 (s/sigma)^2``, here as
    ``N / (3 + sqrt(9 + 4 N (sigma/s)^2))``, which loses no digits; it is at most ``N / 6``. Both
    variants cost the same here: an AI cost per unit belongs into the outcome, and a prior that
    expects one variant to be better is not symmetric and not covered.

    Examples
    --------
    >>> best_size(population=100_000, response_sd=math.sqrt(0.68 * 0.32), prior_sd=0.03)
    ... # doctest: +ELLIPSIS
    TestAndRoll(units_per_variant=2284, gain=1..., perfect_gain=1..., error_rate=0.1...)
    """
    if population < 2:
        raise ValueError(f"the population is {population}: a test needs two units")
    for sd in (response_sd, prior_sd):
        if not 0 < sd < math.inf:
            raise ValueError(f"a standard deviation is {sd}: it must be positive and finite")
    share = prior_sd / response_sd
    exact = population / (3 + math.sqrt(9 + 4 * population * share * share))
    candidates = {max(1, math.floor(exact)), max(1, math.ceil(exact))}
    return max(
        (
            evaluate(size, population=population, response_sd=response_sd, prior_sd=prior_sd)
            for size in sorted(candidates)
        ),
        key=lambda plan: plan.gain,
    )


def evaluate(
    units_per_variant: int, *, population: int, response_sd: float, prior_sd: float
) -> TestAndRoll:
    """Return what to expect of a test of any size.

    Raises
    ------
    ValueError
        Less than one unit a variant, or more than the population holds.

    Notes
    -----
    Gain over chance ``(N - 2 n) sigma^2 / sqrt(pi (sigma^2 + s^2/n))``; with the better variant
    known ``N sigma / sqrt(pi)``; the wrong one is chosen with probability
    ``1/2 - atan(sigma sqrt(n) / s) / pi``.
    """
    n = units_per_variant
    if not 1 <= n <= population / 2:
        raise ValueError(f"{n} units a variant do not fit a population of {population}")
    spread = math.sqrt(math.pi * (prior_sd**2 + response_sd**2 / n))
    return TestAndRoll(
        units_per_variant=n,
        gain=(population - 2 * n) * prior_sd**2 / spread,
        perfect_gain=population * prior_sd / math.sqrt(math.pi),
        error_rate=0.5 - math.atan(prior_sd * math.sqrt(n) / response_sd) / math.pi,
    )
