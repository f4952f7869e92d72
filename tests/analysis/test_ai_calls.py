"""AI calls as unit columns: by hand, and nasty facts row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from klartext.analysis.ai_calls import COLUMNS, AiCalls, Coverage
from klartext.analysis.engine import open_engine, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.quantiles import Observations
from klartext.analysis.reading import read_out
from klartext.analysis.unit_table import build
from klartext.experiments.experiment import AI_METRICS
from tests.analysis import nasty
from tests.analysis.samples import (
    DAY,
    START,
    WATERMARK,
    call,
    experiment,
    exposure,
    read,
    tables,
)

VARIANTS = ("control", "ai", "ai_2", "solo", "empty")
FAR = datetime(9999, 1, 1, tzinfo=UTC)
BY_KEY = {metric.key: metric for metric in AI_METRICS}


def tokens(unit: int | None, task: str | None, amount: str | None, **given: Any) -> dict[str, Any]:
    return call(
        amount, unit=unit, variant="ai", task=task,
        **{"input_tokens": 100, "output_tokens": 10, "cached_tokens": 40, "duration_ms": 200}
        | given,
    )  # fmt: skip


def reduced(*calls: dict[str, Any]) -> AiCalls | None:
    units = [exposure(1, "ai"), exposure(2, "ai"), exposure(3, "ai"), exposure(4, "control")]
    return read(experiment(), tables(units, [], list(calls))).calls


def test_by_hand() -> None:
    # unit 1: task a with a retry that failed, task b; unit 2: task c, unpriced; unit 3: none
    found = reduced(
        tokens(1, "a", "0.02", error="timeout", output_tokens=0),
        tokens(1, "a", "0.03"),
        tokens(1, "b", "0.01", cached_tokens=None),
        tokens(2, "c", None, duration_ms=None),
    )
    assert found is not None
    assert found.moments["ai"].n == 3
    columns = {
        name: found.moments["ai"].n * found.moments["ai"].sample(name).mean for name in COLUMNS
    }
    assert columns == pytest.approx(
        {
            "ai.cost": 0.06,  # a and b; c has no price
            "ai.priced_tasks": 2,
            "ai.errors": 1,
            "ai.calls": 4,
            "ai.tokens": 100 + 110 + 110 + 110,
            "ai.tasks": 3,
            "ai.cached_tokens": 120,  # of the three calls that say it
            "ai.input_tokens": 300,
        },
        rel=1e-12,
    )
    assert found.totals["ai"] == pytest.approx(columns, rel=1e-12)
    # unit columns 3, 1, 0: mean 4/3, m2 = 25/9 + 1/9 + 16/9
    assert found.moments["ai"].sample("ai.calls").m2 == pytest.approx(42 / 9, rel=1e-12)
    assert found.moments["control"].sample("ai.calls").mean == 0
    assert found.coverage["ai"]["ai.cost_per_task"] == Coverage(4, 3, 3)
    assert found.coverage["ai"]["ai.error_rate"] == Coverage(4, 4, 4)
    assert found.coverage["control"]["ai.error_rate"] == Coverage(0, 0, 0)
    assert isinstance(found.latencies, dict)
    assert found.latencies["ai"].at_rank(Fraction(1)) == 200
    assert (found.latencies["ai"].n, found.latencies["ai"].total) == (1, 3)


def test_calls_without_a_unit_tell_a_level_only() -> None:
    shared = [tokens(None, f"s{i}", "0.01", error="e" if i == 0 else None) for i in range(3)]
    found = reduced(tokens(1, "a", "0.05"), *shared)
    assert found is not None
    assert found.totals["ai"]["ai.calls"] == 4
    assert found.totals["ai"]["ai.errors"] == 1
    assert found.moments["ai"].sample("ai.calls").mean == pytest.approx(1 / 3)
    refused = found.measured(BY_KEY["ai.error_rate"], "ai")
    assert refused == NotEstimable(
        "calls-without-unit",
        "1 of 4 AI calls of ai name a unit and carry what ai.error_rate needs",
    )
    assert isinstance(found.measured(BY_KEY["ai.error_rate"], "control"), Moments)
    assert isinstance(found.latencies, dict)
    assert found.latencies["ai"].total == 4


def test_few_calls_without_a_unit_are_left_out() -> None:
    own = [tokens(unit, f"{unit}.{i}", "0.01") for unit in (1, 2) for i in range(10)]
    found = reduced(*own, tokens(None, "s", "0.01", duration_ms=9000))
    assert found is not None
    assert isinstance(found.measured(BY_KEY["ai.tokens"], "ai"), Moments)  # 20 of 21
    latencies = found.measured(BY_KEY["ai.latency_p95"], "ai")
    assert isinstance(latencies, Observations)
    assert latencies.at_rank(Fraction(1)) == 200


def test_nothing_that_counts_is_none() -> None:
    assert reduced() is None
    assert reduced(tokens(1, "a", "0.02", experiment="other")) is None
    late = tokens(1, "a", "0.02", ingest_batch=99)
    assert reduced(late) is None
    excluded = [exposure(1, "ai"), exposure(1, "control", occurred_at=START + DAY)]
    assert read(experiment(), tables(excluded, [], [tokens(1, "a", "1")])).calls is None


def test_nasty_calls_equal_their_rows(tmp_path: Path) -> None:
    facts, spec = nasty.generate(4242, units=2_400), nasty.spec()
    facts.aliases.clear()  # every row is of the unit it names
    store = facts.deliver(tmp_path)
    with open_engine() as engine:
        found_tables = store.tables(engine)
        units = rows_of(engine, build(spec, found_tables, WATERMARK))
        found = read_out(spec, found_tables, WATERMARK, engine=engine)
    assert found.calls is not None
    assert not isinstance(found.calls.latencies, NotEstimable)
    first: dict[int, datetime] = {}
    for row in facts.exposures:
        seen = row.get("ingest_batch", 1) <= WATERMARK.batch and row["experiment"] == "mail"
        if seen and row["variant"] in VARIANTS:
            first[row["unit"]] = min(row["occurred_at"], first.get(row["unit"], FAR))
    calls = expected_calls(facts.usage_costs, units, first)
    assert sum(call["direct"] for call in calls) > 50
    assert sum(not call["direct"] for call in calls) > 100
    for key in VARIANTS:
        rows = [call for call in calls if call["to"] == key]
        assert found.calls.totals[key] == pytest.approx(sums(rows), rel=1e-12)
        own = [call for call in rows if call["direct"]]
        per_unit = [
            list(sums([call for call in own if call["unit"] == row["unit"]]).values())
            for row in units
            if row["variant"] == key and row["mature"] and not row["excluded"]
        ]
        expected = Moments.of(COLUMNS, np.array(per_unit).reshape(-1, len(COLUMNS)))
        moments = found.calls.moments[key]
        assert moments.n == expected.n
        assert moments.mean == pytest.approx(expected.mean, rel=1e-9)
        scale = np.sqrt(expected.m2.diagonal())
        assert (np.abs(moments.m2 - expected.m2) <= 1e-9 * np.outer(scale, scale)).all()
        # shared calls are too many for an interval, so that latencies are those of all calls
        timed = Counter(call["duration_ms"] for call in rows if call["duration_ms"] is not None)
        latencies = found.calls.latencies[key]
        assert dict(zip(latencies.values, latencies.counts, strict=True)) == timed
        known = [call for call in rows if call["task"] and call["amount"] is not None]
        coverage = found.calls.coverage[key]["ai.cost_per_task"]
        with_unit = sum(call["direct"] for call in known)
        assert coverage == Coverage(len(rows), len(known), with_unit)


def expected_calls(
    calls: list[dict[str, Any]], units: list[dict[str, Any]], first: Mapping[int, datetime]
) -> list[dict[str, Any]]:
    """Say of each call to whom it goes, row by row, without a join."""
    owner = {row["unit"]: row for row in units}
    kept = []
    for row in calls:
        if row.get("ingest_batch", 1) > WATERMARK.batch or row["experiment"] != "mail":
            continue
        if row["source"] != "gateway":
            continue
        who, variant = owner.get(row.get("unit")), row["variant"]
        if who is not None and (variant in {None, who["variant"]} or who["excluded"]):
            is_after = row["occurred_at"] >= first[who["unit"]] + nasty.WINDOW
            if who["mature"] and not who["excluded"] and not is_after:
                kept.append(row | {"to": who["variant"], "direct": True})
        elif variant in VARIANTS:
            kept.append(row | {"to": variant, "direct": False})
    return [{"task": None, "duration_ms": None, "error": None} | row for row in kept]


def sums(calls: list[dict[str, Any]]) -> dict[str, float]:
    """Sum calls as the columns say, in plain Python."""
    tasked = [call for call in calls if call["task"] is not None]
    priced = [call for call in tasked if call["amount"] is not None]
    cached = [call for call in calls if call.get("cached_tokens") is not None]
    return {
        "ai.cost": float(sum((call["amount"] for call in priced), Decimal(0))),
        "ai.priced_tasks": len({call["task"] for call in priced}),
        "ai.errors": sum(call["error"] is not None for call in calls),
        "ai.calls": len(calls),
        "ai.tokens": sum(call["input_tokens"] + call["output_tokens"] for call in tasked),
        "ai.tasks": len({call["task"] for call in tasked}),
        "ai.cached_tokens": sum(call["cached_tokens"] for call in cached),
        "ai.input_tokens": sum(call["input_tokens"] for call in cached),
    }
