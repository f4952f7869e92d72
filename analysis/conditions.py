"""The conditions of a GO and of a limited one: what was seen, what is asked, and whether it holds.

What cannot be estimated is a condition that is not met.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.evidence import Evidence
from klartext.analysis.guardrails import GuardrailReading
from klartext.analysis.look import bounds
from klartext.analysis.result import DecisionView, Number, Reason

COMPLETE_SHARE = 0.95
"""Share of calls and of money that must be priced and attributed for a GO."""

LIMITED_ERROR = 0.1
"""P(NB <= 0) up to which GO_LIMITED is possible at the registered end, shared by all treatments."""

_WEEK = timedelta(days=7)


def of_go(evidence: Evidence) -> Iterator[Reason]:
    """Yield every condition of GO but the signatures."""
    if not evidence.deciding and evidence.mode == "group_sequential":
        detail = "only a planned look decides; the interval shown is the anytime one"
        yield unmet("planned_look", "inference", detail)
    elif not evidence.deciding:
        detail = "the one deciding look comes when the planned units are mature"
        yield unmet("deciding_look", "inference", detail)
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


def of_limited_go(evidence: Evidence) -> Iterator[Reason]:
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
        compared(
            "probability_positive",
            view.probability_positive,
            ">=",
            threshold,
            "probability that the net benefit is positive, for a limited go",
        ),
        compared(
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
        yield unmet("drift", "net_benefit", detail)
    if evidence.uncapped is not None:
        yield compared(
            "uncapped_net_benefit",
            evidence.uncapped,
            ">",
            0.0,
            "raw net benefit without the caps on metrics; a cap must not turn a loss into a gain",
        )
    for reading in evidence.guardrails:
        yield guardrail(reading)
    yield min_duration(evidence)
    yield _cost_complete(evidence)
    for gate, result in evidence.gates:
        yield compared(
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
    return compared(
        "net_benefit_lower",
        ends if isinstance(ends, NotEstimable) else ends[0],
        ">",
        0.0,
        "lower bound of the net benefit; more mature units narrow the interval, a larger effect "
        "or less cost raises it",
    )


def _hurdle(evidence: Evidence, view: DecisionView) -> Reason:
    return compared(
        "hurdle_probability",
        view.probability_hurdle,
        ">=",
        float(evidence.rule.probability),
        "probability that the margin covers the cost and a return of "
        f"{float(evidence.rule.hurdle_roi):.0%} on it",
    )


def _expected_loss(evidence: Evidence, view: DecisionView) -> Reason:
    return compared(
        "expected_loss",
        view.expected_loss,
        "<=",
        float(evidence.rule.expected_loss),
        "what going live loses on average, counting 0 where it gains",
    )


def min_duration(evidence: Evidence) -> Reason:
    """Ask for the registered minimum, in whole weeks whose units are mature."""
    weeks = max(evidence.duration, timedelta(0)) // _WEEK
    return compared(
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
    return compared(
        "cost_complete",
        min(known.priced_share, known.money_share),
        ">=",
        COMPLETE_SHARE,
        "share of AI calls and of their cost that is priced and belongs to a variant; cost "
        f"categories without any cost: {left_out}",
        subject="cost",
    )


def guardrail(reading: GuardrailReading) -> Reason:
    """Ask for harm inside its limit; of a broken one, say by how much it is beyond."""
    ends = bounds(reading.harm)
    value: Number = ends if isinstance(ends, NotEstimable) else ends[0 if reading.is_broken else 1]
    detail = (
        "even the favourable bound of the harm is beyond the limit"
        if reading.is_broken
        else "unfavourable bound of the harm; more mature units narrow it"
    )
    return compared("guardrail", value, "<=", reading.limit, detail, subject=reading.metric)


def approvals(evidence: Evidence) -> Reason:
    """Ask for the signatures that the spec names."""
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


def compared(  # noqa: PLR0913 - one comparison, read from left to right
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


def unmet(code: str, subject: str, detail: str) -> Reason:
    """Return a condition without numbers that does not hold."""
    return Reason(code, met=False, value=None, threshold=None, subject=subject, detail=detail)
