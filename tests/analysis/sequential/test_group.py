"""Group sequential designs: published bounds, looks as they really fall, power."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import special, stats

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import FloatArray, Sample
from klartext.analysis.sequential import crossing, group, repeated

SPENDING: tuple[group.Spending, ...] = ("obrien_fleming", "pocock")


def equal(looks: int) -> tuple[float, ...]:
    return tuple((k + 1) / looks for k in range(looks))


def design(
    spending: group.Spending = "obrien_fleming",
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0),
    *,
    alpha: float = 0.05,
    one_sided: bool = False,
) -> group.Design:
    return group.Design(spending, alpha, 1 if one_sided else 2, fractions)


def on_time(plan: group.Design, upto: int | None = None) -> tuple[group.Look, ...]:
    looks = tuple(group.Look(k + 1, t, t) for k, t in enumerate(plan.fractions))
    return looks[:upto]


@pytest.mark.golden("ld98 (Reboussin, DeMets, Kim, Lan 2000); gsDesign sfLDOF; rpact asOF; lrstat")
@pytest.mark.parametrize(
    ("spending", "fractions", "published", "digits"),
    [
        # Reboussin, DeMets, Kim, Lan (2000), Control. Clin. Trials 21, 190-207: ld98, two-sided
        # 5 %, five equal looks; the first example of ldbounds::ldBounds
        ("obrien_fleming", equal(5), (4.8769, 3.3569, 2.6803, 2.2898, 2.0310), 2e-4),
        # the same with the Pocock-type function
        ("pocock", equal(5), (2.4380, 2.4268, 2.4101, 2.3966, 2.3859), 2e-4),
        # gsDesign sfLDOF and rpact asOF, one-sided 2.5 %, three and two equal looks
        ("obrien_fleming", equal(3), (3.7103, 2.5114, 1.9930), 1e-4),
        ("obrien_fleming", equal(2), (2.963, 1.969), 5e-4),  # lrstat test-design-generators.R
    ],
)
def test_published_bounds(
    spending: group.Spending,
    fractions: tuple[float, ...],
    published: tuple[float, ...],
    digits: float,
) -> None:
    for sided in (design(spending, fractions), group.Design(spending, 0.025, 1, fractions)):
        found = group.multipliers(sided, on_time(sided))
        assert found == pytest.approx(published, abs=digits)


@pytest.mark.golden("rpact, test-f_design_group_sequential.R: alphaSpent of asP and asOF")
def test_spending_functions_by_hand() -> None:
    # O'Brien-Fleming type at t = 0.25, alpha 5 %: 2 - 2 Phi(1.959964 / 0.5) = 2 Phi(-3.919928)
    expected = 2 * stats.norm.cdf(-3.919928)
    assert group.spent("obrien_fleming", 0.25, alpha=0.05) == pytest.approx(expected, rel=1e-6)
    # Pocock type at one half: 0.05 ln(1 + 1.718282 / 2) = 0.05 · 0.620115
    assert group.spent("pocock", 0.5, alpha=0.05) == pytest.approx(0.05 * 0.620115, rel=1e-6)
    # rpact, test-f_design_group_sequential.R: alphaSpent of asP at 0.35, 0.7 and of asOF at
    # 0.4, 0.75, both one-sided 13 % (spending does not depend on the futility bounds there)
    for t, value in ((0.35, 0.061214062), (0.7, 0.10266465)):
        assert group.spent("pocock", t, alpha=0.13) == pytest.approx(value, rel=1e-7)
    for t, value in ((0.4, 0.016665509), (0.75, 0.080406163)):
        assert group.spent("obrien_fleming", t, alpha=0.13) == pytest.approx(value, rel=1e-7)
    for spending in SPENDING:
        assert group.spent(spending, 0.0, alpha=0.05) == 0
        assert group.spent(spending, 1.0, alpha=0.05) == 0.05
        assert group.spent(spending, 1.7, alpha=0.05) == 0.05


@pytest.mark.golden("scipy 1.17: stats.multivariate_normal.cdf")
@pytest.mark.parametrize("spending", SPENDING)
@pytest.mark.parametrize("looks", [2, 3, 4, 5])
def test_bounds_equal_multivariate_normal(spending: group.Spending, looks: int) -> None:
    # the probability never to cross, uneven looks, by scipy's integration
    fractions = tuple(np.round(np.linspace(0.2, 1.0, looks) ** 1.4, 3).tolist())
    plan = design(spending, (*fractions[:-1], 1.0))
    bounds = np.array(group.multipliers(plan, on_time(plan)))
    t = np.array(plan.fractions)
    correlation = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    inside = stats.multivariate_normal.cdf(
        bounds,
        np.zeros(looks),
        correlation,
        lower_limit=-bounds,
        maxpts=400_000,
        abseps=1e-6,
        releps=1e-6,
        rng=np.random.default_rng(2),
    )
    assert float(inside) == pytest.approx(0.95, abs=1e-5)


def test_a_skipped_look_spends_its_alpha_at_the_next() -> None:
    plan = design()
    first = group.schedule(plan, (), fraction=0.27, information=0.27)
    assert first == group.Look(1, 0.27, 0.27)
    assert isinstance(first, group.Look)
    late = group.schedule(plan, (first,), fraction=0.8, information=0.8)
    assert late == group.Look(3, 0.8, 0.8)  # look 2 was skipped
    assert isinstance(late, group.Look)
    bounds = group.multipliers(plan, (first, late))
    found = crossing.probabilities((0.27, 0.8), (-bounds[0], -bounds[1]), bounds)
    assert found.upper[0] == pytest.approx(group.spent("obrien_fleming", 0.27, alpha=0.025))
    assert found.upward == pytest.approx(group.spent("obrien_fleming", 0.8, alpha=0.025))


@pytest.mark.parametrize("fraction", [1.0, 1.004, 1.4, 7.0])
@pytest.mark.parametrize("spending", SPENDING)
def test_an_overrun_spends_what_is_left_and_no_more(
    spending: group.Spending, fraction: float
) -> None:
    plan = design(spending)
    taken = on_time(plan, 3)
    last = group.schedule(plan, taken, fraction=fraction, information=fraction)
    assert isinstance(last, group.Look)
    bounds = group.multipliers(plan, (*taken, last))
    times = (0.25, 0.5, 0.75, fraction)
    lower = tuple(-bound for bound in bounds)
    found = crossing.probabilities(times, lower, bounds)
    assert found.upward + found.downward == pytest.approx(0.05, rel=1e-10)
    # the overrun moves the last bound towards a look of its own, never the earlier ones
    assert bounds[:3] == group.multipliers(plan, on_time(plan))[:3]
    after = group.schedule(plan, (*taken, last), fraction=9.0, information=9.0)
    assert after == group.Unplanned(9.0, None)


def test_an_early_end_spends_all_alpha() -> None:
    plan = design()
    taken = on_time(plan, 2)
    assert isinstance(group.schedule(plan, taken, fraction=0.6, information=0.6), group.Unplanned)
    last = group.schedule(plan, taken, fraction=0.6, information=0.6, ended=True)
    assert last == group.Look(4, 0.6, 0.6)
    assert isinstance(last, group.Look)
    bounds = group.multipliers(plan, (*taken, last))
    lower = tuple(-bound for bound in bounds)
    found = crossing.probabilities((0.25, 0.5, 0.6), lower, bounds)
    assert found.upward + found.downward == pytest.approx(0.05, rel=1e-10)


def test_information_may_run_on_another_clock_than_spending() -> None:
    # spending follows units, the correlation of the looks follows 1 / se^2
    plan = design(fractions=(0.5, 1.0))
    looks = (group.Look(1, 0.5, 30.0), group.Look(2, 1.0, 100.0))
    bounds = group.multipliers(plan, looks)
    found = crossing.probabilities((0.3, 1.0), (-bounds[0], -bounds[1]), bounds)
    assert found.upper[0] == pytest.approx(group.spent("obrien_fleming", 0.5, alpha=0.025))
    assert found.upward == pytest.approx(0.025, rel=1e-10)


def test_a_fraction_that_fell_back_gives_nothing_back() -> None:
    plan = design()
    looks = (group.Look(1, 0.45, 0.45), group.Look(2, 0.44, 0.5), group.Look(4, 1.0, 1.0))
    bounds = group.multipliers(plan, looks)
    assert bounds[1] == math.inf
    lower = tuple(-bound for bound in bounds)
    found = crossing.probabilities((0.45, 0.5, 1.0), lower, bounds)
    assert found.upward == pytest.approx(0.025, rel=1e-10)


def test_an_unplanned_look_is_refused_and_names_the_anytime_interval() -> None:
    plan = design()
    early = group.schedule(plan, (), fraction=0.2, information=0.2)
    assert early == group.Unplanned(0.2, 0.25)
    assert isinstance(early, group.Unplanned)
    assert early.instead == "anytime"
    between = group.schedule(plan, on_time(plan, 1), fraction=0.4, information=0.4)
    assert between == group.Unplanned(0.4, 0.5)
    one = Sample(5000, 1.0, 5000.0, 0.0)
    found = repeated.estimate(
        one, one, design=plan, taken=on_time(plan, 1), look=between, nonzero=(500, 500)
    )
    assert isinstance(found, NotEstimable)
    assert found.reason == "unplanned-look"
    assert "anytime interval" in found.detail
    assert "50%" in found.detail
    after = group.Unplanned(1.2, None).refusal()
    assert "the last planned look was taken" in after.detail


def test_two_looks_at_one_state_are_one_look() -> None:
    plan = design(fractions=(0.5, 0.51, 1.0))
    first = group.schedule(plan, (), fraction=0.50999, information=0.50999)
    assert isinstance(first, group.Look)
    again = group.schedule(plan, (first,), fraction=0.51, information=0.51)
    assert again == group.Unplanned(0.51, 0.51)
    later = group.schedule(plan, (first,), fraction=0.52, information=0.52)
    assert later == group.Look(2, 0.52, 0.52)


def test_thirds_are_due_in_spite_of_rounding() -> None:
    plan = design(fractions=equal(3))
    for units in (1, 2, 3):
        found = group.schedule(plan, (), fraction=units * (1 / 3), information=1.0)
        assert isinstance(found, group.Look)
        assert found.number == units


@pytest.mark.parametrize("spending", SPENDING)
def test_bounds_fall_as_alpha_grows(spending: group.Spending) -> None:
    # so that the repeated p-value is the smallest level, not one of several
    for fractions in (equal(4), (0.02, 0.9, 1.0), (0.1, 0.11, 0.5, 1.0)):
        for upto in range(1, len(fractions) + 1):
            widths = [
                group.multipliers(
                    design(spending, fractions, alpha=alpha),
                    on_time(design(spending, fractions), upto),
                )[-1]
                for alpha in np.geomspace(1e-5, 0.99, 40)
            ]
            assert all(after <= before for before, after in pairwise(widths))


def paths(count: int, fractions: tuple[float, ...], drift: float, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    gaps = np.diff((0.0, *fractions))
    steps = rng.standard_normal((count, len(fractions))) * np.sqrt(gaps) + drift * gaps
    return np.asarray(steps.cumsum(axis=1) / np.sqrt(fractions))


@pytest.mark.parametrize(
    ("spending", "looks", "power"),
    [("obrien_fleming", 5, 0.9), ("pocock", 5, 0.8), ("obrien_fleming", 2, 0.8)],
)
def test_planned_power_and_inflation(spending: group.Spending, looks: int, power: float) -> None:
    plan = design(spending, equal(looks))
    single = 1.959963985 + float(special.ndtri(power))
    drift = single * math.sqrt(group.inflation(plan, power=power))
    found = group.planned(plan, drift=drift)
    assert found.upward == pytest.approx(power, rel=1e-9)
    bounds = np.array(group.multipliers(plan, on_time(plan)))
    z = paths(100_000, plan.fractions, drift, 63)
    outside = np.abs(z) > bounds
    share = outside.any(axis=1).mean()
    assert share == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / 100_000))
    stop = np.where(outside.any(axis=1), outside.argmax(axis=1), looks - 1)
    times = np.array(plan.fractions)
    spread = 4 * times[stop].std() / math.sqrt(100_000)
    assert times[stop].mean() == pytest.approx(found.expected(plan.fractions), abs=spread)


def test_inflation_of_one_sided_spending_designs() -> None:
    # a two-sided design at alpha needs what the one-sided at alpha/2 needs: the other side is
    # never crossed with such a drift
    for spending in SPENDING:
        two = group.inflation(design(spending), power=0.8)
        one = group.inflation(group.Design(spending, 0.025, 1, design().fractions), power=0.8)
        assert two == pytest.approx(one, rel=1e-5)
    assert group.inflation(design("obrien_fleming"), power=0.8) < 1.02
    assert group.inflation(design("pocock"), power=0.8) > 1.15


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.5, 0.4, 1.0), (0.0, 1.0), (0.99995, 1.0)])
def test_impossible_plans_are_errors(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fraction"):
        design(fractions=fractions)


def test_impossible_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="alpha"):
        group.Design("pocock", 0.6, 1, (1.0,))
    with pytest.raises(ValueError, match="alpha"):
        group.Design("pocock", 0.0, 2, (1.0,))
    plan = design()
    with pytest.raises(ValueError, match="increase"):
        group.multipliers(plan, (group.Look(2, 0.5, 0.5), group.Look(1, 0.6, 0.6)))
    with pytest.raises(ValueError, match="never planned"):
        group.multipliers(plan, (group.Look(5, 1.0, 1.0),))
    with pytest.raises(ValueError, match="positive"):
        group.schedule(plan, (), fraction=0.0, information=1.0)
    with pytest.raises(ValueError, match="power"):
        group.inflation(plan, power=0.01)
