"""Cohorts: whatever was kept and whatever came since, the readout is that of all facts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from klartext.analysis import cohort_refresh, cohorts
from klartext.analysis.cohorts import Cohorts
from klartext.analysis.engine import open_engine
from klartext.analysis.readout import Readout, read_out
from klartext.analysis.result import CohortUse
from klartext.experiments.compaction import rewrite, sizes
from klartext.experiments.door import TableName
from klartext.experiments.experiment import Covariate, Experiment, Metric
from klartext.experiments.facts import FactsStore
from klartext.experiments.watermark import Watermark
from tests.analysis import cases
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    REVENUE_NET_OF_REFUNDS,
    START,
    call,
    event,
    experiment,
    exposure,
    purchase,
)
from tests.analysis.test_engines import EXACT, assert_alike

Rows = dict[TableName, list[dict[str, Any]]]
LOOKBACK = replace(REVENUE_NET_OF_REFUNDS, covariates=(Covariate(lookback=7 * DAY),))
SPEC = experiment(metrics=(CONVERSION, LOOKBACK))
MEDIAN = Metric("q", "quantile", "purchase", "value", DAY, "increase", quantile=Decimal("0.5"))
FORTUNE = "123456789012345.5"
"""So much that nothing else is left of a sum of squares with it."""


def served() -> Experiment:
    """What is nasty and can be served; units of the small variants are strangers."""
    spec = cases.spec()
    metrics = tuple(
        replace(
            metric,
            covariates=tuple(one for one in metric.covariates if one.lookback is not None),
        )
        for metric in spec.metrics
        if metric.kind != "quantile"
    )
    return replace(spec, metrics=metrics, variants=spec.variants[:5])


class Workspace:
    """Facts that grow, and the cohorts of them."""

    def __init__(self, root: Path, properties: Any = None) -> None:
        self.store = FactsStore(str(root / "facts"), properties or {})
        self.folder = root / "cohorts"
        self.version = 0

    def deliver(self, batch: int, **tables: list[dict[str, Any]]) -> None:
        self.version += 1
        common = {"received_at": START, "id": b"", "payload": b""}
        for name, given in tables.items():
            rows = [
                common | row
                | {"ingest_batch": batch, "day": row["occurred_at"].astimezone(UTC).date()}
                for row in given
            ]  # fmt: skip
            if rows:
                table: TableName = name  # type: ignore[assignment]  # named by the tests
                arrow = pa.Table.from_pylist(rows, schema=self.store.schema(table))
                self.store.append(table, arrow, application="test", version=self.version)

    def kept(self, name: str) -> Path:
        return next((self.folder / "mail").glob(name))

    def read(self, watermark: Watermark, spec: Experiment = SPEC) -> Readout:
        with open_engine() as engine:
            return cohort_refresh.read(spec, Cohorts(self.store, engine, self.folder), watermark)

    def check(self, watermark: Watermark, spec: Experiment = SPEC) -> Readout:
        """Read, and compare with all facts from scratch."""
        found = self.read(watermark, spec)
        with open_engine() as engine:
            expected = read_out(spec, self.store.tables(engine), watermark, engine=engine)
        assert_same(found, expected)
        return found


def assert_same(found: Readout, expected: Readout) -> None:
    if expected.calls is None:
        assert found.calls is None
        for name in EXACT:
            assert getattr(found, name) == getattr(expected, name), name
        for variant, moments in expected.moments.items():
            assert found.moments[variant].mean == pytest.approx(moments.mean, rel=1e-12)
            assert found.moments[variant].m2 == pytest.approx(moments.m2, rel=1e-9, abs=1e-9)
    else:
        assert_alike(({}, found), ({}, expected))
    assert (found.strangers, found.first_exposure, found.last_exposure) == (
        expected.strangers, expected.first_exposure, expected.last_exposure,
    )  # fmt: skip


def mark(batch: int, days: float) -> Watermark:
    return Watermark(batch, START + timedelta(days=days))


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))]
)
@pytest.mark.parametrize("quiet", [True, False], ids=["calls of units", "any calls"])
def test_any_boundaries_of_batches_give_what_all_facts_give(
    tmp_path: Path, seed: int, *, quiet: bool
) -> None:
    """Late rows, repeats, second variants, earlier exposures: all of them, in random batches."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    facts = cases.generate(seed, units=60)
    for row in facts.usage_costs:
        row["task"] = None
    if quiet:
        exposed = [row["unit"] for row in facts.exposures if row["experiment"] == "mail"]
        facts.usage_costs = [
            call(f"{rng.random():.12f}", unit=rng.choice(exposed), variant=None, duration_ms=i)
            for i in range(150)
        ]
    for row in facts.exposures:  # few enough days for a file each
        if row["occurred_at"].year == 1960:
            row["occurred_at"] = row["occurred_at"].replace(month=rng.randrange(1, 4), day=1)
    place = Workspace(tmp_path, cases.PROPERTIES)
    spec = served()
    rows: dict[str, list[Any]] = {
        "exposures": facts.exposures, "events": facts.events, "usage_costs": facts.usage_costs,
    }  # fmt: skip
    batches = {name: [rng.randrange(1, 5) for _ in each] for name, each in rows.items()}
    reasons = []
    for batch in range(1, 5):
        place.deliver(
            batch,
            **{
                name: [row for row, of in zip(each, batches[name], strict=True) if of == batch]
                for name, each in rows.items()
            },
        )
        found = place.check(mark(batch, 5 + 15 * batch), spec)
        assert found.cohorts is not None
        reasons.append(found.cohorts.reason)
    assert reasons[0] == "first-analysis"
    assert "first-analysis" not in reasons[1:]


def test_a_refresh_adds_what_is_new(place: Workspace) -> None:
    units = range(40)
    place.deliver(
        1,
        exposures=[exposure(unit, ("ai", "control")[unit % 2]) for unit in units],
        events=[purchase(unit, f"{unit + 1}.50", days=unit % 5) for unit in units],
    )
    first = place.check(mark(1, 35))
    place.deliver(
        2,
        exposures=[exposure(100, "ai", occurred_at=START + 20 * DAY)],
        events=[purchase(3, "7.25", days=6), purchase(100, "5", days=21), event(4, "refund",
                value=Decimal("1.25"), currency="EUR", days=8)],
        usage_costs=[call("0.5", unit=2, variant="ai"), call("0.25", unit=3)],
    )  # fmt: skip
    second = place.check(mark(2, 36))
    assert first.cohorts == CohortUse(0, 40, "first-analysis")
    assert second.cohorts == CohortUse(40, 1, None)
    again = place.check(mark(2, 36))
    assert again.cohorts == CohortUse(41, 0, None)
    assert place.check(mark(2, 60)).counts[1].mature == 21


@pytest.mark.parametrize(
    "late",
    [
        {"exposures": [exposure(1, "control", occurred_at=START + DAY)]},
        {"exposures": [exposure(1, "control", occurred_at=START - 2 * DAY)]},
        {"exposures": [exposure(2, "control", occurred_at=START - 2 * DAY)]},
        {"exposures": [exposure(1, "control")]},
        {"exposures": [exposure(1, "ai")]},
        {"exposures": [exposure(1, "retired"), exposure(77, "retired")]},
        {"events": [purchase(1, "9", days=2), purchase(1, "9", days=2)]},
        {"events": [purchase(1, FORTUNE, days=2)]},
        {"events": [event(3, "refund", value=Decimal(FORTUNE), currency="EUR", days=2)]},
        {"usage_costs": [call("3", unit=1, variant="ai")]},
        {"usage_costs": [call("3", variant="ai"), call(None, unit=1)]},
        {"usage_costs": [call("3", unit=50, variant="ai")], "exposures": [exposure(50, "ai")]},
    ],
    ids=[
        "second variant", "earlier exposure in another variant", "earlier exposure", "tie",
        "repeat", "stranger", "late event", "a late fortune", "a fortune refunded", "late call",
        "shared call", "call of a new unit",
    ],
)  # fmt: skip
def test_what_comes_late_counts_as_if_it_had_come_in_time(
    place: Workspace, late: dict[str, list[dict[str, Any]]]
) -> None:
    place.deliver(
        1,
        exposures=[exposure(unit, ("control", "ai")[unit % 2]) for unit in range(12)]
        + [exposure(60, "ai", occurred_at=START + 2 * DAY)],
        events=[purchase(unit, f"{unit}.5", days=days) for unit in range(12) for days in (-2, 1, 5)]
        + [purchase(3, FORTUNE, days=1)],
        usage_costs=[call("1.25", unit=unit, variant="ai", duration_ms=unit) for unit in (1, 3, 5)]
        + [call("0.5", unit=50, variant="ai")],
    )  # fmt: skip
    place.check(mark(1, 40))
    place.deliver(2, **late)
    found = place.check(mark(2, 40))
    assert found.cohorts is not None
    if found.cohorts.reason == "worn-off":
        assert str(late).count(FORTUNE) == 1
    else:
        assert (found.cohorts.reason, found.cohorts.cached >= 12) == (None, True)


def test_maturing_alone_moves_units_into_the_comparison(place: Workspace) -> None:
    place.deliver(
        1,
        exposures=[exposure(u, "ai", occurred_at=START + (u % 7) * DAY) for u in range(30)],
        events=[purchase(unit, "2.5", days=8) for unit in range(30)],
    )
    for days in (29, 31, 31.5, 34, 34, 60):
        place.check(mark(1, days))


def test_compaction_between_changes_nothing(place: Workspace) -> None:
    def facts(unit: int) -> dict[str, list[dict[str, Any]]]:
        return {
            "exposures": [exposure(unit, "ai")],
            "events": [purchase(unit, "1.5")],
            "usage_costs": [call("0.5", unit=unit)],
        }

    for batch in (1, 2, 3):
        place.deliver(batch, **facts(batch))
        place.check(mark(batch, 40))
    place.deliver(4, **facts(4))
    for table in cohorts.TABLES:
        for day in sizes(place.store.snapshot(table)):
            rewrite(place.store, table, day, fence=1, read=place.store.snapshot(table))
    found = place.check(mark(4, 40))
    assert found.cohorts == CohortUse(3, 1, None)
    assert found.counts[1].exposed == 4


def test_many_files_become_one(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort_refresh, "MOST_FILES", 2)
    for batch in range(1, 6):
        place.deliver(
            batch,
            exposures=[exposure(batch, "ai"), exposure(1, "ai")],
            events=[purchase(1, "1.5", days=batch)],
            usage_costs=[call("0.5", unit=1)],
        )
        place.check(mark(batch, 40))
    manifest = json.loads((place.folder / "mail" / "manifest.json").read_text())
    assert max(len(manifest[name]) for name in cohorts.FILES) <= 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda place: place.kept("manifest.json").unlink(), "first-analysis"),
        (lambda place: place.kept("manifest.json").write_text("{"), "unreadable"),
        (lambda place: place.kept("*.parquet").unlink(), "unreadable"),
        (lambda place: place.kept("*.parquet").write_bytes(b"x"), "unreadable"),
        (lambda place: place.store.snapshot("events").delta.delete("unit = 1"), "facts-rewritten"),
    ],
    ids=["deleted", "broken", "file gone", "file broken", "erased facts"],
)  # fmt: skip
def test_what_does_not_match_is_not_used(
    place: Workspace, change: Callable[[Workspace], Any], reason: str
) -> None:
    place.deliver(1, exposures=[exposure(1, "ai"), exposure(2, "ai")], events=[purchase(1, "2"),
                  purchase(2, "3")])  # fmt: skip
    place.check(mark(1, 40))
    change(place)
    found = place.check(mark(1, 40))
    assert found.cohorts == CohortUse(0, 2, reason)


def test_another_spec_or_an_earlier_watermark_is_read_anew(place: Workspace) -> None:
    place.deliver(1, exposures=[exposure(1, "ai")], events=[purchase(1, "2")])
    place.deliver(2, exposures=[exposure(2, "ai")], events=[purchase(2, "3")])
    place.check(mark(2, 40))
    other = experiment(metrics=(CONVERSION, replace(REVENUE, window=7 * DAY)))
    for spec, watermark, reason in (
        (other, mark(2, 40), "changed"),
        (other, mark(1, 40), "earlier-watermark"),
        (SPEC, mark(1, 39), "changed"),
        (SPEC, mark(1, 38), "earlier-watermark"),
    ):
        found = place.check(watermark, spec)
        assert found.cohorts is not None
        assert (found.cohorts.cached, found.cohorts.reason) == (0, reason)


def test_tasks_are_not_kept(place: Workspace) -> None:
    place.deliver(1, exposures=[exposure(1, "ai")], usage_costs=[call("1", unit=1, task="t")])
    for _ in range(2):
        found = place.check(mark(1, 40))
        assert found.cohorts == CohortUse(0, 1, "ai-tasks")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exposure_event": "visit"}, "exposure-event"),
        ({"segments": ("country",)}, "segments"),
        ({"scope": "programme"}, "programme"),
        ({"metrics": (MEDIAN,)}, "quantile-metric"),
        ({"metrics": (replace(REVENUE, covariates=(Covariate("history"),)),)}, "named-covariate"),
        ({"metrics": (replace(REVENUE, cap_percentile=Decimal("0.99")),)}, "percentile-cap"),
        ({}, None),
    ],
)  # fmt: skip
def test_what_cannot_be_added_to_has_a_reason(change: dict[str, Any], reason: str | None) -> None:
    spec = experiment(**change)
    assert cohorts.unserved(spec, splits=1, aliases=False) == reason
    assert cohorts.unserved(experiment(), splits=2, aliases=False) == "moved-weights"
    assert cohorts.unserved(experiment(), splits=1, aliases=True) == "aliases"


def test_a_refresh_opens_only_new_files(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = experiment(metrics=(CONVERSION, REVENUE))
    for batch in range(1, 7):
        at = START + batch * DAY
        place.deliver(
            batch,
            exposures=[exposure(batch, "ai", occurred_at=at)],
            events=[purchase(1, "1.5", days=batch), purchase(batch, "2", days=batch + 0.1)],
            usage_costs=[call("0.5", unit=1, occurred_at=at)],
        )
        if batch == 5:
            place.read(mark(5, 5), spec)
    opened: list[str] = []
    with open_engine() as engine:
        whole = engine.read_parquet

        def spied(files: list[str], **given: Any) -> Any:
            opened.extend(file for file in files if "/day=" in file)
            return whole(files, **given)

        monkeypatch.setattr(engine, "read_parquet", spied)
        found = cohort_refresh.read(spec, Cohorts(place.store, engine, place.folder), mark(6, 6))
    assert found.cohorts == CohortUse(5, 1, None)
    day = (START + 6 * DAY).date()
    # Of calls all: those of a unit in the comparison are needed when there is one more.
    opened = [file for file in opened if "/usage_costs/" not in file]
    assert {file.split("/day=")[1][:10] for file in opened} == {str(day)}
    assert len(set(opened)) == 2


READ = """
    import sys
    from pathlib import Path
    from tests.analysis import test_cohorts as here
    here.Workspace(Path(sys.argv[1])).read(here.mark(1, 40))
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_goes_on_where_one_has_ended(
    place: Workspace, tmp_path: Path, seed: str
) -> None:
    """No order of what is kept hangs on the hash seed of a process."""
    calls = [
        call("0.5", unit=unit, variant="ai", duration_ms=3, cached_tokens=2, input_tokens=5)
        for unit in (1, 2)
    ] + [call("0.25", unit=2, variant="ai", error="timeout")]
    place.deliver(1, exposures=[exposure(1, "ai"), exposure(2, "ai")], usage_costs=calls)
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ), str(tmp_path)],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": seed},
    )
    place.deliver(2, exposures=[exposure(3, "ai")], usage_costs=calls[1:2])
    found = place.check(mark(2, 41))
    assert found.cohorts is not None
    assert (found.cohorts.cached, found.cohorts.built) == (2, 1)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from klartext.analysis import cohorts
    from tests.analysis import test_cohorts as here
    def die(step=[0]):
        step[0] += 1
        if step[0] == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    before = cohorts._sync
    def sync(path):
        die()
        before(path)
        die()
    cohorts._sync = sync
    place = here.Workspace(Path(sys.argv[1]))
    place.read(here.mark(2, 41))
"""


@pytest.mark.parametrize("step", range(1, 9))
def test_killed_while_publishing_leaves_the_old_or_the_new(
    place: Workspace, tmp_path: Path, step: int
) -> None:
    place.deliver(1, exposures=[exposure(1, "ai")], events=[purchase(1, "2")])
    place.check(mark(1, 40))
    place.deliver(2, exposures=[exposure(2, "ai")], events=[purchase(1, "3"), purchase(2, "4")])
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(step)], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    found = place.check(mark(2, 41))
    assert found.cohorts is not None
    assert found.cohorts.reason is None
    assert found.cohorts.cached == (1 if step < 7 else 2)  # the manifest is renamed after 6
