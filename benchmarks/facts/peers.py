"""Other tools on the same raw facts, each in an environment of its own.

A script, not a module of Klartext: it imports nothing from here. Each tool gets one row per unit
as a careful user of it would make them: first exposure, the events in the windows of four
metrics, the cost of the calls, mature units seen in one variant only. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

METRICS = ("cart", "conversion", "revenue", "items", "net")
COVARIATES = ("cart", "conversion", "revenue", "items")
"""Metrics adjusted for themselves in the days before the exposure."""


def tea_tasting_on_ibis(plan: dict[str, Any]) -> dict[str, Any]:
    """Make unit rows as an Ibis expression on DuckDB; tea-tasting aggregates and tests them."""
    import ibis  # noqa: PLC0415 - of one environment
    import ibis.backends.duckdb  # noqa: PLC0415 - loaded late otherwise, and not measured
    import tea_tasting as tt  # noqa: PLC0415

    started = clock()
    engine = ibis.duckdb.connect(
        memory_limit=plan["memory_limit"], temp_directory=plan["spill"], threads=plan["threads"]
    )
    exposures, events, calls = (
        engine.read_parquet(plan["files"][table], hive_partitioning=True)
        for table in ("exposures", "events", "usage_costs")
    )
    exposures = exposures.filter(
        exposures.experiment == plan["experiment"], exposures.variant.isin(["control", "ai"])
    )
    first = exposures.group_by("unit").aggregate(
        exposed_at=exposures.occurred_at.min(),
        variant=exposures.variant.argmin(exposures.occurred_at),
        lowest=exposures.variant.min(),
        highest=exposures.variant.max(),
    )
    hour = {name: ibis.interval(hours=hours) for name, hours in plan["hours"].items()}
    first = first.mutate(
        **{f"{name}_until": first.exposed_at + span for name, span in hour.items()},
        known_from=first.exposed_at - hour["before"],
    )
    wanted = events.filter(events.name.isin(["add_to_cart", "purchase", "refund"]))
    hits = wanted.inner_join(first, "unit")
    hits = hits.filter(hits.occurred_at >= hits.known_from, hits.occurred_at < hits.refund_until)
    after = hits.occurred_at >= hits.exposed_at
    carts = after & (hits.name == "add_to_cart") & (hits.occurred_at < hits.cart_until)
    bought = after & (hits.name == "purchase") & (hits.occurred_at < hits.purchase_until)
    once = ~after & (hits.name == "purchase")
    outcome = hits.group_by("unit").aggregate(
        cart=carts.cast("int8").max(),
        conversion=bought.cast("int8").max(),
        bought=hits.value.sum(where=bought),
        returned=hits.value.sum(where=after & (hits.name == "refund")),
        items=hits.p_items.sum(where=bought),
        cart_before=(~after & (hits.name == "add_to_cart")).cast("int8").max(),
        conversion_before=once.cast("int8").max(),
        revenue_before=hits.value.sum(where=once),
        items_before=hits.p_items.sum(where=once),
    )
    calls = calls.filter(calls.experiment == plan["experiment"])
    owned = calls.inner_join(first, "unit")
    owned = owned.filter(
        (owned.variant == owned.variant_right) | (owned.lowest != owned.highest),
        owned.occurred_at < owned.purchase_until,
    )
    cost = owned.group_by("unit").aggregate(cost=owned.amount.sum())
    units = first.left_join(outcome, "unit").drop("unit_right")
    units = units.left_join(cost, "unit").drop("unit_right")
    cutoff = ibis.timestamp(plan["cutoff"])
    units = units.filter(units.lowest == units.highest, units.mature_until <= cutoff)
    numbers = {
        name: units[name].fill_null(0).cast("float64")
        for name in (
            *("cart", "conversion", "bought", "returned", "items", "cost"),
            *(f"{name}_before" for name in COVARIATES),
        )
    }
    units = units.select("variant", **numbers)
    units = units.mutate(revenue=units.bought - units.returned)
    units = units.mutate(net=units.revenue * plan["margin_rate"] - units.cost)
    found = tt.Experiment(
        {name: tt.Mean(name, f"{name}_before" if name in COVARIATES else None) for name in METRICS}
    ).analyze(units, control="control")
    return measured(started, found.to_dicts())


def tea_tasting_on_polars(plan: dict[str, Any]) -> dict[str, Any]:
    """Make unit rows with polars' streaming engine; tea-tasting aggregates and tests them."""
    import polars as pl  # noqa: PLC0415 - of one environment
    import tea_tasting as tt  # noqa: PLC0415

    started = clock()
    exposures, events, calls = (
        pl.scan_parquet(plan["files"][table], hive_partitioning=True)
        for table in ("exposures", "events", "usage_costs")
    )
    variant = pl.col("variant").cast(pl.String)
    first = (
        exposures.filter(
            pl.col("experiment") == plan["experiment"], variant.is_in(["control", "ai"])
        )
        .select("unit", at=pl.col("occurred_at").to_physical(), is_ai=variant == "ai")
        .group_by("unit")
        .agg(
            packed=(pl.col("at") * 2 + pl.col("is_ai").cast(pl.Int64)).min(),
            is_one=pl.col("is_ai").any() == pl.col("is_ai").all(),
        )
        .select("unit", "is_one", at=pl.col("packed") // 2, is_ai=pl.col("packed") % 2 == 1)
    )
    us = {name: hours * 3_600_000_000 for name, hours in plan["hours"].items()}
    name, age = pl.col("name"), pl.col("age")
    after = age >= 0
    bought = after & (name == "purchase") & (age < us["purchase"])
    once = ~after & (name == "purchase")
    value = pl.col("value").cast(pl.Float64)
    outcome = (
        events.filter(name.is_in(["add_to_cart", "purchase", "refund"]))
        .select("unit", "name", "value", "p_items", when=pl.col("occurred_at").to_physical())
        .join(first, on="unit")
        .with_columns(age=pl.col("when") - pl.col("at"))
        .filter(age >= -us["before"], age < us["refund"])
        .group_by("unit")
        .agg(
            cart=(after & (name == "add_to_cart") & (age < us["cart"])).any(),
            conversion=bought.any(),
            revenue=pl.when(bought)
            .then(value)
            .when(after & (name == "refund"))
            .then(-value)
            .otherwise(0.0)
            .sum(),
            items=pl.when(bought).then(pl.col("p_items")).otherwise(0).sum(),
            cart_before=(~after & (name == "add_to_cart")).any(),
            conversion_before=once.any(),
            revenue_before=pl.when(once).then(value).otherwise(0.0).sum(),
            items_before=pl.when(once).then(pl.col("p_items")).otherwise(0).sum(),
        )
    )
    cost = (
        calls.filter(pl.col("experiment") == plan["experiment"])
        .select("unit", "amount", on_ai=variant == "ai", when=pl.col("occurred_at").to_physical())
        .join(first, on="unit")
        .filter(
            (pl.col("on_ai") == pl.col("is_ai")) | ~pl.col("is_one"),
            pl.col("when") < pl.col("at") + us["purchase"],
        )
        .group_by("unit")
        .agg(cost=pl.col("amount").cast(pl.Float64).sum())
    )
    last = plan["cutoff_us"] - us["mature"]
    units = (
        first.filter(pl.col("is_one"), pl.col("at") <= last)
        .join(outcome, on="unit", how="left")
        .join(cost, on="unit", how="left")
        .select(
            variant=pl.when("is_ai").then(pl.lit("ai")).otherwise(pl.lit("control")),
            **{
                column: pl.col(column).cast(pl.Float64).fill_null(0.0)
                for column in (
                    *("cart", "conversion", "revenue", "items", "cost"),
                    *(f"{name}_before" for name in COVARIATES),
                )
            },
        )
        .with_columns(net=pl.col("revenue") * plan["margin_rate"] - pl.col("cost"))
        .collect(engine="streaming")
    )
    found = tt.Experiment(
        {name: tt.Mean(name, f"{name}_before" if name in COVARIATES else None) for name in METRICS}
    ).analyze(units, control="control")
    return measured(started, found.to_dicts())


def gbstats_on_pandas(plan: dict[str, Any]) -> dict[str, Any]:
    """Make unit rows in pandas, of what Arrow has filtered; gbstats tests them."""
    import pyarrow.dataset as ds  # noqa: PLC0415 - of one environment
    from gbstats.frequentist.tests import TwoSidedTTest  # noqa: PLC0415

    started = clock()

    def load(table: str, columns: dict[str, Any], where: Any) -> Any:
        return ds.dataset(plan["files"][table]).to_table(columns=columns, filter=where).to_pandas()

    def column(name: str) -> Any:
        return ds.field(name)

    at = column("occurred_at").cast("int64")
    exposures = load(
        "exposures",
        {"unit": column("unit"), "at": at, "is_ai": column("variant") == "ai"},
        (column("experiment") == plan["experiment"]) & column("variant").isin(["control", "ai"]),
    )
    exposures["packed"] = exposures["at"] * 2 + exposures["is_ai"]
    grouped = exposures.groupby("unit", sort=False)
    units = grouped.agg(packed=("packed", "min"), low=("is_ai", "min"), high=("is_ai", "max"))
    units["at"], units["is_ai"] = units["packed"] // 2, units["packed"] % 2 == 1
    del exposures, grouped
    us = {name: hours * 3_600_000_000 for name, hours in plan["hours"].items()}
    hits = load(
        "events",
        {
            "unit": column("unit"),
            "when": at,
            "is_cart": column("name") == "add_to_cart",
            "is_purchase": column("name") == "purchase",
            "is_refund": column("name") == "refund",
            "value": column("value").cast("double"),
            "items": column("p_items").cast("double"),
        },
        column("name").isin(["add_to_cart", "purchase", "refund"]),
    ).merge(units[["at"]], left_on="unit", right_index=True)
    age = hits["when"] - hits["at"]
    hits = hits[(age >= -us["before"]) & (age < us["refund"])].assign(age=age)
    after = hits["age"] >= 0
    bought = after & hits["is_purchase"] & (hits["age"] < us["purchase"])
    once = ~after & hits["is_purchase"]
    returned = hits["value"].where(after & hits["is_refund"], 0.0)
    hits["cart"] = after & hits["is_cart"] & (hits["age"] < us["cart"])
    hits["conversion"] = bought
    hits["revenue"] = hits["value"].where(bought, -returned)
    hits["cart_before"] = ~after & hits["is_cart"]
    hits["conversion_before"] = once
    hits["revenue_before"] = hits["value"].where(once, 0.0)
    hits["items_before"] = hits["items"].where(once, 0.0)
    hits["items"] = hits["items"].where(bought, 0.0)
    rates, sums = ("cart", "conversion"), ("revenue", "items")
    outcome = hits.groupby("unit", sort=False).agg(
        {f"{name}{when}": "max" for name in rates for when in ("", "_before")}
        | {f"{name}{when}": "sum" for name in sums for when in ("", "_before")}
    )
    del hits
    calls = load(
        "usage_costs",
        {
            "unit": column("unit"),
            "on_ai": column("variant") == "ai",
            "when": at,
            "amount": column("amount").cast("double"),
        },
        column("experiment") == plan["experiment"],
    ).merge(units[["at", "is_ai", "low", "high"]], left_on="unit", right_index=True)
    calls = calls[(calls["on_ai"] == calls["is_ai"]) | (calls["low"] != calls["high"])]
    calls = calls[calls["when"] < calls["at"] + us["purchase"]]
    units = units.join(outcome).join(calls.groupby("unit", sort=False)["amount"].sum())
    units = units[
        (units["low"] == units["high"]) & (units["at"] + us["mature"] <= plan["cutoff_us"])
    ]
    units = units.fillna(0.0)
    units["net"] = units["revenue"] * plan["margin_rate"] - units["amount"]
    found = []
    for name in METRICS:
        before = f"{name}_before" if name in COVARIATES else None
        parts = [units[~units["is_ai"]], units[units["is_ai"]]]
        statistics = [_statistic(part, name, before) for part in parts]
        TwoSidedTTest(*statistics).compute_result()
        means = [one.mean for one in statistics]
        if before is not None:  # gbstats adjusts to a covariate of 0
            means = [mean + statistics[0].theta * units[before].mean() for mean in means]
        found.append({"metric": name, "control": means[0], "treatment": means[1]})
    return measured(started, found)


def _statistic(part: Any, name: str, before: str | None) -> Any:
    from gbstats.models.statistics import (  # noqa: PLC0415 - of one environment
        RegressionAdjustedStatistic,
        SampleMeanStatistic,
    )

    def sums(column: str) -> Any:
        values = part[column].astype("float64")
        return SampleMeanStatistic(n=len(part), sum=values.sum(), sum_squares=(values**2).sum())

    if before is None:
        return sums(name)
    return RegressionAdjustedStatistic(
        n=len(part),
        post_statistic=sums(name),
        pre_statistic=sums(before),
        post_pre_sum_of_products=(
            part[name].astype("float64") * part[before].astype("float64")
        ).sum(),
        theta=0.0,
    )


def clock() -> tuple[float, float]:
    """Wall and CPU seconds so far."""
    return time.perf_counter(), time.process_time()


def measured(started: tuple[float, float], found: Any) -> dict[str, Any]:
    """Time since ``started``, the peak of memory, and the two means of each metric."""
    seconds, cpu = (after - before for after, before in zip(clock(), started, strict=True))
    return {
        "seconds": seconds,
        "cpu": cpu,
        "peak": getrusage(RUSAGE_SELF).ru_maxrss * 1024,
        "means": {
            row["metric"]: {"control": row["control"], "ai": row["treatment"]} for row in found
        },
    }


PATHS = {
    "tea-tasting, Ibis": tea_tasting_on_ibis,
    "tea-tasting, polars": tea_tasting_on_polars,
    "gbstats, pandas": gbstats_on_pandas,
}

if __name__ == "__main__":
    _, path, plan_file = sys.argv
    print(json.dumps(PATHS[path](json.loads(Path(plan_file).read_text()))))  # noqa: T201 - output
