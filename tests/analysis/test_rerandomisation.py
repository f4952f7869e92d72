"""Re-randomisation: moments of a split against the rows, rates against what is known."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from klartext.analysis import rerandomisation
from klartext.analysis.columns import value_columns
from klartext.analysis.comparison import evenly
from klartext.analysis.engine import open_engine
from klartext.analysis.moments import Moments
from klartext.analysis.rerandomisation import AaResult, UnitRows, clopper_pearson, rerandomise
from klartext.analysis.sequential import crossing
from klartext.experiments.experiment import Experiment, Inference, Plan, Variant
from tests.analysis.samples import (
    DAY,
    START,
    WATERMARK,
    experiment,
    exposure,
    purchase,
    tables,
)

FIXED = experiment(inference=Inference("fixed", Decimal("0.05"), Decimal("0.1")))


def rows_of(
    spec: Experiment, revenue: np.ndarray, *, instants: np.ndarray | None = None
) -> UnitRows:
    n = len(revenue)
    known = {"conversion": (revenue > 0).astype(float), "revenue": revenue, "margin": revenue}
    known |= {"net": revenue, "outlook": revenue, "outlook_high": revenue}
    known |= {"cost": np.zeros(n), "cost_high": np.zeros(n)}
    columns = value_columns(spec)
    values = np.column_stack([known[name] for name in columns])
    return UnitRows(columns, values, np.arange(n) if instants is None else instants)


def run(spec: Experiment, rows: UnitRows, **given: int) -> AaResult:
    asked = {"repeats": 50, "looks": 4, "seed": 3} | given
    return rerandomise(spec, rows, progress=lambda _: None, **asked)


def test_the_sums_of_a_split_are_the_moments_of_its_rows() -> None:
    rng = np.random.default_rng(5)
    rows = rows_of(FIXED, 1e6 + rng.exponential(30, 999) * (rng.random(999) < 0.3))
    ends = [400, 999]
    sums = rerandomisation._split_sums(FIXED, rows, ends, np.random.default_rng(8), batch=3)
    again = np.random.default_rng(8)
    draws = np.concatenate([again.random((3, 400)), again.random((3, 599))], axis=1)
    for split in range(3):
        for look, end in enumerate(ends):
            found = rerandomisation._moments(FIXED, rows, sums[:, :, split], look)
            for place, variant in enumerate(("control", "ai")):
                mine = (draws[split, :end] >= 0.5) == bool(place)
                expected = Moments.of(rows.columns, rows.values[:end][mine])
                moments = found[variant]
                assert moments.n == expected.n
                np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-13)
                scale = np.sqrt(expected.m2.diagonal())
                np.testing.assert_allclose(
                    moments.m2, expected.m2, rtol=1e-9, atol=1e-9 * scale.max() ** 2
                )
                np.testing.assert_allclose(
                    moments.m3, expected.m3, rtol=1e-7, atol=1e-9 * scale.max() ** 3
                )
                np.testing.assert_array_equal(moments.nonzero, expected.nonzero)


@pytest.mark.golden("statsmodels 0.15: proportion_confint(method='beta')")
@pytest.mark.parametrize(("hits", "trials"), [(0, 40), (40, 40), (3, 61), (512, 10_000)])
@pytest.mark.parametrize("level", [0.95, 0.9975])
def test_bands_equal_statsmodels(hits: int, trials: int, level: float) -> None:
    expected = proportion_confint(hits, trials, alpha=1 - level, method="beta")
    found = clopper_pearson(hits, trials, level=level)
    assert found == pytest.approx(
        tuple(0.0 if np.isnan(end) else end for end in expected), abs=1e-12
    ) or (hits == trials and found[1] == 1.0 and found[0] == pytest.approx(expected[0]))
    with pytest.raises(ValueError, match="no count"):
        clopper_pearson(5, 4, level=0.95)


def test_sound_methods_keep_what_they_promise() -> None:
    rng = np.random.default_rng(2)
    revenue = rng.exponential(30, 2000) * (rng.random(2000) < 0.3)
    found = run(FIXED, rows_of(FIXED, revenue), repeats=600)
    assert (found.units, found.repeats, found.looks) == (2000, 600, 1)
    assert {(rate.metric, rate.method) for rate in found.rates} == {
        ("net", "welch"), ("conversion", "wald"), ("conversion", "newcombe"), ("revenue", "welch"),
    }  # fmt: skip
    assert not found.too_high
    assert all(rate.splits == 600 and rate.judged == "end" for rate in found.rates)
    assert all(0.02 < rate.alarms / rate.splits < 0.09 for rate in found.rates)


def test_a_method_that_errs_too_often_is_flagged() -> None:
    # 12 of 120 log-normal units with a log sd of 3 are treated: no place for a normal mean
    spec = replace(FIXED, variants=(Variant("control", 900_000, {}), Variant("ai", 100_000, {})))
    revenue = np.random.default_rng(1).lognormal(0, 3, 120)
    found = run(spec, rows_of(spec, revenue), repeats=800)
    flagged = {rate.method for rate in found.too_high}
    assert "welch" in flagged
    rate = next(rate for rate in found.rates if rate.metric == "revenue")
    assert rate.band is not None
    assert rate.band[0] > 0.05
    assert rate.verdict == "above"


def test_peeking_is_shown_beside_the_sequence() -> None:
    spec = experiment(plan=Plan(START, None, 3000, {}))
    rng = np.random.default_rng(4)
    revenue = rng.exponential(30, 3000) * (rng.random(3000) < 0.5)
    found = run(spec, rows_of(spec, revenue), repeats=600, looks=8, seed=7)
    rates = {rate.method: rate for rate in found.rates if rate.metric == "revenue"}
    assert rates["anytime"].judged == "any"
    assert rates["anytime"].any_alarms <= 0.05 * 600
    assert rates["anytime"].verdict in {"inside", "below"}
    theory = crossing.probabilities(evenly(8), (-1.96,) * 8, (1.96,) * 8)  # 17.6 %
    peeked = rates["welch"].any_alarms / rates["welch"].any_splits
    assert peeked == pytest.approx(theory.upward + theory.downward, abs=4 * (0.145 / 600) ** 0.5)
    assert rates["welch"].judged == "end"


def test_group_sequential_tests_are_read_at_their_planned_looks() -> None:
    spec = experiment(
        inference=Inference("group_sequential", Decimal("0.05"), Decimal("0.1"), spending="pocock"),
        plan=Plan(START, None, 9000, {}, looks=(Decimal("0.4"), Decimal("0.7"), Decimal(1))),
    )
    rng = np.random.default_rng(4)
    revenue = rng.exponential(30, 2000) * (rng.random(2000) < 0.5)
    found = run(spec, rows_of(spec, revenue), repeats=400, looks=9, seed=2)
    assert found.looks == 3
    rates = {rate.method: rate for rate in found.rates if rate.metric == "revenue"}
    assert rates["group_sequential"].judged == "any"
    # the design spends 5 % over its looks, on either side of which four standard errors lie
    share = rates["group_sequential"].any_alarms / rates["group_sequential"].any_splits
    assert share == pytest.approx(0.05, abs=4 * (0.0475 / 400) ** 0.5)
    assert rates["welch"].any_alarms > rates["group_sequential"].any_alarms


def test_the_seed_makes_the_splits() -> None:
    rows = rows_of(FIXED, np.random.default_rng(0).exponential(1, 300))
    assert run(FIXED, rows) == run(FIXED, rows)
    assert run(FIXED, rows) != run(FIXED, rows, seed=4)


def test_without_time_there_is_one_look() -> None:
    spec = experiment(plan=Plan(START, None, 300, {}))
    rows = rows_of(spec, np.random.default_rng(0).exponential(1, 300), instants=np.zeros(300, int))
    assert run(spec, rows).looks == 1


def test_what_cannot_be_read_says_why() -> None:
    spec = experiment(plan=Plan(START, None, 300, {}))
    found = run(spec, rows_of(spec, np.zeros(50)))
    rates = {rate.method: rate for rate in found.rates}
    assert rates.pop("newcombe").verdict == "inside"  # it holds at 0 of n
    assert {rate.verdict for rate in rates.values()} == {"unread"}
    assert {rate.reason for rate in rates.values()} <= {"no-variance", "burn-in"}
    assert all(rate.band is None for rate in rates.values())


def test_rows_come_mature_once_and_in_order() -> None:
    facts = tables(
        [
            exposure(3, "ai"),
            exposure(1, "control", occurred_at=START + DAY),
            exposure(2, "ai"),
            exposure(4, "ai"),
            exposure(4, "control"),
            exposure(5, "ai", occurred_at=WATERMARK.cutoff),
        ],
        [purchase(2, "7"), purchase(1, "9", days=2)],
    )
    spec = experiment()
    with open_engine() as engine:
        rows = rerandomisation.unit_rows(spec, facts, WATERMARK, engine=engine)  # type: ignore[arg-type]  # alike
    assert rows.values[:, rows.columns.index("revenue")].tolist() == [7, 0, 9]
    assert (np.diff(rows.instants) >= 0).all()
