"""Watching: one look a day, acted upon, and nobody's mistake stops the round."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from klartext.analysis.engine import EngineError
from klartext.app.session import Session
from klartext.app.usecases import analysis, facts, registry
from klartext.app.usecases.watch import watch
from klartext.experiments import audit
from klartext.experiments.state import reading
from klartext.experiments.tables import looks, outbox
from tests.app.mails import DAY, START, Shop


def test_one_look_a_day(shop: Shop) -> None:
    shop.begin()
    (nothing,) = watch(shop.session, actor="scheduler")
    assert nothing.look is None
    assert "has no facts yet" in (nothing.reason or "")
    shop.deliver(600, lift=0.0, until=START + 25 * DAY)
    (first,) = watch(shop.session, actor="scheduler")
    assert (first.look, first.verdict, first.status) == (1, "CONTINUE", "running")
    shop.instant += DAY / 24
    (again,) = watch(shop.session, actor="scheduler")
    assert (again.look, again.reason) == (None, "look 1 was taken today")
    shop.instant += DAY
    (next_day,) = watch(shop.session, actor="scheduler")
    assert next_day.look == 2
    with reading(shop.session.engine) as connection:
        assert connection.execute(sa.select(looks.c.actor)).scalars().all() == ["scheduler"] * 2


def test_a_decision_ends_the_watch(shop: Shop) -> None:
    shop.begin()
    shop.deliver(3000, lift=0.15, until=START + 40 * DAY)
    (found,) = watch(shop.session, actor="scheduler")
    assert (found.verdict, found.status) == ("GO", "decided")
    assert watch(shop.session, actor="scheduler") == ()


def test_data_that_cannot_be_trusted_pause_the_test(shop: Shop) -> None:
    shop.begin()
    shop.deliver(3000, lift=0.15, until=START + 40 * DAY)
    table = shop.root / "units-1.csv"  # three units of the treatment for each of the control
    rows = table.read_text().splitlines()
    kept = [row for i, row in enumerate(rows[1:]) if ",ai," in row or i % 6 == 0]
    table.write_text("\n".join([rows[0], *(row.replace("c1-", "d1-") for row in kept)]) + "\n")

    facts.ingest(shop.session, table, shop.root / "mapping-1.yaml")
    (found,) = watch(shop.session, actor="scheduler")
    assert (found.verdict, found.status) == ("INVALID", "paused")
    with reading(shop.session.engine) as connection:
        told = json.loads(connection.execute(sa.select(outbox.c.payload)).scalar_one())
        assert [entry.action for entry in audit.entries(connection, "mail")][-2:] == [
            "look",
            "pause",
        ]
    assert (told["verdict"], told["status"]) == ("INVALID", "paused")


def test_an_experiment_that_cannot_be_read_keeps_no_other_from_being_watched(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.begin()
    other = shop.root / "experiments" / "other.yaml"
    other.write_text(shop.spec().replace("key: mail", "key: other"))
    registry.apply(shop.session, [other], actor="lena.vogt")
    registry.move(shop.session, "other", "running", actor="lena.vogt")
    shop.deliver(600, lift=0.0, until=START + 25 * DAY)
    taken = analysis.decide

    def decide(session: Session, key: str, *, actor: str, kept: bool) -> analysis.Taken:
        if key == "mail":
            raise EngineError("out of memory")
        return taken(session, key, actor=actor, kept=kept)

    monkeypatch.setattr(analysis, "decide", decide)
    found = {one.experiment: one for one in watch(shop.session, actor="scheduler")}
    assert (found["mail"].look, found["mail"].reason) == (None, "out of memory")
    assert found["other"].look == 1
