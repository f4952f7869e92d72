"""The money of one treatment, and the verdict on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from klartext.analysis import decision
from klartext.analysis.adjusted import money as adjusted_money
from klartext.analysis.ahead import ahead
from klartext.analysis.breakdown import cost_items
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.evidence import Evidence
from klartext.analysis.guardrails import read_guardrail
from klartext.analysis.look import Look
from klartext.analysis.projection import decision_view
from klartext.analysis.prospect import prospect_of
from klartext.analysis.readout import Readout
from klartext.analysis.result import (
    DecisionView,
    PlannedLook,
    Prospect,
    TreatmentResult,
)
from klartext.analysis.running import drift_of
from klartext.analysis.sequential import group
from klartext.analysis.subject import Subject, wait_of
from klartext.analysis.tornado import tornado
from klartext.analysis.uncapped import uncapped_net_benefit
from klartext.analysis.value import spent, window_view
from klartext.experiments.experiment import Experiment

_BOUNDS: tuple[Literal["base", "high"], ...] = ("base", "high")


def treatment_result(subject: Subject, treatment: str) -> TreatmentResult:
    """Return all the money of one treatment, in both views, and the verdict on it."""
    experiment, readout, look = subject.experiment, subject.readout, subject.look(treatment)
    one, base = readout.moments[treatment], readout.moments[experiment.control]
    alpha = float(experiment.inference.alpha)
    raw = readout
    money = adjusted_money(experiment, one, base, look=look, alpha=alpha)
    readout = replace(
        readout,
        moments={
            **readout.moments,
            treatment: money.treatment,
            experiment.control: money.control,
        },
    )
    view, worst = (
        decision_view(
            experiment,
            readout,
            treatment,
            test_months=subject.months,
            look=look,
            bound=bound,
            books=ahead(subject.booked, treatment, bound=bound),
        )
        for bound in _BOUNDS
    )
    prospect = prospect_of(experiment, readout, treatment, look=look, view=view)
    evidence = evidence_of(subject, treatment, view=view, worst=worst, prospect=prospect)
    window, before = (
        window_view(experiment, seen, subject.accruals, treatment, months=subject.months, look=look)
        for seen in (readout, raw)
    )
    books = ahead(subject.booked, treatment)
    plain = decision_view(
        experiment, raw, treatment, test_months=subject.months, look=look, books=books
    )
    return TreatmentResult(
        variant=treatment,
        baseline=experiment.control,
        window=window,
        outlook=view,
        costs=cost_items(subject.booked, subject.accruals, treatment),
        decision=decision.decide(evidence),
        prospect=prospect,
        guardrails=evidence.guardrails,
        unadjusted=None if money.adjustment is None else (before, plain),
        tornado=tornado(
            experiment,
            treatment,
            (one, base),
            test_months=subject.months,
            booked=subject.booked,
            net_benefit=view.net_benefit,
        ),
    )


def evidence_of(
    subject: Subject,
    treatment: str,
    *,
    view: DecisionView,
    worst: DecisionView,
    prospect: Prospect,
) -> Evidence:
    """Return what the rules read about one treatment, from its money and all that stands beside."""
    experiment, readout, look = subject.experiment, subject.readout, subject.look(treatment)
    alpha = float(experiment.inference.alpha)
    return Evidence(
        variant=treatment,
        rule=experiment.decision,
        registered=subject.registered,
        retrospective=experiment.registration == "retrospective",
        adaptive=experiment.kind == "bandit",
        treatments=len(experiment.treatments),
        deciding=look.deciding,
        mode=look.mode,
        at_end=subject.is_over or _is_last(look),
        checks=subject.checks,
        spent=spent(subject.booked),
        budget=experiment.costs.budget,
        guardrails=tuple(
            read_guardrail(
                experiment,
                guardrail,
                readout.measured(experiment.metric(guardrail.metric), treatment),
                readout.measured(experiment.metric(guardrail.metric), experiment.control),
                look=look,
                alpha=alpha / len(experiment.treatments),
            )
            for guardrail in experiment.guardrails
        ),
        view=view,
        worst=worst,
        duration=_duration(experiment, readout),
        uncapped=uncapped_net_benefit(
            experiment, readout.moments[treatment], readout.moments[experiment.control], view
        ),
        drift=drift_of(subject.values[treatment]) if subject.values else None,
        completeness=subject.completeness,
        approved=subject.registration.approved,
        gates=tuple(
            (gate, subject.registration.gates.get(gate.check))
            for gate in experiment.decision.preflight
        ),
        incidents=subject.registration.incidents,
        prospect=prospect,
    )


def _duration(experiment: Experiment, readout: Readout) -> timedelta:
    """Return the time from the first exposure to that of the youngest mature unit.

    Waiting after the last exposure does not count: it adds no weekday to the comparison.
    """
    if readout.first_exposure is None or readout.last_exposure is None:
        return timedelta(0)
    youngest = min(readout.watermark.cutoff - wait_of(experiment), readout.last_exposure)
    return youngest - readout.first_exposure


def _is_last(look: Look) -> bool:
    """Whether no later look can decide: this is the one of a fixed design, or the last planned."""
    if look.place is not None:
        due = look.place.due
        return isinstance(due, group.Look) and due.number == len(look.place.fractions)
    return look.mode == "fixed" and look.deciding


def planned_place(
    subject: Subject, look: Look, treatments: Iterable[TreatmentResult]
) -> PlannedLook | None:
    """Return where a group sequential test stands; the place is the same for all treatments.

    A look whose boundary no treatment could use, in its burn-in, is not taken: its alpha is spent
    at the next one. Where one of several could, it is; the others then spend a little less.
    """
    if look.place is None:
        return None
    due, taken = look.place.due, subject.registration.looks
    is_due = isinstance(due, group.Look)
    readable = any(not isinstance(one.outlook.rule_interval, NotEstimable) for one in treatments)
    return PlannedLook(
        spending=look.place.spending,
        planned=look.place.fractions,
        number=due.number if isinstance(due, group.Look) else None,
        fraction=due.fraction,
        information=subject.mature,
        due_at=due.due_at if isinstance(due, group.Unplanned) else None,
        spends=is_due and readable and len(look.place.taken) == len(taken),
    )
