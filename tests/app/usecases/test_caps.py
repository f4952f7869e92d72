"""Percentile caps over a whole test: who freezes them, and that nothing moves them."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pytest
import sqlalchemy as sa

from klartext.analysis.estimate import Estimate
from klartext.analysis.result import Analysis
from klartext.app.usecases import analysis, facts, registry
from klartext.experiments import audit, caps
from klartext.experiments.errors import ConflictError
from klartext.experiments.state import reading
from klartext.experiments.tables import metric_caps
from tests.app.mails import DAY, START, Shop

CAP = "event: revenue}"
PERCENTILE = "event: revenue, cap: p95}"  # asks for 200 buyers
HISTORY = """\
schema: klartext/mapping/v1
kind: events
id: row_content
unit: customer
time: at
event: name
value: {column: amount, as: money}
currency: EUR
complete_until: "UNTIL"
"""


@pytest.fixture(autouse=True)
def capped(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Shop.spec

    def spec(**changes: str) -> str:
        return plain(**changes).replace(CAP, PERCENTILE)

    monkeypatch.setattr(Shop, "spec", staticmethod(spec))


def checks(found: Analysis) -> dict[str, float | None]:
    return {check.code: check.value for check in found.checks if check.code.startswith("cap_")}


def rows(shop: Shop) -> list[sa.Row[tuple[object, ...]]]:
    with reading(shop.session.engine) as connection:
        return list(connection.execute(sa.select(metric_caps)))


def top(found: Analysis) -> float:
    (result,) = [one for one in found.metrics if one.metric == "revenue"]
    assert isinstance(result.mean, float)
    return result.mean


def test_a_look_freezes_what_reading_only_shows(shop: Shop) -> None:
    shop.begin()
    shop.deliver(1600, lift=0.02, until=START + 40 * DAY)
    shown = analysis.analyze(shop.session, "mail")
    (value,) = checks(shown).values()
    assert list(checks(shown)) == ["cap_provisional"]
    assert rows(shop) == []
    (result,) = [one for one in shown.metrics if one.metric == "revenue"]
    estimates = dict(result.estimates)
    assert isinstance(estimates["uncapped"], Estimate)
    (_, first) = result.estimates[0]
    assert isinstance(first, Estimate)
    assert estimates["uncapped"].value != first.value
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    (row,) = rows(shop)
    assert (row.metric, row.source, float(row.value)) == ("revenue", "burn_in", value)
    assert row.sha256 == sha256(row.evidence.encode()).hexdigest()
    evidence = json.loads(row.evidence)
    assert (evidence["units"], evidence["value"]) == (row.units, str(row.value))
    with reading(shop.session.engine) as connection:
        entries = audit.entries(connection, "mail")
        assert audit.verify(connection) is None
    frozen = next(entry for entry in entries if entry.action == "freeze-cap")
    assert frozen.detail["evidence_sha256"] == row.sha256
    assert checks(taken.analysis) == {"cap_frozen": value}  # it says what it did, not what it will
    assert top(taken.analysis) == pytest.approx(top(shown), rel=1e-12)
    # many more units with far larger baskets: the cap stays, and so do its name and hash
    if taken.registered.status == "running":
        shop.deliver(1600, lift=0.02, until=START + 41 * DAY, seed=2)
    later = analysis.analyze(shop.session, "mail")
    assert checks(later) == {"cap_frozen": value}
    assert rows(shop) == [row]
    assert float(analysis.units(shop.session, "mail").revenue.max().to_pyarrow().as_py()) == value


def test_too_few_units_cap_nothing_and_hold_a_go_back(shop: Shop) -> None:
    # a clear gain, but 180 or so buyers
    shop.begin(cost="0.01", rule=", min_duration: 0d")
    shop.deliver(360, lift=0.6, until=START + 40 * DAY, seed=5)
    found = analysis.analyze(shop.session, "mail")
    assert checks(found) == {"cap_pending": None}
    (reason,) = [
        one for one in found.treatments[0].decision.reasons if one.code == "uncapped_net_benefit"
    ]
    assert reason.met is False
    assert found.decision.verdict != "GO"
    analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert rows(shop) == []


def history(shop: Shop, buyers: int) -> None:
    rng = np.random.default_rng(3)
    until = START - DAY
    lines = ["customer,at,name,amount"]
    for unit in range(buyers):
        at = (until - (1 + unit % 10) * DAY).isoformat()
        lines.append(f"old-{unit},{at},revenue,{rng.exponential(40) + 0.01:.2f}")
    table, mapping = shop.root / "history.csv", shop.root / "history.yaml"
    table.write_text("\n".join(lines) + "\n")
    mapping.write_text(HISTORY.replace("UNTIL", until.isoformat()))
    facts.ingest(shop.session, table, mapping)


def test_the_start_freezes_what_the_time_before_it_says(shop: Shop) -> None:
    history(shop, 400)
    shop.begin()
    (row,) = rows(shop)
    amounts = sorted(np.round(np.random.default_rng(3).exponential(40, 400) + 0.01, 2))
    assert (row.source, row.units) == ("pre_period", 400)
    assert float(row.value) == pytest.approx(amounts[379])
    shop.deliver(800, lift=0.05, until=START + 40 * DAY)
    assert checks(analysis.analyze(shop.session, "mail")) == {"cap_frozen": float(row.value)}
    registry.move(shop.session, "mail", "paused", actor="lena.vogt", reason="a holiday")
    registry.move(shop.session, "mail", "running", actor="lena.vogt")
    assert rows(shop) == [row]


def test_the_start_leaves_it_to_a_look_when_there_is_too_little(shop: Shop) -> None:
    history(shop, 150)
    shop.begin()
    assert rows(shop) == []


def test_a_cap_is_frozen_once(shop: Shop) -> None:
    history(shop, 400)
    shop.begin()
    with reading(shop.session.engine) as connection:
        (cap,) = caps.frozen(connection, "mail").values()
    again = caps.PercentileCap(**{
        name: getattr(cap, name) for name in cap.__slots__ if name != "frozen_at"
    })  # fmt: skip
    with (
        shop.session.engine.begin() as connection,
        pytest.raises(ConflictError, match="was frozen meanwhile"),
    ):
        caps.freeze(connection, "mail", [again], actor="x", now=START)
