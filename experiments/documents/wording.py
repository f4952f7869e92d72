"""What is said about a mistake that pydantic found: code, message and fix in our own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic_core import ErrorDetails

MAX_SEEN = 60
Wording: TypeAlias = tuple[str, str, str]


def seen_as(value: object) -> str:
    """Say a value as the document shows it, in a few words."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case tuple() | list():
            return "a list"
        case str():
            return repr(value if len(value) <= MAX_SEEN else value[:MAX_SEEN] + "…")
        case _:
            return str(value)


_WANTED = {
    "string_type": ("text", "Write text; put quotes around a number or date that is meant as text"),
    "int_type": ("a whole number", "Write digits only, without a point or unit"),
    "bool_type": ("true or false", "Write true or false"),
    "decimal_type": ("a number", "Write a number without a unit"),
    "is_instance_of": ("a number", "Write a number without a unit"),
    "tuple_type": ("a list", "Write items below each other with '- ', or in [brackets]"),
    "list_type": ("a list", "Write items below each other with '- ', or in [brackets]"),
    "dict_type": ("a mapping", "Write 'key: value' lines, or {key: value}"),
    "mapping_type": ("a mapping", "Write 'key: value' lines, or {key: value}"),
    "model_type": ("a mapping", "Write 'key: value' lines, or {key: value}"),
    "none_required": ("empty", "Leave it out"),
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def wording(error: ErrorDetails) -> Wording:
    """Return code, message and fix of an error as pydantic describes it."""
    kind, seen, ctx = error["type"], seen_as(error.get("input")), error.get("ctx", {})
    if kind in _WANTED:
        wanted, fix = _WANTED[kind]
        return "wrong-type", f"is {seen}: must be {wanted}", f"{fix}."
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        limit = f"{words} {ctx[name]}"
        return "range", f"is {seen}: must be {limit}", f"Write a number {limit}."
    if kind in {"rule", "missing", "value_error"}:
        return _own_rule(kind, seen, ctx, error["loc"])
    return _form(kind, seen, ctx)


def _own_rule(kind: str, seen: str, ctx: Mapping[str, Any], loc: tuple[str | int, ...]) -> Wording:
    match kind:
        case "rule":
            return ctx["code"], ctx["message"], ctx["fix"]
        case "missing":
            return "missing-key", "is missing: this key is required", f"Add {loc[-1]!r}."
        case _:
            return "value", f"is {seen}: {ctx['error']}", "Correct the value."


def _form(kind: str, seen: str, ctx: Mapping[str, Any]) -> Wording:
    match kind:
        case "literal_error" | "enum":
            return "choice", f"is {seen}: must be {ctx['expected']}", f"Write {ctx['expected']}."
        case "union_tag_invalid" | "union_tag_not_found":
            message = f"is {seen}, which is none of the known forms"
            return "form", message, "Write one of the documented forms."
        case "too_short":
            least = ctx["min_length"]
            return "too-few", f"has too few items: at least {least} needed", "Add what is missing."
        case "string_too_short":
            return "empty-text", "is empty text", "Write something, or leave the key out."
        case "string_pattern_mismatch":
            message = f"is {seen}: must match {ctx['pattern']}"
            return "pattern", message, "Use only the characters allowed."
        case _:
            broken = kind.replace("_", " ")
            return "invalid", f"is {seen}, which is not valid here ({broken})", "Correct it."
