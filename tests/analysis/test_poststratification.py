"""Post-stratification against statsmodels' saturated regression, by hand, and its coverage."""

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pytest
import statsmodels.api as sm

from klartext.analysis import adjustment, contrast
from klartext.analysis.adjustment import Adjusted
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.poststratification import post_stratified
from tests.analysis.golden.units import rows

Strata: TypeAlias = Mapping[str, tuple[Moments, Moments]]


def moments(*values: float) -> Moments:
    return Moments.of(("y",), np.array(values, dtype=float).reshape(-1, 1))


HAND = {
    "new": (moments(1, 3), moments(0, 2)),
    "old": (moments(10, 12, 14), moments(7, 9, 11)),
}


def found(strata: Strata) -> Adjusted:
    result = post_stratified(strata, "y")
    assert isinstance(result, Adjusted)
    return result


def test_by_hand() -> None:
    # Shares 0.4 and 0.6, effects 1 and 3: 2.2. Cells have variances 2 2, 4 4: 0.16 (1 + 1) +
    # 0.36 (4/3 + 4/3) = 1.28; between 0.4·1.44 + 0.6·0.64 = 0.96, / 10: together 1.376
    result = found(HAND)
    assert result.contrast.value == pytest.approx(2.2, rel=1e-13)
    assert result.contrast.variance == pytest.approx(1.376, rel=1e-13)
    # The levels are 0.4·2 + 0.6·12 and 0.4·1 + 0.6·9
    assert (result.contrast.treatment, result.contrast.control) == pytest.approx((8, 5.8))
    # and share 0.4·(-6)·(-4.8) + 0.6·4·3.2 = 19.2 over ten units
    assert result.contrast.covariance[2] == pytest.approx(1.92, rel=1e-12)


def table(n: int, start: int, lift: float) -> tuple[FloatArray, FloatArray]:
    data = rows(n, start, lift)
    return data[:, 0], np.floor((data[:, 4] - 18) / 13)


def strata_of(one: tuple[FloatArray, FloatArray], base: tuple[FloatArray, FloatArray]) -> Strata:
    keys = np.unique(one[1])
    return {
        str(key): (moments(*one[0][one[1] == key]), moments(*base[0][base[1] == key]))
        for key in keys
    }


ONE, BASE = table(900, 1, 1.05), table(700, 50_000, 1.0)


@pytest.mark.golden("statsmodels 0.15: OLS of cells, HC2")
def test_equals_the_saturated_regression() -> None:
    # statsmodels OLS on one dummy per cell: HC2 is then exactly s^2/n per cell, so that the
    # weighted contrast of coefficients has our variance without the error of the shares
    y = np.concatenate([ONE[0], BASE[0]])
    stratum = np.concatenate([ONE[1], BASE[1]])
    is_treatment = np.repeat([1.0, 0.0], [900, 700])
    keys = np.unique(stratum)
    dummies = (stratum[:, None] == keys).astype(float)
    design = np.hstack([dummies * is_treatment[:, None], dummies * (1 - is_treatment[:, None])])
    fit = sm.OLS(y, design).fit(cov_type="HC2")
    shares = dummies.mean(axis=0)
    test = fit.t_test(np.concatenate([shares, -shares]))
    effects = fit.params[: len(keys)] - fit.params[len(keys) :]
    between = float((shares * (effects - shares @ effects) ** 2).sum() / 1600)
    result = found(strata_of(ONE, BASE)).contrast
    assert result.value == pytest.approx(float(test.effect[0]), rel=1e-10)
    assert result.variance == pytest.approx(float(test.sd[0, 0]) ** 2 + between, rel=1e-10)


def test_value_equals_lin_with_dummies() -> None:
    names = ("y", "a", "b", "c")

    def with_dummies(side: tuple[FloatArray, FloatArray]) -> Moments:
        dummies = [(side[1] == key).astype(float) for key in (1, 2, 3)]
        return Moments.of(names, np.column_stack([side[0], *dummies]))

    lin = adjustment.lin(with_dummies(ONE), with_dummies(BASE), "y", names[1:])
    assert isinstance(lin, Adjusted)
    result = found(strata_of(ONE, BASE))
    assert result.contrast.value == pytest.approx(lin.contrast.value, rel=1e-9)
    assert result.contrast.variance == pytest.approx(lin.contrast.variance, rel=0.01)
    assert result.unadjusted.value == pytest.approx(lin.unadjusted.value, rel=1e-12)
    assert result.variance_removed == pytest.approx(lin.variance_removed, abs=0.01)


def test_one_stratum_is_welch() -> None:
    result = found({"all": HAND["old"]})
    welch = contrast.of_means(*(side.sample("y") for side in HAND["old"]))
    assert not isinstance(welch, NotEstimable)
    assert result.contrast.value == welch.value
    assert result.contrast.variance == pytest.approx(welch.variance, rel=1e-14)
    assert result.contrast.df == pytest.approx(welch.df, rel=1e-12)
    assert result.variance_removed == pytest.approx(0, abs=1e-14)


def test_swapping_scaling_and_order() -> None:
    plain = found(HAND).contrast
    swapped = found({key: (c, t) for key, (t, c) in HAND.items()}).contrast
    assert swapped.value == pytest.approx(-plain.value)
    assert swapped.variance == pytest.approx(plain.variance)
    turned = found(dict(reversed(HAND.items()))).contrast
    assert turned.value == pytest.approx(plain.value, rel=1e-14)
    assert turned.variance == pytest.approx(plain.variance, rel=1e-14)
    thousand = {
        "new": (moments(1000, 3000), moments(0, 2000)),
        "old": (moments(10e3, 12e3, 14e3), moments(7e3, 9e3, 11e3)),
    }
    assert found(thousand).contrast.std_error == pytest.approx(1000 * plain.std_error)


@pytest.mark.parametrize(
    ("strata", "reason"),
    [
        ({}, "no-units"),
        ({"a": HAND["old"], "b": (moments(), moments(1, 2))}, "too-few-units"),
        ({"a": HAND["old"], "b": (moments(1, 2), moments(3))}, "too-few-units"),
        ({"a": (moments(1, 1), moments(1, 1)), "b": (moments(1, 1), moments(1, 1))}, "no-variance"),
        ({"a": HAND["old"], "b": (moments(1, math.nan), moments(3, 1))}, "not-finite"),
    ],
)
def test_degenerate_strata_have_a_reason(strata: Strata, reason: str) -> None:
    refused = post_stratified(strata, "y")
    assert isinstance(refused, NotEstimable)
    assert refused.reason == reason
    if reason == "too-few-units":
        assert refused.detail.startswith("stratum b")


def test_a_constant_stratum_among_others_is_fine() -> None:
    strata = {**HAND, "idle": (moments(0, 0, 0), moments(0, 0))}
    assert found(strata).contrast.variance > 0


@pytest.mark.slow
def test_coverage_needs_the_error_of_the_shares() -> None:
    # effects 0, 2, 8 in strata of 50, 30, 20 %, little noise: without the term between the
    # strata the interval would cover far too little. 3,000 replications: se 0.004
    rng = np.random.default_rng(70)
    effect, truth = np.array([0.0, 2.0, 8.0]), 2.2
    hits = without = 0
    for _ in range(3000):
        sides = []
        for size, factor in ((400, 1.0), (300, 0.0)):
            stratum = rng.choice(3, size=size, p=[0.5, 0.3, 0.2])
            noise = rng.standard_normal(size)
            sides.append((factor * effect[stratum] + noise, stratum.astype(float)))
        result = found(strata_of(sides[0], sides[1])).contrast
        estimate = contrast.fixed(result, alpha=0.05, single_look=True)
        assert isinstance(estimate, Estimate)
        assert isinstance(estimate.interval, Interval)
        hits += estimate.interval.lower <= truth <= estimate.interval.upper
        narrow = math.sqrt(math.fsum(source.variance for source in result.sources[:-1]))
        without += abs(result.value - truth) <= 1.96 * narrow
    assert hits / 3000 == pytest.approx(0.95, abs=4 * 0.004)
    assert without / 3000 < 0.85
