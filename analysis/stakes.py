"""The stakes of a planned test: what the AI would cost, what it has to earn, what testing costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from klartext.analysis import adjustment, covariates, profit_size
from klartext.analysis.break_even import BreakEven, TestCost, break_even, cost_of_test
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.history import History, Seen
from klartext.analysis.moments import Moments
from klartext.analysis.profit_size import TestAndRoll
from klartext.analysis.projection import Outlook, outlook_of
from klartext.analysis.result import Number
from klartext.experiments.experiment import MILLION, Experiment, Saving

MONTH_DAYS = 365.2425 / 12
"""Mean length of a month, for durations without a start."""


@dataclass(frozen=True, slots=True)
class Money:
    """Margin per unit of the control, and the AI cost of a treated unit beyond the control's.

    Parameters
    ----------
    margin
        Mean per unit, before AI cost.
    net_sd
        Standard deviation per unit of ``persistence margin - cost``, which the decision reads.
    treated_net_sd
        The same of treated units, where history shows it; None: as the control's.
    nonzero
        Share of units with a margin; None when unknown.
    cost
        Variable AI cost per treated unit.
    removed
        Share of the variance of ``net_sd`` that the covariates of the valued metrics remove; None
        without them.
    """

    margin: Number
    net_sd: Number
    treated_net_sd: float | None
    nonzero: float | None
    cost: Number
    removed: Number | None = None


@dataclass(frozen=True, slots=True)
class Stakes:
    """What is at stake in one comparison, in the reporting currency.

    Parameters
    ----------
    money
        Per unit.
    units
        Treated units that count for the decision: those of the roll-out's first year, or without
        a roll-out those of the test.
    fixed_cost
        Future, avoidable cost of those that does not depend on units, minus savings.
    invested
        Spent once, whatever is decided.
    break_even
        The margin that pays the future cost, which the decision reads.
    full_break_even
        The margin that pays what is spent once as well.
    test_cost
        What the test costs against deciding now.
    test_and_roll
        The size that maximises profit instead of proving anything.
    """

    money: Money
    units: Number
    fixed_cost: Number
    invested: float
    break_even: BreakEven | NotEstimable
    full_break_even: BreakEven | NotEstimable
    test_cost: TestCost | NotEstimable
    test_and_roll: TestAndRoll | NotEstimable


def money_in(
    experiment: Experiment,
    treatment: str,
    history: History,
    *,
    cost_per_unit: float | None,
) -> Money:
    """Read margin and cost per unit from history.

    ``cost_per_unit`` replaces the cost that the spec's lines and the calls in history make.
    """
    control, treated = history.moments[experiment.control], history.moments[treatment]
    margin, net = control.sample("margin"), control.sample("outlook")
    place = control.columns.index("margin")
    cost: Number
    if cost_per_unit is not None:
        cost = cost_per_unit
    elif treated.n == 0:
        cost = NotEstimable("no-treated-history", f"history has no units for {treatment}")
    elif experiment.costs.usage_source is not None and not history.with_calls:
        cost = NotEstimable("no-usage", "the spec promises priced calls, and history has none")
    else:
        cost = treated.sample("cost").mean - control.sample("cost").mean
    known = isinstance(history.population, Seen) and cost_per_unit is None and treated.n > 1
    return Money(
        margin=margin.mean,
        net_sd=net.variance**0.5
        if control.n > 1
        else NotEstimable("too-few-units", "history has one unit"),
        treated_net_sd=treated.sample("outlook").variance ** 0.5 if known else None,
        nonzero=int(control.nonzero[place]) / control.n if control.n else None,
        cost=cost,
        removed=_removed(experiment, control),
    )


def _removed(experiment: Experiment, control: Moments) -> Number | None:
    """Return what the adjustment of the money removes: of two variants that look like history."""
    names = covariates.of_value(experiment)
    if not names:
        return None
    found = adjustment.lin(control, control, "outlook", names)
    return found if isinstance(found, NotEstimable) else found.variance_removed


def unit_lines(experiment: Experiment, treatment: str) -> Number:
    """Cost per treated unit that the spec alone tells: its lines per unit, when nothing else is."""
    costs = experiment.costs
    if costs.usage_source is not None or any(line.behaviour == "event" for line in costs.lines):
        detail = "calls and costs per event are not known without history"
        return NotEstimable("no-usage", detail)
    total = 0.0
    for line in costs.lines:
        if line.behaviour == "unit":
            sign = {treatment: 1, experiment.control: -1}.get(line.variant or "", 0)
            total += sign * float(line.amount.base)
    return total


def horizon_of(
    experiment: Experiment, treatment: str, *, total_units: Number, days: Number
) -> Outlook | NotEstimable:
    """Return what the decision multiplies per-unit effects with, for a test of this size.

    `NotEstimable` when the spec plans no roll-out, something is paid or saved per month, and the
    size or the duration is unknown. Without such amounts nothing depends on the size, and an
    unknown one counts as one unit.
    """
    months, size = Fraction(0), 1
    if experiment.rollout is None:
        if not isinstance(total_units, NotEstimable):
            size = round(total_units)
        elif pays_monthly(experiment):
            return total_units
        if not isinstance(days, NotEstimable):
            months = Fraction(days / MONTH_DAYS)
        elif pays_monthly(experiment):
            return days
        experiment = replace(experiment, plan=replace(experiment.plan, total_units=size))
    return outlook_of(experiment, treatment, mature=size, test_months=months)


def stakes_of(  # noqa: PLR0913 - one comparison and its plan
    experiment: Experiment,
    treatment: str,
    money: Money,
    *,
    total_units: Number,
    days: Number,
    population: int | None,
) -> Stakes:
    """Return what is at stake in a test of ``total_units`` that takes ``days``.

    ``population`` is that of Test & Roll; None: the units of the roll-out's first year.
    """
    horizon = horizon_of(experiment, treatment, total_units=total_units, days=days)
    units: Number
    fixed: Number
    full: BreakEven | NotEstimable
    invested = math.fsum(
        float(line.amount.base)
        for line in experiment.costs.lines
        if line.variant in {None, treatment} and line.behaviour in {"once", "amortised"}
    )
    if isinstance(horizon, NotEstimable):
        units = fixed = full = horizon
    else:
        units, fixed = horizon.units, horizon.fixed_cost - horizon.savings
        full = _break_even(money, horizon, sunk=True)
    if experiment.rollout is None and isinstance(total_units, NotEstimable):
        units = total_units
        full = total_units if invested else full
    return Stakes(
        money=money,
        units=units,
        fixed_cost=fixed,
        invested=invested,
        break_even=_break_even(money, horizon, sunk=False),
        full_break_even=full,
        test_cost=_test_cost(experiment, treatment, money, total_units=total_units, days=days),
        test_and_roll=_test_and_roll(experiment, money, population),
    )


def _break_even(
    money: Money, horizon: Outlook | NotEstimable, *, sunk: bool
) -> BreakEven | NotEstimable:
    if isinstance(money.margin, NotEstimable):
        return money.margin
    if isinstance(money.cost, NotEstimable):
        return money.cost
    if isinstance(horizon, NotEstimable):
        return horizon
    return break_even(
        baseline_margin=money.margin,
        cost_per_unit=money.cost,
        fixed_cost=horizon.fixed_cost - horizon.savings + (horizon.sunk if sunk else 0.0),
        treated_units=horizon.units,
        persistence=horizon.persistence,
    )


def _test_cost(
    experiment: Experiment,
    treatment: str,
    money: Money,
    *,
    total_units: Number,
    days: Number,
) -> TestCost | NotEstimable:
    """Cost of the test under the registered prior: a margin effect around 0, less the AI cost."""
    for number in (money.margin, money.cost, total_units):
        if isinstance(number, NotEstimable):
            return number
    monthly = sum(
        float(line.amount.base) for line in experiment.costs.lines if line.behaviour == "month"
    )
    if monthly and isinstance(days, NotEstimable):
        return days
    months = 0.0 if isinstance(days, NotEstimable) else days / MONTH_DAYS
    prior = float(experiment.inference.prior_relative_sd)
    return cost_of_test(
        total_units=_known(total_units),
        treatment_share=experiment.variant(treatment).weight / MILLION,
        cost_per_unit=_known(money.cost),
        running_cost=months * monthly,
        effect_mean=-_known(money.cost),
        effect_sd=prior * abs(_known(money.margin)),
    )


def _test_and_roll(
    experiment: Experiment, money: Money, population: int | None
) -> TestAndRoll | NotEstimable:
    if population is None and experiment.rollout is not None:
        rollout = experiment.rollout
        population = round(rollout.units_per_year.base * rollout.share.base)
    refused = _unrollable(experiment, money, population)
    if refused is not None:
        return refused
    prior = float(experiment.inference.prior_relative_sd) * abs(_known(money.margin))
    return profit_size.best_size(
        population=population or 0,
        response_sd=_known(money.net_sd),
        prior_sd=prior / math.sqrt(2),
    )


def _unrollable(
    experiment: Experiment, money: Money, population: int | None
) -> NotEstimable | None:
    """Return why no size maximises the profit."""
    found: list[NotEstimable] = [
        number for number in (money.margin, money.net_sd) if isinstance(number, NotEstimable)
    ]
    rules = (
        (len(experiment.treatments) == 1, "several-treatments", "it is derived for two variants"),
        (population is not None, "no-rollout", "no roll-out is planned whose units would gain"),
        (population is None or population >= 2, "too-few-units", "one unit cannot be tested on"),
        (bool(found) or _known(money.net_sd) > 0, "no-variance", "all units have the same value"),
        (
            bool(found)
            or (_known(money.margin) != 0 and experiment.inference.prior_relative_sd > 0),
            "no-prior",
            "the control earns no margin that a prior could refer to",
        ),
    )
    broken = [NotEstimable(reason, detail) for holds, reason, detail in rules if not holds]
    return next(iter((*broken, *found)), None)


def _known(number: Number) -> float:
    if isinstance(number, NotEstimable):
        raise TypeError(f"{number.detail}")
    return number


def pays_monthly(experiment: Experiment) -> bool:
    """Whether anything is paid or saved per month."""
    return any(line.behaviour == "month" for line in experiment.costs.lines) or any(
        isinstance(entry, Saving) for entry in experiment.value
    )
