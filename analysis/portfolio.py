"""All experiments together: what they cost, and what they bring once luck is taken off.

Nothing is read and nothing is decided here: an entry holds the look that was recorded last, and
the money that was spent up to now. Amounts are in the workspace's currency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from klartext.analysis.estimate import ConfidenceSet, Interval, NotEstimable, affine
from klartext.analysis.outlay import Outlay
from klartext.analysis.recorded import Figures, RecordedLook
from klartext.analysis.result import Number
from klartext.analysis.winners_curse import (
    Corrected,
    Finding,
    Stake,
    corrected,
    earned_of,
    launch_of,
    relative_effects,
)
from klartext.experiments.experiment import MILLION, Experiment

LEVEL = 0.95
"""Of the intervals of sums."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One experiment as it stands.

    Parameters
    ----------
    experiment
        The version in force.
    status
        Of its lifecycle.
    started_at, stopped_at
        None when that has not happened.
    look
        The last one recorded, in the workspace's currency; None: none yet.
    launched
        The treatment that a GO or GO_LIMITED of that look launched; None: nothing was.
    outlay
        All money spent on it so far.
    exchange
        How amounts of its own currency became the workspace's; empty when they are one.
    """

    experiment: Experiment
    status: str
    started_at: datetime | None
    stopped_at: datetime | None
    look: RecordedLook | None
    launched: str | None
    outlay: Outlay
    exchange: str = ""

    @property
    def key(self) -> str:
        """Of the experiment."""
        return self.experiment.key


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An experiment that is in no sum, and why."""

    key: str
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Programme:
    """What all AI brings together: all units against those that were held out from it.

    Parameters
    ----------
    entry
        The experiment of scope ``programme``; in no sum over experiments, which it contains.
    held_out
        Share of units held out.
    net_benefit, interval
        Of the window view of its last look: net of all AI calls of its units.
    stated
        What cost lines of the experiments that ran beside it say, in proportion to mature units.
    value, value_interval
        Net benefit less that.
    """

    entry: Entry
    held_out: float
    net_benefit: Number
    interval: ConfidenceSet
    stated: float
    value: Number
    value_interval: ConfidenceSet


@dataclass(frozen=True, slots=True)
class TestsSum:
    """What the tests themselves brought and cost, by their last looks, added up as they stand.

    ``experiments`` of them have a look with money in it. ``cost`` is the fully loaded incremental
    cost of mature units; all that was spent is `Portfolio.cost`.
    """

    experiments: int
    margin: float
    cost: float
    net_benefit: float


@dataclass(frozen=True, slots=True)
class Result:
    """What the experiments brought together, money.

    Parameters
    ----------
    naive
        As estimated.
    value, interval
        With the winner's curse taken off.
    charged
        Spent on all experiments, and not yet in their net benefit.
    cost
        All of the cost: what was spent, and what the launches will cost.
    roi, roi_interval
        Of sums: ``value / cost``, with the cost taken as known.
    """

    naive: float
    value: float
    interval: Interval
    charged: float
    cost: float
    roi: Number
    roi_interval: Interval | NotEstimable


@dataclass(frozen=True, slots=True, eq=False)
class Portfolio:
    """All experiments of a workspace, and their sums.

    Parameters
    ----------
    currency, timezone
        Of the workspace.
    generated_at
        When it was read.
    entries, unreadable
        Every registered experiment but programmes is in one of them, by key.
    cost, unpriced_calls
        Spent on all entries, exactly; calls whose price is unknown are not in it.
    budget, budgeted
        Sum of the budgets, and what those that have one spent against it.
    tests
        Sums of the window view.
    naive
        Net benefit of all launches as estimated.
    corrected
        The same with the winner's curse taken off, and what it was learned from.
    left_out
        Experiments with a look that ``corrected`` does not learn from, and why; a launch among
        them makes it `NotEstimable`, of any other the margin in the test counts as 0.
    result
        Launches and tests, net of all cost.
    programmes
        Those that hold units out from all AI.
    """

    currency: str
    timezone: str
    generated_at: datetime
    entries: tuple[Entry, ...]
    unreadable: tuple[Unreadable, ...]
    cost: Decimal
    unpriced_calls: int
    budget: Decimal
    budgeted: Decimal
    tests: TestsSum
    naive: Number
    corrected: Corrected | NotEstimable
    left_out: tuple[tuple[str, NotEstimable], ...]
    result: Result | NotEstimable
    programmes: tuple[Programme, ...] = ()


def portfolio_of(
    every: Sequence[Entry],
    unreadable: Sequence[Unreadable],
    *,
    currency: str,
    timezone: str,
    generated_at: datetime,
) -> Portfolio:
    """Return the entries with their sums.

    Notes
    -----
    Sums are of money, never of returns: the ROI is one ratio of two sums.

    A launch with a roll-out counts what the decision view expects of its twelve months; what its
    test cost is charged in full, for that view leaves out what is spent already. A launch without
    one counts the test itself, so only one-off cost is charged beside it, and its test is not
    counted again.

    A programme is measured on the same units once more: of it only what its own cost lines say
    enters the cost.
    """
    entries = [entry for entry in every if entry.experiment.scope == "change"]
    programmes = [entry for entry in every if entry.experiment.scope == "programme"]
    found: list[Finding] = []
    left_out: list[tuple[str, NotEstimable]] = []
    for entry in entries:
        finding = finding_of(entry)
        if isinstance(finding, Finding):
            found.append(finding)
        elif finding.reason != "no-look":
            left_out.append((entry.key, finding))
    launched = [entry for entry in entries if entry.launched is not None]
    sums = corrected(found, level=LEVEL)
    lost = {key for key, _ in left_out} & {entry.key for entry in launched}
    if lost:
        sums = NotEstimable(
            "unreadable-launch", f"the effect of {', '.join(sorted(lost))} cannot be read"
        )
    return Portfolio(
        currency=currency,
        timezone=timezone,
        generated_at=generated_at,
        entries=tuple(entries),
        unreadable=tuple(unreadable),
        cost=_spent(entries, programmes),
        unpriced_calls=sum(entry.outlay.unpriced_calls for entry in entries),
        budget=sum((one.outlay.budget or Decimal(0) for one in entries), Decimal(0)),
        budgeted=sum(
            (one.outlay.variable for one in entries if one.outlay.budget is not None), Decimal(0)
        ),
        tests=_tests(entries),
        naive=_naive(launched),
        corrected=sums,
        left_out=tuple(left_out),
        result=(sums if isinstance(sums, NotEstimable) else _result(entries, programmes, sums)),
        programmes=tuple(_programme(one, entries) for one in programmes),
    )


def finding_of(entry: Entry) -> Finding | NotEstimable:
    """Return what the last look of an experiment teaches, and the money that hangs on it.

    Returns
    -------
    Finding or NotEstimable
        Refused: ``no-look``; ``invalid-look`` (its data cannot be trusted);
        ``adaptive-allocation`` (a bandit's plain means are biased); and the reasons of
        `klartext.analysis.winners_curse.relative_effects`.
    """
    look, experiment = entry.look, entry.experiment
    if look is None:
        return NotEstimable("no-look", "no look was recorded")
    if look.verdict == "INVALID":
        return NotEstimable("invalid-look", "the last look has no readout: its data are not valid")
    if experiment.kind == "bandit":
        return NotEstimable("adaptive-allocation", "the split followed the results")
    block = relative_effects(experiment, look.moments)
    if isinstance(block, NotEstimable):
        return block
    launch = None if entry.launched is None else _launch(entry, look, entry.launched)
    if isinstance(launch, NotEstimable):
        return launch
    earned = []
    for figures in look.figures:
        counted = figures.variant == entry.launched and experiment.rollout is None
        if not counted and not isinstance(figures.margin, NotEstimable):
            margin = figures.margin
            earned.append(earned_of(experiment, look.moments, figures.variant, margin=margin))
    return Finding(block, launch, tuple(earned))


def _launch(entry: Entry, look: RecordedLook, treatment: str) -> Stake | NotEstimable:
    figures = look.of(treatment)
    if isinstance(figures.outlook, NotEstimable):
        return figures.outlook
    return launch_of(
        entry.experiment,
        look.moments,
        treatment,
        net_benefit=figures.outlook,
        units=figures.units,
        persistence=figures.persistence,
    )


def _spent(entries: Sequence[Entry], programmes: Sequence[Entry]) -> Decimal:
    return sum((entry.outlay.total for entry in entries), Decimal(0)) + sum(
        (programme.outlay.stated for programme in programmes), Decimal(0)
    )


def _programme(programme: Entry, entries: Sequence[Entry]) -> Programme:
    """Return what a programme says, net of what its own lines leave out."""
    experiment, look = programme.experiment, programme.look
    held_out = experiment.variant(experiment.control).weight / MILLION
    if look is None or look.verdict == "INVALID":
        why = NotEstimable("no-look", "no look was recorded")
        if look is not None:
            why = NotEstimable("invalid-look", "its last look has no readout")
        return Programme(programme, held_out, why, why, 0.0, why, why)
    (treatment,) = experiment.treatments
    figures = look.of(treatment)
    stated = figures.mature_share * float(
        sum((one.outlay.stated for one in entries if _overlap(one, programme)), Decimal(0))
    )
    net = figures.net_benefit
    return Programme(
        entry=programme,
        held_out=held_out,
        net_benefit=net,
        interval=figures.interval,
        stated=stated,
        value=net if isinstance(net, NotEstimable) else net - stated,
        value_interval=affine(figures.interval, scale=1.0, shift=-stated),
    )


def _overlap(entry: Entry, programme: Entry) -> bool:
    """Whether an experiment ran at any time since the programme began."""
    if entry.started_at is None or programme.started_at is None:
        return False
    return entry.stopped_at is None or entry.stopped_at > programme.started_at


def _tests(entries: Sequence[Entry]) -> TestsSum:
    counted: list[tuple[str, tuple[float, float, float]]] = []
    for entry in entries:
        if entry.look is None or entry.look.verdict == "INVALID":
            continue
        for figures in entry.look.figures:
            parts = (figures.margin, figures.cost, figures.net_benefit)
            if not any(isinstance(part, NotEstimable) for part in parts):
                known = [part for part in parts if not isinstance(part, NotEstimable)]
                counted.append((entry.key, (known[0], known[1], known[2])))
    margin, cost, net = (math.fsum(parts[i] for _, parts in counted) for i in range(3))
    return TestsSum(len({key for key, _ in counted}), margin, cost, net)


def _naive(launched: Sequence[Entry]) -> Number:
    if not launched:
        return NotEstimable("nothing-launched", "no experiment has a GO")
    total = 0.0
    for entry in launched:
        figures = _launched(entry)
        if figures is None or isinstance(figures.outlook, NotEstimable):
            return NotEstimable("unreadable-launch", f"{entry.key} has no net benefit")
        total += figures.outlook
    return total


def _launched(entry: Entry) -> Figures | None:
    if entry.look is None or entry.launched is None:
        return None
    return entry.look.of(entry.launched)


def _result(entries: Sequence[Entry], programmes: Sequence[Entry], sums: Corrected) -> Result:
    charged = float(_spent((), programmes))
    future = 0.0
    for entry in entries:
        figures = _launched(entry)
        is_tested_only = figures is not None and entry.experiment.rollout is None
        charged += float(entry.outlay.invested if is_tested_only else entry.outlay.total)
        if figures is not None and not is_tested_only:
            future += _future_cost(entry, figures)
    cost = future + float(_spent(entries, programmes))
    interval = affine(sums.whole.interval, scale=1.0, shift=-charged)
    if not isinstance(interval, Interval):
        raise TypeError("a shifted interval is an interval")
    value = sums.whole.value - charged
    refused = NotEstimable("no-cost", "all of the cost together is not positive")
    roi: Number = refused
    roi_interval: Interval | NotEstimable = refused
    if cost > 0:
        roi = value / cost
        roi_interval = Interval(interval.lower / cost, interval.upper / cost, interval.level)
    return Result(
        naive=sums.whole.naive - charged,
        value=value,
        interval=interval,
        charged=charged,
        cost=cost,
        roi=roi,
        roi_interval=roi_interval,
    )


def _future_cost(entry: Entry, figures: Figures) -> float:
    """Return what the decision view of a launch takes off: per unit, and fixed."""
    treated = 0 if entry.look is None else entry.look.moments[figures.variant].n
    if isinstance(figures.incremental_cost, NotEstimable) or not treated:
        return figures.fixed_cost
    return figures.units * figures.incremental_cost / treated + figures.fixed_cost
