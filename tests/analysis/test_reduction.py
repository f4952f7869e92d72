"""The one pass about an origin against two passes in NumPy, where the origin is good and bad."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import ibis
import numpy as np
import pytest

from klartext.analysis import reduction
from klartext.analysis.columns import value_columns
from klartext.analysis.moments import Moments
from klartext.analysis.reduction import Columns
from klartext.experiments.experiment import Assumption, CostLine, Costs
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)

SPEC = experiment(metrics=(CONVERSION, REVENUE))


def facts(values: list[str]) -> Any:
    units = range(len(values))
    return tables(
        [exposure(unit, "ai") for unit in units],
        [purchase(unit, value) for unit, value in enumerate(values)],
    )


def in_numpy(given: Any) -> Moments:
    names = value_columns(SPEC)
    rows = unit_rows(SPEC, given)
    return Moments.of(names, np.array([[row[name] for name in names] for row in rows.values()]))


def test_the_variance_at_a_mean_of_a_billion_is_right_to_1e_6() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 1, 2_000)
    given = facts([f"{1e9 + value:.9f}" for value in noise])
    found = read(SPEC, given).moments["ai"].sample("revenue")
    assert found.variance == pytest.approx(np.var(np.round(noise, 9), ddof=1), rel=1e-6)
    centred = np.round(noise, 9) - np.round(noise, 9).mean()
    assert found.m3 == pytest.approx((centred**3).sum(), rel=1e-5, abs=1e-4)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each pass over the metrics of units in the test."""
    made: list[int] = []
    whole = reduction.reduced

    def counted(units: Any, columns: Columns, *given: Any, **more: Any) -> Any:
        if "revenue" in columns.names:
            made.append(1)
        return whole(units, columns, *given, **more)

    monkeypatch.setattr(reduction, "reduced", counted)
    return made


def test_an_origin_far_away_costs_a_second_pass_and_no_digits(
    monkeypatch: pytest.MonkeyPatch, passes: list[int]
) -> None:
    """One unit of zero among many about 1e9: as the least, it is the origin."""
    monkeypatch.setattr(reduction, "SAMPLE", 10_000)
    rng = np.random.default_rng(6)
    given = facts(["0", *(f"{1e9 + value:.6f}" for value in rng.normal(0, 1, 3_000))])
    found, expected = read(SPEC, given).moments["ai"], in_numpy(given)
    assert len(passes) == 2
    np.testing.assert_allclose(np.diag(found.m2), np.diag(expected.m2), rtol=1e-9)
    np.testing.assert_allclose(found.m3, expected.m3, rtol=1e-9, atol=1e-3)


@pytest.mark.parametrize("amount", ["9.99", "0.1", "1234567.89"])
def test_a_day_on_which_all_units_have_one_value_costs_no_second_pass(
    passes: list[int], amount: str
) -> None:
    """Days are only ever added up, and what a day's sums leave of its variance is 0, not dust."""
    exposures = [exposure(unit, "ai", occurred_at=START + (unit % 5) * DAY) for unit in range(100)]
    alike = [purchase(unit, amount, days=4) for unit in range(100) if unit % 5 == 3]
    given = tables(exposures, [*alike, purchase(0, "3.5")])
    found = read(SPEC, given)
    assert len(passes) == 1
    (day,) = [
        each.moments["ai"].sample("revenue")
        for each in found.daily
        if each.moments["ai"].sample("revenue").mean == pytest.approx(float(amount))
    ]
    assert (day.n, day.m2, day.m3) == (20, 0, 0)
    expected = in_numpy(given).sample("revenue")
    assert found.moments["ai"].sample("revenue").m2 == pytest.approx(expected.m2, rel=1e-12)


def test_a_constant_column_has_no_variance_at_all() -> None:
    line = CostLine("other", "unit", Assumption(Decimal("0.1")), "ai")
    spec = experiment(costs=Costs(None, None, (line,)))
    found = read(spec, tables([exposure(unit, "ai") for unit in range(999)])).moments["ai"]
    assert found.sample("cost").mean == 0.1
    assert found.sample("cost").m2 == 0.0
    assert found.sample("net").m2 == 0.0


def test_what_follows_from_margin_and_cost_is_as_if_summed_itself() -> None:
    rng = np.random.default_rng(7)
    given = facts([f"{value:.4f}" for value in rng.exponential(30, 500)])
    found, expected = read(SPEC, given).moments["ai"], in_numpy(given)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.m2, expected.m2, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found.nonzero, expected.nonzero)


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ([0.0, 3.0], 0.0),
        ([0.1, 10.0], 0.0),
        ([0.1, 0.1], 0.1),
        ([1e9 - 1, 1e9 + 1], 1e9 - 1),
        ([-7.0, -6.0], -7.0),
        ([-7.0, 6.0], 0.0),
    ],
)
def test_deviations_start_at_0_unless_the_data_are_far_from_it(
    values: list[float], start: float
) -> None:
    units = ibis.memtable({"variant": ["ai", "ai"], "x": values})
    (row,) = reduction.origin(units, Columns(("x",), {}), ("variant",)).to_pyarrow().to_pylist()
    assert row == {"variant": "ai", "origin0": start}


def test_origins_of_many_groups_are_joined_not_written_out() -> None:
    """As cases of a statement, those of a few hundred groups took minutes to plan."""
    columns, group = Columns(("x", "y"), {}), ("variant", "day")
    units = ibis.table({"variant": "string", "day": "int64", "x": "float64", "y": "float64"}, "u")

    def statement(days: int) -> str:
        places = {("ai", day): np.array([day + 1.5, 0.0]) for day in range(days)}
        origins = reduction.Origins(group, places)
        return str(ibis.to_sql(reduction.reduced(units, columns, group, origins=origins), "duckdb"))

    assert len(statement(300)) == len(statement(2))


def test_a_group_without_an_origin_starts_at_0() -> None:
    columns, group = Columns(("x",), {}), ("variant",)
    units = ibis.memtable({"variant": ["ai", "ai", "new"], "x": [10.0, 13.0, 4.0]})
    origins = reduction.Origins(group, {("ai",): np.array([10.0])})
    lazy = reduction.reduced(units, columns, group, origins=origins)
    found = {row["variant"]: row for row in lazy.to_pyarrow().to_pylist()}
    assert [found[key]["n"] for key in ("ai", "new")] == [2, 1]
    assert [found[key]["sum0"] for key in ("ai", "new")] == [3.0, 4.0]
    assert [found[key]["product0_0"] for key in ("ai", "new")] == [9.0, 16.0]
