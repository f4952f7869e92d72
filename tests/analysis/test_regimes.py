"""Moved weights: by hand, against a saturated regression, and under a trend in time."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm

from klartext.analysis.document import dumps, moments_to_json, to_json
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.means import welch
from klartext.analysis.moments import Moments
from klartext.analysis.readout import Readout, Regime
from klartext.analysis.regimes import combined
from klartext.experiments.experiment import BanditPolicy, Plan, Variant
from klartext.experiments.splits import Split
from tests.analysis.samples import (
    DAY,
    START,
    evaluated,
    experiment,
    exposure,
    purchase,
    read,
    readout,
    shop,
    tables,
    unit_rows,
)

EVEN = {"control": 500_000, "ai": 500_000}
MOSTLY_AI = {"control": 200_000, "ai": 800_000}


def moments(*values: float) -> Moments:
    return Moments.of(("x",), np.array(values, dtype=np.float64).reshape(-1, 1))


def test_one_regime_is_itself() -> None:
    ai, control = moments(1, 2), moments(0, 4)
    assert combined([{"ai": ai, "control": control}]) == {"ai": ai, "control": control}
    empty = {"ai": moments(), "control": moments()}
    assert combined([empty, {"ai": ai, "control": control}, empty])["ai"] is ai
    assert combined([empty, empty])["ai"].n == 0


def test_two_regimes_by_hand() -> None:
    """Six units, then four: weights 0.6 and 0.4.

    Means of ai 0.6 * 2 + 0.4 * 10 = 5.2, of control 0.6 * 1 + 0.4 * 6 = 3. Variances of the means:
    of ai 0.36 * 1/2 + 0.16 * 4/3 = 0.393333, of control 0.36 * 2/4 + 0.16 * 0 / 1.
    """
    found = combined(
        [
            {"ai": moments(1.2928932188134524, 2.7071067811865475), "control": moments(0, 0, 2, 2)},
            {"ai": moments(8, 10, 12), "control": moments(6)},
        ]
    )
    assert isinstance(found["control"].missing, NotEstimable)
    found = combined(
        [
            {"ai": moments(1.2928932188134524, 2.7071067811865475), "control": moments(0, 0, 2, 2)},
            {"ai": moments(8, 12), "control": moments(6, 6)},
        ]
    )
    ai, control = found["ai"].sample("x"), found["control"].sample("x")
    assert (ai.n, control.n, found["ai"].regimes) == (4, 6, 2)
    assert ai.mean == pytest.approx(0.6 * 2 + 0.4 * 10)
    assert control.mean == pytest.approx(0.6 * 1 + 0.4 * 6)
    assert ai.variance_of_mean == pytest.approx(0.36 * 1 / 2 + 0.16 * 8 / 2)
    assert control.variance_of_mean == pytest.approx(0.36 * (4 / 3) / 4)
    assert found["control"].nonzero.tolist() == [4]


def test_the_third_cumulant_is_that_of_all_possible_draws() -> None:
    """Two units from (0, 1, 5) with weight 0.7, three from (2, 2, 9) with 0.3: all 243 draws."""
    one, other = np.array([0.0, 1.0, 5.0]), np.array([2.0, 2.0, 9.0])
    draws = [
        0.7 * np.mean(a) + 0.3 * np.mean(b)
        for a in itertools.product(one, repeat=2)
        for b in itertools.product(other, repeat=3)
    ]
    cumulant = np.mean((draws - np.mean(draws)) ** 3)

    def of(population: npt.NDArray[np.float64], n: int) -> Moments:
        exact = moments(*population)
        return replace(exact, n=n, m2=exact.m2 * n / 3, m3=exact.m3 * n / 3)

    # With five units of the control, the shares of all are 0.7 and 0.3.
    found = combined(
        [{"ai": of(one, 2), "control": of(one, 5)}, {"ai": of(other, 3), "control": of(other, 0)}]
    )
    assert found["control"].missing is not None
    sample = found["ai"].sample("x")
    assert sample.m3 / sample.n**3 == pytest.approx(cumulant, rel=1e-12)


@pytest.mark.golden("statsmodels 0.15: OLS of cells, HC2")
def test_it_is_the_saturated_regression_of_statsmodels() -> None:
    """OLS on regime x variant with HC2 errors has these very variances (MacKinnon, White 1985)."""
    rng = np.random.default_rng(7)
    sizes = {(0, 0): 40, (0, 1): 60, (1, 0): 15, (1, 1): 85}
    values = {cell: rng.exponential(1 + cell[0] + cell[1], n) for cell, n in sizes.items()}
    found = combined(
        [{"control": moments(*values[r, 0]), "ai": moments(*values[r, 1])} for r in (0, 1)]
    )
    y = np.concatenate(list(values.values()))
    design = np.repeat(np.eye(4), list(sizes.values()), axis=0)
    model = sm.OLS(y, design).fit(cov_type="HC2")
    test = model.t_test(np.array([-0.5, 0.5, -0.5, 0.5]))
    estimate = welch(found["ai"].sample("x"), found["control"].sample("x"), alpha=0.05,
                     single_look=True)  # fmt: skip
    assert isinstance(estimate, Estimate)
    assert estimate.value == pytest.approx(test.effect[0], rel=1e-12)
    assert estimate.std_error == pytest.approx(test.sd[0][0], rel=1e-12)


def test_covariances_combine_as_the_variance_of_a_sum() -> None:
    rng = np.random.default_rng(3)
    parts = []
    for n in (30, 50):
        xy = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.5], [0.0, 2.0]])
        rows = np.column_stack([xy, xy.sum(axis=1)])
        parts.append({"ai": Moments.of(("x", "y", "x+y"), rows)})
    found = combined(parts)["ai"]
    total = found.sample("x").variance + found.sample("y").variance
    total += 2 * found.covariance("x", "y")
    assert found.sample("x+y").variance == pytest.approx(total)


def test_combined_moments_do_not_merge() -> None:
    part = {"ai": moments(1, 2)}
    with pytest.raises(ValueError, match="cannot be merged"):
        combined([part, part])["ai"] + moments(1, 2)


def test_under_a_trend_pooling_is_wrong_and_regimes_cover() -> None:
    """No effect, a mean that doubles, weights from 50/50 to 10/90: 2,000 experiments."""
    rng = np.random.default_rng(20261122)
    covered = pooled_covered = 0
    for _ in range(2_000):
        parts = [
            {"control": moments(*rng.exponential(1, 200)), "ai": moments(*rng.exponential(1, 200))},
            {"control": moments(*rng.exponential(2, 60)), "ai": moments(*rng.exponential(2, 540))},
        ]
        found = combined(parts)
        pooled = {key: parts[0][key] + parts[1][key] for key in ("control", "ai")}
        covered += _covers_zero(found)
        pooled_covered += _covers_zero(pooled)
    band = 3 * np.sqrt(0.95 * 0.05 / 2_000)  # of 2,000 draws; skewed means cost a little more
    assert 0.95 - band - 0.01 < covered / 2_000 < 0.95 + band
    assert pooled_covered / 2_000 < 0.2


def _covers_zero(found: dict[str, Moments]) -> bool:
    estimate = welch(found["ai"].sample("x"), found["control"].sample("x"), alpha=0.05,
                     single_look=True)  # fmt: skip
    assert isinstance(estimate, Estimate)
    assert isinstance(estimate.interval, Interval)
    return estimate.interval.lower <= 0 <= estimate.interval.upper


SPLITS = (Split(1, START - DAY, EVEN), Split(3, START + 5 * DAY, MOSTLY_AI))


def facts(*rows: dict[str, Any]) -> Any:
    return tables(list(rows), [purchase(i, str(i), days=5.5) for i in range(1, 9)])


def test_a_unit_belongs_to_the_split_that_assigned_it() -> None:
    late = START + 5 * DAY
    found = facts(
        exposure(1, "ai"),
        exposure(2, "ai", occurred_at=late),
        exposure(3, "ai", occurred_at=late, policy_version=2),  # allocated before the change
        exposure(4, "ai", policy_version=3),
        exposure(5, "ai", occurred_at=late, policy_version=4),
        exposure(6, "ai"),
        exposure(6, "ai", occurred_at=late),  # first exposure wins
        exposure(7, "ai", policy_version=3),
        exposure(7, "ai", policy_version=1),  # at one instant the earlier split
    )
    rows = unit_rows(experiment(), found, splits=SPLITS)
    assert {unit: row["regime"] for unit, row in rows.items()} == {
        1: 0, 2: 1, 3: 0, 4: 1, 5: 1, 6: 0, 7: 0,
    }  # fmt: skip


def test_with_one_split_nothing_changes() -> None:
    found = facts(*(exposure(i, "ai" if i % 2 else "control") for i in range(1, 9)))
    plain, split = read(experiment(), found), read(experiment(), found, splits=SPLITS[:1])
    assert "regime" not in unit_rows(experiment(), found, splits=SPLITS[:1])[1]
    for key, one in plain.moments.items():
        other = split.moments[key]
        assert (one.mean == other.mean).all()
        assert (one.m2 == other.m2).all()
        assert (one.m3 == other.m3).all()
    assert evaluated(experiment(), plain) == evaluated(experiment(), split)
    assert moments_to_json(plain) == moments_to_json(split)


def test_the_readout_combines_within_splits() -> None:
    late = START + 5 * DAY
    found = facts(
        *(exposure(i, "ai" if i % 2 else "control") for i in range(1, 5)),
        *(exposure(i, "ai" if i % 2 else "control", occurred_at=late) for i in range(5, 9)),
        exposure(8, "ai", occurred_at=late + DAY),
        exposure(9, "control", occurred_at=late),
    )
    read_out = read(experiment(), found, splits=SPLITS)
    one, other = read_out.regimes
    assert (one.weights, other.weights) == (EVEN, MOSTLY_AI)
    assert (one.first, other.first) == ({"control": 2, "ai": 2}, {"control": 3, "ai": 2})
    assert (one.excluded, other.excluded) == ({"control": 0, "ai": 0}, {"control": 1, "ai": 0})
    assert [one.moments[key].n for key in EVEN] == [2, 2]
    revenue = read_out.moments["ai"].sample("revenue")
    assert revenue.mean == pytest.approx((1 + 3) / 2 * 0.5 + (5 + 7) / 2 * 0.5)
    assert read_out.moments["control"].sample("revenue").mean == pytest.approx(3 * 0.5 + 3 * 0.5)


def test_strays_in_a_variant_of_weight_zero_are_no_sample_of_it() -> None:
    ended = replace(SPLITS[1], weights={"control": 1_000_000, "ai": 0})
    late = START + 5 * DAY
    found = facts(
        *(exposure(i, "ai" if i % 2 else "control") for i in range(1, 5)),
        *(exposure(i, "ai" if i % 2 else "control", occurred_at=late) for i in range(5, 9)),
    )
    read_out = read(experiment(), found, splits=(SPLITS[0], ended))
    assert read_out.moments["ai"].missing is not None
    assert read_out.moments["control"].missing is None
    checks = {check.code: check for check in evaluated(experiment(), read_out).checks}
    assert checks["zero_weight"].severity == "invalid"
    assert "2 units" in checks["zero_weight"].detail
    assert checks["srm"].severity == "ok"  # no degree of freedom in the second split


def moved(
    parts: list[dict[str, dict[str, npt.NDArray[np.float64]]]],
    *weights: dict[str, int],
    **given: Any,
) -> tuple[Any, Readout]:
    spec = experiment(**given)
    whole = [readout(spec, part) for part in parts]
    regimes = tuple(
        Regime(
            weight,
            one.moments,
            {key: found.n for key, found in one.moments.items()},
            dict.fromkeys(weight, 0),
        )
        for weight, one in zip(weights, whole, strict=True)
    )
    sums = {key: sum(regime.first[key] for regime in regimes) for key in weights[0]}
    counts = tuple(
        replace(count, exposed=sums[count.variant], mature=sums[count.variant])
        for count in whole[0].counts
    )
    joined = combined([one.moments for one in whole])
    return spec, replace(whole[0], moments=joined, regimes=regimes, counts=counts, all_units=sums)


def parts(n: int = 4_000) -> list[dict[str, dict[str, npt.NDArray[np.float64]]]]:
    rng = np.random.default_rng(5)
    return [
        {"control": shop(rng, n // 2, rate=0.1), "ai": shop(rng, n // 2, rate=0.1)},
        {"control": shop(rng, n // 5, rate=0.3), "ai": shop(rng, 4 * n // 5, rate=0.3)},
    ]


def test_the_split_is_tested_period_by_period() -> None:
    spec, found = moved(parts(), EVEN, MOSTLY_AI)
    checks = {check.code: check for check in evaluated(spec, found).checks}
    assert (checks["srm"].severity, checks["split_regimes"].value) == ("ok", 2.0)
    assert "expected 2,800.0 / 5,200.0 over 2 splits" in checks["srm"].detail
    pooled = replace(found, regimes=())
    assert evaluated(spec, pooled).checks[0].severity == "invalid"


def test_rates_are_not_taken_for_binomial() -> None:
    spec, found = moved(parts(), EVEN, MOSTLY_AI)
    analysis = evaluated(spec, found)
    conversion = next(result for result in analysis.metrics if result.metric == "conversion")
    assert [method for method, _ in conversion.estimates] == ["anytime", "welch"]
    assert all(abs(e.value) < 0.03 for _, e in conversion.estimates if isinstance(e, Estimate))


def test_a_split_without_a_variant_has_no_comparison_and_no_number() -> None:
    both = parts()
    both[1]["ai"] = {name: column[:1] for name, column in both[1]["ai"].items()}
    spec, found = moved(both, EVEN, MOSTLY_AI, plan=Plan(START, None, 10_000, {}))
    analysis = evaluated(spec, found)
    for result in analysis.metrics:
        assert isinstance(result.mean, NotEstimable)
        assert result.mean.reason == "regime-lacks-variant"
        for _, estimate in result.estimates:
            assert isinstance(estimate, NotEstimable)
            assert estimate.reason == "regime-lacks-variant"
    assert analysis.decision.verdict not in {"GO", "GO_LIMITED", "STOP"}
    check = next(check for check in analysis.checks if check.code == "split_regimes")
    assert (check.severity, "ai cannot be compared" in check.detail) == ("warning", True)
    assert "NaN" not in dumps(to_json(analysis))
    stored = json.loads(dumps(moments_to_json(found)))
    assert stored["variants"]["ai"]["reason"] == "regime-lacks-variant"
    assert [regime["variants"]["ai"]["n"] for regime in stored["regimes"]] == [2_000, 1]


def test_the_plan_keeps_the_weights_it_was_made_with() -> None:
    """Half of 10,000 planned units were to be treated, whatever the weights are now."""
    spec, found = moved(parts(), EVEN, MOSTLY_AI)
    plan = replace(spec.plan, total_units=10_000)
    shifted = tuple(Variant(key, weight, {}) for key, weight in MOSTLY_AI.items())
    before, after = (
        evaluated(replace(spec, plan=plan, variants=variants), found).treatments[0].outlook
        for variants in (spec.variants, shifted)
    )
    assert before.units == after.units == 5_000


def test_a_bandit_says_that_its_intervals_are_approximate() -> None:
    policy = BanditPolicy("thompson", "conversion", 20_000)
    spec, found = moved(parts(), EVEN, MOSTLY_AI, kind="bandit", bandit=policy)
    analysis = evaluated(spec, found)
    checks = {check.code: check for check in analysis.checks}
    assert checks["srm"].severity == "ok"
    assert checks["srm"].value == 1.0
    assert "approximate" in checks["split_regimes"].detail
    assert analysis.decision.verdict not in {"GO", "GO_LIMITED"}
