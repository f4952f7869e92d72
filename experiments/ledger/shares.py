"""Shared cost: a line of the company shared among experiments, to the last digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, TypeAlias, get_args

from klartext.experiments.ledger.allocation import allocate
from klartext.experiments.ledger.book import Recorded
from klartext.experiments.ledger.lines import Line, LineError
from klartext.experiments.money import Money, stored

Method: TypeAlias = Literal["direct", "driver", "even", "fixed", "exposed"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who bears a share: an experiment, or one variant of it, with its weight."""

    experiment: str
    variant: str | None
    weight: int

    @property
    def name(self) -> str:
        """The experiment, and the variant behind a slash."""
        return "/".join(part for part in (self.experiment, self.variant) if part)


def shared_out(
    parent: Recorded, method: Method, receivers: Sequence[Receiver], *, rest: int = 0
) -> tuple[Line, ...]:
    """Return the lines that share ``parent``: one per receiver, then what is taken off the company.

    Parameters
    ----------
    parent
        A line in force that is of no experiment.
    method
        How the weights were found, for the proof.
    receivers
        With weights that are not negative.
    rest
        Weight of what stays unallocated.

    Raises
    ------
    LineError
        The line is of an experiment, is tax, or is a share itself; somebody is named twice; or no
        weight is positive.

    Notes
    -----
    Largest remainder, in the currency of the bill and in that of the workspace. The last line is
    minus the sum of the others and of no experiment: the ledger's total does not move, and what is
    of no experiment is what is unallocated. All fall with the line that they share.
    """
    line = parent.line
    if line.experiment is not None or line.kind == "tax" or line.allocates is not None:
        raise LineError("bad-allocation", f"line {parent.number} is not shared cost of the company")
    if len({(one.experiment, one.variant) for one in receivers}) < len(receivers):
        raise LineError("bad-allocation", "somebody is to bear two shares")
    weights = (*(one.weight for one in receivers), rest)
    if min(weights) < 0 or not any(weights[:-1]):
        raise LineError("bad-allocation", "shares are not negative and not all zero")
    amounts = allocate(line.amount.amount, weights)[:-1]
    reported = allocate(line.reporting, weights)[:-1]
    total = sum(weights)

    def part(amount: Decimal, reporting: Decimal, evidence: str, who: Receiver | None) -> Line:
        return replace(
            line,
            kind="correction" if who is None else line.kind,
            amount=Money(amount, line.amount.currency),
            reporting=stored(reporting),
            evidence=evidence,
            billed=None,
            vat=None,
            experiment=None if who is None else who.experiment,
            variant=None if who is None else who.variant,
            supersedes=None,
            replaces=None,
            allocates=parent.number,
        )

    return (
        *(
            part(
                amount, reporting, f"share {who.weight}/{total} of line {parent.number}, {method}",
                who,
            )
            for who, amount, reporting in zip(receivers, amounts, reported, strict=True)
        ),
        part(
            -sum(amounts, Decimal(0)), -sum(reported, Decimal(0)),
            f"shared out of line {parent.number}, {method}", None,
        ),
    )  # fmt: skip
