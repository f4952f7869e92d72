"""What the columns of a token trace mean: ``klartext/mapping/v1`` with ``kind: usage``."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator

from klartext.experiments.cells import RowError
from klartext.experiments.documents import forms
from klartext.experiments.documents.validation import problem_at, rule
from klartext.experiments.documents.wording import seen_as
from klartext.experiments.documents.yaml_document import Node, plain, read, read_file
from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.experiment import COST_CATEGORIES
from klartext.experiments.imports.loaded import Loaded, load
from klartext.experiments.mapping import Column, Constant, FileMapping, VariantColumn, as_column
from klartext.experiments.prices.contract import Terms

TOKEN_TRACE_COLUMNS = (
    "id",
    "timestamp",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "model",
    "provider",
    "experiment",
    "variant",
    "unit",
    "task",
    "duration_ms",
    "error",
    "prompt",
)
"""Columns that ``--format token-trace`` knows by name; of these it uses what the file has."""

_REQUIRED = ("timestamp", "input_tokens", "output_tokens")


def _category(value: Any) -> str:
    if isinstance(value, str) and value in COST_CATEGORIES:
        return value
    fix = f"Write one of {', '.join(COST_CATEGORIES)}."
    raise rule("category", f"is {seen_as(value)}: must be a cost category", fix)


_Column = Annotated[Column, BeforeValidator(as_column)]
_ColumnOrConstant = Annotated[Column | Constant, BeforeValidator(as_column)]


class UsageMapping(FileMapping):
    """Rows are AI calls. Only the columns named here are used."""

    kind: Literal["usage"]
    """What a row is."""
    source: forms.Name
    """Name of the system the calls come from, as ``costs.usage.source`` of an experiment has it."""
    input_tokens: _Column
    """Column with the input tokens of a call, those read from a cache included."""
    output_tokens: _Column
    """Column with the output tokens."""
    cached_tokens: _Column | None = None
    """Column with the input tokens that were read from a cache."""
    model: _ColumnOrConstant
    """Column with the model, or ``{constant: gpt-4o}``."""
    provider: _ColumnOrConstant | None = None
    """Column with the provider, or ``{constant: azure}``; default: by the name of the model."""
    terms: Terms = Field(default_factory=dict)
    """Terms of all calls that have prices of their own, such as ``{processing: batch}``."""
    category: Annotated[str, PlainValidator(_category)] = "model_fees"
    """Cost category the calls are booked under."""
    experiment: forms.Key | Column | None = None
    """Key of the experiment, or ``{column: …}``."""
    variant: Annotated[VariantColumn | Constant, BeforeValidator(as_column)] | None = None
    """Column with the variant (``values`` translates), or ``{constant: ai}``."""
    unit: _Column | None = None
    """Column with the id of the unit that the call was made for."""
    task: _Column | None = None
    """Column with the id of the task that several calls belong to."""
    duration_ms: _Column | None = None
    """Column with the duration of a call in milliseconds."""
    error: _Column | None = None
    """Column with the code of an error; a failed call that used tokens was billed."""
    prompt: _ColumnOrConstant | None = None
    """Column with name and version of the prompt, such as ``subject-lines@7``."""

    def fields(self) -> Iterator[tuple[str, Column | VariantColumn | Constant]]:
        """Yield each field of a call that the mapping names, with where it comes from."""
        for name in (*TOKEN_TRACE_COLUMNS[2:],):
            value = getattr(self, name)
            if isinstance(value, str):
                value = Constant(constant=value)
            if value is not None:
                yield name, value


LoadedUsage: TypeAlias = Loaded[UsageMapping]


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What ``--format token-trace`` cannot learn from the names of the columns.

    ``identity`` is ``row_content``, ``row_number``, or columns; None when the file has ``id``.
    """

    source: str
    identity: str | tuple[str, ...] | None = None
    timezone: str | None = None
    model: str | None = None
    provider: str | None = None
    experiment: str | None = None
    variant: str | None = None


def load_usage_mapping(path: Path) -> LoadedUsage:
    """Read the mapping of a token trace.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        All its mistakes.
    """
    return _loaded(read_file(path), str(path))


def trace_mapping(options: TraceOptions, present: Collection[str]) -> LoadedUsage:
    """Return the mapping of a file whose columns have the names of `TOKEN_TRACE_COLUMNS`.

    Parameters
    ----------
    options
        What the command line says.
    present
        Columns of the file.

    Raises
    ------
    ConfigurationError
        A required column is missing, or an option is wrong.
    """
    known = {name: name for name in TOKEN_TRACE_COLUMNS[2:] if name in present}
    stated = {
        "model": options.model,
        "provider": options.provider,
        "variant": options.variant,
    }
    constants = {name: {"constant": value} for name, value in stated.items() if value is not None}
    identity = options.identity or (["id"] if "id" in present else None)
    document: dict[str, Any] = {
        "schema": "klartext/mapping/v1",
        "kind": "usage",
        "source": options.source,
        "id": list(identity) if isinstance(identity, tuple) else identity,
        "time": "timestamp",
        **{name: name for name in _REQUIRED[1:]},
        **known,
        **constants,
    }
    if options.timezone is not None:
        document["timezone"] = options.timezone
    if options.experiment is not None:
        document["experiment"] = options.experiment
    elif "experiment" in known:
        document["experiment"] = {"column": "experiment"}
    problems = [
        Problem("token-trace", 0, 0, name, "is missing", fix, "missing-column")
        for name, fix in _wanted(present)
    ]
    if identity is None:
        fix = "Name --id: columns, row_content or row_number."
        problems.append(
            Problem("token-trace", 0, 0, "id", "is not a column, and --id is not given", fix, "id")
        )
    if "model" not in document:
        fix = "Name --model."
        problems.append(
            Problem("token-trace", 0, 0, "model", "is not a column either", fix, "missing-column")
        )
    if problems:
        raise ConfigurationError(problems)
    return _loaded(read(json.dumps(document), "token-trace"), "token-trace")


def _wanted(present: Collection[str]) -> Iterator[tuple[str, str]]:
    fix = "Rename the column, or describe the file in a mapping (--mapping)."
    yield from ((name, fix) for name in _REQUIRED if name not in present)


def _loaded(node: Node, file: str) -> LoadedUsage:
    document = plain(node)
    kind = document.get("kind") if isinstance(document, dict) else "usage"
    if kind != "usage":
        fix = "Write kind: usage; other kinds come in by klartext ingest."
        words = ("mapping-kind", "is missing" if kind is None else f"is {seen_as(kind)}", fix)
        raise ConfigurationError([problem_at(node, ("kind",), file, words)])
    loaded = load(UsageMapping, node, file, _columns_in)
    if problems := tuple(_contradictions(loaded)):
        raise ConfigurationError(problems)
    return loaded


def _contradictions(loaded: LoadedUsage) -> Iterator[Problem]:
    mapping = loaded.mapping
    if mapping.variant is not None and mapping.experiment is None:
        fix = "Add experiment: its key, or {column: …}."
        yield loaded.problem(("variant",), ("experiment", "belongs to no experiment", fix))
    marks = mapping.numbers
    if marks is not None and marks.decimal == marks.thousands:
        words = ("number-marks", f"is {marks.thousands!r} for both", "Give them different marks.")
        yield loaded.problem(("numbers", "thousands"), words)
    written = [("complete_until", mapping.complete_until)]
    if isinstance(mapping.time, Constant):
        written.append(("time", mapping.time.constant))
    for key, text in written:
        try:
            if text is not None:
                mapping.instant(text, key)
        except RowError:
            fix = "Write 2026-01-31T12:00:00Z, or set timezone and leave the Z out."
            words = ("instant", f"is {text!r}: must be an instant with a time zone", fix)
            yield loaded.problem((key,), words)


def _columns_in(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every column that the mapping names, with the key path where it stands."""
    for key in ("time", *TOKEN_TRACE_COLUMNS[2:]):
        value = document.get(key)
        if isinstance(value, dict) and "column" in value:
            yield (key, "column"), value["column"]
        elif isinstance(value, str) and key != "experiment":
            yield (key,), value
    if isinstance(document.get("id"), tuple):
        yield from ((("id", index), value) for index, value in enumerate(document["id"]))
