"""The canonical form: the resolved experiment as JSON in one spelling, and its SHA-256.

Defaults are written out, keys sorted, decimals and durations are text in their shortest form, and
instants are UTC. Equal experiments have equal canonical forms, whatever their YAML looked like.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from klartext.experiments import experiment as vocabulary
from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import Assumption, Experiment, Json

SCHEMA = "klartext/experiment/v1"
_UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("s", timedelta(seconds=1)))
_MICROSECOND = timedelta(microseconds=1)


def canonical(experiment: Experiment) -> str:
    """Return the canonical JSON of a resolved experiment."""
    document = {"schema": SCHEMA, **_object(experiment)}
    return json.dumps(
        document, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def sha256(text: str) -> str:
    """Return the SHA-256 of a canonical form, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def restore(text: str) -> Experiment:
    """Return the experiment a canonical form stands for, equal to the one it was made from.

    Raises
    ------
    ConflictError
        The text is no canonical form that this version can read.
    """
    document = json.loads(text)
    schema = document.pop("schema", None) if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ConflictError(f"a stored experiment has schema {schema!r}, expected {SCHEMA!r}")
    restored: Experiment = _built(Experiment, document)
    return restored


def _object(value: Any) -> dict[str, Json]:
    return {item.name: _json(getattr(value, item.name)) for item in fields(value)}


def _json(value: Any) -> Json:
    match value:
        case bool() | None | int() | float() | str():
            return value
        case Decimal() | timedelta() | datetime():
            return _text(value)
        case Mapping():
            return {str(key): _json(item) for key, item in value.items()}
        case tuple() | list():
            return [_json(item) for item in value]
        case _:
            return _object(value)


def _text(value: Decimal | timedelta | datetime) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return _duration_text(value)
    text = f"{value:f}"  # not normalize(), which rounds to the context's precision
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if value else "0"


def _duration_text(duration: timedelta) -> str:
    for suffix, unit in _UNITS:
        if duration % unit == timedelta(0):
            return f"{duration // unit}{suffix}"
    return f"{duration // _MICROSECOND}us"


def _duration(text: str) -> timedelta:
    if text.endswith("us"):
        return int(text[:-2]) * _MICROSECOND
    return int(text[:-1]) * dict(_UNITS)[text[-1]]


_SCALARS: Mapping[Any, Callable[[str], Any]] = {
    Decimal: Decimal,
    timedelta: _duration,
    datetime: datetime.fromisoformat,
}


def _read(hint: Any, value: Any) -> Any:
    """Return ``value`` of a canonical form as the type ``hint`` of its field."""
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return _read_union(get_args(hint), value)
    if origin is tuple:
        return tuple(_read(get_args(hint)[0], item) for item in value)
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        return {key: _read(get_args(hint)[1], item) for key, item in value.items()}
    if is_dataclass(hint):
        return _built(hint, value)
    return _SCALARS[hint](value) if hint in _SCALARS else value


def _read_union(options: tuple[Any, ...], value: Any) -> Any:
    if value is None:
        return None
    classes = [option for option in options if is_dataclass(option)]
    if len(classes) > 1:  # value entries differ in their keys
        return _built(next(cls for cls in classes if _fits(cls, set(value))), value)
    several = [option for option in options if option is not types.NoneType]
    return _read(several[0], value) if len(several) == 1 else value


def _fits(cls: Any, names: set[str]) -> bool:
    """Whether a form with these keys is of a class, which may have got more fields since then."""
    every = {item.name for item in fields(cls)}
    return {item.name for item in fields(cls) if item.default is MISSING} <= names <= every


def _built(cls: Any, value: Any) -> Any:
    """Return a dataclass from its canonical form; fields added since then take their default.

    An input that had no range when it was registered is its value alone.
    """
    if cls is Assumption and not isinstance(value, Mapping):
        return Assumption(Decimal(value))
    hints = _hints(cls)
    known = {
        item.name: value[item.name]
        for item in fields(cls)
        if item.name in value or item.default is MISSING
    }
    return cls(**{name: _read(hints[name], item) for name, item in known.items()})


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, vars(vocabulary))
