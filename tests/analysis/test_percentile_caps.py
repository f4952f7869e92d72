"""Percentile caps: ranks by hand, of the right units and events."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from klartext.analysis.engine import open_engine
from klartext.analysis.percentile_caps import at_look, before_start, unresolved
from klartext.experiments.caps import PercentileCap
from klartext.experiments.experiment import Filter, Metric
from klartext.experiments.watermark import Watermark
from tests.analysis.samples import (
    DAY,
    REVENUE,
    REVENUE_NET_OF_REFUNDS,
    START,
    WATERMARK,
    Tables,
    event,
    experiment,
    exposure,
    purchase,
    tables,
)

CAPPED = replace(REVENUE, cap_percentile=Decimal("0.8"))  # asks for 50 units


def cap(metric: Metric, facts: Tables, watermark: Watermark = WATERMARK) -> PercentileCap:
    with open_engine() as engine:
        (found,) = at_look(
            experiment(metrics=(metric,)),
            facts,  # type: ignore[arg-type]  # the same attributes
            watermark,
            engine=engine,
        )
    return found


def exposed(units: int) -> list[dict[str, Any]]:
    return [exposure(unit, "ai" if unit % 2 else "control") for unit in range(units)]


def test_the_rank_by_hand() -> None:
    # 53 buyers with 1 ... 53: rank ceil(53 * 0.8) = 43; forty others bought nothing
    amounts = np.random.default_rng(1).permutation(np.arange(1, 54))
    buys = [purchase(unit, f"{amount}.10") for unit, amount in enumerate(amounts)]
    found = cap(CAPPED, tables(exposed(93), buys))
    assert (found.value, found.units, found.needed) == (Decimal("43.10"), 53, 50)
    assert found.source == "burn_in"
    assert found.frozen_at is None
    assert found.evidence == {
        "experiment": "mail",
        "metric": "revenue",
        "percentile": "0.8",
        "source": "burn_in",
        "units": 53,
        "rank": 43,
        "value": str(found.value),
        "until": WATERMARK.cutoff.isoformat(),
        "watermark_batch": 7,
    }


def test_only_mature_units_of_one_variant_net_of_refunds() -> None:
    buys = [purchase(unit, "10") for unit in range(60)]
    units = [
        *exposed(50),
        *(exposure(unit, "ai", occurred_at=START + 58 * DAY) for unit in range(50, 55)),
        *(exposure(unit, variant) for unit in range(55, 60) for variant in ("ai", "control")),
    ]
    refunds = [event(unit, "refund", days=5, value=Decimal(10), currency="EUR")
               for unit in range(3)]  # fmt: skip
    plain = cap(CAPPED, tables(units, buys))
    assert (plain.units, plain.value) == (50, Decimal(10))
    netted = replace(REVENUE_NET_OF_REFUNDS, cap_percentile=Decimal("0.8"))
    found = cap(netted, tables(units, [*buys, *refunds]))
    assert (found.units, found.value) == (47, None)
    assert found.evidence["value"] is None


def test_units_may_buy_twice_and_events_are_counted() -> None:
    buys = [purchase(unit, "2.5", days=day) for unit in range(50) for day in (1, 2)]
    assert cap(CAPPED, tables(exposed(50), buys)).value == 5
    counted = Metric("orders", "count", "purchase", None, 14 * DAY, "increase",
                     cap_percentile=Decimal("0.8"))  # fmt: skip
    assert cap(counted, tables(exposed(50), buys)).value == 2


def test_before_the_start_the_last_window_counts() -> None:
    end = START - DAY
    inside, outside = end - 14 * DAY, end
    rows = [
        *(purchase(unit, f"{unit + 1}", occurred_at=inside) for unit in range(50)),
        *(purchase(unit, "900", occurred_at=outside) for unit in range(50)),
        *(purchase(unit, "900", occurred_at=inside - timedelta(microseconds=1)) for unit in (1, 2)),
        event(60, occurred_at=inside, value=Decimal(900), currency="USD"),
        purchase(61, "900", occurred_at=inside, ingest_batch=99),
    ]
    spec = experiment(metrics=(CAPPED,))
    with open_engine() as engine:
        (found,) = before_start(
            spec,
            tables([], rows),  # type: ignore[arg-type]  # the same attributes
            Watermark(7, end),
            engine=engine,
        )
    assert (found.value, found.units, found.source) == (Decimal(40), 50, "pre_period")
    assert found.evidence["from"] == inside.isoformat()
    assert found.evidence["until"] == end.isoformat()


def test_before_the_start_the_filters_hold() -> None:
    metric = replace(CAPPED, filters=(Filter("country", "text", "in", ("DE",)),))
    rows = [
        purchase(unit, "1", occurred_at=START - 2 * DAY, p_country="DE" if unit < 49 else "FR")
        for unit in range(60)
    ]
    with open_engine() as engine:
        (found,) = before_start(
            experiment(metrics=(metric,)),
            tables([], rows),  # type: ignore[arg-type]  # the same attributes
            Watermark(7, START - DAY),
            engine=engine,
        )
    assert (found.units, found.value) == (49, None)


@pytest.mark.parametrize("metric", [REVENUE, replace(CAPPED, cap=Decimal(5))])
def test_what_is_in_force_is_not_resolved_again(metric: Metric) -> None:
    assert unresolved(experiment(metrics=(metric,))) == ()
