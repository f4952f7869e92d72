"""The analysis as data: checks, metrics, money per treatment, and the decision.

Everything a scorecard, a JSON document or a report shows is here, with its reasons as codes and
numbers; wording belongs to `reports.locale`. Money is float64 in the reporting currency except
in `CostItem`, which comes from the ledger and stays `Decimal`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

from klartext.analysis.bayes.comparison import Advantage, Belief
from klartext.analysis.estimate import ConfidenceSet, Estimate, NotEstimable
from klartext.analysis.guardrails import GuardrailReading
from klartext.analysis.sequential.replay import Running
from klartext.experiments.experiment import InferenceMode
from klartext.experiments.inputs import Input, InputUnit
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    import pandas as pd

    from klartext.analysis.segment_effects import SegmentEffect

Verdict: TypeAlias = Literal[
    "GO", "GO_LIMITED", "GO_PENDING_APPROVAL", "STOP", "CONTINUE", "INVALID"
]
Number: TypeAlias = float | NotEstimable
Correction: TypeAlias = Literal["holm", "benjamini_hochberg", "benjamini_yekutieli"]


@dataclass(frozen=True, slots=True)
class Check:
    """One quality check. ``value`` is its statistic (a p-value, a share), ``detail`` English."""

    code: str
    severity: Literal["ok", "info", "warning", "invalid"]
    value: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class VariantCounts:
    """How many units a variant has: exposed once, mature now, excluded for seeing two variants."""

    variant: str
    weight: int
    exposed: int
    mature: int
    excluded: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an adjustment for covariates did to an estimate.

    ``dropped`` pairs covariates left out with their reason, ``constant`` or ``collinear``.
    ``variance_removed`` is a share of the variance; negative when the adjustment hurt.
    """

    covariates: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]
    variance_removed: Number


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What is believed of a treatment and of its control, under reference priors.

    ``better`` is its advantage over the control; ``variants`` are the levels of all variants,
    with the probability that each is the best and what choosing it loses on average.
    """

    better: Advantage
    variants: tuple[Belief, ...]


@dataclass(frozen=True, slots=True)
class MetricResult:
    """A metric of one treatment against the baseline, by each method, in order of preference.

    ``estimates`` pairs a method's name with its estimate or the reason there is none. ``kind`` is
    that of the spec; the net value is a mean. ``mean`` is capped where the metric is; its
    estimate without the cap stands last, as ``uncapped``. ``running`` is the unadjusted difference
    replayed over the look calendar, in anytime mode; ratios have none. ``adjusted_p`` is the
    p-value of a secondary metric's first estimate, adjusted by ``correction`` for all secondary
    comparisons together. ``bayes`` is what is believed of this treatment.
    """

    metric: str
    variant: str
    baseline: str
    primary: bool
    is_money: bool
    is_rate: bool
    mean: Number
    baseline_mean: Number
    estimates: tuple[tuple[str, Estimate | NotEstimable], ...]
    kind: str = "mean"
    adjustment: Adjustment | None = None
    running: Running | NotEstimable | None = None
    bayes: Beliefs | NotEstimable | None = None
    adjusted_p: Number | None = None
    correction: Correction | None = None


@dataclass(frozen=True, slots=True)
class CostItem:
    """One row of the cost breakdown: what a treatment's AI cost in the window, exactly.

    ``amount`` is None when calls could not be priced; ``quantity`` counts the occurrences
    (calls, reviews, months, units); ``evidence`` names the spec line or the price used.
    """

    category: str
    behaviour: str
    label: str
    variant: str
    quantity: Decimal
    amount: Decimal | None
    evidence: str


@dataclass(frozen=True, slots=True)
class WindowView:
    """What the test itself brought and cost: units exposed and mature in the window.

    Intervals are at the registered ``1 - alpha``. ``cost`` is fully loaded: incremental variable
    AI cost plus fixed cost of the window. ``roi`` is net benefit / cost. ``savings`` is the
    realised part of time saved, a fixed amount that ``incremental_margin`` includes.
    """

    incremental_margin: Number
    incremental_margin_interval: ConfidenceSet
    incremental_cost: Number
    fixed_cost: float
    cost: Number
    net_benefit: Number
    net_benefit_interval: ConfidenceSet
    roi: Number
    roi_interval: ConfidenceSet
    incremental_conversions: Number
    incremental_conversions_interval: ConfidenceSet
    cost_per_incremental_conversion: Number
    cost_per_incremental_conversion_interval: ConfidenceSet
    break_even_cost_per_unit: Number
    savings: float = 0.0


@dataclass(frozen=True, slots=True)
class DecisionView:
    """Twelve months after a GO, from frozen inputs: what the rule reads.

    ``net_benefit`` is the raw estimate, ``posterior_mean`` what the prior makes of it.
    ``interval`` is at ``1 - alpha``, ``rule_interval`` at ``1 - alpha / (K - 1)``.
    ``probability_without_prior`` is ``probability_positive`` under a flat prior, of this one look;
    there is none before the data can bound the net benefit.
    ``full_cost_net_benefit`` also charges sunk cost: one-off lines in full, amortised ones for
    the twelve months. ``npv`` discounts the monthly share of ``net_benefit``; payback is in months
    of it until what was spent once is back. ``savings`` is the part of ``net_benefit`` that comes
    from time saved. Without a roll-out the horizon is the test itself.
    """

    units: float
    persistence: float
    fixed_cost: float
    net_benefit: Number
    interval: ConfidenceSet
    rule_interval: ConfidenceSet
    posterior_mean: Number
    posterior_sd: Number
    posterior_roi: Number
    probability_positive: Number
    probability_without_prior: Number
    probability_hurdle: Number
    expected_loss: Number
    full_cost_net_benefit: Number
    npv: Number
    payback_months: Number
    savings: float = 0.0


@dataclass(frozen=True, slots=True)
class Prospect:
    """What the rest of a test may bring, as of today; money in the reporting currency.

    ``perfect_information`` is the most that any further knowledge is worth (EVPI).
    ``predictive_probability`` is the chance that the lower bound of the net benefit gets above
    zero by the registered end. ``wait_weeks`` more weeks of testing pay best (or lose least):
    what they tell is worth ``wait_value`` (EVSI) and costs ``wait_cost``. ``forecast`` is when the
    test is expected to end.
    """

    perfect_information: Number
    predictive_probability: Number
    wait_weeks: int | NotEstimable
    wait_value: Number
    wait_cost: Number
    forecast: datetime | NotEstimable


@dataclass(frozen=True, slots=True)
class Reason:
    """One condition of the rule: what was seen, the threshold, and whether it holds.

    ``code`` is stable (``net_benefit_lower``, ``hurdle_probability``, ``expected_loss``,
    ``guardrail``, ``min_duration``, ``cost_complete``, ``approvals``, ``srm``, …); ``subject``
    names the metric or check; ``detail`` says in English what would change it.
    """

    code: str
    met: bool | None
    value: float | None
    threshold: float | None
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of one treatment or of the experiment: which rule matched, and every reason."""

    variant: str | None
    verdict: Verdict
    rule: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Sway:
    """What a business input does to the measured net benefit of the decision view.

    Parameters
    ----------
    input
        The input, as registered.
    at_low, at_high
        Net benefit with it at either end of its range, all others as registered. An end that is
        not stated is the registered value; without any it is ``no-range``.
    break_even
        Value of the input at which the net benefit is zero, in the input's unit.
    in_range
        Whether that value lies in the stated range; None without a range, or when the net benefit
        does not depend on the input.
    """

    input: Input
    at_low: Number
    at_high: Number
    break_even: Number
    in_range: bool | None = None

    @property
    def width(self) -> float:
        """How far the range of the input moves the net benefit; 0 without a range."""
        if isinstance(self.at_low, NotEstimable) or isinstance(self.at_high, NotEstimable):
            return 0.0
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True, slots=True)
class TreatmentResult:
    """All the money of one treatment, in both views, with its decision.

    Where it is adjusted for covariates ``unadjusted`` holds both views without; None else.
    ``tornado`` has one entry per business input, the one that moves most first.
    """

    variant: str
    baseline: str
    window: WindowView
    outlook: DecisionView
    costs: tuple[CostItem, ...]
    decision: Decision
    prospect: Prospect
    guardrails: tuple[GuardrailReading, ...] = ()
    unadjusted: tuple[WindowView, DecisionView] | None = None
    tornado: tuple[Sway, ...] = ()


@dataclass(frozen=True, slots=True)
class CostCompleteness:
    """How much of the AI cost is known. Shares are fractions; categories have no cost at all.

    All is about calls until their unit's window of cost closes; ``calls_after`` came later.
    ``unattributed_calls`` are charged to no variant. ``priced_share`` is the share of calls that
    are priced and attributed, 0 when a promised source delivered none. ``money_share`` is
    priced and attributed money over that plus what the other calls cost at most: at their price,
    or at the highest price of any call.
    """

    calls: int
    priced_calls: int
    unattributed_calls: int
    priced_share: float
    left_out: tuple[str, ...]
    money_share: float = 1.0
    calls_after: int = 0


@dataclass(frozen=True, slots=True)
class CostSource:
    """By whom some AI calls are paid for: what the ledger says of them, and what their prices say.

    Parameters
    ----------
    category, provider, variant
        Of the calls; ``variant`` None is all.
    start, end
        Their time, end exclusive.
    source
        Which of the two counts: a provider's ``bill``, the prices of ``calls``, or an ``estimate``
        because no call has a price.
    booked, priced
        Both, exactly.
    calls, unpriced
        How many there are, and how many have no price.
    lines
        Numbers of the lines of the ledger.
    """

    category: str
    provider: str
    variant: str | None
    start: datetime
    end: datetime
    source: Literal["bill", "calls", "estimate"]
    booked: Decimal
    priced: Decimal
    calls: int
    unpriced: int
    lines: tuple[int, ...]

    @property
    def difference(self) -> Decimal:
        """What the ledger says more than the prices do."""
        return self.booked - self.priced


@dataclass(frozen=True, slots=True)
class LedgerView:
    """The part of the ledger that an analysis has read, in the currency of the workspace.

    Parameters
    ----------
    as_of
        The instant that was asked for; None is the latest state.
    recorded_until
        When the latest of the lines was recorded; None without any.
    lines, total
        Lines of the experiment in force, and their net cost.
    outside
        Of it, service outside the test: before it, after it, or beyond the facts.
    unused
        Of it, estimates of AI calls whose prices are known.
    sources
        By whom AI calls are paid for.
    """

    as_of: datetime | None = None
    recorded_until: datetime | None = None
    lines: int = 0
    total: Decimal = Decimal(0)
    outside: Decimal = Decimal(0)
    unused: Decimal = Decimal(0)
    sources: tuple[CostSource, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedLook:
    """Where in its group sequential design an analysis stands.

    Parameters
    ----------
    spending, planned
        The design: how alpha is spread, and the planned fractions of units, the last one 1.
    number
        Planned look that this is, from 1; None when none is due.
    fraction
        Mature units over the planned ones.
    information
        Mature units.
    due_at
        Fraction at which the next look is due; None when this is one, or after the last.
    spends
        Whether taking this look now spends alpha: it is due, was not taken before, and its
        boundary could be used.
    """

    spending: str
    planned: tuple[float, ...]
    number: int | None
    fraction: float
    information: int
    due_at: float | None
    spends: bool


@dataclass(frozen=True, slots=True)
class CohortUse:
    """What an analysis took from earlier ones.

    Parameters
    ----------
    cached
        Exposed units of which only later facts were read.
    built
        Exposed units that were new, or were gathered again: their first exposure has moved.
    reason
        Why all facts were read; None when they were not.
    detail
        What failed, for the reason ``failed``.
    """

    cached: int
    built: int
    reason: str | None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Assumed:
    """A business input that is not taken as registered."""

    path: str
    unit: InputUnit
    registered: Decimal
    assumed: Decimal


@dataclass(frozen=True, slots=True)
class Analysis:
    """One look at one experiment at one watermark; a pure function of facts and spec.

    ``intention_to_treat`` is there when only units that reached the exposure event are analysed:
    the same analysis of all units, from their exposure. Its decision is none of the experiment's.
    ``assumed`` are the inputs that are not as registered: by the signed ``revision`` with this
    number, else it is a what-if. Either way its decision is none of the experiment's.
    """

    experiment: str
    title: str
    version: int
    spec_sha256: str
    registered: bool
    mode: InferenceMode
    alpha: float
    rule_alpha: float
    currency: str
    watermark: Watermark
    counts: tuple[VariantCounts, ...]
    checks: tuple[Check, ...]
    metrics: tuple[MetricResult, ...]
    treatments: tuple[TreatmentResult, ...]
    completeness: CostCompleteness
    decision: Decision
    look: PlannedLook | None = None
    intention_to_treat: Analysis | None = None
    segments: tuple[SegmentEffect, ...] = ()
    ledger: LedgerView = field(default_factory=LedgerView)
    cohorts: CohortUse | None = None
    assumed: tuple[Assumed, ...] = ()
    revision: int | None = None

    @property
    def is_what_if(self) -> bool:
        """Whether somebody tried other assumptions: it is never the verdict."""
        return bool(self.assumed) and self.revision is None

    def to_frame(self) -> pd.DataFrame:
        """Return the estimates as a table: one row per metric, treatment and method.

        What cannot be estimated is missing (NaN) beside its reason in ``reason``.
        """
        from klartext.analysis.frames import estimates_frame  # noqa: PLC0415 - pandas is heavy

        return estimates_frame(self.metrics)
