"""The conditions of a decision in words: seen, required, met, and what would change them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from klartext.analysis.ai_metrics import MONEY, SHARES
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.result import Reason, TreatmentResult
from klartext.reports import wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import MISSING, Locale

CONDITION_VALUES: Final[dict[str, str]] = {
    "approvals": "count",
    "budget": "money",
    "cost_bounded": "money",
    "cost_bounded_limited": "probability",
    "cost_complete": "share",
    "expected_loss": "money",
    "expected_net_benefit": "money",
    "guardrail": "metric",
    "hurdle_probability": "probability",
    "min_duration": "days",
    "net_benefit_lower": "money",
    "net_benefit_upper": "money",
    "predictive_probability": "probability",
    "preflight": "number",
    "probability_positive": "probability",
    "probability_without_prior": "probability",
    "uncapped_net_benefit": "money",
    "value_of_waiting": "money",
    **wording.CHECK_VALUES,
}
"""What value and threshold of a condition are, by its code; else plain numbers."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the rule, worded. ``harm`` is a condition of STOP that holds."""

    text: str
    seen: wording.Said
    required: str
    state: Literal["met", "not_met", "open", "harm"]
    change: str


def conditions(
    document: ReportDocument, locale: Locale, treatment: TreatmentResult
) -> tuple[Condition, ...]:
    """Word every condition of the decision on one treatment."""
    return tuple(
        _condition(document, locale, treatment, reason) for reason in treatment.decision.reasons
    )


def _condition(
    document: ReportDocument, locale: Locale, treatment: TreatmentResult, reason: Reason
) -> Condition:
    key, subject = f"condition.{reason.code}", reason.subject
    if reason.met:
        change = ""
    elif locale.has(f"{key}.change"):
        change = locale.text(f"{key}.change", subject=subject)
    else:
        change = reason.detail
    return Condition(
        text=locale.text(f"{key}.text", subject=subject)
        if locale.has(f"{key}.text")
        else reason.code,
        seen=_seen(document, locale, treatment, reason),
        required=_required(document, locale, reason),
        state=_state(reason),
        change=change,
    )


def _state(reason: Reason) -> Literal["met", "not_met", "open", "harm"]:
    if reason.met is None:
        return "open"
    if not reason.met:
        return "not_met"
    return "harm" if reason.code == "net_benefit_upper" else "met"


def _seen(
    document: ReportDocument, locale: Locale, treatment: TreatmentResult, reason: Reason
) -> wording.Said:
    if reason.value is not None and math.isfinite(reason.value):
        return wording.Said(_shown(document, locale, reason, reason.value))
    if reason.threshold is None:
        return wording.Said(MISSING)
    outlook = treatment.outlook
    sources = {
        "net_benefit_lower": outlook.rule_interval,
        "cost_bounded": outlook.rule_interval,
        "hurdle_probability": outlook.probability_hurdle,
        "expected_loss": outlook.expected_loss,
        "probability_positive": outlook.probability_positive,
        "probability_without_prior": outlook.probability_without_prior,
    }
    source = sources.get(reason.code)
    if isinstance(source, NotEstimable):
        return wording.Said(MISSING, wording.reason(locale, source))
    return wording.Said(MISSING, locale.text("why.unknown"))


def _required(document: ReportDocument, locale: Locale, reason: Reason) -> str:
    if reason.threshold is None:
        return MISSING
    said = _shown(document, locale, reason, reason.threshold)
    key = f"condition.{reason.code}.required"
    return locale.text(key, value=said) if locale.has(key) else said


def _shown(  # noqa: PLR0911 - one return per kind of value
    document: ReportDocument, locale: Locale, reason: Reason, value: float
) -> str:
    match CONDITION_VALUES.get(reason.code, "number"):
        case "money":
            return locale.money(value)
        case "probability":
            return locale.probability(value)
        case "share":
            return locale.percent(value, like=0.5)
        case "days":
            return locale.plural("days", math.floor(value))
        case "p_value":
            return locale.p_value(value)
        case "count":
            return locale.integer(round(value))
        case "metric":
            return _harm(document, locale, reason, value)
        case _:
            return wording.quantity(locale, value)


def _harm(document: ReportDocument, locale: Locale, reason: Reason, value: float) -> str:
    """Say a harm to a guardrail metric; a limit on its level is a level, else a difference."""
    limits = [one.at_most for one in document.experiment.guardrails if one.metric == reason.subject]
    is_level = any(one is not None and float(one) == reason.threshold for one in limits)
    metric = document.experiment.metric(reason.subject)
    if metric.is_rate or metric.key in SHARES:  # also of one that has no data yet
        return locale.percent(value) if is_level else locale.points(value)
    read = (one for one in document.analysis.metrics if one.metric == reason.subject)
    is_money = metric.key in MONEY or any(one.is_money for one in read)
    return locale.money(value) if is_money else wording.quantity(locale, value)
