"""Common slopes: against the rows themselves, against Lin's regression, and by simulation."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from scipy import stats

from klartext.analysis import adjustment, common_slopes, means
from klartext.analysis.adjusted import money
from klartext.analysis.common_slopes import Adjusted, adjusted
from klartext.analysis.contrast import Contrast, fixed
from klartext.analysis.document import to_json
from klartext.analysis.estimate import Estimate, Interval, NotEstimable, affine
from klartext.analysis.guardrails import read_guardrail
from klartext.analysis.look import Look
from klartext.analysis.moments import FloatArray, Moments
from klartext.experiments.experiment import (
    Assumption,
    Covariate,
    Experiment,
    Guardrail,
    Inference,
    Plan,
    Rollout,
)
from tests.analysis.samples import CONVERSION, REVENUE, START, evaluated, experiment, readout

COLUMNS = ("margin", "cost", "net", "a", "b")
FIXED = Look("fixed", None, deciding=True)


def rows(rng: np.random.Generator, n: int, *, effect: float, slope: float) -> FloatArray:
    """Units whose margin and cost depend on two covariates, of which one is skewed."""
    a, b = rng.exponential(20, n), rng.normal(5, 2, n)
    margin = effect + slope * a + 1.5 * b + rng.normal(0, 10, n)
    cost = 0.5 + 0.02 * a + rng.gamma(2.0, 0.1, n)
    return np.column_stack([margin, cost, margin - cost, a, b])


def pair(seed: int = 1, sizes: tuple[int, int] = (400, 2600)) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    return rows(rng, sizes[0], effect=2.0, slope=0.9), rows(rng, sizes[1], effect=0.0, slope=0.4)


def found(one: FloatArray, base: FloatArray, covariates: tuple[str, ...] = ("a", "b")) -> Adjusted:
    result = adjusted(Moments.of(COLUMNS, one), Moments.of(COLUMNS, base), COLUMNS[:3], covariates)
    assert isinstance(result, Adjusted)
    return result


def test_moments_are_those_of_adjusted_rows() -> None:
    one, base = pair()
    result = found(one, base)
    centre = np.vstack([one, base])[:, 3:].mean(axis=0)
    sxx = sum(np.cov(x[:, 3:].T) / len(x) for x in (one, base))
    for place, outcome in enumerate(COLUMNS[:3]):
        sxy = sum(
            (x[:, 3:] - x[:, 3:].mean(axis=0)).T @ x[:, place] / (len(x) - 1) / len(x)
            for x in (one, base)
        )
        theta = np.linalg.solve(sxx, sxy)
        assert result.slopes[outcome] == pytest.approx(theta, rel=1e-9)
        for moments, x in ((result.treatment, one), (result.control, base)):
            values = x[:, place] - (x[:, 3:] - centre) @ theta
            sample = moments.sample(outcome)
            grow = (len(x) - 1) / (len(x) - 3)
            assert sample.mean == pytest.approx(values.mean(), rel=1e-10)
            assert sample.variance == pytest.approx(values.var(ddof=1) * grow, rel=1e-10)
    net, margin, cost = (result.treatment.sample(name) for name in ("net", "margin", "cost"))
    assert net.mean == pytest.approx(margin.mean - cost.mean, rel=1e-12)
    joint = result.treatment.covariance("margin", "cost")
    assert net.variance == pytest.approx(margin.variance + cost.variance - 2 * joint, rel=1e-9)


def test_no_common_slope_leaves_less_variance() -> None:
    one, base = pair()
    result = found(one, base)
    best = (
        result.treatment.sample("net").variance / 400 + result.control.sample("net").variance / 2600
    )
    for seed in range(20):
        theta = result.slopes["net"] + np.random.default_rng(seed).normal(0, 0.05, 2)
        other = sum(
            (x[:, 2] - x[:, 3:] @ theta).var(ddof=1) / len(x) * (len(x) - 1) / (len(x) - 3)
            for x in (one, base)
        )
        assert other >= best * (1 - 1e-12)


@pytest.mark.parametrize("sizes", [(400, 2600), (2600, 400), (1500, 1500)])
def test_close_to_full_interactions_at_any_split(sizes: tuple[int, int]) -> None:
    one, base = pair(3, sizes)
    contrast = found(one, base).contrast("net")
    lin = adjustment.lin(Moments.of(COLUMNS, one), Moments.of(COLUMNS, base), "net", ("a", "b"))
    assert isinstance(contrast, Contrast)
    assert not isinstance(lin, NotEstimable)
    assert contrast.value == pytest.approx(lin.contrast.value, abs=0.1 * lin.contrast.std_error)
    assert contrast.std_error == pytest.approx(lin.contrast.std_error, rel=0.02)
    assert contrast.treatment == pytest.approx(lin.contrast.treatment, rel=0.02)


def test_the_contrast_and_the_moments_say_the_same() -> None:
    result = found(*pair())
    for outcome in COLUMNS[:3]:
        contrast = result.contrast(outcome)
        assert isinstance(contrast, Contrast)
        one, base = result.treatment.sample(outcome), result.control.sample(outcome)
        assert contrast.value == pytest.approx(one.mean - base.mean, rel=1e-12)
        assert contrast.variance == pytest.approx(
            one.variance_of_mean + base.variance_of_mean, rel=1e-9
        )


def test_levels_share_the_error_of_the_common_mean() -> None:
    # T = y_T - (n_C/n) theta' (x_T - x_C), C likewise: variances and covariance from the rows
    one, base = pair()
    result = found(one, base)
    contrast, theta = result.contrast("margin"), result.slopes["margin"]
    assert isinstance(contrast, Contrast)
    k, m = 2600 / 3000, 400 / 3000
    x, z = one[:, 3:] @ theta, base[:, 3:] @ theta
    in_one = np.cov(np.vstack([one[:, 0] - k * x, m * x])) / 400
    in_base = np.cov(np.vstack([k * z, base[:, 0] - m * z])) / 2600
    expected = in_one + in_base
    var_t, var_c, joint = contrast.covariance
    assert (var_t, var_c) == pytest.approx((expected[0, 0], expected[1, 1]), rel=0.01)
    assert joint == pytest.approx(expected[0, 1], rel=0.01, abs=1e-4)


def test_what_does_not_vary_is_left_out() -> None:
    one, base = pair()
    one[:, 4], base[:, 4] = 2 * one[:, 3], 2 * base[:, 3]
    twice = found(one, base)
    assert (twice.used, twice.dropped) == (("a",), (("b", "collinear"),))
    for x in (one, base):
        x[:, 3:] = 7.0
    none = found(one, base)
    assert none.used == ()
    assert none.treatment.m2 == pytest.approx(Moments.of(COLUMNS, one).m2)
    few = adjusted(Moments.of(COLUMNS, one[:1]), Moments.of(COLUMNS, base), ("net",), ("a",))
    assert isinstance(few, NotEstimable)
    with pytest.raises(ValueError, match="at least one"):
        adjusted(Moments.of(COLUMNS, one), Moments.of(COLUMNS, base), ("net",), ())


def test_swapping_the_variants_turns_the_sign() -> None:
    one, base = pair()
    there, back = found(one, base).contrast("net"), found(base, one).contrast("net")
    assert isinstance(there, Contrast)
    assert isinstance(back, Contrast)
    assert back.value == pytest.approx(-there.value, rel=1e-12)
    assert back.variance == pytest.approx(there.variance, rel=1e-12)


HISTORY = replace(REVENUE, covariates=(Covariate(name="history"),))


def spec(*, covariate: bool, mode: str = "fixed") -> Experiment:
    return experiment(
        metrics=(CONVERSION, HISTORY if covariate else REVENUE),
        plan=Plan(START, None, 2000, {}),
        inference=Inference(mode, Decimal("0.05"), Decimal("0.1")),  # type: ignore[arg-type]
        rollout=Rollout(*(Assumption(Decimal(x)) for x in (1000, 1, 1, 0))),
        guardrails=(Guardrail("revenue", may_worsen_by=Decimal(1)),),
    )


def units(rng: np.random.Generator, n: int, *, effect: float, each: float) -> dict[str, FloatArray]:
    """Units whose margin and cost both follow their history, correlated beyond it too."""
    history = rng.exponential(20, n)
    noise = rng.normal(0, 10, n)
    margin = 30 + effect + (0.8 if effect else 0.5) * (history - 20) + noise
    cost = each * (1 + 0.01 * (history - 20) + 0.02 * noise + rng.normal(0, 0.1, n))
    return {"conversion": (margin > 30).astype(float), "revenue": margin, "margin": margin,
            "cost": cost, "covariate.history": history}  # fmt: skip


def test_money_reads_the_adjusted_pair() -> None:
    rng = np.random.default_rng(5)
    data = {"control": units(rng, 900, effect=0, each=0.0), "ai": units(rng, 500, effect=2, each=1)}
    with_it, without = spec(covariate=True), spec(covariate=False)
    ours = evaluated(with_it, readout(with_it, data))
    plain = evaluated(without, readout(without, {
        key: {name: values for name, values in one.items() if name != "covariate.history"}
        for key, one in data.items()
    }))  # fmt: skip
    (view,) = [one.outlook for one in ours.treatments]
    (raw,) = [one.outlook for one in plain.treatments]
    assert plain.treatments[0].unadjusted is None
    assert ours.treatments[0].unadjusted == (plain.treatments[0].window, raw)
    written: Any = to_json(ours)["by_variant"]
    assert written[0]["unadjusted"]["outlook"]["net_benefit"] == pytest.approx(raw.net_benefit)
    assert "unadjusted" not in to_json(plain)["by_variant"][0]  # type: ignore[index,operator]
    assert isinstance(view.interval, Interval)
    assert isinstance(raw.interval, Interval)
    width, raw_width = (found.upper - found.lower for found in (view.interval, raw.interval))
    assert width < 0.8 * raw_width
    net = ours.metrics[0]
    assert [method for method, _ in net.estimates] == ["adjusted", "welch"]
    _, first = net.estimates[0]
    assert isinstance(first, Estimate)
    assert isinstance(first.interval, Interval)
    assert view.interval.lower == pytest.approx(1000 * first.interval.lower, rel=1e-6)
    assert net.adjustment is not None
    assert net.adjustment.covariates == ("covariate.history",)
    assert isinstance(net.adjustment.variance_removed, float)
    assert net.adjustment.variance_removed == pytest.approx(1 - (width / raw_width) ** 2, abs=2e-3)
    # ROI of the window: Fieller of the adjusted rows, margin over cost
    money_ = money(with_it, *(readout(with_it, data).moments[k] for k in ("ai", "control")),
                   look=FIXED, alpha=0.05)  # fmt: skip
    window = ours.treatments[0].window
    one, base = money_.treatment, money_.control
    gain = one.sample("margin").mean - base.sample("margin").mean
    spend = one.sample("cost").mean - base.sample("cost").mean
    assert window.roi == pytest.approx(gain / spend - 1, rel=1e-9)
    assert window.incremental_margin == pytest.approx(500 * gain, rel=1e-9)
    limit = with_it.guardrails[0]
    sides = [readout(with_it, data).moments[key] for key in ("ai", "control")]
    lin = adjustment.lin(sides[0], sides[1], "revenue", ("covariate.history",))
    assert not isinstance(lin, NotEstimable)
    for factor, guardrail in (
        (1.0, limit),
        (0.9, Guardrail("revenue", may_worsen_by_relative=Decimal("0.1"))),
    ):
        reading = read_guardrail(with_it, guardrail, sides[0], sides[1], look=FIXED, alpha=0.05)
        expected = fixed(lin.contrast.times_control(factor), alpha=0.05, single_look=True)
        assert isinstance(expected, Estimate)
        assert reading.harm == affine(expected.interval, scale=-1.0, shift=0.0)


def test_without_covariates_nothing_changes() -> None:
    rng = np.random.default_rng(6)
    plan = spec(covariate=False)
    data = {key: units(rng, 300, effect=0, each=1) for key in ("control", "ai")}
    for one in data.values():
        del one["covariate.history"]
    moments = readout(plan, data).moments
    found_ = money(plan, moments["ai"], moments["control"], look=FIXED, alpha=0.05)
    assert found_.treatment is moments["ai"]
    assert found_.control is moments["control"]
    assert (found_.estimates, found_.adjustment) == ((), None)


def test_adjusted_net_benefit_covers_and_is_narrower() -> None:
    # 400 replications at 95 %: se 0.011; unequal split, unequal slopes, cost follows margin
    rng = np.random.default_rng(20261122)
    plan = spec(covariate=True)
    hits = rejected = 0
    widths = []
    for _ in range(400):
        data = {
            "control": units(rng, 700, effect=0, each=0.0),
            "ai": units(rng, 200, effect=2, each=1),
        }
        found_ = readout(plan, data).moments
        result = money(plan, found_["ai"], found_["control"], look=FIXED, alpha=0.05)
        ((_, estimate),) = result.estimates
        assert isinstance(estimate, Estimate)
        assert isinstance(estimate.interval, Interval)
        hits += estimate.interval.lower <= 1.0 <= estimate.interval.upper
        rejected += estimate.interval.lower > 0
        raw = means.welch(
            found_["ai"].sample("net"), found_["control"].sample("net"), alpha=0.05,
            single_look=True,
        )  # fmt: skip
        assert isinstance(raw, Estimate)
        widths.append(estimate.std_error / raw.std_error)
    band = 3 * stats.binom(400, 0.95).std() / 400
    assert abs(hits / 400 - 0.95) < band
    assert max(widths) < 1
    assert common_slopes.METHOD == "adjusted"
    assert rejected > 0
