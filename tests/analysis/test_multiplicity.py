"""Adjusted p-values against statsmodels and the examples of the papers."""

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from statsmodels.stats.multitest import multipletests

from klartext.analysis import multiplicity
from klartext.analysis.estimate import NotEstimable

# Benjamini, Hochberg (1995), section 4.1: 15 comparisons of a trial of thrombolysis
PAPER = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
]  # fmt: skip
METHODS = [
    (multiplicity.holm, "holm"),
    (multiplicity.benjamini_hochberg, "fdr_bh"),
    (multiplicity.benjamini_yekutieli, "fdr_by"),
]
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@pytest.mark.golden("statsmodels 0.15: multipletests")
@pytest.mark.parametrize(("method", "name"), METHODS)
@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_equals_statsmodels(method: Any, name: str, size: int) -> None:
    values = np.random.default_rng(size).beta(0.3, 1.5, size).round(3).tolist()  # with ties
    expected = multipletests(values, method=name)[1]
    assert method(values) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.golden("Benjamini, Hochberg (1995), section 4.1")
def test_the_papers_example() -> None:
    # Benjamini, Hochberg (1995): at 5 % their procedure rejects four, Bonferroni's three
    assert sum(p <= 0.05 for p in multiplicity.benjamini_hochberg(PAPER)) == 4  # type: ignore[operator] # numbers only
    assert sum(p <= 0.05 for p in multiplicity.holm(PAPER)) == 3  # type: ignore[operator] # numbers only
    # and the fourth of them is 15 · 0.0095 / 4
    assert multiplicity.benjamini_hochberg(PAPER)[3] == pytest.approx(0.035625)


def test_holm_by_hand() -> None:
    # 4 · 0.005, 3 · 0.01, max(2 · 0.03, 0.03), max(0.04, 0.06)
    assert multiplicity.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert multiplicity.holm([0.2]) == (0.2,)
    assert multiplicity.holm([]) == ()


@pytest.mark.parametrize(("method", "_name"), METHODS)
@given(p_values, st.randoms())
def test_order_does_not_matter(
    method: Any, _name: str, values: list[float], random: Random
) -> None:
    places = list(range(len(values)))
    random.shuffle(places)
    plain = method(values)
    assert method([values[place] for place in places]) == tuple(plain[place] for place in places)
    assert all(0 <= p <= a <= 1 for p, a in zip(values, plain, strict=True))


@pytest.mark.parametrize(("method", "_name"), METHODS)
def test_what_is_not_estimable_counts_and_stays(method: Any, _name: str) -> None:
    none = NotEstimable("burn-in", "too early")
    result = method([0.01, none, 0.02])
    assert result[1] is none
    with_one = method([0.01, 1.0, 0.02])
    assert (result[0], result[2]) == (with_one[0], with_one[2])


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_p_values_must_be_probabilities(bad: float) -> None:
    for method, _ in METHODS:
        with pytest.raises(ValueError, match="p-value"):
            method([0.5, bad])


def test_error_per_treatment() -> None:
    assert multiplicity.per_treatment(0.05, variants=2) == 0.05
    assert multiplicity.per_treatment(0.05, variants=5) == 0.0125
    for alpha, variants in ((0.0, 3), (1.0, 3), (0.05, 1)):
        with pytest.raises(ValueError, match=r"alpha|variants"):
            multiplicity.per_treatment(alpha, variants=variants)


def test_family_error_and_discovery_rate_with_a_shared_control() -> None:
    # 20,000 replications of 8 comparisons with one control, 4 without effect; se at 5 % 0.0015
    rng = np.random.default_rng(33)
    z = rng.standard_normal((20_000, 9))
    effect = np.array([0, 0, 0, 0, 2.5, 3, 3.5, 4])
    p = 2 * special.ndtr(-np.abs((z[:, :8] - z[:, 8:]) / np.sqrt(2) + effect))
    family = discoveries = 0.0
    for each in p[:4000]:
        family += any(a <= 0.05 for a in multiplicity.holm(each.tolist())[:4])  # type: ignore[operator] # numbers only
        found = [a <= 0.05 for a in multiplicity.benjamini_hochberg(each.tolist())]  # type: ignore[operator] # numbers only
        discoveries += sum(found[:4]) / max(1, sum(found))
    assert family / 4000 <= 0.05 + 4 * 0.0034
    assert discoveries / 4000 <= 0.05 + 4 * 0.0034
