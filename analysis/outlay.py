"""What an experiment has cost so far, all of it: also of one that lost or was given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from klartext.analysis.booked import Booked
from klartext.analysis.readout import Readout
from klartext.analysis.value import FIXED_BEHAVIOURS, Period, called, spent
from klartext.experiments.experiment import Experiment
from klartext.experiments.ledger.accrual import accrue, months_between


@dataclass(frozen=True, slots=True)
class Outlay:
    """Money spent on an experiment, exactly, in its currency.

    Parameters
    ----------
    calls
        AI calls by their prices.
    lines
        Lines per unit and event, of all exposed units; what the ledger says of such cost, and what
        bills say of the calls beyond their prices.
    monthly
        Lines per month, over the test, and what the ledger charges the test beside the spec.
    invested
        One-off lines, and amortised ones in full: they are spent whatever came of it.
    budget
        The cap on calls and lines; None without.
    unpriced_calls
        Calls that cost something unknown, which is in none of these.
    """

    calls: Decimal
    lines: Decimal
    monthly: Decimal
    invested: Decimal
    budget: Decimal | None
    unpriced_calls: int

    @property
    def variable(self) -> Decimal:
        """What the budget caps: calls and lines."""
        return self.calls + self.lines

    @property
    def stated(self) -> Decimal:
        """All but the priced calls: what the spec and the books say."""
        return self.lines + self.monthly + self.invested

    @property
    def total(self) -> Decimal:
        """All of it."""
        return self.calls + self.stated


def outlay_of(
    experiment: Experiment, booked: Booked | None, period: Period | None, *, begun: bool
) -> Outlay:
    """Return what was spent on an experiment.

    Parameters
    ----------
    experiment
        Resolved spec.
    booked
        From `klartext.analysis.booked.book`; None without any facts.
    period
        The time it has cost money; None: none yet.
    begun
        Whether its one-off cost is spent: it is more than a draft.

    Notes
    -----
    Unlike the cost of the window view this is no comparison: the control counts too, and nothing is
    in proportion to units that are mature.
    """
    known = experiment if booked is None else booked.experiment
    fixed = tuple(line for line in known.costs.lines if line.behaviour in FIXED_BEHAVIOURS)
    monthly = tuple(line for line in fixed if line.behaviour == "month")
    accrued = (
        ()
        if period is None
        else accrue(
            monthly,
            start=period.start,
            end=period.end,
            timezone=experiment.timezone,
            units={},
            events={},
            treatments=experiment.treatments,
        )
    )
    calls = Decimal(0) if booked is None else called(known, booked.readout)
    return Outlay(
        calls=calls,
        lines=Decimal(0) if booked is None else spent(booked) - calls,
        monthly=sum(
            (one.amount for one in (*accrued, *(() if booked is None else booked.fixed))),
            Decimal(0),
        ),
        invested=sum(
            (line.amount.base for line in fixed if begun and line.behaviour != "month"), Decimal(0)
        ),
        budget=experiment.costs.budget,
        unpriced_calls=0 if booked is None else _unpriced(experiment, booked.readout),
    )


def running_period(
    started_at: datetime | None, ended_at: datetime, *, timezone: str
) -> Period | None:
    """Return the period of a test without exposures: since its start; None before it."""
    if started_at is None or ended_at <= started_at:
        return None
    return Period(started_at, ended_at, months_between(started_at, ended_at, timezone))


def _unpriced(experiment: Experiment, readout: Readout) -> int:
    declared = experiment.costs.usage_source
    return sum(usage.unpriced for usage in readout.usage if declared in {None, usage.source})
