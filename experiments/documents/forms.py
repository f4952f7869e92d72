"""The natural forms of a document: ``50%``, ``0.2pp``, ``60 EUR``, ``14d``, ``24mo``, instants.

Each form is an annotated type: a parser that says what is wrong and how to write it, and the JSON
Schema that an editor checks. There is one way to write each thing; a near miss is never guessed.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Literal, NoReturn, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from klartext.experiments.documents.validation import INVALID, Context, rule
from klartext.experiments.documents.wording import seen_as
from klartext.experiments.documents.yaml_document import BROKEN
from klartext.experiments.experiment import MILLION

MAX_KEY = 64
MAX_TEXT = 2_000
MAX_LOOKS = 20
_KEY = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_KEY - 1}}}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}")
_NUMBER = r"[-+]?[0-9]{1,15}(?:\.[0-9]{1,12})?"
_PERCENT = re.compile(rf"({_NUMBER})\s?%")
_POINTS = re.compile(rf"({_NUMBER})\s?pp")
_MONEY = re.compile(rf"({_NUMBER})\s?([A-Z]{{3}})")
_PERCENTILE = re.compile(r"p([1-9][0-9](?:\.[0-9]{1,3})?)")
_DURATION = re.compile(r"([0-9]{1,6})\s?(h|d|w)")
_LIFE = re.compile(r"([0-9]{1,4})\s?(mo|y)")
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
MOST_COUNTED = 10**12
"""No count of units or events is larger."""

_HOURS = {"h": 1, "d": 24, "w": 168}


def _refuse(value: object, must: str, fix: str, *, code: str) -> NoReturn:
    raise rule(code, f"is {seen_as(value)}: must be {must}", fix)


def _settings(info: ValidationInfo) -> dict[str, Any]:
    return dict(info.context.settings) if isinstance(info.context, Context) else {}


def _key(value: object) -> str:
    if isinstance(value, str) and _KEY.fullmatch(value):
        return value
    fix = "Use lower-case letters, digits, - and _, starting with a letter or digit."
    return _refuse(value, f"a key of at most {MAX_KEY} characters", fix, code="key")


def _name(value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    fix = "Use letters, digits and _ . : / -, starting with a letter."
    return _refuse(value, "a name", fix, code="name")


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip() and len(value) <= MAX_TEXT:
        return value
    fix = "Write it as text; quote it if it looks like a number."
    return _refuse(value, f"text of 1 to {MAX_TEXT} characters", fix, code="text")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def plain_number(text: str) -> Decimal | None:
    """Return the number that digits write, None when they write none: no exponent, no NaN."""
    return Decimal(text) if re.fullmatch(_NUMBER, text) else None


def percent(value: object) -> Decimal:
    """Return the fraction a percentage such as ``50%`` stands for."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        return Decimal(match[1]) / 100
    fix = "Write a number and a percent sign, such as 5%."
    if isinstance(value, (int, Decimal)) and _is_number(value):
        meant = value * 100 if -1 <= value <= 1 else value
        fix = f"Write {_plainly(Decimal(meant))}% if that is meant."
    return _refuse(value, "a percentage", fix, code="percentage")


def _share(value: object) -> Decimal:
    fraction = percent(value)
    if not 0 <= fraction <= 1:
        _refuse(value, "between 0% and 100%", "Write a share of the whole.", code="range")
    return fraction


def _millionths(value: object) -> int:
    share = _share(value) * MILLION
    if share != int(share):
        fix = "Use at most four decimal places of a percent."
        _refuse(value, "a whole number of millionths", fix, code="weight-precision")
    return int(share)


def _weight(value: object) -> int | None:
    return None if value == "equal" else _millionths(value)


def _number(value: object) -> Decimal:
    if isinstance(value, (int, Decimal)) and _is_number(value):
        return Decimal(value)
    return _refuse(value, "a number", "Write a number without a unit.", code="number")


def _not_negative(value: object) -> Decimal:
    number = _number(value)
    if number < 0:
        _refuse(value, "at least 0", "Write a number that is not negative.", code="range")
    return number


def _count(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_COUNTED:
        return value
    fix = "Write digits only, such as 40000."
    return _refuse(value, "a whole number above 0", fix, code="count")


def _money(value: object, info: ValidationInfo) -> Decimal:
    currency = _settings(info).get("currency", "EUR")
    if isinstance(value, str) and (match := _MONEY.fullmatch(value)):
        if match[2] != currency:
            fix = f"Convert it, and write the amount in {currency}."
            _refuse(value, f"in the reporting currency {currency}", fix, code="currency")
        return Decimal(match[1])
    fix = f"Write a plain number and the currency, such as '60 {currency}'."
    return _refuse(value, "an amount of money", fix, code="money")


def _money_from_zero(value: object, info: ValidationInfo) -> Decimal:
    amount = _money(value, info)
    if amount < 0:
        _refuse(value, "at least 0", "Write an amount that is not negative.", code="range")
    return amount


def _duration(value: object) -> timedelta:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return timedelta(hours=int(match[1]) * _HOURS[match[2]])
    fix = "Write a whole number and h, d or w, such as 36h, 14d or 2w."
    return _refuse(value, "a duration", fix, code="duration")


def _window(value: object) -> timedelta:
    window = _duration(value)
    if not window:
        _refuse(value, "longer than 0", "Write at least 1h.", code="range")
    return window


def _span(value: object) -> tuple[timedelta, timedelta]:
    fix = "Write two durations, the end after the start, such as [7d, 14d]."
    if not isinstance(value, tuple) or len(value) != 2:
        _refuse(value, "a list of two durations", fix, code="span")
    start, end = _duration(value[0]), _duration(value[1])
    if end <= start:
        _refuse(value, "a span that ends after its start", fix, code="span")
    return start, end


def _condition(value: object) -> tuple[str | int | Decimal | bool, ...]:
    values = value if isinstance(value, tuple) else (value,)
    if not values:
        _refuse(value, "a value or a list of values", "Name at least one.", code="condition")
    for item in values:
        if not isinstance(item, (str, int, Decimal)):
            fix = "Write one value, a list such as [DE, AT], or a comparison such as {at_least: 2}."
            _refuse(item, "text, a number, true or false", fix, code="condition")
    return tuple(values)


def _bound(value: object, info: ValidationInfo) -> tuple[Literal["number", "money"], Decimal]:
    if isinstance(value, str) and _MONEY.fullmatch(value):
        return "money", _money(value, info)
    if isinstance(value, (int, Decimal)) and _is_number(value):
        return "number", Decimal(value)
    currency = _settings(info).get("currency", "EUR")
    fix = f"Write a number, or an amount such as '50 {currency}'."
    return _refuse(value, "a number or an amount", fix, code="bound")


def _cap(
    value: object, info: ValidationInfo
) -> tuple[Literal["number", "money", "percentile"], Decimal]:
    if isinstance(value, str) and (match := _PERCENTILE.fullmatch(value)):
        return "percentile", Decimal(match[1]) / 100
    if isinstance(value, str) and not _MONEY.fullmatch(value):
        currency = _settings(info).get("currency", "EUR")
        fix = f"Write a number, an amount such as '50 {currency}', or a percentile such as p99."
        _refuse(value, "a number, an amount or a percentile", fix, code="cap")
    return _bound(value, info)


def _life(value: object) -> int:
    if isinstance(value, str) and (match := _LIFE.fullmatch(value)):
        months = int(match[1]) * (12 if match[2] == "y" else 1)
        if 1 <= months <= 1200:
            return months
    fix = "Write months or years, such as 24mo or 2y."
    return _refuse(value, "a useful life", fix, code="life")


def _currency(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value):
        return value
    return _refuse(value, "an ISO 4217 code", "Write three capitals, such as EUR.", code="currency")


def _timezone(value: object) -> str:
    try:
        if isinstance(value, str):
            return str(ZoneInfo(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # unknown, or no name of a zone
        pass
    fix = "Write a name of the IANA database, such as Europe/Berlin."
    return _refuse(value, "a time zone", fix, code="timezone")


def _start(value: object, info: ValidationInfo) -> datetime:
    return _instant(value, info, end_of_day=False)


def _end(value: object, info: ValidationInfo) -> datetime:
    return _instant(value, info, end_of_day=True)


def _instant(value: object, info: ValidationInfo, *, end_of_day: bool) -> datetime:
    match = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    try:
        if match is not None:
            return _read_instant(match, _settings(info).get("timezone", "UTC"), end_of_day)
    except PydanticCustomError:
        raise
    except (ValueError, OverflowError):
        pass
    fix = "Write it as 2027-01-12 or 2027-01-12T09:00 (the workspace's time zone)."
    return _refuse(value, "a date or a time", fix, code="instant")


def _read_instant(match: re.Match[str], zone: str, end_of_day: bool) -> datetime:  # noqa: FBT001
    day = date.fromisoformat(match[1])
    if not 2000 <= day.year <= 2199:
        raise ValueError(day)
    if match[2] is None and end_of_day:
        day += timedelta(days=1)  # the day itself still belongs to the test
    if match[3] is not None:
        return datetime.fromisoformat(f"{day}T{match[2]}{match[3]}").astimezone(UTC)
    clock = time.fromisoformat(match[2]) if match[2] else time()
    local = datetime.combine(day, clock, ZoneInfo(zone))
    instant = local.astimezone(UTC)
    if instant.astimezone(local.tzinfo).replace(tzinfo=None) != local.replace(tzinfo=None):
        fix = "Write another time, or one with its offset such as 2027-03-28T03:00+02:00."
        _refuse(match[0], f"a time that exists in {zone}", fix, code="instant")
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        fix = "Add the offset that is meant, such as 2027-10-31T02:30+01:00."
        _refuse(match[0], f"a time that happens only once in {zone}", fix, code="instant")
    return instant


def _limit(value: object, info: ValidationInfo) -> tuple[LimitUnit, Decimal]:
    if isinstance(value, str) and (match := _POINTS.fullmatch(value)):
        unit: LimitUnit = "pp"
        number = Decimal(match[1]) / 100
    elif isinstance(value, str) and _PERCENT.fullmatch(value):
        unit, number = "%", percent(value)
    elif isinstance(value, str) and _MONEY.fullmatch(value):
        unit, number = "money", _money(value, info)
    elif isinstance(value, (int, Decimal)) and _is_number(value):
        unit, number = "number", Decimal(value)
    else:
        currency = _settings(info).get("currency", "EUR")
        fix = f"Write it as 0.2pp, 5%, '0.50 {currency}' or a number."
        _refuse(value, "a limit", fix, code="limit")
    if number < 0:
        _refuse(value, "at least 0", "Write a limit that is not negative.", code="range")
    return unit, number


def _looks(value: object) -> tuple[Decimal, ...]:
    """Return the looks as fractions: a number of equal steps, or percentages up to 100%."""
    fix = f"Write a number from 2 to {MAX_LOOKS}, or shares such as [50%, 75%, 100%]."
    if isinstance(value, int) and not isinstance(value, bool):
        if not 2 <= value <= MAX_LOOKS:
            _refuse(value, f"from 2 to {MAX_LOOKS} looks", fix, code="looks")
        step = Decimal("0.0001")
        return tuple((Decimal(look) / value).quantize(step) for look in range(1, value + 1))
    if not isinstance(value, tuple) or not 2 <= len(value) <= MAX_LOOKS:
        _refuse(value, "a number of looks or a list of shares", fix, code="looks")
    fractions = tuple(percent(item) for item in value)
    steps = pairwise((Decimal(0), *fractions))
    if fractions[-1] != 1 or any(after - before < Decimal("0.01") for before, after in steps):
        _refuse(value, "shares that rise to 100% in steps of at least 1%", fix, code="looks")
    return fractions


def _json(value: object) -> Any:
    """Return the value as JSON has it: decimals become floats, tuples lists."""
    match value:
        case Decimal():
            return float(value)
        case tuple():
            return [_json(item) for item in value]
        case dict():
            return {key: _json(item) for key, item in value.items()}
        case None | str() | bool() | int():
            return value
    return INVALID if value is BROKEN else _refuse(value, "JSON", "Write JSON.", code="json")


def _payload(value: object) -> Any:
    if isinstance(value, dict):
        return _json(value)
    return _refuse(value, "a mapping", "Write 'key: value' lines, or {key: value}.", code="mapping")


def _plainly(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _schema(description: str, pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "pattern": pattern, "description": description, "examples": [*examples]}
    )


_MONEY_PATTERN = r"^[-+]?[0-9]+(\.[0-9]+)? ?[A-Z]{3}$"
_PERCENT_PATTERN = r"^[-+]?[0-9]+(\.[0-9]+)? ?%$"
_INSTANT_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?$"
)
_SHARE_SCHEMA = _schema("A share of the whole.", _PERCENT_PATTERN, "50%")
_MONEY_SCHEMA = _schema("Money in the reporting currency.", _MONEY_PATTERN, "60 EUR")
_INSTANT_SCHEMA = _schema(
    "A date or a local time in the workspace's time zone.", _INSTANT_PATTERN, "2027-01-12T09:00"
)

LimitUnit: TypeAlias = Literal["pp", "%", "money", "number"]
Key = Annotated[
    str,
    PlainValidator(_key),
    _schema("Lower-case key.", rf"^[a-z0-9][a-z0-9_-]{{0,{MAX_KEY - 1}}}$", "mail-subject-ai"),
]
Name = Annotated[
    str, PlainValidator(_name), _schema("A name as systems use it.", r"^[A-Za-z_]", "purchase")
]
Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
Percent = Annotated[
    Decimal, PlainValidator(percent), _schema("A percentage.", _PERCENT_PATTERN, "30%")
]
Share = Annotated[Decimal, PlainValidator(_share), _SHARE_SCHEMA]
Millionths = Annotated[int, PlainValidator(_millionths), _SHARE_SCHEMA]
Weight = Annotated[
    int | None,
    PlainValidator(_weight),
    _schema("Share of the traffic; leave all out for equal weights.",
            rf"^equal$|{_PERCENT_PATTERN}", "50%", "equal"),
]  # fmt: skip
Number = Annotated[Decimal, PlainValidator(_number), WithJsonSchema({"type": "number"})]
NotNegative = Annotated[
    Decimal, PlainValidator(_not_negative), WithJsonSchema({"type": "number", "minimum": 0})
]
Count = Annotated[
    int, PlainValidator(_count), WithJsonSchema({"type": "integer", "exclusiveMinimum": 0})
]
Amount = Annotated[Decimal, PlainValidator(_money), _MONEY_SCHEMA]
AmountFromZero = Annotated[Decimal, PlainValidator(_money_from_zero), _MONEY_SCHEMA]
Duration = Annotated[
    timedelta,
    PlainValidator(_duration),
    _schema("Hours, days or weeks.", r"^[0-9]+ ?(h|d|w)$", "36h", "14d", "2w"),
]
Window = Annotated[
    timedelta,
    PlainValidator(_window),
    _schema("Hours, days or weeks.", r"^[0-9]+ ?(h|d|w)$", "36h", "14d", "2w"),
]
Span = Annotated[
    tuple[timedelta, timedelta],
    PlainValidator(_span),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "pattern": r"^[0-9]+ ?(h|d|w)$"},
            "minItems": 2,
            "maxItems": 2,
            "description": "From when to when after exposure.",
            "examples": [["7d", "14d"]],
        }
    ),
]
_SCALARS: dict[str, Any] = {"type": ["string", "number", "boolean"]}
Condition = Annotated[
    tuple[str | int | Decimal | bool, ...],
    PlainValidator(_condition),
    WithJsonSchema({"anyOf": [_SCALARS, {"type": "array", "items": _SCALARS, "minItems": 1}]}),
]
Bound = Annotated[
    tuple[Literal["number", "money"], Decimal],
    PlainValidator(_bound),
    WithJsonSchema({"type": ["string", "number"], "description": "A number or an amount."}),
]
Cap = Annotated[
    tuple[Literal["number", "money", "percentile"], Decimal],
    PlainValidator(_cap),
    WithJsonSchema(
        {"type": ["string", "number"], "description": "A number, an amount, or a percentile (p99)."}
    ),
]
LifeMonths = Annotated[
    int, PlainValidator(_life), _schema("Months or years.", r"^[0-9]+ ?(mo|y)$", "24mo", "2y")
]
Currency = Annotated[
    str, PlainValidator(_currency), _schema("ISO 4217 code.", r"^[A-Z]{3}$", "EUR")
]
Timezone = Annotated[
    str, PlainValidator(_timezone), _schema("IANA name.", r"^[A-Za-z]", "Europe/Berlin")
]
Looks = Annotated[
    tuple[Decimal, ...],
    PlainValidator(_looks),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 2, "maximum": MAX_LOOKS},
                {
                    "type": "array",
                    "items": {"type": "string", "pattern": _PERCENT_PATTERN},
                    "minItems": 2,
                    "maxItems": MAX_LOOKS,
                },
            ],
            "description": "A number of equal steps, or shares of the planned units.",
            "examples": [4, ["50%", "75%", "100%"]],
        }
    ),
]
Start = Annotated[datetime, PlainValidator(_start), _INSTANT_SCHEMA]
End = Annotated[datetime, PlainValidator(_end), _INSTANT_SCHEMA]
Limit = Annotated[
    tuple[LimitUnit, Decimal],
    PlainValidator(_limit),
    WithJsonSchema(
        {"type": ["string", "number"], "description": "0.2pp, 5%, 0.50 EUR or a number."}
    ),
]
Payload = Annotated[dict[str, Any], PlainValidator(_payload), WithJsonSchema({"type": "object"})]
