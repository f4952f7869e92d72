from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pytest

from klartext.analysis import means
from klartext.analysis.estimate import Estimate, Interval, NotEstimable, Unbounded
from klartext.analysis.look import Look, bounds, nonzero, planned_look, scaled
from klartext.analysis.moments import Moments
from klartext.analysis.sequential import group, mixture, repeated
from klartext.experiments.experiment import Experiment, Inference, Plan, Variant
from tests.analysis.samples import START, experiment, readout, shop

FIXED = Inference("fixed", Decimal("0.05"), Decimal("0.1"))
PLAN = Plan(START, None, 40_000, {})


def test_the_plan_of_a_pair_is_its_share_of_all_units() -> None:
    thirds = (Variant("control", 500_000, {}), Variant("a", 300_000, {}), Variant("b", 200_000, {}))
    spec = experiment(plan=PLAN, variants=thirds)
    assert planned_look(spec, "b", mature=0) == Look("anytime", 28_000, deciding=True)


@pytest.mark.parametrize(("mature", "deciding"), [(39_999, False), (40_000, True), (41_000, True)])
def test_a_fixed_look_decides_when_the_planned_units_are_mature(
    mature: int,
    deciding: bool,  # noqa: FBT001 - a table
) -> None:
    spec = experiment(plan=PLAN, inference=FIXED)
    assert planned_look(spec, "ai", mature=mature).deciding is deciding


def test_a_finished_experiment_is_the_only_look() -> None:
    spec = experiment(inference=FIXED, registration="retrospective")
    assert planned_look(spec, "ai", mature=3) == Look("fixed", None, deciding=True)


def test_every_method_says_whether_it_may_be_read() -> None:
    rng = np.random.default_rng(1)
    spec = experiment(plan=PLAN)
    found = readout(spec, {key: shop(rng, 4000, rate=0.1) for key in ("control", "ai")})
    one, base = found.moments["ai"], found.moments["control"]

    def valid(look: Look, column: str, *, is_rate: bool) -> dict[str, bool]:
        pairs = look.estimates(one, base, column, alpha=0.05, is_rate=is_rate)
        return {m: e.valid_for_look for m, e in pairs if isinstance(e, Estimate)}

    anytime = planned_look(spec, "ai", mature=8000)
    early = planned_look(replace(spec, inference=FIXED), "ai", mature=8000)
    late = planned_look(replace(spec, inference=FIXED), "ai", mature=40_000)
    rates = valid(anytime, "conversion", is_rate=True)
    assert rates == {"anytime": True, "wald": False, "newcombe": False}
    assert valid(anytime, "net", is_rate=False) == {"anytime": True, "welch": False}
    assert valid(early, "conversion", is_rate=True) == {"wald": False, "newcombe": False}
    assert valid(late, "net", is_rate=False) == {"welch": True}


def test_the_multiplier_is_that_of_the_sequence() -> None:
    rng = np.random.default_rng(1)
    spec = experiment(plan=PLAN)
    found = readout(spec, {key: shop(rng, 4000, rate=0.1) for key in ("control", "ai")})
    one, base = found.moments["ai"], found.moments["control"]
    width = planned_look(spec, "ai", mature=8000).multiplier(one, base, "net", alpha=0.05)
    assert width == mixture.multiplier(8000, 40_000, alpha=0.05)


def test_before_the_burn_in_there_is_no_interval() -> None:
    rng = np.random.default_rng(1)
    spec = experiment(plan=PLAN)
    found = readout(spec, {key: shop(rng, 500, rate=0.05, cost=1.0) for key in ("control", "ai")})
    one, base = found.moments["ai"], found.moments["control"]
    look = planned_look(spec, "ai", mature=1000)
    # Every unit has a cost, but few have a margin, and that is what counts.
    assert max(nonzero(one, base, "net")) < 100
    for refused in (
        look.difference(one, base, "net", alpha=0.05),
        look.multiplier(one, base, "net", alpha=0.05),
    ):
        assert isinstance(refused, NotEstimable)
        assert refused.reason == "burn-in"


def test_without_a_plan_there_is_no_sequence() -> None:
    rng = np.random.default_rng(1)
    found = readout(experiment(), {key: shop(rng, 4000, rate=0.1) for key in ("control", "ai")})
    one, base = found.moments["ai"], found.moments["control"]
    refused = Look("anytime", None, deciding=True).difference(one, base, "net", alpha=0.05)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "no-plan"


def test_scaling_for_no_units_gives_no_set() -> None:
    rng = np.random.default_rng(1)
    found = readout(experiment(), {key: shop(rng, 400, rate=0.1) for key in ("control", "ai")})
    estimate = Look("fixed", None, deciding=True).difference(
        found.moments["ai"], found.moments["control"], "net", alpha=0.05
    )
    assert isinstance(scaled(estimate, scale=0.0), NotEstimable)
    assert isinstance(scaled(estimate, scale=2.0, shift=1.0), Interval)


def test_only_intervals_have_two_bounds() -> None:
    assert bounds(Interval(1.0, 2.0, 0.95)) == (1.0, 2.0)
    assert isinstance(bounds(Unbounded("line", (), 0.95)), NotEstimable)
    missing = NotEstimable("burn-in", "")
    assert bounds(missing) is missing


def planned(
    fractions: tuple[str, ...], spending: Any = "obrien_fleming", **given: Any
) -> Experiment:
    looks = tuple(map(Decimal, fractions))
    return experiment(
        plan=replace(PLAN, looks=looks),
        inference=Inference("group_sequential", Decimal("0.05"), Decimal("0.1"), spending),
        **given,
    )


FIFTHS = ("0.2", "0.4", "0.6", "0.8", "1")


def at(place: int) -> tuple[group.Look, ...]:
    """Looks taken on time before the one numbered ``place``, of 40,000 units."""
    return tuple(group.Look(k, k / 5, 8000.0 * k) for k in range(1, place))


@pytest.mark.golden("Reboussin, DeMets, Kim, Lan (2000): ld98, five equal looks")
@pytest.mark.parametrize(
    ("spending", "published"),
    [
        # Reboussin, DeMets, Kim, Lan (2000), Control. Clin. Trials 21, 190-207: ld98, two-sided
        # 5 %, five equal looks
        ("obrien_fleming", (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
        ("pocock", (2.4380, 2.4268, 2.4101, 2.3966, 2.3859)),
    ],
)
def test_a_planned_look_reads_at_the_published_bound(
    spending: Any, published: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(1)
    spec = planned(FIFTHS, spending)
    found = readout(spec, {key: shop(rng, 4000, rate=0.1) for key in ("control", "ai")})
    one, base = found.moments["ai"], found.moments["control"]
    for number, bound in enumerate(published, start=1):
        look = planned_look(spec, "ai", mature=8000 * number, taken=at(number))
        assert look.deciding
        width = look.multiplier(one, base, "net", alpha=0.05)
        assert width == pytest.approx(bound, abs=2e-4)
        estimate = look.difference(one, base, "net", alpha=0.05)
        assert isinstance(estimate, Estimate)
        assert isinstance(estimate.interval, Interval)
        reach = estimate.interval.upper - estimate.value
        assert reach == pytest.approx(bound * estimate.std_error, rel=1e-4)
        assert (estimate.method, estimate.valid_for_look) == ("group_sequential", True)


def test_a_planned_look_equals_the_repeated_interval_of_samples() -> None:
    rng = np.random.default_rng(2)
    spec = planned(FIFTHS)
    units = {"control": shop(rng, 4000, rate=0.1), "ai": shop(rng, 4000, rate=0.11)}
    found = readout(spec, units)
    one, base = found.moments["ai"], found.moments["control"]
    look = planned_look(spec, "ai", mature=25_000, taken=at(3))
    assert look.place is not None
    assert isinstance(look.place.due, group.Look)
    expected = repeated.estimate(
        one.sample("net"),
        base.sample("net"),
        design=group.Design("obrien_fleming", 0.025, 2, tuple(map(float, FIFTHS))),
        taken=at(3),
        look=group.Look(3, 0.625, 25_000.0),
        nonzero=nonzero(one, base, "net"),
    )
    read = look.difference(one, base, "net", alpha=0.025)
    assert isinstance(read, Estimate)
    assert isinstance(expected, Estimate)
    assert isinstance(read.interval, Interval)
    assert isinstance(expected.interval, Interval)
    assert read.interval.lower == pytest.approx(expected.interval.lower, rel=1e-12)
    assert read.p_value == pytest.approx(expected.p_value, rel=1e-9)
    assert isinstance(read.relative_interval, Interval)
    assert isinstance(expected.relative_interval, Interval)
    assert read.relative_interval.upper == pytest.approx(expected.relative_interval.upper, rel=1e-9)


def test_an_unplanned_look_shows_the_sequence_and_does_not_decide() -> None:
    rng = np.random.default_rng(1)
    spec = planned(FIFTHS)
    found = readout(spec, {key: shop(rng, 4000, rate=0.1) for key in ("control", "ai")})
    one, base = found.moments["ai"], found.moments["control"]
    look = planned_look(spec, "ai", mature=9000, taken=at(2))
    assert not look.deciding
    assert look.difference(one, base, "net", alpha=0.05) == Look(
        "anytime", 40_000, deciding=True
    ).difference(one, base, "net", alpha=0.05)
    assert not planned_look(spec, "ai", mature=0).deciding


def test_the_burn_in_of_a_planned_look_is_stricter() -> None:
    rng = np.random.default_rng(4)
    lopsided = (Variant("control", 900_000, {}), Variant("ai", 100_000, {}))
    spec = planned(FIFTHS, variants=lopsided)
    units = {"control": shop(rng, 36_000, rate=0.05), "ai": shop(rng, 4000, rate=0.05)}
    found = readout(spec, units)
    one, base = found.moments["ai"], found.moments["control"]
    due = planned_look(spec, "ai", mature=8000)
    between = planned_look(spec, "ai", mature=9000, taken=at(2))
    refused = due.difference(one, base, "net", alpha=0.05)
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "burn-in"
    assert "skewed" in refused.detail
    assert isinstance(between.difference(one, base, "net", alpha=0.05), Estimate)


def test_so_early_a_look_spends_nothing_and_says_so() -> None:
    rng = np.random.default_rng(1)
    spec = planned(("0.0002", "1"))
    found = readout(spec, {key: shop(rng, 4000, rate=0.1) for key in ("control", "ai")})
    one, base = found.moments["ai"], found.moments["control"]
    look = planned_look(spec, "ai", mature=8)
    for refused in (
        look.difference(one, base, "net", alpha=0.05),
        look.multiplier(one, base, "net", alpha=0.05),
    ):
        assert isinstance(refused, NotEstimable)
        assert refused.reason == "too-early"


def test_a_look_taken_is_read_again_until_units_come() -> None:
    spec = planned(FIFTHS)
    again = planned_look(spec, "ai", mature=16_000, taken=at(3))
    assert again.place is not None
    assert (again.deciding, again.place.due, again.place.taken) == (True, at(3)[-1], at(2))
    more = planned_look(spec, "ai", mature=16_100, taken=at(3))
    assert (more.deciding, more.place is not None) == (False, True)


def test_looks_ahead_are_the_planned_ones_on_time() -> None:
    # ld98, five equal looks, as above; 8,000 of 40,000 units a look
    spec = planned(FIFTHS)
    look = planned_look(spec, "ai", mature=17_000, taken=at(3))
    widths = [
        look.multiplier_ahead(n, alpha=0.05, after=after)
        for n, after in ((23_000, 17_000), (24_000, 17_000), (30_000, 24_000), (40_000, 30_000))
    ]
    assert widths == [None, pytest.approx(2.6803, abs=2e-4), None, pytest.approx(2.0310, abs=2e-4)]
    assert look.multiplier_ahead(41_000, alpha=0.05, after=40_000) is None


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["anytime", "obrien_fleming", "pocock", "fixed"])
def test_false_alarms_of_fifty_looks(mode: str) -> None:
    """Somebody looks every day of fifty and ends at the first verdict; there is no effect.

    2,000 tests of 4,000 units, a tenth of whom buy. Tolerance: three binomial standard errors
    at 5 %. The fixed interval, read every day as nobody may, fails beside them.
    """
    repetitions, days, daily = 2000, 50, 40
    if mode in {"anytime", "fixed"}:
        settings = Inference(cast("Any", mode), Decimal("0.05"), Decimal("0.1"))
        spec = experiment(plan=replace(PLAN, total_units=4000), inference=settings)
    else:
        spec = planned(("0.25", "0.5", "0.75", "1"), mode)
        spec = replace(spec, plan=replace(spec.plan, total_units=4000))
    rng = np.random.default_rng(20)
    alarms = 0
    for _ in range(repetitions):
        bought = rng.random((2, days, daily)) < 0.1
        baskets = bought * rng.exponential(50.0, (2, days, daily))
        arms = [Moments.of(("margin",), np.empty((0, 1)))] * 2
        taken: tuple[group.Look, ...] = ()
        for day in range(days):
            arms = [
                arm + Moments.of(("margin",), baskets[i, day][:, None])
                for i, arm in enumerate(arms)
            ]
            mature = 2 * daily * (day + 1)
            look = planned_look(spec, "ai", mature=mature, taken=taken)
            width = look.multiplier(arms[0], arms[1], "margin", alpha=0.05)
            if isinstance(width, NotEstimable) or not (look.deciding or mode == "fixed"):
                continue
            value, variance = means.difference(arms[0].sample("margin"), arms[1].sample("margin"))
            if look.place is not None and isinstance(look.place.due, group.Look):
                taken = look.place.looks
            if abs(value) > width * variance**0.5:
                alarms += 1
                break
    limit = 0.05 + 3 * (0.05 * 0.95 / repetitions) ** 0.5
    assert (alarms / repetitions > 0.2) if mode == "fixed" else (alarms / repetitions <= limit)
