"""The price of one call in the reporting currency, with its proof; or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from klartext.experiments.ledger.fx import NoRate, Rates
from klartext.experiments.money import Money, stored
from klartext.experiments.prices.catalog import Call, PriceCatalog, Tokens, Unpriced, spelled

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

    def charge(self, call: Call, tokens: Tokens) -> Charge:
        """Return the amount in the reporting currency, rounded once to twelve decimal places."""
        price = self.catalog.price(call)
        if isinstance(price, Unpriced):
            return _without(price.reason, price.detail)
        amount = price.amount(tokens)
        if isinstance(amount, Unpriced):
            return _without(amount.reason, amount.detail)
        return self._converted(Money(amount, price.currency), call, price.evidence)

    def reported(self, amount: Money, call: Call, unpriced: Charge) -> Charge:
        """Return what another system says a call cost, beside why there is no price of our own."""
        reason = unpriced.evidence.removeprefix(f"{UNPRICED} ").partition(":")[0]
        evidence = f"as reported by the source, {spelled(amount.amount)} {amount.currency}"
        return self._converted(amount, call, f"{evidence} ({reason} in our own prices)")

    def _converted(self, amount: Money, call: Call, evidence: str) -> Charge:
        converted = self.rates.convert(
            amount.amount,
            amount.currency,
            self.currency,
            day=call.at.astimezone(self.zone).date(),
        )
        if isinstance(converted, NoRate):
            return _without("no-exchange-rate", f"{evidence}; {converted.detail}")
        proof = f"{evidence}; {converted.evidence}" if converted.evidence else evidence
        return Charge(stored(converted.amount), proof)


def _without(reason: str, detail: str) -> Charge:
    return Charge(None, f"{UNPRICED} {reason}: {detail}")
