"""The rules as a truth table, in every order of precedence that matters."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from klartext.analysis.decision import RULES, Evidence, decide, decide_overall
from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded
from klartext.analysis.guardrails import GuardrailReading
from klartext.analysis.result import (
    Check,
    CostCompleteness,
    Decision,
    DecisionView,
    Number,
    Prospect,
    TreatmentResult,
)
from klartext.analysis.value import _nothing
from klartext.experiments.experiment import Approvals, DecisionRule

UNKNOWN = NotEstimable("burn-in", "too early")
ASKED = Approvals(("controlling", "cfo"), timedelta(days=10))


def view(
    lower: float = 100.0,
    upper: float = 900.0,
    *,
    positive: Number = 0.99,
    hurdle: Number = 0.95,
    loss: Number = 10.0,
    interval: ConfidenceSet | None = None,
    mean: Number = 500.0,
) -> DecisionView:
    region = Interval(lower, upper, 0.95) if interval is None else interval
    return DecisionView(
        units=1000.0,
        persistence=1.0,
        fixed_cost=0.0,
        net_benefit=500.0,
        interval=region,
        rule_interval=region,
        posterior_mean=mean,
        posterior_sd=100.0,
        posterior_roi=1.0,
        probability_positive=positive,
        probability_hurdle=hurdle,
        expected_loss=loss,
        full_cost_net_benefit=400.0,
        npv=490.0,
        payback_months=UNKNOWN,
    )


OPEN_END = Prospect(100.0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
FUTILE = Prospect(100.0, 0.049, 3, 10.0, 10.5, UNKNOWN)
GOOD = view()
OPEN = view(-50.0)
LOSING = view(-900.0, 100.0, positive=0.02, hurdle=0.01, loss=500.0, mean=-400.0)
LOSS = view(-900.0, -100.0, positive=0.001, hurdle=0.001, loss=500.0)
KEPT = GuardrailReading("unsubscribe", Interval(-0.001, 0.001, 0.95), 0.002)
UNCLEAR = GuardrailReading("unsubscribe", Interval(-0.001, 0.003, 0.95), 0.002)
BROKEN = GuardrailReading("unsubscribe", Interval(0.0025, 0.004, 0.95), 0.002)
UNREAD = GuardrailReading("unsubscribe", UNKNOWN, 0.002)
SRM = Check("srm", "invalid", 0.0001, "units 10 / 90")
COMPLETE = CostCompleteness(100, 100, 0, 1.0, ("qa",), 1.0)


def evidence(**given: Any) -> Evidence:
    """Evidence on which everything speaks for GO."""
    approvals = given.pop("approvals", None)
    fields: dict[str, Any] = {
        "variant": "ai",
        "rule": DecisionRule(
            Decimal("0.3"), Decimal("0.8"), Decimal(1000), timedelta(days=14), approvals
        ),
        "registered": True,
        "retrospective": False,
        "adaptive": False,
        "deciding": True,
        "mode": "anytime",
        "at_end": False,
        "checks": (Check("srm", "ok", 0.5, ""),),
        "spent": Decimal(10),
        "budget": None,
        "guardrails": (KEPT,),
        "view": GOOD,
        "worst": GOOD,
        "duration": timedelta(days=14),
        "completeness": COMPLETE,
        "approved": frozenset(),
        "prospect": OPEN_END,
    }
    return Evidence(**(fields | given))


TRUTH: list[tuple[str, dict[str, Any], str, str]] = [
    ("everything speaks for it", {}, "GO", "go"),
    ("lower bound not positive", {"view": view(0.0)}, "CONTINUE", "continue"),
    ("hurdle not reached", {"view": view(hurdle=0.79)}, "CONTINUE", "continue"),
    ("hurdle just reached", {"view": view(hurdle=0.8)}, "GO", "go"),
    ("expected loss too large", {"view": view(loss=1000.01)}, "CONTINUE", "continue"),
    ("guardrail unclear", {"guardrails": (UNCLEAR,)}, "CONTINUE", "continue"),
    ("guardrail not estimable", {"guardrails": (UNREAD,)}, "CONTINUE", "continue"),
    ("a day too short", {"duration": timedelta(days=13)}, "CONTINUE", "continue"),
    ("twenty days are two weeks", {"duration": timedelta(days=20)}, "GO", "go"),
    (
        "94 % of the calls priced",
        {"completeness": replace(COMPLETE, priced_share=0.94)},
        "CONTINUE",
        "continue",
    ),
    (
        "94 % of the money priced",
        {"completeness": replace(COMPLETE, money_share=0.94)},
        "CONTINUE",
        "continue",
    ),
    ("not true in the worst case", {"worst": OPEN}, "CONTINUE", "continue"),
    ("worst case misses the hurdle", {"worst": view(hurdle=0.5)}, "CONTINUE", "continue"),
    ("no interval", {"view": view(interval=UNKNOWN)}, "CONTINUE", "continue"),
    (
        "no bounded interval",
        {"view": view(interval=Unbounded("line", (), 0.95))},
        "CONTINUE",
        "continue",
    ),
    ("no posterior", {"view": view(hurdle=UNKNOWN, loss=UNKNOWN)}, "CONTINUE", "continue"),
    ("not the deciding look", {"deciding": False}, "CONTINUE", "continue"),
    ("approvals asked", {"approvals": ASKED}, "GO_PENDING_APPROVAL", "go"),
    (
        "one of two approvals",
        {"approvals": ASKED, "approved": frozenset({"cfo"})},
        "GO_PENDING_APPROVAL",
        "go",
    ),
    (
        "both approvals",
        {"approvals": ASKED, "approved": frozenset({"cfo", "controlling"})},
        "GO",
        "go",
    ),
    ("loss", {"view": LOSS}, "STOP", "loss"),
    ("loss before the deciding look", {"view": LOSS, "deciding": False}, "CONTINUE", "continue"),
    ("upper bound of zero", {"view": view(-5.0, 0.0)}, "CONTINUE", "continue"),
    ("loss at the end", {"view": LOSS, "at_end": True}, "STOP", "loss"),
    ("sample ratio mismatch", {"checks": (SRM,)}, "INVALID", "invalid"),
    ("mismatch beats loss", {"checks": (SRM,), "view": LOSS}, "INVALID", "invalid"),
    ("mismatch beats the end", {"checks": (SRM,), "at_end": True}, "INVALID", "invalid"),
    ("not registered", {"registered": False}, "INVALID", "invalid"),
    ("retrospective", {"registered": False, "retrospective": True}, "GO", "go"),
    ("budget reached", {"spent": Decimal(5), "budget": Decimal(5)}, "STOP", "safety"),
    ("budget not reached", {"spent": Decimal("4.99"), "budget": Decimal(5)}, "GO", "go"),
    ("guardrail broken", {"guardrails": (KEPT, BROKEN)}, "STOP", "safety"),
    (
        "safety beats a mismatch",
        {"guardrails": (BROKEN,), "checks": (SRM,)},
        "STOP",
        "safety",
    ),
    ("a bandit is never decided", {"adaptive": True}, "CONTINUE", "adaptive"),
    ("nor lost", {"adaptive": True, "view": LOSS}, "CONTINUE", "adaptive"),
    (
        "but its budget holds",
        {"adaptive": True, "spent": Decimal(9), "budget": Decimal(9)},
        "STOP",
        "safety",
    ),
    ("futile", {"view": LOSING, "prospect": FUTILE}, "STOP", "futility"),
    ("futile, but a go", {"prospect": FUTILE}, "GO", "go"),
    ("a loss beats futility", {"view": LOSS, "prospect": FUTILE}, "STOP", "loss"),
    (
        "futility beats the end",
        {"view": LOSING, "prospect": FUTILE, "at_end": True},
        "STOP",
        "futility",
    ),
    (
        "futile, but too early",
        {"view": LOSING, "prospect": FUTILE, "duration": timedelta(days=13)},
        "CONTINUE",
        "continue",
    ),
    (
        "a chance left",
        {"view": LOSING, "prospect": replace(FUTILE, predictive_probability=0.05)},
        "CONTINUE",
        "continue",
    ),
    (
        "a gain expected",
        {"view": view(-50.0, mean=0.01), "prospect": FUTILE},
        "CONTINUE",
        "continue",
    ),
    (
        "waiting pays",
        {"view": LOSING, "prospect": replace(FUTILE, wait_cost=10.0)},
        "CONTINUE",
        "continue",
    ),
    ("no forecast possible", {"view": LOSING, "prospect": OPEN_END}, "CONTINUE", "continue"),
    (
        "futile in a broken split",
        {"view": LOSING, "prospect": FUTILE, "checks": (SRM,)},
        "INVALID",
        "invalid",
    ),
    ("go at the end", {"at_end": True}, "GO", "go"),
    ("no evidence at the end", {"at_end": True, "view": OPEN}, "STOP", "no_evidence"),
    (
        "a limited go needs somebody to sign",
        {"at_end": True, "view": OPEN, "approvals": ASKED},
        "GO_PENDING_APPROVAL",
        "go_limited",
    ),
    (
        "a limited go, signed",
        {
            "at_end": True,
            "view": OPEN,
            "approvals": ASKED,
            "approved": frozenset({"cfo", "controlling"}),
        },
        "GO_LIMITED",
        "go_limited",
    ),
    (
        "not likely enough for a limited go",
        {"at_end": True, "view": view(-50.0, positive=0.89), "approvals": ASKED},
        "STOP",
        "no_evidence",
    ),
    (
        "too much to lose for a limited go",
        {"at_end": True, "view": view(-50.0, loss=1001.0), "approvals": ASKED},
        "STOP",
        "no_evidence",
    ),
    (
        "nothing can be estimated at the end",
        {
            "at_end": True,
            "view": view(interval=UNKNOWN, positive=UNKNOWN, hurdle=UNKNOWN, loss=UNKNOWN),
            "approvals": ASKED,
        },
        "STOP",
        "no_evidence",
    ),
]


@pytest.mark.parametrize(
    ("given", "verdict", "rule"),
    [row[1:] for row in TRUTH],
    ids=[row[0] for row in TRUTH],
)
def test_truth_table(given: dict[str, Any], verdict: str, rule: str) -> None:
    found = decide(evidence(**given))
    assert (found.verdict, found.rule) == (verdict, rule)
    assert found.variant == "ai"
    assert found.reasons


def test_a_go_lists_every_condition_as_met() -> None:
    found = decide(evidence())
    assert [(reason.code, reason.met) for reason in found.reasons] == [
        ("net_benefit_lower", True),
        ("hurdle_probability", True),
        ("expected_loss", True),
        ("guardrail", True),
        ("min_duration", True),
        ("cost_complete", True),
        ("cost_bounded", True),
    ]


def test_what_blocks_a_go_is_named_with_value_and_threshold() -> None:
    found = decide(evidence(view=view(-50.0, loss=2000.0)))
    unmet = {
        reason.code: (reason.value, reason.threshold) for reason in found.reasons if not reason.met
    }
    assert unmet == {"net_benefit_lower": (-50.0, 0.0), "expected_loss": (2000.0, 1000.0)}


def test_what_cannot_be_estimated_is_unmet_and_says_why() -> None:
    found = decide(evidence(view=view(interval=UNKNOWN)))
    (reason,) = [reason for reason in found.reasons if not reason.met]
    assert (reason.code, reason.value) == ("net_benefit_lower", None)
    assert "too early" in reason.detail


def test_the_rules_stand_in_their_order() -> None:
    assert [rule.__name__ for rule in RULES] == [
        "_safety",
        "_invalid",
        "_adaptive",
        "_loss",
        "_go",
        "_futility",
        "_end",
    ]


def treatment(variant: str, verdict: Any, rule: str, mean: Number) -> TreatmentResult:
    return TreatmentResult(
        variant=variant,
        baseline="control",
        window=_nothing(UNKNOWN, fixed=0.0, savings=0.0),
        outlook=view(mean=mean),
        costs=(),
        decision=Decision(variant, verdict, rule, ()),
        prospect=OPEN_END,
    )


def test_among_passing_treatments_the_largest_posterior_mean_wins() -> None:
    found = decide_overall(
        [
            treatment("a", "GO", "go", 10.0),
            treatment("b", "GO", "go", 20.0),
            treatment("c", "CONTINUE", "continue", 99.0),
        ]
    )
    assert (found.variant, found.verdict) == ("b", "GO")
    assert [reason.subject for reason in found.reasons] == ["a", "c"]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((("GO", "go"), ("STOP", "safety")), "GO"),
        ((("STOP", "safety"), ("INVALID", "invalid")), "STOP"),
        ((("STOP", "safety"), ("CONTINUE", "continue")), "STOP"),
        ((("STOP", "loss"), ("CONTINUE", "continue")), "CONTINUE"),
        ((("STOP", "loss"), ("STOP", "no_evidence")), "STOP"),
        ((("GO_PENDING_APPROVAL", "go"), ("STOP", "loss")), "GO_PENDING_APPROVAL"),
    ],
)
def test_precedence_between_treatments(verdicts: Any, expected: str) -> None:
    found = decide_overall(
        [
            treatment(name, verdict, rule, UNKNOWN)
            for name, (verdict, rule) in zip("ab", verdicts, strict=True)
        ]
    )
    assert found.verdict == expected


def test_a_single_treatment_speaks_for_the_experiment() -> None:
    found = decide_overall([treatment("a", "CONTINUE", "continue", UNKNOWN)])
    assert (found.variant, found.verdict) == ("a", "CONTINUE")
