"""The ledger in state: append-only, and readable as it stood at any earlier instant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from klartext.experiments.ledger.lines import Line, LineError, check, may_supersede
from klartext.experiments.money import Money
from klartext.experiments.tables import ledger_lines

Outcome: TypeAlias = Literal["accepted", "duplicate", "conflict"]
_KEYS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Draft:
    """A line to be recorded.

    ``key`` identifies it within the workspace, ``payload`` is a digest of all it says: the same
    key with another payload contradicts the line that is there.
    """

    key: str
    payload: str
    line: Line


@dataclass(frozen=True, slots=True)
class Recorded:
    """A line of the ledger with its number, key, and when and by whom it was recorded."""

    number: int
    key: str
    recorded_at: datetime
    actor: str
    line: Line


def append(
    connection: sa.Connection,
    drafts: Sequence[Draft],
    *,
    actor: str,
    now: datetime,
    batch: int | None = None,
) -> list[Outcome]:
    """Record the lines that are new; in one transaction with whatever else the caller does.

    Raises
    ------
    LineError
        One of them is no line, or supersedes what it cannot; nothing of the transaction counts.

    Notes
    -----
    Nothing is ever changed or removed. ``recorded_at`` never runs backwards, whatever the clock
    does: a report ``as_of`` an instant is the same for ever.
    """
    known = _payloads(connection, [draft.key for draft in drafts])
    latest = connection.scalar(sa.select(sa.func.max(ledger_lines.c.recorded_at)))
    recorded_at = now if latest is None else max(now, latest)
    outcomes: list[Outcome] = []
    rows: list[dict[str, Any]] = []
    for draft in drafts:
        if draft.key in known:
            outcomes.append("duplicate" if known[draft.key] == draft.payload else "conflict")
            continue
        line = check(draft.line)
        if line.supersedes is not None:
            line = may_supersede(line, _standing(connection, line.supersedes))
        known[draft.key] = draft.payload
        outcomes.append("accepted")
        rows.append(
            _row(draft, line) | {"recorded_at": recorded_at, "actor": actor, "batch": batch}
        )
    if rows:
        connection.execute(ledger_lines.insert(), rows)
    return outcomes


def standing(
    connection: sa.Connection,
    *,
    as_of: datetime | None = None,
    source: str | None = None,
    experiment: str | None = None,
) -> Iterator[Recorded]:
    """Yield the lines in force, in the order in which they were recorded.

    Parameters
    ----------
    connection
        State.
    as_of
        As the ledger stood at this instant; None is now.
    source, experiment
        Of one source or experiment only.

    Notes
    -----
    A line is in force from when it was recorded until another one that supersedes it is, and a
    share only as long as the line that it shares. Void lines only take others out.
    """
    later = ledger_lines.alias()
    gone = (later.c.supersedes == ledger_lines.c.number) | (
        later.c.supersedes == ledger_lines.c.allocates
    )
    replaced = sa.exists().where(gone)
    if as_of is not None:
        replaced = replaced.where(later.c.recorded_at <= as_of)
    query = sa.select(ledger_lines).where(~replaced, ledger_lines.c.status != "void")
    if as_of is not None:
        query = query.where(ledger_lines.c.recorded_at <= as_of)
    if source is not None:
        query = query.where(ledger_lines.c.source == source)
    if experiment is not None:
        query = query.where(ledger_lines.c.experiment == experiment)
    for row in connection.execute(query.order_by(ledger_lines.c.number)):
        yield _recorded(row)


def history(connection: sa.Connection, *, source: str) -> Iterator[Recorded]:
    """Yield every line of a source that was ever recorded, in that order."""
    query = sa.select(ledger_lines).where(ledger_lines.c.source == source)
    for row in connection.execute(query.order_by(ledger_lines.c.number)):
        yield _recorded(row)


def number_of(connection: sa.Connection, key: str) -> int:
    """Return the number under which the line with ``key`` was recorded."""
    query = sa.select(ledger_lines.c.number).where(ledger_lines.c.key == key)
    number: int = connection.execute(query).scalar_one()
    return number


def _standing(connection: sa.Connection, number: int) -> Line:
    query = sa.select(ledger_lines).where(ledger_lines.c.number == number)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise LineError("bad-supersedes", f"there is no line {number}")
    by = sa.select(ledger_lines.c.number).where(ledger_lines.c.supersedes == number)
    if (other := connection.scalar(by)) is not None:
        raise LineError("bad-supersedes", f"line {number} is superseded by line {other} already")
    return _recorded(row).line


def _payloads(connection: sa.Connection, keys: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for first in range(0, len(keys), _KEYS_AT_ONCE):
        query = sa.select(ledger_lines.c.key, ledger_lines.c.payload).where(
            ledger_lines.c.key.in_(keys[first : first + _KEYS_AT_ONCE])
        )
        found |= {row.key: row.payload for row in connection.execute(query)}
    return found


_PLAIN = (
    "source",
    "status",
    "kind",
    "category",
    "behaviour",
    "reporting",
    "evidence",
    "billed",
    "vat",
    "experiment",
    "variant",
    "cost_centre",
    "account",
    "label",
    "billing_start",
    "supersedes",
    "provider",
    "replaces",
    "allocates",
)


def _row(draft: Draft, line: Line) -> dict[str, Any]:
    return {
        "key": draft.key,
        "payload": draft.payload,
        "service_start": line.start,
        "service_end": line.end,
        "amount": line.amount.amount,
        "currency": line.amount.currency,
        **{name: getattr(line, name) for name in _PLAIN},
    }


def _recorded(row: sa.Row[Any]) -> Recorded:
    line = Line(
        start=row.service_start,
        end=row.service_end,
        amount=Money(row.amount, row.currency),
        **{name: getattr(row, name) for name in _PLAIN},
    )
    return Recorded(row.number, row.key, row.recorded_at, row.actor, line)
