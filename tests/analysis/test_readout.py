"""Readout: moments out of the engine against NumPy on the same unit rows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from klartext.analysis.columns import value_columns
from klartext.analysis.moments import Moments
from klartext.experiments.experiment import Assumption, CostLine, Costs
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE_NET_OF_REFUNDS,
    START,
    call,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)

Rows = list[dict[str, Any]]
SPEC = experiment(metrics=(CONVERSION, REVENUE_NET_OF_REFUNDS))


def _facts(seed: int, *, offset: float = 0.0) -> tuple[Rows, Rows, Rows]:
    rng = np.random.default_rng(seed)
    exposures = [exposure(unit, "ai" if rng.random() < 0.4 else "control") for unit in range(300)]
    amounts = offset + rng.exponential(30, 200)
    events = [
        purchase(int(unit), f"{amount:.6f}")
        for unit, amount in zip(rng.integers(0, 300, 200), amounts, strict=True)
    ]
    usage = [
        call(f"{amount:.6f}", unit=int(unit))
        for unit, amount in zip(rng.integers(0, 300, 90), rng.random(90), strict=True)
    ]
    return exposures, events, usage


def _expected(rows: dict[int, Any], variant: str) -> Moments:
    names = value_columns(SPEC)
    kept = [
        [row[name] for name in names]
        for _, row in sorted(rows.items())
        if row["variant"] == variant and row["mature"] and not row["excluded"]
    ]
    return Moments.of(names, np.array(kept).reshape(-1, len(names)))


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_moments_are_those_of_the_unit_rows(offset: float) -> None:
    exposures, events, usage = _facts(1, offset=offset)
    # One exposure each, so that a large offset is in every unit.
    events += [purchase(unit, f"{offset:.6f}") for unit in range(300)]
    facts = tables(exposures, events, usage)
    found, rows = read(SPEC, facts), unit_rows(SPEC, facts)
    for variant in ("control", "ai"):
        expected, moments = _expected(rows, variant), found.moments[variant]
        scale = np.sqrt(np.diag(expected.m2))
        assert moments.n == expected.n
        np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-12)
        np.testing.assert_allclose(
            moments.m2, expected.m2, rtol=1e-6, atol=1e-9 * np.outer(scale, scale).max()
        )
        np.testing.assert_allclose(moments.m3, expected.m3, rtol=1e-6, atol=1e-6 * scale.max() ** 3)
        np.testing.assert_array_equal(moments.nonzero, expected.nonzero)


def test_order_and_batching_change_nothing_beyond_rounding() -> None:
    exposures, events, usage = _facts(2)
    first = read(SPEC, tables(exposures, events, usage))
    later = [row | {"ingest_batch": 1 + i % 5} for i, row in enumerate(events)]
    second = read(SPEC, tables(exposures[::-1], later[::-1], usage[::-1]))
    assert second.counts == first.counts
    assert second.usage == first.usage
    for variant, moments in first.moments.items():
        again = second.moments[variant]
        error = 1e-9 * np.sqrt(np.diag(moments.m2)) / moments.n
        assert np.all(np.abs(moments.mean - again.mean) <= error)


def test_counts_tell_exposed_mature_and_excluded_apart() -> None:
    facts = tables(
        [
            exposure(1, "ai"),
            exposure(2, "ai", occurred_at=START + 59 * DAY),
            exposure(3, "ai"),
            exposure(3, "control", occurred_at=START + DAY),
            exposure(4, "control"),
            exposure(5, "retired"),
        ]
    )
    found = read(SPEC, facts)
    assert [(c.variant, c.exposed, c.mature, c.excluded) for c in found.counts] == [
        ("control", 1, 1, 0),
        ("ai", 2, 1, 1),
    ]
    assert found.all_units == {"control": 1, "ai": 3}
    assert found.strangers == 1
    assert (found.first_exposure, found.last_exposure) == (START, START + 59 * DAY)


def test_cost_events_are_counted_for_compared_units_and_for_all() -> None:
    line = CostLine("qa", "event", Assumption(Decimal(1)), None, event="review")
    facts = tables(
        [exposure(1, "ai"), exposure(2, "ai", occurred_at=START + 50 * DAY)],
        [event(1, "review"), event(1, "review", days=2), event(2, "review", days=51)],
    )
    found = read(experiment(costs=Costs(None, None, (line,))), facts)
    assert found.events == {("control", "review"): 0, ("ai", "review"): 2}
    assert found.all_events == {("control", "review"): 0, ("ai", "review"): 3}


def test_without_facts_everything_is_empty() -> None:
    found = read(SPEC, tables([]))
    assert found.first_exposure is None
    assert all(moments.n == 0 for moments in found.moments.values())
    assert [count.exposed for count in found.counts] == [0, 0]
