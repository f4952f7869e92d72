"""Words, numbers, money, percent and dates in the language of a report.

Rounding is decided here, once: money has cents below 1,000, whole units from there on, and four
decimals below ten cents; an interval always has the decimals of the value it belongs to.
Percent keep about three significant digits. Ledger amounts are never rounded (`Locale.exact`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date as Day  # noqa: N812 - a locale has a method of that name
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import babel
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal, format_percent, get_currency_precision

Language: TypeAlias = Literal["de", "en"]

LANGUAGES: Final[tuple[Language, ...]] = ("de", "en")
"""Languages with a message catalogue."""

MISSING: Final = "–"
"""What stands where there is no number; a reason is always beside it."""

_CONTEXT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_TERRITORIES: Final[Mapping[Language, str]] = {"de": "DE", "en": "GB"}


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """Return all messages of a language by dotted key, such as ``verdict.GO.word``."""
    file = resources.files("klartext.reports").joinpath(f"messages/{language}.toml")
    messages: dict[str, str] = {}
    _flatten("", tomllib.loads(file.read_text("utf-8")), messages)
    return MappingProxyType(messages)


def _flatten(prefix: str, table: Mapping[str, Any], into: dict[str, str]) -> None:
    for key, value in table.items():
        if isinstance(value, dict):
            _flatten(f"{prefix}{key}.", value, into)
        else:
            into[f"{prefix}{key}"] = value


def money_decimals(value: float | Decimal, currency: str) -> int:
    """Return how many decimals an amount is shown with.

    Examples
    --------
    >>> [money_decimals(x, "EUR") for x in (0.0042, 0.73, 999.5, 16402.71)]
    [4, 2, 2, 0]
    """
    size = abs(float(value))
    cents: int = get_currency_precision(currency)
    if size >= 1_000:
        return 0
    return max(cents, 4) if 0 < size < 0.1 and cents else cents


def percent_decimals(fraction: float) -> int:
    """Return how many decimals a percentage is shown with.

    Examples
    --------
    >>> [percent_decimals(x) for x in (0.0068, 0.05, 0.424, 1.188)]
    [3, 2, 1, 1]
    """
    size = abs(fraction)
    if size < 0.01:
        return 3
    return 2 if size < 0.1 else 1


@dataclass(frozen=True, slots=True)
class Locale:
    """One language, one currency and one time zone; everything a report says goes through here."""

    language: Language
    currency: str
    timezone: str

    @property
    def _babel(self) -> babel.Locale:
        return babel.Locale(self.language, _TERRITORIES[self.language])

    def has(self, key: str) -> bool:
        """Whether the catalogue has a message."""
        return key in catalogue(self.language)

    def text(self, key: str, **values: str) -> str:
        """Return a message with its placeholders filled.

        Raises
        ------
        KeyError
            The catalogue has no such message, or a placeholder has no value.
        """
        return catalogue(self.language)[key].format_map(values)

    def plural(self, key: str, count: int, **values: str) -> str:
        """Return the message ``key.one`` or ``key.other`` with ``{count}`` filled."""
        form = "one" if count == 1 else "other"
        return self.text(f"{key}.{form}", count=self.integer(count), **values)

    def money(
        self, value: float | Decimal, *, like: float | Decimal | None = None, signed: bool = False
    ) -> str:
        """Return an amount in the reporting currency, rounded as ``like`` (default: itself)."""
        decimals = money_decimals(value if like is None else like, self.currency)
        return self._currency(value, decimals, signed=signed)

    def exact(self, amount: Decimal) -> str:
        """Return a ledger amount with every decimal it has, at least cents."""
        decimals = max(get_currency_precision(self.currency), _decimals(amount))
        return self._currency(amount, decimals)

    def money_tick(self, value: float, decimals: int) -> str:
        """Return an amount on an axis; one or two decimals make cents."""
        cents = get_currency_precision(self.currency)
        return self._currency(value, max(decimals, cents) if decimals else 0)

    def percent_tick(self, fraction: float, decimals: int) -> str:
        """Return a signed percentage on an axis; ``decimals`` are those of the fraction."""
        return self._percent(fraction, max(0, decimals - 2), signed=True)

    def _currency(self, value: float | Decimal, decimals: int, *, signed: bool = False) -> str:
        places = "." + "0" * decimals if decimals else ""
        pattern = self._babel.currency_formats["standard"].pattern.replace(".00", places)
        rounded = _rounded(value, decimals)
        with localcontext(_CONTEXT):  # babel rounds in the current one
            text = format_currency(
                rounded, self.currency, pattern, locale=self._babel, currency_digits=False
            )
        return _signs(text, plus=signed and rounded > 0)

    def number(self, value: float | Decimal, *, decimals: int, signed: bool = False) -> str:
        """Return a plain number with fixed decimals."""
        rounded = _rounded(value, decimals)
        pattern = "#,##0" + ("." + "0" * decimals if decimals else "")
        with localcontext(_CONTEXT):
            text = format_decimal(rounded, pattern, locale=self._babel)
        return _signs(text, plus=signed and rounded > 0)

    def plain(self, value: Decimal) -> str:
        """Return a stated number with exactly the decimals it needs."""
        return self.number(value, decimals=_decimals(value))

    def integer(self, value: int) -> str:
        """Return a count with grouped digits."""
        return self.number(Decimal(value), decimals=0)

    def percent(
        self, fraction: float | Decimal, *, like: float | None = None, signed: bool = False
    ) -> str:
        """Return a fraction as percent, rounded as ``like`` (default: itself)."""
        decimals = percent_decimals(float(fraction) if like is None else like)
        return self._percent(fraction, decimals, signed=signed)

    def share(self, fraction: Decimal) -> str:
        """Return a stated fraction as percent with exactly the decimals it needs."""
        return self._percent(fraction, max(0, _decimals(fraction) - 2))

    def probability(self, value: float) -> str:
        """Return a probability as percent with one decimal; never a false 0 % or 100 %."""
        if 0.9995 <= value < 1:
            return f">\N{NO-BREAK SPACE}{self._percent(0.999, 1)}"
        if 0 < value < 0.0005:
            return f"<\N{NO-BREAK SPACE}{self._percent(0.001, 1)}"
        return self._percent(value, 1)

    def _percent(self, fraction: float | Decimal, decimals: int, *, signed: bool = False) -> str:
        rounded = _rounded(fraction, decimals + 2)
        sign = str(self._babel.percent_formats[None].pattern).removeprefix("#,##0")
        pattern = "#,##0" + ("." + "0" * decimals if decimals else "") + sign
        text = format_percent(rounded, pattern, locale=self._babel)
        return _signs(text, plus=signed and rounded > 0)

    def points(self, difference: float, *, like: float | None = None) -> str:
        """Return a difference of rates in percentage points, with its sign."""
        decimals = percent_decimals(difference if like is None else like)
        number = self.number(difference * 100, decimals=decimals, signed=True)
        return self.text("unit.points", number=number)

    def p_value(self, value: float) -> str:
        """Return a p-value: four decimals, or "< 0.0001"."""
        if value < 0.0001:
            return f"<\N{NO-BREAK SPACE}{self.number(Decimal('0.0001'), decimals=4)}"
        return self.number(value, decimals=4)

    def date(self, instant: datetime) -> str:
        """Return the calendar day of an instant in the experiment's time zone."""
        local = instant.astimezone(ZoneInfo(self.timezone))
        return format_date(local, "d. MMMM y" if self.language == "de" else "d MMMM y", self._babel)

    def day(self, day: Day) -> str:
        """Return a calendar day, short."""
        return format_date(day, "d.M.yy" if self.language == "de" else "d MMM yy", self._babel)

    def instant(self, instant: datetime) -> str:
        """Return day and minute of an instant in the experiment's time zone."""
        local = instant.astimezone(ZoneInfo(self.timezone))
        pattern = "d. MMM y, HH:mm 'Uhr'" if self.language == "de" else "d MMM y, HH:mm"
        return format_datetime(local, pattern, locale=self._babel)


def _decimals(value: Decimal) -> int:
    """Count the decimals a number needs; `Decimal.normalize` would round to 28 digits."""
    _, _, fraction = f"{value:f}".partition(".")
    return len(fraction.rstrip("0"))


def _rounded(value: float | Decimal, decimals: int) -> Decimal:
    """Round half to even; a negative value that rounds to nothing loses its sign."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    rounded = exact.quantize(Decimal(1).scaleb(-decimals), context=_CONTEXT)
    return abs(rounded) if rounded == 0 else rounded


def _signs(text: str, *, plus: bool) -> str:
    """Set the true minus sign, and a plus where asked."""
    return ("+" if plus else "") + text.replace("-", "−")
