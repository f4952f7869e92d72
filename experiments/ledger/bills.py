"""Bills: what the ledger says of AI calls, for the part of them that it speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext

from klartext.experiments.experiment import CostLine
from klartext.experiments.ledger.book import Recorded

_PRECISION = 60
_OF_CALLS = frozenset({"per_event", "per_step", "time_based"})
BILLED = frozenset({"invoiced", "settled"})
"""Statuses behind which there is a bill; all others are estimates."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Ledger lines about the same AI calls: of one category, provider and variant, in one period.

    Parameters
    ----------
    category, provider
        Of the calls; names of providers are compared in lower case.
    variant
        None bills the calls of all variants, and those of none.
    start, end
        Period of service up to where the facts reach, end exclusive.
    is_billed
        A provider's bill, which is truer than prices; else an estimate, which is less.
    lines
        Charges, credits and corrections, as recorded.
    """

    category: str
    provider: str
    variant: str | None
    start: datetime
    end: datetime
    is_billed: bool
    lines: tuple[Recorded, ...]

    @property
    def amount(self) -> Decimal:
        """What its lines cost up to ``end``, in the currency of the workspace."""
        with localcontext(prec=_PRECISION):
            return sum(
                (each.line.within(each.line.start, self.end) for each in self.lines), Decimal(0)
            )


@dataclass(frozen=True, slots=True)
class Ledger:
    """The lines of one experiment in force, without tax, as the books stood.

    ``as_of`` is the instant that was asked for; None is the latest state.
    """

    lines: tuple[Recorded, ...] = ()
    as_of: datetime | None = None

    def bills(self, cutoff: datetime) -> tuple[Bill, ...]:
        """Return the bills of AI calls up to ``cutoff``, in the order in which they claim calls.

        Notes
        -----
        A bill needs a charge that names a provider and arises with use. Lines of one billing
        period, and lines whose periods overlap, are one bill; a credit or a correction belongs to
        the bill that it overlaps. A call belongs to the first bill that it fits: provider's bills
        before estimates, those of a variant before those of all.
        """
        about: dict[tuple[str, str, str | None, bool], list[Recorded]] = {}
        for each in self.lines:
            line = each.line
            if line.provider is None or line.replaces is not None or line.start >= cutoff:
                continue
            if line.behaviour in _OF_CALLS:
                key = (line.category, line.provider.lower(), line.variant, line.status in BILLED)
                about.setdefault(key, []).append(each)
        found = [
            Bill(
                *key[:3],
                start=min(each.line.start for each in lines),
                end=min(cutoff, max(each.line.end for each in lines)),
                is_billed=key[3],
                lines=tuple(lines),
            )
            for key, every in about.items()
            for lines in _overlapping(every)
            if any(each.line.kind == "charge" for each in lines)
        ]
        return tuple(
            sorted(found, key=lambda one: (not one.is_billed, one.variant is None, one.start))
        )


def name_of(line: CostLine) -> str:
    """Return what a ledger line calls a cost line of the spec: its label, else its category."""
    return line.label or line.category


def replaced_by(
    lines: Iterable[CostLine], name: str | None, variant: str | None
) -> tuple[CostLine, ...]:
    """Return the cost lines of a spec that a ledger line means: one, or it replaces nothing."""
    return tuple(line for line in lines if name_of(line) == name and line.variant == variant)


def _overlapping(lines: Iterable[Recorded]) -> list[list[Recorded]]:
    """Group lines whose periods, or billing periods, overlap; those that adjoin stay apart."""
    groups: list[list[Recorded]] = []
    end: datetime | None = None
    billing: datetime | None = None
    ordered = sorted(
        lines, key=lambda each: (each.line.billing_start or each.line.start, each.line.start)
    )
    for each in ordered:
        line = each.line
        same = line.billing_start is not None and line.billing_start == billing
        if not same and (end is None or line.start >= end):
            groups.append([])
            end = None
        groups[-1].append(each)
        billing = line.billing_start
        end = line.end if end is None else max(end, line.end)
    return groups
