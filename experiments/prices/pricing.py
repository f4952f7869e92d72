"""The price of one call in the reporting currency, with its proof; or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from klartext.experiments.ledger.fx import NoRate, Rates
from klartext.experiments.money import stored
from klartext.experiments.prices.catalog import Call, PriceCatalog, Unpriced

UNPRICED = "unpriced"
"""First word of the evidence of a call without a price."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a call costs as the facts keep it: None is unpriced, and ``evidence`` says why."""

    amount: Decimal | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Pricing:
    """How calls are priced: lists in order of truth, exchange rates, and the workspace's money.

    ``zone`` decides the calendar day whose exchange rate counts.
    """

    catalog: PriceCatalog
    rates: Rates
    currency: str
    zone: ZoneInfo

    def charge(self, call: Call, *, output_tokens: int, cached_tokens: int = 0) -> Charge:
        """Return the amount in the reporting currency, rounded once to twelve decimal places.

        Raises
        ------
        ValueError
            Impossible token counts.
        """
        price = self.catalog.price(call)
        if isinstance(price, Unpriced):
            return _without(price.reason, price.detail)
        amount = price.amount(
            input_tokens=call.input_tokens,
            output_tokens=output_tokens,
            cached_tokens=cached_tokens,
        )
        if isinstance(amount, Unpriced):
            return _without(amount.reason, amount.detail)
        converted = self.rates.convert(
            amount, price.currency, self.currency, day=call.at.astimezone(self.zone).date()
        )
        if isinstance(converted, NoRate):
            return _without("no-exchange-rate", f"{price.evidence}; {converted.detail}")
        proof = f"{price.evidence}; {converted.evidence}" if converted.evidence else price.evidence
        return Charge(stored(converted.amount), proof)


def _without(reason: str, detail: str) -> Charge:
    return Charge(None, f"{UNPRICED} {reason}: {detail}")
