"""From a document without mistakes to the resolved experiment: defaults filled, units settled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal, cast

from klartext.experiments.door import PropertyType
from klartext.experiments.experiment import (
    MILLION,
    AiModel,
    Approvals,
    Assumption,
    BanditPolicy,
    ContributionMargin,
    CostLine,
    Costs,
    Covariate,
    DecisionRule,
    Experiment,
    Filter,
    Gate,
    Guardrail,
    Inference,
    Metric,
    Plan,
    Refunds,
    Rollout,
    Saving,
    ValueEntry,
    Variant,
    Worth,
)
from klartext.experiments.spec.design_rules import MIN_DURATION
from klartext.experiments.spec.metric_rules import BUILT_IN_VALUE
from klartext.experiments.spec.metric_syntax import (
    COMPARISONS,
    ComparisonSyntax,
    GuardrailSyntax,
    LookbackSyntax,
    MetricSyntax,
)
from klartext.experiments.spec.money_syntax import (
    CostLineSyntax,
    CostsSyntax,
    MarginSyntax,
    Range,
    SavingSyntax,
    WorthSyntax,
)
from klartext.experiments.spec.syntax import (
    DecisionSyntax,
    ExperimentDocument,
    ExposureEventSyntax,
    InferenceSyntax,
    PlanSyntax,
    PriorSyntax,
    VariantSyntax,
)
from klartext.experiments.workspace import Workspace

DEFAULT_WINDOW = timedelta(days=14)
"""How long events count when the metric does not say."""

REFUNDS_AFTER = timedelta(days=14)
"""Refunds count this much longer than the metric they are netted against."""


def resolve(
    document: ExperimentDocument, shared: Mapping[str, MetricSyntax], workspace: Workspace
) -> Experiment:
    """Return the experiment a document means; its rules must have been checked before."""
    retrospective = document.registration == "retrospective"
    treatments = [item.key for item in document.variants if item.key != document.control]
    bandit = document.bandit
    assignment = document.assignment or ("external" if retrospective else "klartext")
    exposure, event = _exposure(document.exposure, assignment)
    return Experiment(
        key=document.key,
        title=document.title,
        owner=document.owner,
        hypothesis=document.hypothesis or "",
        kind=document.kind,
        unit=document.unit,
        registration=document.registration,
        assignment=assignment,
        exposure=exposure,
        exposure_event=event,
        segments=document.segments,
        scope=document.scope,
        layer=document.layer or document.key,
        traffic=document.traffic,
        audience=dict(document.audience),
        variants=_variants(document.variants),
        control=document.control,
        metrics=tuple(
            _metric(item if isinstance(item, MetricSyntax) else shared[item], workspace.properties)
            for item in document.metrics
        ),
        guardrails=tuple(_guardrail(item) for item in document.guardrails),
        value=tuple(_value(item, treatments) for item in document.value),
        costs=_costs(document.costs or CostsSyntax()),
        plan=_plan(document.plan or PlanSyntax()),
        inference=_inference(document.inference or InferenceSyntax(), retrospective=retrospective),
        decision=_decision(document.decision, retrospective=retrospective),
        rollout=_rollout(document),
        bandit=BanditPolicy(bandit.policy, bandit.reward, bandit.floor) if bandit else None,
        currency=workspace.currency,
        timezone=workspace.timezone,
        lateness=workspace.lateness,
    )


def equal_weights(count: int) -> tuple[int, ...]:
    """Return ``count`` weights in millionths that sum to a million: the first take what is left.

    Examples
    --------
    >>> equal_weights(3)
    (333334, 333333, 333333)
    """
    share, rest = divmod(MILLION, count)
    return tuple(share + (index < rest) for index in range(count))


def assumption(written: Any) -> Assumption:
    """Return a business input, written as a value or with its range."""
    if not isinstance(written, Range):
        return Assumption(Decimal(written))
    low, high = (None if end is None else Decimal(end) for end in (written.low, written.high))
    return Assumption(Decimal(written.base), low, high, written.source, written.owner)


def _exposure(
    written: ExposureEventSyntax | str, assignment: str
) -> tuple[Literal["posted", "on_allocation"], str | None]:
    """Return when an exposure is recorded, and the event from which units are analysed.

    With an event nobody posts exposures: the allocation is one, so that all units are known who
    might have reached it. A split made elsewhere has to be posted.
    """
    match written:
        case ExposureEventSyntax(event=event):
            return "on_allocation" if assignment == "klartext" else "posted", event
        case "on_allocation":
            return "on_allocation", None
        case _:
            return "posted", None


def _variants(written: tuple[VariantSyntax, ...]) -> tuple[Variant, ...]:
    equal = equal_weights(len(written))
    return tuple(
        Variant(
            key=item.key,
            weight=share if item.weight is None else item.weight,
            payload=item.payload,
            ai=AiModel(item.ai.model, item.ai.provider, item.ai.prompt) if item.ai else None,
        )
        for item, share in zip(written, equal, strict=True)
    )


def _metric(written: MetricSyntax, properties: Mapping[str, str]) -> Metric:
    refunds = written.refunds
    delay, window = written.delay or timedelta(0), written.window or DEFAULT_WINDOW
    if written.kind == "ratio":
        window = timedelta(0)
    elif written.between is not None:
        delay, window = written.between[0], written.between[1] - written.between[0]
    return Metric(
        key=written.key,
        kind=written.kind,
        event=written.event,
        value=(written.value or BUILT_IN_VALUE) if written.kind in {"mean", "quantile"} else None,
        window=window,
        direction=written.direction,
        refunds=Refunds(refunds.event, refunds.window or delay + window + REFUNDS_AFTER)
        if refunds
        else None,
        delay=delay,
        filters=tuple(
            found
            for name in sorted(written.filters)
            for found in _filters(name, written.filters[name], properties[name])
        ),
        numerator=written.numerator,
        denominator=written.denominator,
        cap=written.cap[1] if written.cap and written.cap[0] != "percentile" else None,
        covariates=tuple(
            Covariate(lookback=item.lookback)
            if isinstance(item, LookbackSyntax)
            else Covariate(name=item)
            for item in written.covariates
        ),
        negligible=written.negligible[1] if written.negligible else None,
        quantile=written.quantile,
        cap_percentile=(written.cap[1] if written.cap and written.cap[0] == "percentile" else None),
    )


def _filters(
    name: str, written: ComparisonSyntax | tuple[Any, ...], declared: str
) -> Iterator[Filter]:
    """Yield the conditions on one property; the order of values in the document is no matter."""
    kind = cast("PropertyType", declared)
    if isinstance(written, tuple):
        yield Filter(name, kind, "in", tuple(sorted({_plain(value) for value in written})))
        return
    for operator in COMPARISONS:
        bound = getattr(written, operator)
        if bound is not None:
            yield Filter(name, kind, operator, (_plain(bound[1]),))


def _plain(value: str | int | Decimal) -> str:
    """Return a value in its one spelling: 2.50 and 2.5 are the same number."""
    match value:
        case bool():
            return str(value).lower()
        case Decimal():
            text = f"{value:f}"
            return text.rstrip("0").rstrip(".") if "." in text else text
        case _:
            return str(value)


def _guardrail(written: GuardrailSyntax) -> Guardrail:
    worse, level = written.may_worsen_by, written.at_most
    return Guardrail(
        metric=written.metric,
        may_worsen_by=worse[1] if worse and worse[0] != "%" else None,
        may_worsen_by_relative=worse[1] if worse and worse[0] == "%" else None,
        at_most=level[1] if level else None,
    )


def _value(written: MarginSyntax | WorthSyntax | SavingSyntax, treatments: list[str]) -> ValueEntry:
    match written:
        case MarginSyntax():
            rate = assumption(written.contribution_margin)
            return ContributionMargin(written.metric, rate, written.vat)
        case WorthSyntax():
            return Worth(written.metric, assumption(written.worth))
        case SavingSyntax():
            return Saving(
                name=written.saving,
                hours=assumption(written.hours),
                rate=assumption(written.rate),
                realised=assumption(written.realised),
                variant=written.variant or treatments[0],
            )


def _costs(written: CostsSyntax) -> Costs:
    return Costs(
        budget=written.budget,
        usage_source=written.usage.source if written.usage else None,
        lines=tuple(_cost_line(line) for line in written.lines),
        window=written.window,
    )


def _cost_line(written: CostLineSyntax) -> CostLine:
    once = "amortised" if written.life else "once"
    behaviours = {"once": once, "unit": "unit", "month": "month"}
    behaviour: Any = behaviours.get(written.per or "once", "event")
    hours = rate = None
    if written.amount is None:
        hours, rate = assumption(written.hours), assumption(written.rate)
    return CostLine(
        category=written.category,
        behaviour=behaviour,
        amount=_product(hours, rate) if hours and rate else assumption(written.amount),
        variant=written.variant,
        label=written.label,
        event=written.per if behaviour == "event" else None,
        hours=hours.base if hours else None,
        rate=rate.base if rate else None,
        life_months=written.life,
    )


def _product(hours: Assumption, rate: Assumption) -> Assumption:
    """Return hours x rate: the lowest of both, the highest of both, and who said so."""
    has_range = any(bound is not None for x in (hours, rate) for bound in (x.low, x.high))

    def times(name: str) -> Decimal:
        first, second = (
            x.base if getattr(x, name) is None else getattr(x, name) for x in (hours, rate)
        )
        return Decimal(first * second)

    return Assumption(
        base=hours.base * rate.base,
        low=times("low") if has_range else None,
        high=times("high") if has_range else None,
        source="; ".join(x.source for x in (hours, rate) if x.source) or None,
        owner="; ".join(x.owner for x in (hours, rate) if x.owner) or None,
    )


def _plan(written: PlanSyntax) -> Plan:
    return Plan(
        start=written.start,
        latest_end=written.latest_end,
        total_units=written.total_units,
        expected_lift=dict(written.expected_lift),
        looks=written.looks or (),
    )


def _inference(written: InferenceSyntax, *, retrospective: bool) -> Inference:
    mode = written.mode or ("fixed" if retrospective else "anytime")
    return Inference(
        mode=mode,
        alpha=written.alpha,
        prior_relative_sd=(written.prior or PriorSyntax()).relative_sd,
        spending=(written.spending or "obrien_fleming") if mode == "group_sequential" else None,
        correction=written.correction,
        prior_source="stated" if written.prior else "default",
    )


def _decision(written: DecisionSyntax, *, retrospective: bool) -> DecisionRule:
    approvals, shortest = written.approvals, written.min_duration
    if shortest is None:
        shortest = timedelta(0) if retrospective else MIN_DURATION
    return DecisionRule(
        hurdle_roi=written.hurdle_roi,
        probability=written.probability,
        expected_loss=written.expected_loss,
        min_duration=shortest,
        approvals=Approvals(approvals.by, approvals.within) if approvals else None,
        preflight=tuple(Gate(gate.check, gate.minimum) for gate in written.preflight),
    )


def _rollout(document: ExperimentDocument) -> Rollout | None:
    written = document.rollout
    if written is None:
        return None
    return Rollout(
        units_per_year=assumption(written.units_per_year),
        share=assumption(written.share),
        persistence=assumption(written.persistence),
        discount_rate=assumption(written.discount_rate),
    )
