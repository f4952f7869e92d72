"""Events and exposures over HTTP: durable when acknowledged, once in the facts, never a raw id."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from klartext.analysis.engine import open_engine
from klartext.app.service import server
from klartext.app.session import Session
from klartext.experiments import inbox
from klartext.experiments.inbox import pending
from klartext.experiments.state import reading
from klartext.experiments.tables import batches
from tests.app.letters import Clock
from tests.app.service.conftest import Allocate


def purchase(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "id": f"order-{number}",
        "unit": f"customer-{number}",
        "name": "purchase",
        "occurred_at": "2027-01-12T08:59:00+01:00",
        "value": "19.90",
        "currency": "EUR",
        "properties": {"country": "DE"},
        **changed,
    }


def waiting(session: Session) -> int:
    with reading(session.engine) as connection:
        return pending(connection)


def stored(session: Session, table: str) -> list[dict[str, Any]]:
    with open_engine() as engine:
        rows: list[dict[str, Any]] = (
            getattr(session.facts.tables(engine), table).to_pyarrow().to_pylist()
        )
    return rows


def test_acknowledged_means_committed(session: Session, client: TestClient) -> None:
    answer = client.post("/v1/events", json=purchase(1))
    assert answer.status_code == 202
    assert answer.json() == {
        "accepted": 1,
        "rejected": 0,
        "results": [{"position": 1, "status": "accepted"}],
    }
    assert waiting(session) == 1


def test_events_sent_twice_count_once(session: Session) -> None:
    batch = [purchase(number) for number in range(50)]
    for _ in range(2):  # again by a service that started anew
        with TestClient(server.build(session, flush_s=3600)) as client:
            assert client.post("/v1/events", json=batch).json()["accepted"] == 50
            assert client.post("/v1/events", json=batch).json()["accepted"] == 50
            assert client.post("/v1/events", json=batch[7]).json()["accepted"] == 1
    facts = stored(session, "events")
    assert len(facts) == 50
    assert sum(row["value"] for row in facts) * 100 == 50 * 1990
    with reading(session.engine) as connection:
        counts = sa.select(sa.func.sum(batches.c.accepted), sa.func.sum(batches.c.duplicate))
        assert connection.execute(counts).one() == (50, 152)
    assert waiting(session) == 0


def test_aliases_are_facts_as_events_are(session: Session) -> None:
    alias = {
        "id": "login-1",
        "unit": "visitor-1",
        "canonical": "customer-1",
        "occurred_at": "2027-01-12T08:59:00+01:00",
    }
    moved = {**alias, "canonical": "customer-2"}
    itself = {**alias, "id": "login-2", "unit": "customer-1"}
    with TestClient(server.build(session, flush_s=3600)) as client:
        answer = client.post("/v1/aliases", json=[alias, alias, moved, itself])
        assert answer.json()["accepted"] == 3
        assert answer.json()["results"][3]["reason"] == "alias-of-itself"
        assert client.post("/v1/aliases", json=[]).status_code == 422  # no sign of life
    (row,) = stored(session, "aliases")
    pseudonym = session.pseudonymiser.unit
    assert (row["unit"], row["canonical"]) == (pseudonym("visitor-1"), pseudonym("customer-1"))
    with reading(session.engine) as connection:
        counts = sa.select(batches.c.accepted, batches.c.duplicate, batches.c.conflict)
        assert connection.execute(counts).one() == (1, 1, 1)
        assert inbox.live_at(connection) is None


def test_same_id_with_other_content_is_a_conflict_and_the_first_stays(session: Session) -> None:
    with TestClient(server.build(session, flush_s=3600)) as client:
        client.post("/v1/events", json=purchase(1))
        client.post("/v1/events", json=purchase(1, value="500.00"))
    (row,) = stored(session, "events")
    assert row["value"] * 100 == 1990
    with reading(session.engine) as connection:
        assert connection.scalar(sa.select(sa.func.sum(batches.c.conflict))) == 1


def test_bad_items_are_rejected_with_their_reason_and_the_others_kept(
    session: Session, client: TestClient
) -> None:
    bad = [
        purchase(1, occurred_at="2027-01-12T08:59:00"),
        purchase(2, currency=None),
        purchase(3, unit=None),
        purchase(4, value="many"),
        purchase(5, occurred_at="2029-01-12T08:59:00Z"),
        "text",
    ]
    answer = client.post("/v1/events", json=[*bad, purchase(6)])
    assert answer.status_code == 202
    results = answer.json()["results"]
    reasons = [result.get("reason") for result in results]
    assert reasons[0] == "naive-time"
    assert reasons[2:] == ["unit-missing", "bad-number", "time-in-future", "not-an-object", None]
    assert answer.json()["accepted"] + answer.json()["rejected"] == 7
    assert waiting(session) == answer.json()["accepted"]


def test_nothing_acceptable_is_a_422_that_still_names_every_reason(client: TestClient) -> None:
    answer = client.post("/v1/events", json=[{"id": "1"}, 7])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [result["status"] for result in answer.json()["results"]] == ["rejected", "rejected"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[" + b"{}," * 1_000 + b"{}]", 413, "too-many-items"),
        (b'"' + b"x" * 1_100_000 + b'"', 413, "body-too-large"),
        (b"nonsense", 400, "bad-json"),
        (b'{"id": "1", "id": "2"}', 400, "repeated-member"),
        (b'[{"id": "1"}, {"properties": {"a": 1, "b": 2, "\\u0061": 3}}]', 400, "repeated-member"),
        (b"[" * 1_010 + b"]" * 1_010, 400, "bad-json"),
    ],
)
def test_limits(client: TestClient, body: bytes, status: int, code: str) -> None:
    answer = client.post("/v1/events", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["type"] == f"urn:klartext:problem:{code}"


def test_an_empty_array_of_events_is_a_sign_of_life(session: Session, client: TestClient) -> None:
    answer = client.post("/v1/events", json=[])
    assert (answer.status_code, answer.json()["accepted"]) == (202, 0)
    with session.engine.connect() as connection:
        assert inbox.live_at(connection) is not None
    empty = client.post("/v1/exposures", json=[])
    assert (empty.status_code, empty.json()["type"]) == (422, "urn:klartext:problem:empty")


def test_body_without_an_announced_length_is_limited_too(client: TestClient) -> None:
    answer = client.post(
        "/v1/events",
        content=(b"x" * 65_536 for _ in range(64)),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413


def test_exposure_by_allocation_id_counts_once_however_often_it_is_sent(
    session: Session, clock: Clock
) -> None:
    with TestClient(server.build(session, flush_s=3600)) as client:
        answer = client.post(
            "/v1/experiments/subject-bandit/allocations", json={"unit": "customer-1"}
        ).json()
        clock.forward(timedelta(minutes=5))
        shown = clock()
        for _ in range(3):
            token = {"allocation_id": answer["allocation_id"]}
            assert client.post("/v1/exposures", json=token).status_code == 202
            clock.forward(timedelta(minutes=1))
    (row,) = stored(session, "exposures")
    assert (row["experiment"], row["variant"]) == ("subject-bandit", answer["variant"])
    assert row["propensity"] == answer["propensity"] * 1_000_000
    assert row["policy_version"] == 1
    assert row["occurred_at"] == shown


def test_exposure_written_with_the_allocation_is_the_same_as_posting_it(session: Session) -> None:
    with TestClient(server.build(session, flush_s=3600)) as client:
        answer = client.post(
            "/v1/experiments/subject-bandit/allocations",
            json={"unit": "customer-1", "expose": True},
        ).json()
        client.post("/v1/exposures", json={"allocation_id": answer["allocation_id"]})
    assert len(stored(session, "exposures")) == 1


def test_only_assigned_units_can_be_exposed(
    session: Session, client: TestClient, allocate: Allocate
) -> None:
    forced = allocate("subject-bandit", "tester", force="long")["allocation_id"]
    items = [{"allocation_id": forced}, {"allocation_id": forced[:-3] + "xx" + forced[-1]}, {}]
    results = client.post("/v1/exposures", json=items).json()["results"]
    assert [result["reason"] for result in results] == [
        "not-assigned",
        "bad-signature",
        "id-missing",
    ]
    assert waiting(session) == 0


def test_an_address_used_as_unit_id_is_found_nowhere_on_disk(session: Session, root: Path) -> None:
    secret = "anna.planted@example.org"
    with TestClient(server.build(session, flush_s=3600)) as client:
        allocation = "/v1/experiments/subject-bandit/allocations"
        client.post(allocation, json={"unit": secret, "expose": True})
        client.post(
            "/v1/events", json=[purchase(1, unit=secret), purchase(2, unit=secret, id=None)]
        )
        assert waiting(session) == 2
        found = _holding(root, secret.encode())
    assert found + _holding(root, secret.encode()) == []


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
junk = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(), scalars, max_size=2)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(event=st.fixed_dictionaries({}, optional=dict.fromkeys([*purchase(1), "source"], junk)))
def test_no_event_breaks_the_service(client: TestClient, event: dict[str, Any]) -> None:
    answer = client.post(
        "/v1/events",
        content=json.dumps(purchase(1) | event),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in {202, 400, 422}


def _holding(root: Path, needle: bytes) -> list[Path]:
    files = [path for path in root.parent.rglob("*") if path.is_file()]
    assert any("state.db" in path.name for path in files)
    return [path for path in files if needle in path.read_bytes()]
