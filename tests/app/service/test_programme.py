"""A hold-out through the service: nobody who is held out gets any AI, or is counted anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from klartext.app.service import server
from klartext.app.session import Session
from klartext.app.usecases import registry
from tests.app.letters import AB, Clock

PROGRAMME = """\
schema: klartext/experiment/v1
key: all-ai
title: All AI
owner: lena.vogt
unit: customer
scope: programme
variants:
  - {key: control, weight: 20%}
  - {key: ai, weight: 80%}
control: control
metrics:
  - {key: conversion, kind: conversion, event: purchase, window: 30d}
value:
  - {metric: conversion, worth: 20 EUR}
plan: {total_units: 100000}
decision: {expected_loss: 100 EUR}
"""
UNITS = [f"customer-{number}" for number in range(300)]


@pytest.fixture
def later(root: Path, session: Session, clock: Clock) -> Session:
    """Start the programme beside the experiments that run, and another one after it."""
    (root / "experiments" / "all-ai.yaml").write_text(PROGRAMME)
    text = AB.replace("mail-ab", "later").replace("layer: mails", "layer: later")
    text = text.replace("traffic: 40%\naudience: {country: [DE, AT]}\n", "")
    (root / "experiments" / "later.yaml").write_text(text)
    registry.apply(session, (), actor="lena")
    for key in ("all-ai", "later"):
        clock.forward(timedelta(hours=1))
        registry.move(session, key, "running", actor="lena")
    return session


@pytest.fixture
def client(later: Session) -> Iterator[TestClient]:
    with TestClient(server.build(later, flush_s=3600)) as client:
        yield client


def asked(client: TestClient, key: str, **body: object) -> dict[str, dict[str, object]]:
    """Return the answer for each unit."""
    return {
        unit: client.post(f"/v1/experiments/{key}/allocations", json={"unit": unit, **body}).json()
        for unit in UNITS
    }


def test_held_out_units_are_in_no_later_experiment(client: TestClient) -> None:
    programme = asked(client, "all-ai", expose=True)
    held = {unit for unit, answer in programme.items() if answer["variant"] == "control"}
    assert 30 < len(held) < 90
    assert all(answer["reason"] == "assigned" for answer in programme.values())
    later = asked(client, "later")
    assert {unit for unit, one in later.items() if one["reason"] == "held_out"} == held
    for unit in held:
        answer = later[unit]
        assert (answer["variant"], answer["propensity"], answer["exposed"]) == (
            "control", None, False,
        )  # fmt: skip
    # the others are split as ever, and what ran before the programme keeps its units
    assert {one["variant"] for unit, one in later.items() if unit not in held} == {"control", "ai"}
    assert {one["reason"] for one in asked(client, "subject-bandit").values()} == {"assigned"}


def test_an_exposure_of_a_held_out_unit_is_refused(client: TestClient) -> None:
    answers = asked(client, "later")
    held = next(one for one in answers.values() if one["reason"] == "held_out")
    told = client.post("/v1/exposures", json={"allocation_id": held["allocation_id"]})
    assert told.json()["rejected"] == 1
    assert "held_out" in told.text


def test_the_end_of_the_programme_reaches_the_service(
    client: TestClient, later: Session, clock: Clock
) -> None:
    assert "held_out" in {one["reason"] for one in asked(client, "later").values()}
    clock.forward(timedelta(days=1))
    registry.move(later, "all-ai", "stopped", actor="lena", reason="measured")
    client.app.state.service.catalogue.poll()  # type: ignore[attr-defined] # Starlette's
    assert {one["reason"] for one in asked(client, "later").values()} == {"assigned"}
