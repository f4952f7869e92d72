"""Generated facts that break careless engines: every unit is a case of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa

from klartext.experiments.door import PropertyType, TableName
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    Experiment,
    Metric,
    Rollout,
    Variant,
)
from klartext.experiments.fact_columns import TABLES
from klartext.experiments.facts import FactsStore
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE_NET_OF_REFUNDS,
    START,
    alias,
    call,
    event,
    experiment,
    exposure,
)

MICROSECOND = timedelta(microseconds=1)
WINDOW = 14 * DAY
SWITCHES = (datetime(2025, 10, 26, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC))
COUNTRIES = ("DE", "DE", "DE", "AT", "de", " DE", "", "'; DROP TABLE events; --", "a\\'b", 'q"',
             "%_*", "\n\t", "ß", "🛒", "{{x}}")  # fmt: skip
"""Values of a property; some differ only where careless engines see no difference."""
PROPERTIES: Mapping[str, PropertyType] = {"amount_net": "money", "country": "text"}
_IDS = (0, -1, 1, 2**63 - 1, -(2**63))
_TYPES = {
    "bigint": pa.types.is_int64,
    "integer": pa.types.is_int32,
    "timestamptz": pa.types.is_timestamp,
    "numeric(38,12)": pa.types.is_decimal,
    "date": pa.types.is_date,
    "bytea": pa.types.is_binary,
    "text": pa.types.is_string,
    "double precision": pa.types.is_float64,
    "boolean": pa.types.is_boolean,
}


def spec() -> Experiment:
    """Five variants (one with a single unit, one with none), refunds, a property, cost lines."""
    huge = Metric("huge", "mean", "measure", "value", WINDOW, "increase")
    typical = Metric(
        "typical", "quantile", "purchase", "value", WINDOW, "increase", quantile=Decimal("0.5")
    )
    net = Metric("net_amount", "mean", "purchase", "amount_net", 7 * DAY, "increase")
    lines = (
        CostLine(
            "human_review", "event", Assumption(Decimal("1.2"), high=Decimal(2)), None,
            event="review",
        ),
        CostLine("other", "unit", Assumption(Decimal("0.10")), "ai"),
    )  # fmt: skip
    return experiment(
        variants=tuple(
            Variant(key, weight, {})
            for key, weight in (
                ("control", 400_000), ("ai", 400_000), ("ai_2", 100_000), ("solo", 99_999),
                ("empty", 1),
            )
        ),
        metrics=(CONVERSION, REVENUE_NET_OF_REFUNDS, huge, net, typical),
        costs=Costs(None, "gateway", lines),
        rollout=Rollout(*(Assumption(Decimal(x)) for x in ("1000", "1", "0.7", "0"))),
    )  # fmt: skip


@dataclass
class Facts:
    """Rows of the tables, as dictionaries."""

    exposures: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    usage_costs: list[dict[str, Any]] = field(default_factory=list)
    aliases: list[dict[str, Any]] = field(default_factory=list)

    def arrow(self, store: FactsStore, table: TableName) -> pa.Table:
        """Return the rows of a table with every column of the store."""
        common = {"ingest_batch": 1, "received_at": START, "id": b"", "payload": b""}
        rows = [
            common | row | {"day": row["occurred_at"].astimezone(UTC).date()}
            for row in getattr(self, table)
        ]
        return pa.Table.from_pylist(rows, schema=store.schema(table))

    def deliver(
        self, root: Path, properties: Mapping[str, PropertyType] = PROPERTIES
    ) -> FactsStore:
        """Write the rows as Delta tables."""
        store = FactsStore(str(root), properties)
        for table in TABLES:
            store.append(table, self.arrow(store, table), application="test", version=1)
        return store

    def load(self, store: FactsStore, url: str) -> None:
        """Make ordinary PostgreSQL tables of the rows."""
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            for table in TABLES:
                rows = self.arrow(store, table)
                columns = ", ".join(f'"{item.name}" {_type(item.type)}' for item in rows.schema)
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
                cursor.execute(f"CREATE TABLE {table} ({columns})")
                with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                    for row in rows.to_pylist():
                        copy.write_row(tuple(row.values()))


def _type(kind: pa.DataType) -> str:
    return next(name for name, is_it in _TYPES.items() if is_it(kind))


def generate(seed: int, *, units: int) -> Facts:
    """Make facts of ``units`` units; each draws its own mixture of difficulties."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    facts = Facts()
    for place in range(units):
        unit = _IDS[place] if place < len(_IDS) else rng.getrandbits(63)
        first = _instant(rng)
        facts.exposures.extend(_exposures(rng, unit, first, solo=place == units // 2))
        facts.events.extend(_events(rng, unit, first))
        facts.usage_costs.extend(calls(rng, unit))
    for nobody in range(20):
        facts.usage_costs.append(call("0.000000000001", variant="retired", model=f"m{nobody % 3}"))
        facts.usage_costs.append(call("1.5", variant=rng.choice(["ai", None]), unit=None))
        facts.events.append(event(nobody, "purchase", value=Decimal(9), currency="EUR"))
    for rows in (facts.exposures, facts.events, facts.usage_costs):
        rng.shuffle(rows)
    for row in facts.exposures:  # last, so that the other facts of a seed stay what they were
        row["p_country"] = rng.choice([None, None, *COUNTRIES])
    facts.aliases.extend(_aliases(rng, sorted({row["unit"] for row in facts.exposures})))
    return facts


def _aliases(rng: random.Random, units: list[int]) -> Iterator[dict[str, Any]]:
    """Chains, circles, claims by two at one instant, and by units that nobody has seen."""
    for place in range(0, len(units) - 4, 10):
        one, two, three, stranger = *units[place : place + 3], rng.getrandbits(63)
        yield from rng.choice(
            (
                [alias(one, two)],
                [alias(one, two), alias(two, three, days=1)],
                [alias(one, two), alias(two, one)],
                [alias(one, three), alias(one, two), alias(one, stranger, days=-1)],
                [alias(one, stranger), alias(two, stranger)],
            )
        )


def _instant(rng: random.Random) -> datetime:
    """An ordinary instant, one around a clock change, or one at the edge of a day."""
    match rng.randrange(5):
        case 0:
            return rng.choice(SWITCHES) + rng.randrange(-7200, 7200) * timedelta(seconds=1)
        case 1:
            return rng.choice(SWITCHES) + rng.choice([-MICROSECOND, timedelta(0), MICROSECOND])
        case 2:
            return START.replace(hour=0) + rng.choice([-MICROSECOND, timedelta(0)])
        case 3:
            return START.replace(year=1960) + rng.randrange(10**9) * MICROSECOND
        case _:
            return START + rng.randrange(30 * 86_400_000_000) * MICROSECOND


def _exposures(
    rng: random.Random, unit: int, first: datetime, *, solo: bool
) -> Iterator[dict[str, Any]]:
    variant = "solo" if solo else rng.choice(["control", "control", "ai", "ai", "ai_2"])
    yield exposure(unit, variant, occurred_at=first)
    if solo:
        return
    match rng.randrange(8):
        case 0:  # again, the same
            yield exposure(unit, variant, occurred_at=first)
        case 1:  # a tie in another variant
            yield exposure(unit, rng.choice(["control", "ai", "ai_2"]), occurred_at=first)
        case 2:  # another variant a microsecond later
            yield exposure(unit, "ai", occurred_at=first + MICROSECOND)
        case 3:  # the same variant, much later and in a later batch
            yield exposure(unit, variant, occurred_at=first + 40 * DAY)
            yield exposure(unit, "ai_2", occurred_at=first - DAY, ingest_batch=99)
        case 4:  # what no analysis may see
            yield exposure(unit, "retired", occurred_at=first - DAY)
            yield exposure(unit, "ai", occurred_at=first - DAY, experiment="other")
        case _:
            pass


def _events(rng: random.Random, unit: int, first: datetime) -> Iterator[dict[str, Any]]:
    edges = [
        timedelta(0), -MICROSECOND, MICROSECOND, WINDOW, WINDOW - MICROSECOND, 7 * DAY,
        28 * DAY, 28 * DAY - MICROSECOND, 60 * DAY, -DAY,
    ]  # fmt: skip
    for _ in range(rng.randrange(6)):
        after = rng.choice([*edges, rng.randrange(20 * 86_400_000_000) * MICROSECOND])
        amount = rng.choice(
            [None, Decimal(0), Decimal("0.000000000001"), Decimal(f"{rng.random() * 99:.4f}"),
             Decimal("-3.5"), Decimal("123456789012345.123456789012")]
        )  # fmt: skip
        row = event(
            unit,
            rng.choice(["purchase", "purchase", "refund", "review", "visit"]),
            occurred_at=first + after,
            value=amount,
            currency=rng.choice(["EUR", "EUR", "EUR", "USD", None]),
            p_amount_net=rng.choice([None, amount]),
            ingest_batch=rng.choice([1, 1, 1, 1, 99]),
        )
        yield row
        if rng.randrange(5) == 0:
            yield row
    for _ in range(rng.randrange(3)):  # mean 1e9, sd 1
        value = Decimal(f"{1e9 + rng.gauss(0, 1):.9f}")
        yield event(unit, "measure", occurred_at=first + rng.randrange(100) * MICROSECOND,
                    value=value)  # fmt: skip


def calls(rng: random.Random, unit: int) -> Iterator[dict[str, Any]]:
    for _ in range(rng.randrange(4)):
        yield call(
            rng.choice([None, "0", "0.000000000001", f"{rng.random():.12f}", "12345.678901234567"]),
            unit=rng.choice([None, unit, unit, unit + 1 if unit < 2**62 else 7]),
            variant=rng.choice([None, "control", "ai", "ai", "retired"]),
            source=rng.choice(["gateway", "gateway", "export"]),
            model=rng.choice(["gpt-4o", "haiku"]),
            experiment=rng.choice(["mail", "mail", "mail", "other", None]),
            occurred_at=START + rng.choice([0, 0, -300, -300, 14, 90]) * DAY,
            ingest_batch=rng.choice([1, 1, 1, 99]),
            evidence=rng.choice(["list price", "contract", None]),
            input_tokens=(tokens := rng.randrange(3000)),
            output_tokens=rng.randrange(500),
            cached_tokens=rng.choice([None, 0, tokens // 2, tokens]),
            task=rng.choice([None, f"t{unit % 50}", f"t{unit % 50}", "shared"]),
            duration_ms=rng.choice([None, 0, 250, 250, rng.randrange(86_400_000)]),
            error=rng.choice([None, None, None, "timeout", "rate_limit"]),
        )
