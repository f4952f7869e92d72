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


TERM_KEYS = ("processing", "service_tier", "speed", "route", "search_type")
"""What terms can be about; a price list may ignore other keys without a word."""

_STANDARD_TIERS = frozenset({"auto", "default", "on_demand", "standard"})


def terms_of(service_tier: str | None) -> tuple[tuple[str, str], ...]:
    """Return the terms that a service tier of a call means.

    Notes
    -----
    Price lists sell batches as ``processing=batch`` and do not know ``service_tier=batch``; some
    ignore terms they do not know and answer with the list price, twice the true one.

    Examples
    --------
    >>> terms_of("batch"), terms_of("flex"), terms_of("default")
    ((('processing', 'batch'),), (('service_tier', 'flex'),), ())
    """
    if service_tier is None or service_tier in _STANDARD_TIERS:
        return ()
    return (("processing" if service_tier == "batch" else "service_tier", service_tier),)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one call.

    ``cached`` were read from and ``cache_write`` written to the provider's cache; both are among
    ``input``.

    Raises
    ------
    ValueError
        A negative count, or more cached than input tokens.
    """

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0

    def __post_init__(self) -> None:
        counts = (self.input, self.output, self.cached, self.cache_write)
        if min(counts) < 0 or self.cached + self.cache_write > self.input:
            raise ValueError("token counts are not negative, and cached tokens are input tokens")


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
    input costs, which is never too little. A rate of None for any other kind of tokens means that
    the list does not sell those; a call that used them is unpriced. (Writing to a cache costs more
    than input where it costs anything, so the rate of input would be too little.)
    """

    input_per_token: Decimal | None
    output_per_token: Decimal | None
    cached_per_token: Decimal | None
    currency: str
    evidence: str
    per_call: Decimal = Decimal(0)
    cache_write_per_token: Decimal | None = None

    def amount(self, tokens: Tokens) -> Decimal | Unpriced:
        """Return the exact price of one call in ``currency``.

        Examples
        --------
        >>> rate = Decimal("0.0000025")
        >>> price = Price(rate, 4 * rate, rate / 2, "USD", "contract prices.yaml#1")
        >>> price.amount(Tokens(374, 44))
        Decimal('0.0013750')
        """
        cached_rate = (
            self.input_per_token if self.cached_per_token is None else self.cached_per_token
        )
        with localcontext(prec=PRECISION):
            total = self.per_call
            for count, rate, kind in (
                (tokens.input - tokens.cached - tokens.cache_write, self.input_per_token, "input"),
                (tokens.cached, cached_rate, "cached input"),
                (tokens.cache_write, self.cache_write_per_token, "cache-write"),
                (tokens.output, self.output_per_token, "output"),
            ):
                if not count:
                    continue
                if rate is None:
                    return Unpriced("no-rate", f"{self.evidence} has no rate for {kind} tokens")
                total += count * rate
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
