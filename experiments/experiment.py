"""The resolved experiment: what every other module reads, frozen, with units settled.

A YAML document becomes an `Experiment` in `experiments.spec`; nothing downstream reads YAML.
Weights are integer millionths, rates and alphas are `Decimal` fractions (``0.05`` is 5 %),
durations are `timedelta`, instants are aware UTC datetimes, money is in the reporting currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

MILLION = 1_000_000
"""Weights and propensities are integers out of this."""

InferenceMode: TypeAlias = Literal["anytime", "group_sequential", "fixed"]
"""When intervals may be read: at any look, at a few planned ones, or at one."""

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class Assumption:
    """A business input: its value, optionally its range, where it comes from, who answers for it.

    The unit is that of the field that holds it: a fraction, hours, or money in the reporting
    currency.
    """

    base: Decimal
    low: Decimal | None = None
    high: Decimal | None = None
    source: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class AiModel:
    """The AI behind a variant, as registered."""

    model: str
    provider: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm. ``weight`` is its share in millionths; a bandit's is its share at the start."""

    key: str
    weight: int
    payload: Mapping[str, Json]
    ai: AiModel | None = None


@dataclass(frozen=True, slots=True)
class Refunds:
    """Refund events that are netted against a mean metric, within ``window`` of exposure."""

    event: str
    window: timedelta


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a declared property of the event; one without the property never meets it.

    ``in``: it equals one of ``values``. The comparisons have one value. Values are text in their
    canonical spelling, to be read by ``type``; money is in the reporting currency.
    """

    property: str
    type: Literal["text", "number", "integer", "boolean", "money"]
    operator: Literal["in", "above", "at_least", "below", "at_most"]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Covariate:
    """A number per unit, known before its exposure; exactly one of the two is set.

    ``name``: the latest event ``covariate.<name>`` before the exposure, 0 without one.
    ``lookback``: the metric itself, over this time before the exposure, without refunds.
    """

    name: str | None = None
    lookback: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A KPI per unit, from events named ``event`` in ``[start, start + window)``.

    The start is ``delay`` after exposure, and the events are those that meet all ``filters``.
    ``conversion`` is 1 when there is at least one event, else 0; so is ``retention``, whose
    window lies days after the exposure. ``count`` is the number of events. ``mean`` sums the
    property ``value`` (``"value"`` is the built-in amount of an event) minus refunds, which meet
    the same filters. Money is in the reporting currency. ``ratio`` is the sum of the metric
    ``numerator`` over units divided by that of ``denominator``; it has no events of its own.
    A value above ``cap`` counts as ``cap``, also in the margin. Estimates are adjusted for the
    ``covariates``. ``quantile`` is that of the property ``value`` over all events of all units;
    it is the metric's ``quantile``, a fraction. ``cap_percentile`` (a fraction) is a cap that is
    resolved from data once and then frozen, see `klartext.experiments.caps`; ``cap`` is None in
    the spec then, and set where the cap is in force. Differences up to ``negligible``, in the
    metric's unit, are too small to matter.
    """

    key: str
    kind: Literal["conversion", "mean", "count", "ratio", "retention", "quantile"]
    event: str | None
    value: str | None
    window: timedelta
    direction: Literal["increase", "decrease"]
    refunds: Refunds | None = None
    delay: timedelta = timedelta(0)
    filters: tuple[Filter, ...] = ()
    numerator: str | None = None
    denominator: str | None = None
    cap: Decimal | None = None
    covariates: tuple[Covariate, ...] = ()
    quantile: Decimal | None = None
    cap_percentile: Decimal | None = None
    negligible: Decimal | None = None

    @property
    def is_column(self) -> bool:
        """Whether it is one number per unit, a column of the unit table."""
        return self.kind not in {"ratio", "quantile"}

    @property
    def is_rate(self) -> bool:
        """Whether it is 0 or 1 per unit."""
        return self.kind in {"conversion", "retention"}

    @property
    def closes_after(self) -> timedelta:
        """How long after exposure its own events count; refunds have their own window."""
        return self.delay + self.window


_Better: TypeAlias = Literal["increase", "decrease"]


def _of_calls(key: str, numerator: str, denominator: str, better: _Better = "decrease") -> Metric:
    return Metric(
        f"ai.{key}", "ratio", None, None, timedelta(0), better,
        numerator=f"ai.{numerator}", denominator=f"ai.{denominator}",
    )  # fmt: skip


AI_METRICS = (
    _of_calls("cost_per_task", "cost", "priced_tasks"),
    *(
        Metric(
            f"ai.latency_p{percent}", "quantile", None, "duration_ms", timedelta(0), "decrease",
            quantile=Decimal(percent) / 100,
        )
        for percent in (50, 95)
    ),
    _of_calls("error_rate", "errors", "calls"),
    _of_calls("tokens", "tokens", "tasks"),
    _of_calls("cache_share", "cached_tokens", "input_tokens", "increase"),
)  # fmt: skip
"""Metrics of AI calls that every experiment has; a guardrail may name them."""

AI_KEYS = frozenset(metric.key for metric in AI_METRICS)


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that must not get worse than a margin; exactly one of the limits is set.

    ``may_worsen_by`` is absolute in the metric's unit (``0.2pp`` is 0.002),
    ``may_worsen_by_relative`` a fraction of the control's mean, ``at_most`` a level.
    """

    metric: str
    may_worsen_by: Decimal | None = None
    may_worsen_by_relative: Decimal | None = None
    at_most: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ContributionMargin:
    """Value entry: the metric's money times a contribution margin rate (fraction).

    The money holds value-added tax at the rate ``vat`` (fraction); none of it is margin.
    """

    metric: str
    rate: Assumption
    vat: Decimal = Decimal(0)

    @property
    def each(self) -> Decimal:
        """Margin per unit of the metric's money, tax included: ``rate / (1 + vat)``."""
        return self.rate.base / (1 + self.vat) if self.vat else self.rate.base


@dataclass(frozen=True, slots=True)
class Worth:
    """Value entry: money per unit of the metric (a lead is worth 35 EUR)."""

    metric: str
    amount: Assumption

    @property
    def each(self) -> Decimal:
        """Margin per unit of the metric."""
        return self.amount.base


@dataclass(frozen=True, slots=True)
class Saving:
    """Value entry: hours saved per calendar month, of which only ``realised`` is cash."""

    name: str
    hours: Assumption
    rate: Assumption
    realised: Assumption
    variant: str


ValueEntry: TypeAlias = ContributionMargin | Worth | Saving

MOST_VARIANTS = 64
"""As many as an analysis can tell apart: six bits say where in the spec a variant stands."""

UNIT_TABLE_COLUMNS = (
    "unit",
    "variant",
    "exposed_at",
    "excluded",
    "mature",
    "regime",
    "margin",
    "cost",
    "net",
    "outlook",
    "cost_high",
    "outlook_high",
)
"""Columns every unit table has beside the metrics; no metric may be named like one."""

COST_CATEGORIES = (
    "model_fees",
    "inference_compute",
    "vector_storage",
    "data_transfer",
    "monitoring",
    "engineering",
    "qa",
    "human_review",
    "compliance",
    "licences",
    "media",
    "other",
)
"""Every cost is in one of these; a report says which of them were left out."""


@dataclass(frozen=True, slots=True)
class CostLine:
    """A cost stated in the spec.

    ``behaviour`` says how it accrues: ``once`` in full; ``amortised`` once, spread over
    ``life_months``; ``month`` per calendar month of the test; ``unit`` per exposed unit;
    ``event`` per event named ``event`` of an exposed unit. ``amount`` is money per occurrence;
    for hours x rate it is their product, and ``hours`` and ``rate`` are kept to be shown.
    ``variant`` is None for a cost of the test as a whole.
    """

    category: str
    behaviour: Literal["once", "amortised", "month", "unit", "event"]
    amount: Assumption
    variant: str | None
    label: str | None = None
    event: str | None = None
    hours: Decimal | None = None
    rate: Decimal | None = None
    life_months: int | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """The AI cost: a cap on variable cost, the source of priced AI calls, and lines.

    ``window`` is how long after a unit's exposure its calls and events cost the comparison
    something; None: as long as the metrics that carry value count.
    """

    budget: Decimal | None
    usage_source: str | None
    lines: tuple[CostLine, ...]
    window: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """When the test runs and how many units it is planned for, over all variants.

    ``looks`` are the planned looks of a group sequential test, as fractions of ``total_units``
    that increase to 1.
    """

    start: datetime | None
    latest_end: datetime | None
    total_units: int | None
    expected_lift: Mapping[str, Decimal]
    looks: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class Inference:
    """How intervals are made. ``prior_relative_sd`` is a fraction of the control's mean margin.

    ``spending`` says how a group sequential test spreads alpha over its looks, ``correction`` what
    the adjusted p-values of the secondary metrics control: the chance of any false finding
    (``holm``), or the expected share of false ones (``false_discovery``). ``prior_source`` says
    where the prior comes from: ``stated`` in the spec, a ``default`` number, or what ``finished``
    experiments showed when it was registered; those are in ``prior_evidence``, each as its key,
    the look that was read, and the first digits of that look's hash.
    """

    mode: InferenceMode
    alpha: Decimal
    prior_relative_sd: Decimal
    spending: Literal["obrien_fleming", "pocock"] | None = None
    correction: Literal["holm", "false_discovery"] = "holm"
    prior_source: Literal["stated", "default", "finished"] = "stated"
    prior_evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Approvals:
    """Roles that must sign a GO, and within which time."""

    by: tuple[str, ...]
    within: timedelta


@dataclass(frozen=True, slots=True)
class Gate:
    """A check outside the data that a GO needs, and the smallest result that passes."""

    check: str
    minimum: Decimal


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """The thresholds of GO. ``expected_loss`` is money, ``hurdle_roi`` and others fractions."""

    hurdle_roi: Decimal
    probability: Decimal
    expected_loss: Decimal
    min_duration: timedelta
    approvals: Approvals | None
    preflight: tuple[Gate, ...] = ()


@dataclass(frozen=True, slots=True)
class Rollout:
    """What happens after a GO: who gets it, how much of the effect stays, at which discount."""

    units_per_year: Assumption
    share: Assumption
    persistence: Assumption
    discount_rate: Assumption


@dataclass(frozen=True, slots=True)
class BanditPolicy:
    """How a bandit moves its weights. Floors are millionths added to every variant."""

    policy: Literal["thompson"]
    reward: str
    floor: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """A registered question: variants, metrics, money, and the rule that answers it.

    ``currency``, ``timezone`` and ``lateness`` come from the workspace and belong to the hashed
    form: changing the workspace never changes what was registered. With an ``exposure_event`` only
    units with that event are analysed, from their first one at or after the exposure. ``segments``
    are the properties at a unit's first exposure by which results are cut. The control of scope
    ``programme`` is held out from every experiment that starts while it runs, and all AI calls of
    its units are its cost.
    """

    key: str
    title: str
    owner: str
    hypothesis: str
    kind: Literal["ab", "bandit"]
    unit: str
    registration: Literal["prospective", "retrospective"]
    assignment: Literal["klartext", "external"]
    exposure: Literal["posted", "on_allocation"]
    layer: str
    traffic: int
    audience: Mapping[str, tuple[str, ...]]
    variants: tuple[Variant, ...]
    control: str
    metrics: tuple[Metric, ...]
    guardrails: tuple[Guardrail, ...]
    value: tuple[ValueEntry, ...]
    costs: Costs
    plan: Plan
    inference: Inference
    decision: DecisionRule
    rollout: Rollout | None
    bandit: BanditPolicy | None
    currency: str
    timezone: str
    lateness: timedelta
    exposure_event: str | None = None
    segments: tuple[str, ...] = ()
    scope: Literal["change", "programme"] = "change"

    def variant(self, key: str) -> Variant:
        """Return the variant with ``key``.

        Raises
        ------
        KeyError
            There is none.
        """
        for variant in self.variants:
            if variant.key == key:
                return variant
        raise KeyError(key)

    def metric(self, key: str) -> Metric:
        """Return the metric with ``key``, of the spec or of `AI_METRICS`.

        Raises
        ------
        KeyError
            There is none.
        """
        for metric in (*self.metrics, *AI_METRICS):
            if metric.key == key:
                return metric
        raise KeyError(key)

    @property
    def value_window(self) -> timedelta:
        """How long after exposure metrics that carry value count; with none, all of them."""
        valued = {entry.metric for entry in self.value if not isinstance(entry, Saving)}
        closing = [each.closes_after for each in self.metrics if each.key in valued]
        every = (each.closes_after for each in self.metrics)
        return max(closing or every, default=timedelta(0))

    @property
    def treatments(self) -> tuple[str, ...]:
        """Keys of all variants but the control, in the order of the spec."""
        return tuple(variant.key for variant in self.variants if variant.key != self.control)
