"""The syntax of ``klartext/experiment/v1`` and ``klartext/metrics/v1``: every key, and its form.

Models hold what was written, key by key; defaults that depend on something else and rules across
keys are in `rules` and `resolve`. The text under each key is its description in the JSON Schema.
Metrics are in `metric_syntax`, money is in `money_syntax`.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag

from klartext.experiments.documents.choices import (
    BanditPolicyName,
    Correction,
    Exposure,
    InferenceMode,
    Spending,
)
from klartext.experiments.documents.forms import (
    AmountFromZero,
    Count,
    Duration,
    End,
    Key,
    Looks,
    Millionths,
    Name,
    Number,
    Payload,
    Percent,
    Share,
    Start,
    Text,
    Weight,
    Window,
)
from klartext.experiments.documents.validation import Items, Model
from klartext.experiments.experiment import MOST_VARIANTS
from klartext.experiments.spec.metric_syntax import GuardrailSyntax, MetricItem, MetricSyntax
from klartext.experiments.spec.money_syntax import CostsSyntax, RolloutSyntax, ValueSyntax

_NOT_EMPTY: dict[str, JsonValue] = {"minItems": 1}  # pydantic's min_length counts good items only


class Ai(Model):
    """The AI behind a variant."""

    model: Text
    """Model as the provider names it, with its version."""
    provider: Text | None = None
    """Provider, when the model's name does not say it."""
    prompt: Text | None = None
    """Prompt and its version, such as subject-lines@7."""


class VariantSyntax(Model):
    """One arm of the experiment."""

    key: Key
    """Key of the variant."""
    weight: Weight = None
    """Share of the traffic; weights sum to 100%. Leave out all of them for equal shares."""
    payload: Payload = Field(default_factory=dict)
    """What the service gets back with this variant."""
    ai: Ai | None = None
    """The AI behind it."""


class PlanSyntax(Model):
    """When the test runs, and for how many units it is planned."""

    start: Start | None = None
    """First day or instant."""
    latest_end: End | None = None
    """Last day (included) or instant."""
    total_units: Count | None = None
    """Units planned, over all variants."""
    expected_lift: dict[Name, Percent] = Field(default_factory=dict)
    """Relative lift expected, by metric."""
    looks: Looks | None = None
    """Planned looks of mode: group_sequential: how many, evenly spaced, or [50%, 75%, 100%]."""


class PriorSyntax(Model):
    """What is believed about effects before the test."""

    relative_sd: Percent = Decimal("0.1")
    """Standard deviation of the effect as a share of the control's mean margin; default 10%."""


class InferenceSyntax(Model):
    """How intervals are made."""

    mode: InferenceMode | None = None
    """anytime: valid at every look; group_sequential: at plan.looks; fixed: at the planned end."""
    alpha: Percent = Decimal("0.05")
    """Error rate; default 5%."""
    prior: PriorSyntax | None = None
    """Prior of the posterior figures."""
    spending: Spending | None = None
    """How group_sequential looks share alpha: obrien_fleming (default) spends little early."""
    correction: Correction = "holm"
    """Secondary metrics: holm (default) allows no false finding, false_discovery a share."""


class ApprovalsSyntax(Model):
    """Who must sign a GO."""

    by: Items[Text] = Field(json_schema_extra=_NOT_EMPTY)
    """Roles or persons; not the owner of the experiment."""
    within: Window = timedelta(days=10)
    """Within which time; default 10d."""


class GateSyntax(Model):
    """A check outside the data that a GO needs, such as a load test or a legal review."""

    check: Key
    """Name of the check; its result comes by `klartext preflight`."""
    minimum: Number
    """The smallest result that passes."""


class DecisionSyntax(Model):
    """The rule, fixed before the first exposure."""

    expected_loss: AmountFromZero
    """The largest expected loss of a GO in the first year that is acceptable."""
    hurdle_roi: Percent = Decimal(0)
    """Return on the AI's cost that must be beaten; default 0%."""
    probability: Share = Decimal("0.8")
    """Probability with which it must be beaten; default 80%."""
    min_duration: Duration | None = None
    """Shortest time before a GO; default 14d (retrospective: 0d). Use whole weeks."""
    approvals: ApprovalsSyntax | None = None
    """Who must sign a GO."""
    preflight: Items[GateSyntax] = ()
    """Checks outside the data that a GO needs."""


class BanditSyntax(Model):
    """How a bandit moves its weights."""

    policy: BanditPolicyName
    """thompson."""
    reward: Name
    """Key of a conversion metric."""
    floor: Millionths = 20_000
    """Share that every variant keeps; default 2%."""


class ExposureEventSyntax(Model):
    """Only units that reach an event are analysed, from that event on."""

    event: Name
    """Name of the event, in all variants alike, such as mail_sent."""


def _exposure_form(value: Any) -> str:
    return "<event>" if isinstance(value, (dict, ExposureEventSyntax)) else "<moment>"


ExposureSyntax = Annotated[
    Annotated[ExposureEventSyntax, Tag("<event>")] | Annotated[Exposure, Tag("<moment>")],
    Discriminator(_exposure_form),
]
AudienceValues = Annotated[Items[Text], Field(json_schema_extra=_NOT_EMPTY)]


class ExperimentDocument(Model):
    """An experiment: variants, metrics, money, and the rule that answers it."""

    schema_: Literal["klartext/experiment/v1"] = Field(alias="schema")
    """Version of this syntax."""
    key: Key
    """Key of the experiment, as in URLs."""
    title: Text
    """Title for people."""
    owner: Text
    """The person who answers for it; approvers must be others."""
    hypothesis: Text | None = None
    """What is expected, and why."""
    kind: Literal["ab", "bandit"] = "ab"
    """ab: fixed weights; bandit: weights follow the rewards. Default ab."""
    unit: Name
    """What is randomised, such as customer."""
    registration: Literal["prospective", "retrospective"] = "prospective"
    """retrospective: a finished experiment is imported; nothing is started."""
    assignment: Literal["klartext", "external"] | None = None
    """Who splits the units; default klartext, for a retrospective experiment external."""
    exposure: ExposureSyntax = "posted"
    """posted: the service reports each exposure; on_allocation: every allocation is one;
    {event: NAME}: every allocation is kept, and the analysis starts at the unit's event."""
    layer: Key | None = None
    """Experiments of one layer share no units; default: a layer of its own."""
    traffic: Millionths = 1_000_000
    """Share of the layer that takes part; default 100%."""
    audience: dict[Name, AudienceValues] = Field(default_factory=dict)
    """Properties and their admitted values; others are outside the experiment."""
    variants: Items[VariantSyntax] = Field(
        json_schema_extra={"minItems": 2, "maxItems": MOST_VARIANTS}
    )
    """The arms, in the order that the split uses."""
    control: Key
    """Key of the variant that the others are compared with."""
    metrics: Items[MetricItem] = Field(json_schema_extra=_NOT_EMPTY)
    """Keys from metrics.yaml, or metrics written out here."""
    guardrails: Items[GuardrailSyntax] = ()
    """Metrics that must not get worse."""
    segments: Items[Name] = ()
    """Declared properties, known at the exposure, by which results are cut, such as country."""
    scope: Literal["change", "programme"] = "change"
    """programme: the control is held out from every experiment that starts while it runs, and the
    cost is that of all AI; default change."""
    value: Items[ValueSyntax] = ()
    """Money per unit: the sum of these, minus the AI cost."""
    costs: CostsSyntax | None = None
    """The whole cost of the AI."""
    plan: PlanSyntax | None = None
    """When, and for how many units."""
    inference: InferenceSyntax | None = None
    """How intervals are made."""
    decision: DecisionSyntax
    """The rule, fixed before the first exposure."""
    rollout: RolloutSyntax | None = None
    """What a GO means for the twelve months after it."""
    bandit: BanditSyntax | None = None
    """How a bandit moves its weights (kind: bandit only)."""


class MetricsDocument(Model):
    """Metrics that several experiments share."""

    schema_: Literal["klartext/metrics/v1"] = Field(alias="schema")
    """Version of this syntax."""
    metrics: Items[MetricSyntax]
    """The metrics; experiments name them by key."""
