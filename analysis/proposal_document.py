"""The proposal as a JSON document, schema ``klartext/plan/v1``, and as lines for a spec."""

from __future__ import annotations

import math
from datetime import timedelta
from zoneinfo import ZoneInfo

from klartext.analysis.comparison import Anytime, Fixed, GroupSequential, Mode
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.history import Seen
from klartext.analysis.json_values import figure, json_object
from klartext.analysis.plan_answers import Answer
from klartext.analysis.plan_curves import Point
from klartext.analysis.planning import Duration, Plan
from klartext.analysis.proposal import Proposal
from klartext.analysis.result import Number
from klartext.analysis.stakes import Stakes
from klartext.experiments.experiment import MILLION, Json

SCHEMA = "klartext/plan/v1"
LONGEST_DAYS = 36_525


def proposal_json(proposal: Proposal) -> dict[str, Json]:
    """Return the document of a plan, ready for `json.dumps`."""
    experiment, reading = proposal.experiment, proposal.asked.reading
    return {
        "schema": SCHEMA,
        "experiment": experiment.key,
        "title": experiment.title,
        "currency": experiment.currency,
        "treatment": reading.treatment,
        "baseline": experiment.control,
        "shares": {
            key: experiment.variant(key).weight / MILLION
            for key in (experiment.control, reading.treatment)
        },
        "mode": mode_name(reading.mode),
        "looks": looks_of(reading.mode),
        "spending": reading.mode.spending if isinstance(reading.mode, GroupSequential) else None,
        "alpha": figure(reading.alpha),
        "rule_alpha": figure(reading.alpha / len(experiment.treatments)),
        "power": figure(proposal.asked.power),
        "history": _history(proposal),
        **json_object(units_per_day=proposal.units_per_day),
        "maturity_days": figure(proposal.maturity_days),
        **_with_reasons(
            json_object(needed_units=proposal.needed, size=proposal.size), "size_reasons"
        ),
        "size_from": proposal.size_from,
        "binding": proposal.binding,
        "duration": _duration(proposal.duration),
        "needed_duration": _duration(proposal.needed_duration),
        "lead": proposal.lead.question.key,
        "questions": [_answer(answer) for answer in proposal.answers],
        "lift_by_size": [_point(point) for point in proposal.by_size],
        "power_by_lift": [
            {"lift": json_object(lift=point.lift)["lift"], "power": figure(point.power)}
            for point in proposal.by_lift
        ],
        "units_by_lift": [_point(point) for point in proposal.ladder],
        "units_by_mode": [
            {"mode": mode_name(mode), "looks": looks_of(mode), "total_units": plan.total_units}
            for mode, plan in proposal.by_mode
        ],
        "stakes": _stakes(proposal.stakes),
        "notes": [{"code": note.code, "value": note.value} for note in proposal.notes],
        "spec": spec_lines(proposal),
    }


def mode_name(mode: Mode) -> str:
    """Return the mode as the spec calls it."""
    names = {Fixed: "fixed", GroupSequential: "group_sequential", Anytime: "anytime"}
    return names[type(mode)]


def looks_of(mode: Mode) -> int:
    """Return how often the data are read."""
    return 1 if isinstance(mode, Fixed) else len(mode.fractions)


def spec_lines(proposal: Proposal) -> str | None:
    """Return the ``plan:`` of the spec that this plan means; None while no size is known.

    A size that was asked for stays; the spec's own gives way to what is needed.
    """
    asked = proposal.size_from in {"units", "weeks"} or isinstance(proposal.needed, NotEstimable)
    size = proposal.size if asked else proposal.needed
    duration = proposal.duration if asked else proposal.needed_duration
    if isinstance(size, NotEstimable):
        return None
    experiment = proposal.experiment
    zone = ZoneInfo(experiment.timezone)
    plan, lines = experiment.plan, ["plan:"]
    if plan.start is not None:
        lines.append(f"  start: {plan.start.astimezone(zone):%Y-%m-%dT%H:%M}")
    end = plan.latest_end
    if plan.start is not None and not isinstance(duration, NotEstimable):
        days = duration.readout_days  # what takes centuries has no end that could be planned
        end = plan.start + timedelta(days=days) if days <= LONGEST_DAYS else None
    if end is not None:
        lines.append(f"  latest_end: {end.astimezone(zone):%Y-%m-%dT%H:%M}")
    lines.append(f"  total_units: {round(size)}")
    mode = proposal.asked.reading.mode
    if isinstance(mode, GroupSequential) and experiment.inference.mode == "group_sequential":
        shares = ", ".join(f"{100 * fraction:.6g}%" for fraction in mode.fractions)
        lines.append(f"  looks: [{shares}]")
    lifts = {
        key: lift
        for key, lift in proposal.asked.lifts.items()
        if key in {metric.key for metric in experiment.metrics}
    }
    if lifts:
        stated = ", ".join(f"{key}: {100 * lift:.10g}%" for key, lift in lifts.items())
        lines.append(f"  expected_lift: {{{stated}}}")
    return "\n".join(lines) + "\n"


def _with_reasons(document: dict[str, Json], name: str) -> dict[str, Json]:
    """Rename the reasons, since two objects of them stand side by side."""
    if "reason" in document:
        document[name] = document.pop("reason")
    return document


def _history(proposal: Proposal) -> Json:
    history = proposal.history
    if history is None:
        return None
    population = history.population
    return {
        "kind": "seen" if isinstance(population, Seen) else "like",
        "event": population.event if isinstance(population, Seen) else None,
        "experiment": None if isinstance(population, Seen) else population.experiment.key,
        "start": history.start.isoformat(),
        "end": history.end.isoformat(),
        "units": history.units,
        "with_calls": history.with_calls,
    }


def _answer(answer: Answer) -> dict[str, Json]:
    question = answer.question
    baseline = question.baseline
    outcome = baseline.outcome
    mean: Number
    sd: Number
    if isinstance(outcome, NotEstimable):
        mean = sd = outcome
    else:
        mean, sd = outcome.mean, math.sqrt(outcome.variance)
    return {
        "kind": question.kind,
        "key": question.key,
        **_with_reasons(
            json_object(baseline=mean, sd=sd, variance_removed=baseline.removed),
            "baseline_reasons",
        ),
        "covariates": list(baseline.covariates),
        "given": baseline.given,
        **json_object(
            expected_lift=question.lift,
            expected_effect=question.effect,
            detectable_lift=answer.detectable_lift,
        ),
        "needed": _plan(answer.needed),
        "duration": _duration(answer.duration),
        "at_size": _plan(answer.at_size),
        "detectable": _plan(answer.detectable),
    }


def _plan(plan: Plan | NotEstimable) -> Json:
    if isinstance(plan, NotEstimable):
        return {"reason": {"code": plan.reason, "detail": plan.detail}}
    return json_object(
        total_units=plan.total_units,
        treatment_units=plan.treatment_units,
        control_units=plan.control_units,
        effect=plan.effect,
        power=plan.power,
        false_alarm=plan.false_alarm,
        expected_units=plan.expected_units,
        expected_units_if_nothing=plan.expected_units_if_nothing,
        looks=plan.looks,
        alpha=plan.alpha,
    )


def _duration(duration: Duration | NotEstimable) -> Json:
    if isinstance(duration, NotEstimable):
        return {"reason": {"code": duration.reason, "detail": duration.detail}}
    return json_object(
        enrolment_days=duration.enrolment_days,
        readout_days=duration.readout_days,
        expected_days=duration.expected_days,
    )


def _point(point: Point) -> Json:
    return json_object(total_units=point.total_units, weeks=point.weeks, lift=point.lift)


def _stakes(stakes: Stakes) -> Json:
    money = stakes.money
    one, full = stakes.break_even, stakes.full_break_even
    cost, roll = stakes.test_cost, stakes.test_and_roll
    return {
        **json_object(
            margin_per_unit=money.margin,
            net_sd_per_unit=money.net_sd,
            cost_per_unit=money.cost,
            treated_units=stakes.units,
            fixed_cost=stakes.fixed_cost,
            invested=stakes.invested,
        ),
        "break_even": json_object(
            margin_per_unit=one if isinstance(one, NotEstimable) else one.margin_per_unit,
            margin_lift=one if isinstance(one, NotEstimable) else one.relative_lift,
        ),
        "full_break_even": json_object(
            margin_per_unit=full if isinstance(full, NotEstimable) else full.margin_per_unit,
            margin_lift=full if isinstance(full, NotEstimable) else full.relative_lift,
        ),
        "test_cost": {"reason": {"code": cost.reason, "detail": cost.detail}}
        if isinstance(cost, NotEstimable)
        else json_object(
            ai_cost=cost.ai_cost,
            running_cost=cost.running_cost,
            forgone=cost.forgone,
            total=cost.total,
        ),
        "test_and_roll": {"reason": {"code": roll.reason, "detail": roll.detail}}
        if isinstance(roll, NotEstimable)
        else json_object(
            units_per_variant=roll.units_per_variant,
            gain=roll.gain,
            perfect_gain=roll.perfect_gain,
            error_rate=roll.error_rate,
        ),
    }
