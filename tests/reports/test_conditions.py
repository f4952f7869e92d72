from dataclasses import replace
from decimal import Decimal

import pytest

from klartext.analysis.result import Reason
from klartext.experiments.experiment import Guardrail
from klartext.reports import wording
from klartext.reports.conditions import Condition, conditions
from klartext.reports.document import ReportDocument
from klartext.reports.language import Language
from tests.reports import samples


def stated(
    code: str,
    value: float | None,
    threshold: float | None,
    *,
    met: bool,
    subject: str = "",
    detail: str = "",
) -> Reason:
    return Reason(code, met, value, threshold, subject, detail)


def worded(
    reason: Reason, *, document: ReportDocument | None = None, language: Language = "en"
) -> Condition:
    shown = samples.going_on() if document is None else document
    treatment = shown.analysis.treatments[0]
    decision = replace(treatment.decision, reasons=(reason,))
    locale = wording.locale_of(shown, language)
    (found,) = conditions(shown, locale, replace(treatment, decision=decision))
    return found


@pytest.mark.parametrize(
    ("reason", "seen", "required", "state"),
    [
        (stated("net_benefit_lower", 9_359.2, 0.0, met=True), "€9,359", "> €0.00", "met"),
        (stated("net_benefit_upper", -70.98, 0.0, met=True), "−€70.98", "< €0.00", "harm"),
        (stated("hurdle_probability", 0.4, 0.8, met=False), "40.0%", "≥ 80.0%", "not_met"),
        (stated("min_duration", 7.0, 14.0, met=False), "7 days", "≥ 14 days", "not_met"),
        (stated("approvals", 1.0, 2.0, met=False), "1", "2", "not_met"),
        (stated("budget", 5_003.2, 5_000.0, met=False), "€5,003", "< €5,000", "not_met"),
        (stated("cost_complete", 0.9032, 0.95, met=True), "90.3%", "≥ 95.0%", "met"),
        (stated("registration", None, None, met=False), "–", "–", "not_met"),
    ],
)
def test_values_have_their_unit(reason: Reason, seen: str, required: str, state: str) -> None:
    found = worded(reason)
    assert (found.seen.text, found.required, found.state) == (seen, required, state)


def test_what_is_not_known_says_why() -> None:
    found = worded(stated("net_benefit_lower", None, 0.0, met=False), language="de")
    assert found.seen.text == "–"
    assert (found.seen.reason or "").startswith("zu früh")
    guardrail = worded(stated("guardrail", None, 0.002, met=False, subject="conversion"))
    assert guardrail.seen.reason == "not yet known"


def test_a_guardrail_on_a_rate_is_in_points_and_one_on_its_level_in_percent() -> None:
    reason = stated("guardrail", 0.0012, 0.002, met=True, subject="conversion")
    found = worded(reason)
    assert found.text.startswith("Guardrail conversion")
    assert (found.seen.text, found.required) == ("+0.120 pp", "≤ +0.200 pp")
    document = samples.going_on()
    guarded = replace(
        document.experiment, guardrails=(Guardrail("conversion", at_most=Decimal("0.002")),)
    )
    level = worded(reason, document=replace(document, experiment=guarded))
    assert (level.seen.text, level.required) == ("0.120%", "≤ 0.200%")


@pytest.mark.parametrize(
    ("metric", "limit", "required"),
    [("ai.error_rate", "0.01", "≤ 1.00%"), ("ai.cost_per_task", "0.05", "≤ €0.0500")],
)
def test_a_limit_on_an_ai_metric_has_its_unit_before_there_are_calls(
    metric: str, limit: str, required: str
) -> None:
    document = samples.going_on()
    guarded = replace(document.experiment, guardrails=(Guardrail(metric, at_most=Decimal(limit)),))
    reason = stated("guardrail", None, float(limit), met=False, subject=metric)
    found = worded(reason, document=replace(document, experiment=guarded))
    assert (found.seen.text, found.required) == ("–", required)


def test_an_unknown_code_falls_back_to_english() -> None:
    found = worded(stated("moon", 0.5, 1.0, met=False, detail="wait for it"), language="de")
    assert (found.text, found.change) == ("moon", "wait for it")
