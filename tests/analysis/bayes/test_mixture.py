"""Mixtures of normals: one component is scipy's normal, two are done by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from klartext.analysis.bayes.mixture import NormalMixture

parts = st.lists(
    st.tuples(st.floats(0.01, 1), st.floats(-50, 50), st.floats(1e-3, 20)), min_size=1, max_size=6
)


def mixture(rows: list[tuple[float, float, float]]) -> NormalMixture:
    table = np.array(rows)
    weights = table[:, 0] / table[:, 0].sum()
    return NormalMixture(weights, table[:, 1:2], table[:, 2:] ** 2)


@pytest.mark.golden("scipy 1.17: stats.norm")
def test_one_component_is_normal() -> None:
    found = mixture([(1.0, 3.0, 2.0)])
    law = stats.norm(3.0, 2.0)
    assert (found.mean[0], found.sd[0]) == (3.0, 2.0)
    for p in (0.001, 0.025, 0.5, 0.975):
        assert found.quantile(p)[0] == pytest.approx(law.ppf(p), rel=1e-12, abs=1e-12)
    assert found.probability_above(1.0)[0] == pytest.approx(law.sf(1.0), rel=1e-14)


def test_two_components_by_hand() -> None:
    # half N(0, 1), half N(4, 9): mean 2, variance 5 + 4
    found = mixture([(0.5, 0.0, 1.0), (0.5, 4.0, 3.0)])
    assert found.mean[0] == 2.0
    assert found.sd[0] == 3.0
    expected = 0.5 * stats.norm.sf(1.0) + 0.5 * stats.norm.sf(-1.0)
    assert found.probability_above(1.0)[0] == pytest.approx(expected, rel=1e-14)


@given(parts, st.floats(1e-4, 1 - 1e-4))
def test_quantiles_invert_the_distribution_function(
    rows: list[tuple[float, float, float]], p: float
) -> None:
    found = mixture(rows)
    x = float(found.quantile(p)[0])
    below = found.weights @ stats.norm.cdf(x, found.means[:, 0], np.sqrt(found.variances[:, 0]))
    assert below == pytest.approx(p, abs=1e-9)


def test_points_have_no_spread() -> None:
    found = NormalMixture(np.array([1.0]), np.array([[0.0, 2.0]]), np.array([[0.0, 0.0]]))
    assert found.quantile(0.3).tolist() == pytest.approx([0.0, 2.0], abs=1e-12)
    assert found.probability_above(1.0).tolist() == [0.0, 1.0]
    assert found.sd.tolist() == [0.0, 0.0]
