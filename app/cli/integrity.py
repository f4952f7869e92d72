"""Commands: audit verify, audit list, db upgrade, db check."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.words import counted

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    audit = typer.Typer(no_args_is_help=True, help="Read the audit log, or check that it is whole.")
    audit.command("verify")(verify)
    audit.command("list")(list_entries)
    app.add_typer(audit, name="audit")
    database = typer.Typer(no_args_is_help=True, help="Update or check the state database.")
    database.command("upgrade")(upgrade)
    database.command("check")(check)
    app.add_typer(database, name="db")


def verify(
    context: typer.Context,
    noted: Annotated[
        str | None,
        typer.Option("--noted", metavar="HASH", help="A hash noted earlier that must be in it."),
    ] = None,
    json: Json = False,
) -> None:
    """Check that nothing recorded was changed.

    No audit entry or registered version may be changed, removed, reordered or inserted.

    Who can write the database can also write a whole new log. Note the hash that this prints
    somewhere else, and give it with --noted later. Exit 1 when something is wrong.

    For example:

      klartext audit verify

      klartext audit verify --noted 9f2c...
    """
    from klartext.app.usecases import integrity  # noqa: PLC0415 - heavy

    found = integrity.verify(open_session(context), noted=noted)
    if json:
        print_json(integrity.verification_document(found))
    elif not found.findings:
        typer.echo(f"{counted(found.entries, 'entry', 'entries')}, whole and in order.")
        if found.head is not None:
            typer.echo(f"Last: {found.head.seq} {found.head.hash}")
    else:
        for finding in found.findings:
            typer.echo(finding)
    if found.findings:
        raise typer.Exit(1)


def list_entries(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(help="Only this experiment.")] = None,
    json: Json = False,
) -> None:
    """List what was done, oldest first.

    For example:

      klartext audit list

      klartext audit list mail-subject --json
    """
    from klartext.app.usecases import integrity  # noqa: PLC0415 - heavy
    from klartext.app.usecases.export import audit_entry  # noqa: PLC0415 - heavy

    entries = integrity.record_of(open_session(context), key)
    if json:
        documents = [audit_entry(entry) for entry in entries]
        print_json({"schema": "klartext/audit/v1", "entries": documents})
        return
    rows = [
        [
            str(entry.seq),
            f"{entry.at:%Y-%m-%d %H:%M:%SZ}",
            entry.actor,
            entry.action,
            entry.subject,
            str(entry.detail.get("reason") or ""),
        ]
        for entry in entries
    ]
    typer.echo(columns(["SEQ", "AT", "ACTOR", "ACTION", "SUBJECT", "REASON"], rows))


def upgrade(context: typer.Context) -> None:
    """Bring the state database up to date.

    Other commands do so too when they open it.

    For example:

      klartext db upgrade
    """
    from klartext.app.usecases import integrity  # noqa: PLC0415 - heavy

    typer.echo(
        f"The state database has schema {integrity.upgrade_database(open_session(context))}."
    )


def check(context: typer.Context, json: Json = False) -> None:
    """Check the state database; changes nothing.

    Schema, file, references, audit log and registered versions.

    Exit 1 when something is wrong, 3 when there is no database yet.

    For example:

      klartext db check
    """
    from klartext.app.usecases import integrity  # noqa: PLC0415 - heavy

    found = integrity.check_database(open_session(context))
    if json:
        print_json(
            {
                "schema": "klartext/db-check/v1",
                "state_schema": found.schema,
                "expected_schema": found.expected,
                "findings": list(found.findings),
            }
        )
    elif found.findings:
        for finding in found.findings:
            typer.echo(finding)
    else:
        typer.echo(f"The state database is sound: schema {found.schema}, audit log whole.")
    if found.findings:
        log("Nothing was changed.")
        raise typer.Exit(1)
