"""The decision: rules in a fixed order over what one treatment showed; the first match wins.

Registered and hashed before the first exposure. Absence of evidence never gives GO: whatever
cannot be estimated is a condition that is not met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from klartext.analysis import conditions
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.evidence import Evidence
from klartext.analysis.look import bounds
from klartext.analysis.result import (
    Decision,
    Number,
    Reason,
    TreatmentResult,
    Verdict,
)

FUTILE_PROBABILITY = 0.05
"""Predictive probability of a GO by the registered end below which a test may be futile."""

Rule = Callable[[Evidence], Decision | None]


def decide(evidence: Evidence) -> Decision:
    """Return the verdict of one treatment: the first of `RULES` that matches.

    Notes
    -----
    STOP (loss) and GO each err with probability at most alpha/2, however often one looks, as far
    as the intervals behind them hold. Futility and what the registered end decides have no such
    guarantee.
    """
    for rule in RULES:
        decision = rule(evidence)
        if decision is not None:
            return decision
    return _continue(evidence)


def decide_overall(treatments: Sequence[TreatmentResult]) -> Decision:
    """Return the verdict of the experiment from those of its treatments.

    The first of `PRECEDENCE` that some treatment has. Among the treatments that have it the one
    with the largest posterior-mean net benefit speaks; the others are named in the reasons.
    ``variant`` is the one to go live, or None.

    Notes
    -----
    A treatment that does harm ends the whole test unless another one passes: no variant can be
    dropped from a running test yet.
    """
    chosen = min(
        treatments,
        key=lambda t: (_rank(t.decision), -_or_least(t.outlook.posterior_mean)),
    )
    others = tuple(
        Reason(
            code="other_treatment",
            met=None,
            value=_or_none(other.outlook.posterior_mean),
            threshold=None,
            subject=other.variant,
            detail=f"{other.decision.verdict} by rule {other.decision.rule}; value is the "
            "posterior mean of its net benefit",
        )
        for other in treatments
        if other is not chosen
    )
    decision = chosen.decision
    return Decision(
        variant=chosen.variant if decision.verdict in _PASSING or not others else None,
        verdict=decision.verdict,
        rule=decision.rule,
        reasons=(*decision.reasons, *others),
    )


_PASSING: tuple[Verdict, ...] = ("GO", "GO_PENDING_APPROVAL", "GO_LIMITED")
PRECEDENCE = (*_PASSING, "STOP by safety", "INVALID", "CONTINUE", "STOP")
"""Of the verdicts of several treatments, the one that holds for the experiment."""


def _rank(decision: Decision) -> int:
    protects = decision.verdict == "STOP" and decision.rule == "safety"
    return PRECEDENCE.index("STOP by safety" if protects else decision.verdict)


def _or_none(value: Number) -> float | None:
    return None if isinstance(value, NotEstimable) else value


def _or_least(value: Number) -> float:
    return float("-inf") if isinstance(value, NotEstimable) else value


def _safety(evidence: Evidence) -> Decision | None:
    reasons = [conditions.unmet("incident", "incident", reason) for reason in evidence.incidents]
    reasons += [
        conditions.guardrail(reading) for reading in evidence.guardrails if reading.is_broken
    ]
    if evidence.budget is not None and evidence.spent >= evidence.budget:
        reasons.insert(
            0,
            Reason(
                "budget",
                met=False,
                value=float(evidence.spent),
                threshold=float(evidence.budget),
                subject="budget",
                detail="the variable cost of the test has reached its cap",
            ),
        )
    return _decision(evidence, "STOP", "safety", reasons) if reasons else None


def _invalid(evidence: Evidence) -> Decision | None:
    reasons = [
        Reason(
            check.code,
            met=False,
            value=check.value,
            threshold=None,
            subject=check.code,
            detail=check.detail,
        )
        for check in evidence.checks
        if check.severity == "invalid"
    ]
    if not (evidence.registered or evidence.retrospective):
        reasons.append(
            conditions.unmet(
                "registration",
                "registration",
                "the first exposure is older than the registration; an experiment that was not "
                "registered before its data declares registration: retrospective",
            )
        )
    return _decision(evidence, "INVALID", "invalid", reasons) if reasons else None


def _adaptive(evidence: Evidence) -> Decision | None:
    if not evidence.adaptive:
        return None
    detail = "weights that follow the outcomes make these intervals too short to decide on"
    reason = conditions.unmet("adaptive_allocation", evidence.variant, detail)
    return _decision(evidence, "CONTINUE", "adaptive", [reason])


def _loss(evidence: Evidence) -> Decision | None:
    ends = bounds(evidence.view.rule_interval)
    if not evidence.deciding or isinstance(ends, NotEstimable) or not ends[1] < 0:
        return None
    reason = Reason(
        "net_benefit_upper",
        met=True,
        value=ends[1],
        threshold=0.0,
        subject="net_benefit",
        detail="even the upper bound of the net benefit is a loss",
    )
    return _decision(evidence, "STOP", "loss", [reason])


def _go(evidence: Evidence) -> Decision | None:
    reasons = tuple(conditions.of_go(evidence))
    if not all(reason.met for reason in reasons):
        return None
    if evidence.rule.approvals is None:
        return _decision(evidence, "GO", "go", reasons)
    return _signed(evidence, "GO", "go", reasons)


def _futility(evidence: Evidence) -> Decision | None:
    """Stop what can hardly pass, is expected to lose, and is not worth learning more about."""
    if evidence.mode == "group_sequential" and not evidence.deciding:
        return None
    prospect = evidence.prospect
    gain: Number = (
        prospect.wait_value
        if isinstance(prospect.wait_value, NotEstimable)
        else prospect.wait_cost
        if isinstance(prospect.wait_cost, NotEstimable)
        else prospect.wait_value - prospect.wait_cost
    )
    reasons = (
        conditions.compared(
            "predictive_probability",
            prospect.predictive_probability,
            "<",
            FUTILE_PROBABILITY,
            "chance that the lower bound of the net benefit gets above zero by the registered end",
        ),
        conditions.compared(
            "expected_net_benefit",
            evidence.view.posterior_mean,
            "<=",
            0.0,
            "posterior mean of the net benefit",
        ),
        conditions.compared(
            "value_of_waiting",
            gain,
            "<",
            0.0,
            "what the best length of further testing tells is worth, less what it costs",
        ),
        conditions.min_duration(evidence),
    )
    if not all(reason.met for reason in reasons):
        return None
    return _decision(evidence, "STOP", "futility", reasons)


def _end(evidence: Evidence) -> Decision | None:
    """Decide with what there is, unless all that is missing is a check that nobody has made yet."""
    if not evidence.at_end:
        return None
    approvable = evidence.rule.approvals is not None
    full, limited = tuple(conditions.of_go(evidence)), tuple(conditions.of_limited_go(evidence))
    for reasons in (full, limited) if approvable else (full,):
        if _is_awaited(evidence, reasons):
            return _decision(evidence, "CONTINUE", "awaits_check", reasons)
    if approvable and all(reason.met for reason in limited):
        return _signed(evidence, "GO_LIMITED", "go_limited", limited)
    named = {(reason.code, reason.subject) for reason in limited}
    unmet = [one for one in full if not one.met and (one.code, one.subject) not in named]
    unsigned = [conditions.approvals(evidence)] if all(one.met for one in limited) else []
    return _decision(evidence, "STOP", "no_evidence", (*limited, *unmet, *unsigned))


def _is_awaited(evidence: Evidence, reasons: Sequence[Reason]) -> bool:
    """Whether preflight checks without a result are all that these conditions lack."""
    unmet = {(reason.code, reason.subject) for reason in reasons if not reason.met}
    awaited = {("preflight", gate.check) for gate, result in evidence.gates if result is None}
    return bool(unmet) and unmet <= awaited


def _signed(evidence: Evidence, verdict: Verdict, rule: str, reasons: Iterable[Reason]) -> Decision:
    """Return a positive verdict, or that it waits for signatures."""
    approvals = conditions.approvals(evidence)
    final: Verdict = verdict if approvals.met else "GO_PENDING_APPROVAL"
    return _decision(evidence, final, rule, (*reasons, approvals))


def _continue(evidence: Evidence) -> Decision:
    return _decision(evidence, "CONTINUE", "continue", conditions.of_go(evidence))


RULES: tuple[Rule, ...] = (_safety, _invalid, _adaptive, _loss, _go, _futility, _end)
"""In order of precedence."""


def _decision(
    evidence: Evidence, verdict: Verdict, rule: str, reasons: Iterable[Reason]
) -> Decision:
    return Decision(evidence.variant, verdict, rule, tuple(reasons))
