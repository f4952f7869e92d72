"""The allocation route: what is served, to whom, why, and what hostile input gets."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from klartext.app.service import server
from klartext.app.session import Session
from klartext.app.usecases import registry
from klartext.app.usecases.allocation import open_signer
from klartext.experiments import policy_store
from klartext.experiments.assignment import bucket_of
from klartext.experiments.inbox import from_record
from klartext.experiments.policies import ArmEvidence, Evidence, compose
from klartext.experiments.records import ExposureRow
from klartext.experiments.state import reading
from klartext.experiments.tables import inbox
from klartext.experiments.watermark import Watermark
from tests.app.letters import Clock
from tests.app.service.conftest import Allocate

BANDIT = "/v1/experiments/subject-bandit/allocations"


def exposures(session: Session) -> list[ExposureRow]:
    with reading(session.engine) as connection:
        rows = connection.execute(sa.select(inbox.c.fact_table, inbox.c.record)).all()
    found = [from_record(row.fact_table, row.record) for row in rows]
    return [row for row in found if isinstance(row, ExposureRow)]


def test_answer_says_what_was_served_and_its_id_proves_it(
    session: Session, allocate: Allocate
) -> None:
    answer = allocate("subject-bandit", "customer-1")
    bucket = bucket_of("subject-bandit", "customer-1")
    variant, share = next(
        found for limit, found in ((500_000, ("control", 0.5)), (800_000, ("short", 0.3)),
                                   (1_000_000, ("long", 0.2))) if bucket < limit
    )  # fmt: skip
    token = answer.pop("allocation_id")
    assert answer == {
        "experiment": "subject-bandit",
        "version": 1,
        "policy_version": 1,
        "variant": variant,
        "payload": {"subject": {"control": "classic"}.get(variant, variant)},
        "propensity": share,
        "reason": "assigned",
        "exposed": False,
        "stale_s": 0,
    }
    proof = open_signer(session.workspace).verify(token)
    assert (proof.bucket, proof.variant, proof.propensity) == (bucket, variant, share * 1_000_000)
    assert proof.pseudonym == session.pseudonymiser.unit("customer-1")
    assert (proof.experiment, proof.version, proof.policy_version) == ("subject-bandit", 1, 1)
    assert proof.issued_at == session.now()


def test_thousands_of_requests_serve_what_the_hash_says(session: Session) -> None:
    units = [f"user-{i}" for i in range(2_000)]

    async def ask() -> list[dict[str, Any]]:
        app = server.build(session, flush_s=3600)
        async with app.router.lifespan_context(app):  # type: ignore[attr-defined] # Starlette's
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return [(await client.post(BANDIT, json={"unit": unit})).json() for unit in units]

    answers = asyncio.run(ask())
    for unit, answer in zip(units, answers, strict=True):
        bucket = bucket_of("subject-bandit", unit)
        expected = "control" if bucket < 500_000 else "short" if bucket < 800_000 else "long"
        assert answer["variant"] == expected
    shares = Counter(answer["variant"] for answer in answers)
    assert abs(shares["control"] - 1_000) < 4 * (2_000 * 0.25) ** 0.5


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({"country": "DE"}, None),
        ({"country": "FR"}, "outside_audience"),
        ({}, "outside_audience"),
        ({"country": ["DE"]}, "outside_audience"),
    ],
)
def test_units_outside_get_the_control_and_are_not_exposed(
    session: Session, allocate: Allocate, context: dict[str, Any], reason: str | None
) -> None:
    reasons = set()
    for i in range(40):
        answer = allocate("mail-ab", f"u{i}", context=context)
        reasons.add(answer["reason"])
        if answer["reason"] != "assigned":
            assert (answer["variant"], answer["propensity"]) == ("control", None)
            assert answer["payload"] == {"template": "classic"}
        assert answer["exposed"] is (answer["reason"] == "assigned")
        assert answer["policy_version"] == answer["version"]
    assert reasons == ({reason} if reason else {"assigned", "outside_traffic"})
    assert bool(exposures(session)) is (reason is None)


def test_exposure_is_durable_before_the_answer_and_carries_the_propensity(
    session: Session, allocate: Allocate
) -> None:
    answer = allocate("subject-bandit", "customer-1", expose=True)
    (row,) = exposures(session)
    assert answer["exposed"]
    assert (row.experiment, row.variant) == ("subject-bandit", answer["variant"])
    assert row.propensity == answer["propensity"] * 1_000_000
    assert row.policy_version == 1
    assert row.unit == session.pseudonymiser.unit("customer-1")


def test_forced_variant_is_served_and_never_analysed(session: Session, allocate: Allocate) -> None:
    answer = allocate("subject-bandit", "tester", force="long", expose=True)
    assert (answer["variant"], answer["reason"]) == ("long", "forced")
    assert (answer["propensity"], answer["exposed"]) == (None, False)
    assert not exposures(session)


def test_lifecycle_and_new_policies_reach_the_service(
    session: Session, client: TestClient, allocate: Allocate
) -> None:
    catalogue = _catalogue(client)
    _publish(session, control=0, short=0, long=1_000_000)
    catalogue.poll()
    answer = allocate("subject-bandit", "customer-1")
    assert (answer["variant"], answer["policy_version"]) == ("long", 2)
    assert answer["propensity"] == 1.0
    registry.move(session, "subject-bandit", "paused", actor="lena", reason="incident")
    catalogue.poll()
    answer = allocate("subject-bandit", "customer-1", expose=True)
    assert (answer["variant"], answer["reason"], answer["exposed"]) == ("control", "paused", False)
    registry.move(session, "subject-bandit", "stopped", actor="lena", reason="over")
    catalogue.poll()
    assert allocate("subject-bandit", "customer-1")["reason"] == "not_running"


def test_unit_that_sends_its_allocation_id_keeps_variant_and_propensity(
    session: Session, clock: Clock, client: TestClient, allocate: Allocate
) -> None:
    before = allocate("subject-bandit", "customer-1")
    keys = ("control", "short", "long")
    others = [key for key in keys if key != before["variant"]]
    share = {before["variant"]: 20_000, others[0]: 960_000, others[1]: 20_000}
    _publish(session, **{key: share[key] for key in keys})
    _catalogue(client).poll()
    clock.forward(timedelta(hours=1))
    kept = allocate("subject-bandit", "customer-1", allocation_id=before["allocation_id"])
    assert kept == before
    moved = [allocate("subject-bandit", f"u{i}")["variant"] for i in range(50)]
    assert moved.count(others[0]) > 40


def test_foreign_or_altered_allocation_id_is_refused(
    client: TestClient, allocate: Allocate
) -> None:
    token = allocate("subject-bandit", "customer-1")["allocation_id"]
    flipped = token[:-1] + ("A" if token[-1] != "A" else "Q")
    for unit, text in (("customer-2", token), ("customer-1", flipped), ("customer-1", "x")):
        answer = client.post(BANDIT, json={"unit": unit, "allocation_id": text})
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"


def test_integer_and_text_ids_are_the_same_unit(allocate: Allocate, client: TestClient) -> None:
    number = client.post(BANDIT, json={"unit": 42}).json()
    assert number == allocate("subject-bandit", "42")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/experiments/subject-bandid/allocations", 404, "unknown-experiment"),
        ("/v1/nothing", 404, "no-such-path"),
    ],
)
def test_unknown_places(client: TestClient, path: str, status: int, code: str) -> None:
    answer = client.post(path, json={"unit": "u"})
    assert answer.status_code == status
    assert answer.json()["type"] == f"urn:klartext:problem:{code}"
    if code == "unknown-experiment":
        assert "Did you mean 'subject-bandit'?" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad-json"),
        (b"{", 400, "bad-json"),
        (b'{"unit": "\xff"}', 400, "bad-json"),
        (b'{"unit": "\\ud800"}', 400, "bad-json"),
        (b'{"unit": NaN}', 400, "bad-json"),
        (b"[" * 100_000, 413, "body-too-large"),
        (b"[" * 60_000, 400, "bad-json"),
        (b"[]", 422, "not-an-object"),
        (b"null", 422, "not-an-object"),
        (b"{}", 422, "invalid-request"),
        (b'{"unit": null}', 422, "invalid-request"),
        (b'{"unit": ""}', 422, "invalid-request"),
        (b'{"unit": 1.5}', 422, "invalid-request"),
        (b'{"unit": true}', 422, "invalid-request"),
        (b'{"unit": {"a": 1}}', 422, "invalid-request"),
        (b'{"unit": "u", "context": []}', 422, "invalid-request"),
        (b'{"unit": "u", "expose": "yes"}', 422, "invalid-request"),
        (b'{"unit": "u", "surprise": 1}', 422, "invalid-request"),
        (b'{"unit": "u", "force": "nobody"}', 422, "unknown-variant"),
        (b'{"unit": "' + b"x" * 600 + b'"}', 422, "invalid-request"),
    ],
)
def test_hostile_bodies_get_a_problem(
    client: TestClient, body: bytes, status: int, code: str
) -> None:
    answer = client.post(BANDIT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:klartext:problem:{code}"
    assert problem["status"] == status
    assert problem["detail"]


def test_all_wrong_members_are_named_at_once(client: TestClient) -> None:
    answer = client.post(BANDIT, json={"unit": [], "context": 1, "expose": 1, "forse": "x"})
    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"/unit", "/context", "/expose", "/forse"}


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded"])
def test_a_web_page_cannot_post_without_a_preflight(client: TestClient, kind: str) -> None:
    answer = client.post(BANDIT, content=b'{"unit": "u"}', headers={"content-type": kind})
    assert answer.status_code == 415


def test_wrong_method(client: TestClient) -> None:
    answer = client.get(BANDIT)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["content-type"] == "application/problem+json"


def test_loopback_service_answers_no_other_name(session: Session) -> None:
    app = server.build(session, flush_s=3600, allowed_hosts=("localhost", "127.0.0.1", "[::1]"))
    with TestClient(app) as client:
        for host, status in (
            ("rebound.example", 421),
            ("127.0.0.1:8787", 200),
            ("LOCALHOST", 200),
            ("[::1]:8787", 200),
            ("[::2]", 421),
            ("", 421),
        ):
            assert client.get("/healthz", headers={"host": host}).status_code == status


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
bodies = json_values | st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("unit", "context", "expose", "force", "allocation_id"), json_values),
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=bodies, path=st.sampled_from([BANDIT, "/v1/events", "/v1/exposures"]))
def test_no_json_breaks_the_service(client: TestClient, body: Any, path: str) -> None:
    answer = client.post(
        path, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code in {200, 202, 400, 422}


def _catalogue(client: TestClient) -> Any:
    return client.app.state.service.catalogue  # type: ignore[attr-defined] # Starlette's


def _publish(session: Session, **shares: int) -> None:
    """Publish the shares as learned weights."""
    with session.engine.begin() as connection:
        evidence = Evidence("open", "increase", tuple(ArmEvidence(key, 1, 0, 0) for key in shares))
        policy = compose(
            "subject-bandit",
            tuple((key, share, 0) for key, share in shares.items()),
            parent=policy_store.latest(connection, "subject-bandit"),
            basis=(Watermark(1, session.now()), evidence),
            now=session.now(),
        )
        policy_store.publish(connection, policy, actor="lena")


@pytest.mark.parametrize(
    ("context", "kept"),
    [
        ({"country": "DE", "email": "a@b.example"}, {"country": "DE"}),
        ({"country": "AT", "age": {"is": 7}}, {"country": "AT"}),
    ],
)
def test_an_exposure_keeps_the_segments_of_its_context_and_nothing_else(
    session: Session, allocate: Allocate, context: dict[str, Any], kept: dict[str, str]
) -> None:
    for number in range(50):  # 40 % take part
        if allocate("mail-ab", f"customer-{number}", context=context)["exposed"]:
            break
    (row,) = exposures(session)
    assert row.properties == kept


def test_a_posted_exposure_may_say_its_properties(
    session: Session, client: TestClient, allocate: Allocate
) -> None:
    tokens = [allocate("subject-bandit", f"customer-{i}")["allocation_id"] for i in range(3)]
    said: list[Any] = [{"country": "DE", "undeclared": 1}, None, {"country": ["DE"]}]
    items = [{"allocation_id": t, "properties": p} for t, p in zip(tokens, said, strict=True)]
    answer = client.post("/v1/exposures", json=items)
    assert answer.status_code == 202
    assert [row.properties for row in exposures(session)] == [{"country": "DE"}, {}]
    assert "bad-properties" in answer.text
