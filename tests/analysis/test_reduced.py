"""Sums that subtract refuse what they cannot be precise about."""

from __future__ import annotations

import numpy as np
import pytest

from klartext.analysis.moments import Moments
from klartext.analysis.reduced import NotPartError, Reduced, WornOffError, without

KEY = ("units", "ai", 1)


def moments(*values: float) -> Moments:
    return Moments.of(("x",), np.array(values)[:, np.newaxis])


def test_what_is_taken_off_leaves_the_others() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(10, 500)
    left = without(moments(*values), moments(*values[:200]))
    expected = moments(*values[200:])
    assert left.n == 300
    for name in ("mean", "m2", "m3", "nonzero"):
        np.testing.assert_allclose(getattr(left, name), getattr(expected, name), rtol=1e-11)


def test_more_than_there_is_cannot_be_taken_off() -> None:
    with pytest.raises(NotPartError):
        without(moments(1.0), moments(1.0, 2.0))
    one = Reduced({"units": {("ai",): (1, 5)}})
    with pytest.raises(NotPartError):
        one.replaced(Reduced({"units": {("ai",): (2, 5)}}), Reduced())
    with pytest.raises(NotPartError):
        one.replaced(Reduced({"units": {("control",): (1, 5)}}), Reduced())


def test_digits_that_wore_off_are_noticed_over_a_variant_and_up_to_a_day() -> None:
    ordinary = np.random.default_rng(4).normal(10, 2, 400)
    fortune = moments(1e9)
    total = moments(*ordinary[:200]) + fortune
    with pytest.raises(WornOffError):
        Reduced(moments={KEY: total}).replaced(Reduced(moments={KEY: fortune}), Reduced())
    later = ("units", "ai", 2)
    days = Reduced(moments={KEY: total, later: moments(*ordinary[200:], 1e9)})
    with pytest.raises(WornOffError):  # the variance of the variant hardly shrinks, the day's does
        days.replaced(Reduced(moments={KEY: fortune}), Reduced())
    last = days.replaced(Reduced(moments={KEY: moments(ordinary[0])}), Reduced())
    assert last.moments[KEY].n == 200


def test_nothing_is_left_to_wear_off_of_no_value_or_of_one() -> None:
    one = Reduced(moments={KEY: moments(3.0, 700.0)})
    left = one.replaced(Reduced(moments={KEY: moments(700.0)}), Reduced()).moments[KEY]
    assert (left.n, left.mean[0], left.m2[0, 0]) == (1, pytest.approx(3.0), 0.0)
    rich = Reduced(moments={KEY: moments(5.25, 1e14)})
    poor = rich.replaced(Reduced(moments={KEY: moments(1e14)}), Reduced())
    with pytest.raises(WornOffError):  # but of its mean
        poor.replaced(Reduced(), Reduced(moments={KEY: moments(5.25, 5.5, 6.0)}))
    none = Reduced(moments={KEY: moments(0.0, 0.0, 700.0)})
    left = none.replaced(Reduced(moments={KEY: moments(700.0)}), Reduced()).moments[KEY]
    assert (left.n, left.mean[0], left.m2[0, 0], left.m3[0]) == (2, 0.0, 0.0, 0.0)
