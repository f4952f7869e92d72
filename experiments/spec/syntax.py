"""The syntax of ``klartext/experiment/v1`` and ``klartext/metrics/v1``: every key, and its form.

Models hold what was written, key by key; defaults that depend on something else and rules across
keys are in `rules` and `resolve`. The text under each key is its description in the JSON Schema.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, get_args

from pydantic import Discriminator, Field, JsonValue, Tag

from klartext.experiments.documents.choices import (
    BanditPolicyName,
    Category,
    Correction,
    Exposure,
    InferenceMode,
    MetricKind,
    Spending,
)
from klartext.experiments.documents.forms import (
    Amount,
    AmountFromZero,
    Bound,
    Cap,
    Condition,
    Count,
    Duration,
    End,
    Key,
    LifeMonths,
    Limit,
    Looks,
    Millionths,
    Name,
    NotNegative,
    Number,
    Payload,
    Percent,
    Share,
    Span,
    Start,
    Text,
    Weight,
    Window,
)
from klartext.experiments.documents.validation import Items, Model
from klartext.experiments.experiment import MOST_VARIANTS

T = TypeVar("T")
_NOT_EMPTY: dict[str, JsonValue] = {"minItems": 1}  # pydantic's min_length counts good items only


class Range(Model, Generic[T]):
    """A business input with its range and where it comes from."""

    base: T
    """The value used."""
    low: T | None = None
    """The lowest value that is plausible."""
    high: T | None = None
    """The highest value that is plausible."""
    source: Text | None = None
    """Where it comes from."""
    owner: Text | None = None
    """Who answers for it."""


def _has_range(value: Any) -> str:
    return "<range>" if isinstance(value, (dict, Range)) else "<value>"


class ShareRange(Range[Share]):
    """A share with its range and where it comes from."""


class HoursRange(Range[NotNegative]):
    """Hours with their range and where they come from."""


class AmountRange(Range[Amount]):
    """Money, which may be negative, with its range and where it comes from."""


class CostRange(Range[AmountFromZero]):
    """Money from zero with its range and where it comes from."""


class CountRange(Range[Count]):
    """A number of things with its range and where it comes from."""


class RateRange(Range[Percent]):
    """A rate with its range and where it comes from."""


_FORM = Discriminator(_has_range)
ShareInput = Annotated[
    Annotated[ShareRange, Tag("<range>")] | Annotated[Share, Tag("<value>")], _FORM
]
HoursInput = Annotated[
    Annotated[HoursRange, Tag("<range>")] | Annotated[NotNegative, Tag("<value>")], _FORM
]
AmountInput = Annotated[
    Annotated[AmountRange, Tag("<range>")] | Annotated[Amount, Tag("<value>")], _FORM
]
CostInput = Annotated[
    Annotated[CostRange, Tag("<range>")] | Annotated[AmountFromZero, Tag("<value>")], _FORM
]
CountInput = Annotated[
    Annotated[CountRange, Tag("<range>")] | Annotated[Count, Tag("<value>")], _FORM
]
RateInput = Annotated[
    Annotated[RateRange, Tag("<range>")] | Annotated[Percent, Tag("<value>")], _FORM
]


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


class RefundsSyntax(Model):
    """Refunds that are netted against the metric."""

    later: ClassVar[dict[str, str]] = {"value": "Remove it: refunds count their own amount."}

    event: Name
    """Name of the refund event."""
    window: Window | None = None
    """How long after exposure refunds count; default: the end of the metric's window + 14d."""


Comparison: TypeAlias = Literal["above", "at_least", "below", "at_most"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)


class ComparisonSyntax(Model):
    """Bounds of a property; all of them hold."""

    above: Bound | None = None
    """More than this."""
    at_least: Bound | None = None
    """This or more."""
    below: Bound | None = None
    """Less than this."""
    at_most: Bound | None = None
    """This or less."""


def _filter_form(value: Any) -> str:
    return "<comparison>" if isinstance(value, (dict, ComparisonSyntax)) else "<values>"


FilterSyntax = Annotated[
    Annotated[ComparisonSyntax, Tag("<comparison>")] | Annotated[Condition, Tag("<values>")],
    Discriminator(_filter_form),
]


class LookbackSyntax(Model):
    """The metric itself before the exposure."""

    lookback: Window
    """How long before the exposure."""


def _covariate_form(value: Any) -> str:
    return "<lookback>" if isinstance(value, (dict, LookbackSyntax)) else "<name>"


CovariateItem = Annotated[
    Annotated[LookbackSyntax, Tag("<lookback>")] | Annotated[Name, Tag("<name>")],
    Discriminator(_covariate_form),
]


class MetricSyntax(Model):
    """A KPI per unit."""

    later: ClassVar[dict[str, str]] = {
        "covariate": "Write covariates: with a list such as [{lookback: 28d}].",
    }

    key: Key
    """Key of the metric."""
    kind: MetricKind
    """conversion: did the event happen; count: how often; mean: the sum of its value;
    retention: did it happen between two times; ratio: one metric divided by another;
    quantile: of its value over all events."""
    event: Name | None = None
    """Name of the event that counts (all kinds but ratio)."""
    value: Name | None = None
    """Property that is summed (mean) or whose quantile is taken (quantile); default: value, the
    event's own amount."""
    window: Window | None = None
    """How long events count, from the exposure or the end of the delay; default 14d."""
    delay: Window | None = None
    """How long after exposure events do not count yet; default: none."""
    between: Span | None = None
    """From when to when after exposure the event counts (retention only), such as [7d, 14d]."""
    filters: dict[Name, FilterSyntax] = Field(default_factory=dict)
    """Properties and what they must be: a value, a list of values, or {at_least: 2}."""
    numerator: Key | None = None
    """Metric of the experiment that is divided (ratio only)."""
    denominator: Key | None = None
    """Metric of the experiment that it is divided by (ratio only)."""
    quantile: Percent | None = None
    """Share of the events below it, such as 95% (quantile only)."""
    direction: Literal["increase", "decrease"] = "increase"
    """Which way is better; default increase."""
    refunds: RefundsSyntax | None = None
    """Refunds to subtract (mean only)."""
    cap: Cap | None = None
    """A unit's value above this counts as this (mean and count); its margin too, its cost not. A
    percentile such as p99 is that of the units with a value above 0, resolved once and frozen."""
    covariates: Items[CovariateItem] = ()
    """Numbers known before exposure that estimates are adjusted for: names, or {lookback: 28d}."""
    negligible: Limit | None = None
    """Difference that is too small to matter: 0.1pp of a conversion, an amount, or a number."""


class GuardrailSyntax(Model):
    """A metric that must not get worse; one of the limits."""

    metric: Name
    """Key of the metric, or one of the AI calls such as ai.error_rate."""
    may_worsen_by: Limit | None = None
    """How much worse it may get: 0.2pp of a conversion, 5% of the control's mean, or an amount."""
    at_most: Limit | None = None
    """The level it may not exceed."""


class MarginSyntax(Model):
    """Value entry: the metric's money times the contribution margin."""

    metric: Name
    """Key of a mean metric in money."""
    contribution_margin: ShareInput
    """Contribution margin as a share of the metric's money."""
    vat: Share = Decimal(0)
    """Rate of the value-added tax that the metric's money, and its refunds, still hold."""


class WorthSyntax(Model):
    """Value entry: money per unit of the metric."""

    metric: Name
    """Key of the metric."""
    worth: AmountInput
    """What one unit of the metric is worth, such as '35 EUR' per lead; may be negative."""


class SavingSyntax(Model):
    """Value entry: working time saved per month, of which only a share is cash."""

    saving: Text
    """What is saved."""
    hours: HoursInput
    """Hours saved per month."""
    rate: CostInput
    """Cost of an hour."""
    per: Literal["month"] = "month"
    """Period of the hours; month."""
    realised: ShareInput
    """Share of it that becomes cash: time saved is not money saved."""
    variant: Key | None = None
    """Treatment that saves it; default: the only treatment."""


def _value_form(value: Any) -> str | None:
    names = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    for key in ("contribution_margin", "worth", "saving"):
        if key in names:
            return f"<{key}>"
    return None


ValueSyntax = Annotated[
    Annotated[MarginSyntax, Tag("<contribution_margin>")]
    | Annotated[WorthSyntax, Tag("<worth>")]
    | Annotated[SavingSyntax, Tag("<saving>")],
    Discriminator(_value_form),
]


class UsageSyntax(Model):
    """Priced AI calls, attributed by the variant on the call."""

    source: Name
    """Source of the calls, as the import of usage names it."""


class CostLineSyntax(Model):
    """A cost that is known beforehand: hours x rate, or an amount."""

    later: ClassVar[dict[str, str]] = {
        "cost_centre": "Remove it.",
        "account": "Remove it.",
        "allocation": "Remove it: a line without a variant is a cost of the test as a whole.",
    }

    category: Category
    """Cost category."""
    label: Text | None = None
    """Name of the line in the breakdown."""
    hours: HoursInput | None = None
    """Hours of work; needs rate."""
    rate: CostInput | None = None
    """Cost of an hour; needs hours."""
    amount: CostInput | None = None
    """Money per occurrence, instead of hours and rate."""
    per: Name | None = None
    """once (default), month, unit (each exposed unit), or the name of an event."""
    life: LifeMonths | None = None
    """Useful life over which a one-off cost is spread, such as 24mo."""
    variant: Key | None = None
    """Variant that causes it; without it, the test as a whole."""


class CostsSyntax(Model):
    """The whole cost of the AI."""

    budget: AmountFromZero | None = None
    """Cap on the variable cost of the test; reaching it stops the test."""
    usage: UsageSyntax | None = None
    """Where priced AI calls come from."""
    lines: Items[CostLineSyntax] = ()
    """Costs known beforehand."""


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


class RolloutSyntax(Model):
    """What a GO means for the twelve months after it."""

    units_per_year: CountInput
    """Units per year that would come into question."""
    share: ShareInput = Decimal(1)
    """Share of them that gets the treatment; default 100%."""
    persistence: ShareInput = Decimal(1)
    """Share of the margin effect that lasts; default 100%."""
    discount_rate: RateInput = Decimal(0)
    """Yearly discount rate of the present value; default 0%."""


class BanditSyntax(Model):
    """How a bandit moves its weights."""

    policy: BanditPolicyName
    """thompson."""
    reward: Name
    """Key of a conversion metric."""
    floor: Millionths = 20_000
    """Share that every variant keeps; default 2%."""


def _metric_form(value: Any) -> str:
    return "<metric>" if isinstance(value, (dict, MetricSyntax)) else "<name>"


MetricItem = Annotated[
    Annotated[MetricSyntax, Tag("<metric>")] | Annotated[Name, Tag("<name>")],
    Discriminator(_metric_form),
]


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
