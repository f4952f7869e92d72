"""The decision view: what twelve months after a GO bring, from inputs frozen in the spec."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from klartext.analysis import posterior, roi
from klartext.analysis.ahead import Ahead
from klartext.analysis.estimate import ConfidenceSet, NotEstimable
from klartext.analysis.look import Look, scaled
from klartext.analysis.moments import Moments
from klartext.analysis.readout import Readout
from klartext.analysis.result import DecisionView, Number
from klartext.analysis.unit_table import line_amount
from klartext.analysis.value import monthly_saving
from klartext.experiments.experiment import MILLION, Experiment

MONTHS = 12


@dataclass(frozen=True, slots=True)
class Outlook:
    """What per-unit effects are multiplied with, and what is added; money without an error.

    Parameters
    ----------
    units
        Treated units of the horizon, ``N s``.
    persistence
        Share of the margin effect (and of savings) that stays.
    months
        Length of the horizon: twelve, or without a roll-out those of the test.
    fixed_cost
        Future, avoidable cost that does not depend on units.
    savings
        What persists of the time saved over the horizon.
    invested
        One-off and amortised cost in full: spent whatever is decided.
    sunk
        Of that, what the full-cost view charges to the horizon.
    """

    units: float
    persistence: float
    months: float
    fixed_cost: float
    savings: float
    invested: float
    sunk: float


def outlook_of(  # noqa: PLR0913 - the experiment, its size, and how it is read
    experiment: Experiment,
    treatment: str,
    *,
    mature: int,
    test_months: Fraction,
    bound: Literal["base", "high"] = "base",
    books: Ahead | None = None,
) -> Outlook:
    """Return the horizon of ``treatment``.

    Parameters
    ----------
    experiment
        Resolved spec.
    treatment
        Key of a variant.
    mature
        Mature treated units, which count when neither a roll-out nor a size was planned.
    test_months
        Calendar months of the test.
    bound
        ``high`` takes every cost line at the upper end of its range.
    books
        What the ledger adds; default: nothing.

    Notes
    -----
    Lines of the test as a whole count in full: the treatment that goes live carries them alone.
    What the control costs or saves per month ends when everybody gets the treatment; its cost is
    credited only then, its savings are always given up.
    """
    rollout, total = experiment.rollout, experiment.plan.total_units
    months = float(MONTHS) if rollout else float(test_months)
    persistence = float(rollout.persistence.base) if rollout else 1.0
    if rollout is not None:
        units = float(rollout.units_per_year.base * rollout.share.base)
    elif total is not None:
        units = total * experiment.variant(treatment).weight / MILLION
    else:
        units = float(mature)
    replaced = rollout is None or rollout.share.base == 1
    monthly, invested, sunk = Decimal(0), Decimal(0), 0.0
    for line in experiment.costs.lines:
        amount = line_amount(line, bound)
        if line.behaviour == "month" and line.variant == experiment.control and replaced:
            monthly -= line.amount.base
        if line.variant not in {None, treatment}:
            continue
        if line.behaviour == "month":
            monthly += amount
        elif line.behaviour == "once":
            invested += amount
            sunk += float(amount)
        elif line.behaviour == "amortised":
            life = line.life_months or 1
            invested += amount
            sunk += float(amount) * min(1.0, months / life)
    books = books or Ahead()
    saving = monthly_saving(experiment, treatment) - monthly_saving(experiment, experiment.control)
    return Outlook(
        units=units,
        persistence=persistence,
        months=months,
        fixed_cost=months * float(monthly) + books.fixed,
        savings=persistence * months * float(saving),
        invested=float(invested) + books.invested,
        sunk=sunk + books.sunk,
    )


def decision_view(  # noqa: PLR0913 - the experiment, its data, and how both are read
    experiment: Experiment,
    readout: Readout,
    treatment: str,
    *,
    test_months: Fraction,
    look: Look,
    bound: Literal["base", "high"] = "base",
    books: Ahead | None = None,
) -> DecisionView:
    """Return what the decision rule reads about ``treatment``.

    Parameters
    ----------
    experiment
        Resolved spec.
    readout
        Moments of mature units.
    treatment
        Key of a variant.
    test_months
        Calendar months of the test so far.
    look
        How intervals are made.
    bound
        ``high``: cost lines at their upper bound, unpriced calls at the highest priced one.
    books
        What the ledger adds to the horizon.

    Returns
    -------
    DecisionView
        ``NB = N s (persistence dm - dc) + savings - F``; its interval is N s times that of the
        column ``outlook`` (persistence margin - cost), shifted.

    Notes
    -----
    The posterior takes the sampling distribution of the two differences as normal; it is shown
    before the burn-in has passed, but a GO needs the interval, which is not.
    """
    one, base = readout.moments[treatment], readout.moments[experiment.control]
    horizon = outlook_of(
        experiment, treatment, mature=one.n, test_months=test_months, bound=bound, books=books
    )
    alpha = float(experiment.inference.alpha)
    columns = ("outlook", "cost") if bound == "base" else ("outlook_high", "cost_high")
    shift = horizon.savings - horizon.fixed_cost
    effect = roi.per_unit(one, base, columns[0], columns[1])
    raw: Number = effect if isinstance(effect, NotEstimable) else horizon.units * effect.one + shift
    interval, rule_interval = (
        scaled(
            look.difference(one, base, columns[0], alpha=level), scale=horizon.units, shift=shift
        )
        for level in (alpha, alpha / len(experiment.treatments))
    )
    belief = _belief(experiment, one, base, columns[1])
    money = _posterior(experiment, belief, horizon)
    return DecisionView(
        units=horizon.units,
        persistence=horizon.persistence,
        fixed_cost=horizon.fixed_cost,
        net_benefit=raw,
        interval=interval,
        rule_interval=rule_interval,
        posterior_mean=money.mean,
        posterior_sd=money.sd,
        posterior_roi=money.roi,
        probability_positive=money.probability_positive,
        probability_without_prior=_without_prior(effect, horizon, rule_interval),
        probability_hurdle=money.probability_hurdle,
        expected_loss=money.expected_loss,
        full_cost_net_benefit=raw if isinstance(raw, NotEstimable) else raw - horizon.sunk,
        npv=_npv(experiment, raw),
        payback_months=_payback(experiment, raw, horizon),
        savings=horizon.savings,
    )


def _without_prior(
    effect: roi.Totals | NotEstimable, horizon: Outlook, interval: ConfidenceSet
) -> Number:
    """Return P(NB > 0) under a flat prior, once the data bound the net benefit."""
    if isinstance(effect, NotEstimable):
        return effect
    if isinstance(interval, NotEstimable):
        return interval
    benefit = posterior.Normal(
        horizon.units * effect.one + horizon.savings - horizon.fixed_cost,
        horizon.units * math.sqrt(effect.var_one),
    )
    return benefit.probability_above(0.0)


@dataclass(frozen=True, slots=True)
class _Posterior:
    mean: Number
    sd: Number
    roi: Number
    probability_positive: Number
    probability_hurdle: Number
    expected_loss: Number


def _belief(
    experiment: Experiment, one: Moments, base: Moments, cost: str
) -> posterior.Effect | NotEstimable:
    """Posterior of margin and cost per unit under the registered prior on the margin effect."""
    effect = posterior.effect(one, base, margin="margin", cost=cost)
    if isinstance(effect, NotEstimable):
        return effect
    prior_sd = prior_sd_of(experiment, base)
    if isinstance(prior_sd, NotEstimable):
        return prior_sd
    return posterior.update(effect, prior_sd=prior_sd)


def prior_sd_of(experiment: Experiment, control: Moments) -> Number:
    """Return the prior's sd of the margin effect, money per unit, from the registered share."""
    prior_sd = float(experiment.inference.prior_relative_sd) * abs(control.sample("margin").mean)
    if prior_sd > 0 and math.isfinite(prior_sd):
        return prior_sd
    return NotEstimable(
        "no-prior", "the control has no margin, to which the prior's width is relative"
    )


def _posterior(
    experiment: Experiment, belief: posterior.Effect | NotEstimable, horizon: Outlook
) -> _Posterior:
    if isinstance(belief, NotEstimable):
        return _Posterior(belief, belief, belief, belief, belief, belief)
    frame = posterior.Horizon(horizon.units, horizon.persistence, 1.0, horizon.fixed_cost)
    hurdle = float(experiment.decision.hurdle_roi)
    # Savings are margin: certain, and like it not multiplied with the hurdle.
    benefit, over_hurdle = (
        posterior.Normal(normal.mean + horizon.savings, normal.sd)
        for normal in (
            posterior.net_benefit(belief, frame),
            posterior.net_benefit(belief, frame, hurdle_roi=hurdle),
        )
    )
    cost = horizon.units * belief.cost + horizon.fixed_cost
    return _Posterior(
        mean=benefit.mean,
        sd=benefit.sd,
        roi=(
            benefit.mean / cost
            if cost > 0
            else NotEstimable("no-cost", "the expected cost is not positive")
        ),
        probability_positive=benefit.probability_above(0.0),
        probability_hurdle=over_hurdle.probability_at_least(0.0),
        expected_loss=benefit.expected_loss(),
    )


def _npv(experiment: Experiment, net_benefit: Number) -> Number:
    """Twelve equal monthly amounts at month ends, discounted with ``(1 + r)^(1/12) - 1``."""
    if isinstance(net_benefit, NotEstimable):
        return net_benefit
    if experiment.rollout is None:
        return NotEstimable("no-rollout", "the spec plans no roll-out whose months to discount")
    rate = (1 + float(experiment.rollout.discount_rate.base)) ** (1 / MONTHS) - 1
    return math.fsum(net_benefit / MONTHS / (1 + rate) ** t for t in range(1, MONTHS + 1))


def _payback(experiment: Experiment, net_benefit: Number, horizon: Outlook) -> Number:
    """Months until what was spent once is back, linear inside the month."""
    if isinstance(net_benefit, NotEstimable):
        return net_benefit
    if experiment.rollout is None:
        return NotEstimable("no-rollout", "the spec plans no roll-out that could pay it back")
    if horizon.invested <= 0:
        return NotEstimable("no-investment", "nothing was spent once that had to come back")
    if net_benefit <= 0:
        return NotEstimable("no-gain", "the net benefit per month is not positive")
    months = horizon.invested / (net_benefit / MONTHS)
    if months > MONTHS:
        return NotEstimable("beyond-horizon", "it is not paid back within twelve months")
    return months
