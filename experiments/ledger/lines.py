"""Ledger lines: amounts that were estimated, accrued, invoiced or paid for a period of service."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from klartext.experiments.experiment import COST_CATEGORIES
from klartext.experiments.ledger.fx import Conversion, NoRate, Rates
from klartext.experiments.money import Money, stored

Status: TypeAlias = Literal["estimated", "accrued", "invoiced", "settled", "void"]
Kind: TypeAlias = Literal["charge", "credit", "correction", "tax"]
Behaviour: TypeAlias = Literal["per_event", "per_step", "time_based", "one_off", "amortised"]

STATUSES: tuple[Status, ...] = get_args(Status)
KINDS: tuple[Kind, ...] = get_args(Kind)
BEHAVIOURS: tuple[Behaviour, ...] = get_args(Behaviour)

_MICROSECOND = timedelta(microseconds=1)
_PRECISION = 60
_INHERITED = ("experiment", "variant", "provider", "replaces")


class LineError(ValueError):
    """Why something is no ledger line: a stable ``reason`` and a ``detail``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the ledger, as it is recorded once and for all.

    Parameters
    ----------
    source
        Where it comes from.
    status
        How sure it is. A line that supersedes another is at least as sure, or void.
    kind
        A ``credit`` is negative. A ``correction`` belongs to the period that it corrects, not to
        the one in which it was found. A ``tax`` is no cost: it is kept beside.
    category, behaviour
        What it is for, and how it arises; ``one_off`` falls on the first instant of its period,
        everything else is spread evenly over it.
    start, end
        Period of service, end exclusive.
    amount
        What it costs, net of recoverable VAT, in the currency of the bill.
    reporting
        The same in the currency of the workspace, converted when it was recorded.
    evidence
        Proof of the price, and the exchange rate.
    billed
        What the bill says, for reconciliation only, in the currency of ``amount``: a prepaid
        discount is billed once and effective over months.
    vat
        Recoverable VAT beside the amount, in the currency of ``amount``.
    experiment, variant
        Whose cost it is; None is shared by the company.
    cost_centre, account
        Of the books.
    label
        For people.
    billing_start
        First instant of the billing period, when the source bills by periods.
    supersedes
        Number of the line it replaces.
    provider
        Whose AI calls it bills, as they name it. A line without one bills no calls.
    replaces
        Cost line of the experiment's spec whose place it takes: its label, else its category.
    allocates
        Number of the line of the company that it is a share of; it falls with that line.
    """

    source: str
    status: Status
    kind: Kind
    category: str
    behaviour: Behaviour
    start: datetime
    end: datetime
    amount: Money
    reporting: Decimal
    evidence: str
    billed: Decimal | None = None
    vat: Decimal | None = None
    experiment: str | None = None
    variant: str | None = None
    cost_centre: str | None = None
    account: str | None = None
    label: str | None = None
    billing_start: datetime | None = None
    supersedes: int | None = None
    provider: str | None = None
    replaces: str | None = None
    allocates: int | None = None

    def within(self, start: datetime, end: datetime) -> Decimal:
        """Return what falls between two instants, in the currency of the workspace.

        Notes
        -----
        The difference of what has fallen up to either instant, each rounded to twelve places, so
        that adjoining periods add up to the whole line exactly.
        """
        return self._until(end) - self._until(start)

    def _until(self, at: datetime) -> Decimal:
        if at <= self.start:
            return Decimal(0)
        if at >= self.end or self.behaviour == "one_off":
            return self.reporting
        with localcontext(prec=_PRECISION):
            elapsed = (at - self.start) // _MICROSECOND
            return stored(self.reporting * elapsed / ((self.end - self.start) // _MICROSECOND))

    def voided(self, number: int) -> Line:
        """Return the line that takes this one, recorded as ``number``, out of the books."""
        return replace(
            self,
            status="void",
            amount=Money.zero(self.amount.currency),
            reporting=Decimal(0),
            billed=None if self.billed is None else Decimal(0),
            vat=None if self.vat is None else Decimal(0),
            evidence=f"voids line {number}",
            supersedes=number,
        )


def check(line: Line) -> Line:
    """Return ``line`` if it is one.

    Raises
    ------
    LineError
        A period without length, a category or status that is none, a credit that is positive, a
        variant of no experiment, or an amount of a void line.
    """
    if line.start.tzinfo is None or line.end.tzinfo is None:
        raise LineError("naive-time", "a period is given by instants with a time zone")
    if line.end <= line.start:
        raise LineError("bad-period", "the period of service ends before it starts")
    for name, value, known in (
        ("category", line.category, COST_CATEGORIES),
        ("status", line.status, STATUSES),
        ("kind", line.kind, KINDS),
        ("behaviour", line.behaviour, BEHAVIOURS),
    ):
        if value not in known:
            raise LineError(f"bad-{name}", f"the {name} is not one of {', '.join(known)}")
    if line.kind == "credit" and line.amount.amount > 0:
        raise LineError("bad-credit", "a credit is negative")
    if line.variant is not None and line.experiment is None:
        raise LineError("experiment-missing", "the line has a variant but no experiment")
    if line.replaces is not None and line.experiment is None:
        raise LineError("experiment-missing", "the line replaces a line of no experiment's spec")
    if line.status == "void" and (line.supersedes is None or line.amount.amount):
        raise LineError("bad-void", "a void line supersedes another and has the amount 0")
    return line


def may_supersede(line: Line, replaced: Line) -> Line:
    """Return ``line`` as it takes the place of ``replaced``.

    Of whom it is said to be the cost it need not repeat: experiment and variant, provider, and the
    line of the spec are those of ``replaced`` unless it says otherwise.

    Raises
    ------
    LineError
        The replaced line is void, settled, or surer than the new one.
    """
    if replaced.status == "void":
        raise LineError("bad-supersedes", "the line it supersedes is void")
    if line.status == "void":
        return line
    if replaced.status == "settled":
        raise LineError("bad-supersedes", "a settled line is corrected by another, not replaced")
    if STATUSES.index(line.status) < STATUSES.index(replaced.status):
        raise LineError(
            "bad-supersedes", f"a line that is {replaced.status} cannot become {line.status}"
        )
    if line.experiment not in {None, replaced.experiment}:
        return line
    inherited = {
        name: getattr(replaced, name)
        for name in _INHERITED
        if getattr(line, name) is None and getattr(replaced, name) is not None
    }
    return replace(line, **inherited) if inherited else line


def converted(
    amount: Money, currency: str, rates: Rates, *, at: datetime, timezone: str
) -> Conversion:
    """Return an amount in the currency of the workspace, at the rate of its first day of service.

    Raises
    ------
    LineError
        There is no rate.
    """
    day = at.astimezone(ZoneInfo(timezone)).date()
    found = rates.convert(amount.amount, amount.currency, currency, day=day)
    if isinstance(found, NoRate):
        raise LineError("no-exchange-rate", found.detail)
    return replace(found, amount=stored(found.amount))
