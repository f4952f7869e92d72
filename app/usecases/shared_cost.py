"""Shared cost: share a line of the company among experiments, and hold bills against calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import ibis

from klartext.analysis.engine import open_engine
from klartext.app.session import Session
from klartext.app.usecases.facts import open_door
from klartext.experiments import audit
from klartext.experiments.errors import KlartextError
from klartext.experiments.ledger import book as ledger
from klartext.experiments.ledger.book import Draft, Recorded
from klartext.experiments.ledger.lines import LineError, converted
from klartext.experiments.ledger.reconciliation import Month, billed_lines, called, reconcile
from klartext.experiments.ledger.shares import Method, Receiver, shared_out
from klartext.experiments.money import Money
from klartext.experiments.state import reading

SCALE = 1_000_000
"""Weights are integers in millionths of what was stated."""


@dataclass(frozen=True, slots=True)
class Stated:
    """Who is to bear a share, and its weight as stated; None is to be counted or alike for all."""

    experiment: str
    variant: str | None = None
    weight: Decimal | None = None


@dataclass(frozen=True, slots=True)
class SharedOut:
    """A line of the company, its shares as recorded, and what stays of it, in its currency."""

    parent: Recorded
    method: Method
    shares: tuple[Recorded, ...]
    unallocated: Decimal


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Bills against priced calls, in ``currency``, as the books stood at ``as_of``."""

    as_of: datetime
    currency: str
    months: tuple[Month, ...]


def allocate(  # noqa: PLR0913 - what is shared, how, among whom
    session: Session,
    number: int,
    method: Method,
    to: Sequence[Stated],
    *,
    total: Decimal | None = None,
    actor: str,
) -> SharedOut:
    """Share a line of the company; an earlier sharing of the same line is taken back.

    Parameters
    ----------
    session
        The workspace.
    number
        Of the line.
    method
        ``direct``: all to one; ``even``; ``fixed``: fractions that add up to at most 1; ``driver``:
        by stated quantities; ``exposed``: by distinct units exposed in the period of service.
    to
        Who bears it.
    total
        With ``driver``: the quantity of the whole company; what is missing stays unallocated.
    actor
        Who says so.

    Raises
    ------
    KlartextError
        There is no such line in force, it is of an experiment, or the shares are none.
    """
    _check_receivers(session, to)
    with reading(session.engine) as connection:
        parent = _shared(connection, number)
    receivers, rest = _weights(session, parent, method, to, total)
    digest = session.pseudonymiser.digest
    with session.engine.begin() as connection:
        audit.lock(connection)
        now = session.now()
        parent = _shared(connection, number)
        try:
            lines = shared_out(parent, method, receivers, rest=rest)
        except LineError as error:
            raise KlartextError(f"{error.detail}.") from None
        earlier = [each for each in ledger.standing(connection) if each.line.allocates == number]
        sequence = audit.head(connection).seq + 1
        drafts = [
            *(
                Draft(f"void:{each.key}", each.key, each.line.voided(each.number))
                for each in earlier
            ),
            *(
                Draft(
                    digest("ledger", "share", str(sequence), str(place)).hex(),
                    digest("ledger", "share", repr(line)).hex(),
                    line,
                )
                for place, line in enumerate(lines)
            ),
        ]
        ledger.append(connection, drafts, actor=actor, now=now)
        audit.record(
            connection,
            actor=actor,
            action="allocate-cost",
            subject="ledger",
            detail={
                "line": number,
                "method": method,
                "shares": {one.name: one.weight for one in receivers},
                "unallocated": rest,
            },
            now=now,
        )
        found = [each for each in ledger.standing(connection) if each.line.allocates == number]
    shares = tuple(each for each in found if each.line.experiment is not None)
    given = sum((each.line.amount.amount for each in shares), Decimal(0))
    return SharedOut(parent, method, shares, parent.line.amount.amount - given)


def reconciliation(session: Session, *, as_of: datetime | None = None) -> Reconciliation:
    """Return what providers billed beside what their calls cost by price, by month.

    Raises
    ------
    KlartextError
        A bill's own amount cannot be converted.
    """
    at = as_of or session.now()
    door = open_door(session)

    def in_reporting(line: Any, amount: Decimal) -> Decimal:
        try:
            return converted(
                Money(amount, line.amount.currency),
                door.currency,
                door.rates,
                at=line.start,
                timezone=door.timezone,
            ).amount
        except LineError as error:
            raise KlartextError(f"{error.detail}.") from None

    with reading(session.engine) as connection:
        bills = billed_lines(ledger.standing(connection, as_of=at), in_reporting)
    with open_engine(session.workspace.engine) as engine:
        calls = called(session.tables(engine).usage_costs, session.workspace.timezone)
    months = reconcile(bills, calls, session.workspace.timezone)
    return Reconciliation(at, session.workspace.currency, months)


def _check_receivers(session: Session, to: Sequence[Stated]) -> None:
    known = open_door(session).variants
    for one in to:
        if one.experiment not in known:
            raise KlartextError(f"there is no registered experiment {one.experiment!r}")
        if one.variant is not None and one.variant not in known[one.experiment]:
            raise KlartextError(
                f"{one.experiment} has no variant {one.variant!r}: "
                f"{', '.join(known[one.experiment])}"
            )


def _shared(connection: Any, number: int) -> Recorded:
    for each in ledger.standing(connection):
        if each.number == number:
            return each
    raise KlartextError(f"there is no line {number} in force: `klartext costs list --lines`.")


def _weights(
    session: Session, parent: Recorded, method: Method, to: Sequence[Stated], total: Decimal | None
) -> tuple[list[Receiver], int]:
    """Return who bears which weight, and the weight of what stays unallocated."""
    needs = method in {"fixed", "driver"}
    if any((one.weight is not None) != needs for one in to) or not to:
        words = "a weight for each, such as mail=30%" if needs else "names without weights"
        raise KlartextError(f"--by {method} wants {words}")
    if method == "direct" and len(to) > 1:
        raise KlartextError("--by direct names one experiment")
    if total is not None and method != "driver":
        raise KlartextError("--of is the whole of a driver: it belongs to --by driver")
    if method == "exposed":
        counts = _exposed(session, parent, to)
        return [
            Receiver(one.experiment, one.variant, count)
            for one, count in zip(to, counts, strict=True)
        ], 0
    weights = [_millionths(one.weight if one.weight is not None else Decimal(1)) for one in to]
    given = sum(weights)
    whole = given if total is None else _millionths(total)
    if method == "fixed":
        whole = SCALE
    if given > whole:
        raise KlartextError("the shares are more than the whole")
    receivers = [
        Receiver(one.experiment, one.variant, weight)
        for one, weight in zip(to, weights, strict=True)
    ]
    return receivers, whole - given


def _millionths(weight: Decimal) -> int:
    scaled = weight * SCALE
    if scaled != scaled.to_integral_value():
        raise KlartextError(f"{weight} has more than six decimal places")
    return int(scaled)


def _exposed(session: Session, parent: Recorded, to: Sequence[Stated]) -> list[int]:
    """Count the distinct units exposed in the line's period of service."""
    start, end = (
        ibis.literal(at, type="timestamp('UTC', 6)") for at in (parent.line.start, parent.line.end)
    )
    found = []
    with open_engine(session.workspace.engine) as engine:
        exposures = session.tables(engine).exposures
        inside = exposures.filter(exposures.occurred_at >= start, exposures.occurred_at < end)
        for one in to:
            own = inside.filter(inside.experiment == one.experiment)
            if one.variant is not None:
                own = own.filter(own.variant == one.variant)
            counted = own.aggregate(units=own.unit.nunique()).to_pyarrow().to_pylist()
            found.append(int(counted[0]["units"] or 0))
    return found
