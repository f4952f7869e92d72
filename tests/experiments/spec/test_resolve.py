import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.experiment import (
    MILLION,
    AiModel,
    Approvals,
    Assumption,
    BanditPolicy,
    ContributionMargin,
    CostLine,
    Costs,
    DecisionRule,
    Filter,
    Guardrail,
    Inference,
    Metric,
    Plan,
    Refunds,
    Rollout,
    Saving,
    Variant,
    Worth,
)
from klartext.experiments.spec.loading import loads
from klartext.experiments.spec.resolve import equal_weights
from klartext.experiments.workspace import Workspace, find_workspace
from tests.experiments.spec.conftest import EXPERIMENT, METRICS, Read, changed

DAY = timedelta(days=1)
D = Decimal


def test_every_kind_of_metric(read: Read) -> None:
    end = "refunds: {event: refund, window: 45d}}\n"
    more = """\
  - {key: orders, kind: count, event: purchase, delay: 1d, window: 7d}
  - {key: week_2, kind: retention, event: visit, between: [7d, 14d]}
  - {key: aov, kind: ratio, numerator: revenue, denominator: orders}
  - {key: late, kind: mean, event: purchase, delay: 1d, refunds: {event: refund}}
"""
    *_, orders, week, aov, late = read(changed((end, end + more))).experiment.metrics
    assert (orders.kind, orders.delay, orders.closes_after) == ("count", DAY, 8 * DAY)
    assert (week.delay, week.window, week.is_rate) == (7 * DAY, 7 * DAY, True)
    assert (aov.event, aov.numerator, aov.denominator) == (None, "revenue", "orders")
    assert aov.closes_after == timedelta(0)
    assert late.refunds == Refunds("refund", 29 * DAY)


def test_filters_have_one_spelling(read: Read) -> None:
    def filters(text: str) -> tuple[Filter, ...]:
        written = f"value: amount_net, filters: {text}"
        return read(changed(("value: amount_net", written))).experiment.metrics[2].filters

    expected = (
        Filter("amount_net", "money", "below", ("49.9",)),
        Filter("country", "text", "in", ("AT", "DE")),
        Filter("items", "integer", "above", ("1",)),
        Filter("items", "integer", "at_most", ("9",)),
    )
    one = "{country: [DE, AT], items: {above: 1, at_most: 9}, amount_net: {below: 49.90 EUR}}"
    other = "{amount_net: {below: 49.9 EUR}, items: {at_most: 9, above: 1}, country: [AT, DE, AT]}"
    assert filters(one) == filters(other) == expected


def test_the_example_of_the_design(read: Read) -> None:
    experiment = read().experiment
    assert experiment.audience == {"country": ("DE", "AT", "NO")}
    assert experiment.variants == (
        Variant("control", 500_000, {"template": "classic"}),
        Variant(
            "ai",
            500_000,
            {"template": "generated"},
            AiModel("gpt-4o-2024-11-20", None, "subject-lines@7"),
        ),
    )
    assert experiment.metrics == (
        Metric("conversion", "conversion", "purchase", None, 14 * DAY, "increase"),
        Metric("unsubscribe", "conversion", "unsubscribe", None, 14 * DAY, "decrease"),
        Metric(
            "revenue", "mean", "purchase", "amount_net", 14 * DAY, "increase",
            Refunds("refund", 45 * DAY),
        ),
    )  # fmt: skip
    assert experiment.guardrails == (Guardrail("unsubscribe", may_worsen_by=D("0.002")),)
    assert experiment.value == (
        ContributionMargin(
            "revenue",
            Assumption(D("0.42"), D("0.38"), D("0.45"), "DB-Rechnung 2026", "m.huber"),
        ),
        Saving("copywriting", Assumption(D(12)), Assumption(D(60)), Assumption(D("0.5")), "ai"),
    )
    assert experiment.costs == Costs(
        D(5000),
        "ai-gateway",
        (
            CostLine(
                "engineering", "amortised", Assumption(D(15200)), "ai", hours=D(160), rate=D(95),
                life_months=24,
            ),
            CostLine("human_review", "event", Assumption(D("1.20")), "ai", event="review"),
            CostLine("monitoring", "month", Assumption(D(250)), "ai"),
        ),
    )  # fmt: skip
    assert experiment.plan == Plan(
        datetime(2027, 1, 12, 8, tzinfo=UTC),  # 09:00 in Berlin
        datetime(2027, 3, 31, 22, tzinfo=UTC),  # the end of that day in Berlin
        40_000,
        {"conversion": D("0.03")},
    )
    assert experiment.inference == Inference("anytime", D("0.05"), D("0.1"), prior_source="default")
    assert experiment.decision == DecisionRule(
        D("0.3"), D("0.8"), D(1000), 14 * DAY, Approvals(("controlling", "cfo"), 10 * DAY)
    )
    assert experiment.rollout == Rollout(
        Assumption(D(500_000)),
        Assumption(D("0.8")),
        Assumption(D("0.7"), D("0.5"), D("0.9")),
        Assumption(D("0.1")),
    )
    assert experiment.bandit is None
    assert (experiment.currency, experiment.timezone, experiment.lateness) == (
        "EUR",
        "Europe/Berlin",
        DAY,
    )


SMALL = """\
schema: klartext/experiment/v1
key: small
title: Small
owner: lena
unit: customer
variants: [{key: a}, {key: b}, {key: c}]
control: a
metrics: [{key: buy, kind: mean, event: purchase, refunds: {event: refund}}]
plan: {total_units: 3000}
decision: {expected_loss: 10 EUR}
"""


def test_defaults_are_written_out(read: Read) -> None:
    experiment = read(SMALL).experiment
    assert experiment.kind == "ab"
    assert experiment.registration == "prospective"
    assert (experiment.assignment, experiment.exposure) == ("klartext", "posted")
    assert (experiment.layer, experiment.traffic) == ("small", MILLION)
    assert [variant.weight for variant in experiment.variants] == [333_334, 333_333, 333_333]
    assert experiment.metrics[0] == Metric(
        "buy", "mean", "purchase", "value", 14 * DAY, "increase", Refunds("refund", 28 * DAY)
    )
    assert experiment.costs == Costs(None, None, ())
    assert experiment.plan == Plan(None, None, 3000, {})
    assert experiment.inference == Inference("anytime", D("0.05"), D("0.1"), prior_source="default")
    assert experiment.decision == DecisionRule(D(0), D("0.8"), D(10), 14 * DAY, None)
    assert (experiment.rollout, experiment.bandit) == (None, None)


def test_a_retrospective_experiment_is_external_fixed_and_may_be_short(read: Read) -> None:
    text = SMALL.replace("plan: {total_units: 3000}", "registration: retrospective")
    experiment = read(text).experiment
    assert experiment.registration == "retrospective"
    assert experiment.assignment == "external"
    assert experiment.inference.mode == "fixed"
    assert experiment.decision.min_duration == timedelta(0)


def test_a_bandit(read: Read) -> None:
    text = SMALL.replace("kind: mean", "kind: conversion").replace(", refunds: {event: refund}", "")
    text += "kind: bandit\nbandit: {policy: thompson, reward: buy}\n"
    assert read(text).experiment.bandit == BanditPolicy("thompson", "buy", 20_000)


def test_equal_may_be_said(read: Read) -> None:
    said = SMALL.replace("{key: a}, {key: b}, {key: c}", ", ".join(
        f"{{key: {key}, weight: equal}}" for key in "abc"
    ))  # fmt: skip
    assert read(said).sha256 == read(SMALL).sha256


@given(st.integers(2, 500))
def test_equal_weights_sum_to_a_million_and_differ_by_one_at_most(count: int) -> None:
    weights = equal_weights(count)
    assert sum(weights) == MILLION
    assert max(weights) - min(weights) <= 1


def test_worth_may_be_negative(read: Read) -> None:
    text = changed(
        (
            "  - {saving",
            "  - {metric: unsubscribe, worth: {base: -6.50 EUR, low: -8 EUR}}\n  - {saving",
        )
    )
    assert read(text).experiment.value[1] == Worth("unsubscribe", Assumption(D("-6.50"), D(-8)))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("may_worsen_by: 0.2pp", Guardrail("unsubscribe", may_worsen_by=D("0.002"))),
        ("may_worsen_by: 5%", Guardrail("unsubscribe", may_worsen_by_relative=D("0.05"))),
        ("at_most: 1%", Guardrail("unsubscribe", at_most=D("0.01"))),
    ],
)
def test_limits(read: Read, written: str, meant: Guardrail) -> None:
    text = changed(("may_worsen_by: 0.2pp", written))
    assert read(text).experiment.guardrails == (meant,)


def test_limits_of_means(read: Read) -> None:
    text = changed(("{metric: unsubscribe, may_worsen_by: 0.2pp}",
                    "{metric: revenue, may_worsen_by: 0.50 EUR}"))  # fmt: skip
    assert read(text).experiment.guardrails == (Guardrail("revenue", may_worsen_by=D("0.50")),)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("amount: 90 EUR", CostLine("qa", "once", Assumption(D(90)), None)),
        ("amount: 90 EUR, per: once", CostLine("qa", "once", Assumption(D(90)), None)),
        ("amount: 90 EUR, life: 2y",
         CostLine("qa", "amortised", Assumption(D(90)), None, life_months=24)),
        ("amount: 90 EUR, per: unit", CostLine("qa", "unit", Assumption(D(90)), None)),
        ("amount: 90 EUR, per: call, label: calls",
         CostLine("qa", "event", Assumption(D(90)), None, label="calls", event="call")),
        ("hours: 3, rate: 30 EUR, per: month",
         CostLine("qa", "month", Assumption(D(90)), None, hours=D(3), rate=D(30))),
        ("hours: {base: 3, low: 2, source: a}, rate: {base: 30 EUR, high: 40 EUR, source: b}",
         CostLine("qa", "once", Assumption(D(90), D(60), D(120), "a; b"), None,
                  hours=D(3), rate=D(30))),
    ],
)  # fmt: skip
def test_cost_lines(read: Read, written: str, meant: CostLine) -> None:
    text = changed(("  lines:\n", f"  lines:\n    - {{category: qa, {written}}}\n"))
    assert read(text).experiment.costs.lines[0] == meant


def test_layout_comments_and_order_of_keys_do_not_change_the_hash(read: Read) -> None:
    lines = EXPERIMENT.splitlines()
    schema, key, title, *rest = [line.split(" #")[0].rstrip() for line in lines]
    other = "\n".join(["# another layout", title, key, *rest, schema]).replace(
        "{key: control, weight: 50%, payload: {template: classic}}",
        "payload: {'template': \"classic\"}\n    weight: 50.0 %\n    key: control",
    )
    assert other != EXPERIMENT
    assert read(other + "\n").sha256 == read().sha256


def test_a_metric_written_out_is_the_metric_named(read: Read) -> None:
    written_out = changed(
        ("- conversion  ", "- {key: conversion, kind: conversion, event: purchase, window: 2w} #")
    )
    assert read(written_out).sha256 == read().sha256


def test_changing_shared_metrics_changes_the_hash(read: Read, workspace: Workspace) -> None:
    before = read().sha256
    (workspace.root / "metrics.yaml").write_text(METRICS.replace("14d}", "21d}"))
    assert read().sha256 != before


def test_the_workspace_is_part_of_the_hash(read: Read, workspace: Workspace) -> None:
    changes = {"timezone": "UTC", "lateness": 2 * DAY}
    for name, value in changes.items():
        other = dataclasses.replace(workspace, **{name: value})  # type: ignore[arg-type] # by name
        assert loads(EXPERIMENT.encode(), "x.yaml", other).sha256 != read().sha256
    assert find_workspace(workspace.root) == workspace


def test_an_exposure_event_keeps_every_allocation(read: Read) -> None:
    """Nobody posts exposures then: all units must be known who might have reached the event."""
    event = "unit: customer\nexposure: {event: mail_sent}"
    found = read(changed(("unit: customer", event))).experiment
    assert (found.exposure, found.exposure_event) == ("on_allocation", "mail_sent")
    elsewhere = read(changed(("unit: customer", f"{event}\nassignment: external"))).experiment
    assert (elsewhere.exposure, elsewhere.exposure_event) == ("posted", "mail_sent")


def test_what_a_roll_out_plans_may_have_a_range(read: Read) -> None:
    rollout = """\
rollout:
  units_per_year: {base: 500000, low: 300000, source: CRM, owner: lena.vogt}
  share: {base: 80%, high: 100%}
  discount_rate: {base: 10%, low: 8%, high: 12%}
"""
    assert read(SMALL + rollout).experiment.rollout == Rollout(
        Assumption(D(500_000), D(300_000), None, "CRM", "lena.vogt"),
        Assumption(D("0.8"), None, D(1)),
        Assumption(D(1)),
        Assumption(D("0.1"), D("0.08"), D("0.12")),
    )
