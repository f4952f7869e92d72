"""Every key that is accepted changes the resolved form, and so the hash."""

import copy
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from klartext.experiments.documents.validation import Model
from klartext.experiments.spec.syntax import ExperimentDocument
from tests.experiments.spec.conftest import Read, document

BANDIT = {"kind": "bandit", "bandit": {"policy": "thompson", "reward": "conversion"}}
RETROSPECTIVE = {"registration": "retrospective", "inference": {"alpha": "5%"}}
RATIO = {"metrics.3": {"key": "x", "kind": "ratio", "numerator": "revenue",
                       "denominator": "conversion"}}  # fmt: skip
GROUP = {"inference.mode": "group_sequential", "plan.looks": 3}
LINE = "costs.lines.0"
RANGE = "value.0.contribution_margin"

# key -> what is changed, by path; before that, what the example needs so that the key fits
CHANGES: dict[str, dict[str, Any] | tuple[dict[str, Any], dict[str, Any]]] = {
    "ExperimentDocument.key": {"key": "other"},
    "ExperimentDocument.title": {"title": "Other"},
    "ExperimentDocument.owner": {"owner": "other"},
    "ExperimentDocument.hypothesis": {"hypothesis": "Other."},
    "ExperimentDocument.kind": BANDIT,
    "ExperimentDocument.unit": {"unit": "visitor"},
    "ExperimentDocument.registration": RETROSPECTIVE,
    "ExperimentDocument.assignment": {"assignment": "external"},
    "ExperimentDocument.exposure": {"exposure": "on_allocation"},
    "ExposureEventSyntax.event": ({"exposure": {"event": "mail_sent"}},
                                  {"exposure.event": "mail_opened"}),
    "ExperimentDocument.layer": {"layer": "other"},
    "ExperimentDocument.traffic": {"traffic": "50%"},
    "ExperimentDocument.audience": {"audience": {"country": ["DE"]}},
    "ExperimentDocument.variants": {"variants": [{"key": "ai"}, {"key": "control"}]},
    "ExperimentDocument.control": {"control": "ai", "value.1.variant": "control"},
    "ExperimentDocument.metrics": {"metrics.3": {"key": "x", "kind": "mean", "event": "x"}},
    "ExperimentDocument.guardrails": {"guardrails": []},
    "ExperimentDocument.segments": {"segments": ["country"]},
    "ExperimentDocument.scope": ({"traffic": "100%", "audience": {}}, {"scope": "programme"}),
    "ExperimentDocument.value": {"value": []},
    "ExperimentDocument.costs": {"costs": {}},
    "ExperimentDocument.plan": {"plan": {"total_units": 40000}},
    "ExperimentDocument.inference": {"inference": {"mode": "fixed"}},
    "ExperimentDocument.decision": {"decision": {"expected_loss": "1 EUR"}},
    "ExperimentDocument.rollout": {"rollout": {"units_per_year": 1}},
    "ExperimentDocument.bandit": (BANDIT, {"bandit.floor": "1%"}),
    "VariantSyntax.key": {"variants.1.key": "gpt", "value.1.variant": "gpt",
                          **{f"costs.lines.{i}.variant": "gpt" for i in range(3)}},
    "VariantSyntax.weight": {"variants.0.weight": "40%", "variants.1.weight": "60%"},
    "VariantSyntax.payload": {"variants.0.payload": {}},
    "VariantSyntax.ai": {"variants.0.ai": {"model": "m"}},
    "Ai.model": {"variants.1.ai.model": "other"},
    "Ai.provider": {"variants.1.ai.provider": "openai"},
    "Ai.prompt": {"variants.1.ai.prompt": "other"},
    "MetricSyntax.key": {"metrics.2.key": "sales", "value.0.metric": "sales"},
    "MetricSyntax.kind": ({"metrics.0": {"key": "conversion", "kind": "mean", "event": "e"}},
                          {"metrics.0.kind": "conversion"}),
    "MetricSyntax.event": {"metrics.2.event": "order"},
    "MetricSyntax.value": {"metrics.2.value": "value"},
    "MetricSyntax.window": {"metrics.2.window": "7d"},
    "MetricSyntax.direction": {"metrics.2.direction": "decrease"},
    "MetricSyntax.refunds": {"metrics.2.refunds": {"event": "refund"}},
    "MetricSyntax.delay": {"metrics.2.delay": "1d"},
    "MetricSyntax.between": ({"metrics.3": {"key": "x", "kind": "retention", "event": "e",
                                            "between": ["1d", "2d"]}},
                             {"metrics.3.between": ["1d", "3d"]}),
    "MetricSyntax.filters": {"metrics.2.filters": {"country": "DE"}},
    "MetricSyntax.numerator": (RATIO, {"metrics.3.numerator": "unsubscribe"}),
    "MetricSyntax.denominator": (RATIO, {"metrics.3.denominator": "unsubscribe"}),
    "MetricSyntax.quantile": ({"metrics.3": {"key": "x", "kind": "quantile", "event": "e",
                                             "quantile": "95%"}},
                              {"metrics.3.quantile": "50%"}),
    "MetricSyntax.cap": ({"metrics.2.cap": "500 EUR"}, {"metrics.2.cap": "p99"}),
    "MetricSyntax.covariates": {"metrics.2.covariates": ["history"]},
    "MetricSyntax.negligible": {"metrics.2.negligible": "0.50 EUR"},
    "LookbackSyntax.lookback": ({"metrics.2.covariates": [{"lookback": "28d"}]},
                                {"metrics.2.covariates": [{"lookback": "14d"}]}),
    **{f"ComparisonSyntax.{key}": {"metrics.2.filters": {"items": {key: 2}}}
       for key in ("above", "at_least", "below", "at_most")},
    "RefundsSyntax.event": {"metrics.2.refunds.event": "return"},
    "RefundsSyntax.window": {"metrics.2.refunds.window": "30d"},
    "GuardrailSyntax.metric": {"guardrails.0.metric": "conversion"},
    "GuardrailSyntax.may_worsen_by": {"guardrails.0.may_worsen_by": "0.3pp"},
    "GuardrailSyntax.at_most": ({"guardrails.0": {"metric": "unsubscribe", "at_most": "1%"}},
                                {"guardrails.0.at_most": "2%"}),
    "MarginSyntax.metric": ({"metrics.3": {"key": "x", "kind": "mean", "event": "x"}},
                            {"value.0.metric": "x"}),
    "MarginSyntax.contribution_margin": {RANGE: "42%"},
    "MarginSyntax.vat": {"value.0.vat": "19%"},
    "ShareRange.base": {f"{RANGE}.base": "41%"},
    "ShareRange.low": {f"{RANGE}.low": "37%"},
    "ShareRange.high": {f"{RANGE}.high": "46%"},
    "ShareRange.source": {f"{RANGE}.source": "other"},
    "ShareRange.owner": {f"{RANGE}.owner": "other"},
    "WorthSyntax.metric": ({"value.0": {"metric": "revenue", "worth": "1 EUR"}},
                           {"value.0.metric": "conversion"}),
    "WorthSyntax.worth": ({"value.0": {"metric": "revenue", "worth": "1 EUR"}},
                          {"value.0.worth": "2 EUR"}),
    "SavingSyntax.saving": {"value.1.saving": "other"},
    "SavingSyntax.hours": {"value.1.hours": 13},
    "SavingSyntax.rate": {"value.1.rate": "61 EUR"},
    "SavingSyntax.realised": {"value.1.realised": "51%"},
    "SavingSyntax.variant": ({"variants": [{"key": "control"}, {"key": "ai"}, {"key": "b"}]},
                             {"value.1.variant": "b"}),
    "UsageSyntax.source": {"costs.usage.source": "other"},
    "CostsSyntax.budget": {"costs.budget": "1 EUR"},
    "CostsSyntax.usage": {"costs": {"budget": "5000 EUR"}},
    "CostsSyntax.window": {"costs.window": "28d"},
    "CostsSyntax.lines": {"costs.lines": []},
    "CostLineSyntax.category": {f"{LINE}.category": "qa"},
    "CostLineSyntax.label": {f"{LINE}.label": "build"},
    "CostLineSyntax.hours": {f"{LINE}.hours": 161},
    "CostLineSyntax.rate": {f"{LINE}.rate": "96 EUR"},
    "CostLineSyntax.amount": {"costs.lines.1.amount": "2 EUR"},
    "CostLineSyntax.per": {"costs.lines.1.per": "unit"},
    "CostLineSyntax.life": {f"{LINE}.life": "2mo"},
    "CostLineSyntax.variant": {f"{LINE}.variant": "control"},
    "PlanSyntax.start": {"plan.start": "2027-01-13"},
    "PlanSyntax.latest_end": {"plan.latest_end": "2027-04-01"},
    "PlanSyntax.total_units": {"plan.total_units": 1},
    "PlanSyntax.looks": (GROUP, {"plan.looks": ["50%", "100%"]}),
    "PlanSyntax.expected_lift": {"plan.expected_lift": {"revenue": "1%"}},
    "InferenceSyntax.mode": {"inference.mode": "fixed"},
    "InferenceSyntax.alpha": {"inference.alpha": "1%"},
    "InferenceSyntax.spending": (GROUP, {"inference.spending": "pocock"}),
    "InferenceSyntax.correction": {"inference.correction": "false_discovery"},
    "InferenceSyntax.prior": {"inference.prior": {"relative_sd": "5%"}},
    "PriorSyntax.relative_sd": ({"inference.prior": {"relative_sd": "5%"}},
                                {"inference.prior.relative_sd": "6%"}),
    "DecisionSyntax.expected_loss": {"decision.expected_loss": "1 EUR"},
    "DecisionSyntax.hurdle_roi": {"decision.hurdle_roi": "1%"},
    "DecisionSyntax.probability": {"decision.probability": "90%"},
    "DecisionSyntax.min_duration": {"decision.min_duration": "21d"},
    "DecisionSyntax.approvals": {"decision.approvals": {"by": ["cfo"]}},
    "DecisionSyntax.preflight": {"decision.preflight": [{"check": "load-test", "minimum": 1}]},
    "GateSyntax.check": ({"decision.preflight": [{"check": "load-test", "minimum": 1}]},
                         {"decision.preflight.0.check": "legal"}),
    "GateSyntax.minimum": ({"decision.preflight": [{"check": "load-test", "minimum": 1}]},
                           {"decision.preflight.0.minimum": 0.99}),
    "ApprovalsSyntax.by": {"decision.approvals.by": ["ceo"]},
    "ApprovalsSyntax.within": {"decision.approvals.within": "1d"},
    "RolloutSyntax.units_per_year": {"rollout.units_per_year": 1},
    "RolloutSyntax.share": {"rollout.share": "1%"},
    "RolloutSyntax.persistence": {"rollout.persistence": "1%"},
    "RolloutSyntax.discount_rate": {"rollout.discount_rate": "1%"},
    "BanditSyntax.reward": (BANDIT, {"bandit.reward": "unsubscribe"}),
    "BanditSyntax.floor": (BANDIT, {"bandit.floor": "3%"}),
}  # fmt: skip

# Only one value is accepted, so there is nothing to change; another version will know more.
ONE_VALUE = {"ExperimentDocument.schema", "SavingSyntax.per", "BanditSyntax.policy"}
# The same keys as ShareRange, for another kind of input.
LIKE_SHARE_RANGE = {"HoursRange", "AmountRange", "CostRange", "CountRange", "RateRange"}


def keys_of(model: type[Model], seen: set[type[Model]]) -> Iterator[str]:
    seen.add(model)
    for name, field in model.model_fields.items():
        yield f"{model.__name__}.{field.alias or name}"
        for inner in models_in(field.annotation):
            if inner not in seen:
                yield from keys_of(inner, seen)


def models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def put(tree: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for step in parents:
        tree = tree[int(step) if isinstance(tree, list) else step]
    if not isinstance(tree, list):
        tree[last] = value
    elif int(last) == len(tree):
        tree.append(value)
    else:
        tree[int(last)] = value


def written(tree: Any) -> str:
    """Return plain data as YAML that this reader takes: JSON is YAML."""
    return json.dumps(tree, ensure_ascii=False)


def example() -> dict[str, Any]:
    tree = document()
    tree["plan"]["total_units"] = 40_000
    tree["rollout"]["units_per_year"] = 500_000
    tree["value"][1]["hours"] = 12
    tree["costs"]["lines"][0]["hours"] = 160
    return tree


def test_the_table_names_every_key() -> None:
    known = {
        key
        for key in keys_of(ExperimentDocument, set())
        if key.partition(".")[0] not in LIKE_SHARE_RANGE
    }
    assert known == CHANGES.keys() | ONE_VALUE


@pytest.mark.parametrize("key", CHANGES)
def test_every_key_changes_the_hash(read: Read, key: str) -> None:
    change = CHANGES[key]
    needed, change = change if isinstance(change, tuple) else ({}, change)
    before = example()
    for path, value in needed.items():
        put(before, path, copy.deepcopy(value))
    after = copy.deepcopy(before)
    for path, value in change.items():
        put(after, path, copy.deepcopy(value))
    first, second = read(written(before)), read(written(after))
    assert first.sha256 != second.sha256
    assert first.experiment != second.experiment


def test_the_example_as_data_is_the_example(read: Read) -> None:
    assert read(written(example())).sha256 == read().sha256
