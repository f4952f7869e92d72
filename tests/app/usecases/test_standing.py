"""How an experiment stands, from real facts: only its own units, each once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.app.session import Session, open_session
from klartext.app.usecases import registry, standing
from klartext.experiments.records import ExposureRow
from klartext.experiments.tables import batches, looks

NOW = datetime(2027, 1, 12, 9, tzinfo=UTC)
KEY = "mail-subject"
RESULT = (
    '{"decision": {"verdict": "VERDICT", "rule": "go", "variant": null}, "by_variant": [], '
    '"registered": true, "version": 1, "spec_sha256": "", '
    '"watermark": {"batch": 1, "cutoff": "2027-01-12T09:00:00+00:00"}}'
)


@pytest.fixture
def session(workspace: Path) -> Session:
    """Return a session in which the experiment runs since `NOW`."""
    session = replace(open_session(workspace), now=lambda: NOW)
    registry.apply(session, (), actor="lena")
    registry.move(session, KEY, "running", actor="lena")
    return session


def deliver(session: Session, exposures: list[tuple[str, int]]) -> None:
    """Put exposures of (experiment, unit) into the facts, as one finished import."""
    rows = [
        ExposureRow(bytes([number]) * 16, b"p" * 16, experiment, unit, "ai", NOW)
        for number, (experiment, unit) in enumerate(exposures)
    ]
    table = session.facts.to_arrow("exposures", rows, batch=1, received_at=NOW)
    session.facts.append("exposures", table, application="test", version=1)
    with session.engine.begin() as connection:
        connection.execute(
            sa.insert(batches),
            [
                {
                    "kind": "exposures",
                    "source": "file.csv",
                    "content_sha256": "",
                    "mapping_sha256": "",
                    "received_at": NOW + timedelta(hours=hour),
                    "finished_at": finished,
                    "accepted": accepted,
                    "duplicate": 1,
                    "conflict": 0,
                    "rejected": 2,
                }
                for hour, finished, accepted in [(0, NOW, len(rows)), (1, NOW, 0), (2, None, 9)]
            ],
        )


def test_without_facts_nothing_is_counted(session: Session) -> None:
    found = standing.status(session, KEY)
    assert (found.exposed, found.deliveries, found.beside.past) == (None, {}, None)
    assert found.next_command == "klartext serve"
    assert found.since == NOW


def test_exposed_units_and_finished_imports(session: Session) -> None:
    deliver(session, [(KEY, 1), (KEY, 1), (KEY, 2), ("other", 3)])
    found = standing.status(session, KEY)
    assert found.exposed == 2
    assert found.deliveries == {
        "exposures": standing.Deliveries(2, 4, 2, 0, 4, NOW + timedelta(hours=1))
    }
    assert found.next_command == f"klartext analyze {KEY}"


def test_the_last_look_leads_to_the_report(session: Session) -> None:
    deliver(session, [(KEY, 1)])
    with session.engine.begin() as connection:
        for number, verdict in [(1, "CONTINUE"), (2, "GO")]:
            connection.execute(
                sa.insert(looks).values(
                    experiment=KEY, look=number, version=1, spec_sha256="", taken_at=NOW,
                    actor="lena", watermark_batch=1, watermark_cutoff=NOW, moments="{}",
                    result=RESULT.replace("VERDICT", verdict), verdict=verdict,
                )
            )  # fmt: skip
    found = standing.status(session, KEY)
    past = found.beside.past
    assert past is not None
    assert (past.look, past.taken_at, past.verdict.verdict) == (2, NOW, "GO")
    assert found.next_command == f"klartext report {KEY} -o report.html"


def test_each_status_names_its_next_command(session: Session) -> None:
    registry.move(session, KEY, "paused", actor="lena", reason="x")
    assert standing.status(session, KEY).next_command == f"klartext start {KEY}"
    registry.move(session, KEY, "stopped", actor="lena", reason="x")
    assert standing.status(session, KEY).next_command.startswith("klartext ingest")
    registry.move(session, KEY, "abandoned", actor="lena", reason="x")
    assert standing.status(session, KEY).next_command == f"klartext export {KEY}"
