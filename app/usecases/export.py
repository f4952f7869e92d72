"""Export: everything the state database knows about experiments, as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from klartext.app.session import Session
from klartext.app.usecases.registry import require_registered
from klartext.app.usecases.standing import deliveries
from klartext.experiments import audit, layers, registry
from klartext.experiments.state import reading
from klartext.experiments.tables import assumption_revisions, looks, policy_versions

SCHEMA = "klartext/export/v1"


def export(session: Session, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return the named experiments, default all, with their versions, record and looks.

    Each version has its canonical text beside the parsed ``spec``: SHA-256 of its UTF-8 bytes is
    the ``sha256`` that is registered. Instants are ISO 8601 in UTC.

    Raises
    ------
    NotReadyError, NotFoundError
        A key is not registered.
    """
    with reading(session.engine) as connection:
        for key in keys:
            require_registered(session, connection, key)
        last = audit.head(connection)
        return {
            "schema": SCHEMA,
            "workspace": session.workspace.name,
            "audit_head": {"seq": last.seq, "hash": last.hash},
            "batches": {
                kind: json_ready(asdict(counts)) for kind, counts in deliveries(connection).items()
            },
            "experiments": [
                _experiment(connection, key) for key in keys or registry.keys(connection)
            ],
        }


def audit_entry(entry: audit.Entry) -> dict[str, Any]:
    """Return an audit entry as JSON."""
    return json_ready(
        {
            "seq": entry.seq,
            "at": entry.at,
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": dict(entry.detail),
            "previous": entry.previous,
            "hash": entry.hash,
        }
    )


def json_ready(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with its instants as ISO 8601 text in UTC."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in document.items()
    }


def _experiment(connection: sa.Connection, key: str) -> dict[str, Any]:
    now = registry.load(connection, key)
    return json_ready(
        {
            "key": key,
            "status": now.status,
            "version": now.version,
            "sha256": now.sha256,
            "recorded_at": now.recorded_at,
            "started_at": now.started_at,
            "stopped_at": now.stopped_at,
            "slots": [list(held) for held in layers.slots(connection, key)],
            "versions": [
                json_ready(
                    {
                        "version": version.version,
                        "sha256": version.sha256,
                        "recorded_at": version.recorded_at,
                        "actor": version.actor,
                        "spec": json.loads(version.canonical),
                        "canonical": version.canonical,
                        "source": version.source,
                    }
                )
                for version in registry.history(connection, key)
            ],
            "audit": [audit_entry(entry) for entry in audit.entries(connection, key)],
            "looks": _rows(connection, looks, key, parsed=("moments", "result")),
            "revisions": _rows(
                connection,
                assumption_revisions,
                key,
                parsed=("changes", "values", "at_look", "at_revision", "registered"),
            ),
            "policies": _rows(
                connection, policy_versions, key, parsed=("weights", "floors", "evidence")
            ),
        }
    )


def _rows(
    connection: sa.Connection, table: sa.Table, key: str, *, parsed: Sequence[str]
) -> list[dict[str, Any]]:
    query = sa.select(table).where(table.c.experiment == key).order_by(*table.primary_key.columns)
    rows = []
    for row in connection.execute(query).mappings():
        document = json_ready({name: row[name] for name in row if name != "experiment"})
        texts = {name: document[name] for name in parsed}
        read = {name: None if text is None else json.loads(text) for name, text in texts.items()}
        rows.append({**document, **read})
    return rows
