"""The gates, with made-up draws whose faults are known."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from klartext.analysis.bayes.marginal import FloatArray
from klartext.analysis.models.diagnostics import (
    NotShown,
    PredictiveCheck,
    Shown,
    judge,
    predictive_checks,
    statistics,
)
from klartext.analysis.models.own import run
from klartext.analysis.models.sampling import Drawn, Draws
from klartext.analysis.moments import Moments

NORMAL = PredictiveCheck("mean", 0.1, np.random.default_rng(1).normal(size=4000))


def draws(diverging: int = 0, **groups: Mapping[str, FloatArray]) -> Any:
    """An InferenceData of arrays."""
    arviz = pytest.importorskip("arviz", reason='pip install "klartext[models]" to run this test')
    flags = np.zeros(next(iter(groups["posterior"].values())).shape[:2], dtype=bool)
    flags.flat[:diverging] = True
    return arviz.from_dict(sample_stats={"diverging": flags}, **groups)


def drawn(effect: FloatArray, **given: Any) -> Drawn:
    return Drawn(draws(posterior={"effect": effect}, **given), "made up", 7)


def independent(chains: int = 4, count: int = 1000) -> FloatArray:
    return np.random.default_rng(2).normal(0.5, 1.0, (chains, count))


def test_good_draws_are_shown_with_their_summary(models_extra: None) -> None:
    effect = independent()
    found = judge(drawn(effect), effects=["effect"], checks=[NORMAL], level=0.9)
    assert isinstance(found, Shown)
    (one,) = found.effects
    assert one.name == "effect"
    assert one.mean == effect.mean()
    assert one.sd == effect.std(ddof=1)
    assert (one.interval.lower, one.interval.upper) == pytest.approx(
        np.quantile(effect, (0.05, 0.95))
    )
    assert one.probability_positive == (effect > 0).mean()
    assert one.mc_error == pytest.approx(1 / np.sqrt(4000), rel=0.1)
    assert found.min_ess > 3000
    assert found.max_r_hat < 1.005
    assert (found.sampler, found.seed) == ("made up", 7)
    assert found.checks == (("mean", NORMAL.p_value),)


def test_labels_name_the_parts(models_extra: None) -> None:
    arviz = pytest.importorskip("arviz")
    values = np.random.default_rng(3).normal(size=(4, 1000, 2, 2))
    made = arviz.from_dict(
        posterior={"effects": values},
        coords={"segment": ["de", "at"], "treatment": ["a", "b"]},
        dims={"effects": ["segment", "treatment"]},
    )
    found = judge(Drawn(made, "made up", 7), effects=["effects"], checks=[NORMAL], level=0.9)
    assert isinstance(found, Shown)
    assert [one.name for one in found.effects] == [
        "effects[de, a]", "effects[de, b]", "effects[at, a]", "effects[at, b]"
    ]  # fmt: skip


def few() -> FloatArray:
    """Draws of four chains of 90, every half a permutation of the same normal quantiles."""
    rng = np.random.default_rng(6)
    quantiles = stats.norm.ppf((np.arange(45) + 0.5) / 45)
    return np.array([[*rng.permutation(quantiles), *rng.permutation(quantiles)] for _ in range(4)])


def shifted() -> FloatArray:
    return np.asarray(independent() + np.array([[0.0], [0.0], [0.0], [1.0]]))


def broken() -> FloatArray:
    effect = independent()
    effect[0, 0] = np.nan
    return effect


@pytest.mark.parametrize(
    ("effect", "reason"),
    [
        (few(), "too-few-draws"),
        (shifted(), "not-converged"),
        (broken(), "not-finite"),
        (np.ones((4, 1000)), "constant"),
        (independent(1), "too-few-chains"),
    ],
)
def test_bad_draws_are_not_shown(models_extra: None, effect: FloatArray, reason: str) -> None:
    found = judge(drawn(effect), effects=["effect"], checks=[NORMAL], level=0.9)
    assert isinstance(found, NotShown)
    assert found.reason == reason
    assert found.detail


def test_a_divergence_is_not_shown(models_extra: None) -> None:
    found = judge(drawn(independent(), diverging=1), effects=["effect"], checks=[NORMAL], level=0.9)
    assert isinstance(found, NotShown)
    assert found.reason == "divergences"
    assert found.min_ess is not None


def test_another_variable_that_has_not_converged_counts(models_extra: None) -> None:
    made = draws(
        posterior={"effect": independent(), "other": shifted(), "fixed": np.ones((4, 1000))}
    )
    found = judge(Drawn(made, "made up", 7), effects=["effect"], checks=[NORMAL], level=0.9)
    assert isinstance(found, NotShown)
    assert found.reason == "not-converged"


@pytest.mark.parametrize(
    ("checks", "reason"),
    [
        ([], "no-predictive-check"),
        ([PredictiveCheck("mean", 9.0, NORMAL.replicated)], "predictive-check-failed"),
        ([NORMAL] * 50, "predictive-check-unresolved"),
    ],
)
def test_predictive_checks_decide(
    models_extra: None, checks: list[PredictiveCheck], reason: str
) -> None:
    found = judge(drawn(independent()), effects=["effect"], checks=checks, level=0.9)
    assert isinstance(found, NotShown)
    assert found.reason == reason


def test_predictive_p_value_by_hand() -> None:
    # 2 of 9 replicates at or above, 8 at or below: 2 (2 + 1) / 10
    check = PredictiveCheck("x", 8.0, np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert check.p_value == pytest.approx(0.6)
    assert PredictiveCheck("x", 99.0, np.arange(9.0)).p_value == pytest.approx(0.2)


def test_predictive_p_values_are_uniform() -> None:
    # 2,000 checks that are true, by scipy.stats.kstest
    rng = np.random.default_rng(4)
    found = [PredictiveCheck("x", rng.normal(), rng.normal(size=999)).p_value for _ in range(2000)]
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_statistics_of_observed_variables() -> None:
    copies = np.arange(12.0).reshape(4, 3)
    names = {check.name: check for check in statistics("y", np.array([1.0, 2.0, 6.0]), copies)}
    assert list(names) == ["mean of y", "sd of y", "smallest of y", "largest of y"]
    assert names["mean of y"].observed == 3.0
    assert names["largest of y"].replicated.tolist() == [2.0, 5.0, 8.0, 11.0]
    assert len(statistics("y", np.array([1.0]), copies[:, :1])) == 1


def test_mistakes_raise(models_extra: None) -> None:
    with pytest.raises(ValueError, match="level"):
        judge(drawn(independent()), effects=["effect"], checks=[NORMAL], level=90)
    with pytest.raises(ValueError, match=r"no \['lift'\]; it has \['effect'\]"):
        judge(drawn(independent()), effects=["lift"], checks=[NORMAL], level=0.9)


MOMENTS = {
    key: Moments.of(("x",), np.random.default_rng(5).normal(mean, 1.0, (500, 1)))
    for key, mean in (("control", 1.0), ("ai", 1.2))
}


def conjugate(moments: Mapping[str, Moments], *, seed: int) -> Draws:
    """A team's model: normal means with known errors, drawn by numpy."""
    rng = np.random.default_rng(seed)
    samples = [moments[key].sample("x") for key in ("control", "ai")]
    data = np.array([sample.mean for sample in samples])
    errors = np.sqrt([sample.variance_of_mean for sample in samples])
    means = data + errors * rng.standard_normal((4, 1000, 2))
    result: Draws = draws(
        posterior={"lift": means[..., 1] - means[..., 0]},
        posterior_predictive={"means": means + errors * rng.standard_normal((4, 1000, 2))},
        observed_data={"means": data},
    )
    return result


def test_own_model_is_shown_and_repeats_itself(models_extra: None) -> None:
    found = run(conjugate, MOMENTS, effects=["lift"], seed=11, level=0.95)
    assert isinstance(found, Shown)
    assert (found.sampler, found.seed) == ("conjugate", 11)
    samples = [MOMENTS[key].sample("x") for key in ("control", "ai")]
    exact = samples[1].mean - samples[0].mean
    assert found.effects[0].mean == pytest.approx(exact, abs=4 * found.effects[0].mc_error)
    assert found == run(conjugate, MOMENTS, effects=["lift"], seed=11, level=0.95)
    assert found != run(conjugate, MOMENTS, effects=["lift"], seed=12, level=0.95)


def test_own_model_without_replicates_is_not_shown(models_extra: None) -> None:
    def blind(moments: Mapping[str, Moments], *, seed: int) -> Draws:
        full: Any = conjugate(moments, seed=seed)
        less: Draws = SimpleNamespace(posterior=full.posterior)
        assert predictive_checks(less) == ()
        return less

    found = run(blind, MOMENTS, effects=["lift"], seed=1, level=0.95)
    assert isinstance(found, NotShown)
    assert found.reason == "no-predictive-check"
