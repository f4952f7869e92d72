"""Small experiments and facts, written by hand, for the tests of the analysis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

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


@dataclass(frozen=True)
class Tables:
    """Fact tables in memory, with the attributes of `klartext.experiments.facts.FactTables`."""

    exposures: ir.Table
    events: ir.Table
    usage_costs: ir.Table


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
) -> Tables:
    def table(rows: list[dict[str, Any]], schema: pa.Schema) -> ir.Table:
        return ibis.memtable(
            pa.Table.from_pylist([{"ingest_batch": 1} | row for row in rows], schema=schema)
        )

    return Tables(
        table(exposures, EXPOSURES), table(events or [], EVENTS), table(usage or [], USAGE)
    )


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
