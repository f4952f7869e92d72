"""Money worked out on paper, from facts or units to the figures of the report.

Each docstring is the sheet of paper; its numbers are what the code has to find. More stand by their
modules: amortisation and maturity (test_value), special Fieller sets (test_ratios), the loss
integral (test_information), the horizon (test_projection), the ledger's cents (tests/experiments).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats

from klartext.analysis import information
from klartext.analysis.estimate import Interval, NotEstimable, Unbounded
from klartext.analysis.look import planned_look
from klartext.analysis.posterior import Effect, Horizon
from klartext.analysis.projection import decision_view
from klartext.analysis.readout import Readout
from klartext.analysis.result import DecisionView, WindowView
from klartext.analysis.value import accruals_of, period_of, window_view
from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    Experiment,
    Inference,
    Rollout,
    Saving,
    Variant,
)
from klartext.experiments.watermark import Watermark
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE_NET_OF_REFUNDS,
    Tables,
    call,
    event,
    experiment,
    exposure,
    purchase,
    read,
    readout,
    tables,
)

FIXED = Inference("fixed", Decimal("0.05"), Decimal("0.1"))
FINISHED = experiment(registration="retrospective", inference=FIXED)


def window(spec: Experiment, found: Readout) -> WindowView:
    period = period_of(spec, found, started_at=None)
    assert period is not None
    return window_view(
        spec,
        found,
        accruals_of(spec, found, period),
        "ai",
        months=period.months,
        look=planned_look(spec, "ai", mature=sum(count.mature for count in found.counts)),
    )


def outlook(spec: Experiment, found: Readout) -> DecisionView:
    look = planned_look(spec, "ai", mature=sum(count.mature for count in found.counts))
    return decision_view(spec, found, "ai", test_months=Fraction(1), look=look)


def of(margin: Sequence[float], cost: Sequence[float]) -> dict[str, Any]:
    values = np.array(margin, dtype=float)
    return {
        "conversion": (values > 0).astype(float),
        "revenue": values,
        "margin": values,
        "cost": np.array(cost, dtype=float),
    }


def facts(
    units: Mapping[int, str], events: list[dict[str, Any]], calls: list[dict[str, Any]]
) -> Tables:
    return tables([exposure(unit, variant) for unit, variant in units.items()], events, calls)


def number(value: float | NotEstimable) -> float:
    assert not isinstance(value, NotEstimable)
    return value


def test_zero_cost() -> None:
    """Four units each; margins 10, 20, 30, 40 (mean 25) and 20, 30, 40, 50 (mean 35); no cost.

    Net benefit 4 (35 - 25) = 40. Each variance is (225 + 25 + 25 + 225) / 3 = 500 / 3; squared
    standard error 2 x (500 / 3) / 4 = 250 / 3, so 9.1287; Student's t with 6 degrees of freedom
    is 2.4469 (printed tables): 40 +- 4 x 2.4469 x 9.1287 = 40 +- 89.349. Nothing has no return.
    """
    rows = {"control": of([10, 20, 30, 40], [0] * 4), "ai": of([20, 30, 40, 50], [0] * 4)}
    view = window(FINISHED, readout(FINISHED, rows))
    assert view.cost == 0.0
    assert view.net_benefit == pytest.approx(40.0)
    assert isinstance(view.net_benefit_interval, Interval)
    assert view.net_benefit_interval.upper == pytest.approx(129.349, abs=2e-3)
    for figure in (view.roi, view.roi_interval):
        assert isinstance(figure, NotEstimable)
        assert figure.reason == "no-cost"


def test_credits_and_refunds_and_a_return_below_minus_one() -> None:
    """Two customers each; the contribution margin is 40 %.

    control: orders of 100 and 0; no refund, no AI.   margin 40, cost 0
    ai:      order of 100, all of it refunded;        margin 0
             order of 60, 20 refunded;                margin 0.4 x 40 = 16
             a call of 0.50 and a credit of 0.20      cost 0.30

    Incremental margin 16 - 40 = -24, cost 0.30, net benefit -24.30, return -24 / 0.3 - 1 = -81.
    """
    spec = replace(
        FINISHED,
        metrics=(CONVERSION, REVENUE_NET_OF_REFUNDS),
        value=(ContributionMargin("revenue", Assumption(Decimal("0.4"))),),
    )
    found = read(
        spec,
        facts(
            {1: "control", 2: "control", 3: "ai", 4: "ai"},
            [
                purchase(1, "100"),
                purchase(3, "100"),
                purchase(4, "60"),
                event(3, "refund", days=9, value=Decimal(100), currency="EUR"),
                event(4, "refund", days=20, value=Decimal(20), currency="EUR"),
            ],
            [call("0.50", variant="ai", unit=3), call("-0.20", variant="ai", unit=3)],
        ),
    )
    view = window(spec, found)
    assert view.incremental_margin == pytest.approx(-24.0)
    assert view.cost == pytest.approx(0.30)
    assert view.net_benefit == pytest.approx(-24.30)
    assert view.roi == pytest.approx(-81.0)


def test_unequal_split_with_ai_in_the_control() -> None:
    """Two treated units against four in the control, which uses AI too.

    calls with a unit      ai 0.30 each of 2 units     control 0.10 each of 4
    shared calls           ai 0.80, so 0.40 a unit     control 0.80, so 0.20 a unit
    cost per unit          0.70                        0.30

    Incremental cost 2 x (0.70 - 0.30) = 0.80, not 1.40 and not 1.40 - 1.20. Orders of 10: one of
    two against one of four, 2 x (5 - 2.5) = 5. Return 5 / 0.8 - 1 = 5.25; 0.8 / (2 x 0.25) = 1.60
    per additional conversion.
    """
    variants = (Variant("control", 666_667, {}), Variant("ai", 333_333, {}))
    spec = replace(FINISHED, variants=variants)
    split = dict.fromkeys((1, 2, 3, 4), "control") | {5: "ai", 6: "ai"}
    calls = [call("0.10", variant="control", unit=unit) for unit in (1, 2, 3, 4)]
    calls += [call("0.30", variant="ai", unit=unit) for unit in (5, 6)]
    calls += [call("0.80", variant=variant, unit=None) for variant in ("control", "ai")]
    view = window(spec, read(spec, facts(split, [purchase(1, "10"), purchase(5, "10")], calls)))
    assert view.incremental_cost == pytest.approx(0.80)
    assert view.incremental_margin == pytest.approx(5.0)
    assert view.roi == pytest.approx(5.25)
    assert view.cost_per_incremental_conversion == pytest.approx(1.60)


CORRELATED = {"control": of([0, 4, 0, 4], [0, 0, 0, 0]), "ai": of([0, 0, 10, 10], [1, 1, 3, 3])}


def test_correlated_cost_and_margin() -> None:
    """Who buys costs more: ai has margins 0, 0, 10, 10 and costs 1, 1, 3, 3.

    ai       net -1, -1, 7, 7: mean 3, variance 4 x 16 / 3 = 64 / 3
    control  net  0, 4, 0, 4:  mean 2, variance 4 x 4 / 3 = 16 / 3

    Squared standard error (64 + 16) / 3 / 4 = 20 / 3. Added up without the covariance, margin
    (100 / 3) and cost (4 / 3) would make it (104 + 16) / 12 = 10. Welch's degrees of freedom:
    (20/3)^2 / ((16/3)^2 / 3 + (4/3)^2 / 3) = 400 / (256 + 16) x 3 = 4.4118. Net benefit 4.
    """
    view = window(FINISHED, readout(FINISHED, CORRELATED))
    reach = 4 * stats.t.ppf(0.975, 1200 / 272) * math.sqrt(20 / 3)
    assert isinstance(view.net_benefit_interval, Interval)
    assert view.net_benefit == pytest.approx(4.0)
    assert view.net_benefit_interval.lower == pytest.approx(4 - reach)
    assert view.net_benefit_interval.upper == pytest.approx(4 + reach)


def test_fieller_bounded() -> None:
    """The same units: margin 5 - 2 = 3 per unit, cost 2, return 3 / 2 - 1 = 50 %.

    Squared standard errors: margin (100/3 + 16/3) / 4 = 29/3, cost (4/3) / 4 = 1/3; covariance
    ai only, sum of (+-5)(+-1) = 20, / 3 / 4 = 5/3. With c = 2.67717 (t of 4.4118 degrees of
    freedom, 0.975), c^2 = 7.16726, the ends of (3 - 2 r)^2 = c^2 (29/3 - 10/3 r + r^2 / 3) solve

        (4 - 2.38909) r^2 - 2 (6 - 11.94543) r + (9 - 69.28351) = 0
        1.61091 r^2 + 11.89086 r - 60.28351 = 0:   r = (-11.89086 +- 23.01822) / 3.22182

    so r is in -10.8352 .. 3.4537 and the return in -11.835 .. 2.454.
    """
    view = window(FINISHED, readout(FINISHED, CORRELATED))
    c = stats.t.ppf(0.975, 1200 / 272)
    assert c == pytest.approx(2.67717, abs=5e-6)
    assert view.roi == pytest.approx(0.5)
    assert isinstance(view.roi_interval, Interval)
    ends = np.roots([4 - c * c / 3, -2 * (6 - c * c * 5 / 3), 9 - c * c * 29 / 3]) - 1
    assert sorted(ends) == pytest.approx([view.roi_interval.lower, view.roi_interval.upper])
    assert sorted(ends) == pytest.approx([-11.835, 2.454], abs=5e-4)


def test_fieller_unbounded() -> None:
    """Three units each. ai: margins 9, 10, 11, costs 0, 1, 2; the control earns 0, 1, 2 and pays 0.

    Margin 9 and cost 1 per unit; squared standard errors 2/3 and 1/3, covariance 1/3. Net of ai
    is 9, 9, 9, so c is t with (1/3)^2 / ((1/3)^2 / 2) = 2 degrees of freedom: 4.3027, c^2 =
    18.5128. Cost 1 is less than c / sqrt(3) = 2.484: no bounded set.

        (1 - 6.1709) r^2 - 2 (9 - 6.1709) r + (81 - 12.3418) <= 0
        5.1709 r^2 + 5.6581 r - 68.6582 >= 0:   roots (-5.6581 +- 38.1038) / 10.3418

    All but -4.2316 .. 3.1374 is possible, as a return all but -5.232 .. 2.137.
    """
    rows = {"control": of([0, 1, 2], [0] * 3), "ai": of([9, 10, 11], [0, 1, 2])}
    view = window(FINISHED, readout(FINISHED, rows))
    assert view.roi == pytest.approx(8.0)
    assert isinstance(view.roi_interval, Unbounded)
    assert view.roi_interval.shape == "rays"
    assert view.roi_interval.bounds == pytest.approx((-5.2316, 2.1374), abs=5e-4)


ROLLOUT = Rollout(*(Assumption(Decimal(given)) for given in ("400000", "1", "1", "0.1")))
PER_UNIT = {"control": of([0, 0, 0, 0], [0] * 4), "ai": of([0.04, 0.08, 0, 0.08], [0.02] * 4)}
"""Margin 0.05 and cost 0.02 per unit: 0.03 x 400,000 = 12,000 in twelve months."""


def once(amount: int) -> Costs:
    return Costs(None, None, (CostLine("qa", "once", Assumption(Decimal(amount)), "ai"),))


def test_npv_with_the_effective_monthly_rate() -> None:
    """1,000 at each of twelve month ends; 10 % a year are 1.1^(1/12) - 1 = 0.797414 % a month.

    1,000 (1 - 1 / 1.1) / 0.00797414 = 1,000 x 0.0909091 / 0.00797414 = 11,400.49. A twelfth of
    the rate, 0.8333 %, would give 11,374.51.
    """
    spec = replace(FINISHED, rollout=ROLLOUT)
    view = outlook(spec, readout(spec, PER_UNIT))
    assert view.net_benefit == pytest.approx(12_000.0)
    assert view.npv == pytest.approx(11_400.49, abs=0.02)


@pytest.mark.parametrize(
    ("invested", "months"), [(2500, 2.5), (12_000, 12.0), (12_001, "beyond-horizon")]
)
def test_payback_and_none(invested: int, months: float | str) -> None:
    """1,000 a month: 2,500 are back after two and a half, 12,001 not within the twelve."""
    spec = replace(FINISHED, rollout=ROLLOUT, costs=once(invested))
    found = outlook(spec, readout(spec, PER_UNIT)).payback_months
    if isinstance(months, str):
        assert isinstance(found, NotEstimable)
        assert found.reason == months
    else:
        assert found == pytest.approx(months)


def test_no_payback_without_a_gain() -> None:
    """0.05 of margin for 0.06 of cost: -4,000 a year, which pays nothing back."""
    rows = PER_UNIT | {"ai": of([0.04, 0.08, 0, 0.08], [0.06] * 4)}
    spec = replace(FINISHED, rollout=ROLLOUT, costs=once(2500))
    view = outlook(spec, readout(spec, rows))
    assert view.net_benefit == pytest.approx(-4000.0)
    assert isinstance(view.payback_months, NotEstimable)
    assert view.payback_months.reason == "no-gain"


def test_evsi_below_its_cost() -> None:
    """-0.141421 per unit, squared error 0.04 from 100 units, no prior; 1,000 units to decide on.

    A week brings 100 more units: the variance falls from 0.04 to 0.02, so s_h = 1,000 x 0.141421
    = 141.42 and z = 141.42 / 141.42 = 1. L(1) = 0.08332 (Raiffa, Schlaifer 1961, table II):
    EVSI = 141.42 x 0.08332 = 11.78. The week costs 20 to run, and its 50 treated units lose
    50 x 0.141421 = 7.07: 27.07. Waiting loses 15.29.
    """
    effect = Effect(-math.sqrt(0.02), 0.0, 0.04, 0.0, 0.0)
    found = information.waiting(
        information.Belief(effect, prior_sd=None, units=100),
        Horizon(1000.0, 1.0, 1.0, 0.0),
        information.Pace(units=100.0, treated=50.0, entering=100.0, running_cost=20.0),
        periods=1,
        shrinking=False,
    )
    assert found.value == pytest.approx(11.78, abs=0.005)
    assert found.cost == pytest.approx(27.07, abs=0.005)
    assert found.gain == pytest.approx(-15.29, abs=0.01)


def test_time_saved_half_realised() -> None:
    """12 hours of 60 a month, half of them cash: 360 a month. One month, every unit mature.

    The window gains 360 beside the margin, on its own line. Over twelve months, of which 70 %
    persist, 0.7 x 12 x 360 = 3,024: as certain as the spec says, so no interval widens.
    """
    hours = (Assumption(Decimal(12)), Assumption(Decimal(60)), Assumption(Decimal("0.5")))
    saving = Saving("copywriting", *hours, "ai")
    stays = replace(ROLLOUT, persistence=Assumption(Decimal("0.7")))
    plain = replace(FINISHED, rollout=stays, timezone="UTC")
    spec = replace(plain, value=(*plain.value, saving))
    # From 1 March to the last exposure on 18 March and its 14 days of value: one month.
    march = datetime(2026, 3, 1, tzinfo=UTC)
    given = {
        "first_exposure": march,
        "last_exposure": march + 17 * DAY,
        "watermark": Watermark(7, march + 99 * DAY),
    }
    before, after = (window(one, readout(one, PER_UNIT, **given)) for one in (plain, spec))
    assert after.savings == pytest.approx(360.0)
    assert number(after.incremental_margin) - number(before.incremental_margin) == pytest.approx(
        360.0
    )
    ahead, without = (outlook(one, readout(one, PER_UNIT)) for one in (spec, plain))
    assert ahead.savings == pytest.approx(3024.0)
    for one, other in ((after.net_benefit_interval, before.net_benefit_interval),
                       (ahead.interval, without.interval)):  # fmt: skip
        assert isinstance(one, Interval)
        assert isinstance(other, Interval)
        assert one.upper - one.lower == pytest.approx(other.upper - other.lower)


def test_roi_of_sums_is_not_the_mean_of_rois() -> None:
    """Margins 3, 3, 5 for costs 1, 1, 10: together 11 for 12, a return of -8.33 %.

    One by one 200 %, 200 % and -50 %, on average +117 %: the sign of a decision.
    """
    rows = {"control": of([0, 0, 0], [0] * 3), "ai": of([3, 3, 5], [1, 1, 10])}
    view = window(FINISHED, readout(FINISHED, rows))
    assert view.roi == pytest.approx(11 / 12 - 1)
