"""Merging, shifting and scaling, and what cannot be estimated."""

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.analysis.moments import FloatArray, Moments, Sample, unusable

COLUMNS = ("x", "y")
rows = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=0, max_size=30).map(
    lambda pairs: np.array(pairs, dtype=float).reshape(-1, 2)
)


def assert_close(one: Moments, other: Moments, scale: float = 1e3) -> None:
    assert one.columns == other.columns
    assert one.n == other.n
    n = max(one.n, 1)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(one.m2, other.m2, rtol=1e-11, atol=1e-12 * n * scale**2)
    np.testing.assert_allclose(one.m3, other.m3, rtol=1e-11, atol=1e-11 * n * scale**3)
    np.testing.assert_array_equal(one.nonzero, other.nonzero)


def test_by_hand() -> None:
    # 1, 2, 6: mean 3, deviations -2 -1 3, squares 14, cubes 18; 0, 1, 2: deviations -1 0 1
    moments = Moments.of(COLUMNS, np.array([[1.0, 0.0], [2.0, 1.0], [6.0, 2.0]]))
    assert moments.n == 3
    np.testing.assert_array_equal(moments.mean, [3, 1])
    np.testing.assert_array_equal(moments.m2, [[14, 5], [5, 2]])
    np.testing.assert_array_equal(moments.m3, [18, 0])
    np.testing.assert_array_equal(moments.nonzero, [3, 2])
    assert moments.sample("x") == Sample(3, 3.0, 14.0, 18.0)
    assert moments.sample("x").variance == 7
    assert moments.sample("x").variance_of_mean == pytest.approx(7 / 3, rel=1e-15)
    assert moments.covariance("x", "y") == 2.5


def test_merge_by_hand() -> None:
    # {0} + {3, 9}: mean 4, deviations -4 -1 5, squares 42, cubes -64 - 1 + 125 = 60
    one = Moments.of(("x",), np.array([[0.0]]))
    two = Moments.of(("x",), np.array([[3.0], [9.0]]))
    for merged in (one + two, two + one):
        assert merged.sample("x") == Sample(3, 4.0, 42.0, 60.0)
        assert merged.nonzero.tolist() == [2]


@given(rows, rows)
def test_merged_equals_pooled_in_either_order(left: FloatArray, right: FloatArray) -> None:
    a, b = Moments.of(COLUMNS, left), Moments.of(COLUMNS, right)
    pooled = Moments.of(COLUMNS, np.vstack((left, right)))
    assert_close(a + b, pooled)
    assert_close(b + a, pooled)


@given(rows, rows, rows)
def test_merge_is_associative(one: FloatArray, two: FloatArray, three: FloatArray) -> None:
    a, b, c = (Moments.of(COLUMNS, each) for each in (one, two, three))
    assert_close((a + b) + c, a + (b + c))


@given(rows, st.floats(-1e3, 1e3), st.floats(0.01, 100), st.randoms())
def test_shift_scale_and_order(
    values: FloatArray, shift: float, scale: float, random: Random
) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    plain = Moments.of(COLUMNS, values)
    moved = Moments.of(COLUMNS, values[order] * scale + shift)
    n, size = max(len(values), 1), 1e3 * scale + 1e3
    np.testing.assert_allclose(moved.m2, plain.m2 * scale**2, rtol=1e-9, atol=1e-12 * n * size**2)
    np.testing.assert_allclose(moved.m3, plain.m3 * scale**3, rtol=1e-9, atol=1e-11 * n * size**3)


def test_empty_and_single() -> None:
    empty = Moments.of(COLUMNS, np.empty((0, 2)))
    single = Moments.of(COLUMNS, np.array([[2.0, 0.0]]))
    assert empty.n == 0
    assert (empty + empty).n == 0
    assert_close(empty + single, single)
    assert_close(single + empty, single)
    assert single.m2.tolist() == [[0, 0], [0, 0]]
    # An engine returns NULL, here NaN, for the mean of no rows; it must not spread.
    null = Moments(
        COLUMNS, 0, np.full(2, np.nan), np.full((2, 2), np.nan), np.full(2, np.nan), single.nonzero
    )
    assert_close(null + single, single)
    assert_close(single + null, single)


def test_other_columns_do_not_merge() -> None:
    with pytest.raises(ValueError, match="cannot merge"):
        Moments.of(("x",), np.ones((2, 1))) + Moments.of(("y",), np.ones((2, 1)))


def test_far_from_zero_keeps_its_digits() -> None:
    # 1e9 + {-1, 0, 1}: integers, so the truth is exact; raw sums of squares leave nothing
    values = np.tile([-1.0, 0.0, 1.0], 4000)[:, None] + 1e9
    raw = (values**2).sum() - values.sum() ** 2 / len(values)
    assert abs(raw - 8000) > 1000
    whole = Moments.of(("x",), values)
    parts = Moments.of(("x",), values[:1]) + Moments.of(("x",), values[1:7000])
    parts += Moments.of(("x",), values[7000:])
    for moments in (whole, parts):
        sample = moments.sample("x")
        assert sample.mean == 1e9
        assert sample.m2 == pytest.approx(8000, rel=1e-9)
        assert abs(sample.m3) < 1e-2
        assert not sample.is_constant


def test_skewed_far_from_zero_keeps_its_third_moment() -> None:
    rng = np.random.default_rng(5)
    values = rng.exponential(size=(20_000, 1))
    near = Moments.of(("x",), values)
    far = Moments.of(("x",), values + 1e9)
    assert far.m3[0] == pytest.approx(near.m3[0], rel=1e-5)


def test_constant_columns_are_recognised_through_rounding() -> None:
    dust = Moments.of(("x",), np.full((7919, 1), 0.1))
    for part in np.array_split(np.full((100_000, 1), 0.1), 13):
        dust += Moments.of(("x",), part)
    assert dust.sample("x").is_constant
    assert Sample(10, 0.0, 0.0, 0.0).is_constant
    assert not Sample(10, 0.0, 1e-300, 0.0).is_constant
    assert unusable(dust.sample("x"), Sample(50, 0.1, 0.0, 0.0)) is not None


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample(1, 1.0, 0.0, 0.0), "too-few-units"),
        (Sample(0, math.nan, math.nan, math.nan), "too-few-units"),
        (Sample(9, math.nan, 1.0, 0.0), "not-finite"),
        (Sample(9, 1.0, math.inf, 0.0), "not-finite"),
        (Sample(9, 1.0, -1.0, 0.0), "invalid-moments"),
    ],
)
def test_unusable_samples_say_why(sample: Sample, reason: str) -> None:
    good = Sample(9, 1.0, 4.0, 0.0)
    for pair in ((sample, good), (good, sample)):
        refused = unusable(*pair)
        assert refused is not None
        assert refused.reason == reason


def test_one_varying_sample_is_enough() -> None:
    good, constant = Sample(9, 1.0, 4.0, 0.0), Sample(9, 1.0, 0.0, 0.0)
    assert unusable(good, constant) is None
    refused = unusable(constant, constant)
    assert refused is not None
    assert refused.reason == "no-variance"


def test_many_parts_near_a_billion_merge_as_exact_arithmetic_does() -> None:
    """Beside amounts of 1e13, where means as one float64 lose 1e-9 of both scales."""
    rng = np.random.default_rng(1)
    rows = np.column_stack([1e9 + rng.normal(0, 1, 3_000), rng.normal(0, 1e13, 3_000)])
    whole = sum(
        (Moments.of(("precise", "huge"), part) for part in np.array_split(rows, 300)),
        start=Moments.of(("precise", "huge"), np.empty((0, 2))),
    )
    values = [[Fraction(value) for value in column] for column in rows.T.tolist()]
    means = [sum(column) / len(column) for column in values]
    one, other = (
        [value - mean for value in column] for column, mean in zip(values, means, strict=True)
    )
    scale = np.sqrt(whole.m2.diagonal())
    bound = 4 * 300 * 2**-53  # each merge rounds four times, relative to what was summed so far
    product = float(sum(a * b for a, b in zip(one, other, strict=True)))
    assert whole.m2[0, 1] == pytest.approx(product, abs=bound * scale[0] * scale[1])
    assert whole.m2[0, 0] == pytest.approx(float(sum(a * a for a in one)), rel=bound)
    third = float(sum(a**3 for a in one))
    assert whole.m3[0] == pytest.approx(third, abs=bound * scale[0] ** 3)
    assert whole.mean[0] == float(means[0])
