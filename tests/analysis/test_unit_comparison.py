"""Tables of units made elsewhere: the same figures as from their moments, and clear refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm

import klartext
from klartext.analysis import adjustment, contrast, means, unit_moments
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.unit_comparison import UnitComparison
from klartext.analysis.unit_moments import UnitTableError

NAMES = ("revenue", "revenue_before", "visits", "age")
METRICS = {"revenue": ["revenue_before", "age"], "visits": ["age"]}


def table(rows: int = 600, seed: int = 1, shift: float = 0.0) -> pd.DataFrame:
    """Three variants with outcomes that follow from what was before."""
    rng = np.random.default_rng(seed)
    variant = rng.choice(["control", "ai", "ai-long"], rows, p=[0.5, 0.3, 0.2])
    before, age = rng.exponential(20, rows), rng.integers(18, 90, rows)
    lift = np.where(variant == "control", 0.0, 2.0)
    return pd.DataFrame(
        {
            "unit": np.arange(rows),
            "variant": variant,
            "revenue": shift + 0.4 * before + rng.exponential(10, rows) + lift,
            "revenue_before": before,
            "visits": rng.poisson(2 + age / 40),
            "age": age,
        }
    )


def moments_of(frame: pd.DataFrame, variant: str) -> Moments:
    """Moments by numpy."""
    return Moments.of(NAMES, frame.loc[frame.variant == variant, list(NAMES)].to_numpy(float))


def estimate(found: UnitComparison, metric: str, variant: str, method: str) -> Estimate:
    """One estimate, which there has to be."""
    (result,) = (r for r in found.metrics if (r.metric, r.variant) == (metric, variant))
    one = dict(result.estimates)[method]
    assert isinstance(one, Estimate)
    return one


@pytest.mark.golden("statsmodels 0.15: OLS with interactions")
def test_the_adjusted_difference_is_that_of_the_interacted_regression() -> None:
    frame = table()
    pair = frame[frame.variant != "ai-long"]
    x = pair[["revenue_before", "age"]] - pair[["revenue_before", "age"]].mean()
    treated = (pair.variant == "ai").astype(float)
    design = np.column_stack([np.ones(len(pair)), treated, x, x.mul(treated, axis=0)])
    expected = sm.OLS(pair.revenue.to_numpy(), design).fit().params[1]
    found = klartext.compare_units(frame, METRICS, control="control")
    assert estimate(found, "revenue", "ai", "lin").value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("variant", ["ai", "ai-long"])
@pytest.mark.parametrize("metric", ["revenue", "visits"])
def test_every_method_reads_what_the_moments_say(metric: str, variant: str) -> None:
    frame = table()
    one, base = moments_of(frame, variant), moments_of(frame, "control")
    found = klartext.compare_units(frame, METRICS, control="control", alpha=0.1)
    for method, of in (("lin", adjustment.lin), ("cuped", adjustment.cuped)):
        adjusted = of(one, base, metric, METRICS[metric])
        assert not isinstance(adjusted, NotEstimable)
        expected = contrast.fixed(adjusted.contrast, alpha=0.1, single_look=True)
        assert isinstance(expected, Estimate)
        seen = estimate(found, metric, variant, method)
        assert seen.value == pytest.approx(expected.value, rel=1e-9)
        assert seen.std_error == pytest.approx(expected.std_error, rel=1e-9)
        assert seen.p_value == pytest.approx(expected.p_value, rel=1e-6)
    plain = means.welch(one.sample(metric), base.sample(metric), alpha=0.1, single_look=True)
    assert isinstance(plain, Estimate)
    assert estimate(found, metric, variant, "welch").value == pytest.approx(plain.value, rel=1e-9)


def as_file(frame: pd.DataFrame, folder: Path) -> Path:
    """Write it as Parquet."""
    path = folder / "units.parquet"
    pq.write_table(pa.Table.from_pandas(frame), path, row_group_size=200)
    return path


READ = pytest.mark.parametrize("read", [lambda units: units, ibis.memtable], ids=["arrow", "ibis"])
"""A frame is read in batches, an Ibis table by its engine."""


@pytest.mark.parametrize(
    "given",
    [
        as_file,
        lambda frame, folder: str(as_file(frame, folder)),
        lambda frame, _: pa.Table.from_pandas(frame),
        lambda frame, folder: ibis.duckdb.connect().read_parquet(as_file(frame, folder)),
        lambda frame, _: frame.sample(frac=1, random_state=3),
        lambda frame, _: frame.rename(columns={"variant": "grp"}),
        lambda frame, _: frame.astype(
            {"variant": pd.CategoricalDtype(["z", "ai-long", "ai", "control"])}
        ),
    ],
    ids=["path", "text", "arrow", "ibis", "shuffled", "renamed", "categories"],
)
def test_where_the_units_come_from_does_not_matter(
    given: Callable[[pd.DataFrame, Path], Any], tmp_path: Path
) -> None:
    units = given(table(), tmp_path)
    variant = "variant" if "grp" not in getattr(units, "columns", ()) else "grp"
    found = klartext.compare_units(units, METRICS, control="control", variant=variant)
    expected = klartext.compare_units(table(), METRICS, control="control")
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame(), rtol=1e-9)


def test_batches_are_merged_without_loss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(unit_moments, "_ROWS", 37)
    frame = table(shift=1e6)
    found = klartext.compare_units(as_file(frame, tmp_path), METRICS, control="control")
    for metric, others in METRICS.items():
        for variant, moments in found.moments[metric].items():
            expected = moments_of(frame, variant).only((metric, *others))
            assert moments.n == expected.n
            np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-15)
            np.testing.assert_allclose(moments.m2, expected.m2, rtol=1e-9)
            np.testing.assert_allclose(moments.m3, expected.m3, rtol=1e-9, atol=1e-3)
            np.testing.assert_array_equal(moments.nonzero, expected.nonzero)


@READ
def test_any_number_is_one_and_any_value_names_a_variant(read: Callable[[Any], Any]) -> None:
    whole = [0, 3, 5, 0, 2, 9]
    units = {
        "variant": pa.array([0, 0, 0, 1, 1, 1]),
        "bought": pa.array([value > 2 for value in whole]),
        "a.b": pa.array([Decimal(value) / 10 for value in whole], pa.decimal128(38, 12)),
        "count": pa.array([2**60 + 2**12 * value for value in whole], pa.uint64()),
    }
    metrics: dict[str, list[str]] = {"bought": [], "a.b": [], "count": []}
    found = klartext.compare_units(read(pa.table(units)), metrics, control="0")
    assert [result.mean for result in found.metrics] == pytest.approx(
        [1 / 3, 11 / 30, 2**60 + 2**12 * 11 / 3], rel=1e-15
    )


@READ
def test_a_constant_covariate_is_left_out(read: Callable[[Any], Any]) -> None:
    units = read(table().assign(age=0.1))
    found = klartext.compare_units(units, METRICS, control="control")
    expected = klartext.compare_units(
        table(), {"revenue": ["revenue_before"], "visits": []}, control="control"
    )
    dropped = found.metrics[0].adjustment
    assert dropped is not None
    one, other = (estimate(each, "revenue", "ai", "lin") for each in (found, expected))
    assert one.value == pytest.approx(other.value, rel=1e-12)
    assert one.std_error == pytest.approx(other.std_error, rel=1e-12)
    refused = dict(found.metrics[1].estimates)["lin"]
    assert isinstance(refused, NotEstimable)
    assert refused.reason == "no-covariate"


def test_planned_units_make_a_confidence_sequence() -> None:
    found = klartext.compare_units(table(), METRICS, control="control", planned_n=1_000)
    result = found.metrics[0]
    assert [name for name, _ in result.estimates] == [
        "anytime-lin",
        "anytime-cuped",
        "anytime",
        "welch",
    ]
    sequence = estimate(found, "revenue", "ai", "anytime-lin")
    once = klartext.compare_units(table(), METRICS, control="control")
    single = estimate(once, "revenue", "ai", "lin")
    assert sequence.value == single.value
    assert sequence.interval.lower < single.interval.lower  # type: ignore[union-attr] # bounded
    assert not estimate(found, "revenue", "ai", "welch").valid_for_look


@READ
def test_a_mean_of_a_billion_costs_no_digits(read: Callable[[Any], Any]) -> None:
    far = klartext.compare_units(read(table(shift=1e9)), METRICS, control="control")
    near = klartext.compare_units(table(), METRICS, control="control")
    for method in ("lin", "cuped", "welch"):
        one, other = (estimate(found, "revenue", "ai", method) for found in (far, near))
        assert one.value == pytest.approx(other.value, rel=1e-6)
        assert one.std_error == pytest.approx(other.std_error, rel=1e-6)


@READ
def test_columns_may_be_called_anything(read: Callable[[Any], Any]) -> None:
    frame = table()
    odd = {"revenue": "d1", "revenue_before": "n", "visits": "product0_0", "age": "Alter, Jahre"}
    renamed = frame.rename(columns=odd)
    metrics = {odd[key]: [odd[one] for one in some] for key, some in METRICS.items()}
    found = klartext.compare_units(read(renamed), metrics, control="control")
    expected = klartext.compare_units(frame, METRICS, control="control")
    for one, other in zip(found.metrics, expected.metrics, strict=True):
        assert one.metric == odd[other.metric]
        assert one.mean == pytest.approx(other.mean, rel=1e-12)
    nonzero = found.moments["product0_0"]["ai"].nonzero[0]
    assert nonzero == ((frame.variant == "ai") & (frame.visits != 0)).sum()


@READ
def test_a_constant_metric_has_no_interval(read: Callable[[Any], Any]) -> None:
    units = read(table().assign(revenue=0.1))
    found = klartext.compare_units(units, METRICS, control="control")
    for _, one in found.metrics[0].estimates:
        assert isinstance(one, NotEstimable)
        assert one.reason == "no-variance"


@pytest.mark.parametrize(
    ("changed", "metrics", "message"),
    [
        ({}, {}, "no metric is named"),
        ({}, {"sales": []}, "there is no column sales"),
        ({}, {"revenue": ["sales"]}, "there is no column sales"),
        ({"revenue": "a lot"}, METRICS, "revenue is string: no number"),
        ({"revenue": None}, {"age": []}, None),
        ({}, {"revenue": ["visits"], "visits": []}, "visits is a metric"),
        ({}, {"variant": []}, "names the variant"),
        ({"Age": 0}, {"Age": []}, "Age is another column's name too"),
        ({"Age": 0}, METRICS, "age is another column's name too"),
        ({"Variant": "control"}, METRICS, "variant is another column's name too"),
        ({"variant": "control"}, METRICS, "control and another variant"),
        ({"variant": "ai"}, METRICS, "control and another variant"),
        ({"variant": [["control"]] * 60}, METRICS, "variant is array<string>: no name"),
    ],
)
@READ
def test_what_cannot_be_compared_is_said(
    changed: dict[str, Any],
    metrics: dict[str, list[str]],
    message: str | None,
    read: Callable[[Any], Any],
) -> None:
    units = read(table(60).assign(**changed))
    if message is None:
        klartext.compare_units(units, metrics, control="control")
        return
    with pytest.raises(UnitTableError, match=message):
        klartext.compare_units(units, metrics, control="control")


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", ["revenue", "age"])
@READ
def test_gaps_are_counted_and_refused(
    gap: float | None, column: str, read: Callable[[Any], Any]
) -> None:
    units = pa.Table.from_pandas(table(60))
    holes = pa.array([gap if place in {3, 7} else 1.0 for place in range(60)], from_pandas=False)
    units = read(units.set_column(units.schema.get_field_index(column), column, holes))
    with pytest.raises(UnitTableError, match="2 units have gaps in revenue"):
        klartext.compare_units(units, METRICS, control="control")


@READ
def test_a_unit_of_no_variant_is_refused(read: Callable[[Any], Any]) -> None:
    units = table(60)
    units.loc[4, "variant"] = None
    far = units.assign(revenue=1e9 + units.revenue)
    for some in (units, far, units.astype({"variant": "category"}), units.assign(variant=None)):
        with pytest.raises(UnitTableError, match="units without a variant"):
            klartext.compare_units(read(some), METRICS, control="control")


@READ
def test_no_units_are_refused(read: Callable[[Any], Any]) -> None:
    with pytest.raises(UnitTableError, match="found: none"):
        klartext.compare_units(read(table(60).head(0)), METRICS, control="control")


def test_a_column_of_too_many_values_names_no_variants() -> None:
    with pytest.raises(UnitTableError, match="unit has over 1000 values"):
        klartext.compare_units(table(2_000), METRICS, control="0", variant="unit")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnitTableError, match="there is no file"):
        klartext.compare_units(tmp_path / "none.parquet", METRICS, control="control")
    file = as_file(table(), tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[len(whole) // 2 + 4 :])
    with pytest.raises(UnitTableError, match="the units cannot be read: "):
        klartext.compare_units(file, METRICS, control="control")
    file.write_text("revenue,variant")
    with pytest.raises(UnitTableError, match="the units cannot be read: "):
        klartext.compare_units(file, METRICS, control="control")


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.5}, {"planned_n": 0}])
def test_numbers_outside_their_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        klartext.compare_units(table(60), METRICS, control="control", **wrong)
