"""The order of truth of prices: contract, then catalogue, then unpriced."""

from __future__ import annotations

from pathlib import Path

from klartext.experiments.prices.catalog import InOrder
from klartext.experiments.prices.contract import read_contract
from klartext.experiments.prices.genai import GenaiPrices


def open_catalog(prices_file: Path | None, timezone: str) -> InOrder:
    """Return the workspace's prices: its contract when it has one, above the public catalogue.

    Raises
    ------
    NotFoundError, ConfigurationError
        See `klartext.experiments.prices.contract.read_contract`.
    """
    catalogue = GenaiPrices()
    if prices_file is None:
        return InOrder((catalogue,))
    return InOrder((read_contract(prices_file, timezone), catalogue))
