"""The proposal: how many units a test needs, how long it takes, what it shows and what it costs.

Everything `klartext plan` says, as data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

from klartext.analysis import plan_curves as curves
from klartext.analysis import question
from klartext.analysis.baseline import Baseline
from klartext.analysis.comparison import Mode
from klartext.analysis.covariates import longest_lookback
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.history import NO_CALLS, History
from klartext.analysis.plan_answers import Answer, Asked, Pace, answered, fewest
from klartext.analysis.plan_curves import Point
from klartext.analysis.planning import Duration, Plan
from klartext.analysis.question import Question
from klartext.analysis.result import Number
from klartext.analysis.stakes import Money, Stakes, horizon_of, pays_monthly, stakes_of
from klartext.analysis.windows import windows
from klartext.experiments.experiment import AI_METRICS, Experiment, Metric

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reader must know about the plan; ``value`` belongs into its sentence."""

    code: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A planned test.

    Parameters
    ----------
    asked
        What was asked for.
    history
        Where the baselines are from; None when all were given.
    units_per_day
        First exposures, all variants.
    maturity_days
        From an exposure to its maturity.
    lead
        The net benefit; without values the first metric.
    metrics, guardrails
        In the order of the spec; last the AI metrics of which a lift or a baseline was said.
    needed
        Units with which the lead and every guardrail have the power asked for.
    binding
        The key of what needs most.
    size, size_from
        Units that are judged, and where the number is from.
    duration
        Of a test of this size.
    needed_duration
        Of a test of the units needed.
    by_size
        What lift each size shows with the power asked for.
    by_lift
        With what power the size shows each lift.
    ladder
        What each of some lifts needs.
    by_mode
        What the lead needs when it is read in each mode: the price of looking.
    stakes
        In money.
    notes
        What limits all this.
    """

    experiment: Experiment
    asked: Asked
    history: History | None
    units_per_day: Number
    maturity_days: float
    lead: Answer
    metrics: tuple[Answer, ...]
    guardrails: tuple[Answer, ...]
    needed: Number
    binding: str | None
    size: Number
    size_from: Literal["units", "weeks", "spec", "needed"] | None
    duration: Duration | NotEstimable
    needed_duration: Duration | NotEstimable
    by_size: tuple[Point, ...]
    by_lift: tuple[Point, ...]
    ladder: tuple[Point, ...]
    by_mode: tuple[tuple[Mode, Plan], ...]
    stakes: Stakes
    notes: tuple[Note, ...]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Every answer, the lead first and once."""
        rest = (*self.metrics, *self.guardrails)
        return rest if self.lead in rest else (self.lead, *rest)


def propose(  # noqa: PLR0913 - an experiment, and all that a plan of it rests on
    experiment: Experiment,
    asked: Asked,
    baselines: Mapping[str, Baseline],
    money: Money,
    *,
    units_per_day: Number,
    history: History | None,
) -> Proposal:
    """Plan one comparison of ``experiment``.

    Parameters
    ----------
    experiment
        Resolved spec.
    asked
        What is wanted.
    baselines
        Of every metric; of AI metrics those that there are.
    money
        Margin and cost per unit.
    units_per_day
        First exposures, all variants.
    history
        Where the baselines are from.
    """
    wait = windows(experiment).maturity + experiment.lateness
    pace = Pace(units_per_day, wait / _DAY)
    lead, needed = _lead(experiment, asked, baselines, money, pace)
    metrics = [
        question.of_metric(
            experiment,
            asked.reading,
            metric,
            baselines.get(metric.key, Baseline(NO_CALLS)),
            asked.lifts.get(metric.key),
        )
        for metric in (*experiment.metrics, *_named_ai_metrics(asked, baselines))
    ]
    guardrails = [
        question.of_guardrail(
            experiment,
            asked.reading,
            guardrail,
            baselines.get(guardrail.metric, Baseline(NO_CALLS)),
        )
        for guardrail in experiment.guardrails
    ]
    needs: dict[int, Plan | NotEstimable] = {
        id(one): fewest(one, asked.power) for one in (*metrics, *guardrails)
    }
    if lead is None:
        lead = metrics[0]
    else:
        needs[id(lead)] = needed
    most, binding = _most(
        (lead, needs[id(lead)]),
        [(one, needs[id(one)]) for one in metrics],
        [(one, needs[id(one)]) for one in guardrails],
    )
    size, size_from = _size(experiment, asked, most, units_per_day)
    answers = {
        id(one): answered(one, needs[id(one)], size, asked.power, pace)
        for one in (lead, *metrics, *guardrails)
    }
    duration = pace.of_units(size)
    days: Number = duration if isinstance(duration, NotEstimable) else duration.readout_days
    return Proposal(
        experiment=experiment,
        asked=asked,
        history=history,
        units_per_day=units_per_day,
        maturity_days=pace.maturity_days,
        lead=answers[id(lead)],
        metrics=tuple(answers[id(one)] for one in metrics),
        guardrails=tuple(answers[id(one)] for one in guardrails),
        needed=most,
        binding=binding,
        size=size,
        size_from=size_from,
        duration=duration,
        needed_duration=pace.of_units(most),
        by_size=tuple(curves.by_size(lead, (size, most), asked.power, pace)),
        by_lift=tuple(curves.by_lift(lead, answers[id(lead)], size)),
        ladder=tuple(curves.ladder(lead, asked.power, pace)),
        by_mode=tuple(curves.by_mode(lead, asked)),
        stakes=stakes_of(
            experiment,
            asked.reading.treatment,
            money,
            total_units=size,
            days=days,
            population=asked.population,
        ),
        notes=tuple(_notes(experiment, asked, history, most, money, pace)),
    )


def _named_ai_metrics(asked: Asked, baselines: Mapping[str, Baseline]) -> Iterator[Metric]:
    for metric in AI_METRICS:
        if metric.key in asked.lifts or (metric.key in baselines and baselines[metric.key].given):
            yield metric


def _lead(
    experiment: Experiment,
    asked: Asked,
    baselines: Mapping[str, Baseline],
    money: Money,
    pace: Pace,
) -> tuple[Question | None, Plan | NotEstimable]:
    """Return the question about money, and the units it needs; no question without values.

    Without a roll-out the cost per month that a test has to earn grows with its length, so the
    units that are needed are found in a few rounds, from the size that is asked or four weeks.
    """
    if not experiment.value:
        return None, question.NO_LIFT
    lift = question.margin_lift(experiment, asked.lifts, baselines, money.margin)
    size: Number
    size, _ = _size(experiment, asked, NotEstimable("no-size", "none yet"), pace.units_per_day)
    is_open = isinstance(size, NotEstimable)
    if is_open and not isinstance(pace.units_per_day, NotEstimable):
        size = max(2, round(28 * pace.units_per_day))
    grows = is_open and experiment.rollout is None and pays_monthly(experiment)
    for _ in range(5 if grows else 1):
        days = pace.of_units(size)
        horizon = horizon_of(
            experiment,
            asked.reading.treatment,
            total_units=size,
            days=days if isinstance(days, NotEstimable) else days.readout_days,
        )
        lead = question.of_net_benefit(experiment, asked.reading, money, horizon, margin_lift=lift)
        needed = fewest(lead, asked.power)
        if isinstance(needed, NotEstimable) or needed.total_units == size:
            break
        size = needed.total_units
    return lead, needed


_Priced: TypeAlias = "tuple[Question, Plan | NotEstimable]"


def _most(
    lead: _Priced, metrics: list[_Priced], guardrails: list[_Priced]
) -> tuple[Number, str | None]:
    """Return the units that everything expected needs, and what needs most.

    The lead and the guardrails; when nothing is expected of the lead, the metrics of which
    something is.
    """
    wanted = [lead] if isinstance(lead[1], Plan) else metrics
    found = [(plan.total_units, one.key) for one, plan in wanted if isinstance(plan, Plan)]
    if not found:
        refused = lead[1]
        return refused if isinstance(refused, NotEstimable) else question.NO_LIFT, None
    found += [(plan.total_units, one.key) for one, plan in guardrails if isinstance(plan, Plan)]
    return max(found, key=lambda pair: pair[0])


def _size(
    experiment: Experiment, asked: Asked, needed: Number, units_per_day: Number
) -> tuple[Number, Literal["units", "weeks", "spec", "needed"] | None]:
    if asked.total_units is not None:
        return asked.total_units, "units"
    if asked.weeks is not None:
        if isinstance(units_per_day, NotEstimable):
            return units_per_day, "weeks"
        return max(2, math.floor(7 * asked.weeks * units_per_day)), "weeks"
    if experiment.plan.total_units is not None:
        return experiment.plan.total_units, "spec"
    if isinstance(needed, NotEstimable):
        return NotEstimable("no-size", "no size is planned; say one with --units or --weeks"), None
    return needed, "needed"


def _notes(  # noqa: PLR0913, PLR0917 - all that may limit a plan
    experiment: Experiment,
    asked: Asked,
    history: History | None,
    needed: Number,
    money: Money,
    pace: Pace,
) -> Iterator[Note]:
    weeks = needed if isinstance(needed, NotEstimable) else pace.weeks(round(needed))
    if not isinstance(weeks, NotEstimable) and weeks > curves.MOST_WEEKS:
        yield Note("too-long")
    if experiment.audience and history is not None:
        yield Note("audience")
    if experiment.kind == "bandit":
        yield Note("bandit")
    if len(experiment.treatments) > 1:
        yield Note("treatments", asked.reading.treatment)
    if isinstance(money.cost, NotEstimable) and experiment.value:
        yield Note("no-cost")
    elif not isinstance(money.cost, NotEstimable) and money.cost == 0 and experiment.value:
        yield Note("free")
    if history is not None:
        yield from _limits(experiment, history, needed)


def _limits(experiment: Experiment, history: History, needed: Number) -> Iterator[Note]:
    """Yield what history is too short or too small for."""
    lookback = longest_lookback(experiment)
    if lookback and history.start - history.first_event < lookback:
        yield Note("short-lookback")
    days = (history.end - history.start) / _DAY
    if 0 < days < 14:
        yield Note("few-days", f"{days:.0f}")
    if not isinstance(needed, NotEstimable) and needed > 2 * history.units:
        yield Note("beyond-history", str(history.units))
