"""Drawn shops against units drawn one by one, and the whole rule on them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from klartext.analysis.columns import value_columns
from klartext.analysis.moments import Moments

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_moments_of_a_shop_are_those_of_its_units() -> None:
    from benchmarks.calibrate import shops  # noqa: PLC0415

    shop = shops.Shop(0.5, 1.0, 0.7, per_unit=0.2, per_order=0.8, share=0.05)
    spec = shops.trial(
        (0.5, 0.5), 40, looks=2, inference=shops.inference_of("anytime"), decision=shops.PERMISSIVE
    )
    steps = np.array([15.0, 25.0])
    sold = shops.sell(shop, steps, 3, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    counts = rng.binomial([15, 25], 0.5, (3, 2))
    for row in range(3):
        amounts = rng.lognormal(1.0, 0.7, counts[row].sum())
        for look in (0, 1):
            n, buyers = int(steps[: look + 1].sum()), int(counts[row, : look + 1].sum())
            bought = np.zeros(n)
            bought[:buyers] = 1
            spent = np.zeros(n)
            spent[:buyers] = amounts[:buyers]
            columns: dict[str, Any] = {
                "conversion": bought,
                "revenue": spent,
                "margin": 0.4 * spent,
                "cost": 0.2 + 0.8 * bought + 0.05 * spent,
            }
            columns["net"] = columns["margin"] - columns["cost"]
            columns["outlook"] = 0.7 * columns["margin"] - columns["cost"]
            columns["cost_high"], columns["outlook_high"] = columns["cost"], columns["outlook"]
            names = value_columns(spec)
            units = Moments.of(names, np.column_stack([columns[name] for name in names]))
            found = sold.moments(spec, row, look)
            assert found.n == n
            assert found.mean == pytest.approx(units.mean)
            assert found.m2 == pytest.approx(units.m2, abs=1e-9)
            assert found.m3 == pytest.approx(units.m3, abs=1e-9)
            assert found.nonzero.tolist() == units.nonzero.tolist()
            mean, variance = sold.outlook()
            sample = units.sample("outlook")
            assert mean[row, look] == pytest.approx(sample.mean)
            assert variance[row, look] == pytest.approx(sample.variance_of_mean)


def test_a_shop_is_worth_what_it_should_be() -> None:
    """At 0.7 x 0.4 x e^3.5 = 9.2723 per order, 0.1 orders cost what 0.0065 more orders bring."""
    from benchmarks.calibrate import shops  # noqa: PLC0415

    plain = shops.Shop(0.10)
    paid = shops.Shop(0.10, per_unit=0.06).worth(plain.outlook)
    assert paid.rate == pytest.approx(0.1 + 0.06 / 9.2723, abs=1e-6)
    assert paid.outlook == pytest.approx(plain.outlook, abs=1e-15)


@pytest.mark.parametrize("effect", [0.0, 0.2, -0.2])
def test_no_verdict_is_missed_between_the_eventful_looks(effect: float) -> None:
    from benchmarks.calibrate import shops, verdicts  # noqa: PLC0415

    plain = shops.Shop(0.10)
    paid = shops.Shop(0.10, per_unit=0.06).worth(plain.outlook + effect)
    cell = verdicts.Cell("x", "no gain", plain, (paid,), (0.5, 0.5), 20_000)
    trial = cell.trial(np.random.default_rng(8), 6)
    everywhere = range(1, verdicts.LOOKS + 1)
    for replication, looks in enumerate(trial.eventful()):
        assert trial.run(replication, looks) == trial.run(replication, everywhere)


def test_the_rule_of_the_errors_asks_for_nothing_but_the_bounds() -> None:
    from benchmarks.calibrate import shops  # noqa: PLC0415

    rule = shops.PERMISSIVE
    assert (rule.hurdle_roi, rule.probability) == (Decimal(0), Decimal(0))
    assert rule.expected_loss > 10**9
    assert not rule.min_duration


def _cells(module: str) -> list[int]:
    return list(range({"verdicts": 12, "returns": 6}[module]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "cell"), [(m, c) for m in ("verdicts", "returns") for c in _cells(m)]
)
def test_errors_and_coverage_of_the_money(module: str, cell: int) -> None:
    """As `make calibrate` judges them, at 2,000 replications."""
    from benchmarks.calibrate import returns, verdicts  # noqa: PLC0415
    from benchmarks.calibrate.judgement import failures  # noqa: PLC0415

    cells: tuple[Any, ...] = {"verdicts": verdicts.CELLS, "returns": returns.CELLS}[module]
    assert len(cells) == len(_cells(module))
    rows = list(cells[cell].run(np.random.default_rng((20261122, cell)), 2000))
    assert failures(rows) == ()


@pytest.mark.slow
def test_the_delta_method_fails_where_the_denominator_is_weak() -> None:
    from benchmarks.calibrate import returns  # noqa: PLC0415

    weak = next(cell for cell in returns.CELLS if cell.name.startswith("very weak"))
    rows = {row.method: row for row in weak.run(np.random.default_rng(9), 500)}
    assert rows["ROI: delta method, one look"].rate < 0.8
    assert rows["ROI: Fieller, one look"].rate > 0.92
