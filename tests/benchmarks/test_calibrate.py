"""The calibration harness: bands by hand, drawn sums against drawn units, one small run."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_bands_by_hand() -> None:
    from benchmarks.calibrate.judgement import Row, band, failures  # noqa: PLC0415

    def row(judged: str, hits: int) -> Row:
        return Row("coverage", "c", "m", judged, 0.95, hits, 0, 0, 2000, 2000)  # type: ignore[arg-type]

    # 1 % over 10 rows, both sides: the 0.05 % points of Binomial(2000, 0.95)
    low, high = band(row("inside", 1900), 10)
    assert low == stats.binom.ppf(0.0005, 2000, 0.95) / 2000
    assert high == stats.binom.isf(0.0005, 2000, 0.95) / 2000
    assert 0.930 < low < 0.940
    assert 0.960 < high < 0.970
    assert band(row("not below", 1900), 10)[1] == 1.0
    assert band(row("not above", 1900), 10)[0] == 0.0
    rows = [row("inside", 1900), row("inside", 1990), row("not below", 1990), row("contrast", 3)]
    assert failures(rows) == (rows[1],)
    silent = Row("coverage", "c", "m", "inside", 0.95, 0, 0, 0, 0, 2000)
    assert failures([silent]) == (silent,)


@pytest.mark.parametrize("kind", ["normal", "binary", "revenue"])
def test_drawn_sums_are_those_of_units(kind: str) -> None:
    from benchmarks.calibrate.draws import Population, draw  # noqa: PLC0415

    population = Population(kind, 1.0, 0.5, 0.3)  # type: ignore[arg-type]
    found = draw(population, np.array([40.0, 60.0]), 20_000, np.random.default_rng(91))
    n = np.array([40, 100])
    for look in (0, 1):
        mean, variance = found.mean[:, look], found.m2[:, look] / (n[look] - 1)
        spread = np.sqrt(population.variance / n[look] / 20_000)
        assert mean.mean() == pytest.approx(population.mean, abs=5 * spread)
        assert mean.var() == pytest.approx(population.variance / n[look], rel=0.06)
        assert variance.mean() == pytest.approx(population.variance, rel=0.03)
        assert (found.m2[:, look] >= -1e-9).all()
    # the second look holds the first: correlation sqrt(40 / 100)
    together = np.corrcoef(found.mean[:, 0], found.mean[:, 1])[0, 1]
    assert together == pytest.approx(np.sqrt(0.4), abs=0.03)


def test_revenue_moments_are_exact() -> None:
    from benchmarks.calibrate.draws import Population, draw  # noqa: PLC0415

    population = Population("revenue", 1.0, 0.7, 1.0)
    found = draw(population, np.array([5.0, 7.0]), 3, np.random.default_rng(92))
    rng = np.random.default_rng(92)
    rng.binomial(np.array([5, 7]), 1.0, (3, 2))
    for row in range(3):
        amounts = rng.lognormal(1.0, 0.7, 12)
        for look, n in ((0, 5), (1, 12)):
            units = amounts[:n]
            sample = found.sample(row, look)
            assert sample.n == n
            assert sample.mean == pytest.approx(units.mean())
            assert sample.m2 == pytest.approx(((units - units.mean()) ** 2).sum())
            assert sample.m3 == pytest.approx(((units - units.mean()) ** 3).sum())


def test_sides_of_every_shape() -> None:
    from benchmarks.calibrate.coverage import side  # noqa: PLC0415

    from klartext.analysis.estimate import Interval, Unbounded  # noqa: PLC0415

    assert [side(Interval(0, 1, 0.95), x) for x in (-1, 0.5, 2)] == [-1, 0, 1]
    assert side(Unbounded("line", (), 0.95), 3) == 0
    assert [side(Unbounded("rays", (0, 1), 0.95), x) for x in (-1, 0.2, 0.8)] == [0, 1, -1]
    assert [side(Unbounded("left", (0,), 0.95), x) for x in (-1, 1)] == [0, 1]
    assert [side(Unbounded("right", (0,), 0.95), x) for x in (-1, 1)] == [-1, 0]


@pytest.mark.slow
def test_one_command_writes_the_same_page_twice(tmp_path: Path) -> None:
    pages = []
    for name, workers in (("one.md", "2"), ("two.md", "1")):
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.calibrate", "--replications", "40"),
                *("--seed", "7", "--workers", workers, "--output", str(tmp_path / name)),
            ],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        pages.append((tmp_path / name).read_text(encoding="utf-8"))
    assert pages[0] == pages[1]
    for title in ("Coverage", "Ratios", "False alarms", "Power"):
        assert f"## {title}" in pages[0]
    assert "| fixed interval at every look |" in pages[0]
