"""Signatures, incidents, preflight gates and notes, on a real workspace."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.app.usecases import analysis, registry, signatures
from klartext.experiments import audit, incidents
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.registry import load
from klartext.experiments.state import reading
from klartext.experiments.tables import looks, outbox
from tests.app.mails import DAY, START, Shop

MATURE = START + 40 * DAY
TWO = ", approvals: {by: [controlling, cfo], within: 10d}"


def pending(shop: Shop, rule: str = TWO) -> None:
    shop.begin(rule=rule)
    shop.deliver(3000, lift=0.15, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert taken.analysis.decision.verdict == "GO_PENDING_APPROVAL"


def sign(shop: Shop, role: str, person: str, *, yes: bool = True) -> signatures.Signed:
    return signatures.sign(
        shop.session, "mail", role=role, person=person, approved=yes, comment="read it"
    )


def reasons(shop: Shop) -> dict[str, bool | None]:
    found = analysis.analyze(shop.session, "mail")
    return {reason.code: reason.met for reason in found.decision.reasons}


def test_the_last_signature_makes_it_a_go(shop: Shop) -> None:
    pending(shop)
    first = sign(shop, "cfo", "m.huber")
    assert first.round.missing == ("controlling",)
    assert first.registered.status == "running"
    found = analysis.analyze(shop.session, "mail").decision
    (asked,) = [reason for reason in found.reasons if reason.code == "approvals"]
    assert (found.verdict, asked.value, asked.met) == ("GO_PENDING_APPROVAL", 1.0, False)
    last = sign(shop, "controlling", "a.klein")
    assert last.round.is_complete
    assert last.registered.status == "decided"
    assert analysis.analyze(shop.session, "mail").decision.verdict == "GO"
    with reading(shop.session.engine) as connection:
        told = json.loads(connection.execute(sa.select(outbox.c.payload)).scalar_one())
        stored = connection.execute(sa.select(looks.c.result)).scalar_one()
        entries = audit.entries(connection, "mail")
        assert audit.verify(connection) is None
    assert (told["verdict"], told["variant"], told["look"]) == ("GO", "ai", 1)
    assert [entry.action for entry in entries][-4:] == ["approve", "approve", "stop", "decide"]
    # what was signed is what was stored
    (entry,) = [one for one in entries if one.actor == "m.huber"]
    assert entry.detail["evidence_sha256"] == sha256(stored.encode()).hexdigest()


def test_a_no_ends_the_round_and_a_new_look_opens_another(shop: Shop) -> None:
    pending(shop)
    answered = sign(shop, "cfo", "m.huber", yes=False)
    assert answered.round.is_rejected
    assert answered.registered.status == "running"
    with pytest.raises(ConflictError, match=r"rejected by m\.huber \(cfo\): read it"):
        sign(shop, "controlling", "a.klein")
    shop.instant = MATURE + DAY
    analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert sign(shop, "cfo", "m.huber").round.look == 2


def test_a_new_look_is_signed_anew(shop: Shop) -> None:
    pending(shop)
    sign(shop, "cfo", "m.huber")
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert taken.analysis.decision.verdict == "GO_PENDING_APPROVAL"
    assert sign(shop, "cfo", "m.huber").round.missing == ("controlling",)


@pytest.mark.parametrize(
    ("role", "person", "says"),
    [
        ("ceo", "m.huber", "asks for no signature of 'ceo', but of controlling, cfo"),
        ("cfo", "Lena.Vogt", "owns mail; a GO is signed by somebody else"),
        ("controlling", "M.Huber", "has signed look 1 as cfo; another role is another pair"),
        ("cfo", "somebody", "cfo has signed look 1 already, by m.huber"),
    ],
)
def test_who_may_not_sign(shop: Shop, role: str, person: str, says: str) -> None:
    pending(shop)
    sign(shop, "cfo", "m.huber")
    with pytest.raises((ConflictError, NotFoundError), match=says):
        sign(shop, role, person)


def test_the_time_to_sign_ends(shop: Shop) -> None:
    pending(shop)
    shop.instant = MATURE + 10 * DAY
    sign(shop, "cfo", "m.huber")
    shop.instant = MATURE + 10 * DAY + DAY / 24
    with pytest.raises(ConflictError, match="time to sign look 1 of mail was over on 2026-04-21"):
        sign(shop, "controlling", "a.klein")


def test_roles_of_the_workspace_are_held(shop: Shop) -> None:
    with (shop.root / "klartext.yaml").open("a") as file:
        file.write("roles: {cfo: [m.huber]}\n")
    shop.__post_init__()
    pending(shop)
    with pytest.raises(ConflictError, match=r"does not hold the role cfo.*m\.huber may sign"):
        sign(shop, "cfo", "a.klein")
    sign(shop, "controlling", "a.klein")  # a role nobody is named for
    assert sign(shop, "cfo", "m.huber").round.is_complete


def test_nothing_waits_for_a_signature(shop: Shop) -> None:
    shop.begin(rule=TWO)
    with pytest.raises(ConflictError, match="is running and waits for no signature"):
        sign(shop, "cfo", "m.huber")
    with pytest.raises(NotFoundError):
        signatures.sign(shop.session, "nothing", role="cfo", person="m", approved=True, comment="x")


def test_a_signature_needs_a_reason(shop: Shop) -> None:
    pending(shop)
    with pytest.raises(ConflictError, match="needs a comment"):
        signatures.sign(
            shop.session, "mail", role="cfo", person="m.huber", approved=True, comment="  "
        )


def test_an_incident_pauses_and_stops_whatever_the_figures(shop: Shop) -> None:
    pending(shop)
    sign(shop, "cfo", "m.huber")
    opened = signatures.report_incident(
        shop.session, "mail", actor="support", reason="invented prices"
    )
    assert opened.number == 1
    found = analysis.analyze(shop.session, "mail").decision
    assert (found.verdict, found.rule) == ("STOP", "safety")
    assert found.reasons[0].detail == "invented prices"
    with reading(shop.session.engine) as connection:
        assert load(connection, "mail").status == "paused"
    with pytest.raises(ConflictError, match="incident 1 of mail is open: invented prices"):
        sign(shop, "controlling", "a.klein")
    signatures.close_incident(shop.session, "mail", 1, actor="support", comment="prompt 8")
    assert analysis.analyze(shop.session, "mail").decision.verdict == "GO_PENDING_APPROVAL"
    registry.move(shop.session, "mail", "running", actor="lena.vogt")
    assert sign(shop, "controlling", "a.klein").registered.status == "decided"
    with reading(shop.session.engine) as connection:
        (one,) = incidents.of(connection, "mail")
        assert audit.verify(connection) is None
    assert (one.closed_by, one.comment) == ("support", "prompt 8")


def test_a_check_that_fails_after_the_look_holds_the_signature_back(
    shop: Shop, tmp_path: Path
) -> None:
    evidence = tmp_path / "load.json"
    evidence.write_text("{}")

    def result(value: str) -> None:
        signatures.record_preflight(
            shop.session,
            "mail",
            check="load-test",
            value=Decimal(value),
            evidence=evidence,
            actor="ops",
        )

    shop.begin(
        rule=", approvals: {by: [cfo], within: 10d}, preflight: [{check: load-test, minimum: 0.99}]"
    )
    result("0.995")
    shop.deliver(3000, lift=0.15, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert taken.analysis.decision.verdict == "GO_PENDING_APPROVAL"
    result("0.5")
    with pytest.raises(ConflictError, match="load-test of mail does not pass any more"):
        sign(shop, "cfo", "m.huber")
    result("0.99")
    assert sign(shop, "cfo", "m.huber").registered.status == "decided"


def test_an_open_incident_ends_the_test_at_a_look(shop: Shop) -> None:
    pending(shop)
    signatures.report_incident(shop.session, "mail", actor="support", reason="harm")
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (taken.analysis.decision.verdict, taken.analysis.decision.rule) == ("STOP", "safety")
    assert taken.registered.status == "decided"


def test_bad_incidents(shop: Shop) -> None:
    shop.begin()
    with pytest.raises(ConflictError, match="needs a reason"):
        signatures.report_incident(shop.session, "mail", actor="support", reason=" ")
    with pytest.raises(NotFoundError, match="has no incident 1"):
        signatures.close_incident(shop.session, "mail", 1, actor="support", comment="x")
    signatures.report_incident(shop.session, "mail", actor="support", reason="harm")
    with pytest.raises(ConflictError, match="Say what was done"):
        signatures.close_incident(shop.session, "mail", 1, actor="support", comment="")
    signatures.close_incident(shop.session, "mail", 1, actor="support", comment="x")
    with pytest.raises(ConflictError, match="closed already"):
        signatures.close_incident(shop.session, "mail", 1, actor="support", comment="x")


def test_a_preflight_gate_holds_a_go_back(shop: Shop, tmp_path: Path) -> None:
    shop.begin(rule=", preflight: [{check: load-test, minimum: 0.99}]", end="2026-12-31")
    shop.deliver(3000, lift=0.15, until=MATURE)
    assert reasons(shop)["preflight"] is False
    evidence = tmp_path / "load.json"
    evidence.write_text('{"share": 0.98}')

    def result(value: str, check: str = "load-test") -> None:
        signatures.record_preflight(
            shop.session, "mail", check=check, value=Decimal(value), evidence=evidence, actor="ops"
        )

    result("0.98")
    assert analysis.analyze(shop.session, "mail").decision.verdict == "CONTINUE"
    result("0.995")
    assert analysis.analyze(shop.session, "mail").decision.verdict == "GO"
    assert reasons(shop)["preflight"] is True
    with pytest.raises(NotFoundError, match="no preflight check 'legal'; it names load-test"):
        result("1", check="legal")
    with pytest.raises(ConflictError, match="must be a finite number"):
        result("NaN")
    with pytest.raises(NotFoundError, match="is not a file"):
        signatures.record_preflight(
            shop.session,
            "mail",
            check="load-test",
            value=Decimal(1),
            evidence=tmp_path / "nothing",
            actor="ops",
        )


def test_a_note_is_in_the_log(shop: Shop) -> None:
    shop.begin()
    signatures.note(shop.session, "mail", " sent twice ", actor="lena.vogt")
    with reading(shop.session.engine) as connection:
        last = audit.entries(connection, "mail")[-1]
    assert (last.action, last.detail) == ("note", {"text": "sent twice"})
    with pytest.raises(ConflictError, match="empty"):
        signatures.note(shop.session, "mail", "", actor="lena.vogt")
