"""The window view: totals worked out by hand, and what must hold whatever the data."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from klartext.analysis.booked import Booked
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.look import planned_look
from klartext.analysis.readout import Readout
from klartext.analysis.result import VariantCounts, WindowView
from klartext.analysis.value import (
    accruals_of,
    conversion_metric,
    period_of,
    spent,
    window_view,
)
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    Experiment,
    Inference,
    Metric,
    Saving,
    Worth,
)
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    call,
    event,
    experiment,
    exposure,
    read,
    readout,
    shop,
    tables,
)

FIXED = Inference("fixed", Decimal("0.05"), Decimal("0.1"))
FINISHED = experiment(registration="retrospective", inference=FIXED)


def window(spec: Experiment, found: Readout, treatment: str = "ai") -> WindowView:
    period = period_of(spec, found, started_at=None)
    assert period is not None
    mature = sum(count.mature for count in found.counts)
    return window_view(
        spec,
        found,
        accruals_of(spec, found, period),
        treatment,
        months=period.months,
        look=planned_look(spec, treatment, mature=mature),
    )


def units(margin: list[float], cost: list[float]) -> dict[str, np.ndarray]:
    values = np.array(margin)
    return {
        "conversion": (values > 0).astype(float),
        "revenue": values,
        "margin": values,
        "cost": np.array(cost),
    }


SMALL = {
    "control": units([0, 0, 0, 10], [0, 0, 0, 0]),
    "ai": units([0, 10, 10, 20, 10], [1, 1, 1, 1, 1]),
}


def test_totals_are_per_unit_effects_times_treated_units() -> None:
    view = window(FINISHED, readout(FINISHED, SMALL))
    # Margins per unit 10 and 2.5, so 5 (10 - 2.5); cost 5 x 1; conversions 5 (0.8 - 0.25).
    assert view.incremental_margin == pytest.approx(37.5)
    assert view.incremental_cost == pytest.approx(5.0)
    assert view.net_benefit == pytest.approx(32.5)
    assert view.roi == pytest.approx(6.5)
    assert view.incremental_conversions == pytest.approx(2.75)
    assert view.cost_per_incremental_conversion == pytest.approx(5 / 2.75)
    assert view.break_even_cost_per_unit == pytest.approx(7.5)


def test_what_the_control_spends_is_taken_off() -> None:
    spec = FINISHED
    found = readout(spec, SMALL | {"control": units([0, 0, 0, 10], [1, 1, 1, 1])})
    view = window(spec, found)
    assert view.incremental_cost == pytest.approx(0.0)
    assert isinstance(view.roi, NotEstimable)


def test_fixed_cost_and_savings_count_in_proportion_to_maturity() -> None:
    lines = (
        CostLine("engineering", "amortised", Assumption(Decimal(2400)), "ai", life_months=24),
        CostLine("monitoring", "month", Assumption(Decimal(300)), "ai"),
        CostLine("compliance", "once", Assumption(Decimal(50)), None),
    )
    saving = Saving(
        "copy",
        Assumption(Decimal(10)),
        Assumption(Decimal(60)),
        Assumption(Decimal("0.5")),
        "ai",
    )
    spec = replace(
        FINISHED, costs=Costs(None, None, lines), value=(*FINISHED.value, saving), timezone="UTC"
    )
    # From 1 March to the last exposure on 18 March and its 14 days of value: one month.
    march = datetime(2026, 3, 1, tzinfo=UTC)
    found = readout(spec, SMALL, first_exposure=march, last_exposure=march + 17 * DAY)
    found = replace(
        found,
        watermark=replace(found.watermark, cutoff=march + 99 * DAY),
        counts=(
            VariantCounts("control", 500_000, 4, 4, 0),
            VariantCounts("ai", 500_000, 10, 5, 0),
        ),
    )
    period = period_of(spec, found, started_at=None)
    assert period is not None
    assert period.months == Fraction(1)
    view = window(spec, found)
    assert view.fixed_cost == pytest.approx((100 + 300 + 50) / 2)
    assert view.savings == pytest.approx(10 * 60 * 0.5 / 2)
    assert view.incremental_margin == pytest.approx(37.5 + 150)
    assert view.cost == pytest.approx(5 + 225)
    assert view.net_benefit == pytest.approx(187.5 - 230)
    assert view.break_even_cost_per_unit == pytest.approx((187.5 - 225) / 5)


def test_the_period_begins_with_the_start_and_ends_with_the_facts() -> None:
    found = readout(FINISHED, SMALL)
    early = period_of(FINISHED, found, started_at=START - 9 * DAY)
    assert early is not None
    assert (early.start, early.end) == (START - 9 * DAY, START + 34 * DAY)
    late = period_of(FINISHED, found, started_at=START + DAY)
    assert late is not None
    assert late.start == START
    cut = replace(found, watermark=replace(found.watermark, cutoff=START + 10 * DAY))
    short = period_of(FINISHED, cut, started_at=None)
    assert short is not None
    assert short.end == START + 10 * DAY
    nothing = replace(found, first_exposure=None, last_exposure=None)
    assert period_of(FINISHED, nothing, started_at=None) is None
    assert accruals_of(FINISHED, nothing, None) == ()


def test_the_budget_counts_every_call_and_every_exposed_unit() -> None:
    lines = (
        CostLine("other", "unit", Assumption(Decimal("0.10")), "ai"),
        CostLine("qa", "event", Assumption(Decimal(2)), None, event="review"),
        CostLine("monitoring", "month", Assumption(Decimal(300)), "ai"),
    )
    spec = experiment(costs=Costs(Decimal(5), None, lines))
    facts = tables(
        [
            exposure(1, "ai"),
            exposure(2, "ai", occurred_at=START + 59 * DAY),
            exposure(3, "control"),
            exposure(3, "ai", occurred_at=START + DAY),
        ],
        [event(1, "review"), event(3, "review")],
        [call("1", unit=1), call("0.5", variant="ai"), call("0.25"), call(None, unit=1)],
    )
    # 0.10 x 2 units of ai, 2 x 2 reviews, 1.75 for calls.
    found = read(spec, facts)
    assert spent(Booked(spec, spec, found)) == Decimal("5.95")
    # Calls under another source may be the same calls, exported twice.
    other = replace(spec, costs=Costs(Decimal(5), "logs", lines))
    assert spent(Booked(other, other, found)) == Decimal("4.20")


def test_the_conversion_with_a_worth_is_the_one_that_is_counted() -> None:
    visit = Metric("visit", "conversion", "visit", None, 14 * DAY, "increase")
    assert conversion_metric(experiment(metrics=(visit, CONVERSION))) == CONVERSION
    worth = Worth("visit", Assumption(Decimal(1)))
    assert conversion_metric(experiment(metrics=(visit, CONVERSION), value=(worth,))) == visit
    assert conversion_metric(experiment(metrics=(visit,))) == visit
    assert conversion_metric(experiment(metrics=(REVENUE,))) is None


def test_the_net_benefit_interval_carries_the_covariance() -> None:
    rng = np.random.default_rng(11)
    margin = rng.exponential(10, 4000)
    rows = {key: shop(rng, 4000, rate=0.1, basket=1.0) for key in ("control", "ai")}
    # Cost that moves with the margin: net varies less than margin.
    rows["ai"] |= {"revenue": margin, "margin": margin, "cost": 0.9 * margin}
    view = window(FINISHED, readout(FINISHED, rows))
    margin_set, net_set = view.incremental_margin_interval, view.net_benefit_interval
    assert isinstance(margin_set, Interval)
    assert isinstance(net_set, Interval)
    assert net_set.upper - net_set.lower < 0.2 * (margin_set.upper - margin_set.lower)


def test_too_few_units_give_reasons_everywhere() -> None:
    one = {"control": units([1], [0]), "ai": units([2], [1])}
    view = window(FINISHED, readout(FINISHED, one))
    for figure in (view.incremental_margin, view.net_benefit, view.roi, view.cost):
        assert isinstance(figure, NotEstimable)
        assert figure.reason == "too-few-units"


def test_a_spec_without_a_conversion_has_no_cost_per_conversion() -> None:
    spec = replace(FINISHED, metrics=(REVENUE,))
    rows = {key: {k: v for k, v in one.items() if k != "conversion"} for key, one in SMALL.items()}
    view = window(spec, readout(spec, rows))
    assert isinstance(view.cost_per_incremental_conversion, NotEstimable)
    assert view.cost_per_incremental_conversion.reason == "no-conversion-metric"
    assert view.net_benefit == pytest.approx(32.5)


def test_lateness_is_a_duration() -> None:
    assert FINISHED.lateness == timedelta(days=2)
