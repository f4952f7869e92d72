"""From a YAML tree to a pydantic model, with every mistake named by line, key, rule and fix.

Models derive from `Model`. Sequences arrive as tuples and numbers as `int` or `Decimal`, and
nothing is converted silently. A rule of one's own raises `rule`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from klartext.experiments.documents.wording import Wording, wording
from klartext.experiments.documents.yaml_document import BROKEN, Node, plain
from klartext.experiments.errors import ConfigurationError, Problem

_BRANCH = re.compile(r"<.*>|function-.*|lax-or-strict.*|\[key\]")


class Invalid(Enum):
    """Stands in a tolerantly built model for a part whose problem is already known."""

    INVALID = "invalid"


INVALID = Invalid.INVALID


@dataclass(frozen=True, slots=True)
class Context:
    """What validators may know: is this the tolerant second pass, and settings by name."""

    tolerant: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def rule(code: str, message: str, fix: str) -> PydanticCustomError:
    """Return the exception by which a validator says what was seen, which rule, and the fix."""
    return PydanticCustomError("rule", "{message}", {"code": code, "message": message, "fix": fix})


def valid(*parts: object) -> bool:
    """Whether none of the parts of a tolerantly built model is `INVALID`."""
    return all(part is not INVALID for part in parts)


def _tolerate(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    tolerant = isinstance(info.context, Context) and info.context.tolerant
    if tolerant and value is INVALID:
        return INVALID
    try:
        return handler(value)
    except (ValidationError, PydanticCustomError):
        if tolerant:
            return INVALID
        raise


def _refuse_empty(_value: Any, _loc: str | int | None = None, /) -> Any:
    raise rule("empty", "has no value", "Write one, or remove the key; check the indentation.")


Tolerated = WrapValidator(_tolerate)
"""Marks the items of a sequence, so that one bad item does not hide the good ones."""


class Model(BaseModel):
    """A strict, frozen document part.

    ``later`` names keys that are designed but not built yet, with what to do instead.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )
    later: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _build_tolerantly(
        cls, data: Any, handler: ModelWrapValidatorHandler[Any], info: ValidationInfo
    ) -> Any:
        if not (isinstance(info.context, Context) and info.context.tolerant):
            return handler(data)
        if not isinstance(data, dict):
            return INVALID
        keys = {model_field.alias or name for name, model_field in cls.model_fields.items()}
        kept = {key: value for key, value in data.items() if key in keys}
        for name, model_field in cls.model_fields.items():
            if model_field.is_required():
                kept.setdefault(model_field.alias or name, INVALID)
        for key in data.keys() - keys:
            for meant in difflib.get_close_matches(key, keys, n=1):
                kept.setdefault(meant, INVALID)  # misspelt is not the same as left out
        return handler(kept)

    @field_validator("*", mode="wrap")
    @classmethod
    def _field_tolerantly(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        if value is None:
            return _tolerate(value, _refuse_empty, info)
        return _tolerate(value, handler, info)


M = TypeVar("M", bound=Model)


def validate(
    model: type[M], node: Node, file: str, *, settings: Mapping[str, Any] | None = None
) -> M:
    """Return the document as an instance of ``model``.

    Parameters
    ----------
    model
        The syntax.
    node
        What `yaml_document.read` returned.
    file
        Name of the file, for problems.
    settings
        Passed to validators as ``info.context.settings``.

    Raises
    ------
    ConfigurationError
        All mistakes at once.
    """
    instance, problems = examine(model, node, file, settings=settings)
    if instance is None or problems:
        raise ConfigurationError(problems)
    return instance


def examine(
    model: type[M], node: Node, file: str, *, settings: Mapping[str, Any] | None = None
) -> tuple[M | None, tuple[Problem, ...]]:
    """Return what could be built, with `INVALID` where something could not, and the problems."""
    data = plain(node)
    try:
        instance = model.model_validate(data, context=Context(settings=settings or {}))
    except ValidationError as error:
        problems = _problems(model, node, file, error.errors(include_url=False))
    else:
        return instance, ()
    partial: Any = model.model_validate(
        data, context=Context(tolerant=True, settings=settings or {})
    )
    return (partial if partial is not INVALID else None), problems


def problem_at(node: Node, loc: Iterable[str | int], file: str, words: Wording) -> Problem:
    """Return a problem at the key path ``loc`` of a document, or the nearest part that exists.

    ``words`` are code, message and fix.
    """
    path, line, column, _ = _locate(node, tuple(loc))
    code, message, fix = words
    return Problem(file, line, column, path, message, fix, code)


def _problems(
    model: type[Model], node: Node, file: str, errors: Iterable[ErrorDetails]
) -> tuple[Problem, ...]:
    errors = tuple(errors)
    unknown = [error["loc"] for error in errors if error["type"] == "extra_forbidden"]
    meant = {(*loc[:-1], *_nearest_key(model, loc)[1]) for loc in unknown}
    found: dict[tuple[str, str], Problem] = {}
    for error in errors:
        loc = error["loc"]
        if error["type"] == "missing" and loc in meant:
            continue  # a misspelt key is one mistake, not two
        path, line, column, seen = _locate(node, loc)
        if seen is BROKEN:
            continue  # the reader has said what is wrong here
        words = _unknown_key(model, error) if error["type"] == "extra_forbidden" else wording(error)
        code, message, fix = words
        found.setdefault((path, code), Problem(file, line, column, path, message, fix, code))
    return tuple(found.values())


def _locate(node: Node, loc: tuple[str | int, ...]) -> tuple[str, int, int, object]:
    """Return key path, line, column and value at ``loc``, leaving out pydantic's own steps."""
    path, line, column = "", node.line, node.column
    for step in loc:
        content = node.value
        if isinstance(step, int) and isinstance(content, tuple) and step < len(content):
            node = content[step]
            path, line, column = f"{path}[{step}]", node.line, node.column
        elif isinstance(step, str) and isinstance(content, Mapping) and step in content:
            entry = content[step]
            node, line, column = entry.node, entry.line, entry.column
            path = f"{path}.{step}" if path else step
        elif isinstance(step, str) and not _BRANCH.fullmatch(step):
            path = f"{path}.{step}" if path else step  # a missing key: where its mapping stands
    return path, line, column, node.value


def _fields_at(root: type[Model], loc: tuple[str | int, ...]) -> set[type[Model]]:
    """Return the models that may stand at ``loc`` (all branches of a union)."""
    models = {root}
    for step in loc:
        annotations = [
            model_field.annotation
            for model in models
            for name, model_field in model.model_fields.items()
            if step == (model_field.alias or name)
        ]
        if annotations:
            models = {found for annotation in annotations for found in _models_in(annotation)}
    return models


def _nearest_key(root: type[Model], loc: tuple[str | int, ...]) -> tuple[list[str], list[str]]:
    """Return the known keys at the mapping of ``loc``, and those that resemble the unknown one."""
    models = _fields_at(root, loc[:-1])
    known = sorted({item.alias or name for m in models for name, item in m.model_fields.items()})
    return known, difflib.get_close_matches(str(loc[-1]), known, n=1)


def _unknown_key(root: type[Model], error: ErrorDetails) -> Wording:
    loc = error["loc"]
    for model in _fields_at(root, loc[:-1]):
        if loc[-1] in model.later:
            fix = model.later[str(loc[-1])]
            return "not-yet-supported", "is not supported in this version", fix
    if error["input"] is None and str(loc[-1])[0].isdigit():
        message = "is not a key, but the rest of what stands before the comma"
        return "decimal-comma", message, "Write a decimal point, and no thousands separator."
    known, nearest = _nearest_key(root, loc)
    fix = f"Did you mean {nearest[0]!r}?" if nearest else f"Known keys: {', '.join(known)}."
    return "unknown-key", "is not a known key", fix


def _models_in(annotation: Any) -> set[type[Model]]:
    """Return the models an annotation can hold, looking through unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return {annotation}
    return {found for part in get_args(annotation) for found in _models_in(part)}


T = TypeVar("T")
Items = tuple[Annotated[T, Tolerated], ...]
"""A sequence of which one bad item does not hide the good ones."""
