"""All that was spent, by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from klartext.analysis.booked import book
from klartext.analysis.outlay import outlay_of, running_period
from klartext.analysis.readout import UsageSum
from klartext.experiments.experiment import Assumption, CostLine, Costs
from tests.analysis.samples import experiment, readout, shop


def line(behaviour: str, amount: int, **given: object) -> CostLine:
    return CostLine("other", behaviour, Assumption(Decimal(amount)), **({"variant": "ai"} | given))  # type: ignore[arg-type]


LINES = (
    line("unit", 2),
    line("event", 3, event="review", variant=None),
    line("month", 100),
    line("once", 700),
    line("amortised", 2400, life_months=24),
)
SPEC = experiment(costs=Costs(Decimal(5000), "gateway", LINES))


def call(source: str, amount: int, unpriced: int) -> UsageSum:
    return UsageSum(
        "shared", "control", counted=True, category="model_fees", model="m", source=source,
        evidence="p", calls=10, unpriced=unpriced, amount=Decimal(amount),
    )  # fmt: skip


def test_everything_counts_once_in_full() -> None:
    rng = np.random.default_rng(1)
    units = {"control": shop(rng, 50, rate=0.3), "ai": shop(rng, 60, rate=0.3)}
    found = readout(
        SPEC, units,
        all_units={"control": 50, "ai": 70},  # ten of them are not mature
        all_events={("ai", "review"): 4, ("control", "review"): 1},
        usage=(call("gateway", 40, 2), call("copy", 999, 9)),
    )  # fmt: skip
    june = running_period(
        datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC), timezone="UTC"
    )
    spec = experiment(costs=SPEC.costs, timezone="UTC")
    booked = book(spec, found, (june.start, june.end)) if june else None
    outlay = outlay_of(spec, booked, june, begun=True)
    # 70 units at 2, five reviews at 3, the gateway's calls; the other source is a copy
    assert outlay.variable == Decimal(140 + 15 + 40)
    assert outlay.monthly == Decimal(100)
    assert outlay.invested == Decimal(700 + 2400)  # whatever its life
    assert outlay.total == Decimal(195 + 100 + 3100)
    assert (outlay.budget, outlay.unpriced_calls) == (Decimal(5000), 2)


def test_without_facts_and_before_the_start() -> None:
    draft = outlay_of(SPEC, None, None, begun=False)
    assert draft.total == 0
    given_up = outlay_of(SPEC, None, None, begun=True)
    assert given_up.total == Decimal(3100)
    start = datetime(2026, 6, 1, tzinfo=UTC)
    assert running_period(None, start, timezone="UTC") is None
    assert running_period(start, start, timezone="UTC") is None
