"""The rules as a truth table: every rule reached, each before the next, and no GO from nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from klartext.analysis.decision import RULES, decide, decide_overall
from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, Unbounded
from klartext.analysis.evidence import Evidence
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
from klartext.analysis.sequential.replay import Drift
from klartext.analysis.value import _nothing
from klartext.experiments.experiment import Approvals, DecisionRule, Gate

UNKNOWN = NotEstimable("burn-in", "too early")
ASKED = Approvals(("controlling", "cfo"), timedelta(days=10))


def view(
    lower: float = 100.0,
    upper: float = 900.0,
    *,
    positive: Number = 0.99,
    by_data: Number = 0.99,
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
        probability_without_prior=by_data,
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
LOSS = view(-900.0, -100.0, positive=0.001, hurdle=0.001, loss=500.0, mean=-500.0)
KEPT = GuardrailReading("unsubscribe", Interval(-0.001, 0.001, 0.95), 0.002)
UNCLEAR = GuardrailReading("unsubscribe", Interval(-0.001, 0.003, 0.95), 0.002)
BROKEN = GuardrailReading("unsubscribe", Interval(0.0025, 0.004, 0.95), 0.002)
UNREAD = GuardrailReading("unsubscribe", UNKNOWN, 0.002)
SRM = Check("srm", "invalid", 0.0001, "units 10 / 90")
COMPLETE = CostCompleteness(100, 100, 0, 1.0, ("qa",), 1.0)
DRIFT = Drift(date(2026, 2, 1), 1.0, -1.0, 0.95)
LEGAL, LOAD_TEST = Gate("legal", Decimal(1)), Gate("load-test", Decimal("0.99"))
PASSED, FAILED = (LEGAL, Decimal(1)), (LEGAL, Decimal("0.99"))
AWAITED = (LOAD_TEST, None)

NOBODY: dict[str, Any] = {"at_end": True, "view": OPEN, "worst": OPEN}
"""The registered end with a likely gain, which nobody can sign."""
END = NOBODY | {"approvals": ASKED, "approved": frozenset({"cfo", "controlling"})}
"""The same, and all have signed."""
LIMITED = ("GO_LIMITED", "go_limited")
NO_EVIDENCE = ("STOP", "no_evidence")
AWAITS = ("CONTINUE", "awaits_check")


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
        "treatments": 1,
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
    ("a limited go that nobody can sign", NOBODY, *NO_EVIDENCE),
    (
        "a limited go needs somebody to sign",
        NOBODY | {"approvals": ASKED},
        "GO_PENDING_APPROVAL",
        "go_limited",
    ),
    ("a limited go, signed", END, *LIMITED),
    (
        "not likely enough for a limited go",
        {"at_end": True, "view": view(-50.0, positive=0.89), "approvals": ASKED},
        "STOP",
        "no_evidence",
    ),
    (
        "likely with the prior, not by the data",
        END | {"view": view(-50.0, by_data=0.89)},
        "STOP",
        "no_evidence",
    ),
    ("just likely enough", END | {"view": view(-50.0, positive=0.9, by_data=0.9)}, *LIMITED),
    (
        "one of two treatments has to be likelier",
        END | {"view": view(-50.0, positive=0.949), "treatments": 2},
        "STOP",
        "no_evidence",
    ),
    ("and is", END | {"view": view(-50.0, positive=0.951), "treatments": 2}, *LIMITED),
    ("a limited go harms nobody", END | {"guardrails": (UNCLEAR,)}, "STOP", "no_evidence"),
    (
        "a limited go with a guardrail beyond its limit",
        END | {"guardrails": (BROKEN,)},
        "STOP",
        "safety",
    ),
    ("a limited go knows its cost", END | {"worst": view(-90.0, positive=0.8)}, *NO_EVIDENCE),
    ("no limited go after a day", END | {"duration": timedelta(days=1)}, *NO_EVIDENCE),
    ("no limited go while the effect drifts", END | {"drift": DRIFT}, *NO_EVIDENCE),
    ("no limited go that a cap makes", END | {"uncapped": -0.01}, *NO_EVIDENCE),
    ("no limited go that the lawyers refuse", END | {"gates": (FAILED,)}, *NO_EVIDENCE),
    ("a limited go waits for the load test", END | {"gates": (AWAITED,)}, *AWAITS),
    ("nobody could sign it: no waiting", NOBODY | {"gates": (AWAITED,)}, *NO_EVIDENCE),
    ("a go waits for the load test", {"at_end": True, "gates": (AWAITED,)}, *AWAITS),
    ("a failed check does not wait", {"at_end": True, "gates": (FAILED,)}, *NO_EVIDENCE),
    ("one passed, one awaited", {"at_end": True, "gates": (PASSED, AWAITED)}, *AWAITS),
    ("one failed, one awaited", {"at_end": True, "gates": (FAILED, AWAITED)}, *NO_EVIDENCE),
    (
        "a missing load test is not all that is missing",
        END | {"gates": (AWAITED,), "guardrails": (UNCLEAR,)},
        *NO_EVIDENCE,
    ),
    ("waiting for it before the end", {"gates": (AWAITED,)}, "CONTINUE", "continue"),
    ("all checks passed", {"gates": (PASSED, (LOAD_TEST, Decimal("0.99")))}, "GO", "go"),
    ("the effect drifts", {"drift": DRIFT}, "CONTINUE", "continue"),
    ("a cap makes the gain", {"uncapped": 0.0}, "CONTINUE", "continue"),
    ("a gain without the cap too", {"uncapped": 0.01}, "GO", "go"),
    ("an open incident", {"incidents": ("wrong prices",)}, "STOP", "safety"),
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


LIKELY_LOSS = view(-50.0, hurdle=0.01, mean=-1.0)
"""Futile by its mean; with a prior that expects a loss, and still a likely gain by the data."""

FOUND: dict[str, tuple[str, dict[str, Any]]] = {
    "budget used up": ("_safety", {"spent": Decimal(5), "budget": Decimal(5)}),
    "incident": ("_safety", {"incidents": ("wrong prices",)}),
    "guardrail broken": ("_safety", {"guardrails": (KEPT, BROKEN)}),
    "sample ratio mismatch": ("_invalid", {"checks": (SRM,)}),
    "unknown variants": ("_invalid", {"checks": (Check("variants", "invalid", 0.2, ""),)}),
    "not registered": ("_invalid", {"registered": False}),
    "weights follow outcomes": ("_adaptive", {"adaptive": True}),
    "loss": ("_loss", {"view": LOSS}),
    # With a prior of all sceptics: futile, were it not a go.
    "go": ("_go", {"view": view(mean=-1.0), "worst": GOOD}),
    "futile": ("_futility", {"view": LIKELY_LOSS, "prospect": FUTILE}),
    "limited go": ("_end", END),
    "no evidence": ("_end", NOBODY),
    "awaited check": ("_end", END | {"gates": (AWAITED,)}),
}
"""What may be found, each with the rule that it alone reaches, in order of precedence."""

# A gain and a loss cannot both be shown; harm and a missing check rule a go out by themselves.
_IMPOSSIBLE = {("loss", "go"), ("guardrail broken", "go"), ("go", "awaited check")}
PAIRS = [
    (first, second)
    for first, second in itertools.combinations(FOUND, 2)
    if FOUND[first][0] != FOUND[second][0] and (first, second) not in _IMPOSSIBLE
]


@pytest.mark.parametrize("found", FOUND)
def test_every_rule_is_reached(found: str) -> None:
    rule, given = FOUND[found]
    (reached, *_) = [rule.__name__ for rule in RULES if rule(evidence(**given))]
    assert reached == rule


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[" before ".join(pair) for pair in PAIRS])
def test_precedence_of_every_pair(first: str, second: str) -> None:
    """Both rules match what was found; the one that stands first decides."""
    (rule, given), (other, also) = FOUND[first], FOUND[second]
    both = evidence(**(also | given))
    matching = {rule.__name__: rule(both) for rule in RULES if rule(both) is not None}
    assert {rule, other} <= set(matching)
    assert decide(both) == matching[rule]


def test_there_are_pairs_of_all_rules() -> None:
    rules = {tuple(FOUND[one][0] for one in pair) for pair in PAIRS}
    names = [rule.__name__ for rule in RULES]
    assert rules == set(itertools.combinations(names, 2)) - {("_loss", "_go")}


SIGNED = {"approvals": ASKED, "approved": frozenset({"cfo", "controlling"})}

ABSENT: dict[str, dict[str, Any]] = {
    "preflight never made": {"gates": (AWAITED,)},
    "no calls of a promised source": {
        "completeness": replace(COMPLETE, priced_share=0.0, money_share=0.0)
    },
    "calls without a price": {"completeness": replace(COMPLETE, priced_share=0.9)},
    "cost without a variant": {"completeness": replace(COMPLETE, money_share=0.9)},
    "no bound on the open cost": {
        "worst": view(interval=UNKNOWN, positive=UNKNOWN, by_data=UNKNOWN, hurdle=UNKNOWN)
    },
    "guardrail without data": {"guardrails": (KEPT, UNREAD)},
    "guardrail without a bounded set": {
        "guardrails": (GuardrailReading("x", Unbounded("line", (), 0.95), 0.1),)
    },
    "nothing mature": {"view": view(interval=UNKNOWN, positive=UNKNOWN, by_data=UNKNOWN,
                                    hurdle=UNKNOWN, loss=UNKNOWN), "duration": timedelta(0)},
    "burn-in: a posterior, and no interval": {"view": view(interval=UNKNOWN, by_data=UNKNOWN)},
    "no expected loss": {"view": view(loss=UNKNOWN)},
    "units of a week only": {"duration": timedelta(days=7)},
    "no figure without the caps": {"uncapped": UNKNOWN},
    "not registered before the data": {"registered": False},
    "mismatch not excluded": {"checks": (SRM,)},
    "no signature": {"approved": frozenset()},
    "one signature of two": {"approved": frozenset({"cfo"})},
}  # fmt: skip
"""Each takes one thing away from evidence that is complete otherwise, and signed."""


@pytest.mark.parametrize("when", [{}, {"at_end": True}], ids=["running", "at the end"])
@pytest.mark.parametrize("lower", [100.0, -50.0], ids=["gain shown", "gain likely"])
@pytest.mark.parametrize("missing", ABSENT)
def test_absence_of_evidence_never_gives_go(
    missing: str, lower: float, when: dict[str, Any]
) -> None:
    likely = SIGNED | when | {"view": view(lower), "worst": view(lower)}
    expected = "GO" if lower > 0 else "GO_LIMITED" if when else "CONTINUE"
    assert decide(evidence(**likely)).verdict == expected
    found = decide(evidence(**(likely | ABSENT[missing])))
    assert found.verdict not in {"GO", "GO_LIMITED"}
    unsigned = missing.endswith("signature") or "signature of" in missing
    waits = unsigned and expected != "CONTINUE"
    assert (found.verdict == "GO_PENDING_APPROVAL") == waits
    assert any(reason.met is False for reason in found.reasons)


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
