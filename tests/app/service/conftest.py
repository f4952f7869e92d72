"""The service on a workspace with a running bandit and an A/B test."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from starlette.testclient import TestClient

from klartext.app.service import server
from klartext.app.session import Session
from tests.app.letters import clock, root, session

__all__ = ["clock", "root", "session"]


@pytest.fixture
def client(session: Session) -> Iterator[TestClient]:
    """Return a client of the service; the inbox is flushed when the service ends."""
    with TestClient(server.build(session, flush_s=3600)) as client:
        yield client


Allocate: TypeAlias = Callable[..., dict[str, Any]]


@pytest.fixture
def allocate(client: TestClient) -> Allocate:
    """Return a function that asks for an allocation and expects one."""

    def ask(key: str, unit: str, **body: Any) -> dict[str, Any]:
        answer = client.post(f"/v1/experiments/{key}/allocations", json={"unit": unit, **body})
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    return ask
