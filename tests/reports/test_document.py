from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from klartext.reports.document import CostBlock, build
from tests.reports import samples


def test_every_assumption_of_the_spec_is_listed() -> None:
    rows = {(row.topic, row.subject): row for row in samples.stop().assumptions}
    assert list(rows) == [
        ("contribution_margin", "spend"),
        ("saving_hours", "copywriting"),
        ("saving_rate", "copywriting"),
        ("saving_realised", "copywriting"),
        ("worth", "conversion"),
        ("cost_amortised", "engineering"),
        ("cost_event", "human_review"),
        ("cost_month", "monitoring"),
        ("units_per_year", ""),
        ("rollout_share", ""),
        ("persistence", ""),
        ("discount_rate", ""),
    ]
    margin = rows["contribution_margin", "spend"]
    stated = margin.assumption
    assert (stated.base, stated.low, stated.high) == (
        Decimal("0.42"),
        Decimal("0.38"),
        Decimal("0.45"),
    )
    assert (stated.source, stated.owner) == ("DB-Rechnung 2026", "m.huber")
    engineering = rows["cost_amortised", "engineering"].line
    assert engineering is not None
    assert (engineering.hours, engineering.rate, engineering.life_months) == (
        Decimal(160),
        Decimal(95),
        24,
    )


def test_costs_add_up_exactly_and_unpriced_items_are_counted_not_added() -> None:
    item = samples.go().costs[0].items[0]
    items = tuple(
        replace(item, category=category, amount=None if amount is None else Decimal(amount))
        for category, amount in (("qa", "0.1"), ("media", "0.2"), ("qa", "0.1"), ("qa", None))
    )
    treatment = replace(samples.go().analysis.treatments[0], costs=items)
    document = samples.go()
    analysis = replace(document.analysis, treatments=(treatment,))
    block = build(
        analysis, document.experiment, document.audit, generated_at=samples.GENERATED
    ).costs[0]
    assert isinstance(block, CostBlock)
    assert block.total == Decimal("0.4")
    assert block.unpriced == 1
    assert block.by_category == (("media", Decimal("0.2")), ("qa", Decimal("0.2")))


def test_the_lead_is_the_chosen_treatment_else_the_most_promising() -> None:
    document = samples.go()
    second = replace(document.analysis.decision, variant="womens")
    assert document.lead is document.analysis.treatments[0]
    chosen = replace(document, analysis=replace(document.analysis, decision=second))
    assert chosen.lead is document.analysis.treatments[1]
    nobody = replace(second, variant=None)
    best = replace(document, analysis=replace(document.analysis, decision=nobody))
    assert best.lead is document.analysis.treatments[0]


def test_a_naive_time_and_a_foreign_analysis_are_refused() -> None:
    document = samples.go()
    naive = datetime(2027, 4, 2)  # noqa: DTZ001 - what is refused
    with pytest.raises(ValueError, match="naive"):
        build(document.analysis, document.experiment, document.audit, generated_at=naive)
    other = samples.stop().experiment
    with pytest.raises(ValueError, match="chat-advisor"):
        build(document.analysis, other, document.audit, generated_at=samples.GENERATED)
