"""What-ifs and signed revisions, on real facts: both verdicts are shown, none moves."""

from __future__ import annotations

import json
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.analysis.document import to_json
from klartext.analysis.verdicts import Revised, Verdict, beside_to_json, difference
from klartext.app.usecases import analysis, assumptions, looks, registry, signatures
from klartext.app.usecases.integrity import verify
from klartext.experiments import audit
from klartext.experiments.errors import ConflictError, KlartextError, NotFoundError, NotReadyError
from klartext.experiments.state import reading
from klartext.experiments.tables import assumption_revisions, outbox
from klartext.experiments.tables import looks as looks_table
from tests.app.mails import DAY, START, Shop, new_shop

MATURE = START + 40 * DAY
MARGIN = "value.revenue.contribution_margin"
WORST = [f"{MARGIN}=0.5%"]


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Shop:
    """GO with a margin of 40 %."""
    shop = new_shop(tmp_path_factory.mktemp("go"), migrated)
    shop.begin()
    shop.deliver(3000, lift=0.15, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (taken.analysis.decision.verdict, taken.registered.status) == ("GO", "decided")
    return shop


@pytest.fixture
def decided(go: Shop, tmp_path: Path) -> Shop:
    return go.copied(tmp_path)


@pytest.fixture(scope="module")
def signed(go: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The GO, and a revision that makes it a STOP."""
    shop = go.copied(tmp_path_factory.mktemp("signed"))
    assumptions.assume(shop.session, "mail", WORST, comment="c", actor="m.huber")
    return shop


@pytest.fixture
def revised(signed: Shop, tmp_path: Path) -> Shop:
    return signed.copied(tmp_path)


def state(shop: Shop) -> dict[str, list[tuple[object, ...]]]:
    """Everything that is recorded."""
    with reading(shop.session.engine) as connection:
        tables = sa.inspect(connection).get_table_names()
        return {
            name: [tuple(row) for row in connection.execute(sa.text(f'SELECT * FROM "{name}"'))]  # noqa: S608 - names of our own tables
            for name in tables
        }


def net_benefit(found: Verdict) -> float:
    (one,) = found.treatments
    assert one.net_benefit is not None
    return one.net_benefit


def test_a_what_if_is_marked_and_recorded_nowhere(decided: Shop) -> None:
    before = state(decided)
    found = assumptions.what_if(decided.session, "mail", WORST)
    assert state(decided) == before
    assert found.assumed.is_what_if
    assert found.assumed.decision.verdict == "STOP"
    assert not found.registered.is_what_if
    assert found.registered.decision.verdict == "GO"
    document = to_json(found.assumed)
    assert list(document)[:3] == ["schema", "what_if", "assumed"]
    assert document["what_if"] is True
    assert document["assumed"] == [
        {"input": MARGIN, "unit": "fraction", "registered": "0.4", "assumed": "0.005"}
    ]
    assert "what_if" not in to_json(found.registered)


def test_a_what_if_prices_the_same_facts_anew(shop: Shop) -> None:
    """NB = 100,000 (persistence * margin - cost), by hand from the registered margin."""
    shop.begin()
    shop.deliver(1000, lift=0.1, until=MATURE)
    found = assumptions.what_if(
        shop.session,
        "mail",
        [f"{MARGIN}=30%, rollout.persistence=60%", "costs.model_fees.amount=0.25 EUR"],
    )
    registered, assumed = (
        one.treatments[0].outlook.net_benefit for one in (found.registered, found.assumed)
    )
    assert isinstance(registered, float)
    margin = registered / 100_000 + 0.10
    assert assumed == pytest.approx(100_000 * (0.6 * margin * 0.30 / 0.40 - 0.25))
    assert found.assumed.counts == found.registered.counts
    assert found.assumed.watermark == found.registered.watermark


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("inference.alpha=10%", ConflictError, "cannot be revised"),
        ("alpha=10%", ConflictError, "error rate"),
        ("control=ai", ConflictError, "every effect is measured against it"),
        ("decision.expected_loss=9 EUR", ConflictError, "before the first exposure"),
        ("rollout.persistance=50%", NotFoundError, "Did you mean rollout.persistence"),
        ("rollout.persistence=0.5", KlartextError, "must be a percentage"),
        ("rollout.persistence", KlartextError, "is no assumption"),
    ],
)
def test_only_business_inputs_can_be_other(
    decided: Shop, text: str, error: type[KlartextError], message: str
) -> None:
    before = state(decided)
    with pytest.raises(error, match=message):
        assumptions.what_if(decided.session, "mail", [text])
    with pytest.raises(error, match=message):
        assumptions.assume(decided.session, "mail", [text], comment="x", actor="m.huber")
    assert state(decided) == before


def test_a_look_takes_no_assumption(shop: Shop) -> None:
    shop.begin()
    shop.deliver(400, lift=0.1, until=MATURE)
    registered = analysis.load(shop.session, "mail")
    found = assumptions.what_if(shop.session, "mail", WORST).assumed
    readout = analysis.read(shop.session, registered)
    with (
        shop.session.engine.begin() as connection,
        pytest.raises(ValueError, match="decide nothing"),
    ):
        looks.record(connection, registered, readout, found, actor="x", now=MATURE)


def test_a_revision_is_signed_and_shows_both_verdicts(decided: Shop) -> None:
    before = state(decided)
    decided.instant = MATURE + DAY
    found = assumptions.assume(
        decided.session, "mail", WORST, comment="DB-Rechnung 2026 was wrong", actor="m.huber"
    )
    revision = found.revision
    assert (revision.number, revision.version, revision.look) == (1, 1, 1)
    assert (revision.actor, revision.comment) == ("m.huber", "DB-Rechnung 2026 was wrong")
    assert revision.revised_at == MATURE + DAY
    (change,) = revision.changes
    assert (change.path, change.registered, change.before, change.after) == (
        MARGIN, Decimal("0.40"), Decimal("0.40"), Decimal("0.005"),
    )  # fmt: skip
    assert found.at_look is not None
    as_recorded, as_revised = found.at_look
    assert found.reproduced
    assert (as_recorded.verdict, as_revised.verdict) == ("GO", "STOP")
    assert as_recorded.spec_sha256 == as_revised.spec_sha256 == revision.spec_sha256
    assert (as_recorded.revision, as_revised.revision) == (None, 1)
    assert as_recorded.cutoff == as_revised.cutoff
    # the margin per unit scales with the rate: NB + cost is 80 times smaller
    assert net_benefit(as_revised) + 10_000 == pytest.approx(
        (net_benefit(as_recorded) + 10_000) / 80
    )
    assert difference(as_recorded.of("ai"), as_revised.of("ai")) == pytest.approx(
        net_benefit(as_revised) - net_benefit(as_recorded)
    )
    after = state(decided)
    changed = {name for name, rows in after.items() if rows != before[name]}
    assert changed == {"assumption_revisions", "audit", "settings"}
    with reading(decided.session.engine) as connection:
        entry = audit.entries(connection, "mail")[-1]
        assert audit.verify(connection) is None
    assert (entry.action, entry.actor) == ("assume", "m.huber")
    assert entry.detail["revision_sha256"] == revision.sha256
    assert analysis.load(decided.session, "mail").status == "decided"


def test_the_present_figures_have_the_look_and_the_revision_beside_them(decided: Shop) -> None:
    assumptions.assume(decided.session, "mail", WORST, comment="wrong", actor="m.huber")
    decided.deliver(600, lift=0.15, until=MATURE + 40 * DAY, seed=2)
    present = analysis.analyze(decided.session, "mail")
    found = assumptions.beside(decided.session, "mail", present)
    assert found.past is not None
    assert (found.past.look, found.past.verdict.verdict, found.past.changes) == (1, "GO", ())
    assert found.revised is not None
    assert found.revised.now is not None
    registered, revised = found.revised.now
    assert (registered.verdict, revised.verdict) == ("GO", "STOP")
    assert registered.cutoff == revised.cutoff == present.watermark.cutoff
    assert registered.cutoff > found.past.verdict.cutoff
    assert net_benefit(registered) == pytest.approx(present.treatments[0].outlook.net_benefit)
    document = beside_to_json(found)
    json.dumps(document, allow_nan=False)
    assert set(document) == {"last_look", "revision"}
    stored = assumptions.beside(decided.session, "mail")
    assert stored.revised is not None
    assert stored.revised.now is None
    assert stored.past == found.past


def test_the_facts_of_the_look_are_decided_again_not_those_since(decided: Shop) -> None:
    """What came after the look changes neither verdict on its facts."""
    early = assumptions.assume(decided.session, "mail", WORST, comment="a", actor="m.huber")
    decided.deliver(2000, lift=-0.1, until=MATURE + 40 * DAY, seed=2)
    late = assumptions.assume(
        decided.session, "mail", ["rollout.units_per_year=90000"], comment="b", actor="m.huber"
    )
    back = assumptions.assume(
        decided.session, "mail", ["rollout.units_per_year=100000"], comment="c", actor="m.huber"
    )
    assert early.at_look is not None
    assert late.at_look is not None
    assert back.at_look is not None
    assert late.reproduced
    assert net_benefit(late.at_look[1]) == pytest.approx(0.9 * net_benefit(early.at_look[1]))
    assert net_benefit(back.at_look[1]) == pytest.approx(net_benefit(early.at_look[1]))
    assert early.at_look[0] == late.at_look[0] == back.at_look[0]
    assert net_benefit(late.at_revision[0]) != pytest.approx(net_benefit(early.at_revision[0]))


def test_revisions_add_up_and_are_withdrawn_by_the_registered_value(decided: Shop) -> None:

    def assume(text: str) -> Revised:
        return assumptions.assume(decided.session, "mail", [text], comment="c", actor="m.huber")

    first = assume(f"{MARGIN}=30%")
    second = assume("rollout.persistence=80%")
    assert second.revision.values == {
        MARGIN: Decimal("0.30"), "rollout.persistence": Decimal("0.8"),
    }  # fmt: skip
    with pytest.raises(ConflictError, match="is 30% already"):
        assume(f"{MARGIN}=30%")
    third = assume(f"{MARGIN}=40%")
    (change,) = third.revision.changes
    assert (change.registered, change.before, change.after) == (
        Decimal("0.40"), Decimal("0.30"), Decimal("0.40"),
    )  # fmt: skip
    assert third.revision.values == {"rollout.persistence": Decimal("0.8")}
    assume("rollout.persistence=100%")
    assert assumptions.beside(decided.session, "mail").revised is None
    with reading(decided.session.engine) as connection:
        rows = connection.execute(sa.select(assumption_revisions.c.number)).scalars().all()
    assert rows == [1, 2, 3, 4]
    assert first.revision.number == 1


def test_before_any_look_there_is_nothing_to_decide_again(shop: Shop) -> None:
    shop.begin()
    with pytest.raises(NotReadyError):
        assumptions.assume(shop.session, "mail", WORST, comment="c", actor="m.huber")
    shop.deliver(3000, lift=0.15, until=MATURE)
    found = assumptions.assume(shop.session, "mail", WORST, comment="c", actor="m.huber")
    assert (found.at_look, found.reproduced, found.revision.look) == (None, None, None)
    assert found.at_revision[0].verdict != found.at_revision[1].verdict


def test_a_running_test_is_still_decided_with_what_was_registered(shop: Shop) -> None:
    shop.begin()
    shop.deliver(3000, lift=0.15, until=MATURE)
    assumptions.assume(shop.session, "mail", WORST, comment="c", actor="m.huber")
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (taken.analysis.decision.verdict, taken.registered.status) == ("GO", "decided")
    with reading(shop.session.engine) as connection:
        told = connection.execute(sa.select(outbox.c.payload)).scalars().all()
    assert [json.loads(one)["verdict"] for one in told] == ["GO"]


def test_who_may_not_revise(decided: Shop) -> None:
    with pytest.raises(ConflictError, match="needs a comment"):
        assumptions.assume(decided.session, "mail", WORST, comment="  ", actor="m.huber")
    registry.move(decided.session, "mail", "archived", actor="lena.vogt", reason="done")
    with pytest.raises(ConflictError, match="is archived"):
        assumptions.assume(decided.session, "mail", WORST, comment="c", actor="m.huber")


def test_a_draft_is_changed_in_its_file(shop: Shop) -> None:
    path = shop.root / "experiments" / "mail.yaml"
    path.write_text(shop.spec())
    registry.apply(shop.session, [path], actor="lena.vogt")
    with pytest.raises(ConflictError, match="klartext apply"):
        assumptions.assume(shop.session, "mail", WORST, comment="c", actor="m.huber")


@pytest.mark.parametrize(
    ("column", "value"),
    [("comment", "nothing was wrong"), ("values", "{}"), ("actor", "x"), ("reproduced", False),
     ("at_look", "{}"), ("number", 7)],
)  # fmt: skip
def test_a_revision_that_was_altered_is_noticed(revised: Shop, column: str, value: object) -> None:
    assert verify(revised.session).findings == ()
    with revised.session.engine.begin() as connection:
        connection.execute(sa.update(assumption_revisions).values({column: value}))
    assert any("revision" in finding for finding in verify(revised.session).findings)
    with pytest.raises(ConflictError, match="is not what was signed"):
        assumptions.beside(revised.session, "mail")


def test_a_change_to_the_spec_moves_no_past_decision(decided: Shop) -> None:
    """The recorded decision, its figures and its document stay, and both are shown."""
    with reading(decided.session.engine) as connection:
        before = connection.execute(sa.select(looks_table)).one()
        logged = [one for one in audit.entries(connection, "mail") if one.action == "look"]
    path = decided.root / "experiments" / "mail.yaml"
    path.write_text(
        decided.spec()
        .replace("title: AI mails", "title: Mails by a model")
        .replace("metrics:\n", "metrics:\n  - {key: visits, kind: count, event: visit}\n")
    )
    registry.apply(decided.session, [path], actor="lena.vogt")
    decided.deliver(1200, lift=-0.3, until=MATURE + 40 * DAY, seed=2)
    present = analysis.analyze(decided.session, "mail")
    found = assumptions.beside(decided.session, "mail", present)
    with reading(decided.session.engine) as connection:
        after = connection.execute(sa.select(looks_table)).one()
    assert tuple(after) == tuple(before)
    assert sha256(after.result.encode()).hexdigest() == logged[0].detail["result_sha256"]
    past = found.past
    assert past is not None
    assert past.result_sha256 == logged[0].detail["result_sha256"]
    assert (past.verdict.verdict, past.verdict.version) == ("GO", 1)
    assert past.verdict.spec_sha256 == before.spec_sha256
    assert (present.version, present.spec_sha256 != before.spec_sha256) == (2, True)
    assert net_benefit(past.verdict) != pytest.approx(present.treatments[0].outlook.net_benefit)
    changes = {change.path: (change.before, change.effect) for change in past.changes}
    assert changes == {"title": ("AI mails", "safe"), "metrics[visits]": (None, "safe")}
    document = json.loads(before.result)
    assert net_benefit(past.verdict) == document["by_variant"][0]["outlook"]["net_benefit"]
    # decided again on the facts of the look, it is the version of the look that is read
    revised = assumptions.assume(decided.session, "mail", WORST, comment="c", actor="m.huber")
    assert revised.at_look is not None
    assert revised.reproduced
    assert revised.at_look[1].version == 1
    assert revised.at_revision[1].version == 2


def test_a_look_is_decided_again_as_things_stood_when_it_was_taken(shop: Shop) -> None:
    """Weights that moved, a title and an incident since then count for the present alone."""
    shop.begin()
    shop.deliver(600, lift=0.05, until=START + 25 * DAY)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert taken.analysis.decision.verdict == "CONTINUE"
    before = state(shop)["looks"]
    shop.instant += DAY
    path = shop.root / "experiments" / "mail.yaml"
    moved = "[{key: control, weight: 30%}, {key: ai, weight: 70%}]"
    path.write_text(
        shop.spec()
        .replace("title: AI mails", "title: Mails by a model")
        .replace("[{key: control}, {key: ai}]", moved)
    )
    registry.apply(shop.session, [path], actor="lena.vogt")
    signatures.report_incident(shop.session, "mail", actor="lena.vogt", reason="a wrong price")
    found = assumptions.assume(
        shop.session, "mail", ["rollout.persistence=50%"], comment="c", actor="m.huber"
    )
    assert found.reproduced
    assert found.at_look is not None
    recorded, revised = found.at_look
    assert (recorded.verdict, revised.verdict) == ("CONTINUE", "CONTINUE")
    assert (recorded.version, revised.version) == (1, 1)
    # of 100,000 units half the margin goes, and none of the cost of 0.10
    assert net_benefit(revised) == pytest.approx(net_benefit(recorded) / 2 - 5_000)
    assert [(one.verdict, one.rule) for one in found.at_revision] == [("STOP", "safety")] * 2
    assert {one.version for one in found.at_revision} == {2}
    assert state(shop)["looks"] == before
    past = assumptions.beside(shop.session, "mail").past
    assert past is not None
    assert {(change.path, change.effect) for change in past.changes} == {
        ("title", "safe"),
        ("variants[control].weight", "new_phase"),
        ("variants[ai].weight", "new_phase"),
    }
