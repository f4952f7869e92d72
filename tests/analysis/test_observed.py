"""Quantile metrics: the engine's reduction of events equals that of the rows themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from klartext.analysis import observed
from klartext.analysis.engine import open_engine, rows_of
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.quantiles import Observations
from klartext.analysis.reading import read_out
from klartext.analysis.unit_table import build
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment, Filter, Metric
from tests.analysis import nasty
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    START,
    WATERMARK,
    event,
    experiment,
    exposure,
    read,
    tables,
)

WAIT = Metric("wait", "quantile", "reply", "value", 2 * DAY, "decrease", delay=DAY,
              quantile=Decimal("0.5"))  # fmt: skip
VALUES = replace(WAIT, value="value", delay=timedelta(0))


def spec(metric: Metric) -> Experiment:
    return experiment(metrics=(CONVERSION, metric), value=())


def observations(metric: Metric, events: list[dict[str, object]]) -> dict[str, Observations]:
    units = [exposure(1, "ai"), exposure(2, "ai"), exposure(3, "control"),
             exposure(4, "ai"), exposure(4, "control", occurred_at=START + DAY),
             exposure(5, "ai", occurred_at=START + 58 * DAY)]  # fmt: skip
    found = read(spec(metric), tables(units, events)).observations["wait"]
    assert isinstance(found, dict)
    return found


def test_by_hand() -> None:
    found = observations(
        VALUES,
        [
            event(1, "reply", days=0, value=Decimal(3)),
            event(1, "reply", days=1, value=Decimal(1)),
            event(1, "reply", days=1.5, value=Decimal(3)),
            event(2, "reply", days=1.9, value=Decimal(2)),
            event(2, "reply", days=2, value=Decimal(9)),  # the window is over
            event(2, "reply", days=-0.1, value=Decimal(9)),  # before exposure
            event(2, "other", days=1, value=Decimal(9)),
            event(2, "reply", days=1, value=None),
            event(2, "reply", days=1, value=Decimal(9), currency="USD"),
            event(3, "reply", days=1, value=Decimal(9), ingest_batch=99),
            event(4, "reply", days=1, value=Decimal(9)),  # seen in two variants
            event(5, "reply", days=1, value=Decimal(9)),  # not mature
            event(6, "reply", days=1, value=Decimal(9)),  # never exposed
        ],
    )
    one = found["ai"]
    assert one.values.tolist() == [1, 2, 3]
    assert one.counts.tolist() == [1, 1, 2]
    assert one.earlier.tolist() == [0, 0, 1 + 2]
    assert one.sizes.tolist() == [3, 1, 6]
    assert one.n == 2
    assert (found["control"].n, found["control"].total) == (0, 0)


def test_the_filters_of_the_metric_hold() -> None:
    filtered = replace(VALUES, filters=(Filter("country", "text", "in", ("DE",)),))
    replies = [
        event(1, "reply", days=1, value=Decimal(3), p_country="DE"),
        event(1, "reply", days=1, value=Decimal(4), p_country="FR"),
        event(1, "reply", days=1, value=Decimal(5)),
    ]
    assert observations(filtered, replies)["ai"].values.tolist() == [3]
    with pytest.raises(KlartextError, match="does not declare"):
        observations(replace(VALUES, value="nowhere"), replies)


def test_nasty_events_equal_their_rows(tmp_path: Path) -> None:
    facts, plan = nasty.generate(77, units=1_500), nasty.spec()
    facts.aliases.clear()  # every row is of the unit it names
    store = facts.deliver(tmp_path)
    with open_engine() as engine:
        found_tables = store.tables(engine)
        units = rows_of(engine, build(plan, found_tables, WATERMARK))
        found = read_out(plan, found_tables, WATERMARK, engine=engine).observations["typical"]
    assert not isinstance(found, NotEstimable)
    known = {row["unit"]: row for row in units if row["mature"] and not row["excluded"]}
    rows: dict[str, list[tuple[float, int]]] = {key: [] for key in found}
    for row in facts.events:
        who = known.get(row["unit"])
        if who is None or row["name"] != "purchase" or row.get("ingest_batch", 1) > WATERMARK.batch:
            continue
        after = row["occurred_at"] - who["exposed_at"]
        if row["value"] is None or row["currency"] == "USD":
            continue
        if timedelta(0) <= after < nasty.WINDOW:
            rows[who["variant"]].append((float(row["value"]), row["unit"]))
    assert len(rows["ai"]) > 100
    for key, pairs in rows.items():
        expected = Observations.of(
            np.array([value for value, _ in pairs]), np.array([unit for _, unit in pairs])
        )
        for name in ("values", "counts", "earlier", "sizes", "n"):
            one, other = getattr(found[key], name), getattr(expected, name)
            assert np.array_equal(one, other), (key, name)


def test_too_many_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "MAXIMUM", 1)
    replies = [event(1, "reply", value=Decimal(value)) for value in (1, 1, 2)]
    found = read(spec(VALUES), tables([exposure(1, "ai")], replies)).observations["wait"]
    assert isinstance(found, NotEstimable)
    assert found.reason == "too-many-values"
