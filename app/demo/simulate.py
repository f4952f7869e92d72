"""A simulated shop: customers get reactivation mails, half of them written by a model.

Everything is invented, seeded and offline; only the shapes are realistic: orders are log-normal,
some come back, the model is called once per mail and sometimes again, editors review a sample,
and the shop's webhook delivers some purchases twice.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2026, 1, 12, 8, tzinfo=UTC)
"""First mail."""

SENDING = timedelta(days=28)
TODAY = datetime(2026, 3, 30, 6, tzinfo=UTC)
"""When the simulated analyst imports the files: every refund window has closed."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What is true in the simulation; the analysis must find it from the files alone.

    Parameters
    ----------
    customers
        Mails sent, over both variants.
    purchase_rate
        Share that buys within 14 days, per variant.
    median_order
        EUR, net of VAT.
    return_rate
        Share of orders that are returned in full.
    unsubscribe_rate
        Share that unsubscribes, whatever the variant.
    retry_rate
        Share of model calls repeated after a time-out; both are billed.
    review_rate
        Share of generated mails that an editor reads.
    """

    customers: int = 40_000
    purchase_rate: tuple[tuple[str, float], ...] = (("control", 0.060), ("ai", 0.078))
    median_order: float = 52.0
    order_sigma: float = 0.6
    return_rate: float = 0.09
    retry_rate: float = 0.03
    unsubscribe_rate: float = 0.008
    review_rate: float = 0.02
    repeat_rate: float = 0.01


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a simulation."""

    exposures: Path
    events: Path
    calls: Path


def simulate(shop: Shop, folder: Path, rng: np.random.Generator) -> Written:
    """Write the shop's exports: mails (CSV), events (JSON Lines), model calls (CSV).

    Parameters
    ----------
    shop
        The truth to draw from.
    folder
        Where the files go; made when missing.
    rng
        The only source of chance; the same state gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sent_after = np.sort(rng.uniform(0, SENDING.total_seconds(), shop.customers))
    mails = [
        (f"C{100_000 + i}", "ai" if is_ai else "control", START + timedelta(seconds=round(after)))
        for i, (is_ai, after) in enumerate(
            zip(rng.random(shop.customers) < 0.5, sent_after, strict=True)
        )
    ]
    written = Written(folder / "mails.csv", folder / "events.jsonl", folder / "model_calls.csv")
    _write_csv(
        written.exposures,
        ("mail_id", "customer_id", "variant", "sent_at"),
        ((f"M{i}", who, variant, at.isoformat()) for i, (who, variant, at) in enumerate(mails)),
    )
    _write_events(written.events, shop, mails, rng)
    _write_calls(written.calls, shop, mails, rng)
    return written


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def _write_events(
    path: Path, shop: Shop, mails: list[tuple[str, str, datetime]], rng: np.random.Generator
) -> None:
    rates = dict(shop.purchase_rate)
    events: list[tuple[datetime, dict[str, object]]] = []

    def add(name: str, who: str, at: datetime, amount: float | None = None) -> None:
        event: dict[str, object] = {
            "id": f"E{len(events)}",
            "event": name,
            "customer_id": who,
            "at": at.isoformat(),
        }
        if amount is not None:
            event |= {"amount_net": f"{amount:.2f}", "currency": "EUR"}
        events.append((at, event))

    for who, variant, sent in mails:
        if rng.random() < shop.unsubscribe_rate:
            add("unsubscribe", who, sent + timedelta(hours=float(rng.exponential(30))))
        if variant == "ai" and rng.random() < shop.review_rate:
            add("review", who, sent + timedelta(minutes=1))
        if rng.random() < rates[variant]:
            bought = sent + timedelta(days=min(float(rng.exponential(4.0)), 13.9))
            amount = float(np.exp(np.log(shop.median_order) + shop.order_sigma * rng.normal()))
            add("purchase", who, bought, amount)
            if rng.random() < shop.return_rate:
                add("refund", who, bought + timedelta(days=float(rng.uniform(3, 12))), amount)
    events.sort(key=lambda pair: pair[0])
    repeated = rng.random(len(events)) < shop.repeat_rate
    with path.open("w", encoding="utf-8") as file:
        for (_, event), again in zip(events, repeated, strict=True):
            line = json.dumps(event) + "\n"
            file.write(line * (2 if again else 1))


def _write_calls(
    path: Path, shop: Shop, mails: list[tuple[str, str, datetime]], rng: np.random.Generator
) -> None:
    def calls() -> Iterable[tuple[object, ...]]:
        number = 0
        for who, variant, sent in mails:
            if variant != "ai":
                continue
            for attempt in range(2 if rng.random() < shop.retry_rate else 1):
                yield (
                    f"L{number}",
                    (sent - timedelta(minutes=5 - attempt)).isoformat(),
                    who,
                    "ai",
                    "gpt-4o",
                    int(rng.integers(900, 2_400)),
                    int(rng.integers(120, 420)),
                )
                number += 1

    _write_csv(
        path,
        ("call_id", "at", "customer_id", "variant", "model", "input_tokens", "output_tokens"),
        calls(),
    )
