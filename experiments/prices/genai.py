"""The public catalogue: list prices of ``genai-prices``, never guessed from a similar name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from klartext.experiments.prices.catalog import (
    STANDARD_TERMS,
    Call,
    Price,
    Unpriced,
    per_million,
    spelled,
)

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

PROVIDER_NAMES = {
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "aws.bedrock": "aws",
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "mistral_ai": "mistral",
    "together_ai": "together",
    "vertex_ai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
"""Names of providers in OpenTelemetry and LiteLLM, with the catalogue's own id for each."""

_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "requests_kcount", "cache_write_mtok")
# These are parts of all output tokens at a rate of their own, and no trace says how many they are.
_UNKNOWABLE = ("output_reasoning_mtok", "output_citation_mtok")
_DATED = re.compile(
    r"[-@](?:20\d\d-(?:0[1-9]|1[0-2])-[0-3]\d|20\d\d(?:0[1-9]|1[0-2])[0-3]\d)(?:-v\d+(?::\d+)?)?"
    r"|-v\d+:\d+"  # Bedrock's revision of one dated model
)
_COMPACT_DATE = re.compile(r"-(20\d\d)(\d\d)(\d\d)$")


class _Match(NamedTuple):
    model: ModelInfo
    owner: Provider
    served_by: Provider
    by_hour: bool


class _Tariff(NamedTuple):
    """Prices of one model on one day: ``prices[i]`` above ``starts[i - 1]`` input tokens."""

    starts: tuple[int, ...]
    prices: tuple[Price, ...]


class GenaiPrices:
    """List prices in USD from the installed ``genai-prices``, without its updater or network.

    Notes
    -----
    The library matches names by prefix and by substring, which prices a model it has never heard
    of at some other model's rate. Here a name counts only if it is the catalogue's id of the model
    or a name its entry spells out, or one of these followed by a date (``-2024-11-20``,
    ``@20250929``, ``-20250929-v1:0``) that the entry accepts. Providers are matched by id or by
    `PROVIDER_NAMES`, never by substring. What has no rate there is unpriced: an empty entry is not
    a free one. The library ignores terms it does not know; here they make the call unpriced.

    Tokens are taken as text: rates for audio or images and for searches are not in what calls say
    and not charged. Writing to a cache is charged at the rate of its shortest life (five minutes
    at Anthropic; an hour costs 1.6 times that, and calls do not say which). Above the start of a
    long-prompt tier, all tokens of the call have the tier's rate. Several terms at once are sold
    only where the catalogue has a price for exactly these.

    A look-up takes 0.3 ms, so every (provider, model, day, terms) is resolved once.
    """

    def __init__(self) -> None:
        from genai_prices.data import providers  # noqa: PLC0415 - 0.8 s to import

        self._providers = {provider.id: provider for provider in providers}
        self._version = version("genai-prices")
        self._match = cache(self._find)
        self._tariff_of_day = cache(self._tariff_on)

    def price(self, call: Call) -> Price | Unpriced:
        """Return the list price of the call's day, or why there is none."""
        match = self._match(call.provider, call.model)
        if isinstance(match, Unpriced):
            return match
        terms = tuple(sorted(set(call.terms) - STANDARD_TERMS))
        at = call.at.astimezone(UTC)
        tariff = (
            self._tariff(match, at, terms)
            if match.by_hour
            else self._tariff_of_day(call.provider, call.model, at.date(), terms)
        )
        if isinstance(tariff, Unpriced):
            return tariff
        return tariff.prices[bisect_left(tariff.starts, call.input_tokens)]

    def _find(self, provider: str | None, model: str) -> _Match | Unpriced:
        reference = model.strip().lower()
        served_by = self._provider(provider, reference)
        if isinstance(served_by, Unpriced):
            return served_by
        # LiteLLM writes gpt-5.2-20251211 for gpt-5.2-2025-12-11.
        forms = (reference, _COMPACT_DATE.sub(r"-\1-\2-\3", reference))
        owners = [served_by]
        owners += [self._providers[key] for key in served_by.fallback_model_providers or ()]
        close: str | None = None
        for owner in owners:
            matching = [
                (form, entry) for entry in owner.models for form in forms if entry.is_match(form)
            ]
            ranked = [(_exactness(form, entry), entry) for form, entry in matching]
            exact = [(rank, entry) for rank, entry in ranked if rank is not None]
            if exact:
                _, entry = min(exact, key=itemgetter(0))
                return _Match(entry, owner, served_by, _changes_by_hour(entry))
            if matching and close is None:
                close = f"{owner.id}/{matching[0][1].id}"
        known = f"genai-prices {self._version}"
        if close is not None:
            return Unpriced(
                "model-not-exact",
                f"{known} knows {close}, but not {model!r} by name; add a contract price",
            )
        return Unpriced(
            "unknown-model",
            f"{known} has no {model!r} of {served_by.id}; add a contract price",
        )

    def _provider(self, provider: str | None, reference: str) -> Provider | Unpriced:
        if provider is not None:
            name = provider.strip().lower()
            found = self._providers.get(PROVIDER_NAMES.get(name, name))
            if found is not None:
                return found
            return Unpriced(
                "unknown-provider",
                f"genai-prices {self._version} has no provider {provider!r}; add a contract price",
            )
        for candidate in self._providers.values():
            if candidate.model_match is not None and candidate.model_match.is_match(reference):
                return candidate
        return Unpriced(
            "unknown-model",
            f"genai-prices {self._version} finds no provider for {reference!r}; name the provider",
        )

    def _tariff_on(
        self, provider: str | None, model: str, day: date, terms: tuple[tuple[str, str], ...]
    ) -> _Tariff | Unpriced:
        match = self._match(provider, model)
        if isinstance(match, Unpriced):
            return match
        return self._tariff(match, datetime(day.year, day.month, day.day, tzinfo=UTC), terms)

    def _tariff(
        self, match: _Match, at: datetime, terms: tuple[tuple[str, str], ...]
    ) -> _Tariff | Unpriced:
        name = f"genai-prices {self._version} {match.owner.id}/{match.model.id}"
        if terms and not _sells(match, terms, at):
            listed = ", ".join(f"{key}={value}" for key, value in terms)
            return Unpriced("unknown-terms", f"{name} has no price for {listed} on {at.date()}")
        listed_prices = match.model.get_prices(at, dict(terms) or None)
        rates: dict[str, Any] = {key: getattr(listed_prices, key) for key in _RATES}
        if rates["input_mtok"] is None and rates["output_mtok"] is None:
            return Unpriced("no-rate", f"{name} has no price per token; add a contract price")
        unknowable = [key for key in _UNKNOWABLE if _has(listed_prices, key)]
        if unknowable:
            return Unpriced(
                "unknown-tokens", f"{name} charges {unknowable[0]} apart, which no trace counts"
            )
        if match.served_by is not match.owner:
            name += f" via {match.served_by.id}"
        if terms:
            name += " " + " ".join(f"{key}={value}" for key, value in terms)
        starts = tuple(sorted({start for rate in rates.values() for start in _starts(rate)}))
        return _Tariff(starts, tuple(_price(name, rates, above) for above in (None, *starts)))


def _exactness(reference: str, entry: ModelInfo) -> int | None:
    """Return 0 for the entry's id, 1 for a name it spells out, 2 for a dated one, else None."""
    if reference == entry.id.lower():
        return 0
    names = {entry.id.lower(), *(name.lower() for name in _literals(entry.match))}
    if reference in names:
        return 1
    for name in names:
        if reference.startswith(name) and _DATED.fullmatch(reference, len(name)):
            return 2
    return None


def _literals(clause: Any) -> Iterator[str]:
    for attribute in ("equals", "starts_with", "contains"):
        if hasattr(clause, attribute):
            yield getattr(clause, attribute)
    for part in (*getattr(clause, "or_", ()), *getattr(clause, "and_", ())):
        yield from _literals(part)


def _changes_by_hour(entry: ModelInfo) -> bool:
    from genai_prices.types import ModelPrice, TimeOfDateConstraint  # noqa: PLC0415

    conditions = [] if isinstance(entry.prices, ModelPrice) else entry.prices
    return any(
        isinstance(each.constraint, TimeOfDateConstraint)
        for each in (*conditions, *(entry.price_variants or ()))
    )


def _sells(match: _Match, terms: tuple[tuple[str, str], ...], at: datetime) -> bool:
    # The library drops the terms of a model that another provider resells; so none are sold here.
    if match.served_by is not match.owner:
        return False
    return any(
        variant.when == dict(terms)
        and (variant.constraint is None or variant.constraint.active(at))
        for variant in match.model.price_variants or ()
    )


def _has(prices: ModelPrice, key: str) -> bool:
    return getattr(prices, key) is not None


def _starts(rate: Decimal | TieredPrices | None) -> tuple[int, ...]:
    return tuple(tier.start for tier in getattr(rate, "tiers", ()))


def _at_tier(rate: Decimal | TieredPrices | None, above: int | None) -> Decimal | None:
    if rate is None or isinstance(rate, Decimal):
        return rate
    reached = [tier.price for tier in rate.tiers if above is not None and tier.start <= above]
    return reached[-1] if reached else rate.base


def _price(name: str, rates: dict[str, Any], above: int | None) -> Price:
    fee_in, fee_out, fee_cached, per_thousand, fee_write = (
        _at_tier(rates[key], above) for key in _RATES
    )
    evidence = f"{name} {spelled(fee_in)}/{spelled(fee_out)} USD per 1M tokens"
    if fee_cached is not None:
        evidence += f", cached {spelled(fee_cached)}"
    if fee_write is not None:
        evidence += f", cache write {spelled(fee_write)}"
    if per_thousand is not None:
        evidence += f", {spelled(per_thousand.scaleb(-3))} per call"
    if above is not None:
        evidence += f", above {above} input tokens"
    return Price(
        None if fee_in is None else per_million(fee_in),
        None if fee_out is None else per_million(fee_out),
        None if fee_cached is None else per_million(fee_cached),
        "USD",
        evidence,
        Decimal(0) if per_thousand is None else per_thousand.scaleb(-3),
        None if fee_write is None else per_million(fee_write),
    )
