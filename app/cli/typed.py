"""Values typed on the command line: percentages, durations, instants, and numbers by metric."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from klartext.experiments.errors import KlartextError

if TYPE_CHECKING:
    from klartext.analysis.baseline import Given

_NUMBER = re.compile(r"([-+]?[0-9]{1,15}(?:\.[0-9]{1,12})?)\s?(%?)")
_PARTS = ("sd", "nonzero", "removed")


def number(text: str, option: str) -> float:
    """Return a number; ``6%`` is 0.06.

    Raises
    ------
    KlartextError
        It is none.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise KlartextError(f"{option}: {text!r} is not a number. Write one such as 3.2 or 6%.")
    value = float(match[1]) / (100 if match[2] else 1)
    if not math.isfinite(value):
        raise KlartextError(f"{option}: {text!r} is too large")
    return value


def share(text: str, option: str) -> float:
    """Return a percentage as a fraction; a bare number is refused, for it may mean either.

    Raises
    ------
    KlartextError
        It has no percent sign, or is no number.
    """
    if not text.strip().endswith("%"):
        raise KlartextError(f"{option}: {text!r} has no percent sign. Write it such as 3%.")
    return number(text, option)


def duration(text: str, option: str) -> timedelta:
    """Return a duration such as ``28d``, longer than 0.

    Raises
    ------
    KlartextError
        It is none.
    """
    from klartext.experiments.documents.forms import Window  # noqa: PLC0415 - heavy

    found: timedelta = _form(Window, text, option)
    return found


def instant(text: str, option: str, *, timezone: str) -> datetime:
    """Return a date or a local time such as ``2027-01-12T09:00``.

    Raises
    ------
    KlartextError
        It is none.
    """
    from klartext.experiments.documents.forms import Start  # noqa: PLC0415 - heavy

    found: datetime = _form(Start, text, option, timezone=timezone)
    return found


def _form(form: Any, text: str, option: str, **settings: str) -> Any:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - heavy

    from klartext.experiments.documents.validation import Context  # noqa: PLC0415

    try:
        return TypeAdapter(form).validate_python(text, context=Context(settings=settings))
    except ValidationError as error:
        context = error.errors()[0]["ctx"]
        raise KlartextError(f"{option} {context['message']}. {context['fix']}") from error


def lifts(texts: Sequence[str], option: str) -> dict[str, float]:
    """Return what ``METRIC=3%`` means, each metric once.

    Raises
    ------
    KlartextError
        One is not of this form, or names a metric twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        key, value = _pair(text, option, "revenue=3%")
        if key in found:
            raise KlartextError(f"{option}: {key} is given twice")
        found[key] = share(value, option)
    return found


def baselines(texts: Sequence[str], option: str) -> dict[str, Given]:
    """Return what ``METRIC=MEAN,sd=SD,nonzero=SHARE,removed=SHARE`` means, each metric once.

    Raises
    ------
    KlartextError
        One is not of this form, or names a metric or a part twice.
    """
    from klartext.analysis.baseline import Given  # noqa: PLC0415 - heavy

    found: dict[str, Given] = {}
    for text in texts:
        mean, *rest = text.split(",")
        key, value = _pair(mean, option, "revenue=3.2,sd=11")
        if key in found:
            raise KlartextError(f"{option}: {key} is given twice")
        parts: dict[str, float] = {}
        for part in rest:
            name, amount = _pair(part, option, "sd=11")
            if name not in _PARTS or name in parts:
                raise KlartextError(
                    f"{option} {key}: {name!r} is unknown or given twice; after the mean come "
                    f"{', '.join(_PARTS)}, each once."
                )
            parts[name] = number(amount, f"{option} {key} {name}")
        found[key] = Given(number(value, f"{option} {key}"), **parts)
    return found


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip()):
        raise KlartextError(f"{option}: {text!r} is not of the form {example}")
    return key.strip(), value
