"""Integrity of the state database: the record is what was written, the schema is current."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa

from klartext.app.session import Session
from klartext.experiments import audit, migrations, registry, revisions
from klartext.experiments.errors import NotReadyError
from klartext.experiments.experiment import Json
from klartext.experiments.state import open_state, reading


@dataclass(frozen=True, slots=True)
class Verification:
    """Audit log and registry, compared; without ``findings`` all is well.

    ``first_broken`` is the number of the first entry that is not as it was written.
    """

    entries: int
    head: audit.Head | None
    first_broken: int | None
    altered: tuple[str, ...]
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """Schema of the database and of this version, and what is wrong with the content."""

    schema: str | None
    expected: str
    findings: tuple[str, ...]


def verify(session: Session, *, noted: str | None = None) -> Verification:
    """Check the audit chain, and every registered version against it.

    Parameters
    ----------
    noted
        Hash of an entry, written down earlier: the log must still contain it.
    """
    with reading(session.engine) as connection:
        return _verification(connection, noted=noted)


def record_of(session: Session, key: str | None) -> tuple[audit.Entry, ...]:
    """Return the audit log, oldest first; of one experiment when ``key`` is given."""
    with reading(session.engine) as connection:
        return audit.entries(connection, key)


def upgrade_database(session: Session) -> str:
    """Bring the schema up to date and return it.

    Raises
    ------
    ConflictError
        The database was written by a newer Klartext.
    """
    migrations.upgrade(open_state(session.workspace.state_url))
    return migrations.HEAD


def check_database(session: Session) -> DatabaseCheck:
    """Check schema, file, references, audit log and registry without changing anything.

    Raises
    ------
    NotReadyError
        There is no database yet.
    """
    url = sa.make_url(session.workspace.state_url)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise NotReadyError("There is no state database yet. Make it with `klartext db upgrade`.")
    engine = open_state(session.workspace.state_url)
    schema = migrations.current(engine)
    if schema != migrations.HEAD:
        newer = schema is not None and schema > migrations.HEAD
        advice = (
            "Install the newer Klartext that wrote it" if newer else "Run `klartext db upgrade`"
        )
        text = f"The schema is {schema or 'missing'}, this Klartext needs {migrations.HEAD}."
        return DatabaseCheck(schema, migrations.HEAD, (f"{text} {advice}.",))
    with reading(engine) as connection:
        findings = (*_sqlite_findings(connection), *_verification(connection, noted=None).findings)
    return DatabaseCheck(schema, migrations.HEAD, findings)


def verification_document(found: Verification) -> dict[str, Json]:
    """Return a verification as JSON."""
    return {
        "schema": "klartext/audit-verification/v1",
        "intact": not found.findings,
        "entries": found.entries,
        "head": None if found.head is None else asdict(found.head),
        "first_broken": found.first_broken,
        "altered": list(found.altered),
        "findings": list(found.findings),
    }


def _verification(connection: sa.Connection, *, noted: str | None) -> Verification:
    entries = audit.count(connection)
    broken = audit.verify(connection)
    # a log that was edited says nothing about the versions, and may not even be JSON any more
    altered = registry.altered(connection) if broken is None else ()
    revised = revisions.altered(connection) if broken is None else ()
    findings = []
    if broken is not None:
        findings.append(
            f"Audit entry {broken} is not as it was written: it or one before it was changed, "
            f"removed or inserted. Compare with a backup from before."
        )
    findings.extend(
        f"{version} is not what the audit log registered. Restore it from a backup."
        for version in altered
    )
    findings.extend(
        f"{revision} is not what was signed in the audit log. Restore it from a backup."
        for revision in revised
    )
    if noted is not None and not audit.contains(connection, noted):
        findings.append(
            f"The noted hash {noted} is not in the audit log: the log was written anew since. "
            f"Compare with a backup from before."
        )
    head = audit.head(connection) if broken is None else None
    return Verification(entries, head, broken, (*altered, *revised), tuple(findings))


def _sqlite_findings(connection: sa.Connection) -> tuple[str, ...]:
    if connection.dialect.name != "sqlite":
        return ()
    damage = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return (
        *(f"SQLite: {text}. Restore a backup." for text in damage if text != "ok"),
        *(
            f"Row {row[1]} of {row[0]} refers to a row of {row[2]} that is gone. Restore a backup."
            for row in orphans
        ),
    )
