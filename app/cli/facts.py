"""Commands: ingest, dlq, facts."""

from __future__ import annotations

import json as json_module
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from klartext.experiments.ingest import Delivered

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Batch: TypeAlias = Annotated[
    int | None, typer.Option("--batch", "-b", help="Only of this batch.", show_default=False)
]
ReasonOption: TypeAlias = Annotated[
    str | None, typer.Option("--reason", "-r", help="Only with this reason.", show_default=False)
]
MappingOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--mapping", "-m", help="YAML that says what the columns mean.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command("ingest")(ingest)
    dlq = typer.Typer(help="Dead letters: rows that were rejected, and why.", no_args_is_help=True)
    dlq.command("list")(list_letters)
    dlq.command("show")(show_letter)
    dlq.command("export")(export_letters)
    app.add_typer(dlq, name="dlq")
    facts = typer.Typer(
        help="What is in the facts, where, and in which shape.", no_args_is_help=True
    )
    facts.command("show")(show_facts)
    facts.command("path")(show_path)
    facts.command("maintain")(maintain)
    app.add_typer(facts, name="facts")


def ingest(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV, JSON Lines or Parquet.", show_default=False)],
    mapping: MappingOption,
    json: Json = False,
) -> None:
    """Bring a file of exposures, events or units into the facts.

    Every row counts once, however often and in whatever order files are sent. Exit status 1 when
    rows were rejected or contradict stored ones; see klartext dlq list.

    For example:

      klartext ingest customers.csv --mapping customers.mapping.yaml
    """
    from klartext.app.usecases import facts  # noqa: PLC0415 - heavy

    session = open_session(context)
    with _progress(file.name) as advance:
        delivered = facts.ingest(session, file, mapping, progress=advance)
    if json:
        print_json(facts.delivered_document(delivered))
    else:
        _print_delivered(delivered, file.name)
    if delivered.counts.rejected or delivered.counts.conflict:
        raise typer.Exit(1)


def list_letters(
    context: typer.Context,
    batch: Batch = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(help="How many to list.", min=1)] = 50,
    json: Json = False,
) -> None:
    """List rejected rows with their position and reason.

    For example:

      klartext dlq list --batch 3 --reason naive-time
    """
    from klartext.app.usecases import facts  # noqa: PLC0415 - heavy

    letters, reasons = facts.dead_letters(
        open_session(context), batch=batch, reason=reason, limit=limit
    )
    if json:
        documents = [facts.letter_document(item) for item in letters]
        print_json({"schema": "klartext/dead-letters/v1", "reasons": reasons, "letters": documents})
        return
    if not letters:
        typer.echo("No rows were rejected.")
        return
    rows = [
        (str(item.id), str(item.batch), str(item.position), item.reason, item.detail)
        for item in letters
    ]
    typer.echo(columns(("ID", "BATCH", "ROW", "REASON", "DETAIL"), rows))
    total = sum(reasons.values())
    typer.echo(f"\n{total} rejected: " + ", ".join(f"{n} {name}" for name, n in reasons.items()))
    if total > len(letters):
        log(f"The first {len(letters)} are shown; --limit shows more, dlq export all.")


def show_letter(
    context: typer.Context,
    number: Annotated[int, typer.Argument(help="Its number.", show_default=False)],
    json: Json = False,
) -> None:
    """Show one rejected row: everything that is kept of it.

    For example:

      klartext dlq show 17
    """
    from klartext.app.usecases import facts  # noqa: PLC0415 - heavy

    document = facts.letter_document(facts.dead_letter(open_session(context), number))
    if json:
        print_json(document)
        return
    for key, value in document.items():
        if key != "schema":
            typer.echo(f"{key:<12} {'–' if value is None else value}")


def export_letters(
    context: typer.Context, batch: Batch = None, reason: ReasonOption = None
) -> None:
    """Write all rejected rows to stdout as JSON Lines.

    For example:

      klartext dlq export --batch 3 > rejected.jsonl
    """
    from klartext.app.usecases import facts  # noqa: PLC0415 - heavy

    letters, _ = facts.dead_letters(open_session(context), batch=batch, reason=reason)
    for item in letters:
        typer.echo(json_module.dumps(facts.letter_document(item), ensure_ascii=False))


def show_facts(context: typer.Context, json: Json = False) -> None:
    """Show what is in the facts: rows and time range of each table, and the watermark.

    For example:

      klartext facts show
    """
    from klartext.app.usecases import facts  # noqa: PLC0415 - heavy

    found = facts.summary(open_session(context))
    if json:
        print_json(facts.summary_document(found))
        return
    rows = [
        (item.table, f"{item.rows:,}", _minute(item.first), _minute(item.last))
        for item in found.tables
    ]
    typer.echo(columns(("TABLE", "ROWS", "FIRST", "LAST"), rows))
    typer.echo("")
    if found.watermark is None:
        typer.echo("watermark    none yet: no import of events or units has ended")
    else:
        mark = found.watermark
        batch = f"batch {mark.batch}, " if mark.batch else ""
        typer.echo(f"watermark    {batch}complete until {_minute(mark.cutoff)} UTC")
    for item in found.tables:
        if item.incomplete:
            typer.echo(
                f"left out     {item.incomplete:,} {item.table} without a unit or a time, "
                f"in {found.locations[item.table]}"
            )
    typer.echo(f"batches      {found.batches}")
    if found.pending:
        waiting = counted(found.pending, "row")
        typer.echo(f"in the inbox {waiting}, in the facts after the next flush")
    if found.interrupted:
        numbers = ", ".join(str(number) for number in found.interrupted)
        typer.echo(f"interrupted  batch {numbers}: send the same file again")


def show_path(context: typer.Context, json: Json = False) -> None:
    """Print where the tables lie, for other engines.

    For example:

      klartext facts path
    """
    from klartext.app.usecases import facts  # noqa: PLC0415 - heavy

    locations = facts.locations(open_session(context))
    if json:
        print_json({"schema": "klartext/facts-path/v1", "locations": locations})
        return
    for location in locations.values():
        typer.echo(location)


def maintain(
    context: typer.Context,
    keep_days: Annotated[
        int,
        typer.Option(
            "--keep-days", help="Files that were rewritten stay this long for readers.", min=1
        ),
    ] = 7,
    json: Json = False,
) -> None:
    """Turn many small files into few, sorted for reading, and delete those no longer read.

    Imports, the service and analyses may go on meanwhile. Facts, counts and results stay as they
    are. Running it again does nothing more. Once a week is enough; daily with many small imports.

    For example:

      klartext facts maintain
    """
    from klartext.app.usecases import facts  # noqa: PLC0415 - heavy

    session = open_session(context)
    with _progress("maintain", "days") as advance:
        done = facts.maintain(
            session,
            keep=timedelta(days=keep_days),
            progress=None if advance is None else lambda _table, number, _of: advance(number),
        )
    if json:
        print_json(facts.maintained_document(done))
        return
    rows = [
        (
            item.table,
            f"{item.days:,}",
            f"{item.files_before:,} -> {item.files_after:,}",
            f"{item.bytes_before / 1e6:,.1f} -> {item.bytes_after / 1e6:,.1f}",
            f"{item.deleted:,}",
        )
        for item in done
    ]
    typer.echo(columns(("TABLE", "DAYS REWRITTEN", "FILES", "MB", "FILES DELETED"), rows))


def _print_delivered(delivered: Delivered, file: str) -> None:
    counts = delivered.counts
    typer.echo(f"batch {delivered.batch}: {counted(counts.sent, 'row')} of {file}")
    for name in ("accepted", "duplicate", "conflict", "rejected"):
        typer.echo(f"  {name:<10}{getattr(counts, name):>12,}")
    if delivered.reasons:
        rows = [
            (item.reason, f"{item.count:,}", _positions(item.positions, item.count), item.detail)
            for item in delivered.reasons
        ]
        typer.echo("\n" + columns(("REASON", "ROWS", "AT ROW", "DETAIL OF THE FIRST"), rows))
    for name, count in sorted(delivered.dropped.items()):
        left_out = counted(count, "value")
        log(f"Property {name} is not declared in klartext.yaml: {left_out} left out.")
    if delivered.interrupted:
        numbers = ", ".join(str(number) for number in delivered.interrupted)
        log(f"Batch {numbers} of this file had been interrupted; what it stored was not doubled.")
    if delivered.namesakes:
        numbers = ", ".join(str(number) for number in delivered.namesakes)
        log(
            f"Other files called {file} came before (batch {numbers}), and id: row_number tells "
            "rows by their file: rows that stand in both count twice. If the file grows, name "
            "columns that tell its rows apart: id: [column]."
        )


def _positions(positions: tuple[int, ...], count: int) -> str:
    shown = ", ".join(str(position) for position in positions[:5])
    return shown + (", …" if count > 5 else "")


def _minute(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M}"


@contextmanager
def _progress(label: str, what: str = "rows") -> Iterator[Callable[[int], None] | None]:
    """Show progress on stderr when it is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - heavy

    with Console(stderr=True).status(f"{label} …") as status:
        yield lambda done: status.update(f"{label}: {done:,} {what}")
