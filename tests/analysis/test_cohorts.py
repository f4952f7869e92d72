"""Cohorts: whatever was kept and whatever came since, the readout is that of all facts."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
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
from klartext.analysis.reading import read_out
from klartext.analysis.readout import Readout
from klartext.analysis.result import CohortUse
from klartext.experiments.compaction import rewrite, sizes
from klartext.experiments.door import TableName
from klartext.experiments.experiment import Covariate, Experiment, Metric
from klartext.experiments.facts import FactsStore
from klartext.experiments.watermark import Watermark
from tests.analysis import cases
from tests.analysis.nasty import Facts
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


def served(kind: str) -> Experiment:
    """What can be served; units of the small variants are strangers."""
    spec = cases.spec()
    far = () if kind == "nasty" else ("huge", cases.PRECISE)  # of which digits wear off
    metrics = tuple(
        replace(
            metric,
            covariates=tuple(one for one in metric.covariates if one.lookback is not None),
        )
        for metric in spec.metrics
        if metric.kind != "quantile" and metric.key not in far
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

    @property
    def manifest(self) -> Path:
        return self.folder / "mail" / cohorts.MANIFEST

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.manifest.read_text().partition("\n")[2])
        return found

    def kept(self, name: str) -> Path:
        return next((self.folder / "mail").glob(name))

    def lose_a_file(self) -> None:
        self.kept("*.parquet").unlink()

    def damage_files(self) -> None:
        for file in self.folder.glob("mail/*.parquet"):
            file.write_bytes(bytes(file.stat().st_size))

    def change_a_figure(self) -> None:
        text = self.manifest.read_text()
        assert "[2.5," in text  # what the units have paid on average
        self.manifest.write_text(text.replace("[2.5,", "[3.5,"))

    def take_another_version(self) -> None:
        text = json.dumps({"key": "of a later version", "more": 1})
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.manifest.write_text(f"{digest}\n{text}")

    def erase(self) -> None:
        events = self.store.snapshot("events").delta
        assert events is not None
        events.delete("unit = 1")

    def read(self, watermark: Watermark, spec: Experiment = SPEC) -> Readout:
        with open_engine() as engine:
            return cohort_refresh.read(spec, Cohorts(self.store, engine, self.folder), watermark)

    def check(
        self, watermark: Watermark, spec: Experiment = SPEC, *, within: float = 1e-9
    ) -> Readout:
        """Read, and compare with all facts from scratch."""
        found = self.read(watermark, spec)
        with open_engine() as engine:
            expected = read_out(spec, self.store.tables(engine), watermark, engine=engine)
        assert_same(found, expected, within)
        return found


def assert_same(found: Readout, expected: Readout, within: float) -> None:
    if expected.calls is None:
        assert found.calls is None
        for name in EXACT:
            assert getattr(found, name) == getattr(expected, name), name
        for variant, moments in expected.moments.items():
            assert found.moments[variant].mean == pytest.approx(moments.mean, rel=1e-12)
            assert found.moments[variant].m2 == pytest.approx(moments.m2, rel=1e-9, abs=1e-9)
    else:
        assert_alike(({}, found), ({}, expected), within=within)
    assert (found.strangers, found.first_exposure, found.last_exposure) == (
        expected.strangers, expected.first_exposure, expected.last_exposure,
    )  # fmt: skip


def mark(batch: int, days: float) -> Watermark:
    return Watermark(batch, START + timedelta(days=days))


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def mild(facts: Facts, rng: random.Random) -> None:
    """Leave out what makes all facts be read anew: fortunes, and calls dearer than any before."""
    for row in (*facts.events, *facts.usage_costs):
        for name in ("value", "p_amount_net", "amount"):
            if abs(row.get(name) or 0) > 1000:
                row[name] = Decimal(f"{rng.random() * 100:.2f}")


def delivered(facts: Facts, rng: random.Random) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Spread rows over three batches; first come the last exposure and the dearest call."""
    batches: list[dict[str, list[dict[str, Any]]]] = [
        {"exposures": [], "events": [], "usage_costs": []} for _ in range(3)
    ]
    batches[0]["exposures"].append(exposure(404, "ai", occurred_at=START + 400 * DAY))
    batches[0]["usage_costs"].append(call("99999", unit=404, variant="ai"))
    for name in batches[0]:
        for row in getattr(facts, name):
            rng.choice(batches)[name].append(row)
    yield from batches


@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (1, "mild"),
        *(
            pytest.param(seed, kind, marks=pytest.mark.slow)
            for seed in range(2, 9)
            for kind in ("mild", "any calls", "nasty")
        ),
    ],
)
def test_any_boundaries_of_batches_give_what_all_facts_give(
    tmp_path: Path, seed: int, kind: str
) -> None:
    """Late rows, repeats, second variants, earlier exposures: all of them, in random batches."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    facts = cases.generate(seed, units=60)
    for row in facts.usage_costs:
        row["task"] = row["duration_ms"] = None  # else nothing is kept, for there are shared calls
    if kind != "any calls":
        exposed = [row["unit"] for row in facts.exposures if row["experiment"] == "mail"]
        facts.usage_costs = [
            call(
                f"{rng.random():.12f}",
                unit=rng.choice(exposed),
                variant=None,
                duration_ms=i,
                occurred_at=START + rng.choice([0, 20, -80]) * DAY,
            )
            for i in range(150)
        ]
    for row in facts.exposures:  # few enough days for a file each
        if row["occurred_at"].year == 1960:
            row["occurred_at"] = row["occurred_at"].replace(month=rng.randrange(1, 4), day=1)
    if kind != "nasty":
        mild(facts, rng)
    place = Workspace(tmp_path, cases.PROPERTIES)
    # Of a day with mean 1e9 and deviation 1, in a variant that has zeros too, a full run takes
    # the variance for dust and a refresh may not: that is 1e-9 of the products of the variant.
    within = 1e-8 if kind == "nasty" else 1e-9
    reasons = []
    for batch, rows in enumerate(delivered(facts, rng), start=1):
        place.deliver(batch, **rows)
        found = place.check(mark(batch, 5 + 20 * batch), served(kind), within=within)
        assert found.cohorts is not None
        reasons.append(found.cohorts.reason)
    for days in (80, 120):  # nothing comes any more: time alone makes units mature
        place.check(mark(3, days), served(kind), within=within)
    assert reasons[0] == "first-analysis"
    if kind != "nasty":
        assert None in reasons
        assert set(reasons[1:]) <= {None, "worn-off"}


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


LATE: dict[str, dict[str, list[dict[str, Any]]]] = {
    "second variant": {"exposures": [exposure(1, "control", occurred_at=START + DAY)]},
    "earlier exposure": {"exposures": [exposure(2, "control", occurred_at=START - 2 * DAY)]},
    "earlier exposure in another variant": {
        "exposures": [exposure(5, "control", occurred_at=START - 2 * DAY)]
    },
    "tie": {"exposures": [exposure(7, "control")]},
    "repeat": {"exposures": [exposure(1, "ai")]},
    "stranger": {"exposures": [exposure(1, "retired"), exposure(77, "retired")]},
    "late event": {"events": [purchase(9, "9", days=2), purchase(9, "9", days=2)]},
    "late call": {"usage_costs": [call("3", unit=9, variant="ai")]},
    "call after the window": {
        "usage_costs": [call("3", unit=9, variant="ai", occurred_at=START + days * DAY)
                        for days in (13, 14, 39)],
    },
    "exposure so early that calls come after": {
        "exposures": [exposure(11, "ai", occurred_at=START - 14 * DAY)],
    },
    "shared call": {"usage_costs": [call("3", variant="ai"), call(None, unit=1)]},
    "call of a new unit": {
        "usage_costs": [call("3", unit=50, variant="ai")], "exposures": [exposure(50, "ai")],
    },
    "exposure after its events": {
        "events": [purchase(80, "4", days=1)],
        "exposures": [exposure(81, "ai", occurred_at=START - 30 * DAY)],
    },
    "exposure of early events": {
        "exposures": [exposure(80, "ai"), exposure(82, "ai", occurred_at=START + 38 * DAY)],
    },
    "a fortune refunded": {
        "events": [event(3, "refund", value=Decimal(FORTUNE), currency="EUR", days=2)]
    },
    "a late fortune": {"events": [purchase(1, FORTUNE, days=2)]},
}  # fmt: skip
"""What comes late, by what it is."""


def first_delivery(place: Workspace) -> None:
    place.deliver(
        1,
        exposures=[exposure(unit, ("control", "ai")[unit % 2]) for unit in range(12)]
        + [exposure(60, "ai", occurred_at=START + 2 * DAY)],
        events=[purchase(unit, f"{unit}.5", days=days) for unit in range(12) for days in (-2, 1, 5)]
        + [purchase(3, FORTUNE, days=1)]
        # Of units without an exposure yet: since 33 days, and long before.
        + [purchase(82, "6", days=days) for days in (10, 32, 37)]
        + [purchase(81, "7", days=days) for days in (-32, -29)],
        usage_costs=[
            call("1.25", unit=unit, variant="ai", duration_ms=unit) for unit in (1, 3, 5, 11)
        ]
        + [call("0.5", unit=50, variant="ai")],
    )
    place.check(mark(1, 40))


@pytest.mark.slow
@pytest.mark.parametrize("late", LATE)
def test_what_comes_late_counts_as_if_it_had_come_in_time(place: Workspace, late: str) -> None:
    first_delivery(place)
    place.deliver(2, **LATE[late])
    use = place.check(mark(2, 40)).cohorts
    assert use is not None
    if use.reason == "worn-off":
        assert "fortune" in late
    else:
        assert (use.reason, use.cached >= 12) == (None, True)


def test_all_that_can_come_late_in_three_deliveries(place: Workspace) -> None:
    first_delivery(place)
    deliveries = list(LATE.values())[:-2]
    for batch in (2, 3, 4):
        rows: dict[str, list[dict[str, Any]]] = {}
        for late in deliveries[batch - 2 :: 3]:
            for name, each in late.items():
                rows.setdefault(name, []).extend(each)
        place.deliver(batch, **rows)
        use = place.check(mark(batch, 40)).cohorts
        assert use is not None
        assert use.reason is None


@pytest.mark.parametrize("base", [1000, 10**5, 10**7])
def test_a_variant_that_moves_far_away_keeps_its_digits(place: Workspace, base: int) -> None:
    """All units are taken off at 0 and put back in at values that differ by cents."""
    place.deliver(1, exposures=[exposure(u, ("control", "ai")[u % 2]) for u in range(400)])
    place.check(mark(1, 40))
    place.deliver(
        2,
        events=[purchase(u, f"{base + u % 101 / 100:.2f}") for u in range(400)],
    )
    place.check(mark(2, 40))


def test_a_call_after_the_window_of_a_mature_unit_is_only_counted(place: Workspace) -> None:
    first_delivery(place)
    late = [call("3", unit=9, variant="ai", occurred_at=START + 39 * DAY)]
    place.deliver(2, usage_costs=late)
    after = {row.calls: row for row in place.check(mark(2, 40)).usage if row.charged_to == "after"}
    assert after[1].amount == 3
    place.deliver(3, exposures=[exposure(9, "control", occurred_at=START - 2 * DAY)])
    place.check(mark(3, 40))


def test_maturing_alone_moves_units_into_the_comparison(place: Workspace) -> None:
    place.deliver(
        1,
        exposures=[exposure(u, "ai", occurred_at=START + (u % 7) * DAY) for u in range(30)],
        events=[purchase(unit, "2.5", days=8) for unit in range(30)],
    )
    for days in (29, 31.5, 34):  # windows of 28 days, and two for what is late
        found = place.check(mark(1, days))
    assert (found.cohorts, found.counts[1].mature) == (CohortUse(30, 0, None), 22)


def test_an_exposure_that_came_to_be_earlier_matures_once(place: Workspace) -> None:
    """What was first kept of the unit is mature ten days after what is true of it."""
    place.deliver(
        1,
        exposures=[
            exposure(99, "ai", occurred_at=START + 21 * DAY),
            *(
                exposure(unit, ("control", "ai")[unit % 2], occurred_at=START + 20 * DAY)
                for unit in range(12)
            ),
        ],
        events=[purchase(unit, f"{unit}.5", days=21) for unit in range(12)],
    )
    place.read(mark(1, 35))
    place.deliver(2, exposures=[exposure(3, "control", occurred_at=START + 10 * DAY)])
    place.read(mark(2, 36))
    place.check(mark(2, 45))
    found = place.check(mark(2, 65))
    assert (found.cohorts, found.count("ai").mature) == (CohortUse(13, 0, None), 6)


def test_sums_of_many_files_may_be_wider_than_each(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eighteen digits, twelve of them decimals, are all that a million leaves."""
    monkeypatch.setattr(cohort_refresh, "MOST_FILES", 1)
    place.deliver(
        1, exposures=[exposure(1, "ai"), exposure(2, "ai")], events=[purchase(1, "800000", days=1)]
    )
    place.read(mark(1, 5))
    for batch in (2, 3):
        place.deliver(batch, events=[purchase(1, "150000", days=batch)])
        found = place.read(mark(batch, 5 + batch))
        assert found.cohorts == CohortUse(2, 0, None)
    place.check(mark(3, 40))


def test_rows_of_a_batch_that_was_read_already_are_not_overlooked(place: Workspace) -> None:
    """A writer that stalled beyond its lease may add to the batch before the last."""
    place.deliver(1, exposures=[exposure(1, "ai")], events=[purchase(1, "1")])
    place.deliver(3, exposures=[exposure(2, "ai")])
    place.read(mark(3, 40))
    place.deliver(2, events=[purchase(1, "5")])
    assert place.check(mark(3, 40)).cohorts == CohortUse(0, 2, "facts-rewritten")


def test_compaction_between_changes_nothing(place: Workspace) -> None:
    def facts(unit: int) -> dict[str, list[dict[str, Any]]]:
        return {
            "exposures": [exposure(unit, "ai")],
            "events": [purchase(unit, "1.5")],
            "usage_costs": [call("0.5", unit=unit)],
        }

    for batch in (1, 2):
        place.deliver(batch, **facts(batch))
        place.read(mark(batch, 40))
    place.deliver(3, **facts(3))
    for table in cohorts.TABLES:
        for day in sizes(place.store.snapshot(table)):
            rewrite(place.store, table, day, fence=1, read=place.store.snapshot(table))
    found = place.check(mark(3, 40))
    assert found.cohorts == CohortUse(2, 1, None)
    assert found.counts[1].exposed == 3


def test_many_files_become_one(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is old or of exposed units is left out of early events; the others stay."""
    monkeypatch.setattr(cohort_refresh, "MOST_FILES", 1)
    for batch in range(1, 5):
        at = START + 20 * batch * DAY
        place.deliver(
            batch,
            exposures=[exposure(batch, "ai", occurred_at=at), exposure(1, "ai")],
            events=[
                purchase(1, "1.5", days=batch),
                purchase(batch + 1, "2.5", days=20 * batch + 18),
                purchase(100, "3.5", days=20 * batch + 19),
            ],
            usage_costs=[call("0.5", unit=1)],
        )
        place.read(mark(batch, 20 * batch + 20))
    place.deliver(
        5,
        exposures=[exposure(100, "ai", occurred_at=START + 100 * DAY)],
        events=[purchase(100, "9", days=101)],
    )
    found = place.check(mark(5, 140))
    assert found.cohorts == CohortUse(4, 1, None)
    assert max(len(place.document[name]) for name in cohorts.FILES) == 1


def test_what_is_refused_leaves_no_file(place: Workspace) -> None:
    """It is written before the sums are known."""
    first_delivery(place)
    known = place.manifest.read_text()
    place.deliver(2, **LATE["a late fortune"], **LATE["call of a new unit"])
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(cohort_refresh, "_refusals", lambda _: ["too-many-values"])
        found = place.check(mark(2, 41))
    assert found.cohorts == CohortUse(0, 14, "too-many-values")
    assert place.manifest.read_text() == known
    place.deliver(3, usage_costs=[call("1", variant="ai", duration_ms=5) for _ in range(60)])
    assert place.check(mark(3, 41)).cohorts == CohortUse(0, 14, "calls-without-unit")
    files = {file.name for file in place.folder.glob("mail/*.parquet")}
    assert files == {name for kind in cohorts.FILES for name in place.document[kind]}


def test_what_does_not_match_is_not_used(place: Workspace) -> None:
    place.deliver(1, exposures=[exposure(1, "ai"), exposure(2, "ai")], events=[purchase(1, "2"),
                  purchase(2, "3")])  # fmt: skip
    place.read(mark(1, 40))
    changes: list[tuple[Callable[[], object], str]] = [
        (place.manifest.unlink, "first-analysis"),
        (lambda: place.manifest.write_text("{"), "unreadable"),
        (place.change_a_figure, "unreadable"),
        (place.take_another_version, "changed"),
        (place.lose_a_file, "unreadable"),
        (lambda: place.kept("*.parquet").write_bytes(b"x"), "unreadable"),
        (place.damage_files, "unreadable"),
        (place.erase, "facts-rewritten"),
    ]
    for change, reason in changes:
        for file in place.folder.glob("mail/*.parquet"):
            if file.name not in place.manifest.read_text():
                file.unlink()
        change()
        assert place.read(mark(1, 40)).cohorts == CohortUse(0, 2, reason)
    place.check(mark(1, 40))


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
        found = place.read(watermark, spec)
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


@pytest.mark.parametrize("seed", ["1", pytest.param("2", marks=pytest.mark.slow)])
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
    before = cohorts.force
    def sync(path):
        die()
        before(path)
        die()
    cohorts.force = sync
    place = here.Workspace(Path(sys.argv[1]))
    place.read(here.mark(2, 41))
"""


@pytest.mark.parametrize(
    "step", [1, *(pytest.param(step, marks=pytest.mark.slow) for step in range(2, 13))]
)
def test_killed_while_publishing_leaves_the_old_or_the_new(
    place: Workspace, tmp_path: Path, step: int
) -> None:
    place.deliver(1, exposures=[exposure(1, "ai")], events=[purchase(1, "2")])
    place.check(mark(1, 40))
    place.deliver(
        2,
        exposures=[exposure(2, "ai"), exposure(3, "retired")],
        events=[purchase(1, "3"), purchase(2, "4"), purchase(4, "5", days=39)],
    )  # something for a file of each kind
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(step)], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    found = place.check(mark(2, 41))
    assert found.cohorts is not None
    assert found.cohorts.reason is None
    assert found.cohorts.cached == (1 if step < 11 else 2)  # the manifest is renamed after 10
