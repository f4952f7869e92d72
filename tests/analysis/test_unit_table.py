"""Every number here is small enough to check by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from klartext.analysis.columns import KEY_COLUMNS, MONEY_COLUMNS, REGIME, value_columns
from klartext.analysis.windows import Windows, windows
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import (
    UNIT_TABLE_COLUMNS,
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    Covariate,
    Filter,
    Metric,
    Rollout,
    Saving,
    Worth,
)
from klartext.experiments.watermark import Watermark
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    REVENUE_NET_OF_REFUNDS,
    START,
    WATERMARK,
    call,
    event,
    experiment,
    exposure,
    purchase,
    tables,
    unit_rows,
)

MICROSECOND = timedelta(microseconds=1)


def test_the_spec_reserves_the_names_of_all_other_columns() -> None:
    assert (*KEY_COLUMNS, REGIME, *MONEY_COLUMNS) == UNIT_TABLE_COLUMNS


def test_units_without_an_event_count_with_zeros() -> None:
    rows = unit_rows(experiment(), tables([exposure(1, "ai"), exposure(2, "control")]))
    assert [rows[1][name] for name in value_columns(experiment())] == [0.0] * 8
    assert (rows[1]["variant"], rows[2]["variant"]) == ("ai", "control")
    assert rows[1]["mature"]
    assert not rows[1]["excluded"]


def test_the_first_exposure_wins_and_a_second_variant_excludes() -> None:
    rows = unit_rows(
        experiment(),
        tables(
            [
                exposure(1, "ai", occurred_at=START + DAY),
                exposure(1, "ai"),
                exposure(2, "ai", occurred_at=START + DAY),
                exposure(2, "control"),
            ],
            [purchase(1, "5", days=0.5)],
        ),
    )
    assert rows[1]["exposed_at"] == START
    assert rows[1]["revenue"] == 5.0
    assert not rows[1]["excluded"]
    assert (rows[2]["variant"], rows[2]["excluded"]) == ("control", True)


def test_a_tie_goes_to_the_variant_that_stands_first_in_the_spec() -> None:
    facts = [exposure(1, "ai"), exposure(1, "control")]
    for order in (facts, facts[::-1]):
        assert unit_rows(experiment(), tables(order))[1]["variant"] == "control"


def test_instants_before_1970_are_ordered_too() -> None:
    early = START.replace(year=1960)
    rows = unit_rows(
        experiment(),
        tables([exposure(1, "ai", occurred_at=early), exposure(1, "control", occurred_at=START)]),
    )
    assert (rows[1]["variant"], rows[1]["exposed_at"]) == ("ai", early)


def test_windows_include_the_exposure_and_exclude_their_end() -> None:
    rows = unit_rows(
        experiment(),
        tables(
            [exposure(unit, "ai") for unit in (1, 2, 3, 4)],
            [
                purchase(1, "1", occurred_at=START),
                purchase(2, "1", occurred_at=START - MICROSECOND),
                purchase(3, "1", occurred_at=START + 14 * DAY - MICROSECOND),
                purchase(4, "1", occurred_at=START + 14 * DAY),
            ],
        ),
    )
    assert [rows[unit]["conversion"] for unit in (1, 2, 3, 4)] == [1.0, 0.0, 1.0, 0.0]


def test_refunds_have_their_own_window_and_lower_the_mean_only() -> None:
    spec = experiment(metrics=(CONVERSION, REVENUE_NET_OF_REFUNDS))
    back = {"value": Decimal(3), "currency": "EUR"}
    rows = unit_rows(
        spec,
        tables(
            [exposure(1, "ai"), exposure(2, "ai")],
            [
                purchase(1, "10.5"),
                event(1, "refund", days=27, **back),
                event(1, "refund", days=28, **back),
                event(2, "refund", days=1, **back),
            ],
        ),
    )
    assert (rows[1]["revenue"], rows[1]["conversion"]) == (7.5, 1.0)
    assert (rows[2]["revenue"], rows[2]["conversion"]) == (-3.0, 0.0)


def test_refunds_by_hand_with_delay_filters_cap_and_value() -> None:
    # window day 1 to 15, refunds day 1 to 28, both of German orders only; net at most 100
    metric = replace(
        REVENUE_NET_OF_REFUNDS,
        delay=DAY,
        filters=(Filter("country", "text", "in", ("DE",)),),
        cap=Decimal(100),
        direction="decrease",
    )
    german: dict[str, Any] = {"p_country": "DE"}
    back: dict[str, Any] = {"value": Decimal(30), "currency": "EUR", **german}
    spec = experiment(
        metrics=(metric,), value=(ContributionMargin("revenue", Assumption(Decimal("0.4"))),)
    )
    rows = unit_rows(
        spec,
        tables(
            [exposure(unit, "ai") for unit in (1, 2, 3, 4)],
            [
                purchase(1, "160", days=1, **german),  # 160 - 30 = 130, of which 100 count
                event(1, "refund", days=27, **back),
                event(1, "refund", days=0.5, **back),  # before the delay is over
                event(1, "refund", days=28, **back),  # its window is over
                event(1, "refund", days=2, **(back | {"p_country": "FR"})),
                purchase(2, "30", days=14.9, **german),  # fully returned: nothing is left
                event(2, "refund", days=20, **back),
                purchase(3, "30", days=15, **german),  # the window is over, its refund counts
                event(3, "refund", days=20, **back),
                purchase(4, "70", days=0.5, **german),  # before the delay is over
            ],
        ),
    )
    assert [rows[unit]["revenue"] for unit in (1, 2, 3, 4)] == [100.0, 0.0, -30.0, 0.0]
    assert rows[1]["revenue.uncapped"] == 130.0
    assert [rows[unit]["margin"] for unit in (1, 2, 3, 4)] == [40.0, 0.0, -12.0, 0.0]
    assert [rows[unit]["net"] for unit in (1, 2, 3, 4)] == [40.0, 0.0, -12.0, 0.0]


def test_margin_is_net_of_tax_and_a_return_costs_its_handling() -> None:
    """40 % of 119 EUR with 19 % tax are 40; a parcel that comes back costs 3.50 and what is lost.

    Unit 2 sends everything back: 0 - 3.50 - 6 (goods for 6 EUR are spoilt). Unit 3 keeps half of
    238: 40 - 3.50. Unit 4 buys for 120 in Austria, with 20 % tax: 40.
    """
    german: Any = {"p_country": "DE"}
    austrian: Any = {"p_country": "AT"}

    def of(country: str) -> Metric:
        only = (Filter("country", "text", "in", (country,)),)
        return replace(REVENUE_NET_OF_REFUNDS, key=f"revenue_{country}", filters=only)

    spec = experiment(
        metrics=(
            of("DE"),
            of("AT"),
            Metric("returns", "count", "refund", None, 28 * DAY, "decrease"),
            Metric("spoilt", "mean", "spoilt", "value", 28 * DAY, "decrease"),
        ),
        value=(
            ContributionMargin("revenue_DE", Assumption(Decimal("0.4")), Decimal("0.19")),
            ContributionMargin("revenue_AT", Assumption(Decimal("0.4")), Decimal("0.20")),
            Worth("returns", Assumption(Decimal("-3.50"))),
            Worth("spoilt", Assumption(Decimal(-1))),
        ),
    )
    back = {"value": Decimal(119), "currency": "EUR", **german}
    lost = {"value": Decimal(6), "currency": "EUR", **german}
    rows = unit_rows(
        spec,
        tables(
            [exposure(unit, "ai") for unit in (1, 2, 3, 4)],
            [
                purchase(1, "119", **german),
                purchase(2, "119", **german),
                event(2, "refund", days=9, **back),
                event(2, "spoilt", days=10, **lost),
                purchase(3, "238", **german),
                event(3, "refund", days=9, **back),
                purchase(4, "120", **austrian),
            ],
        ),
    )
    margins = [rows[unit]["margin"] for unit in (1, 2, 3, 4)]
    assert margins == pytest.approx([40.0, -9.5, 36.5, 40.0], abs=1e-12)


def test_maturity_waits_for_every_window_and_the_declared_lateness() -> None:
    spec = experiment(metrics=(CONVERSION, REVENUE_NET_OF_REFUNDS))
    assert windows(spec) == Windows(cost=14 * DAY, maturity=28 * DAY)
    due = START + 28 * DAY + spec.lateness
    facts = tables([exposure(1, "ai")])
    assert unit_rows(spec, facts, Watermark(7, due))[1]["mature"]
    assert not unit_rows(spec, facts, Watermark(7, due - MICROSECOND))[1]["mature"]


def test_a_long_metric_without_value_delays_maturity_but_not_the_window_of_cost() -> None:
    long = Metric("retention", "conversion", "visit", None, 60 * DAY, "increase")
    spec = experiment(metrics=(REVENUE, long))
    assert windows(spec) == Windows(cost=14 * DAY, maturity=60 * DAY)


def test_later_batches_are_not_seen() -> None:
    facts = tables(
        [exposure(1, "ai"), exposure(2, "ai", ingest_batch=8)],
        [purchase(1, "1"), purchase(1, "2", ingest_batch=8)],
        [call("1", unit=1), call("2", unit=1, ingest_batch=8)],
    )
    rows = unit_rows(experiment(), facts)
    assert set(rows) == {1}
    assert (rows[1]["revenue"], rows[1]["cost"]) == (1.0, 1.0)


def test_other_experiments_and_unknown_variants_are_not_in_it() -> None:
    facts = tables(
        [exposure(1, "ai", experiment="other"), exposure(2, "retired"), exposure(3, "ai")],
        [],
        [call("1", unit=3, experiment="other")],
    )
    rows = unit_rows(experiment(), facts)
    assert set(rows) == {3}
    assert rows[3]["cost"] == 0.0


def test_a_declared_property_is_summed_and_a_refund_without_it_counts_its_own_amount() -> None:
    metric = replace(REVENUE_NET_OF_REFUNDS, value="amount_net")
    rows = unit_rows(
        experiment(metrics=(metric,)),
        tables(
            [exposure(1, "ai"), exposure(2, "ai")],
            [
                purchase(1, "119", p_amount_net=Decimal(100)),
                event(1, "refund", value=Decimal(20), currency="EUR"),
                purchase(2, "119", p_amount_net=Decimal(100)),
                event(2, "refund", value=Decimal(20), currency="EUR", p_amount_net=Decimal(17)),
            ],
        ),
    )
    assert (rows[1]["revenue"], rows[2]["revenue"]) == (80.0, 83.0)


def test_an_undeclared_property_is_refused() -> None:
    with pytest.raises(KlartextError, match=r"klartext\.yaml does not declare"):
        unit_rows(
            experiment(metrics=(replace(REVENUE, value="profit"),)), tables([exposure(1, "ai")])
        )


def test_money_in_another_currency_is_never_added() -> None:
    rows = unit_rows(
        experiment(),
        tables([exposure(1, "ai")], [purchase(1, "5"), purchase(1, "7") | {"currency": "USD"}]),
    )
    assert rows[1]["revenue"] == 5.0


def test_amounts_are_summed_exactly_before_they_become_floats() -> None:
    rows = unit_rows(
        experiment(), tables([exposure(1, "ai")], [purchase(1, "0.1") for _ in range(10)])
    )
    assert rows[1]["revenue"] == 1.0


def test_value_entries_add_up_to_the_margin_and_savings_stay_out() -> None:
    lead = Metric("lead", "conversion", "lead", None, 14 * DAY, "increase")
    contact = Metric("contacts", "mean", "contact", "value", 14 * DAY, "decrease")
    spec = experiment(
        metrics=(REVENUE, lead, contact),
        value=(
            ContributionMargin("revenue", Assumption(Decimal("0.42"), Decimal("0.38"))),
            Worth("lead", Assumption(Decimal(35))),
            Worth("contacts", Assumption(Decimal("-6.50"))),
            Saving(
                "text",
                Assumption(Decimal(12)),
                Assumption(Decimal(60)),
                Assumption(Decimal("0.5")),
                "ai",
            ),
        ),
    )
    rows = unit_rows(
        spec,
        tables(
            [exposure(1, "ai")],
            [
                purchase(1, "100"),
                event(1, "lead"),
                event(1, "lead"),
                event(1, "contact", value=Decimal(2)),
            ],
        ),
    )
    assert rows[1]["margin"] == pytest.approx(42 + 35 - 13, abs=1e-12)


def test_cost_lines_per_unit_and_per_event_enter_the_unit() -> None:
    lines = (
        CostLine("other", "unit", Assumption(Decimal("0.10")), "ai"),
        CostLine(
            "human_review",
            "event",
            Assumption(Decimal("1.20"), high=Decimal("2.00")),
            None,
            event="review",
        ),
        CostLine("monitoring", "month", Assumption(Decimal(250)), "ai"),
        CostLine("engineering", "once", Assumption(Decimal(9000)), "ai"),
    )
    rows = unit_rows(
        experiment(costs=Costs(None, None, lines)),
        tables(
            [exposure(1, "ai"), exposure(2, "control")],
            [
                event(1, "review"),
                event(1, "review", days=13),
                event(1, "review", days=14),
                event(2, "review"),
            ],
        ),
    )
    assert rows[1]["events.review"] == 2
    assert rows[1]["cost"] == pytest.approx(0.10 + 2 * 1.20)
    assert rows[2]["cost"] == pytest.approx(1.20)
    assert rows[1]["cost_high"] == pytest.approx(0.10 + 2 * 2.00)


def test_net_and_outlook_follow_from_margin_and_cost() -> None:
    rollout = Rollout(*(Assumption(Decimal(x)) for x in ("1000", "1", "0.7", "0")))
    rows = unit_rows(
        experiment(rollout=rollout),
        tables([exposure(1, "ai")], [purchase(1, "10")], [call("4", unit=1)]),
    )
    assert (rows[1]["net"], rows[1]["outlook"]) == (6.0, 3.0)


def test_a_count_counts_events_and_a_delay_moves_its_window() -> None:
    orders = Metric("orders", "count", "purchase", None, 7 * DAY, "increase", delay=DAY)
    spec = experiment(metrics=(REVENUE, orders))
    at = [1 - 1e-6, 1, 1, 5, 8 - 1e-6, 8]
    bought = [purchase(1, "1", days=days) for days in at]
    rows = unit_rows(spec, tables([exposure(1, "ai")], bought))
    assert (rows[1]["orders"], rows[1]["revenue"]) == (4.0, 6.0)
    assert windows(spec).maturity == 14 * DAY
    late = replace(orders, delay=10 * DAY)
    assert windows(experiment(metrics=(REVENUE, late))).maturity == 17 * DAY


def test_retention_is_an_event_between_two_times() -> None:
    week_2 = Metric("week_2", "retention", "visit", None, 7 * DAY, "increase", delay=7 * DAY)
    facts = tables(
        [exposure(unit, "ai") for unit in (1, 2, 3, 4)],
        [event(1, "visit", days=7), event(1, "visit", days=8), event(2, "visit", days=14),
         event(3, "visit", days=6.9), event(4, "visit", days=13.9)],
    )  # fmt: skip
    rows = unit_rows(experiment(metrics=(REVENUE, week_2)), facts)
    assert [rows[unit]["week_2"] for unit in (1, 2, 3, 4)] == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Filter("country", "text", "in", ("AT", "DE")), 2),
        (Filter("items", "integer", "in", ("2", "7")), 2),
        (Filter("items", "integer", "at_least", ("2",)), 4),
        (Filter("items", "integer", "above", ("2.5",)), 3),
        (Filter("score", "number", "below", ("0.3",)), 1),
        (Filter("score", "number", "at_most", ("0.3",)), 2),
        (Filter("new", "boolean", "in", ("false",)), 1),
        (Filter("amount_net", "money", "above", ("0.1",)), 1),
        (Filter("amount_net", "money", "at_least", ("0.1",)), 2),
    ],
)
def test_filters_let_through_what_they_name(condition: Filter, expected: int) -> None:
    """Events lack the property in turn: what is not known never passes."""
    orders = Metric("orders", "count", "purchase", None, 14 * DAY, "increase", filters=(condition,))
    facts = tables(
        [exposure(1, "ai")],
        [
            event(1, p_country="DE", p_items=1, p_score=0.1, p_new=True),
            event(1, p_country="AT", p_items=2, p_score=0.3, p_new=False),
            event(1, p_country="NO", p_items=3, p_score=0.5, p_amount_net=Decimal("0.1")),
            event(1, p_items=7, p_amount_net=Decimal("0.100000000001")),
            event(1, p_items=8),
        ],
    )
    assert unit_rows(experiment(metrics=(REVENUE, orders)), facts)[1]["orders"] == expected


def test_several_filters_hold_together_and_for_refunds_too() -> None:
    filters = (
        Filter("country", "text", "in", ("DE",)),
        Filter("items", "integer", "at_least", ("2",)),
    )
    metric = replace(REVENUE_NET_OF_REFUNDS, filters=filters)
    german: dict[str, Any] = {"p_country": "DE", "p_items": 2}
    back: dict[str, Any] = {"value": Decimal(3), "currency": "EUR"}
    facts = tables(
        [exposure(1, "ai")],
        [
            purchase(1, "10", **german),
            purchase(1, "100", p_country="DE", p_items=1),
            purchase(1, "1000", p_items=2),
            event(1, "refund", **back, **german),
            event(1, "refund", **back),
        ],
    )
    assert unit_rows(experiment(metrics=(metric,)), facts)[1]["revenue"] == 7.0
    undeclared = (Filter("colour", "text", "in", ("red",)),)
    with pytest.raises(KlartextError, match=r"'colour', which klartext\.yaml does not declare"):
        unit_rows(experiment(metrics=(replace(metric, filters=undeclared),)), facts)


def test_a_ratio_has_no_column() -> None:
    aov = Metric("aov", "ratio", None, None, timedelta(0), "increase",
                 numerator="revenue", denominator="conversion")  # fmt: skip
    spec = experiment(metrics=(CONVERSION, REVENUE, aov))
    assert "aov" not in value_columns(spec)
    assert unit_rows(spec, tables([exposure(1, "ai")], [purchase(1, "5")]))[1]["revenue"] == 5.0


def test_a_cap_cuts_the_metric_and_the_margin_but_not_the_cost() -> None:
    spec = experiment(metrics=(CONVERSION, replace(REVENUE, cap=Decimal(100))))
    facts = tables(
        [exposure(1, "ai"), exposure(2, "ai")],
        [purchase(1, "70"), purchase(1, "80"), purchase(2, "99.5")],
        [call("120", unit=1)],
    )
    rows = unit_rows(spec, facts)
    assert value_columns(spec)[:3] == ("conversion", "revenue", "revenue.uncapped")
    assert [rows[unit]["revenue"] for unit in (1, 2)] == [100.0, 99.5]
    assert [rows[unit]["revenue.uncapped"] for unit in (1, 2)] == [150.0, 99.5]
    assert (rows[1]["margin"], rows[1]["cost"]) == (100.0, 120.0)


def test_a_covariate_looks_back_from_the_exposure() -> None:
    back = (Covariate(lookback=7 * DAY),)
    conversion, revenue = replace(CONVERSION, covariates=back), replace(REVENUE, covariates=back)
    aov = Metric("aov", "ratio", None, None, timedelta(0), "increase", numerator="revenue",
                 denominator="conversion", covariates=(Covariate(lookback=14 * DAY),))  # fmt: skip
    spec = experiment(metrics=(conversion, revenue, aov))
    facts = tables(
        [exposure(1, "ai"), exposure(2, "ai")],
        [
            purchase(1, "1", occurred_at=START),
            purchase(1, "2", occurred_at=START - MICROSECOND),
            purchase(1, "4", days=-7),
            purchase(1, "8", occurred_at=START - 7 * DAY - MICROSECOND),
            purchase(1, "16", occurred_at=START - 14 * DAY - MICROSECOND),
        ],
    )
    rows = unit_rows(spec, facts)
    week, fortnight = f"{7 * 24}h", f"{14 * 24}h"
    assert rows[1]["revenue"] == 1.0
    assert rows[1][f"revenue.before.{week}"] == 6.0
    assert rows[1][f"conversion.before.{week}"] == 1.0
    assert rows[1][f"revenue.before.{fortnight}"] == 14.0
    assert rows[2][f"revenue.before.{week}"] == 0.0


def test_a_named_covariate_is_its_latest_value_before_the_exposure() -> None:
    spec = experiment(metrics=(replace(REVENUE, covariates=(Covariate("history"),)),))
    known = "covariate.history"
    facts = tables(
        [exposure(1, "ai"), exposure(2, "ai"), exposure(3, "control")],
        [
            event(1, known, days=-2, value=Decimal(99), currency="EUR"),
            event(1, known, days=-1, value=Decimal(7), currency="EUR"),
            event(1, known, days=-1, value=Decimal(5), currency="EUR"),
            event(1, known, occurred_at=START, value=Decimal(50), currency="EUR"),
            event(2, known, days=-1, value=Decimal(3), currency="USD"),
            event(3, "covariate.other", days=-1, value=Decimal(3)),
            purchase(1, "10"),
        ],
    )
    rows = unit_rows(spec, facts)
    assert [rows[unit][known] for unit in (1, 2, 3)] == [7.0, 0.0, 0.0]
    assert rows[1]["revenue"] == 10.0


def test_the_order_and_the_repetition_of_facts_change_nothing() -> None:
    spec = experiment(metrics=(CONVERSION, REVENUE_NET_OF_REFUNDS))
    rng = random.Random(7)  # noqa: S311 - no secret
    exposures = [
        exposure(unit, rng.choice(["ai", "control"]), occurred_at=START + rng.random() * 9 * DAY)
        for unit in range(60)
        for _ in range(2)
    ]
    events = [purchase(rng.randrange(70), f"{rng.random():.4f}", days=3) for _ in range(200)]
    usage = [call(f"{rng.random():.6f}", unit=rng.randrange(70)) for _ in range(100)]
    expected = unit_rows(spec, tables(exposures, events, usage))
    for rows in (exposures, events, usage):
        rng.shuffle(rows)
    assert unit_rows(spec, tables(exposures * 2, events, usage)) == expected


def test_a_metric_cannot_take_the_name_of_another_column() -> None:
    with pytest.raises(KlartextError, match="'net' of mail has the name of a column"):
        value_columns(experiment(metrics=(replace(REVENUE, key="net"),)))


def test_the_watermark_of_the_sample_is_after_everything() -> None:
    assert WATERMARK.cutoff > START + 28 * DAY
