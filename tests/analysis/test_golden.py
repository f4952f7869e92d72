"""Numbers from outside: how many tests have them, for which estimators, and that all are named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import COLLECTED, refuse_unnamed_sources

HERE = Path(__file__).parent
ESTIMATORS = {
    "adjustment by covariates": "test_adjustment.py",
    "balance of the split": "checks/test_srm.py",
    "Bayes, counts": "bayes/test_gamma.py",
    "Bayes, differences": "bayes/test_difference.py",
    "Bayes, hierarchy": "bayes/test_hierarchy.py",
    "Bayes, means": "bayes/test_student.py",
    "Bayes, rates": "bayes/test_beta.py",
    "Bayes, the best variant": "bayes/test_best.py",
    "bootstrap": "test_bootstrap.py",
    "exact binomial sequence": "sequential/test_binomial.py",
    "confidence sequence": "sequential/test_mixture.py",
    "group sequential tests": "sequential/test_group.py",
    "crossing of boundaries": "sequential/test_crossing.py",
    "repeated intervals": "sequential/test_repeated.py",
    "heterogeneity": "test_heterogeneity.py",
    "means": "test_means.py",
    "multiplicity": "test_multiplicity.py",
    "non-inferiority": "test_noninferiority.py",
    "planning": "test_planning.py",
    "post-stratification": "test_poststratification.py",
    "profit-maximising size": "test_profit_size.py",
    "proportions": "test_proportions.py",
    "quantiles": "test_quantiles.py",
    "quantile sequences": "test_quantile_sequence.py",
    "ratio metrics": "test_ratio_metrics.py",
    "ratios (Fieller)": "test_ratios.py",
    "regimes": "test_regimes.py",
    "relative lifts": "test_relative.py",
    "value of information": "test_information.py",
}


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """The golden tests; skips when only a part of the folder was collected."""
    items = request.config.stash[COLLECTED]
    if set(HERE.rglob("test_*.py")) - {item.path for item in items}:
        pytest.skip("counts the whole of tests/analysis, of which this run collected a part")
    return [item for item in items if item.get_closest_marker("golden")]


def test_at_least_150_tests_have_numbers_from_outside(golden: list[pytest.Item]) -> None:
    assert len(golden) >= 150


def test_every_estimator_has_one(golden: list[pytest.Item]) -> None:
    files = {item.path for item in golden}
    assert {name for name, file in ESTIMATORS.items() if HERE / file not in files} == set()


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), (("",), {}), ((" ",), {}), ((1,), {}), (("a", "b"), {}),
                         ((), {"source": "scipy"})],
)  # fmt: skip
def test_a_source_is_one_text(args: tuple[Any, ...], kwargs: dict[str, str]) -> None:
    def item(*given: Any, **named: str) -> Any:
        mark = pytest.mark.golden(*given, **named).mark
        return SimpleNamespace(nodeid="test_x.py::test_x", iter_markers=lambda _: [mark])

    refuse_unnamed_sources([item("scipy 1.17: stats.t")])
    with pytest.raises(pytest.UsageError, match=r"test_x\.py::test_x: golden takes one text"):
        refuse_unnamed_sources([item(*args, **kwargs)])
