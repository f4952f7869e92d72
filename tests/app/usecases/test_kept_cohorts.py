"""What analyses keep: taken when asked where it pays, swept when unused."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from klartext.analysis import cohorts
from klartext.analysis.document import to_json
from klartext.analysis.result import CohortUse
from klartext.app.usecases import analysis, assumptions, facts, ledger
from klartext.experiments import batches
from klartext.experiments.batches import BatchKind, Source
from klartext.experiments.money import Money
from tests.app.mails import DAY, START, Shop

MATURE = START + 40 * DAY


def document(manifest: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(manifest.read_text().partition("\n")[2])
    return found


def test_a_second_analysis_takes_what_the_first_one_kept(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.begin()
    shop.deliver(200, lift=0.1, until=MATURE)
    few = analysis.analyze(shop.session, "mail", kept=True)
    assert few.cohorts == CohortUse(0, 200, "few-facts")
    monkeypatch.setattr(cohorts, "WORTHWHILE", 0)
    first = analysis.analyze(shop.session, "mail", kept=True)
    second = analysis.analyze(shop.session, "mail", kept=True)
    fresh = analysis.analyze(shop.session, "mail")
    assert first.cohorts == CohortUse(0, 200, "first-analysis")
    assert second.cohorts == CohortUse(200, 0, None)
    assert fresh.cohorts is None
    assert to_json(few) == to_json(first) == to_json(second) == to_json(fresh)

    manifest = shop.session.cohorts / "mail" / cohorts.MANIFEST
    left = manifest.with_name("left.parquet")
    left.write_bytes(b"of a killed analysis")
    old = (shop.session.now() - timedelta(days=30)).timestamp()
    for file in manifest.parent.iterdir():
        os.utime(file, (old, old))
    now = shop.session.now().timestamp()
    os.utime(manifest, (now, now))
    facts.maintain(shop.session)
    assert not left.exists()
    assert analysis.analyze(shop.session, "mail", kept=True).cohorts == CohortUse(200, 0, None)
    for file in manifest.parent.iterdir():
        os.utime(file, (old, old))
    facts.maintain(shop.session)
    assert list(manifest.parent.iterdir()) == []

    manifest.write_bytes(b"\xff")
    assert analysis.analyze(shop.session, "mail", kept=True).cohorts == CohortUse(
        0, 200, "unreadable"
    )
    manifest.write_bytes(b"\xff")
    for file in manifest.parent.glob("*.parquet"):
        os.utime(file, (old, old))
    facts.maintain(shop.session)
    assert list(manifest.parent.iterdir()) == [manifest]
    manifest.unlink()

    left.write_bytes(b"of an analysis that was killed before any was kept")
    os.utime(left, (old, old))
    facts.maintain(shop.session)

    manifest.parent.rmdir()
    manifest.parent.write_bytes(b"in the way")
    use = analysis.analyze(shop.session, "mail", kept=True).cohorts
    assert use is not None
    assert (use.built, use.reason) == (200, "failed")
    assert use.detail is not None
    assert "File exists" in use.detail or "Not a directory" in use.detail


def test_other_assumptions_instants_and_bills_read_all_and_leave_what_is_kept(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "WORTHWHILE", 0)
    shop.begin()
    shop.deliver(200, lift=0.1, until=MATURE)
    analysis.analyze(shop.session, "mail", kept=True)
    manifest = shop.session.cohorts / "mail" / cohorts.MANIFEST
    key = document(manifest)["key"]
    tried = assumptions.what_if(
        shop.session, "mail", ["value.revenue.contribution_margin=30%"], kept=True
    )
    assert tried.assumed.cohorts is None
    assert tried.registered.cohorts == CohortUse(200, 0, None)
    assert document(manifest)["key"] == key
    before = manifest.stat()
    then = analysis.analyze(shop.session, "mail", as_of=shop.session.now(), kept=True)
    assert then.cohorts == CohortUse(0, 200, "as-of")
    bill = ledger.Entry(
        category="model_fees",
        amount=Money(Decimal(30), "EUR"),
        start=START,
        end=START + 30 * DAY,
        behaviour="per_event",
        experiment="mail",
        variant="ai",
        provider="anthropic",
        status="invoiced",
    )
    ledger.add(shop.session, bill, actor="lena.vogt")
    assert analysis.analyze(shop.session, "mail", kept=True).cohorts == CohortUse(0, 200, "bills")
    assert (manifest.stat().st_ino, manifest.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )


def test_an_import_that_goes_on_below_a_bill_is_not_taken_as_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bill needs no lease of the facts: its batch ends above one that still adds rows."""
    monkeypatch.setattr(cohorts, "WORTHWHILE", 0)
    shop.begin()
    shop.deliver(200, lift=0.1, until=MATURE)
    analysis.analyze(shop.session, "mail", kept=True)

    def opened(kind: BatchKind) -> int:
        source = Source(kind, kind, "", "", kind, "received")
        with shop.session.engine.begin() as connection:
            return batches.open_batch(connection, source, now=shop.session.now())

    def ended(batch: int) -> None:
        with shop.session.engine.begin() as connection:
            batches.finish(connection, batch, complete_until=None, now=shop.session.now())

    events, bill = opened("events"), opened("ledger")
    ended(bill)
    meanwhile = analysis.analyze(shop.session, "mail", kept=True)
    assert (meanwhile.watermark.batch < events, meanwhile.cohorts) == (
        True,
        CohortUse(200, 0, None),
    )
    ended(events)
    found = analysis.analyze(shop.session, "mail", kept=True)
    assert (found.watermark.batch, found.cohorts) == (events, CohortUse(200, 0, None))
