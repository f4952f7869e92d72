from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from klartext.analysis.estimate import Estimate, Interval, NotEstimable, Unbounded
from klartext.analysis.look import Look, bounds, nonzero, planned_look, scaled
from klartext.analysis.sequential import mixture
from klartext.experiments.experiment import Inference, Plan, Variant
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
