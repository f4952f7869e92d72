"""What the books say of the time after a decision: cost to be avoided still, and sunk cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Literal

from klartext.analysis.attribution import AFTER
from klartext.analysis.booked import Booked, covered
from klartext.analysis.unit_table import line_amount
from klartext.experiments.experiment import Experiment
from klartext.experiments.ledger.accrual import months_between
from klartext.experiments.ledger.bills import BILLED, replaced_by
from klartext.experiments.ledger.book import Recorded

_PRECISION = 60
_ONCE = frozenset({"one_off", "amortised"})
_VARIABLE = frozenset({"per_event", "per_step"})


@dataclass(frozen=True, slots=True)
class Ahead:
    """Cost of the ledger over the horizon of a decision, beside that of the spec.

    Parameters
    ----------
    fixed
        Future and avoidable: not billed yet, and not per unit. Less what the spec charges for the
        time that ledger lines in its place cover.
    invested
        One-off and amortised cost in full.
    sunk
        What the full-cost view charges beside ``fixed``: one-off cost of the past, what is billed
        already, and the part of a life that falls into the horizon.
    """

    fixed: float = 0.0
    invested: float = 0.0
    sunk: float = 0.0


def ahead(booked: Booked, treatment: str, *, bound: Literal["base", "high"] = "base") -> Ahead:
    """Return what the ledger adds to the decision about ``treatment``.

    Parameters
    ----------
    booked
        From `klartext.analysis.booked.book`.
    treatment
        Key of a variant.
    bound
        At which bound the spec charges for what is replaced.

    Notes
    -----
    With a roll-out the horizon is the twelve months after the facts end; without one, the test.
    Cost per event and per step is none of this: it is in the cost per unit, which the horizon
    multiplies. A line that bills a provider's calls is not either, where calls are known. What is
    billed is owed whatever is decided.
    """
    if not booked.readout.ledger.lines:
        return Ahead()
    with localcontext(prec=_PRECISION):
        if booked.experiment.rollout is None:
            return _of_the_test(booked, treatment)
        return _of_a_year(booked, treatment, bound)


def _of_the_test(booked: Booked, treatment: str) -> Ahead:
    fixed = once = Decimal(0)
    for accrual in booked.fixed:
        of = accrual.line.variant
        if of in {None, treatment} and accrual.line.behaviour == "month":
            fixed += accrual.amount
        elif of in {None, treatment}:
            once += accrual.amount
        elif of == booked.experiment.control and accrual.line.behaviour == "month":
            fixed -= accrual.amount
    return Ahead(float(fixed), float(once), float(once))


def _of_a_year(booked: Booked, treatment: str, bound: Literal["base", "high"]) -> Ahead:
    experiment, readout = booked.experiment, booked.readout
    start = readout.watermark.cutoff
    horizon = (start, _a_year_after(start))
    called = {usage.category for usage in readout.usage if usage.charged_to != AFTER}
    fixed = invested = sunk = Decimal(0)
    in_place: dict[int, list[Recorded]] = {}
    for each in readout.ledger.lines:
        line = each.line
        sign = _sign(experiment, treatment, line.variant)
        meant = replaced_by(booked.spec.costs.lines, line.replaces, line.variant)
        if len(meant) == 1:
            place = booked.spec.costs.lines.index(meant[0])
            in_place.setdefault(place, []).append(each)
            if meant[0].behaviour != "month":
                continue
        elif line.behaviour in _VARIABLE or (line.provider and line.category in called):
            continue
        part = line.within(*horizon)
        if line.behaviour != "amortised" and line.status not in BILLED:
            fixed += sign * part
        elif sign > 0:
            sunk += part
        if sign > 0 and line.behaviour in _ONCE:
            invested += line.reporting
            sunk += line.reporting if line.behaviour == "one_off" and line.start < start else 0
    for place, own in in_place.items():
        stated = booked.spec.costs.lines[place]
        if stated.behaviour != "month":
            continue
        spans = covered(own, horizon)
        months = sum((months_between(*span, experiment.timezone) for span in spans), Fraction(0))
        amount = Fraction(line_amount(stated, bound)) * months
        sign = _sign(experiment, treatment, stated.variant)
        fixed -= sign * Decimal(amount.numerator) / Decimal(amount.denominator)
    return Ahead(float(fixed), float(invested), float(sunk))


def _sign(experiment: Experiment, treatment: str, variant: str | None) -> int:
    """Return 1 for cost that a GO brings, -1 for cost of the control that it ends, else 0."""
    if variant in {None, treatment}:
        return 1
    ends = experiment.rollout is not None and experiment.rollout.share.base == 1
    return -1 if variant == experiment.control and ends else 0


def _a_year_after(at: datetime) -> datetime:
    leap = (at.month, at.day) == (2, 29)
    return at.replace(year=at.year + 1, day=28 if leap else at.day)
