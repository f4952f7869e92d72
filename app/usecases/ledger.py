"""The cost ledger: bring bills in, add a line by hand, read it as it stood."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from klartext.app.session import Session
from klartext.app.usecases.facts import open_door
from klartext.app.usecases.registry import require_registered
from klartext.experiments import audit, registry
from klartext.experiments.door import Door
from klartext.experiments.errors import KlartextError
from klartext.experiments.imports.bill_mapping import load_bill_mapping
from klartext.experiments.imports.bills import open_bill
from klartext.experiments.imports.bookings import Booking, Books, book
from klartext.experiments.imports.focus import BillOptions, open_focus
from klartext.experiments.ledger import book as ledger
from klartext.experiments.ledger.bills import name_of, replaced_by
from klartext.experiments.ledger.book import Draft, Recorded
from klartext.experiments.ledger.lines import Behaviour, Kind, Line, LineError, Status, converted
from klartext.experiments.ledger.sums import Cost, Reconciled, by_category, reconciled
from klartext.experiments.money import Money
from klartext.experiments.state import reading

BY_HAND = "manual"
"""Source of lines that a person added."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line as a person states it; see `klartext.experiments.ledger.lines.Line`."""

    category: str
    amount: Money
    start: datetime
    end: datetime
    status: Status = "estimated"
    kind: Kind = "charge"
    behaviour: Behaviour = "time_based"
    vat: Decimal | None = None
    experiment: str | None = None
    variant: str | None = None
    cost_centre: str | None = None
    account: str | None = None
    label: str | None = None
    evidence: str | None = None
    supersedes: int | None = None
    provider: str | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerImport:
    """What became of a bill, and what the ledger costs with it."""

    booking: Booking
    currency: str
    costs: tuple[Cost, ...]
    reconciled: tuple[Reconciled, ...]


@dataclass(frozen=True, slots=True)
class LedgerListing:
    """The ledger as of an instant, cut to a period of service when one was asked for.

    ``unallocated`` is the part of its cost that is of no experiment.
    """

    as_of: datetime
    start: datetime | None
    end: datetime | None
    costs: tuple[Cost, ...]
    reconciled: tuple[Reconciled, ...]
    lines: tuple[Recorded, ...]
    unallocated: Decimal


def import_focus(
    session: Session, path: Path, options: BillOptions, *, actor: str, restates: bool = False
) -> LedgerImport:
    """Bring a FOCUS bill into the ledger, exactly once however often it is sent.

    Raises
    ------
    NotFoundError, NotReadyError
        There is no such file, or the experiment is not registered.
    ConfigurationError, FileError
        It is no FOCUS file.
    """
    door = _door(session, options.experiment, options.variant)
    source, rows = open_focus(path, options, door)
    books = Books(session.engine, session.now, actor)
    booking = book(source, rows, books, door, restates=restates)
    return _imported(session, booking, source.name)


def import_bill(session: Session, path: Path, mapping: Path, *, actor: str) -> LedgerImport:
    """Bring invoices or timesheets into the ledger, exactly once however often a file is sent.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError, FileError
        The mapping has mistakes, or the file does not fit it.
    """
    door = _door(session, None, None)
    source, rows = open_bill(path, load_bill_mapping(mapping), door)
    books = Books(session.engine, session.now, actor)
    booking = book(source, rows, books, door)
    return _imported(session, booking, source.name)


def add(session: Session, entry: Entry, *, actor: str) -> Recorded:
    """Record one line by hand, in the audit log too.

    The same line twice is two lines: nobody but the person knows whether it is meant.

    Raises
    ------
    KlartextError
        It is no line, there is no exchange rate, or it supersedes or replaces what it cannot.
    """
    door = _door(session, entry.experiment, entry.variant)
    _check_replaced(session, entry)
    stated = asdict(entry) | {"amount": entry.amount}
    with _as_error(), session.engine.begin() as connection:
        audit.lock(connection)
        now = session.now()
        rate = converted(
            entry.amount, door.currency, door.rates, at=entry.start, timezone=door.timezone
        )
        evidence = entry.evidence or f"stated by {actor}"
        stated["evidence"] = f"{evidence}; {rate.evidence}" if rate.evidence else evidence
        line = Line(source=BY_HAND, reporting=rate.amount, **stated)
        number = audit.head(connection).seq + 1
        digest = door.pseudonymiser.digest
        payload = digest("ledger", BY_HAND, repr(line)).hex()
        key = digest("ledger", BY_HAND, str(number), payload).hex()
        ledger.append(connection, [Draft(key, payload, line)], actor=actor, now=now)
        recorded = ledger.number_of(connection, key)
        audit.record(
            connection,
            actor=actor,
            action="add-cost",
            subject=entry.experiment or "ledger",
            detail={"line": recorded, "payload": payload},
            now=now,
        )
    with reading(session.engine) as connection:
        return next(each for each in ledger.standing(connection) if each.number == recorded)


def listing(
    session: Session,
    *,
    as_of: datetime | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    lines: bool = False,
) -> LedgerListing:
    """Return the ledger as it stood at ``as_of``; the same instant gives the same cents for ever.

    Parameters
    ----------
    session
        The workspace.
    as_of
        Instant up to which lines had been recorded; None is now.
    start, end
        Period of service to cut costs to.
    lines
        Return the lines too.

    Raises
    ------
    KlartextError
        The period ends before it begins, or ``as_of`` is still to come.
    """
    if start is not None and end is not None and end <= start:
        raise KlartextError("--until must be later than --from: the period is empty.")
    now = session.now()
    at = as_of or now
    if at > now:
        raise KlartextError(f"{at:%Y-%m-%dT%H:%M:%SZ} is still to come: nothing is known of it.")
    with reading(session.engine) as connection:
        found = tuple(ledger.standing(connection, as_of=at))
    company = by_category(
        (each for each in found if each.line.experiment is None), start=start, end=end
    )
    return LedgerListing(
        at,
        start,
        end,
        by_category(found, start=start, end=end),
        reconciled(found),
        found if lines else (),
        sum((cost.amount for cost in company), Decimal(0)),
    )


def _imported(session: Session, booking: Booking, source: str) -> LedgerImport:
    with reading(session.engine) as connection:
        return LedgerImport(
            booking,
            session.workspace.currency,
            by_category(ledger.standing(connection, source=source)),
            reconciled(ledger.standing(connection, source=source)),
        )


def _door(session: Session, experiment: str | None, variant: str | None) -> Door:
    door = open_door(session)
    if experiment is not None:
        with reading(session.engine) as connection:
            require_registered(session, connection, experiment)
        known = door.variants[experiment]
        if variant is not None and variant not in known:
            raise KlartextError(f"{experiment} has no variant {variant!r}: {', '.join(known)}")
    elif variant is not None:
        raise KlartextError(f"{variant!r} is a variant of no experiment: name the experiment")
    return door


def _check_replaced(session: Session, entry: Entry) -> None:
    """Refuse a line in the place of a cost line that the spec does not have, or not once."""
    if entry.replaces is None or entry.experiment is None:
        return
    with reading(session.engine) as connection:
        stated = registry.load(connection, entry.experiment).experiment.costs.lines
    if len(replaced_by(stated, entry.replaces, entry.variant)) != 1:
        of = "all variants" if entry.variant is None else f"variant {entry.variant}"
        known = [f"{name_of(line)} ({line.variant or 'all variants'})" for line in stated]
        raise KlartextError(
            f"{entry.experiment} has not one cost line {entry.replaces!r} for {of}; it has "
            f"{', '.join(known) or 'none'}."
        )


@contextmanager
def _as_error() -> Iterator[None]:
    try:
        yield
    except LineError as error:
        raise KlartextError(f"{error.detail}.") from None
