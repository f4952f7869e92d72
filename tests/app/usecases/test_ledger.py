"""The ledger in the analysis: what a report says of the past, and what a look keeps."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from klartext.analysis.document import to_json
from klartext.app.usecases import analysis, ledger, reports, shared_cost
from klartext.experiments.errors import KlartextError, NotReadyError
from klartext.experiments.money import Money
from klartext.experiments.tables import looks
from tests.app.mails import DAY, START, Shop

HOUR = timedelta(hours=1)


def entry(amount: str, **more: Any) -> ledger.Entry:
    stated: dict[str, Any] = {
        "category": "engineering",
        "amount": Money(Decimal(amount), "EUR"),
        "start": START,
        "end": START + 30 * DAY,
        "behaviour": "one_off",
        "experiment": "mail",
        "variant": "ai",
    }
    return ledger.Entry(**(stated | more))


def document(found: Any) -> Any:
    return json.loads(json.dumps(to_json(found)))


def figures(found: Any) -> Any:
    """Everything but from what it was read, which an instant changes."""
    return {name: value for name, value in document(found).items() if name != "cohorts"}


def test_an_accrual_and_its_late_invoice_make_two_reports(shop: Shop) -> None:
    """Accrued with 1,000, billed a month later with 1,180: each report stays as it was.

    The invoice does not repeat whose cost it is: it comes in the place of a line that says so.
    """
    shop.begin()
    shop.deliver(400, lift=0.1, until=START + 40 * DAY)
    plain = analysis.analyze(shop.session, "mail")
    shop.instant += HOUR
    accrued = ledger.add(shop.session, entry("1000", status="accrued"), actor="lena.vogt")
    before = shop.instant
    first = figures(analysis.analyze(shop.session, "mail"))
    shop.instant += 30 * DAY
    bill = entry(
        "1180", status="invoiced", supersedes=accrued.number, experiment=None, variant=None
    )
    invoiced = ledger.add(shop.session, bill, actor="lena.vogt")
    assert (invoiced.line.experiment, invoiced.line.variant) == ("mail", "ai")
    shop.deliver(100, lift=0.1, until=shop.instant + DAY, seed=2)  # late facts change nothing

    (cost,) = [one.window.cost for one in plain.treatments]
    assert isinstance(cost, float)
    again = figures(analysis.analyze(shop.session, "mail", as_of=before))
    assert again["ledger"].pop("as_of") == before.isoformat()
    assert again == first
    assert first["by_variant"][0]["cost"] == pytest.approx(cost + 1000, abs=0.005)
    assert first["ledger"]["total"] == "1000.00"
    later = figures(analysis.analyze(shop.session, "mail", as_of=before + 30 * DAY))
    assert later["by_variant"][0]["cost"] == pytest.approx(cost + 1180, abs=0.005)
    shown = reports.document(shop.session, "mail", generated_at=shop.instant, as_of=before)
    assert figures(shown.analysis)["by_variant"] == first["by_variant"]
    assert shown.costs[0].total == pytest.approx(Decimal(cost + 1000), abs=Decimal("0.005"))


def test_a_past_without_facts_and_a_future_have_no_report(shop: Shop) -> None:
    shop.begin()
    before = shop.instant
    shop.deliver(40, lift=0.1, until=START + 40 * DAY)
    with pytest.raises(NotReadyError, match="no facts yet"):
        analysis.analyze(shop.session, "mail", as_of=before)
    with pytest.raises(KlartextError, match="still to come"):
        analysis.analyze(shop.session, "mail", as_of=shop.instant + HOUR)


def test_a_look_keeps_the_books_that_it_read(shop: Shop) -> None:
    shop.begin()
    shop.deliver(400, lift=0.1, until=START + 40 * DAY)
    ledger.add(shop.session, entry("1000"), actor="lena.vogt")
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    shop.instant += DAY
    with shop.session.engine.connect() as connection:
        kept = json.loads(connection.execute(sa.select(looks.c.result)).scalar_one())
    assert kept == document(taken.analysis)
    assert kept["ledger"]["total"] == "1000.00"


def test_only_a_cost_line_of_the_spec_is_replaced(shop: Shop) -> None:
    """A fee of 0.10 per treated unit, 200 units: 20 EUR; billed with 30 for the same time."""
    shop.begin()
    shop.deliver(400, lift=0.1, until=START + 40 * DAY)
    wrong = entry("30", category="model_fees", replaces="fees")
    with pytest.raises(KlartextError, match=r"not one cost line 'fees' .* model_fees \(ai\)"):
        ledger.add(shop.session, wrong, actor="lena.vogt")
    billed = entry("30", category="model_fees", replaces="model_fees", behaviour="time_based")
    ledger.add(shop.session, billed, actor="lena.vogt")
    (found,) = analysis.analyze(shop.session, "mail").treatments
    assert found.window.cost == pytest.approx(30, rel=0.05)  # the window is a day short of 30


def test_a_cost_of_the_company_is_shared_by_exposed_units(shop: Shop) -> None:
    """400 units in fifteen days, of which 30 days are billed: the units count, whatever the day."""
    shop.begin()
    shop.deliver(400, lift=0.1, until=START + 40 * DAY)
    cost = entry("100", experiment=None, variant=None, category="monitoring")
    shared = ledger.add(shop.session, cost, actor="lena.vogt")
    to = [shared_cost.Stated("mail", "ai"), shared_cost.Stated("mail", "control")]
    found = shared_cost.allocate(shop.session, shared.number, "exposed", to, actor="lena.vogt")
    assert [each.line.amount.amount for each in found.shares] == [50, 50]
    assert found.shares[0].line.evidence == f"share 200/400 of line {shared.number}, exposed"
    assert found.unallocated == 0
    view = analysis.analyze(shop.session, "mail").ledger
    assert (view.lines, view.total) == (2, Decimal(100))
