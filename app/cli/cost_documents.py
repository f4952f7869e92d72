"""What the commands about costs print as JSON, and how exact money is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

    from klartext.app.usecases.cost_import import CostImport
    from klartext.app.usecases.costs import Breakdown, Listing
    from klartext.experiments.experiment import CostLine
    from klartext.experiments.ledger.breakdown import CallCosts


def money(amount: Decimal | None) -> str:
    """Return at most twelve decimal places, without trailing zeros beyond the cent."""
    if amount is None:
        return "–"
    text = f"{amount:,.12f}".rstrip("0")
    whole, _, places = text.partition(".")
    return f"{whole}.{places.ljust(2, '0')}"


def import_document(found: CostImport) -> dict[str, Any]:
    """Return the JSON document of an import; money is exact text."""
    from klartext.app.usecases.facts import delivered_document  # noqa: PLC0415 - heavy

    return {
        **delivered_document(found.delivered),
        "schema": "klartext/costs-import/v1",
        "currency": found.currency,
        "calls": _calls_document(found.calls),
        "prices": [_calls_document(price) for price in found.prices],
        "workspace": _calls_document(found.workspace),
        "others": [{"kind": kind, "count": count} for kind, count in sorted(found.others.items())],
    }


def listing_document(listing: Listing, ledger: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON document of what costs, with the ledger's beside it."""
    return {
        "schema": "klartext/costs/v1",
        "currency": listing.currency,
        "ledger": ledger,
        "sources": [_calls_document(source) for source in listing.sources],
        "experiments": [
            {
                "experiment": each.experiment,
                "currency": each.currency,
                "usage_source": each.usage_source,
                "lines": [_line_document(line) for line in each.lines],
                "left_out": list(each.left_out),
            }
            for each in listing.experiments
        ],
    }


def _line_document(line: CostLine) -> dict[str, Any]:
    return {
        "category": line.category,
        "behaviour": line.behaviour,
        "amount": plain(line.amount.base),
        "variant": line.variant,
        "label": line.label,
        "event": line.event,
        "hours": None if line.hours is None else str(line.hours),
        "rate": None if line.rate is None else plain(line.rate),
        "life_months": line.life_months,
    }


def breakdown_document(found: Breakdown) -> dict[str, Any]:
    """Return the JSON document of a breakdown."""
    return {
        "schema": "klartext/costs-breakdown/v1",
        "by": found.by,
        "experiment": found.experiment,
        "currency": found.currency,
        "total": _calls_document(found.total),
        "parts": [_calls_document(part) for part in found.parts],
        "unpriced": [
            {"reason": evidence, "calls": calls} for evidence, calls in found.unpriced.items()
        ],
        "ledger": [{"key": key, "amount": plain(amount)} for key, amount in found.ledger],
    }


def _calls_document(costs: CallCosts) -> dict[str, Any]:
    """Return numbers as JSON has them, and money as exact text."""
    return {
        "key": costs.key,
        "calls": costs.calls,
        "priced_calls": costs.priced_calls,
        "unpriced_calls": costs.unpriced_calls,
        "input_tokens": costs.input_tokens,
        "output_tokens": costs.output_tokens,
        "cached_tokens": costs.cached_tokens,
        "amount": None if costs.amount is None else plain(costs.amount),
        "mean_per_call": None if costs.mean is None else plain(costs.mean),
        "reason": None if costs.amount is not None else "no call could be priced",
    }


def plain(amount: Decimal) -> str:
    """Return exact text as JSON has it."""
    return money(amount).replace(",", "")
