"""The last digits go, and nothing that an estimate could notice."""

from dataclasses import replace

import numpy as np
import pytest

from klartext.analysis.models.rounding import settled
from klartext.analysis.moments import Moments

COLUMNS = ("revenue", "constant", "net")


def moments(seed: int, units: int = 1000) -> Moments:
    rng = np.random.default_rng(seed)
    revenue = rng.exponential(50.0, units)
    rows = np.column_stack([revenue, np.full(units, 0.1), 0.4 * revenue - 3.0])
    return Moments.of(COLUMNS, rows)


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_the_last_digits_makes_no_difference(seed: int) -> None:
    exact = moments(seed)
    rng = np.random.default_rng(seed + 100)
    noise = 1 + 1e-15 * rng.standard_normal((3, 3))
    noisy = replace(
        exact,
        mean=exact.mean * noise[0],
        m2=exact.m2 * (noise + noise.T) / 2,
        m3=exact.m3 * noise[1],
    )
    one, other = settled(exact), settled(noisy)
    for place in (0, 2):
        assert one.mean[place] == other.mean[place]
        assert one.m3[place] == other.m3[place]
        assert one.m2[place, place] == other.m2[place, place]
    assert one.m2[0, 2] == other.m2[0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_cut_is_far_below_the_error(seed: int) -> None:
    exact = moments(seed)
    found = settled(exact)
    assert (found.columns, found.n) == (exact.columns, exact.n)
    assert found.nonzero is exact.nonzero
    assert np.array_equal(found.m2, found.m2.T)
    error = np.sqrt(np.diag(exact.m2)) / exact.n
    assert np.all(np.abs(found.mean - exact.mean) <= 1e-6 * error + 1e-15)
    root = np.sqrt(np.diag(exact.m2))
    assert np.all(np.abs(found.m2 - exact.m2) <= 1e-9 * np.outer(root, root))
    assert found.sample("constant").is_constant


def test_too_few_units_are_left_as_they_are() -> None:
    for units in (0, 1):
        few = Moments.of(("x",), np.full((units, 1), 0.1))
        assert settled(few) is few
