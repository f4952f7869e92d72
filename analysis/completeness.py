"""Completeness: how much of the AI cost is known."""

from __future__ import annotations

from decimal import Decimal

from klartext.analysis import attribution
from klartext.analysis.readout import Readout
from klartext.analysis.result import (
    CostCompleteness,
)
from klartext.experiments.experiment import Experiment
from klartext.experiments.ledger.accrual import left_out


def completeness_of(experiment: Experiment, readout: Readout) -> CostCompleteness:
    """Return how much of the calls and of their money is priced and belongs to a variant."""
    calls = sum(usage.calls for usage in readout.usage)
    unpriced = sum(usage.unpriced for usage in readout.usage)
    nobody = [usage for usage in readout.usage if usage.charged_to == attribution.NOBODY]
    owned = [usage for usage in readout.usage if usage.charged_to != attribution.NOBODY]
    known = sum((usage.amount for usage in owned), Decimal(0))
    possible = known + sum((usage.amount for usage in nobody), Decimal(0))
    possible += unpriced * (readout.highest_price or Decimal(0))
    if calls:
        calls_share = sum(usage.calls - usage.unpriced for usage in owned) / calls
        money_share = float(known / possible) if possible > 0 else calls_share
    else:  # a source that was promised and delivered nothing is not complete
        calls_share = money_share = 1.0 if experiment.costs.usage_source is None else 0.0
    used = {usage.category for usage in owned}
    return CostCompleteness(
        calls=calls,
        priced_calls=calls - unpriced,
        unattributed_calls=sum(usage.calls for usage in nobody),
        priced_share=calls_share,
        left_out=left_out(experiment.costs.lines, used),
        money_share=money_share,
    )
