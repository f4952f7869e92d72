"""The prospect of a running test: what it may still bring, what waiting costs, when it ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from klartext.analysis import information, posterior
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.information import Belief, Pace
from klartext.analysis.look import Look
from klartext.analysis.posterior import Horizon
from klartext.analysis.projection import prior_sd_of
from klartext.analysis.readout import Readout
from klartext.analysis.result import DecisionView, Number, Prospect
from klartext.analysis.windows import windows
from klartext.experiments.experiment import Experiment

WEEK = timedelta(days=7)

_LOOKS = 26
"""Looks ahead that are integrated; a longer future is looked at less often than weekly."""


@dataclass(frozen=True, slots=True)
class _Future:
    """When more units of the two variants are mature.

    ``rate`` is units per week; they enter until ``enters_until`` and are mature ``wait`` later.
    """

    first: datetime
    now: datetime
    mature: int
    exposed: int
    rate: float
    wait: timedelta
    enters_until: datetime
    continues: bool

    @property
    def end(self) -> datetime:
        return max(self.now, self.enters_until + self.wait)

    @property
    def weeks(self) -> int:
        return math.ceil((self.end - self.now) / WEEK)

    def units(self, week: int) -> int:
        """Return the mature units ``week`` weeks ahead."""
        entered = min(self.now + week * WEEK - self.wait, self.enters_until)
        more = self.rate * max(0.0, (entered - (self.now - self.wait)) / WEEK)
        found = self.mature + math.floor(more)
        return found if self.continues else min(found, max(self.exposed, self.mature))


def prospect_of(
    experiment: Experiment,
    readout: Readout,
    treatment: str,
    *,
    look: Look,
    view: DecisionView,
) -> Prospect:
    """Return what the rest of the test may bring for ``treatment``.

    Parameters
    ----------
    experiment
        Resolved spec.
    readout
        Moments of mature units.
    treatment
        Key of a variant.
    look
        How intervals are made.
    view
        Its decision view today.

    Notes
    -----
    Units keep coming as fast as between the first and the last exposure, until
    ``plan.latest_end``; when a week went by without any, none is expected any more. The effect is
    taken to stay what it is. The forecast is the first week in which the interval around today's
    estimate would leave zero out, not before the minimum duration, else the registered end.
    """
    alpha = float(experiment.inference.alpha) / len(experiment.treatments)
    perfect: Number = _perfect(view)
    future = _future(experiment, readout, treatment)
    if isinstance(future, NotEstimable):
        return Prospect(perfect, future, future, future, future, future)
    belief = _belief(experiment, readout, treatment)
    if isinstance(belief, NotEstimable):
        return Prospect(perfect, belief, belief, belief, belief, future.end)
    horizon = Horizon(view.units, view.persistence, 1.0, view.fixed_cost)
    if future.end <= future.now:
        over = NotEstimable("no-time", "all units that will come are mature")
        return Prospect(perfect, over, over, over, over, over)
    looks = tuple(_looks(future, look, alpha=alpha))
    predictive = information.predictive_success(
        belief,
        horizon,
        savings=view.savings,
        units=[units for _, units, _ in looks],
        multipliers=[multiplier for _, _, multiplier in looks],
    )
    best = information.waiting(
        belief,
        horizon,
        _pace(experiment, readout, treatment, future),
        periods=future.weeks,
        shrinking=experiment.rollout is None,
    )
    return Prospect(
        perfect_information=perfect,
        predictive_probability=predictive,
        wait_weeks=best.periods,
        wait_value=best.value,
        wait_cost=best.cost,
        forecast=_forecast(
            view,
            belief,
            looks,
            future,
            not_before=future.first + experiment.decision.min_duration + future.wait,
        ),
    )


def _perfect(view: DecisionView) -> Number:
    if isinstance(view.posterior_mean, NotEstimable):
        return view.posterior_mean
    if isinstance(view.posterior_sd, NotEstimable):
        return view.posterior_sd
    return information.perfect_information(posterior.Normal(view.posterior_mean, view.posterior_sd))


def _future(experiment: Experiment, readout: Readout, treatment: str) -> _Future | NotEstimable:
    end, now = experiment.plan.latest_end, readout.watermark.cutoff
    if experiment.registration == "retrospective":
        return NotEstimable("finished", "the experiment is over")
    if end is None:
        return NotEstimable("no-end", "the plan names no latest_end until which to look ahead")
    first, last = readout.first_exposure, readout.last_exposure
    if first is None or last is None:
        return NotEstimable("no-units", "nobody was exposed yet")
    pair = (readout.count(treatment), readout.count(experiment.control))
    exposed = sum(count.exposed for count in pair)
    continues = now - last < WEEK and end > now
    # Everybody at once is no rate: a day is the shortest time over which one is seen.
    seen = max(last - first, timedelta(days=1))
    return _Future(
        first=first,
        now=now,
        mature=sum(count.mature for count in pair),
        exposed=exposed,
        rate=exposed / (seen / WEEK),
        wait=windows(experiment).maturity + experiment.lateness,
        enters_until=end if continues else last,
        continues=continues,
    )


def _belief(experiment: Experiment, readout: Readout, treatment: str) -> Belief | NotEstimable:
    one, base = readout.moments[treatment], readout.moments[experiment.control]
    effect = posterior.effect(one, base, margin="margin", cost="cost")
    if isinstance(effect, NotEstimable):
        return effect
    prior_sd = prior_sd_of(experiment, base)
    if isinstance(prior_sd, NotEstimable):
        return prior_sd
    return Belief(effect, prior_sd, one.n + base.n)


def _looks(future: _Future, look: Look, *, alpha: float) -> Iterator[tuple[int, int, float]]:
    """Yield week, mature units and multiplier of each look ahead at which a GO could be said."""
    step = max(1, math.ceil(future.weeks / _LOOKS))
    before = future.mature
    for week in sorted({*range(step, future.weeks + 1, step), future.weeks}):
        units = future.units(week)
        if units * 1000 < before * 1001:  # nothing new, or too little to be a look of its own
            continue
        multiplier = look.multiplier_ahead(units, alpha=alpha, after=before)
        if multiplier is None:
            continue
        yield week, units, multiplier
        before = units
        if look.mode == "fixed":
            return


def _pace(experiment: Experiment, readout: Readout, treatment: str, future: _Future) -> Pace:
    """Return units and cost of one more week of testing."""
    one, base = readout.count(treatment), readout.count(experiment.control)
    share = one.weight / (one.weight + base.weight) if one.weight + base.weight else 0.0
    entering = future.rate if future.continues else 0.0
    monthly = sum(
        float(line.amount.base)
        for line in experiment.costs.lines
        if line.behaviour == "month" and line.variant in {None, treatment}
    )
    mature = (future.units(future.weeks) - future.mature) / max(1, future.weeks)
    return Pace(
        units=mature,
        treated=entering * share,
        entering=entering,
        running_cost=monthly * 12 * WEEK / timedelta(days=365.2425),
    )


def _forecast(
    view: DecisionView,
    belief: Belief,
    looks: Iterable[tuple[int, int, float]],
    future: _Future,
    *,
    not_before: datetime,
) -> datetime:
    """Return when the interval around today's estimate leaves zero out, at the latest the end."""
    if isinstance(view.net_benefit, NotEstimable):
        return future.end
    horizon = Horizon(view.units, view.persistence, 1.0, view.fixed_cost)
    error = posterior.net_benefit(belief.likelihood, horizon).sd
    for week, units, multiplier in looks:
        date = future.now + week * WEEK
        reach = multiplier * error * math.sqrt(belief.units / units)
        if date >= not_before and abs(view.net_benefit) > reach:
            return min(date, future.end)
    return future.end
