"""Small experiments and facts, written by hand, for the tests of the analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from klartext.analysis.columns import value_columns
from klartext.analysis.engine import open_engine
from klartext.analysis.evaluate import analyse
from klartext.analysis.moments import Moments
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.analysis.result import Analysis, VariantCounts
from klartext.analysis.subject import Registration
from klartext.analysis.unit_table import build
from klartext.analysis.value import period_of
from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    Costs,
    DecisionRule,
    Experiment,
    Inference,
    Metric,
    Plan,
    Refunds,
    Variant,
)
from klartext.experiments.ledger.bills import Ledger
from klartext.experiments.splits import Split
from klartext.experiments.watermark import Watermark

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
DAY = timedelta(days=1)
WATERMARK = Watermark(batch=7, cutoff=START + 60 * DAY)
_MONEY = pa.decimal128(38, 12)
_INSTANT = pa.timestamp("us", "UTC")

EXPOSURES = pa.schema(
    [
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("experiment", pa.string()),
        ("unit", pa.int64()),
        ("variant", pa.string()),
        ("occurred_at", _INSTANT),
        ("propensity", pa.int32()),
        ("policy_version", pa.int32()),
        ("p_country", pa.string()),
        ("p_items", pa.int64()),
        ("p_new", pa.bool_()),
        ("ingest_batch", pa.int64()),
        ("received_at", _INSTANT),
        ("day", pa.date32()),
    ]
)
EVENTS = pa.schema(
    [
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("unit", pa.int64()),
        ("name", pa.string()),
        ("occurred_at", _INSTANT),
        ("value", _MONEY),
        ("currency", pa.string()),
        ("p_amount_net", _MONEY),
        ("p_country", pa.string()),
        ("p_items", pa.int64()),
        ("p_score", pa.float64()),
        ("p_new", pa.bool_()),
        ("ingest_batch", pa.int64()),
        ("received_at", _INSTANT),
        ("day", pa.date32()),
    ]
)
USAGE = pa.schema(
    [
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("unit", pa.int64()),
        ("source", pa.string()),
        ("occurred_at", _INSTANT),
        ("category", pa.string()),
        ("provider", pa.string()),
        ("model", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("task", pa.string()),
        ("duration_ms", pa.int64()),
        ("error", pa.string()),
        ("prompt", pa.string()),
        ("amount", _MONEY),
        ("currency", pa.string()),
        ("evidence", pa.string()),
        ("ingest_batch", pa.int64()),
        ("received_at", _INSTANT),
        ("day", pa.date32()),
    ]
)
ALIASES = pa.schema(
    [
        ("id", pa.binary()),
        ("payload", pa.binary()),
        ("unit", pa.int64()),
        ("canonical", pa.int64()),
        ("occurred_at", _INSTANT),
        ("ingest_batch", pa.int64()),
        ("received_at", _INSTANT),
        ("day", pa.date32()),
    ]
)


@dataclass(frozen=True)
class Tables:
    """Fact tables in memory, with the attributes of `klartext.experiments.facts.FactTables`."""

    exposures: ir.Table
    events: ir.Table
    usage_costs: ir.Table
    aliases: ir.Table | None = None


def exposure(unit: int, variant: str, **given: Any) -> dict[str, Any]:
    return {"experiment": "mail", "unit": unit, "variant": variant, "occurred_at": START} | given


def event(unit: int, name: str = "purchase", *, days: float = 1, **given: Any) -> dict[str, Any]:
    return {"unit": unit, "name": name, "occurred_at": START + days * DAY} | given


def purchase(unit: int, amount: str, *, days: float = 1, **given: Any) -> dict[str, Any]:
    return event(unit, days=days, value=Decimal(amount), currency="EUR", **given)


def call(amount: str | None, **given: Any) -> dict[str, Any]:
    return {
        "experiment": "mail",
        "source": "gateway",
        "occurred_at": START,
        "category": "model_fees",
        "model": "gpt-4o",
        "amount": None if amount is None else Decimal(amount),
        "currency": "EUR",
        "evidence": "list price",
    } | given


def tables(
    exposures: list[dict[str, Any]],
    events: list[dict[str, Any]] | None = None,
    usage: list[dict[str, Any]] | None = None,
    aliases: list[dict[str, Any]] | None = None,
) -> Tables:
    def table(rows: list[dict[str, Any]], schema: pa.Schema) -> ir.Table:
        return ibis.memtable(
            pa.Table.from_pylist(
                [
                    {"ingest_batch": 1, "day": row["occurred_at"].astimezone(UTC).date()} | row
                    for row in rows
                ],
                schema=schema,
            )
        )

    return Tables(
        table(exposures, EXPOSURES),
        table(events or [], EVENTS),
        table(usage or [], USAGE),
        None if aliases is None else table(aliases, ALIASES),
    )


def alias(unit: int, canonical: int, *, days: float = 0, **given: Any) -> dict[str, Any]:
    return {"unit": unit, "canonical": canonical, "occurred_at": START + days * DAY} | given


CONVERSION = Metric("conversion", "conversion", "purchase", None, 14 * DAY, "increase")
REVENUE = Metric("revenue", "mean", "purchase", "value", 14 * DAY, "increase")
REVENUE_NET_OF_REFUNDS = Metric(
    "revenue", "mean", "purchase", "value", 14 * DAY, "increase", Refunds("refund", 28 * DAY)
)


def experiment(**given: Any) -> Experiment:
    """An A/B test of mails: conversion and revenue, full margin, no cost, fixed look."""
    fields: dict[str, Any] = {
        "key": "mail",
        "title": "Mail",
        "owner": "lena.vogt",
        "hypothesis": "It pays.",
        "kind": "ab",
        "unit": "customer",
        "registration": "prospective",
        "assignment": "klartext",
        "exposure": "posted",
        "layer": "mail",
        "traffic": 1_000_000,
        "audience": {},
        "variants": (Variant("control", 500_000, {}), Variant("ai", 500_000, {})),
        "control": "control",
        "metrics": (CONVERSION, REVENUE),
        "guardrails": (),
        "value": (ContributionMargin("revenue", Assumption(Decimal(1))),),
        "costs": Costs(None, None, ()),
        "plan": Plan(START, None, None, {}),
        "inference": Inference("anytime", Decimal("0.05"), Decimal("0.1")),
        "decision": DecisionRule(
            Decimal(0), Decimal("0.8"), Decimal(1000), timedelta(days=14), None
        ),
        "rollout": None,
        "bandit": None,
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "lateness": timedelta(days=2),
    }
    return Experiment(**(fields | given))


def read(
    spec: Experiment,
    facts: Tables,
    watermark: Watermark = WATERMARK,
    *,
    splits: tuple[Split, ...] = (),
    ledger: Ledger | None = None,
) -> Readout:
    """Read facts out on an engine of their own."""
    with open_engine() as engine:
        return read_out(
            spec,
            facts,  # type: ignore[arg-type]  # alike
            watermark,
            engine=engine,
            splits=splits,
            ledger=ledger,
        )


def unit_rows(
    spec: Experiment,
    facts: Tables,
    watermark: Watermark = WATERMARK,
    *,
    splits: tuple[Split, ...] = (),
) -> dict[int, Any]:
    """Compute the unit table: rows by unit."""
    table = build(spec, facts, watermark, splits)  # type: ignore[arg-type]  # the same attributes
    return {row["unit"]: row for row in table.to_pyarrow().to_pylist()}


def columns_of(spec: Experiment, rows: Mapping[str, npt.NDArray[np.float64]]) -> Moments:
    """Moments of hand-made metrics, margin and cost; the other money columns follow."""
    margin, cost = rows["margin"], rows["cost"]
    persistence = float(spec.rollout.persistence.base) if spec.rollout else 1.0
    known = {
        **rows,
        "net": margin - cost,
        "outlook": persistence * margin - cost,
        "cost_high": rows.get("cost_high", cost),
    }
    known["outlook_high"] = persistence * margin - known["cost_high"]
    names = value_columns(spec)
    counts = [name for name in names if name.startswith("events.")]
    known = {**dict.fromkeys(counts, np.zeros(len(cost))), **known}
    return Moments.of(names, np.column_stack([known[name] for name in names]))


def readout(
    spec: Experiment,
    units: Mapping[str, Mapping[str, npt.NDArray[np.float64]]],
    **given: Any,
) -> Readout:
    """Make a readout of hand-made unit columns per variant; every unit is mature."""
    moments = {variant: columns_of(spec, rows) for variant, rows in units.items()}
    sizes = {variant: found.n for variant, found in moments.items()}
    fields: dict[str, Any] = {
        "watermark": WATERMARK,
        "moments": moments,
        "counts": tuple(
            VariantCounts(variant.key, variant.weight, sizes[variant.key], sizes[variant.key], 0)
            for variant in spec.variants
        ),
        "events": {},
        "all_units": sizes,
        "all_events": {},
        "first_exposure": START,
        "last_exposure": START + 20 * DAY,
        "usage": (),
        "highest_price": None,
        "amounts": (),
        "strangers": 0,
    }
    return Readout(**(fields | given))


def shop(
    rng: np.random.Generator, n: int, *, rate: float, basket: float = 50.0, cost: float = 0.0
) -> dict[str, npt.NDArray[np.float64]]:
    """Units of a shop: a conversion with an exponential basket, and a constant cost."""
    conversion = (rng.random(n) < rate).astype(np.float64)
    revenue = conversion * rng.exponential(basket, n)
    return {
        "conversion": conversion,
        "revenue": revenue,
        "margin": revenue,
        "cost": np.full(n, cost),
    }


def evaluated(spec: Experiment, found: Readout, **given: Any) -> Analysis:
    """Analyse a readout, registered three days before the first exposure."""
    period = period_of(spec, found, started_at=None)
    registration = Registration(1, "0" * 64, START - 3 * DAY, **given)
    return analyse(spec, registration, found, period=period)
