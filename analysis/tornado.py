"""The tornado: how far each business input moves the net benefit, and where that is zero."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from klartext.analysis import common_slopes, covariates
from klartext.analysis.ahead import Ahead, ahead
from klartext.analysis.booked import Booked
from klartext.analysis.columns import count_columns
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.projection import outlook_of
from klartext.analysis.result import Number, Sway
from klartext.experiments.experiment import (
    ContributionMargin,
    CostLine,
    Experiment,
    Saving,
    Worth,
)
from klartext.experiments.inputs import Input, inputs, with_value
from klartext.experiments.ledger.bills import name_of

NO_RANGE = NotEstimable("no-range", "no range is stated for this input")

_TOLERANCE = 1e-9
"""Share of what an input moves below which a net benefit is zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Effects:
    """What two variants differ by, per unit and before anything is priced.

    Parameters
    ----------
    margin, cost
        Differences of the means, at the registered inputs, in money.
    metrics
        Per metric of value the difference of its mean.
    lines
        Per cost line of the spec how many more of its occurrences a treated unit has.
    """

    margin: float
    cost: float
    metrics: dict[str, float]
    lines: tuple[float, ...]


def tornado(  # noqa: PLR0913 - the experiment, its data, and what is added to them
    experiment: Experiment,
    treatment: str,
    moments: tuple[Moments, Moments],
    *,
    test_months: Fraction,
    booked: Booked | None = None,
    net_benefit: Number,
) -> tuple[Sway, ...]:
    """Return what each business input does to the net benefit of the decision view.

    Parameters
    ----------
    experiment
        Resolved spec.
    treatment
        Key of a variant.
    moments
        Of the treatment and of the control, before they are adjusted for covariates.
    test_months
        Calendar months of the test.
    booked
        What the ledger says beside the spec; default: nothing.
    net_benefit
        The measured one, `klartext.analysis.result.DecisionView.net_benefit`.

    Returns
    -------
    tuple of Sway
        One per input: the net benefit with it at either end of its range and all others as
        registered, and its break-even value. The widest first; those without a range last.

    Notes
    -----
    ``NB = N s (p sum_e r_e dM_e - dU - sum_l a_l dC_l) + p H - F`` with the differences dM of the
    metrics, dC of the occurrences of cost lines and dU of the calls. The differences are linear
    in what is measured, adjusted for covariates or combined over splits or not, so that NB is
    linear in every single input, and its zero is found from two points. The one exception is a
    share of 100 %, at which what the control costs per month ends: NB jumps there, so a zero
    between is none. The sign of the result depends on the *measured* differences; their error
    is in the interval of the net benefit and not here.
    """
    known = inputs(experiment)
    if isinstance(net_benefit, NotEstimable):
        return tuple(Sway(one, net_benefit, net_benefit, net_benefit) for one in _by_path(known))
    effects = effects_of(experiment, treatment, moments, booked)
    case = _Case(experiment, treatment, effects, moments[0].n, test_months, booked)
    found = [_sway(case, one) for one in known]
    return tuple(sorted(found, key=lambda sway: (-sway.width, sway.input.path)))


def _by_path(known: tuple[Input, ...]) -> list[Input]:
    return sorted(known, key=lambda one: one.path)


def effects_of(
    experiment: Experiment,
    treatment: str,
    moments: tuple[Moments, Moments],
    booked: Booked | None = None,
) -> Effects:
    """Return the differences that NB is made of, adjusted as the money is.

    An occurrence of a cost line that the ledger charges in its place is none of the line's.
    """
    names = covariates.of_value(experiment)
    valued = dict.fromkeys(e.metric for e in experiment.value if not isinstance(e, Saving))
    found = _differences(moments, ("margin", "cost", *valued), names)
    return Effects(
        margin=found["margin"],
        cost=found["cost"],
        metrics={name: found[name] for name in valued},
        lines=tuple(
            _occurrences(experiment, line, treatment, moments, names)
            - (0.0 if booked is None else _replaced(booked, line, treatment))
            for line in experiment.costs.lines
        ),
    )


def _differences(
    moments: tuple[Moments, Moments], columns: tuple[str, ...], names: tuple[str, ...]
) -> dict[str, float]:
    one, base = moments
    if names:
        found = common_slopes.adjusted(one, base, columns, names)
        if not isinstance(found, NotEstimable):  # else the raw columns stand, as for the money
            one, base = found.treatment, found.control
    return {column: one.sample(column).mean - base.sample(column).mean for column in columns}


def _occurrences(
    experiment: Experiment,
    line: CostLine,
    treatment: str,
    moments: tuple[Moments, Moments],
    names: tuple[str, ...],
) -> float:
    """Return how many more of a line's occurrences a treated unit is charged with."""
    charged = [line.variant in {None, variant} for variant in (treatment, experiment.control)]
    if line.behaviour == "unit":
        return float(charged[0]) - float(charged[1])
    if line.event is None or not any(charged):
        return 0.0
    column = count_columns(experiment)[line.event]
    one, base = (
        found if is_charged else _without(found, column)
        for found, is_charged in zip(moments, charged, strict=True)
    )
    return _differences((one, base), (column,), names)[column]


def _replaced(booked: Booked, line: CostLine, treatment: str) -> float:
    """Return how many occurrences of a line the ledger takes off a treated unit, incrementally."""
    if line.behaviour not in {"unit", "event"} or not line.amount.base:
        return 0.0
    off = 0.0
    for sign, variant in ((1, treatment), (-1, booked.experiment.control)):
        charges = [
            charge.amount
            for charge in booked.charges
            if charge.behaviour == "replaced"
            and (charge.variant, charge.category, charge.label)
            == (variant, line.category, name_of(line))
        ]
        units = max(1, booked.readout.count(variant).exposed)
        off += sign * float(-sum(charges, Decimal(0)) / line.amount.base) / units
    return off


def _without(moments: Moments, column: str) -> Moments:
    """Return moments in which a column is 0 for every unit."""
    place = moments.columns.index(column)
    mean, m2, m3 = moments.mean.copy(), moments.m2.copy(), moments.m3.copy()
    nonzero = moments.nonzero.copy()
    mean[place] = m2[place, :] = m2[:, place] = m3[place] = nonzero[place] = 0
    return replace(moments, mean=mean, m2=m2, m3=m3, nonzero=nonzero, rest=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    experiment: Experiment
    treatment: str
    effects: Effects
    mature: int
    test_months: Fraction
    booked: Booked | None

    def ahead(self, spec: Experiment) -> Ahead:
        """Return what the ledger adds to the horizon of ``spec``: it replaces what that charges."""
        if self.booked is None:
            return Ahead()
        return ahead(replace(self.booked, spec=spec, experiment=spec), self.treatment)

    def net_benefit(self, one: Input, value: Decimal) -> float:
        """Return NB with ``value`` for one input and all others as registered."""
        spec = with_value(self.experiment, one, value)
        horizon = outlook_of(
            spec,
            self.treatment,
            mature=self.mature,
            test_months=self.test_months,
            books=self.ahead(spec),
        )
        margin, cost = self.effects.margin, self.effects.cost
        for old, new in zip(self.experiment.value, spec.value, strict=True):
            if not isinstance(old, Saving) and not isinstance(new, Saving):
                margin += (_rate(new) - _rate(old)) * self.effects.metrics[old.metric]
        lines = zip(self.experiment.costs.lines, spec.costs.lines, self.effects.lines, strict=True)
        for before, after, more in lines:
            cost += float(after.amount.base - before.amount.base) * more
        return (
            horizon.units * (horizon.persistence * margin - cost)
            + horizon.savings
            - horizon.fixed_cost
        )


def _rate(entry: object) -> float:
    match entry:
        case ContributionMargin() | Worth():
            return float(entry.each)
        case _:
            raise TypeError(entry)


def _sway(case: _Case, one: Input) -> Sway:
    stated = one.assumption
    zero, in_range = _break_even(case, one), None
    if stated.low is None and stated.high is None:
        return Sway(one, NO_RANGE, NO_RANGE, zero)
    low, high = (stated.base if end is None else end for end in (stated.low, stated.high))
    if not isinstance(zero, NotEstimable):
        in_range = float(low) <= zero <= float(high)
    elif zero.reason == "no-break-even":
        in_range = False
    return Sway(one, case.net_benefit(one, low), case.net_benefit(one, high), zero, in_range)


def _break_even(case: _Case, one: Input) -> Number:
    """Return the value of an input at which NB is 0, all others as registered."""
    base = one.assumption.base
    far = Decimal("0.5") if one.unit == "fraction" else base or Decimal(1)
    start, end = case.net_benefit(one, Decimal(0)), case.net_benefit(one, far)
    if start == end:
        return _independent(one)
    zero = start / (start - end) * float(far)
    impossible = NotEstimable(
        "no-break-even", "no value that the input can have makes the net benefit zero"
    )
    if not math.isfinite(zero):
        return impossible
    if not one.admits(Decimal(zero)) and not math.isclose(zero, float(base)):
        return impossible
    if abs(case.net_benefit(one, Decimal(zero))) > _TOLERANCE * (abs(start) + abs(end)):
        return impossible
    return zero


def _independent(one: Input) -> NotEstimable:
    if one.topic in {"cost_once", "cost_amortised"}:
        return NotEstimable(
            "sunk", "spent whatever is decided: it counts in the full-cost view, not here"
        )
    if one.topic == "discount_rate":
        return NotEstimable(
            "present-value", "it discounts the present value and does not move the net benefit"
        )
    return NotEstimable("no-dependence", "the net benefit of this treatment does not depend on it")
