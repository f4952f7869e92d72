"""The floor: the same answer in DuckDB SQL, written by hand for this one experiment.

What a good engineer would write who knows the data: facts read once, first exposure found by one
packed integer, events filtered by name before the join and by age in it, every sum of a unit once,
amounts as decimals, moments from raw sums in one pass (the means are small here; one that knows
nothing of the data cannot do that). With all that belongs to a readout: moments by the day on which
units became mature, the AI calls as unit columns, the distribution of their latency, and the counts
behind the checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np

from benchmarks.facts.scenario import (
    CART_WINDOW,
    DAY,
    HISTORY_DAYS,
    KEY,
    LATENESS,
    MARGIN_RATE,
    PERSISTENCE,
    REFUND_WINDOW,
    SUMMER_TIME,
    WATERMARK,
    WINDOW,
)
from klartext.analysis.moments import Moments

COLUMNS = (
    "cart",
    "conversion",
    "revenue",
    "items",
    "cart_before",
    "conversion_before",
    "revenue_before",
    "items_before",
    "margin",
    "cost",
    "net",
    "outlook",
    "cost_high",
    "outlook_high",
)
VARIANTS = ("control", "ai")
CALL_COLUMNS = (
    "ai.cost",
    "ai.priced_tasks",
    "ai.errors",
    "ai.calls",
    "ai.tokens",
    "ai.tasks",
    "ai.cached_tokens",
    "ai.input_tokens",
)
_US = DAY // 86_400_000_000


def _us(window: Any) -> int:
    return int(window // _US)


def _day(us: str) -> str:
    """Days since 1970 in Berlin, where one clock change falls into the experiment."""
    summer = f"epoch_us(TIMESTAMPTZ '{SUMMER_TIME.isoformat()}')"
    return f"({us} + CASE WHEN {us} >= {summer} THEN 7200000000 ELSE 3600000000 END) // 86400000000"


_FIRST = f"""
CREATE TEMP TABLE first AS
SELECT unit, packed >> 1 AS exposed_us, (packed & 1)::BOOLEAN AS is_ai, seen = 3 AS excluded,
       (packed >> 1) + {_us(REFUND_WINDOW + LATENESS)}
           <= epoch_us(TIMESTAMPTZ '{WATERMARK.cutoff.isoformat()}') AS mature
FROM (SELECT unit, min(epoch_us(occurred_at) * 2 + (variant = 'ai')::BIGINT) AS packed,
             bit_or(CASE variant WHEN 'ai' THEN 1 ELSE 2 END) AS seen
      FROM exposures
      WHERE ingest_batch <= {WATERMARK.batch} AND experiment = '{KEY}'
        AND variant IN ('control', 'ai')
      GROUP BY unit)
"""  # noqa: S608 - constants of this benchmark

_CALLS = f"""
CREATE TEMP TABLE calls AS
SELECT *,
       CASE WHEN charged_to IN ('unit', 'after') THEN CASE WHEN is_ai THEN 'ai' ELSE 'control' END
            WHEN charged_to = 'shared' THEN variant END AS bearer,
       CASE charged_to WHEN 'unit' THEN counted ELSE charged_to = 'shared' END AS is_counted,
       charged_to = 'unit' AND excluded AS is_apart
FROM (
SELECT c.unit, f.is_ai, c.variant, c.category, c.model, c.source, c.evidence, c.amount, c.task,
       c.error, c.input_tokens, c.output_tokens, c.cached_tokens, c.duration_ms,
       CASE WHEN c.source <> 'gateway' THEN 'nobody'
            WHEN f.unit IS NOT NULL AND (c.variant IS NULL OR f.excluded
                 OR c.variant = CASE WHEN f.is_ai THEN 'ai' ELSE 'control' END)
                 THEN CASE WHEN epoch_us(c.occurred_at) < f.exposed_us + {_us(WINDOW)}
                           THEN 'unit' ELSE 'after' END
            WHEN c.variant IN ('control', 'ai') THEN 'shared'
            ELSE 'nobody' END AS charged_to,
       f.excluded, f.mature AND NOT f.excluded AS counted
FROM usage_costs c LEFT JOIN first f USING (unit)
WHERE c.ingest_batch <= {WATERMARK.batch} AND c.experiment = '{KEY}'
)
"""  # noqa: S608 - constants of this benchmark

_CART = f"name = 'add_to_cart' AND age >= 0 AND age < {_us(CART_WINDOW)}"
_BOUGHT = f"name = 'purchase' AND age >= 0 AND age < {_us(WINDOW)}"
_RETURNED = "name = 'refund' AND age >= 0"
_OWN = "currency IS NULL OR currency = 'EUR'"

_UNITS = f"""
CREATE TEMP TABLE units AS
WITH outcome AS (
    SELECT unit,
           count(*) FILTER ({_CART}) AS carts,
           count(*) FILTER ({_BOUGHT}) AS purchases,
           coalesce(sum(value) FILTER ({_BOUGHT} AND ({_OWN})), 0)
               - coalesce(sum(value) FILTER ({_RETURNED} AND ({_OWN})), 0) AS revenue,
           sum(p_items) FILTER ({_BOUGHT}) AS items,
           count(*) FILTER (name = 'add_to_cart' AND age < 0) AS carts_before,
           count(*) FILTER (name = 'purchase' AND age < 0) AS purchases_before,
           sum(value) FILTER (name = 'purchase' AND age < 0 AND ({_OWN})) AS revenue_before,
           sum(p_items) FILTER (name = 'purchase' AND age < 0) AS items_before,
           count(*) FILTER ({_RETURNED}) AS refunds,
           count(*) FILTER ({_BOUGHT} AND currency IS NOT NULL) AS in_money,
           count(*) FILTER ((({_BOUGHT}) OR {_RETURNED}) AND value IS NULL) AS missing,
           count(*) FILTER ((({_BOUGHT}) OR {_RETURNED}) AND currency <> 'EUR') AS abroad,
           count(*) FILTER ({_RETURNED} AND value < 0 AND ({_OWN})) AS negative,
           count(*) FILTER ({_BOUGHT} AND p_items IS NULL) AS without_items,
           coalesce(sum(value) FILTER ({_BOUGHT} AND age < {_us(WINDOW / 2)} AND ({_OWN})), 0)
               AS early,
           coalesce(sum(value) FILTER ({_BOUGHT} AND age >= {_us(WINDOW / 2)} AND ({_OWN})), 0)
               AS late
    FROM (SELECT e.unit, e.name, e.value, e.currency, e.p_items,
                 epoch_us(e.occurred_at) - f.exposed_us AS age
          FROM events e JOIN first f ON e.unit = f.unit
               AND epoch_us(e.occurred_at) - f.exposed_us >= -{_us(HISTORY_DAYS * DAY)}
               AND epoch_us(e.occurred_at) - f.exposed_us < {_us(REFUND_WINDOW)}
          WHERE e.ingest_batch <= {WATERMARK.batch}
            AND e.name IN ('add_to_cart', 'purchase', 'refund'))
    GROUP BY unit
), own AS (
    SELECT unit, sum(amount) AS amount, count(*) FILTER (amount IS NULL) AS unpriced
    FROM calls WHERE charged_to = 'unit' GROUP BY unit
), sharing AS (
    SELECT is_ai, greatest(count(*) FILTER (NOT excluded), 1) AS units FROM first GROUP BY is_ai
), shared AS (
    SELECT variant = 'ai' AS is_ai, sum(amount)::DOUBLE AS amount,
           count(*) FILTER (amount IS NULL) AS unpriced
    FROM calls WHERE charged_to = 'shared' GROUP BY 1
), nobody AS (
    SELECT coalesce(sum(amount) FILTER (charged_to = 'nobody'), 0)::DOUBLE AS amount,
           count(*) FILTER (charged_to = 'nobody' AND amount IS NULL) AS unpriced,
           coalesce(max(amount), 0)::DOUBLE AS highest
    FROM calls
), each AS (
    SELECT is_ai, nobody.highest, coalesce(shared.amount, 0) / sharing.units AS amount,
           coalesce(shared.unpriced, 0) / sharing.units AS unpriced,
           CASE WHEN is_ai THEN (nobody.amount + nobody.unpriced * nobody.highest) / sharing.units
                ELSE 0 END AS nobody
    FROM sharing LEFT JOIN shared USING (is_ai) CROSS JOIN nobody
), costed AS (
    SELECT f.is_ai, f.excluded, f.mature, f.exposed_us, o.* EXCLUDE (unit),
           coalesce(own.amount, 0)::DOUBLE AS own_cost, own_cost + each.amount AS cost,
           own_cost + coalesce(own.unpriced, 0) * each.highest AS own_cost_high,
           (coalesce(own.unpriced, 0) + each.unpriced) * each.highest + each.nobody AS surcharge
    FROM first f LEFT JOIN outcome o USING (unit) LEFT JOIN own USING (unit)
         JOIN each USING (is_ai)
)
SELECT is_ai, excluded, mature, exposed_us,
       {_day(f"(exposed_us + {_us(REFUND_WINDOW + LATENESS)})")} AS matured,
       coalesce(early, 0)::DOUBLE AS early, coalesce(late, 0)::DOUBLE AS late,
       (coalesce(carts, 0) > 0)::DOUBLE AS cart,
       (coalesce(purchases, 0) > 0)::DOUBLE AS conversion,
       coalesce(revenue, 0)::DOUBLE AS revenue,
       coalesce(items, 0)::DOUBLE AS items,
       (coalesce(carts_before, 0) > 0)::DOUBLE AS cart_before,
       (coalesce(purchases_before, 0) > 0)::DOUBLE AS conversion_before,
       coalesce(revenue_before, 0)::DOUBLE AS revenue_before,
       coalesce(items_before, 0)::DOUBLE AS items_before,
       coalesce(revenue, 0)::DOUBLE * {MARGIN_RATE} AS margin,
       cost,
       margin - cost AS net,
       margin * {PERSISTENCE} - cost AS outlook,
       cost + surcharge AS cost_high,
       margin * {PERSISTENCE} - cost_high AS outlook_high, own_cost, own_cost_high,
       purchases, refunds, in_money, missing, abroad, negative, without_items
FROM costed
"""  # noqa: S608 - constants of this benchmark

_OWN_COST = {
    "cost": "own_cost",
    "net": "margin - own_cost",
    "outlook": f"margin * {PERSISTENCE} - own_cost",
    "cost_high": "own_cost_high",
    "outlook_high": f"margin * {PERSISTENCE} - own_cost_high",
}
"""What units share is a constant and no outcome: it makes no value one that is not zero."""

_BASE = [i for i, name in enumerate(COLUMNS) if name not in {"net", "outlook", "outlook_high"}]
_MOMENTS = f"""
SELECT is_ai, excluded, mature, matured, count(*) AS n,
       min(exposed_us) AS first_us, max(exposed_us) AS last_us,
       {", ".join(f"count(*) FILTER ({_OWN_COST.get(name, name)} <> 0) AS nonzero{i}" for i, name in enumerate(COLUMNS))},
       {", ".join(f"sum({COLUMNS[i]}) AS sum{i}" for i in _BASE)},
       {", ".join(f"sum({COLUMNS[i]} * {COLUMNS[j]}) AS product{i}_{j}" for i in _BASE for j in _BASE if j <= i)},
       {", ".join(f"sum({name} * {name} * {name}) AS cube{i}" for i, name in enumerate(COLUMNS))}
FROM units GROUP BY ALL
"""  # noqa: E501, S608 - constants of this benchmark

_AMOUNTS = """
SELECT sum(purchases) AS purchases, sum(refunds) AS refunds, sum(in_money) AS in_money,
       sum(missing) AS missing, sum(abroad) AS abroad, sum(negative) AS negative,
       sum(without_items) AS without_items
FROM units
"""

_USAGE = """
SELECT charged_to, bearer, is_counted, category, model, source, min(evidence) AS evidence,
       count(*) AS calls,
       count(*) FILTER (amount IS NULL) AS unpriced, coalesce(sum(amount), 0) AS amount,
       max(amount) AS highest
FROM calls GROUP BY charged_to, bearer, is_counted, is_apart, category, model, source
"""

_PRICED, _TASKED, _CACHED, _TIMED = (
    "task IS NOT NULL AND amount IS NOT NULL",
    "task IS NOT NULL",
    "cached_tokens IS NOT NULL",
    "duration_ms IS NOT NULL",
)
_CALL_SUMS = f"""
coalesce(sum(amount) FILTER ({_PRICED}), 0)::DOUBLE AS call0,
(count(DISTINCT task) FILTER ({_PRICED}))::DOUBLE AS call1,
count(error)::DOUBLE AS call2,
count(*)::DOUBLE AS call3,
coalesce(sum(input_tokens + output_tokens) FILTER ({_TASKED}), 0)::DOUBLE AS call4,
count(DISTINCT task)::DOUBLE AS call5,
coalesce(sum(cached_tokens) FILTER ({_CACHED}), 0)::DOUBLE AS call6,
coalesce(sum(input_tokens) FILTER ({_CACHED}), 0)::DOUBLE AS call7
"""
_CALL_TOTALS = f"""
SELECT bearer, {_CALL_SUMS},
       {
    ", ".join(
        f"count(*) FILTER ({known}) AS known{i}, "
        f"count(*) FILTER ({known} AND charged_to = 'unit') AS unit{i}"
        for i, known in enumerate((_PRICED, _TIMED, "true", _TASKED, _CACHED))
    )
}
FROM calls WHERE is_counted GROUP BY bearer
"""  # noqa: S608 - constants of this benchmark
_CALL_PLACES = range(len(CALL_COLUMNS))
_CALL_MOMENTS = f"""
SELECT bearer, count(*) AS n,
       {", ".join(f"count(*) FILTER (call{i} <> 0) AS nonzero{i}" for i in _CALL_PLACES)},
       {", ".join(f"sum(call{i}) AS sum{i}" for i in _CALL_PLACES)},
       {", ".join(f"sum(call{i} * call{j}) AS product{i}_{j}" for i in _CALL_PLACES for j in _CALL_PLACES if j <= i)},
       {", ".join(f"sum(call{i} * call{i} * call{i}) AS cube{i}" for i in _CALL_PLACES)}
FROM (SELECT bearer, unit, {_CALL_SUMS} FROM calls
      WHERE is_counted AND charged_to = 'unit' GROUP BY bearer, unit)
GROUP BY bearer
"""  # noqa: E501, S608 - constants of this benchmark

_LATENCIES = """
SELECT bearer, duration_ms::DOUBLE AS value, count(*) AS count, sum(earlier) AS earlier,
       sum(size) AS size
FROM (SELECT bearer, duration_ms, count(*) OVER mine AS size,
             row_number() OVER (PARTITION BY bearer, unit ORDER BY duration_ms) - 1 AS earlier
      FROM calls WHERE is_counted AND charged_to = 'unit' AND duration_ms IS NOT NULL
      WINDOW mine AS (PARTITION BY bearer, unit))
GROUP BY bearer, value ORDER BY bearer, value
"""

_DAYS = f"""
SELECT is_ai, {_day("exposed_us")} AS day, count(*) AS n FROM first GROUP BY is_ai, day
"""  # noqa: S608 - constants of this benchmark

_MODELS = f"""
SELECT variant, model, prompt, count(*) AS calls FROM usage_costs
WHERE ingest_batch <= {WATERMARK.batch} AND experiment = '{KEY}'
  AND variant IN ('control', 'ai') AND source = 'gateway'
GROUP BY variant, model, prompt
"""  # noqa: S608 - constants of this benchmark

_HALVES = """
SELECT is_ai, count(*) AS n, avg(early) AS early, avg(late) AS late,
       var_pop(early) AS early_variance, var_pop(late) AS late_variance,
       covar_pop(early, late) AS covariance
FROM units WHERE mature AND NOT excluded GROUP BY is_ai
"""

_STRANGERS = f"""
SELECT count(DISTINCT unit) FROM exposures
WHERE ingest_batch <= {WATERMARK.batch} AND experiment = '{KEY}'
  AND variant NOT IN ('control', 'ai')
"""  # noqa: S608 - constants of this benchmark


def view_facts(connection: duckdb.DuckDBPyConnection, files: Mapping[str, list[str]]) -> None:
    """Name the Parquet files of each table."""
    for table, names in files.items():
        connection.read_parquet(names, hive_partitioning=True).create_view(table)


def answer(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Return the groups with their moments, what the amounts were like, and who bears the calls."""
    for statement in (_FIRST, _CALLS, _UNITS):
        connection.execute(statement)
    return {
        "groups": _rows(connection, _MOMENTS),
        "amounts": _rows(connection, _AMOUNTS)[0],
        "usage": _rows(connection, _USAGE),
        "call_totals": _rows(connection, _CALL_TOTALS),
        "call_moments": _rows(connection, _CALL_MOMENTS),
        "latencies": _rows(connection, _LATENCIES),
        "days": _rows(connection, _DAYS),
        "models": _rows(connection, _MODELS),
        "halves": _rows(connection, _HALVES),
        "strangers": connection.execute(_STRANGERS).fetchall()[0][0],
    }


def moments(group: Mapping[str, Any]) -> Moments:
    """Return the moments of one row of sums: net and outlook follow from margin and cost."""
    margin, cost, cost_high = (COLUMNS.index(name) for name in ("margin", "cost", "cost_high"))
    persistence = float(PERSISTENCE)
    weights = np.zeros((len(COLUMNS), len(COLUMNS)))
    for i in _BASE:
        weights[i, i] = 1
    for name, kept, taken in (
        ("net", 1.0, cost),
        ("outlook", persistence, cost),
        ("outlook_high", persistence, cost_high),
    ):
        weights[COLUMNS.index(name), margin] = kept
        weights[COLUMNS.index(name), taken] = -1
    weights = weights[:, _BASE]
    products = [[group[f"product{max(i, j)}_{min(i, j)}"] for j in _BASE] for i in _BASE]
    places = range(len(COLUMNS))
    return Moments.about(
        COLUMNS,
        group["n"],
        np.zeros(len(COLUMNS)),
        sums=weights @ np.array([group[f"sum{i}"] for i in _BASE]),
        products=weights @ np.array(products) @ weights.T,
        cubes=np.array([group[f"cube{i}"] for i in places]),
        nonzero=np.array([group[f"nonzero{i}"] for i in places]),
    )


def call_moments(group: Mapping[str, Any] | None, units: int) -> Moments:
    """Return the moments of the AI calls of ``units`` units, of which some or all have none."""
    if group is None:
        return Moments.of(CALL_COLUMNS, np.zeros((units, len(CALL_COLUMNS))))
    return Moments.about(
        CALL_COLUMNS,
        units,
        np.zeros(len(CALL_COLUMNS)),
        sums=np.array([group[f"sum{i}"] for i in _CALL_PLACES]),
        products=np.array(
            [[group[f"product{max(i, j)}_{min(i, j)}"] for j in _CALL_PLACES] for i in _CALL_PLACES]
        ),
        cubes=np.array([group[f"cube{i}"] for i in _CALL_PLACES]),
        nonzero=np.array([group[f"nonzero{i}"] for i in _CALL_PLACES]),
    )


def scan(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Read every column that the answer needs, and do nothing with it: the limit."""
    needed = {
        "exposures": ("unit", "epoch_us(occurred_at)", "ingest_batch", "experiment", "variant"),
        "events": (
            "unit",
            "name",
            "epoch_us(occurred_at)",
            "value",
            "currency",
            "p_items",
            "ingest_batch",
        ),
        "usage_costs": (
            "unit",
            "experiment",
            "variant",
            "source",
            "category",
            "model",
            "evidence",
            "amount",
            "task",
            "error",
            "prompt",
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "duration_ms",
            "ingest_batch",
        ),
    }
    return {
        table: _rows(
            connection,
            f"SELECT {', '.join(map('max({})'.format, columns))} FROM {table}",  # noqa: S608 - names above
        )
        for table, columns in needed.items()
    }


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = connection.sql(query).to_arrow_table().to_pylist()
    return rows
