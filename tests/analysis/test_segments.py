"""Segments: levels by hand, and moments against plain Python on nasty facts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

from klartext.analysis.columns import value_columns
from klartext.analysis.moments import Moments
from klartext.analysis.segments import MAX_LEVELS, Level, Segment
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment
from tests.analysis import nasty
from tests.analysis.samples import (
    DAY,
    START,
    WATERMARK,
    Tables,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)

SPEC = experiment(segments=("country",))
MISSING, OTHER = Level("missing"), Level("other")


def value(text: str) -> Level:
    return Level("value", text)


def seen(unit: int, variant: str, country: str | None, **given: Any) -> dict[str, Any]:
    return exposure(unit, variant, p_country=country, **given)


def units_of(facts: Tables, spec: Experiment = SPEC) -> dict[Level, dict[str, int]]:
    (segment,) = read(spec, facts).segments
    return {found.level: dict(found.units) for found in segment.levels}


def test_the_first_exposure_decides_and_what_comes_later_never_matters() -> None:
    facts = tables(
        [
            seen(1, "ai", "DE"), seen(1, "ai", "FR", occurred_at=START + DAY),
            seen(2, "control", None), seen(2, "control", "DE", occurred_at=START + DAY),
            seen(3, "ai", "DE", occurred_at=START + DAY), seen(3, "ai", "AT"),
            # The same instant: what is said counts, what is contradicted does not.
            seen(4, "ai", None), seen(4, "ai", "AT"),
            seen(5, "control", "DE"), seen(5, "control", "AT"),
            # In two variants at one instant: control comes first in the spec, so its value does.
            seen(6, "ai", "DE"), seen(6, "control", "FR"),
            seen(7, "ai", "DE", occurred_at=START - DAY, ingest_batch=99), seen(7, "ai", "FR"),
            seen(8, "ai", "DE", occurred_at=START - DAY, experiment="other"), seen(8, "ai", ""),
        ]
    )  # fmt: skip
    assert units_of(facts) == {
        value("AT"): {"control": 0, "ai": 2},
        value("FR"): {"control": 1, "ai": 1},
        value("DE"): {"control": 0, "ai": 1},
        value(""): {"control": 0, "ai": 1},
        MISSING: {"control": 2, "ai": 0},
    }


def test_the_moments_of_the_levels_add_up_to_those_of_all() -> None:
    rng = np.random.default_rng(3)
    countries = [None, "DE", "AT", "FR"]
    exposures = [
        seen(unit, "ai" if rng.random() < 0.4 else "control", countries[rng.integers(4)])
        for unit in range(400)
    ]
    events = [
        purchase(int(u), f"{1e6 + rng.exponential(30):.6f}") for u in rng.integers(0, 400, 300)
    ]
    found = read(SPEC, tables(exposures, events))
    (segment,) = found.segments
    assert len(segment.levels) == 4
    for variant, whole in found.moments.items():
        total = reduce(add, (level.moments[variant] for level in segment.levels))
        assert total.n == whole.n
        assert (total.nonzero == whole.nonzero).all()
        scale = np.sqrt(np.diag(whole.m2)) + 1e-300
        np.testing.assert_allclose(total.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(total.m2, whole.m2, atol=1e-9 * np.outer(scale, scale).max())
        np.testing.assert_allclose(total.m3, whole.m3, atol=1e-8 * scale.max() ** 3)


def test_values_beyond_the_limit_are_one_level_and_ties_at_the_limit_are_beyond() -> None:
    exposures, unit = [], 0
    sizes = {f"c{i}": 20 - i for i in range(9)} | {"tie-a": 3, "tie-b": 3, "rare": 1}
    for country, size in sizes.items():
        for _ in range(size):
            unit += 1
            exposures.append(seen(unit, "ai" if unit % 2 else "control", country))
    found = units_of(tables(exposures))
    assert [level.value for level in found if level.kind == "value"] == [f"c{i}" for i in range(9)]
    assert sum(found[OTHER].values()) == 3 + 3 + 1
    exactly = [row for row in exposures if row["p_country"] not in {"tie-b", "rare"}]
    found = units_of(tables(exactly))
    assert len(found) == MAX_LEVELS
    assert OTHER not in found


def test_a_level_of_the_audience_stays_there_without_units() -> None:
    spec = replace(SPEC, audience={"country": ("AT", "DE")})
    found = units_of(tables([seen(1, "ai", "DE"), seen(2, "ai", "NO")]), spec)
    assert found == {
        value("AT"): {"control": 0, "ai": 0},
        value("DE"): {"control": 0, "ai": 1},
        value("NO"): {"control": 0, "ai": 1},
    }


HOSTILE = nasty.COUNTRIES[5:]


def test_hostile_values_are_values_like_others() -> None:
    exposures = [seen(i, "ai", text) for i, text in enumerate(HOSTILE)]
    found = units_of(tables(exposures))
    assert {level.value for level in found} == set(HOSTILE)
    assert all(units["ai"] == 1 for units in found.values())


def test_numbers_and_flags_are_spelt_in_one_way() -> None:
    rows = [
        exposure(1, "ai", p_new=True, p_items=-3),
        exposure(2, "ai", p_new=False, p_items=10**18),
        exposure(3, "ai"),
    ]
    spec = experiment(segments=("new", "items"))
    new, items = read(spec, tables(rows)).segments
    assert [level.level for level in new.levels] == [value("false"), value("true"), MISSING]
    assert [level.level for level in items.levels] == [
        value("-3"), value("1000000000000000000"), MISSING,
    ]  # fmt: skip


def test_an_undeclared_property_is_named() -> None:
    with pytest.raises(KlartextError, match="'colour', which"):
        read(experiment(segments=("colour",)), tables([exposure(1, "ai")]))


def test_with_an_exposure_event_the_value_is_that_of_the_first_exposure() -> None:
    spec = replace(SPEC, exposure_event="mail_sent")
    rows = [
        seen(1, "ai", "DE"), seen(1, "ai", "FR", occurred_at=START + 2 * DAY),
        seen(2, "ai", "AT"),
    ]  # fmt: skip
    facts = tables(rows, [event(1, "mail_sent", days=2)])
    assert units_of(facts, spec) == {value("DE"): {"control": 0, "ai": 1}}


def independent(facts: nasty.Facts, rows: dict[int, Any]) -> dict[int, str | None]:
    """The country of every unit at its first exposure, by plain Python."""
    said = defaultdict(set)
    order = [variant.key for variant in nasty.spec().variants]
    first: dict[int, Any] = {}
    known = [
        row
        for row in facts.exposures
        if row["experiment"] == "mail"
        and row["variant"] in order
        and row.get("ingest_batch", 1) <= WATERMARK.batch
    ]
    for row in known:
        at = (row["occurred_at"], order.index(row["variant"]))
        first[row["unit"]] = min(at, first.get(row["unit"], at))
    for row in known:
        at = (row["occurred_at"], order.index(row["variant"]))
        if at == first[row["unit"]] and row["p_country"] is not None:
            said[row["unit"]].add(row["p_country"])
    return {unit: next(iter(said[unit])) if len(said[unit]) == 1 else None for unit in rows}


def assert_moments_are_those(
    spec: Experiment, segment: Segment, rows: dict[int, Any], country: dict[int, str | None]
) -> None:
    names = value_columns(spec)
    counted = Counter(country.values())
    for found in segment.levels:
        own = {level.level.value for level in segment.levels if level.level.kind == "value"}
        texts: set[str | None]
        match found.level.kind:
            case "value":
                texts = {found.level.value}
            case "missing":
                texts = {None}
            case _:
                texts = set(counted) - own - {None}
        assert sum(found.units.values()) == sum(counted[text] for text in texts)
        for variant, moments in found.moments.items():
            kept = [
                [row[name] for name in names]
                for unit, row in sorted(rows.items())
                if country[unit] in texts and row["variant"] == variant
                and row["mature"] and not row["excluded"]
            ]  # fmt: skip
            expected = Moments.of(names, np.array(kept).reshape(-1, len(names)))
            assert moments.n == expected.n
            bound = 1e-9 * np.diag(expected.m2).max() if kept else 0.0
            error = 1e-9 * np.sqrt(np.diag(expected.m2) / max(expected.n, 1))
            last = 2 * np.spacing(np.abs(expected.mean))  # of a constant, too, which has no error
            assert np.all(np.abs(moments.mean - expected.mean) <= error + last + 1e-12)
            np.testing.assert_allclose(
                np.diag(moments.m2), np.diag(expected.m2), rtol=1e-6, atol=bound
            )


def test_moments_agree_with_plain_python_on_nasty_facts() -> None:
    facts = nasty.generate(11, units=500)
    spec = replace(nasty.spec(), segments=("country",))
    made = tables(facts.exposures, facts.events, facts.usage_costs)
    rows = unit_rows(spec, made)
    (segment,) = read(spec, made).segments
    assert {level.level.kind for level in segment.levels} == {"value", "missing", "other"}
    assert_moments_are_those(spec, segment, rows, independent(facts, rows))
