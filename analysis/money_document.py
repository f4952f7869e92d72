"""The money of an analysis as JSON: treatments, ledger and verdict, parts of `document`."""

from __future__ import annotations

from datetime import datetime

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.json_values import figure, json_object
from klartext.analysis.result import (
    CostItem,
    CostSource,
    Decision,
    DecisionView,
    LedgerView,
    Sway,
    TreatmentResult,
    WindowView,
)
from klartext.experiments.experiment import Json

_NO_END = NotEstimable("no-range", "this end of the range is not stated")


def treatment_to_json(treatment: TreatmentResult, *, decided: bool = True) -> dict[str, Json]:
    """Return the money of one treatment in both views, with its verdict if ``decided``."""
    window, outlook, prospect = treatment.window, treatment.outlook, treatment.prospect
    return {
        **json_object(
            variant=treatment.variant,
            baseline=treatment.baseline,
            net_benefit=window.net_benefit,
            net_benefit_interval=window.net_benefit_interval,
            roi=window.roi,
            roi_interval=window.roi_interval,
            cost=window.cost,
            incremental_cost=window.incremental_cost,
            fixed_cost=window.fixed_cost,
            incremental_margin=window.incremental_margin,
            incremental_margin_interval=window.incremental_margin_interval,
            savings=window.savings,
            incremental_conversions=window.incremental_conversions,
            incremental_conversions_interval=window.incremental_conversions_interval,
            cost_per_incremental_conversion=window.cost_per_incremental_conversion,
            cost_per_incremental_conversion_interval=(
                window.cost_per_incremental_conversion_interval
            ),
            break_even_cost_per_unit=window.break_even_cost_per_unit,
        ),
        "outlook": json_object(
            units=outlook.units,
            persistence=outlook.persistence,
            fixed_cost=outlook.fixed_cost,
            savings=outlook.savings,
            net_benefit=outlook.net_benefit,
            net_benefit_interval=outlook.interval,
            rule_interval=outlook.rule_interval,
            posterior_mean=outlook.posterior_mean,
            posterior_sd=outlook.posterior_sd,
            posterior_roi=outlook.posterior_roi,
            probability_positive=outlook.probability_positive,
            probability_without_prior=outlook.probability_without_prior,
            probability_hurdle=outlook.probability_hurdle,
            expected_loss=outlook.expected_loss,
            full_cost_net_benefit=outlook.full_cost_net_benefit,
            npv=outlook.npv,
            payback_months=outlook.payback_months,
        ),
        "prospect": json_object(
            perfect_information=prospect.perfect_information,
            predictive_probability=prospect.predictive_probability,
            wait_weeks=prospect.wait_weeks,
            wait_value=prospect.wait_value,
            wait_cost=prospect.wait_cost,
            forecast=(
                prospect.forecast
                if isinstance(prospect.forecast, NotEstimable)
                else prospect.forecast.isoformat()
            ),
        ),
        "tornado": [_sway(sway) for sway in treatment.tornado],
        **({"unadjusted": _unadjusted(*treatment.unadjusted)} if treatment.unadjusted else {}),
        "costs": [_cost(item) for item in treatment.costs],
        "guardrails": [
            json_object(
                metric=reading.metric,
                harm=reading.harm,
                limit=reading.limit,
                kept=reading.is_kept,
                broken=reading.is_broken,
                method=reading.method,
                p_value=reading.p_value,
            )
            for reading in treatment.guardrails
        ],
        **({"decision": decision_to_json(treatment.decision)} if decided else {}),
    }


def _sway(sway: Sway) -> Json:
    """Return one input: its value and range exactly as stated, what it does, where it ends."""
    stated = sway.input.assumption
    unknown = sway.break_even if isinstance(sway.break_even, NotEstimable) else _NO_END
    return json_object(
        input=sway.input.path,
        unit=sway.input.unit,
        base=stated.base,
        low=_NO_END if stated.low is None else stated.low,
        high=_NO_END if stated.high is None else stated.high,
        net_benefit_at_low=sway.at_low,
        net_benefit_at_high=sway.at_high,
        swing=sway.at_low if isinstance(sway.at_low, NotEstimable) else sway.width,
        break_even=sway.break_even,
        in_range=unknown if sway.in_range is None else sway.in_range,
    )


def _unadjusted(window: WindowView, outlook: DecisionView) -> Json:
    """Return the figures of a treatment as they would be without covariates."""
    return {
        **json_object(
            net_benefit=window.net_benefit,
            net_benefit_interval=window.net_benefit_interval,
            roi=window.roi,
            roi_interval=window.roi_interval,
            cost=window.cost,
            incremental_margin=window.incremental_margin,
            incremental_margin_interval=window.incremental_margin_interval,
        ),
        "outlook": json_object(
            net_benefit=outlook.net_benefit,
            net_benefit_interval=outlook.interval,
        ),
    }


def _cost(item: CostItem) -> dict[str, Json]:
    unpriced = NotEstimable("unpriced", "no price is known for these calls")
    return json_object(
        category=item.category,
        behaviour=item.behaviour,
        label=item.label,
        variant=item.variant,
        quantity=item.quantity,
        amount=unpriced if item.amount is None else item.amount,
        evidence=item.evidence,
    )


def ledger_to_json(view: LedgerView) -> dict[str, Json]:
    """Return what was read of the ledger, and by whom calls are paid for."""
    return {
        **_instants(as_of=view.as_of, recorded_until=view.recorded_until),
        **json_object(lines=view.lines, total=view.total, outside=view.outside, unused=view.unused),
        "sources": [_source(one) for one in view.sources],
    }


def _source(one: CostSource) -> dict[str, Json]:
    """Return by whom some calls are paid for; no variant is all."""
    return {
        "category": one.category,
        "provider": one.provider,
        **({} if one.variant is None else {"variant": one.variant}),
        **_instants(start=one.start, end=one.end),
        **json_object(
            source=one.source,
            booked=one.booked,
            priced=one.priced,
            difference=one.difference,
            calls=one.calls,
            unpriced=one.unpriced,
        ),
        "lines": list(one.lines),
    }


def _instants(**known: datetime | None) -> dict[str, Json]:
    return {name: at.isoformat() for name, at in known.items() if at is not None}


def decision_to_json(decision: Decision) -> dict[str, Json]:
    """Return a decision with every reason."""
    return {
        "variant": decision.variant,
        "verdict": decision.verdict,
        "rule": decision.rule,
        "reasons": [
            {
                "code": reason.code,
                "met": reason.met,
                "value": None if reason.value is None else figure(reason.value),
                "threshold": None if reason.threshold is None else figure(reason.threshold),
                "subject": reason.subject,
                "detail": reason.detail,
            }
            for reason in decision.reasons
        ],
    }
