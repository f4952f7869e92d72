"""Completeness: how much of the AI cost is known."""

from __future__ import annotations

from decimal import Decimal

from klartext.analysis import attribution
from klartext.analysis.booked import Booked
from klartext.analysis.result import (
    CostCompleteness,
)
from klartext.experiments.ledger.accrual import left_out


def completeness_of(booked: Booked) -> CostCompleteness:
    """Return how much of the calls and of their money is priced and belongs to a variant.

    What a provider's bill pays for is known, whether calls have prices or not.
    """
    experiment, readout = booked.experiment, booked.readout
    usages = [usage for usage in readout.usage if usage.charged_to != attribution.AFTER]
    calls = sum(usage.calls for usage in usages)
    unpriced = sum(usage.unpriced for usage in usages)
    nobody = [usage for usage in usages if usage.charged_to == attribution.NOBODY]
    owned = [usage for usage in usages if usage.charged_to != attribution.NOBODY]
    charges = [one for one in booked.charges if not one.after]
    known = sum((usage.amount for usage in owned), Decimal(0))
    known += sum((one.amount for one in charges if one.variant is not None), Decimal(0))
    possible = known + sum((usage.amount for usage in nobody), Decimal(0))
    possible += sum((one.amount for one in charges if one.variant is None), Decimal(0))
    possible += unpriced * (readout.highest_price or Decimal(0))
    if calls:
        calls_share = sum(usage.calls - usage.unpriced for usage in owned) / calls
        money_share = float(known / possible) if possible > 0 else calls_share
    else:  # a source that was promised and delivered nothing is not complete
        delivered = experiment.costs.usage_source is None or bool(readout.usage)
        calls_share = money_share = 1.0 if delivered else 0.0
    used = {usage.category for usage in owned}
    used |= {one.category for one in charges} | {one.line.category for one in booked.fixed}
    return CostCompleteness(
        calls=calls,
        priced_calls=calls - unpriced,
        unattributed_calls=sum(usage.calls for usage in nobody),
        priced_share=calls_share,
        left_out=left_out(experiment.costs.lines, used),
        money_share=money_share,
        calls_after=sum(usage.calls for usage in readout.usage) - calls,
    )
