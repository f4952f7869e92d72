"""A portfolio of every fate, for tests of its page."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from klartext.analysis.outlay import Outlay
from klartext.analysis.portfolio import Portfolio, Unreadable, portfolio_of
from tests.analysis.samples import START
from tests.analysis.test_portfolio import LOSERS, entry, look


def many() -> Portfolio:
    """A winner, losers, a test without a look, a bandit, several treatments, one that is broken."""
    several = entry("several", look(0.01, "CONTINUE"))
    capped = Outlay(Decimal(90), Decimal(0), Decimal(5), Decimal(7), Decimal(100), 3)
    entries = (
        *LOSERS,
        entry("won", look(0.06, "GO")),
        entry("new", None, outlay=capped),
        entry("bandit", look(0.0, "CONTINUE"), kind="bandit"),
        replace(several, exchange="1.1 USD per EUR of 2026-01-05 (rates.csv)"),
        entry("test-only", look(0.05, "GO", units=10_000), rollout=None),
    )
    all_ai = entry("all-ai", look(0.04, "CONTINUE"), scope="programme")
    return portfolio_of(
        (*entries, all_ai),
        (Unreadable("broken", "its hash differs"),),
        currency="EUR",
        timezone="Europe/Berlin",
        generated_at=START + timedelta(days=60),
    )
