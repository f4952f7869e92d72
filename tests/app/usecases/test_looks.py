"""Group sequential tests from YAML to verdict: what is read, what may decide, what is recorded."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
import sqlalchemy as sa

from klartext.analysis.document import to_json
from klartext.analysis.result import Analysis
from klartext.app.cli.scorecard import scorecard
from klartext.app.usecases import analysis, registry, reports, signatures
from klartext.experiments import audit
from klartext.experiments.errors import ConflictError
from klartext.experiments.state import reading
from klartext.experiments.tables import looks
from klartext.reports import page
from tests.app.mails import DAY, START, Shop

MATURE = START + 40 * DAY
TWO_LOOKS = {"mode": "group_sequential", "end": "2026-12-31, looks: 2"}


def estimate(found: Analysis, method: str) -> dict[str, Any]:
    """Return the estimate of the net value by ``method``, as JSON has it."""
    document = json.loads(json.dumps(to_json(found)))
    metric = next(one for one in document["metrics"] if one["metric"] == "net")
    return next(one for one in metric["estimates"] if one["method"] == method)


def half_width(found: Analysis, method: str) -> float:
    """Return the half-width of the interval in standard errors."""
    one = estimate(found, method)
    lower, upper = one["interval"]
    return float((upper - lower) / 2 / one["std_error"])


def recorded(shop: Shop) -> list[tuple[int, int | None, float, int, str]]:
    with reading(shop.session.engine) as connection:
        rows = connection.execute(sa.select(looks).order_by(looks.c.look)).all()
    return [(r.look, r.planned, r.fraction, r.information, r.verdict) for r in rows]


def test_between_looks_even_a_clear_gain_goes_on(shop: Shop) -> None:
    shop.begin(**TWO_LOOKS)
    shop.deliver(1600, lift=0.25, until=MATURE)
    early = analysis.decide(shop.session, "mail", actor="lena.vogt").analysis
    assert early.decision.verdict == "CONTINUE"
    unmet = [reason.code for reason in early.decision.reasons if not reason.met]
    assert unmet == ["planned_look"]
    assert estimate(early, "anytime")["valid_for_look"]
    assert "no planned look at 40% of the planned units" in scorecard(early)
    assert recorded(shop) == [(1, None, 0.4, 1600, "CONTINUE")]


def test_a_test_with_two_looks_from_start_to_end(shop: Shop) -> None:
    shop.begin(**TWO_LOOKS)
    # Half the units: the first look. Bounds of gsDesign sfLDOF, two equal looks: 2.9626, 1.9686.
    shop.deliver(2000, lift=0.0, until=MATURE)
    first = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert half_width(first.analysis, "group_sequential") == pytest.approx(2.9626, abs=1e-4)
    assert first.analysis.decision.verdict == "CONTINUE"
    assert "planned look 1 of 2 at 50% of the planned units (obrien_fleming)" in scorecard(
        first.analysis
    )
    # The same look again is the same look, and spends nothing twice.
    again = analysis.decide(shop.session, "mail", actor="lena.vogt").analysis
    assert estimate(again, "group_sequential") == estimate(first.analysis, "group_sequential")
    assert again.look is not None
    assert not again.look.spends
    # Between the looks: the anytime interval, and nothing is decided.
    shop.deliver(1000, lift=0.2, until=MATURE + 2 * DAY, seed=3)
    between = analysis.decide(shop.session, "mail", actor="lena.vogt").analysis
    assert (between.decision.verdict, between.decision.rule) == ("CONTINUE", "continue")
    assert between.look is not None
    assert (between.look.number, between.look.due_at) == (None, 1.0)
    # All units: the last look decides.
    shop.deliver(1000, lift=0.2, until=MATURE + 3 * DAY, seed=4)
    last = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert half_width(last.analysis, "group_sequential") == pytest.approx(1.9686, abs=1e-4)
    assert (last.analysis.decision.verdict, last.registered.status) == ("GO", "decided")
    assert recorded(shop) == [
        (1, 1, 0.5, 2000, "CONTINUE"),
        (2, None, 0.5, 2000, "CONTINUE"),
        (3, None, 0.75, 3000, "CONTINUE"),
        (4, 2, 1.0, 4000, "GO"),
    ]
    with reading(shop.session.engine) as connection:
        assert audit.verify(connection) is None
    # What was decided is what a report shows.
    shown = reports.document(shop.session, "mail", generated_at=MATURE + 4 * DAY)
    assert (shown.analysis.decision.verdict, shown.analysis.decision.variant) == ("GO", "ai")
    assert "planned look 2 of 2, at 100.0% of the planned units" in page.render(shown, "en")
    assert "geplante Auswertung 2 von 2" in page.render(shown, "de")


def test_pocock_spends_evenly_and_a_late_look_spends_what_is_due(shop: Shop) -> None:
    shop.begin(mode="group_sequential, spending: pocock", end="2026-12-31, looks: [50%, 75%, 100%]")
    # 80 % at the first look: the second planned one; the first was skipped.
    shop.deliver(3200, lift=0.0, until=MATURE)
    found = analysis.analyze(shop.session, "mail")
    assert found.look is not None
    assert (found.look.number, found.look.fraction) == (2, 0.8)
    # By hand: 0.025 ln(1 + 1.718282 * 0.8) on each side; as one look, its normal quantile.
    bound = NormalDist().inv_cdf(1 - 0.025 * math.log(1 + 1.718282 * 0.8))
    assert half_width(found, "group_sequential") == pytest.approx(bound, abs=1e-5)


def test_an_overrun_at_the_last_look_spends_all_that_is_left(shop: Shop) -> None:
    shop.begin(**TWO_LOOKS)
    shop.deliver(4400, lift=0.0, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    # The only look that was taken has all of alpha: 1.959964.
    assert half_width(taken.analysis, "group_sequential") == pytest.approx(1.959964, abs=1e-5)
    assert (taken.analysis.decision.verdict, taken.analysis.decision.rule) == (
        "STOP",
        "no_evidence",
    )


def test_at_the_registered_end_the_look_is_taken_with_what_there_is(shop: Shop) -> None:
    shop.begin(mode="group_sequential", end="2026-03-31, looks: 2")
    shop.deliver(1600, lift=0.2, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert half_width(taken.analysis, "group_sequential") == pytest.approx(1.959964, abs=1e-5)
    assert taken.analysis.decision.verdict == "GO"


def test_a_test_that_was_stopped_on_a_good_day_has_no_last_look(shop: Shop) -> None:
    shop.begin(mode="group_sequential", end="2026-03-31, looks: 2")
    shop.deliver(1600, lift=0.2, until=START + 20 * DAY)
    registry.move(shop.session, "mail", "stopped", actor="lena.vogt", reason="looks good")
    shop.instant = MATURE
    shop.deliver(2, lift=0.0, until=MATURE, seed=2)
    found = analysis.analyze(shop.session, "mail")
    assert found.look is not None
    assert found.look.number is None
    assert found.decision.verdict != "GO"


def test_a_last_look_that_waits_for_approval_is_not_taken_again(shop: Shop) -> None:
    shop.begin(**TWO_LOOKS, rule=", approvals: {by: [cfo]}")
    shop.deliver(4000, lift=0.15, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert taken.analysis.decision.verdict == "GO_PENDING_APPROVAL"
    with pytest.raises(ConflictError, match="has taken its last planned look"):
        analysis.decide(shop.session, "mail", actor="lena.vogt")
    after = analysis.analyze(shop.session, "mail").decision
    assert (after.verdict, after.variant) == ("GO_PENDING_APPROVAL", "ai")


@pytest.mark.parametrize("mode", ["anytime", "fixed", "group_sequential"])
def test_a_go_at_the_end_waits_for_its_preflight_check(
    shop: Shop, tmp_path: Path, mode: str
) -> None:
    """Nothing is stopped for want of a result, nothing goes live, and the look may be repeated."""
    end = "2026-03-31, looks: 2" if mode == "group_sequential" else "2026-03-31"
    shop.begin(mode=mode, end=end, rule=", preflight: [{check: load-test, minimum: 0.99}]")
    shop.deliver(4000, lift=0.15, until=MATURE + 60 * DAY)
    waits = analysis.decide(shop.session, "mail", actor="lena.vogt")
    verdict = waits.analysis.decision
    assert (verdict.verdict, verdict.rule) == ("CONTINUE", "awaits_check")
    assert waits.registered.status == "running"
    shown = page.render(reports.document(shop.session, "mail", generated_at=shop.instant), "en")
    assert "a check outside the data is still missing" in shown
    # More units come while the check is made.
    shop.deliver(40, lift=0.15, until=MATURE + 61 * DAY, seed=2)
    evidence = tmp_path / "load.json"
    evidence.write_text("{}")
    signatures.record_preflight(
        shop.session, "mail", check="load-test", value=Decimal(1), evidence=evidence, actor="ops"
    )
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (taken.analysis.decision.verdict, taken.registered.status) == ("GO", "decided")


def test_a_look_that_cannot_be_read_spends_nothing(shop: Shop) -> None:
    """Too few outcomes at the first look: its alpha is spent at the second."""
    shop.begin(mode="group_sequential", end="2026-12-31, looks: [5%, 100%]")
    shop.deliver(200, lift=0.0, until=MATURE)
    first = analysis.decide(shop.session, "mail", actor="lena.vogt").analysis
    assert estimate(first, "group_sequential")["reason"]["value"]["code"] == "burn-in"
    assert [row[1] for row in recorded(shop)] == [None]


def test_analyze_takes_no_planned_look(shop: Shop) -> None:
    shop.begin(**TWO_LOOKS)
    shop.deliver(2000, lift=0.0, until=MATURE)
    analysis.analyze(shop.session, "mail")
    assert recorded(shop) == []
    found = analysis.analyze(shop.session, "mail")
    assert found.look is not None
    assert found.look.spends
