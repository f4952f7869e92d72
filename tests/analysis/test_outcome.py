"""Outcomes from history: rates, means, and the linear part of a ratio."""

import numpy as np
import pytest

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.outcome import Outcome, conversion, from_history, ratio

ROWS = np.column_stack(
    [
        np.random.default_rng(83).gamma(2.0, 3.0, 400),
        np.random.default_rng(84).poisson(4, 400),
        np.arange(400) % 5 == 0,
        np.zeros(400),
    ]
).astype(float)
HISTORY = Moments.of(("revenue", "visits", "bought", "nothing"), ROWS)


def test_conversion_by_hand() -> None:
    found = conversion(0.2)
    assert (found.mean, found.variance, found.nonzero_rate) == pytest.approx((0.2, 0.16, 0.2))
    assert found.variance_under(0.1) == pytest.approx(0.21)
    assert from_history(HISTORY, "bought", kind="conversion") == conversion(0.2)
    with pytest.raises(ValueError, match="rate"):
        conversion(1.0)


def test_mean_from_history() -> None:
    found = from_history(HISTORY, "revenue", kind="mean")
    assert isinstance(found, Outcome)
    assert found.mean == pytest.approx(ROWS[:, 0].mean())
    assert found.variance == pytest.approx(ROWS[:, 0].var(ddof=1))
    assert found.variance_under(3.0) == found.variance
    assert found.nonzero_rate == 1
    assert Outcome("net", 1.0, 4.0, treated_variance=5.0).variance_under(1.0) == 5.0


def test_ratio_is_the_variance_of_its_linear_part() -> None:
    found = ratio(HISTORY, "revenue", "visits")
    assert isinstance(found, Outcome)
    y, x = ROWS[:, 0], ROWS[:, 1]
    r = y.mean() / x.mean()
    assert found.mean == pytest.approx(r)
    assert found.variance == pytest.approx(((y - r * x) / x.mean()).var(ddof=1), rel=1e-10)
    # a ratio to a constant is that mean
    whole = Moments.of(("y", "one"), np.column_stack([y, np.ones(400)]))
    plain = ratio(whole, "y", "one")
    assert isinstance(plain, Outcome)
    assert plain.variance == pytest.approx(y.var(ddof=1))


def test_history_that_says_nothing() -> None:
    empty = Moments.of(("a", "b"), np.empty((0, 2)))
    for found, reason in (
        (from_history(empty, "a", kind="mean"), "too-few-units"),
        (ratio(empty, "a", "b"), "too-few-units"),
        (from_history(HISTORY, "nothing", kind="conversion"), "no-variance"),
        (ratio(HISTORY, "revenue", "nothing"), "zero-denominator"),
    ):
        assert isinstance(found, NotEstimable)
        assert found.reason == reason
