"""Ledger lines and an empty ledger for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from klartext.experiments import migrations
from klartext.experiments.ledger.book import Draft
from klartext.experiments.ledger.lines import Line
from klartext.experiments.money import Money
from klartext.experiments.state import open_state

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
LATER = datetime(2026, 12, 1, tzinfo=UTC)


def line(amount: str = "100", **more: Any) -> Line:
    stated: dict[str, Any] = {
        "source": "test",
        "status": "estimated",
        "kind": "charge",
        "category": "engineering",
        "behaviour": "time_based",
        "start": OCTOBER,
        "end": NOVEMBER,
        "amount": Money(Decimal(amount), "EUR"),
        "reporting": Decimal(amount),
        "evidence": "a test",
    }
    return Line(**(stated | more))


def draft(key: str, of: Line | None = None, payload: str = "p") -> Draft:
    return Draft(key, payload, of or line())


@contextmanager
def opened(folder: Path) -> Iterator[sa.Connection]:
    engine = open_state(f"sqlite:///{folder}/state.db")
    migrations.upgrade(engine)
    with engine.begin() as connection:
        yield connection
