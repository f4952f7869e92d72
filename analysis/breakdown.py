"""The cost breakdown: what made up a treatment's AI cost in the window, exactly, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction

from klartext.analysis import attribution
from klartext.analysis.booked import Booked
from klartext.analysis.readout import UsageSum
from klartext.analysis.result import CostItem, VariantCounts
from klartext.analysis.value import FIXED_BEHAVIOURS
from klartext.experiments.ledger.accrual import Accrual
from klartext.experiments.money import stored

_PRECISION = 60


def cost_items(booked: Booked, accruals: Iterable[Accrual], treatment: str) -> tuple[CostItem, ...]:
    """Return the rows of the treatment's cost in the window.

    Calls of mature units at their price; shared calls, one-off, amortised and monthly lines in
    proportion mature / exposed, and so variable cost of the ledger; lines per unit and per event
    for mature units. What the control's
    AI costs, scaled to as many units, is taken off under the behaviour ``baseline``. Together the
    amounts are the ``cost`` of the window view, each rounded to twelve decimal places.
    """
    accruals = tuple(accruals)
    experiment, readout = booked.experiment, booked.readout
    count, base = readout.count(treatment), readout.count(experiment.control)
    own = _items(booked, accruals, count)
    if not base.mature:
        return own
    scale = Fraction(count.mature, base.mature)
    taken_off = [
        replace(
            item,
            behaviour="baseline",
            quantity=-_times(item.quantity, 1 if _is_fixed(item) else scale),
            amount=None
            if item.amount is None
            else -_times(item.amount, 1 if _is_fixed(item) else scale),
        )
        for item in _items(booked, accruals, base)
    ]
    return (*own, *taken_off)


def _items(
    booked: Booked, accruals: tuple[Accrual, ...], count: VariantCounts
) -> tuple[CostItem, ...]:
    share = Fraction(count.mature, count.exposed) if count.exposed else Fraction(0)
    rows: list[CostItem] = []
    for usage in booked.readout.usage:
        if usage.variant == count.variant and usage.counted:
            part = share if usage.charged_to == attribution.SHARED else Fraction(1)
            rows.extend(_calls(usage, part))
    rows.extend(
        CostItem(
            category=charge.category,
            behaviour=charge.behaviour,
            label=charge.label,
            variant=count.variant,
            quantity=_times(Decimal(1), share),
            amount=_times(charge.amount, share),
            evidence=charge.evidence,
        )
        for charge in booked.charges
        if charge.variant == count.variant and charge.compared
    )
    for accrual in accruals:
        if accrual.variant != count.variant:
            continue
        line = accrual.line
        part = share if line.behaviour in FIXED_BEHAVIOURS else Fraction(1)
        rows.append(
            CostItem(
                category=line.category,
                behaviour=line.behaviour,
                label=line.label or line.event or line.category,
                variant=count.variant,
                quantity=_times(accrual.quantity, part),
                amount=_times(accrual.amount, part),
                evidence=accrual.evidence,
            )
        )
    return tuple(rows)


def _calls(usage: UsageSum, part: Fraction) -> Iterable[CostItem]:
    """One row for the priced calls, one without amount for those that have no price."""
    priced = usage.calls - usage.unpriced
    for calls, amount in ((priced, usage.amount), (usage.unpriced, None)):
        if calls:
            yield CostItem(
                category=usage.category,
                behaviour="shared" if usage.charged_to == attribution.SHARED else "call",
                label=usage.model,
                variant=usage.variant or "",
                quantity=_times(Decimal(calls), part),
                amount=None if amount is None else _times(amount, part),
                evidence="no price" if amount is None else usage.evidence,
            )


def _is_fixed(item: CostItem) -> bool:
    return item.behaviour in FIXED_BEHAVIOURS


def _times(number: Decimal, factor: Fraction | int) -> Decimal:
    exact = Fraction(number) * factor
    with localcontext(prec=_PRECISION):
        return stored(Decimal(exact.numerator) / Decimal(exact.denominator))
