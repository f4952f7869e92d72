"""Contract prices: ``prices.yaml`` (``klartext/prices/v1``), believed before any list price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from klartext.experiments.documents.validation import (
    Items,
    Model,
    problem_at,
    rule,
    valid,
    validate,
)
from klartext.experiments.documents.yaml_document import Node, read_file
from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.money import Money, MoneyError
from klartext.experiments.prices.catalog import (
    STANDARD_TERMS,
    TERM_KEYS,
    Call,
    Price,
    Unpriced,
    per_million,
    spelled,
)


def _money(value: Any) -> Any:
    try:
        rate = Money.parse(value) if isinstance(value, str) else None
    except MoneyError:
        rate = None
    if rate is None or rate.amount < 0:
        raise rule(
            "price", f"is {value!r}: must be a price such as 2.50 USD", "Write amount and currency."
        )
    return rate


def _day(value: Any) -> Any:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise rule("day", f"is {value!r}: must be a day", "Write it as 2026-01-31.") from None


def _terms(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if unknown := sorted(str(key) for key in value if key not in TERM_KEYS):
        message = f"has the unknown key {unknown[0]!r}"
        raise rule("choice", message, f"Write one of {', '.join(TERM_KEYS)}.")
    if value.get("service_tier") == "batch":
        raise rule(
            "terms", "has service_tier: batch", "Write processing: batch, as price lists do."
        )
    return value


Terms = Annotated[dict[str, str], BeforeValidator(_terms)]
"""Terms of calls that have prices of their own, such as ``{processing: batch}``."""

_Rate = Annotated[Money, BeforeValidator(_money)]
_Day = Annotated[date, BeforeValidator(_day)]


class _Rates(Model):
    """Prices of a million tokens."""

    input: _Rate | None = None
    output: _Rate | None = None
    cached_input: _Rate | None = None
    cache_write: _Rate | None = None

    @model_validator(mode="after")
    def _has_a_rate(self) -> _Rates:
        if self.input is None and self.output is None:
            raise rule("no-rate", "has neither input nor output", "Give at least one of them.")
        return self


class _Entry(Model):
    """The price of one model from a day on."""

    model: str = Field(min_length=1)
    provider: str | None = Field(default=None, min_length=1)
    first_day: _Day | None = Field(default=None, alias="from")
    last_day: _Day | None = Field(default=None, alias="until")
    terms: Terms = Field(default_factory=dict)
    per_million: _Rates
    per_call: _Rate | None = None
    source: str | None = None

    @model_validator(mode="after")
    def _one_currency(self) -> _Entry:
        if not valid(self.per_million):
            return self
        currencies = {rate.currency for rate in self.rates() if isinstance(rate, Money)}
        if len(currencies) > 1:
            raise rule(
                "one-currency",
                f"mixes {' and '.join(sorted(currencies))}",
                "Give all rates of a model in one currency.",
            )
        return self

    @model_validator(mode="after")
    def _days_in_order(self) -> _Entry:
        if not valid(self.first_day, self.last_day):
            return self
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise rule(
                "days",
                f"ends on {self.last_day}, before it starts on {self.first_day}",
                "Correct from or until.",
            )
        return self

    def rates(self) -> tuple[Money | None, ...]:
        """Return input, output, cached input, cache write and per call."""
        million = self.per_million
        return (
            million.input,
            million.output,
            million.cached_input,
            million.cache_write,
            self.per_call,
        )

    def subject(self) -> tuple[str, str | None, frozenset[tuple[str, str]]]:
        """Return what a price is for: model, provider and terms, as calls are compared."""
        provider = None if self.provider is None else self.provider.lower()
        return self.model.lower(), provider, frozenset(self.terms.items()) - STANDARD_TERMS


class _Document(Model):
    """``klartext/prices/v1``."""

    version: Literal["klartext/prices/v1"] = Field(alias="schema")
    prices: Items[_Entry]


@dataclass(frozen=True, slots=True)
class _Agreed:
    first_day: date
    last_day: date
    price: Price


@dataclass(frozen=True, slots=True)
class ContractPrices:
    """Agreed prices by exact model name; days are calendar days of the workspace's time zone.

    An entry for the call's provider is preferred to one for any provider. From its first day on an
    entry replaces earlier ones for the same model, provider and terms.
    """

    source: str
    zone: ZoneInfo
    by_subject: Mapping[tuple[str, str | None, frozenset[tuple[str, str]]], tuple[_Agreed, ...]]

    def price(self, call: Call) -> Price | Unpriced:
        """Return the agreed price of the call's day, or that there is none."""
        day = call.at.astimezone(self.zone).date()
        model, terms = call.model.strip().lower(), frozenset(call.terms) - STANDARD_TERMS
        named = () if call.provider is None else (call.provider.strip().lower(),)
        for provider in (*named, None):
            for agreed in self.by_subject.get((model, provider, terms), ()):
                if agreed.first_day <= day:  # the latest first day comes first
                    if day <= agreed.last_day:
                        return agreed.price
                    break
        return Unpriced("no-contract", f"{self.source} has no price for {call.model!r} on {day}")


def read_contract(path: Path, timezone: str) -> ContractPrices:
    """Read ``prices.yaml``.

    Parameters
    ----------
    path
        The file, ``klartext/prices/v1``.
    timezone
        IANA name of the workspace's time zone: a contract starts at its midnight.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        All mistakes at once.
    """
    node = read_file(path)
    document = validate(_Document, node, str(path))
    problems = _repeated(document, node, str(path))
    if problems:
        raise ConfigurationError(problems)
    agreed: dict[Any, list[_Agreed]] = {}
    for entry in document.prices:
        agreed.setdefault(entry.subject(), []).append(_agreed(entry, path.name))
    return ContractPrices(
        path.name,
        ZoneInfo(timezone),
        {
            subject: tuple(sorted(entries, key=lambda entry: entry.first_day, reverse=True))
            for subject, entries in agreed.items()
        },
    )


def _repeated(document: _Document, node: Node, file: str) -> list[Problem]:
    first: dict[Any, int] = {}
    problems: list[Problem] = []
    for index, entry in enumerate(document.prices):
        key = entry.subject(), entry.first_day
        if first.setdefault(key, index) != index:
            message = f"is a second price for {entry.model!r} from the same day"
            fix = "Keep one, or give the later one its own first day in from."
            problems.append(
                problem_at(node, ("prices", index), file, ("repeated-price", message, fix))
            )
    return problems


def _agreed(entry: _Entry, file: str) -> _Agreed:
    currency = next(rate.currency for rate in entry.rates() if rate is not None)
    fees = [None if rate is None else rate.amount for rate in entry.rates()]
    fee_in, fee_out, fee_cached, fee_write, per_call = fees
    evidence = f"contract {file}#{entry.model}"
    if entry.provider is not None:
        evidence += f" of {entry.provider}"
    if entry.first_day is not None:
        evidence += f" {entry.first_day}"
    evidence += f" {spelled(fee_in)}/{spelled(fee_out)} {currency} per 1M tokens"
    if fee_cached is not None:
        evidence += f", cached {spelled(fee_cached)}"
    if fee_write is not None:
        evidence += f", cache write {spelled(fee_write)}"
    if per_call is not None:
        evidence += f", {spelled(per_call)} per call"
    for name, value in sorted(entry.terms.items()):
        evidence += f", {name}={value}"
    if entry.source is not None:
        evidence += f" ({entry.source})"
    price = Price(
        None if fee_in is None else per_million(fee_in),
        None if fee_out is None else per_million(fee_out),
        None if fee_cached is None else per_million(fee_cached),
        currency,
        evidence,
        per_call or Decimal(0),
        None if fee_write is None else per_million(fee_write),
    )
    return _Agreed(entry.first_day or date.min, entry.last_day or date.max, price)
