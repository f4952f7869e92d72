"""Test & Roll: the paper's numbers, the optimum by brute force, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.analysis import profit_size

WEBSITE_SD = math.sqrt(0.68 * 0.32)


@pytest.mark.golden("Feit, Berman (2019), section 4.1")
def test_the_paper_s_website() -> None:
    # Feit, Berman (2019), section 4.1: N = 100,000, mu 0.68, sigma 0.03: 2,284 a variant,
    # error rate 10.0 %, regret 0.22 % of what perfect information would earn
    found = profit_size.best_size(population=100_000, response_sd=WEBSITE_SD, prior_sd=0.03)
    assert found.units_per_variant == 2284
    assert found.error_rate == pytest.approx(0.100, abs=5e-4)
    random = 0.68 * 100_000
    regret = 1 - (random + found.gain) / (random + found.perfect_gain)
    assert regret == pytest.approx(0.0022, abs=5e-5)


@pytest.mark.golden("Feit, Berman (2019), section 4.2")
def test_the_paper_s_display_advertising() -> None:
    # Feit, Berman (2019), section 4.2: N = 1,000,000, sigma 4.39646, s the mean of five
    # standard deviations in Lewis, Rao (2015), table 1: 11,391 a variant
    sd = (94.28 + 111.15 + 69.89 + 111.37 + 132.15) / 5
    found = profit_size.best_size(population=1_000_000, response_sd=sd, prior_sd=4.39646)
    assert found.units_per_variant == 11_391


@pytest.mark.parametrize(("population", "s", "sigma"), [(300, 2.0, 0.5), (5000, 1.0, 0.02)])
def test_no_other_size_earns_more(population: int, s: float, sigma: float) -> None:
    best = profit_size.best_size(population=population, response_sd=s, prior_sd=sigma)
    gains = [
        profit_size.evaluate(n, population=population, response_sd=s, prior_sd=sigma).gain
        for n in range(1, population // 2 + 1)
    ]
    assert best.gain == max(gains)
    assert gains[best.units_per_variant - 1] == max(gains)


@given(st.integers(2, 10**8), st.floats(1e-3, 1e3), st.floats(1e-6, 1e3))
def test_the_published_form_and_bounds(population: int, s: float, sigma: float) -> None:
    found = profit_size.best_size(population=population, response_sd=s, prior_sd=sigma)
    q = (s / sigma) ** 2
    if q < 1e6 * population:  # beyond, the published form cancels
        n = math.sqrt(population / 4 * q + (0.75 * q) ** 2) - 0.75 * q
        assert abs(found.units_per_variant - max(1, n)) <= 1 + 1e-6 * n
    assert 1 <= found.units_per_variant <= max(1, population / 6 + 1)
    assert 0 <= found.error_rate <= 0.5
    assert 0 <= found.gain <= found.perfect_gain


def test_gain_and_error_rate_equal_simulation() -> None:
    # 400,000 experiments drawn from the prior; the population's mean outcome, not single units
    population, s, sigma, n = 2000, 3.0, 0.4, 150
    rng = np.random.default_rng(82)
    truth = rng.normal(0, sigma, (400_000, 2))
    seen = truth + rng.standard_normal(truth.shape) * s / math.sqrt(n)
    chosen = np.take_along_axis(truth, seen.argmax(axis=1)[:, None], 1)[:, 0]
    gains = n * truth.sum(axis=1) + (population - 2 * n) * chosen
    found = profit_size.evaluate(n, population=population, response_sd=s, prior_sd=sigma)
    error = 4 * gains.std() / math.sqrt(len(gains))
    assert found.gain == pytest.approx(gains.mean(), abs=error)
    wrong = (seen.argmax(axis=1) != truth.argmax(axis=1)).mean()
    assert found.error_rate == pytest.approx(wrong, abs=4 * math.sqrt(0.25 / len(gains)))
    best = population * truth.max(axis=1)
    assert found.perfect_gain == pytest.approx(best.mean(), abs=4 * best.std() / 632)


def test_impossible_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="population"):
        profit_size.best_size(population=1, response_sd=1.0, prior_sd=1.0)
    with pytest.raises(ValueError, match="standard deviation"):
        profit_size.best_size(population=10, response_sd=0.0, prior_sd=1.0)
    with pytest.raises(ValueError, match="fit"):
        profit_size.evaluate(6, population=10, response_sd=1.0, prior_sd=1.0)
