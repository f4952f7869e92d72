"""Prices of AI calls: what a price is, and the seam behind which price lists stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Protocol

PRECISION = 38
"""Significant digits of price arithmetic; products of tokens and rates never reach it."""

STANDARD_TERMS = frozenset({("service_tier", "default"), ("service_tier", "standard")})
"""Terms that say nothing: the list price."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the price of a call depends on.

    Parameters
    ----------
    model
        Name of the model as it stands on the call.
    at
        Aware instant of the call; a past call has the price of its day.
    input_tokens
        All input tokens, cached ones included; long prompts may have their own price tier.
    provider
        Who served the model; None lets a catalogue derive it from the model's name.
    terms
        Pairs such as ``("processing", "batch")`` under which the call was made; empty is the
        standard tier. Terms a price list does not know make the call unpriced.
    """

    model: str
    at: datetime
    input_tokens: int
    provider: str | None = None
    terms: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A call without a price: a stable code, and what would change it. Never 0."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Price:
    """Rates of one model on one day, and the proof that goes on the fact.

    ``cached_per_token`` is None when the list has no rate for cached input: it then costs what
    input costs, which is never too little. A rate of None for input or output means that the list
    does not sell those tokens; a call that used them is unpriced.
    """

    input_per_token: Decimal | None
    output_per_token: Decimal | None
    cached_per_token: Decimal | None
    currency: str
    evidence: str
    per_call: Decimal = Decimal(0)

    def amount(
        self, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0
    ) -> Decimal | Unpriced:
        """Return the exact price of one call in ``currency``.

        Parameters
        ----------
        input_tokens, output_tokens
            Token counts of the call.
        cached_tokens
            How many of the input tokens were read from the provider's cache.

        Raises
        ------
        ValueError
            A negative count, or more cached than input tokens.

        Examples
        --------
        >>> rate = Decimal("0.0000025")
        >>> price = Price(rate, 4 * rate, rate / 2, "USD", "contract prices.yaml#1")
        >>> price.amount(input_tokens=374, output_tokens=44)
        Decimal('0.0013750')
        """
        if min(input_tokens, output_tokens, cached_tokens) < 0 or cached_tokens > input_tokens:
            raise ValueError("token counts are not negative, and cached tokens are input tokens")
        cached_rate = (
            self.input_per_token if self.cached_per_token is None else self.cached_per_token
        )
        with localcontext(prec=PRECISION):
            total = self.per_call
            for tokens, rate, kind in (
                (input_tokens - cached_tokens, self.input_per_token, "input"),
                (cached_tokens, cached_rate, "cached input"),
                (output_tokens, self.output_per_token, "output"),
            ):
                if not tokens:
                    continue
                if rate is None:
                    return Unpriced("no-rate", f"{self.evidence} has no rate for {kind} tokens")
                total += tokens * rate
            return total


class PriceCatalog(Protocol):
    """A price list: a contract, a public catalogue, or several in order of truth."""

    def price(self, call: Call) -> Price | Unpriced:
        """Return the rates for ``call``, or why there are none."""


@dataclass(frozen=True, slots=True)
class InOrder:
    """Price lists in order of truth: the first that has a price is believed."""

    catalogs: Sequence[PriceCatalog]

    def price(self, call: Call) -> Price | Unpriced:
        """Return the first price, or the reason of the last list."""
        answer: Price | Unpriced = Unpriced("no-catalog", "there is no price list")
        for catalog in self.catalogs:
            answer = catalog.price(call)
            if isinstance(answer, Price):
                return answer
        return answer


def per_million(rate: Decimal) -> Decimal:
    """Return the rate per token of a rate per million tokens, exactly."""
    return rate.scaleb(-6)


def spelled(rate: Decimal | None) -> str:
    """Return a rate as evidence shows it: no exponent, no trailing zeros, ``-`` for none.

    Examples
    --------
    >>> spelled(Decimal("10.00")), spelled(Decimal("2.50")), spelled(None)
    ('10', '2.5', '-')
    """
    if rate is None:
        return "-"
    text = f"{rate:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
