"""Ledger lines in the cost of the test. Every expected number is worked out beside it.

The window is the fortnight from the exposures, 5 January 9:00 to 19 January 9:00 UTC.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from klartext.analysis.booked import book
from klartext.analysis.document import to_json
from klartext.analysis.result import Analysis, CostItem
from klartext.analysis.value import spent
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    Inference,
    Rollout,
)
from klartext.experiments.ledger.bills import Ledger
from klartext.experiments.ledger.book import Recorded
from tests.analysis.samples import (
    DAY,
    START,
    WATERMARK,
    call,
    evaluated,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
)
from tests.experiments.ledger.books import line

END = START + 14 * DAY
LATE = START + 55 * DAY
SPEC = experiment(
    registration="retrospective", inference=Inference("fixed", Decimal("0.05"), Decimal("0.1"))
)
UNITS = [
    *(exposure(unit, "ai") for unit in (1, 2, 3)),
    *(exposure(unit, "control") for unit in (5, 6)),
]
YOUNG = exposure(4, "ai", occurred_at=START + 58 * DAY)  # one of four is not mature
EVENTS = [purchase(1, "10"), purchase(2, "20"), purchase(5, "4")]


def booked(*lines: Any) -> Ledger:
    """Return lines as recorded one after another, from the watermark on."""
    known = {"experiment": "mail", "start": START, "end": END}
    return Ledger(
        tuple(
            Recorded(
                number, f"{number}", WATERMARK.cutoff + number * timedelta(hours=1), "lena",
                line(amount, **(known | more)),
            )
            for number, (amount, more) in enumerate(lines, start=1)
        )
    )  # fmt: skip


def one(amount: str, category: str = "monitoring", **more: Any) -> tuple[str, dict[str, Any]]:
    return amount, {"category": category, "variant": "ai", **more}


def bill(amount: str, **more: Any) -> tuple[str, dict[str, Any]]:
    stated = {"provider": "OpenAI", "status": "invoiced", "behaviour": "per_event"}
    return one(amount, "model_fees", **(stated | more))


def analysed(
    *lines: Any,
    spec: Any = SPEC,
    usage: list[dict[str, Any]] | None = None,
    units: list[dict[str, Any]] | None = None,
    events: list[dict[str, Any]] | None = None,
) -> Analysis:
    facts = tables(units or UNITS, EVENTS + (events or []), usage)
    return evaluated(spec, read(spec, facts, ledger=booked(*lines)))


def cost(analysis: Analysis) -> float:
    (treatment,) = analysis.treatments
    found = treatment.window.cost
    assert isinstance(found, float)
    rows = sum((item.amount for item in treatment.costs if item.amount), Decimal(0))
    assert float(rows) == pytest.approx(found, abs=1e-9)  # what is shown is what is counted
    return found


def items(analysis: Analysis, behaviour: str) -> list[CostItem]:
    return [item for item in analysis.treatments[0].costs if item.behaviour == behaviour]


def gpt(amount: str | None, **more: Any) -> dict[str, Any]:
    return call(amount, **({"provider": "openai", "variant": "ai"} | more))


def test_what_falls_outside_the_window_is_shown_and_does_not_count() -> None:
    """280 EUR for four weeks of which two are the window: 140 in, 140 out."""
    found = analysed(one("280", end=START + 28 * DAY))
    assert cost(found) == pytest.approx(140)
    (item,) = items(found, "month")
    assert item.amount == Decimal(140)
    assert item.evidence == "ledger line 1 (estimated)"
    assert found.ledger.lines == 1
    assert (found.ledger.total, found.ledger.outside) == (Decimal(280), Decimal(140))


def test_months_of_the_window_are_the_quantity() -> None:
    """Fourteen days of January."""
    (item,) = items(analysed(one("31")), "month")
    assert item.quantity == Decimal("0.451612903226")  # 14 / 31


def test_fixed_cost_counts_in_proportion_to_maturity() -> None:
    """Of four treated units three are mature; the window grows until the young one's is closed."""
    found = analysed(one("100", behaviour="one_off"), units=[*UNITS, YOUNG])
    assert cost(found) == pytest.approx(75)


def test_a_one_off_before_the_test_serves_all_of_it() -> None:
    before = {"start": START - 60 * DAY, "end": START - 30 * DAY}
    assert cost(analysed(one("500", "engineering", behaviour="one_off", **before))) == 500
    assert cost(analysed(one("500", "engineering", behaviour="time_based", **before))) == 0
    after = {"start": END, "end": END + DAY}
    assert cost(analysed(one("500", "engineering", behaviour="one_off", **after))) == 0


def test_a_life_of_two_years_is_charged_for_a_partial_month() -> None:
    """7,310 EUR over 731 days (2024 was a leap year) are 10 EUR a day: 140 in fourteen days."""
    life = {"start": datetime.fromisoformat("2024-02-01T09:00Z")}
    life["end"] = life["start"] + 731 * DAY
    found = analysed(one("7310", "licences", behaviour="amortised", **life))
    assert cost(found) == pytest.approx(140)  # the window closes 13 days before the life does
    assert found.ledger.outside == 7170


def test_a_shared_line_is_borne_by_treatments_or_by_all_units() -> None:
    """100 EUR without a variant: fixed, the treatment's; per event, 20 EUR for each of five units.

    Three treated units bear 60, and the control's cost of as many units, 3 x 20, is taken off.
    """
    assert cost(analysed(("100", {"category": "qa"}))) == pytest.approx(100)
    found = analysed(("100", {"category": "qa", "behaviour": "per_event"}))
    assert cost(found) == pytest.approx(0)
    assert [(item.behaviour, item.amount) for item in found.treatments[0].costs] == [
        ("booked", Decimal(60)),
        ("baseline", Decimal(-60)),
    ]


def test_thirds_add_up_to_the_cent() -> None:
    variants = (
        *SPEC.variants,
        replace(SPEC.variants[1], key="b"),
        replace(SPEC.variants[1], key="c"),
    )
    spec = replace(SPEC, variants=variants)
    found = analysed(
        ("100", {"category": "qa"}), spec=spec, units=[*UNITS, exposure(8, "b"), exposure(9, "c")]
    )
    shares = [treatment.costs[0].amount for treatment in found.treatments]
    assert shares == [Decimal("33.34"), Decimal("33.33"), Decimal("33.33")]


def test_a_bill_takes_the_place_of_priced_calls() -> None:
    """Calls of 8 EUR by price, billed with 10: the cost is 10 and never 18."""
    usage = [gpt("5", unit=1), gpt("3", unit=2)]
    found = analysed(bill("10"), usage=usage)
    assert cost(found) == pytest.approx(10)
    assert [item.amount for item in items(found, "billed")] == [Decimal(2)]
    (source,) = found.ledger.sources
    assert source.source == "bill"
    assert [source.booked, source.priced, source.difference] == [10, 8, 2]
    assert (source.calls, source.unpriced, source.lines) == (2, 0, (1,))
    assert not [check for check in found.checks if check.code == "counted_twice"]
    told: Any = to_json(found)["ledger"]
    assert [one["difference"] for one in told["sources"]] == ["2.00"]


def test_a_bill_below_the_prices_lowers_the_cost() -> None:
    found = analysed(bill("6"), usage=[gpt("5", unit=1), gpt("3", unit=2)])
    assert cost(found) == pytest.approx(6)
    assert found.ledger.sources[0].difference == -2


@pytest.mark.parametrize(
    "other",
    [
        {"provider": "anthropic"},
        {"variant": "control"},
        {"category": "vector_storage"},
        {"occurred_at": END},
    ],
)
def test_calls_that_a_bill_does_not_speak_of_keep_their_price(other: dict[str, Any]) -> None:
    """A call of 4 EUR by another provider, variant, category or at another time counts beside.

    Of the control's, 4 EUR over two units, three treated units take off 6.
    """
    found = analysed(bill("10"), usage=[gpt("8", unit=1), gpt("4", **other)])
    assert cost(found) == pytest.approx(4 if "variant" in other else 14)
    assert found.ledger.sources[0].priced == 8


def test_credits_and_corrections_belong_to_their_bill() -> None:
    """Billed 10, a credit of 3 and a correction of 0.50 for the same weeks: 7.50 in all."""
    week = {"start": START + DAY, "end": START + 8 * DAY}
    found = analysed(
        bill("10"),
        bill("-3", kind="credit", **week),
        bill("0.50", kind="correction", **week),
        usage=[gpt("8", unit=1)],
    )
    assert cost(found) == pytest.approx(7.5)
    assert found.ledger.sources[0].booked == Decimal("7.50")


def test_a_credit_alone_replaces_nothing() -> None:
    """Without a charge there is no bill: calls of 8 less a credit of 3."""
    found = analysed(bill("-3", kind="credit"), usage=[gpt("8", unit=1)])
    assert cost(found) == pytest.approx(5)
    assert found.ledger.sources == ()


def test_two_bills_of_one_time_replace_a_call_once() -> None:
    """6 and 4 EUR for the same fortnight, calls of 8 EUR: 10."""
    assert cost(analysed(bill("6"), bill("4"), usage=[gpt("8", unit=1)])) == pytest.approx(10)


def test_a_bill_of_all_variants_is_shared_by_priced_calls() -> None:
    """30 EUR for calls of 12 (ai), 6 (control) and 2 (of no variant): differences 6, 3 and 1.

    Three treated units cost 18; the control's 9 over two units are 4.50 each: 18 - 13.50. The calls
    of nobody and their euro more are in the budget and in the completeness, and in no variant.
    """
    usage = [gpt("12", unit=1), gpt("6", unit=5, variant="control"), gpt("2", variant=None)]
    found = analysed(bill("30", variant=None), usage=usage)
    assert cost(found) == pytest.approx(4.5)
    assert found.completeness.money_share == pytest.approx(27 / 30)


def test_a_bill_pays_for_calls_without_a_price() -> None:
    """One of two calls has no price; the bill of 10 EUR is known, and so is the cost."""
    usage = [gpt("8", unit=1), gpt(None, unit=2)]
    found = analysed(bill("10"), usage=usage)
    assert cost(found) == pytest.approx(10)
    assert (found.completeness.calls, found.completeness.priced_calls) == (2, 2)
    assert found.ledger.sources[0].unpriced == 1
    assert not [item for item in found.treatments[0].costs if item.amount is None]
    without = analysed(bill("10"), usage=[gpt(None, unit=1), gpt(None, unit=5, variant="control")])
    assert cost(without) == pytest.approx(10)  # the control's is another bill


def test_retries_that_were_billed_are_in_the_bill() -> None:
    """Two priced retries of one task and one that the gateway lost: the bill has all three."""
    usage = [gpt("1", unit=1, task="t"), gpt("1", unit=1, task="t", error="timeout")]
    assert cost(analysed(bill("3"), usage=usage)) == pytest.approx(3)


def test_prices_are_truer_than_an_estimate() -> None:
    found = analysed(bill("10", status="accrued"), usage=[gpt("8", unit=1)])
    assert cost(found) == pytest.approx(8)
    (source,) = found.ledger.sources
    assert source.source == "calls"
    assert [source.difference, found.ledger.unused] == [2, 10]


def test_an_estimate_is_truer_than_no_price_at_all() -> None:
    found = analysed(bill("10", status="accrued"), usage=[gpt(None, unit=1)])
    assert cost(found) == pytest.approx(10)
    assert found.ledger.sources[0].source == "estimate"
    assert found.completeness.priced_calls == 0  # and a GO still waits for the price


def test_an_estimate_of_a_month_without_calls_counts() -> None:
    """Calls in the first week only: the estimate of the second is all that is known of it."""
    second = {"start": START + 7 * DAY, "end": END, "status": "estimated"}
    first = {"end": START + 7 * DAY, "status": "estimated"}
    found = analysed(bill("5", **first), bill("6", **second), usage=[gpt("4", unit=1)])
    assert cost(found) == pytest.approx(10)


def test_a_line_without_a_provider_is_no_bill_and_is_flagged() -> None:
    found = analysed(bill("10", provider=None), usage=[gpt("8", unit=1)])
    assert cost(found) == pytest.approx(18)
    (check,) = [check for check in found.checks if check.code == "counted_twice"]
    assert (check.severity, check.detail[:10]) == ("warning", "model_fees")


def test_a_bill_counts_up_to_where_the_facts_reach() -> None:
    """60 days up to the cutoff of 90 billed: two thirds of 9 EUR."""
    found = analysed(bill("9", end=START + 90 * DAY), usage=[gpt("5", unit=1)])
    assert cost(found) == pytest.approx(6)
    assert found.ledger.outside == 3


def test_a_bill_of_young_units_waits_with_them() -> None:
    """Calls of 3 EUR of mature and 1 of a young unit, billed with 8: 3 and three quarters of 4."""
    usage = [gpt("3", unit=1), gpt("1", unit=4)]
    found = analysed(bill("8", end=START + 60 * DAY), usage=usage, units=[*UNITS, YOUNG])
    assert cost(found) == pytest.approx(6)


def test_a_bill_of_calls_after_the_window_leaves_with_them() -> None:
    """Calls of 3 EUR in the window and 1 after it, billed with 8: 3 and three quarters of 4."""
    usage = [gpt("3", unit=1), gpt("1", unit=1, occurred_at=START + 14 * DAY)]
    lines = (bill("8", end=START + 60 * DAY),)
    assert cost(analysed(*lines, usage=usage)) == pytest.approx(6)
    readout = read(SPEC, tables(UNITS, EVENTS, usage), ledger=booked(*lines))
    assert spent(book(SPEC, readout, (START, START + 60 * DAY))) == 8


def test_a_bill_of_calls_after_the_window_does_not_make_cost_complete() -> None:
    """In the window 10 EUR of a unit and 10 of nobody: half is known, with a bill of twice all."""
    usage = [
        *(gpt("0.10", unit=1) for _ in range(100)),
        gpt("1000", unit=1, occurred_at=START + 14 * DAY),
        *(gpt("5", variant="retired") for _ in range(2)),
    ]
    lines = (bill("2040", end=START + 60 * DAY, variant=None),)
    assert analysed(usage=usage).completeness.money_share == 0.5
    assert analysed(*lines, usage=usage).completeness.money_share == 0.5


def test_a_call_after_the_window_does_not_decide_whether_an_estimate_counts() -> None:
    """An estimate of 8 EUR, of which a later call is known to be 1: the call in the window is 7."""
    usage = [gpt(None, unit=1), gpt("1", unit=1, occurred_at=START + 14 * DAY)]
    estimate = bill("8", status="estimated", end=START + 60 * DAY)
    assert cost(analysed(estimate, usage=usage[:1])) == pytest.approx(8)
    assert cost(analysed(estimate, usage=usage)) == pytest.approx(7)
    usage[1] = gpt("9", unit=1, occurred_at=START + 14 * DAY)  # dearer than the estimate of all
    assert analysed(estimate, usage=usage).ledger.sources[0].source == "calls"


def test_a_source_that_delivered_calls_after_the_window_only_delivered() -> None:
    spec = replace(SPEC, costs=Costs(None, "gateway", ()))
    usage = [gpt("1", unit=1, occurred_at=START + 14 * DAY)]
    known = analysed(spec=spec, usage=usage).completeness
    assert (known.calls, known.calls_after, known.priced_share) == (0, 1, 1.0)
    assert analysed(spec=spec).completeness.priced_share == 0.0


def stated(*lines: CostLine) -> Any:
    return replace(SPEC, costs=Costs(Decimal(1000), None, lines))


def test_a_line_takes_the_place_of_a_one_off_of_the_spec() -> None:
    """Planned 1,000; two invoices of 700 and 450 from before the test make it 1,150."""
    spec = stated(CostLine("engineering", "once", Assumption(Decimal(1000)), "ai"))
    before: Any = {"start": START - 30 * DAY, "end": START, "replaces": "engineering"}
    found = analysed(
        one("700", "engineering", **before), one("450", "engineering", **before), spec=spec
    )
    assert cost(found) == pytest.approx(1150)
    (item,) = items(found, "once")
    assert item.evidence == "2 ledger lines, 1 to 2 (estimated) in the place of 1000.00 of the spec"
    assert cost(analysed(spec=spec)) == pytest.approx(1000)


def test_the_same_work_without_replaces_counts_twice_and_is_flagged() -> None:
    spec = stated(CostLine("engineering", "once", Assumption(Decimal(1000)), "ai"))
    found = analysed(one("700", "engineering", behaviour="one_off"), spec=spec)
    assert cost(found) == pytest.approx(1700)
    assert [c.code for c in found.checks if c.severity == "warning"].count("counted_twice") == 1


def test_an_amortised_line_keeps_its_life() -> None:
    """2,400 planned over 24 months, 3,100 booked: 14/31 of a month of 3100 / 24."""
    spec = stated(
        CostLine("engineering", "amortised", Assumption(Decimal(2400)), "ai", life_months=24)
    )
    found = analysed(one("3100", "engineering", replaces="engineering"), spec=spec)
    assert cost(found) == pytest.approx(14 / 31 * 3100 / 24)  # 58.33


def test_a_monthly_line_is_replaced_for_the_time_that_is_booked() -> None:
    """310 a month are 10 a day; a week is billed with 90, so fourteen days cost 70 + 90."""
    spec = stated(CostLine("monitoring", "month", Assumption(Decimal(310)), "ai", label="Grafana"))
    week: Any = {"end": START + 7 * DAY, "replaces": "Grafana", "status": "invoiced"}
    found = analysed(one("90", **week), spec=spec)
    assert cost(found) == pytest.approx(160)
    assert found.ledger.outside == 0


def test_a_line_per_event_is_replaced_per_unit() -> None:
    """Two reviews at 1.20 are 2.40 by the spec; they were billed with 3: the cost is 3.

    The event itself is mature and so is its unit; with a young unit beside, 3 of 4 units bear the
    3 EUR, and the 2.40 are taken off whole.
    """
    spec = stated(
        CostLine("human_review", "event", Assumption(Decimal("1.20")), "ai", event="review")
    )
    reviews = [event(1, "review"), event(2, "review")]
    billed = one("3", "human_review", replaces="human_review", status="invoiced")
    found = analysed(billed, spec=spec, events=reviews)
    assert cost(found) == pytest.approx(3)
    assert [item.amount for item in items(found, "replaced")] == [Decimal("-2.40")]
    half = one("3", "human_review", replaces="human_review", end=START + 7 * DAY)
    assert cost(analysed(half, spec=spec, events=reviews)) == pytest.approx(1.20 + 3)


def test_what_is_spent_is_what_is_billed() -> None:
    """A budget of 9 EUR: calls of 8 keep it, their bill of 10 breaks it."""
    spec = replace(SPEC, costs=Costs(Decimal(9), None, ()))
    usage = [gpt("8", unit=1)]
    assert analysed(spec=spec, usage=usage).treatments[0].decision.rule != "safety"
    assert analysed(bill("10"), spec=spec, usage=usage).treatments[0].decision.rule == "safety"


def test_what_the_ledger_replaces_is_not_spent_twice_while_units_are_young() -> None:
    """Three mails at 2 EUR were billed with 7, two reviews at 1 EUR with 4, for half of the time.

    No unit is mature: spent are 7 + 4 and half of 2 EUR for reviews, which the bill does not cover.
    """
    per_unit = CostLine("media", "unit", Assumption(Decimal(2)), "ai")
    review = CostLine("human_review", "event", Assumption(Decimal(1)), "ai", event="review")
    spec, late = stated(per_unit, review), START + 58 * DAY
    lines = booked(
        one("7", "media", replaces="media", start=late, end=late + 2 * DAY),
        one("4", "human_review", replaces="human_review", start=late, end=late + DAY),
    )
    units = [exposure(unit, "ai", occurred_at=late) for unit in (1, 2, 3)]
    reviews = [event(unit, "review", occurred_at=late) for unit in (1, 2)]
    readout = read(spec, tables(units, reviews), ledger=lines)
    assert sum(count.mature for count in readout.counts) == 0
    assert spent(book(spec, readout, (late, late + 2 * DAY))) == 7 + 4 + 1


ROLLOUT = Rollout(*(Assumption(Decimal(given)) for given in ("1200", "1", "1", "0.1")))
AHEAD: Any = {"start": WATERMARK.cutoff, "end": WATERMARK.cutoff + 100 * DAY}


def outlook(*lines: Any, spec: Any = SPEC, **more: Any) -> Any:
    return analysed(*lines, spec=replace(spec, rollout=ROLLOUT), **more).treatments[0].outlook


def test_only_future_avoidable_cost_decides() -> None:
    """What is past, billed or amortised is sunk; an estimate of the next months is not."""
    assert outlook(one("500", status="invoiced")).fixed_cost == 0
    assert outlook(one("500", **AHEAD)).fixed_cost == pytest.approx(500)
    billed = outlook(one("500", status="invoiced", **AHEAD))
    assert billed.fixed_cost == 0
    assert billed.net_benefit - billed.full_cost_net_benefit == pytest.approx(500)
    life = outlook(one("500", behaviour="amortised", **AHEAD))
    assert (life.fixed_cost, life.net_benefit - life.full_cost_net_benefit) == (0, 500)
    past = outlook(one("500", "engineering", behaviour="one_off"))
    assert (past.fixed_cost, past.net_benefit - past.full_cost_net_benefit) == (0, 500)
    control = outlook(one("500", variant="control", **AHEAD))
    assert control.fixed_cost == pytest.approx(-500)  # it ends when everybody gets the treatment


def test_variable_cost_of_the_ledger_grows_with_the_units() -> None:
    """Calls of 3 EUR billed with 6 for three units: 2 EUR a unit, for 1,200 units a year."""
    calls = [gpt("3", unit=1)]
    by_price, by_bill = outlook(usage=calls), outlook(bill("6"), usage=calls)
    assert by_price.net_benefit - by_bill.net_benefit == pytest.approx(1200)
    review = outlook(one("3", "human_review", behaviour="per_event"))
    assert outlook().net_benefit - review.net_benefit == pytest.approx(1200)
    # And next month's estimate of the same calls is in that already.
    ahead = outlook(bill("6"), bill("50", status="estimated", **AHEAD), usage=calls)
    assert ahead.net_benefit == pytest.approx(by_bill.net_benefit)


def test_a_monthly_line_is_replaced_in_the_future_too() -> None:
    """100 a month, 1,200 a year; for one year ahead an offer of 900 is booked instead."""
    spec = stated(CostLine("monitoring", "month", Assumption(Decimal(100)), "ai"))
    year: Any = {"start": WATERMARK.cutoff, "end": WATERMARK.cutoff.replace(year=2027)}
    assert outlook(spec=spec).fixed_cost == pytest.approx(1200)
    found = outlook(one("900", replaces="monitoring", **year), spec=spec)
    assert found.fixed_cost == pytest.approx(900)


def test_without_a_rollout_the_test_is_the_horizon() -> None:
    found = analysed(one("280", end=START + 28 * DAY)).treatments[0].outlook
    assert found.fixed_cost == pytest.approx(140)


def test_all_that_is_booked_is_accounted_for() -> None:
    lines = [
        one("280", end=START + 28 * DAY),
        bill("10", status="accrued"),
        one("-7", kind="credit"),
    ]
    found = analysed(*lines, usage=[gpt("8", unit=1)])
    view = found.ledger
    assert view.total == view.outside + view.unused + Decimal(140) - 7
    assert view.recorded_until == WATERMARK.cutoff + timedelta(hours=3)
