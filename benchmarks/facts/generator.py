"""Simulated facts, written a day at a time into Delta tables as an import would leave them.

They are maintained once a week, as `docs/facts.md` says.

Units arrive over the days and are more active soon after. Each arrives with an exposure and may
see more; a few see both variants. A third of the events can count; the others are noise, lie
before the exposure, or belong to units that were never exposed.
"""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.facts.scenario import (
    DAYS,
    HISTORY_DAYS,
    KEY,
    OTHER,
    PROPERTIES,
    START,
    Size,
    description,
)
from klartext.experiments.door import TableName
from klartext.experiments.fact_columns import INSTANT, MONEY, TABLES
from klartext.experiments.facts import FactsStore
from klartext.experiments.ingest import Writer
from klartext.experiments.maintenance import maintain
from klartext.experiments.migrations import upgrade
from klartext.experiments.state import open_state

SEED = 20260105
EVENT_NAMES = ("page_view", "add_to_cart", "search", "purchase", "refund", "newsletter")
_EVENT_SHARES = (0.35, 0.18, 0.25, 0.14, 0.02, 0.06)
_VARIANTS = ("control", "ai", "retired")
_COUNTRIES = ("DE", "AT", "CH", "FR")
_MODELS = ("gpt-4o-2024-11-20", "gpt-4o-mini-2024-07-18")
_DAY_US = 86_400_000_000
_PURCHASE, _REFUND = EVENT_NAMES.index("purchase"), EVENT_NAMES.index("refund")

Integers = npt.NDArray[np.int64]


def facts(folder: Path, size: Size) -> Path:
    """Return the plan of the facts of ``size``, generating them unless they are in ``folder``.

    The plan is a JSON file that says where the facts are and what to compute: all that another
    tool needs to know.
    """
    root = folder / f"facts-{size.name}"
    plan = root / "plan.json"  # written last
    if not plan.exists():
        if root.exists():
            shutil.rmtree(root)  # what an interrupted run has left
        root.mkdir(parents=True)
        store = FactsStore(str(root), PROPERTIES)  # type: ignore[arg-type] # literals widen to str
        _generate(store, size)
        files = {table: names for table in TABLES if (names := _files(store, table))}
        described = description() | {"size": size.name, "root": str(root), "files": files}
        described["rows"] = size.rows
        plan.write_text(json.dumps(described))
    return plan


def _files(store: FactsStore, table: TableName) -> list[str]:
    delta = store.snapshot(table).delta
    return [] if delta is None else [unquote(name) for name in delta.file_uris()]


def _generate(store: FactsStore, size: Size) -> None:
    state = open_state(f"sqlite:///{store.root}/state.db")
    upgrade(state)
    writer = Writer(state, store, lambda: datetime.now(UTC))
    first = START.date().toordinal() - HISTORY_DAYS
    for place in range(HISTORY_DAYS + DAYS):
        day, batch = date.fromordinal(first + place), place + 1
        rng = np.random.default_rng([SEED, size.events, place])
        tables: dict[TableName, dict[str, Any]] = {"events": _events(rng, size, place)}
        if place >= HISTORY_DAYS:
            tables["exposures"] = _exposures(rng, size, place - HISTORY_DAYS)
            tables["usage_costs"] = _calls(rng, size, place - HISTORY_DAYS)
        for table, columns in tables.items():
            n = len(columns["occurred_at"])
            start = (day.toordinal() - date(1970, 1, 1).toordinal()) * _DAY_US
            columns |= {
                "id": _tokens(rng, n),
                "payload": _tokens(rng, n),
                "occurred_at": pa.array(columns["occurred_at"] + start).cast(INSTANT),
                "ingest_batch": pa.repeat(pa.scalar(batch, pa.int64()), n),
                "received_at": pa.repeat(pa.scalar(start + _DAY_US, pa.int64()).cast(INSTANT), n),
                "day": pa.repeat(pa.scalar(day, pa.date32()), n),
            }
            schema = store.schema(table)
            rows = pa.table(
                {field.name: columns.get(field.name, pa.nulls(n, field.type)) for field in schema},
                schema=schema,
            )
            store.append(table, rows, application="benchmark", version=batch)
        if batch % 7 == 0:
            maintain(writer)


def _share(total: int, place: int, places: int) -> int:
    """How many of ``total`` rows fall on one day."""
    return total * (place + 1) // places - total * place // places


def _units(numbers: Integers) -> Integers:
    """Turn unit numbers into 64-bit keys without order (splitmix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(31))).view(np.int64)


def _recent(rng: np.random.Generator, known: int, n: int) -> Integers:
    """Draw unit numbers below ``known``, more of those that came last."""
    return known - 1 - (known * rng.random(n) ** 2).astype(np.int64)


def _exposures(rng: np.random.Generator, size: Size, place: int) -> dict[str, Any]:
    known = size.units * (place + 1) // DAYS
    arrived = np.arange(size.units * place // DAYS, known)
    n = _share(size.exposures, place, DAYS)
    back = _recent(rng, known, n - len(arrived))
    numbers = np.concatenate([arrived, back])
    units = _units(numbers)
    variant = (units >> 17) & 1
    other = np.concatenate([np.zeros(len(arrived), bool), rng.random(len(back)) < 0.1])
    variant ^= (rng.random(n) < 3e-4) & ~other & (np.arange(n) >= len(arrived))
    variant[rng.random(n) < 1e-5] = _VARIANTS.index("retired")
    order = rng.permutation(n)
    return {
        "experiment": _words((KEY, OTHER), other[order]),
        "unit": units[order],
        "variant": _words(_VARIANTS, variant[order]),
        "occurred_at": rng.integers(0, _DAY_US, n),
        "propensity": pa.repeat(pa.scalar(500_000, pa.int32()), n),
        "p_country": _words(_COUNTRIES, numbers[order] % len(_COUNTRIES)),
    }


def _events(rng: np.random.Generator, size: Size, place: int) -> dict[str, Any]:
    n = _share(size.events, place, HISTORY_DAYS + DAYS)
    known = min(size.units, size.units * (place + 1) // DAYS)
    numbers = _recent(rng, known, n)
    outside = rng.random(n) < 0.05
    numbers[outside] = rng.integers(size.units, size.units * 6 // 5, int(outside.sum()))
    kind = rng.choice(len(EVENT_NAMES), size=n, p=_EVENT_SHARES)
    bought, returned = kind == _PURCHASE, kind == _REFUND
    cents = np.exp(rng.normal(3.6, 0.9, n)).astype(np.int64) * 100 + rng.integers(0, 100, n)
    cents[returned] //= 2
    paid = bought | returned
    return {
        "unit": _units(numbers),
        "name": _words(EVENT_NAMES, kind),
        "occurred_at": rng.integers(0, _DAY_US, n),
        "value": _money(cents * 10**10, paid),
        "currency": _words(("EUR",), np.zeros(n, np.int8), paid),
        "p_country": _words(_COUNTRIES, numbers % len(_COUNTRIES)),
        "p_items": pa.array(rng.integers(1, 6, n), mask=~bought),
    }


def _calls(rng: np.random.Generator, size: Size, place: int) -> dict[str, Any]:
    n = _share(size.calls, place, DAYS)
    known = size.units * (place + 1) // DAYS
    units = _units(_recent(rng, known, 3 * n))
    units = units[(units >> 17) & 1 == 1][:n]
    n = len(units)
    read, written = rng.integers(200, 4000, n), rng.integers(20, 800, n)
    priced = rng.random(n) < 0.98
    return {
        "experiment": pa.repeat(KEY, n),
        "variant": pa.repeat("ai", n),
        "unit": units,
        "source": pa.repeat("gateway", n),
        "occurred_at": rng.integers(0, _DAY_US, n),
        "category": pa.repeat("model_fees", n),
        "provider": pa.repeat("openai", n),
        "model": _words(_MODELS, (rng.random(n) < 0.3).astype(np.int8)),
        "input_tokens": read,
        "output_tokens": written,
        "duration_ms": rng.integers(200, 5000, n),
        "amount": _money((read * 25 + written * 100) * 10**5, priced),
        "currency": pa.repeat("EUR", n),
        "evidence": pa.repeat("catalogue 2026-01: list price", n),
    }


def _tokens(rng: np.random.Generator, n: int) -> pa.Array:
    """16 random bytes a row, as the keyed digests are."""
    data = pa.py_buffer(rng.integers(0, 2**63, 2 * n).tobytes())
    return pa.Array.from_buffers(pa.binary(16), n, [None, data]).cast(pa.binary())


def _words(words: tuple[str, ...], place: npt.NDArray[Any], valid: Any = None) -> pa.Array:
    """Text from places in ``words``; null where not ``valid``."""
    places = pa.array(place.astype(np.int8), mask=None if valid is None else ~valid)
    return pa.DictionaryArray.from_arrays(places, pa.array(words)).cast(pa.string())


def _money(picos: Integers, valid: npt.NDArray[np.bool_]) -> pa.Array:
    """Decimals from their integers (12 decimal places); null where not ``valid``."""
    wide = np.zeros((len(picos), 2), dtype=np.int64)
    wide[:, 0] = picos
    mask = pa.array(valid).buffers()[1]
    return pa.Array.from_buffers(MONEY, len(picos), [mask, pa.py_buffer(wide)])


if __name__ == "__main__":
    print(facts(Path(sys.argv[1]), Size.of(sys.argv[2])))  # noqa: T201 - its output
