"""The syntax of metrics and guardrails: every key, and its form."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import Discriminator, Field, Tag

from klartext.experiments.documents.choices import MetricKind
from klartext.experiments.documents.forms import (
    Bound,
    Cap,
    Condition,
    Key,
    Limit,
    Name,
    Percent,
    Span,
    Window,
)
from klartext.experiments.documents.validation import Items, Model


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


def _metric_form(value: Any) -> str:
    return "<metric>" if isinstance(value, (dict, MetricSyntax)) else "<name>"


MetricItem = Annotated[
    Annotated[MetricSyntax, Tag("<metric>")] | Annotated[Name, Tag("<name>")],
    Discriminator(_metric_form),
]
