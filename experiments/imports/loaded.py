"""Mappings of cost files, with what is needed to point into them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from klartext.experiments.documents.validation import Model, problem_at, validate
from klartext.experiments.documents.wording import Wording
from klartext.experiments.documents.yaml_document import Node, plain
from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.readers import SUFFIXES, ColumnsError, FileFormat, FormatName

Location = tuple[str | int, ...]


class Written(Protocol):
    """What a mapping says about how its file is written."""

    @property
    def format(self) -> Any:
        """Return the format, None when the suffix tells it."""

    @property
    def encoding(self) -> str:
        """Return the encoding of a CSV file."""

    @property
    def delimiter(self) -> str:
        """Return what separates its fields."""


M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[M]):
    """A mapping, where its file is, and the columns that it names."""

    mapping: M
    sha256: str
    file: str
    node: Node
    columns: tuple[tuple[Location, str], ...]

    def problem(self, loc: Location, words: Wording) -> Problem:
        """Return a problem at a key of the mapping."""
        return problem_at(self.node, loc, self.file, words)

    def format_of(self, path: Path) -> FileFormat:
        """Return how a data file is written.

        Raises
        ------
        ConfigurationError
            Neither the mapping nor the suffix says it.
        """
        written = cast("Written", self.mapping)
        name: FormatName | None = written.format or SUFFIXES.get(path.suffix.lower())
        if name is None:
            message = f"is missing, and {path.suffix or 'no suffix'} does not tell it"
            words = ("file-format", message, "Write format: csv, jsonl or parquet.")
            raise ConfigurationError([self.problem(("format",), words)])
        delimiter = "\t" if written.delimiter == "tab" else written.delimiter
        return FileFormat(name, written.encoding, delimiter)

    def column_problems(self, error: ColumnsError, data_file: str) -> ConfigurationError:
        """Return the problems of columns that a data file does not have, at their lines."""
        fix = f"{data_file} has the columns: {', '.join(error.present[:20])}."
        problems = []
        for loc, column in self.columns:
            if column in error.missing:
                message = f"is {column!r}, which {data_file} does not have"
                problems.append(self.problem(loc, ("missing-column", message, fix)))
            elif column in error.ambiguous:
                message = f"is {column!r}, which stands twice in the header of {data_file}"
                words = ("ambiguous-column", message, "Rename one of the columns.")
                problems.append(self.problem(loc, words))
        return ConfigurationError(problems)


def load(
    model: type[M],
    node: Node,
    file: str,
    columns: Callable[[dict[str, Any]], Iterable[tuple[Location, str]]],
) -> Loaded[M]:
    """Return a mapping read into ``model``; ``columns`` finds those that its document names.

    Raises
    ------
    ConfigurationError
        All its mistakes.
    """
    mapping = validate(model, node, file)
    canonical = mapping.model_dump_json(by_alias=True)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return Loaded(mapping, digest, file, node, tuple(columns(plain(node))))
