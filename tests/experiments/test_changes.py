"""Changes: every field has a rule, and the rules are those of the design."""

from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest

from klartext.experiments.changes import RULES, classify
from klartext.experiments.experiment import (
    AiModel,
    Approvals,
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    DecisionRule,
    Experiment,
    Filter,
    Guardrail,
    Inference,
    Metric,
    Plan,
    Refunds,
    Rollout,
    Variant,
    Worth,
)

AI = Variant("ai", 300_000, {"template": "generated"}, AiModel("gpt-4o", prompt="subject@7"))
CONVERSION = Metric("conversion", "conversion", "purchase", None, timedelta(days=14), "increase")
REVENUE = replace(CONVERSION, key="revenue", kind="mean", value="value")
BACK = Refunds("refund", timedelta(days=28))
GERMAN = Filter("country", "text", "in", ("DE",))
OLD = Experiment(
    key="mail",
    title="Mail",
    owner="lena",
    hypothesis="It pays.",
    kind="ab",
    unit="customer",
    registration="prospective",
    assignment="klartext",
    exposure="posted",
    layer="crm",
    traffic=500_000,
    audience={"country": ("DE", "AT")},
    variants=(Variant("control", 700_000, {}), AI),
    control="control",
    metrics=(CONVERSION, REVENUE),
    guardrails=(Guardrail("conversion", may_worsen_by=Decimal("0.002")),),
    value=(ContributionMargin("revenue", Assumption(Decimal("0.42"))),),
    costs=Costs(
        Decimal(5000), None, (CostLine("engineering", "once", Assumption(Decimal(1000)), "ai"),)
    ),
    plan=Plan(None, datetime(2027, 3, 31, tzinfo=UTC), 40_000, {"conversion": Decimal("0.03")}),
    inference=Inference("anytime", Decimal("0.05"), Decimal("0.1")),
    decision=DecisionRule(
        Decimal("0.3"), Decimal("0.8"), Decimal(1000), timedelta(days=14),
        Approvals(("cfo",), timedelta(days=10)),
    ),
    rollout=Rollout(*(Assumption(Decimal(x)) for x in ("500000", "0.8", "0.7", "0.1"))),
    bandit=None,
    currency="EUR",
    timezone="Europe/Berlin",
    lateness=timedelta(days=2),
)  # fmt: skip


def effects(new: Experiment) -> dict[str, str]:
    return {change.path: change.effect for change in classify(OLD, new)}


def variant(**changes: Any) -> Experiment:
    return replace(OLD, variants=(OLD.variants[0], replace(AI, **changes)))


def test_equal_experiments_have_no_changes() -> None:
    assert classify(OLD, replace(OLD)) == ()


def test_every_field_of_an_experiment_has_a_rule() -> None:
    assert {field.name for field in fields(Experiment)} <= set(RULES)


def test_every_rule_names_a_field() -> None:
    hints = get_type_hints(Experiment)
    for path in RULES:
        name, _, inner = path.partition("[].")
        assert name.removesuffix("[]") in hints
        if inner:
            (item, _) = get_args(hints[name])
            assert inner in get_type_hints(item)


def test_unnamed_inner_fields_are_never_safe() -> None:
    """A field added to a nested class takes its parent's rule: it must not be a safe one."""
    for name, hint in get_type_hints(Experiment).items():
        parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if any(is_dataclass(part) for part in parts):
            assert RULES[name][0] == "refused"  # type: ignore[index]  # a callable would fail too


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (replace(OLD, title="New"), {"title": "safe"}),
        (replace(OLD, hypothesis="New"), {"hypothesis": "safe"}),
        (replace(OLD, owner="max"), {"owner": "safe"}),
        (replace(OLD, traffic=600_000), {"traffic": "safe"}),
        (replace(OLD, traffic=400_000), {"traffic": "new_phase"}),
        (
            replace(OLD, metrics=(*OLD.metrics, replace(CONVERSION, key="clicks"))),
            {"metrics[clicks]": "safe"},
        ),
        (replace(OLD, metrics=OLD.metrics[::-1]), {"metrics": "safe"}),
        (replace(OLD, audience={}), {"audience": "new_phase"}),
        (variant(payload={"template": "b"}), {"variants[ai].payload": "new_phase"}),
        (variant(ai=AiModel("gpt-5", prompt="subject@7")), {"variants[ai].ai.model": "new_phase"}),
        (variant(ai=AiModel("gpt-4o", prompt="b@1")), {"variants[ai].ai.prompt": "new_phase"}),
        (variant(ai=None), {"variants[ai].ai": "new_phase"}),
        (replace(OLD, variants=OLD.variants[:1]), {"variants[ai]": "new_phase"}),
        (
            replace(OLD, variants=(Variant("control", 600_000, {}), replace(AI, weight=400_000))),
            {"variants[control].weight": "new_phase", "variants[ai].weight": "new_phase"},
        ),
        (
            replace(OLD, variants=(*OLD.variants, Variant("third", 0, {}))),
            {"variants[third]": "refused"},
        ),
        (replace(OLD, variants=OLD.variants[::-1]), {"variants": "refused"}),
        (replace(OLD, metrics=OLD.metrics[:1]), {"metrics[revenue]": "refused"}),
        (
            replace(OLD, metrics=(CONVERSION, replace(REVENUE, window=timedelta(days=7)))),
            {"metrics[revenue].window": "refused"},
        ),
        (
            replace(OLD, metrics=(CONVERSION, replace(REVENUE, refunds=BACK))),
            {"metrics[revenue].refunds": "refused"},
        ),
        (
            replace(OLD, metrics=(CONVERSION, replace(REVENUE, filters=(GERMAN,)))),
            {"metrics[revenue].filters[0]": "refused"},
        ),
        (
            replace(OLD, metrics=(CONVERSION, replace(REVENUE, delay=timedelta(days=1)))),
            {"metrics[revenue].delay": "refused"},
        ),
        (replace(OLD, control="ai"), {"control": "refused"}),
        (replace(OLD, layer="other"), {"layer": "refused"}),
        (replace(OLD, guardrails=()), {"guardrails[0]": "refused"}),
        (
            replace(OLD, value=(*OLD.value, Worth("conversion", Assumption(Decimal(5))))),
            {"value[1]": "refused"},
        ),
        (
            replace(OLD, value=(ContributionMargin("revenue", Assumption(Decimal("0.6"))),)),
            {"value[0].rate.base": "refused"},
        ),
        (replace(OLD, costs=replace(OLD.costs, budget=None)), {"costs.budget": "refused"}),
        (replace(OLD, costs=replace(OLD.costs, lines=())), {"costs.lines[0]": "refused"}),
        (replace(OLD, plan=replace(OLD.plan, total_units=1)), {"plan.total_units": "refused"}),
        (replace(OLD, plan=replace(OLD.plan, latest_end=None)), {"plan.latest_end": "refused"}),
        (
            replace(OLD, inference=replace(OLD.inference, alpha=Decimal("0.1"), mode="fixed")),
            {"inference.mode": "refused", "inference.alpha": "refused"},
        ),
        (
            replace(OLD, decision=replace(OLD.decision, hurdle_roi=Decimal(0), approvals=None)),
            {"decision.hurdle_roi": "refused", "decision.approvals": "refused"},
        ),
        (replace(OLD, rollout=None), {"rollout": "refused"}),
        (replace(OLD, registration="retrospective"), {"registration": "refused"}),
        (replace(OLD, lateness=timedelta(0)), {"lateness": "refused"}),
    ],
)  # fmt: skip
def test_effect_of_a_change(new: Experiment, expected: dict[str, str]) -> None:
    assert effects(new) == expected


AUDIENCE = (
    "audience: {country: DE, AT} -> {land: DE, AT} "
    "(new phase: another population is measured from then on)"
)


def test_changes_come_in_the_order_of_the_spec_and_read_well() -> None:
    new = replace(OLD, title="B", traffic=1_000_000, audience={"land": ("DE", "AT")})
    assert [str(change) for change in classify(OLD, new)] == [
        "title: Mail -> B (safe: a text)",
        "traffic: 50% -> 100% (safe: ramping up moves no unit between variants)",
        AUDIENCE,
    ]


def test_what_comes_or_goes_is_said_in_words() -> None:
    (gone,) = classify(OLD, replace(OLD, costs=replace(OLD.costs, lines=())))
    assert (gone.before, gone.after) == (
        "category engineering, behaviour once, amount base 1000, variant ai",
        None,
    )
    assert "-> (nothing)" in str(gone)
