"""The decision: rules in a fixed order over what one treatment showed; the first match wins.

Registered and hashed before the first exposure. Absence of evidence never gives GO: whatever
cannot be estimated is a condition that is not met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.guardrails import GuardrailReading
from klartext.analysis.look import bounds
from klartext.analysis.result import (
    Check,
    CostCompleteness,
    Decision,
    DecisionView,
    Number,
    Prospect,
    Reason,
    TreatmentResult,
    Verdict,
)
from klartext.analysis.sequential.replay import Drift
from klartext.experiments.experiment import DecisionRule, Gate, InferenceMode

COMPLETE_SHARE = 0.95
"""Share of calls and of money that must be priced and attributed for a GO."""

LIMITED_ERROR = 0.1
"""P(NB <= 0) up to which GO_LIMITED is possible at the registered end, shared by all treatments."""

FUTILE_PROBABILITY = 0.05
"""Predictive probability of a GO by the registered end below which a test may be futile."""

_WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rules read about one treatment.

    Parameters
    ----------
    variant
        Key of the treatment.
    rule
        Registered thresholds.
    registered
        Whether the rule was recorded before the first exposure.
    retrospective
        Whether the spec declares that it was not.
    adaptive
        Whether the weights follow the outcomes (a bandit).
    treatments
        How many there are in the experiment.
    deciding
        Whether intervals may decide at this look.
    mode
        Registered inference mode.
    at_end
        Whether the registered end is reached: no later look will know more.
    checks
        Those with severity ``invalid`` make the data unreadable.
    spent, budget
        Variable cost of the test and its cap, money; no cap is None.
    guardrails
        One per guardrail of the spec.
    view, worst
        Decision view, and the same with every open cost at its upper bound.
    duration
        Time over which mature units were exposed.
    completeness
        How much of the AI cost is known.
    approved
        Roles that have signed.
    gates
        Preflight checks of the spec, each with its latest result (None: none yet).
    incidents
        Reasons of the open ones.
    prospect
        What the rest of the test may bring.
    uncapped
        Raw net benefit without the caps on metrics; None when no metric of value has one.
    drift
        Since when no value of the effect agrees with all daily intervals; None when one does.
    """

    variant: str
    rule: DecisionRule
    registered: bool
    retrospective: bool
    adaptive: bool
    treatments: int
    deciding: bool
    mode: InferenceMode
    at_end: bool
    checks: tuple[Check, ...]
    spent: Decimal
    budget: Decimal | None
    guardrails: tuple[GuardrailReading, ...]
    view: DecisionView
    worst: DecisionView
    duration: timedelta
    completeness: CostCompleteness
    approved: frozenset[str]
    prospect: Prospect
    uncapped: Number | None = None
    gates: tuple[tuple[Gate, Decimal | None], ...] = ()
    incidents: tuple[str, ...] = ()
    drift: Drift | None = None


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
    reasons = [_unmet("incident", "incident", reason) for reason in evidence.incidents]
    reasons += [_guardrail(reading) for reading in evidence.guardrails if reading.is_broken]
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
            _unmet(
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
    return _decision(
        evidence, "CONTINUE", "adaptive", [_unmet("adaptive_allocation", evidence.variant, detail)]
    )


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
    conditions = tuple(_conditions(evidence))
    if not all(condition.met for condition in conditions):
        return None
    if evidence.rule.approvals is None:
        return _decision(evidence, "GO", "go", conditions)
    return _signed(evidence, "GO", "go", conditions)


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
        _condition(
            "predictive_probability",
            prospect.predictive_probability,
            "<",
            FUTILE_PROBABILITY,
            "chance that the lower bound of the net benefit gets above zero by the registered end",
        ),
        _condition(
            "expected_net_benefit",
            evidence.view.posterior_mean,
            "<=",
            0.0,
            "posterior mean of the net benefit",
        ),
        _condition(
            "value_of_waiting",
            gain,
            "<",
            0.0,
            "what the best length of further testing tells is worth, less what it costs",
        ),
        _min_duration(evidence),
    )
    if not all(reason.met for reason in reasons):
        return None
    return _decision(evidence, "STOP", "futility", reasons)


def _end(evidence: Evidence) -> Decision | None:
    """Decide with what there is, unless all that is missing is a check that nobody has made yet."""
    if not evidence.at_end:
        return None
    approvable = evidence.rule.approvals is not None
    full, limited = tuple(_conditions(evidence)), tuple(_limited(evidence))
    for conditions in (full, limited) if approvable else (full,):
        if _is_awaited(evidence, conditions):
            return _decision(evidence, "CONTINUE", "awaits_check", conditions)
    if approvable and all(reason.met for reason in limited):
        return _signed(evidence, "GO_LIMITED", "go_limited", limited)
    named = {(reason.code, reason.subject) for reason in limited}
    unmet = [one for one in full if not one.met and (one.code, one.subject) not in named]
    reasons = [*limited, *unmet]
    if all(reason.met for reason in limited):
        reasons.append(_approvals(evidence))
    return _decision(evidence, "STOP", "no_evidence", reasons)


def _is_awaited(evidence: Evidence, conditions: Sequence[Reason]) -> bool:
    """Whether preflight checks without a result are all that stands against these conditions."""
    unmet = {(reason.code, reason.subject) for reason in conditions if not reason.met}
    awaited = {("preflight", gate.check) for gate, result in evidence.gates if result is None}
    return bool(unmet) and unmet <= awaited


def _signed(
    evidence: Evidence, verdict: Verdict, rule: str, conditions: Iterable[Reason]
) -> Decision:
    """Return a positive verdict, or that it waits for signatures."""
    approvals = _approvals(evidence)
    final: Verdict = verdict if approvals.met else "GO_PENDING_APPROVAL"
    return _decision(evidence, final, rule, (*conditions, approvals))


def _continue(evidence: Evidence) -> Decision:
    return _decision(evidence, "CONTINUE", "continue", _conditions(evidence))


RULES: tuple[Rule, ...] = (_safety, _invalid, _adaptive, _loss, _go, _futility, _end)
"""In order of precedence."""


def _conditions(evidence: Evidence) -> Iterator[Reason]:
    """Yield every condition of GO but the signatures."""
    if not evidence.deciding and evidence.mode == "group_sequential":
        detail = "only a planned look decides; the interval shown is the anytime one"
        yield _unmet("planned_look", "inference", detail)
    elif not evidence.deciding:
        detail = "the one deciding look comes when the planned units are mature"
        yield _unmet("deciding_look", "inference", detail)
    yield from _shown_gain(evidence, evidence.view)
    yield from _besides(evidence)
    worst = evidence.worst
    ends = bounds(worst.rule_interval)
    yield Reason(
        "cost_bounded",
        met=all(reason.met for reason in _shown_gain(evidence, worst)),
        value=None if isinstance(ends, NotEstimable) else ends[0],
        threshold=0.0,
        subject="cost",
        detail="lower bound of the net benefit, with every cost line at its upper bound and every "
        "open call at the highest price; the other two conditions must hold there as well",
    )


def _limited(evidence: Evidence) -> Iterator[Reason]:
    """Yield every condition of GO_LIMITED but the signatures: a likely gain, not a shown one."""
    yield from _likely_gain(evidence, evidence.view)
    yield from _besides(evidence)
    worst = evidence.worst
    chance = worst.probability_positive
    yield Reason(
        "cost_bounded_limited",
        met=all(reason.met for reason in _likely_gain(evidence, worst)),
        value=None if isinstance(chance, NotEstimable) else chance,
        threshold=_limited_probability(evidence),
        subject="cost",
        detail="probability of a positive net benefit, with every cost line at its upper bound and "
        "every open call at the highest price; the other two conditions must hold there as well",
    )


def _shown_gain(evidence: Evidence, view: DecisionView) -> tuple[Reason, ...]:
    return (_net_benefit_lower(view), _hurdle(evidence, view), _expected_loss(evidence, view))


def _likely_gain(evidence: Evidence, view: DecisionView) -> tuple[Reason, ...]:
    """Return the conditions on the money of a limited go.

    The prior expects no effect on the margin. Where the treatment costs less than the control that
    is no scepticism, it is hope that the margin lost is not real; so the data have to say it alone.
    """
    threshold = _limited_probability(evidence)
    return (
        _condition(
            "probability_positive",
            view.probability_positive,
            ">=",
            threshold,
            "probability that the net benefit is positive, for a limited go",
        ),
        _condition(
            "probability_without_prior",
            view.probability_without_prior,
            ">=",
            threshold,
            "the same from the data alone, once they can bound the net benefit",
        ),
        _expected_loss(evidence, view),
    )


def _limited_probability(evidence: Evidence) -> float:
    return 1 - LIMITED_ERROR / evidence.treatments


def _besides(evidence: Evidence) -> Iterator[Reason]:
    """Yield what every positive verdict needs, however sure the gain is."""
    if evidence.drift is not None:
        detail = f"since {evidence.drift.since} no value of the effect agrees with every day's"
        yield _unmet("drift", "net_benefit", detail)
    if evidence.uncapped is not None:
        yield _condition(
            "uncapped_net_benefit",
            evidence.uncapped,
            ">",
            0.0,
            "raw net benefit without the caps on metrics; a cap must not turn a loss into a gain",
        )
    for reading in evidence.guardrails:
        yield _guardrail(reading)
    yield _min_duration(evidence)
    yield _cost_complete(evidence)
    for gate, result in evidence.gates:
        yield _condition(
            "preflight",
            NotEstimable("no-result", "no result was recorded")
            if result is None
            else float(result),
            ">=",
            float(gate.minimum),
            "latest result of a check outside the data",
            subject=gate.check,
        )


def _net_benefit_lower(view: DecisionView) -> Reason:
    ends = bounds(view.rule_interval)
    return _condition(
        "net_benefit_lower",
        ends if isinstance(ends, NotEstimable) else ends[0],
        ">",
        0.0,
        "lower bound of the net benefit; more mature units narrow the interval, a larger effect "
        "or less cost raises it",
    )


def _hurdle(evidence: Evidence, view: DecisionView) -> Reason:
    return _condition(
        "hurdle_probability",
        view.probability_hurdle,
        ">=",
        float(evidence.rule.probability),
        "probability that the margin covers the cost and a return of "
        f"{float(evidence.rule.hurdle_roi):.0%} on it",
    )


def _expected_loss(evidence: Evidence, view: DecisionView) -> Reason:
    return _condition(
        "expected_loss",
        view.expected_loss,
        "<=",
        float(evidence.rule.expected_loss),
        "what going live loses on average, counting 0 where it gains",
    )


def _min_duration(evidence: Evidence) -> Reason:
    weeks = max(evidence.duration, timedelta(0)) // _WEEK
    return _condition(
        "min_duration",
        7.0 * weeks,
        ">=",
        evidence.rule.min_duration / timedelta(days=1),
        "days since the first exposure, in whole weeks, whose units are mature",
        subject="duration",
    )


def _cost_complete(evidence: Evidence) -> Reason:
    known = evidence.completeness
    left_out = ", ".join(known.left_out) or "none"
    return _condition(
        "cost_complete",
        min(known.priced_share, known.money_share),
        ">=",
        COMPLETE_SHARE,
        "share of AI calls and of their cost that is priced and belongs to a variant; cost "
        f"categories without any cost: {left_out}",
        subject="cost",
    )


def _guardrail(reading: GuardrailReading) -> Reason:
    ends = bounds(reading.harm)
    value: Number = ends if isinstance(ends, NotEstimable) else ends[0 if reading.is_broken else 1]
    detail = (
        "even the favourable bound of the harm is beyond the limit"
        if reading.is_broken
        else "unfavourable bound of the harm; more mature units narrow it"
    )
    return _condition("guardrail", value, "<=", reading.limit, detail, subject=reading.metric)


def _approvals(evidence: Evidence) -> Reason:
    asked = evidence.rule.approvals
    roles = () if asked is None else asked.by
    missing = [role for role in roles if role not in evidence.approved]
    detail = f"still to sign: {', '.join(missing)}" if missing else "all have signed"
    if asked is None:
        detail = "a limited go needs an approval, and the spec names nobody who could give it"
    return Reason(
        "approvals",
        met=bool(roles) and not missing,
        value=float(len(roles) - len(missing)),
        threshold=float(max(1, len(roles))),
        subject="approvals",
        detail=detail,
    )


def _condition(  # noqa: PLR0913 - one comparison, read from left to right
    code: str,
    value: Number,
    relation: Literal[">", ">=", "<=", "<"],
    threshold: float,
    detail: str,
    *,
    subject: str = "net_benefit",
) -> Reason:
    """Compare; what cannot be estimated is not met."""
    if isinstance(value, NotEstimable):
        why = f"{detail}: not known, {value.detail}"
        return Reason(code, False, None, threshold, subject, why)  # noqa: FBT003 - met
    met = {
        ">": value > threshold,
        ">=": value >= threshold,
        "<=": value <= threshold,
        "<": value < threshold,
    }[relation]
    return Reason(code, met, value, threshold, subject, detail)


def _unmet(code: str, subject: str, detail: str) -> Reason:
    return Reason(code, met=False, value=None, threshold=None, subject=subject, detail=detail)


def _decision(
    evidence: Evidence, verdict: Verdict, rule: str, reasons: Iterable[Reason]
) -> Decision:
    return Decision(evidence.variant, verdict, rule, tuple(reasons))
