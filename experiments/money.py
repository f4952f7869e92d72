"""Money: an exact decimal amount in one currency; unlike currencies never add."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from klartext.experiments.errors import KlartextError

MONEY_SCALE = 12
"""Decimal places kept in the facts: ``DECIMAL(38,12)``."""

_CONTEXT = Context(prec=38, rounding=ROUND_HALF_EVEN)
_QUANTUM = Decimal(1).scaleb(-MONEY_SCALE)
_TEXT = re.compile(r"(?P<amount>[-+]?\d+(?:\.\d+)?) (?P<currency>[A-Z]{3})")


class MoneyError(KlartextError):
    """An amount or currency that is not one, or two currencies that cannot be added."""


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in one currency (ISO 4217 code).

    Examples
    --------
    >>> Money.parse("60 EUR") + Money.parse("0.50 EUR")
    Money(amount=Decimal('60.50'), currency='EUR')
    """

    amount: Decimal
    currency: str

    @classmethod
    def parse(cls, text: str) -> Money:
        """Read ``"60 EUR"``: a plain decimal number, one space, an ISO 4217 code.

        Raises
        ------
        MoneyError
            The text is anything else.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise MoneyError(f"{text!r} is not an amount of money such as '60 EUR'")
        return cls(Decimal(match["amount"]), match["currency"])

    @classmethod
    def zero(cls, currency: str) -> Money:
        """Nothing, in ``currency``."""
        return cls(Decimal(0), currency)

    def __add__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.amount + other.amount, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same_currency(other)
        return Money(self.amount - other.amount, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount, self.currency)

    def __mul__(self, factor: Decimal | int) -> Money:
        return Money(_CONTEXT.multiply(self.amount, Decimal(factor)), self.currency)

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"

    def _same_currency(self, other: Money) -> None:
        if self.currency != other.currency:
            raise MoneyError(f"cannot add {self.currency} and {other.currency}")


def stored(amount: Decimal) -> Decimal:
    """``amount`` as the facts keep it: twelve decimal places, half to even.

    Raises
    ------
    MoneyError
        Not finite, or more than 26 digits before the point.

    Examples
    --------
    >>> stored(Decimal("0.1234567890125"))
    Decimal('0.123456789012')
    """
    try:
        return amount.quantize(_QUANTUM, context=_CONTEXT)
    except InvalidOperation:
        raise MoneyError(f"{amount} does not fit DECIMAL(38,{MONEY_SCALE})") from None
