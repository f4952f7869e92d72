"""The portfolio: all experiments with their recorded verdicts and their cost, and the sums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import sqlalchemy as sa

import klartext
from klartext.analysis.booked import book
from klartext.analysis.outlay import Outlay, outlay_of, running_period
from klartext.analysis.portfolio import Entry, Portfolio, Unreadable, portfolio_of
from klartext.analysis.recorded import RecordedLook, read_look
from klartext.analysis.value import period_of
from klartext.app.session import Session
from klartext.app.usecases.analysis import open_facts
from klartext.app.usecases.pages import check_folder, replace_file
from klartext.experiments import registry
from klartext.experiments.errors import KlartextError, NotReadyError
from klartext.experiments.ledger.fx import NoRate, Rates, read_rates
from klartext.experiments.registry import Registered
from klartext.experiments.state import reading
from klartext.experiments.tables import looks
from klartext.reports import portfolio_page
from klartext.reports.language import Language

_LAUNCHED = frozenset({"decided", "live", "archived"})


@dataclass(frozen=True, slots=True)
class Written:
    """A page on disk, and what it shows."""

    portfolio: Portfolio
    path: Path
    language: Language
    size: int
    sha256: str


def portfolio(session: Session) -> Portfolio:
    """Return all registered experiments and their sums; takes no look and changes nothing.

    Verdicts and benefits are those of the look that was recorded last. An experiment that cannot
    be read is listed with the reason, and the others are still summed.

    Raises
    ------
    ConfigurationError
        The exchange rates have mistakes.
    """
    workspace = session.workspace
    rates = Rates() if workspace.rates_file is None else read_rates(workspace.rates_file)
    now = session.now()
    entries: list[Entry] = []
    unreadable: list[Unreadable] = []
    with reading(session.engine) as connection:
        keys = registry.keys(connection)
    for key in keys:
        try:
            entries.append(_converted(_entry(session, key), rates, workspace.currency, now=now))
        except KlartextError as error:
            unreadable.append(Unreadable(key, str(error)))
    return portfolio_of(
        entries,
        unreadable,
        currency=workspace.currency,
        timezone=workspace.timezone,
        generated_at=now,
    )


def write(session: Session, output: Path, *, language: Language | None = None) -> Written:
    """Write the portfolio as one HTML file and say what was written.

    Raises
    ------
    NotFoundError
        There is no folder to write to.
    """
    check_folder(output)
    found = portfolio(session)
    chosen = language or session.workspace.language
    content = portfolio_page.render(found, chosen, version=klartext.__version__).encode()
    replace_file(output, content)
    return Written(found, output, chosen, len(content), hashlib.sha256(content).hexdigest())


def _entry(session: Session, key: str) -> Entry:
    with reading(session.engine) as connection:
        registered = registry.load(connection, key)
        look = _last_look(connection, key)
    return Entry(
        experiment=registered.experiment,
        status=registered.status,
        started_at=registered.started_at,
        stopped_at=registered.stopped_at,
        look=look,
        launched=_launched(registered, look),
        outlay=_outlay(session, registered),
    )


def _last_look(connection: sa.Connection, key: str) -> RecordedLook | None:
    query = (
        sa.select(looks.c.look, looks.c.taken_at, looks.c.result, looks.c.moments)
        .where(looks.c.experiment == key)
        .order_by(looks.c.look.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    try:
        return read_look(row.result, row.moments, number=row.look, taken_at=row.taken_at)
    except ValueError as error:
        raise KlartextError(str(error)) from error


def _launched(registered: Registered, look: RecordedLook | None) -> str | None:
    """Return what a GO launched; one that waited for signatures, once it was enacted."""
    if look is None:
        return None
    signed = look.verdict == "GO_PENDING_APPROVAL" and registered.status in _LAUNCHED
    return look.variant if signed or look.verdict in {"GO", "GO_LIMITED"} else None


def _outlay(session: Session, registered: Registered) -> Outlay:
    ended = registered.stopped_at or session.now()
    begun = registered.status != "draft"
    try:
        with open_facts(session, registered) as facts:
            readout = replace(facts.read_out(), caps=facts.caps)
    except NotReadyError:  # no facts at all
        readout, experiment = None, registered.experiment
    else:
        experiment = facts.experiment
    period = (
        None
        if readout is None
        else period_of(experiment, readout, started_at=registered.started_at)
    ) or running_period(registered.started_at, ended, timezone=experiment.timezone)
    booked = None
    if readout is not None:
        window = None if period is None else (period.start, period.end)
        booked = book(experiment, readout, window)
    return outlay_of(experiment, booked, period, begun=begun)


def _converted(entry: Entry, rates: Rates, currency: str, *, now: datetime) -> Entry:
    """Return the entry in the workspace's currency, at the rates of the day of its look.

    Raises
    ------
    KlartextError
        There is no rate; it is in no sum then.
    """
    own = entry.experiment.currency
    if own == currency:
        return entry
    day = (entry.look.taken_at if entry.look else now).astimezone(UTC).date()
    unit = rates.convert(Decimal(1), own, currency, day=day)
    if isinstance(unit, NoRate):
        raise KlartextError(
            f"{entry.key} is in {own} and cannot be added to {currency}: {unit.detail}. "
            "Complete the exchange rates (rates: in klartext.yaml)."
        )

    def money(amount: Decimal) -> Decimal:
        found = rates.convert(amount, own, currency, day=day)
        return amount if isinstance(found, NoRate) else found.amount

    return replace(
        entry,
        look=None if entry.look is None else entry.look.times(float(unit.amount)),
        outlay=_in_currency(entry.outlay, money),
        exchange=unit.evidence,
    )


def _in_currency(outlay: Outlay, money: Callable[[Decimal], Decimal]) -> Outlay:
    return replace(
        outlay,
        calls=money(outlay.calls),
        lines=money(outlay.lines),
        monthly=money(outlay.monthly),
        invested=money(outlay.invested),
        budget=None if outlay.budget is None else money(outlay.budget),
    )
