"""Exchange rates by the ECB's convention: units of a currency per euro, so one divides."""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal, localcontext
from pathlib import Path

from klartext.experiments.errors import ConfigurationError, NotFoundError, Problem

MAX_AGE_DAYS = 5
"""Weekends and holidays use the last earlier day's rate, but never an older one than this."""

PRECISION = 38
_HEADER = ["date", "currency", "rate"]
_RATE = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class NoRate:
    """There is no usable rate; ``detail`` says which one and what would help."""

    detail: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """One amount in another currency, with the rates that made it."""

    amount: Decimal
    evidence: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Daily reference rates, units per EUR; EUR itself needs none.

    ``by_currency`` holds, per currency, ascending days and the rate of each.
    """

    source: str = "the workspace (no rates file)"
    by_currency: Mapping[str, tuple[tuple[date, ...], tuple[Decimal, ...]]] = field(
        default_factory=dict
    )

    def per_euro(self, currency: str, day: date) -> tuple[date, Decimal] | NoRate:
        """Return the day and rate in force on ``day``: the last one at most five days old."""
        if currency == "EUR":
            return day, Decimal(1)
        if currency not in self.by_currency:
            return NoRate(f"{self.source} has no rate for {currency}")
        days, rates = self.by_currency[currency]
        index = bisect_right(days, day) - 1
        if index < 0:
            return NoRate(f"{self.source} has no rate for {currency} on or before {day}")
        if day - days[index] > timedelta(days=MAX_AGE_DAYS):
            return NoRate(
                f"the last rate for {currency} before {day} is of {days[index]}, "
                f"more than {MAX_AGE_DAYS} days old"
            )
        return days[index], rates[index]

    def convert(
        self, amount: Decimal, source: str, target: str, *, day: date
    ) -> Conversion | NoRate:
        """Return ``amount`` of currency ``source`` in ``target`` at the rates of ``day``.

        Notes
        -----
        ``amount * rate(target) / rate(source)``, through the euro for two other currencies: one
        exact product, then one division rounded half to even at 38 significant digits. What is
        stored is rounded once more, to twelve places, by `klartext.experiments.money.stored`.
        """
        if source == target:
            return Conversion(amount, "")
        divisor, factor = self.per_euro(source, day), self.per_euro(target, day)
        if isinstance(divisor, NoRate):
            return divisor
        if isinstance(factor, NoRate):
            return factor
        used = ", ".join(
            f"{rate:f} {currency} per EUR of {rate_day}"
            for currency, (rate_day, rate) in ((source, divisor), (target, factor))
            if currency != "EUR"
        )
        with localcontext(prec=PRECISION):
            converted = amount * factor[1] / divisor[1]
        return Conversion(converted, f"{used} ({self.source})")


def read_rates(path: Path) -> Rates:
    """Read a CSV with the columns ``date,currency,rate`` (units per EUR).

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        Lines that are not a day, a currency and a positive rate, or contradict each other; all of
        them at once.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError(f"exchange rates {path} do not exist") from None
    except UnicodeDecodeError:
        wrong = _problem(path, 1, "the file is not UTF-8", "Save it as UTF-8.")
        raise ConfigurationError([wrong]) from None
    lines = text.splitlines()
    problems: list[Problem] = []
    if not lines or [cell.strip() for cell in lines[0].split(",")] != _HEADER:
        problems.append(
            _problem(path, 1, "the header is not date,currency,rate", "Make it the first line.")
        )
    found: dict[str, dict[date, Decimal]] = {}
    for number, cells in _records(lines):
        try:
            day, currency, rate = _parse(cells)
        except ValueError as error:
            problems.append(
                _problem(path, number, str(error), "Write a line such as 2026-01-05,USD,1.0842.")
            )
            continue
        if found.setdefault(currency, {}).setdefault(day, rate) != rate:
            problems.append(
                _problem(path, number, f"{currency} has two rates on {day}", "Keep one of them.")
            )
    if problems:
        raise ConfigurationError(problems)
    return Rates(
        path.name,
        {
            currency: (tuple(sorted(rates)), tuple(rates[day] for day in sorted(rates)))
            for currency, rates in found.items()
        },
    )


def _records(lines: list[str]) -> Iterable[tuple[int, list[str]]]:
    for number, cells in enumerate(csv.reader(lines[1:]), start=2):
        if cells:
            yield number, [cell.strip() for cell in cells]


def _parse(cells: list[str]) -> tuple[date, str, Decimal]:
    if len(cells) != len(_HEADER):
        raise ValueError(f"{len(cells)} cells where three belong")
    day, currency, rate = cells
    if not _CURRENCY.fullmatch(currency) or currency == "EUR":
        raise ValueError(f"{currency!r} is not a currency code other than EUR")
    if not _RATE.fullmatch(rate) or not Decimal(rate):
        raise ValueError(f"{rate!r} is not a positive decimal rate")
    try:
        return date.fromisoformat(day), currency, Decimal(rate)
    except ValueError:
        raise ValueError(f"{day!r} is not a day such as 2026-01-05") from None


def _problem(path: Path, line: int, message: str, fix: str) -> Problem:
    return Problem(str(path), line, 1, "", message, fix, "exchange-rate")
