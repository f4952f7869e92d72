"""Planning against textbook numbers, statsmodels, the other direction, and simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from statsmodels.stats.power import NormalIndPower

from klartext.analysis import planning
from klartext.analysis.comparison import (
    Anytime,
    Comparison,
    Fixed,
    GroupSequential,
    Mode,
    bounds_at,
    evenly,
    openings,
)
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.outcome import Outcome, conversion

MODES: tuple[Mode, ...] = (
    Fixed(),
    GroupSequential("obrien_fleming", evenly(4)),
    GroupSequential("pocock", (0.3, 0.5, 1.0)),
    Anytime(evenly(28)),
    Anytime((0.1, 0.7, 1.0)),
)
REVENUE = Outcome("mean", 20.0, 2500.0)


def comparison(
    outcome: Outcome = REVENUE, mode: Mode = MODES[0], shares: tuple[float, float] = (0.5, 0.5)
) -> Comparison:
    return Comparison(outcome, shares, mode, alpha=0.05)


def planned(found: planning.Plan | NotEstimable) -> planning.Plan:
    assert isinstance(found, planning.Plan)
    return found


def test_conversion_by_hand() -> None:
    # 10 % to 12 %, 5 % two-sided, 80 %: (1.959964 + 0.841621)^2 (0.09 + 0.1056) / 0.02^2
    # = 7.848880 · 489 = 3838.1 a variant
    found = planned(planning.units_needed(comparison(conversion(0.1)), effect=0.02, power=0.8))
    assert found.treatment_units == found.control_units == 3839
    assert found.total_units == 7677
    assert found.relative_effect == pytest.approx(0.2)


@pytest.mark.golden("Feit, Berman (2019), section 4.1: 18,468 a variant")
def test_hypothesis_test_of_the_website_example() -> None:
    # Feit, Berman (2019), section 4.1: 18,468 a variant for 0.68 · 2 % at 5 % and 80 %
    outcome = Outcome("mean", 0.68, 0.68 * 0.32)
    found = planned(planning.units_needed(comparison(outcome), effect=0.0136, power=0.8))
    assert found.treatment_units == 18_468


@pytest.mark.golden("statsmodels 0.15: NormalIndPower")
@pytest.mark.parametrize("weight", [0.5, 0.2, 0.95])
@pytest.mark.parametrize(("sides", "power"), [(1, 0.8), (2, 0.9), (2, 0.5)])
def test_fixed_equals_statsmodels(weight: float, sides: int, power: float) -> None:
    setup = replace(comparison(shares=(weight, 1 - weight)), sides=sides)  # type: ignore[arg-type]
    found = planned(planning.units_needed(setup, effect=1.0, power=power))
    treated = NormalIndPower().solve_power(
        effect_size=1 / 50, alpha=0.05 / sides, power=power, ratio=(1 - weight) / weight,
        alternative="larger",
    )  # fmt: skip
    assert found.total_units == pytest.approx(treated / weight, abs=1.001)
    at = NormalIndPower().power(
        1 / 50, found.total_units * weight, 0.05 / sides, (1 - weight) / weight,
        alternative="larger",
    )  # fmt: skip
    assert found.power == pytest.approx(float(at), rel=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("outcome", [REVENUE, conversion(0.3), Outcome("net", 0.4, 9.0, 11.0)])
def test_units_effect_and_power_are_one_relation(mode: Mode, outcome: Outcome) -> None:
    setup = comparison(outcome, mode, shares=(0.3, 0.6))
    effect = 0.1 * outcome.mean
    found = planned(planning.units_needed(setup, effect=effect, power=0.85))
    assert found.power >= 0.85 * (1 - 1e-9)
    fewer = planning.evaluate(setup, effect=effect, total_units=found.total_units - 1)
    assert isinstance(fewer, NotEstimable) or fewer.power < 0.85
    back = planned(planning.detectable(setup, total_units=found.total_units, power=0.85))
    assert back.effect <= effect * (1 + 1e-9)
    assert back.effect == pytest.approx(effect, rel=2 / found.total_units + 1e-3)
    assert back.power == pytest.approx(0.85, rel=1e-9)
    assert found.false_alarm <= 0.025 * (1 + 1e-9)
    assert found.expected_units <= found.total_units
    assert found.expected_units_if_nothing <= found.total_units


def test_the_price_of_looking() -> None:
    sizes = [
        planned(planning.units_needed(comparison(mode=mode), effect=1.0, power=0.8)).total_units
        for mode in MODES
    ]
    fixed, obrien, pocock, daily, sparse = sizes
    assert fixed < obrien < 1.03 * fixed
    assert 1.1 * fixed < pocock < 1.25 * fixed
    assert daily < sparse  # more looks cost an anytime rule nothing and find more
    assert 1.5 * fixed < daily < 1.9 * fixed


def test_covariates_shares_and_treatments_by_hand() -> None:
    base = planned(planning.units_needed(comparison(), effect=1.0, power=0.8)).total_units
    # correlation 0.6 leaves 64 % of the variance
    less = replace(comparison(), variance_factor=0.64)
    found = planned(planning.units_needed(less, effect=1.0, power=0.8))
    assert found.total_units == pytest.approx(0.64 * base, abs=1)
    # 10/90 needs 1 / (4 · 0.1 · 0.9) times as many
    skewed = comparison(shares=(0.1, 0.9))
    found = planned(planning.units_needed(skewed, effect=1.0, power=0.8))
    assert found.total_units == pytest.approx(base / 0.36, abs=2)
    # three treatments: alpha / 3, and a quarter of the units each
    several = replace(comparison(shares=(0.25, 0.25)), treatments=3)
    found = planned(planning.units_needed(several, effect=1.0, power=0.8))
    single = (special.ndtri(1 - 0.025 / 3) + special.ndtri(0.8)) ** 2 * 2500 * 8
    assert found.total_units == math.ceil(single)
    assert found.alpha == pytest.approx(0.05 / 3)


def test_non_inferiority_and_falls() -> None:
    # no effect against a margin of 1 needs what an effect of 1 needs
    base = planned(planning.units_needed(comparison(), effect=1.0, power=0.8))
    margin = replace(comparison(), margin=1.0)
    found = planned(planning.units_needed(margin, effect=0.0, power=0.8))
    assert found.total_units == base.total_units
    fall = replace(comparison(), goal="decrease")
    found = planned(planning.units_needed(fall, effect=-1.0, power=0.8))
    assert found.total_units == base.total_units
    # what is detectable with a margin may be a small loss
    found = planned(planning.detectable(margin, total_units=4 * base.total_units, power=0.8))
    assert found.effect == pytest.approx(-0.5, rel=1e-3)
    rate = replace(comparison(conversion(0.1)), goal="decrease", margin=0.02)
    found = planned(planning.detectable(rate, total_units=100_000, power=0.8))
    assert 0 < found.effect < 0.02
    assert found.power == pytest.approx(0.8, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(MODES), st.floats(0.2, 5.0), st.floats(0.1, 0.9), st.floats(0.01, 100))
def test_scaling_the_money_changes_nothing(
    mode: Mode, effect: float, weight: float, scale: float
) -> None:
    setup = comparison(mode=mode, shares=(weight, 1 - weight))
    scaled = replace(setup, outcome=Outcome("mean", 20.0 * scale, 2500.0 * scale**2))
    one = planned(planning.units_needed(setup, effect=effect, power=0.8))
    other = planned(planning.units_needed(scaled, effect=effect * scale, power=0.8))
    assert abs(one.total_units - other.total_units) <= 1
    assert one.power == pytest.approx(other.power, rel=1e-4)
    swapped = replace(setup, shares=(1 - weight, weight))
    same = planned(planning.units_needed(swapped, effect=effect, power=0.8))
    assert same.total_units == one.total_units


@pytest.mark.parametrize(
    "mode", [Anytime(evenly(60)), GroupSequential("pocock", evenly(6)), Anytime((1.0,))]
)
def test_burn_in_is_planned_for(mode: Mode) -> None:
    # 100 outcomes in a variant of 20 % at a rate of 2 %: 25,000 units before anything is read
    outcome = Outcome("mean", 1.0, 2.0, nonzero_rate=0.02)
    setup = comparison(outcome, mode, shares=(0.8, 0.2))
    assert openings(setup)[0] == 25_000
    strong = planned(planning.units_needed(setup, effect=1.0, power=0.8))
    assert strong.total_units == 25_000
    assert strong.looks == 1
    assert strong.power > 0.99
    early = planning.evaluate(setup, effect=1.0, total_units=24_999)
    assert isinstance(early, NotEstimable)
    assert early.reason == "burn-in"
    assert bounds_at(setup, 24_999) is None
    weak = planned(planning.units_needed(setup, effect=0.003, power=0.8))
    assert weak.looks == len(setup.mode.fractions)  # type: ignore[union-attr]
    # the fewest: no smaller number has the power, however the looks open
    middle = planned(planning.units_needed(setup, effect=0.05, power=0.8))
    grid = np.linspace(25_000, middle.total_units - 1, 60).astype(int)
    for units in grid:
        plan = planned(planning.evaluate(setup, effect=0.05, total_units=int(units)))
        assert plan.power < 0.8


def simulated(setup: Comparison, effect: float, units: int, count: int, seed: int) -> float:
    """Share of real experiments, drawn unit by unit in sums, that cross upwards."""
    bounds = bounds_at(setup, units)
    assert bounds is not None
    fractions, lower, upper = bounds
    rng = np.random.default_rng(seed)
    means, variances, sizes = [], [], []
    for share, shift in zip(setup.shares, (effect, 0.0), strict=True):
        n = np.round(np.array(fractions) * units * share).astype(int)
        gaps = np.diff((0, *n))
        if setup.outcome.kind == "conversion":
            hits = rng.binomial(gaps, setup.outcome.mean + shift, (count, len(gaps)))
            mean = hits.cumsum(axis=1) / n
            variances.append(mean * (1 - mean))
        else:
            variance = setup.outcome.variance_under(shift) if shift else setup.outcome.variance
            noise = rng.standard_normal((count, len(gaps))) * np.sqrt(variance * gaps)
            mean = setup.outcome.mean + shift + noise.cumsum(axis=1) / n
            variances.append(np.full(mean.shape, variance))
        means.append(mean)
        sizes.append(n)
    se = np.sqrt(variances[0] / sizes[0] + variances[1] / sizes[1])
    z = (means[0] - means[1]) / se
    up, down = z > np.array(upper), z < np.array(lower)
    first = np.where((up | down).any(axis=1), (up | down).argmax(axis=1), 0)
    return float(up[np.arange(count), first].mean())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("outcome", "effect"), [(conversion(0.2), 0.02), (Outcome("mean", 5.0, 16.0), 0.2)]
)
def test_power_in_simulation(mode: Mode, outcome: Outcome, effect: float) -> None:
    # 20,000 experiments of the planned size; four standard errors and, for the binomial with
    # estimated variances, half a point
    setup = comparison(outcome, mode, shares=(0.4, 0.6))
    plan = planned(planning.units_needed(setup, effect=effect, power=0.8))
    found = simulated(setup, effect, plan.total_units, 20_000, seed=85)
    slack = 4 * math.sqrt(0.16 / 20_000) + (0.005 if outcome.kind == "conversion" else 0.0)
    assert found == pytest.approx(plan.power, abs=slack)


def test_duration_by_hand() -> None:
    # 7,677 units at 600 a day are 12.8 days, two whole weeks; mature 30.5 days later
    plan = planned(planning.units_needed(comparison(conversion(0.1)), effect=0.02, power=0.8))
    found = planning.duration(plan, units_per_day=600, maturity_days=30.5)
    assert (found.enrolment_days, found.readout_days) == (14, 45)
    assert found.expected_days == pytest.approx(7677 / 600 + 30.5)
    exact = planning.duration(replace(plan, total_units=4200), units_per_day=600, maturity_days=0)
    assert exact.enrolment_days == exact.readout_days == 7
    with pytest.raises(ValueError, match="units a day"):
        planning.duration(plan, units_per_day=0, maturity_days=1)


def test_what_cannot_be_planned_says_why() -> None:
    setup = comparison(conversion(0.1))
    cases = {
        "no-advantage": planning.units_needed(setup, effect=-0.01, power=0.8),
        "impossible-rate": planning.units_needed(setup, effect=0.95, power=0.8),
        "no-variance": planning.units_needed(
            comparison(Outcome("mean", 1.0, 0.0)), effect=1.0, power=0.8
        ),
        "not-finite": planning.evaluate(setup, effect=math.nan, total_units=100),
        "out-of-reach": planning.detectable(comparison(conversion(0.9)), total_units=10, power=0.8),
        "burn-in": planning.detectable(
            comparison(conversion(0.1), MODES[3]), total_units=1000, power=0.8
        ),
    }
    for reason, found in cases.items():
        assert isinstance(found, NotEstimable)
        assert found.reason == reason
    flat = planning.detectable(comparison(Outcome("mean", 1.0, 0.0)), total_units=9, power=0.8)
    assert isinstance(flat, NotEstimable)
    assert flat.reason == "no-variance"
    wide = replace(setup, margin=0.5)
    found = planning.detectable(wide, total_units=10**6, power=0.8)
    assert isinstance(found, NotEstimable)
    assert found.reason == "out-of-reach"
    loss = planned(planning.evaluate(comparison(Outcome("net", -1, 4)), effect=1, total_units=9))
    assert isinstance(loss.relative_effect, NotEstimable)


@pytest.mark.parametrize(
    "changes",
    [
        {"shares": (0.6, 0.6)}, {"shares": (0.0, 0.5)}, {"alpha": 0.5}, {"margin": -1.0},
        {"treatments": 0}, {"variance_factor": 0.0}, {"variance_factor": 1.1},
    ],
)  # fmt: skip
def test_impossible_comparisons_are_errors(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(comparison(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("power", [0.02, 1.0])
def test_impossible_power_is_an_error(power: float) -> None:
    with pytest.raises(ValueError, match="power"):
        planning.units_needed(comparison(), effect=1.0, power=power)
