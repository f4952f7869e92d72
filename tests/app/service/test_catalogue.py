"""The catalogue: what serves when state changes, is altered by hand, or is gone."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from klartext.app.service.catalogue import Catalogue
from klartext.app.session import Session
from klartext.app.usecases import registry
from klartext.app.usecases.allocation import open_signer
from klartext.experiments import policy_store
from klartext.experiments.state import reading
from klartext.experiments.tables import experiment_versions, experiments, policy_versions
from tests.app.letters import BANDIT, Clock
from tests.app.service.conftest import Allocate


@pytest.fixture
def catalogue(session: Session) -> Catalogue:
    return Catalogue(session, open_signer(session.workspace))


def lose(session: Session) -> Callable[[], None]:
    """Take the state database away; the returned function brings it back."""
    session.engine.dispose()
    state = Path(str(session.engine.url.database))
    away = state.with_suffix(".away")
    state.rename(away)
    state.mkdir()

    def restore() -> None:
        state.rmdir()
        away.rename(state)

    return restore


def test_start_weights_are_published_once_when_a_bandit_begins_to_serve(
    session: Session, catalogue: Catalogue
) -> None:
    catalogue.refresh()
    Catalogue(session, open_signer(session.workspace)).refresh()
    with reading(session.engine) as connection:
        (first,) = policy_store.history(connection, "subject-bandit")
        assert policy_store.history(connection, "mail-ab") == ()
    assert dict(first.weights) == {"control": 500_000, "short": 300_000, "long": 200_000}
    assert catalogue.servings["subject-bandit"].policy_version == 1
    assert catalogue.servings["mail-ab"].policy_version == 1


def test_drafts_are_known_and_not_running(root: Path, session: Session) -> None:
    text = BANDIT.replace("subject-bandit", "another-bandit").replace("bandits", "others")
    (root / "experiments" / "another.yaml").write_text(text)
    registry.apply(session, (), actor="lena")
    catalogue = Catalogue(session, open_signer(session.workspace))
    catalogue.refresh()
    assert catalogue.servings["another-bandit"].nobody == "not_running"
    with reading(session.engine) as connection:
        assert policy_store.history(connection, "another-bandit") == ()


def test_unchanged_experiments_are_not_loaded_again(catalogue: Catalogue) -> None:
    catalogue.refresh()
    catalogue.refresh()  # the first one published start weights
    before = dict(catalogue.servings)
    catalogue.refresh()
    assert all(catalogue.servings[key] is serving for key, serving in before.items())


def test_without_the_database_the_last_policy_serves_and_says_how_stale_it_is(
    session: Session, clock: Clock, client: TestClient, allocate: Allocate
) -> None:
    before = allocate("subject-bandit", "customer-1")
    catalogue: Catalogue = client.app.state.service.catalogue  # type: ignore[attr-defined] # Starlette's
    restore = lose(session)
    clock.forward(timedelta(seconds=90))
    catalogue.poll()
    during = allocate("subject-bandit", "customer-1")
    assert (during["variant"], during["stale_s"]) == (before["variant"], 90)
    assert client.get("/readyz").json()["stale_s"] == 90
    event = {"id": "1", "unit": "u", "name": "mail_open", "occurred_at": "2027-01-12T09:00:00Z"}
    refused = client.post("/v1/events", json=event)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    exposing = client.post(
        "/v1/experiments/subject-bandit/allocations", json={"unit": "u", "expose": True}
    )
    assert exposing.status_code == 503
    restore()
    catalogue.poll()
    assert allocate("subject-bandit", "customer-1")["stale_s"] == 0
    assert client.post("/v1/events", json=event).status_code == 202


def alter(session: Session, statement: Any) -> None:
    with session.engine.begin() as connection:
        connection.execute(statement)


def test_policy_altered_by_hand_never_serves(session: Session, catalogue: Catalogue) -> None:
    catalogue.refresh()
    good = catalogue.servings["subject-bandit"].split
    alter(
        session,
        sa.update(policy_versions).values(weights='{"control": 0, "short": 0, "long": 1000000}'),
    )
    registry.move(session, "subject-bandit", "paused", actor="lena", reason="a look")
    catalogue.refresh()
    assert catalogue.servings["subject-bandit"].nobody == "paused"
    registry.move(session, "subject-bandit", "running", actor="lena")
    catalogue.refresh()
    assert catalogue.servings["subject-bandit"].nobody is None
    assert catalogue.servings["subject-bandit"].split == good
    fresh = Catalogue(session, open_signer(session.workspace))
    fresh.refresh()
    assert fresh.servings["subject-bandit"].nobody == "fallback"


def test_altered_experiment_can_still_be_stopped(session: Session, catalogue: Catalogue) -> None:
    catalogue.refresh()
    alter(session, sa.update(experiment_versions).values(canonical="{}"))
    alter(session, sa.update(experiments).values(status="stopped"))
    catalogue.refresh()
    assert catalogue.servings["mail-ab"].nobody == "not_running"


def test_experiment_altered_by_hand_does_not_stop_the_others(
    session: Session, catalogue: Catalogue
) -> None:
    alter(
        session,
        sa.update(experiment_versions)
        .where(experiment_versions.c.key == "mail-ab")
        .values(canonical="{}"),
    )
    catalogue.refresh()
    assert set(catalogue.servings) == {"subject-bandit"}
