"""One strict YAML reader: the tree of a document with the line and column of every key and value.

YAML 1.2 core scalars (``no``, ``on`` and ``1:30`` are text), numbers exact (`int`, `Decimal`),
duplicate keys found, aliases refused, bounded in size and depth. The tree is built from PyYAML's
event stream, so that a hostile document fails while it is being read, not after it was expanded.
`klartext.experiments.documents.validation` turns a tree into a pydantic model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from klartext.experiments.errors import ConfigurationError, NotFoundError, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NUMBER_LENGTH = 64
MAX_EXPONENT = 30

_STR_TAG = "tag:yaml.org,2002:str"
_CONSTANTS = (
    (re.compile(r"null|Null|NULL|~|"), None),
    (re.compile(r"true|True|TRUE"), True),
    (re.compile(r"false|False|FALSE"), False),
)
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]")


class Broken(Enum):
    """Stands for a value that already has its problem; nothing else is said about it."""

    BROKEN = "broken"


BROKEN = Broken.BROKEN

Scalar: TypeAlias = "str | int | Decimal | bool | None"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands (one-based).

    ``value`` is a scalar, a tuple of nodes, a mapping from key to `Entry`, or ``BROKEN``.
    """

    line: int
    column: int
    value: Scalar | tuple[Node, ...] | Mapping[str, Entry] | Broken


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping, where it stands, and its value."""

    line: int
    column: int
    node: Node


def read_file(path: Path, file: str | None = None) -> Node:
    """Read the YAML file at ``path``; ``file`` is the name problems give it (default: the path).

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        It is not strict YAML; every problem that could be found.
    """
    return read(file_bytes(path), file or str(path))


def file_bytes(path: Path) -> bytes:
    """Return what is in the file, but never more than one byte above the limit of a document.

    Raises
    ------
    NotFoundError
        There is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror}") from None


def read(text: str | bytes, file: str) -> Node:
    r"""Return the tree of the one document in ``text``.

    Parameters
    ----------
    text
        YAML; bytes are UTF-8.
    file
        Name of the file, for problems.

    Raises
    ------
    ConfigurationError
        It is not strict YAML; every problem that could be found.

    Examples
    --------
    >>> plain(read("country: no\nweight: 0.1\n", "x.yaml"))
    {'country': 'no', 'weight': Decimal('0.1')}
    """
    node, problems = parse(text, file)
    if node is None or problems:
        raise ConfigurationError(problems)
    return node


def parse(text: str | bytes, file: str) -> tuple[Node | None, tuple[Problem, ...]]:
    """Return the tree, when there is one, and all problems; see `read`."""
    try:
        decoded = _decoded(text, file)
    except ConfigurationError as error:
        return None, error.problems
    builder = _Builder(file)
    try:
        for event in yaml.parse(decoded, Loader=yaml.SafeLoader):
            builder.feed(event)
    except ConfigurationError as error:
        return None, (*builder.problems, *error.problems)
    except yaml.MarkedYAMLError as error:
        return None, (*builder.problems, _syntax_problem(error, file))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() and int() fail on escapes and versions out of range.
        message = f"is not YAML: {error}"
        fix = "Check escapes and the %YAML line."
        return None, (*builder.problems, Problem(file, 0, 0, "", message, fix, "yaml-syntax"))
    if builder.root is None:
        builder.problem((0, 0), "is empty", "Write at least one 'key: value' line.", "empty")
    return builder.root, tuple(builder.problems)


def plain(node: Node) -> Any:
    """Return the value without positions: str, int, Decimal, bool, None, tuple, dict, `BROKEN`."""
    match node.value:
        case tuple() as items:
            return tuple(plain(item) for item in items)
        case Mapping() as entries:
            return {key: plain(entry.node) for key, entry in entries.items()}
        case scalar:
            return scalar


def _decoded(text: str | bytes, file: str) -> str:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_BYTES:
        raise _alone(file, 0, f"is larger than {MAX_BYTES // 1024} KiB", "Split it.", "too-large")
    try:
        decoded = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise _alone(file, line, message, "Save the file as UTF-8.", "not-utf8") from None
    if control := _CONTROL.search(decoded):
        line = decoded.count("\n", 0, control.start()) + 1
        message = f"control character U+{ord(control.group()):04X} is not allowed"
        raise _alone(file, line, message, "Remove it; save the file as plain text.", "control")
    return decoded


def _alone(file: str, line: int, message: str, fix: str, code: str) -> ConfigurationError:
    return ConfigurationError([Problem(file, line, 1 if line else 0, "", message, fix, code)])


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    seen = error.problem or "it cannot be read"
    if "'\\t'" in seen:
        return Problem(
            file, line, column, "", "has a tab where YAML wants spaces",
            "Indent with spaces.", "yaml-tab",
        )  # fmt: skip
    context = f" ({error.context})" if error.context else ""
    fix = "Check indentation, colons, brackets and quotes on this line and the one above."
    return Problem(file, line, column, "", f"is not YAML: {seen}{context}", fix, "yaml-syntax")


@dataclass(slots=True)
class _Frame:
    """A mapping or sequence that is still open, and what of it was read."""

    line: int
    column: int
    path: str
    is_mapping: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    key: str | None = None
    key_line: int = 0
    key_column: int = 0
    is_duplicate: bool = False

    def child_path(self) -> str:
        if not self.is_mapping:
            return f"{self.path}[{len(self.items)}]"
        return ".".join(part for part in (self.path, self.key) if part)

    def node(self) -> Node:
        value = self.entries if self.is_mapping else tuple(self.items)
        return Node(self.line, self.column, value)


class _Builder:
    """Takes YAML events one by one and grows the tree; depth is bounded by its stack."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Frame] = []
        self._documents = 0

    def problem(self, at: tuple[int, int], message: str, fix: str, code: str) -> None:
        self.problems.append(Problem(self.file, *at, self._path(), message, fix, code))

    def feed(self, event: yaml.Event) -> None:
        at = _position(event)
        match event:
            case yaml.DocumentStartEvent():
                self._start_document(at)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._start_collection(event, at)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._place(self._open.pop().node())
            case yaml.AliasEvent():
                self._refuse_as_key(at)
                message = f"alias *{event.anchor} is not supported"
                self.problem(at, message, "Write the value out.", "alias")
                self._place(Node(*at, BROKEN))
            case yaml.ScalarEvent() if self._wants_key():
                self._start_entry(event.value, at)
            case yaml.ScalarEvent():
                self._place(Node(*at, self._value(event, at)))

    def _path(self) -> str:
        return self._open[-1].child_path() if self._open else ""

    def _wants_key(self) -> bool:
        return bool(self._open) and self._open[-1].is_mapping and self._open[-1].key is None

    def _refuse_as_key(self, at: tuple[int, int]) -> None:
        if self._wants_key():
            message = "a key is not plain text"
            fix = "Write the key as text; quote it if it holds brackets or braces."
            raise _alone(self.file, at[0], message, fix, "key-not-text")

    def _start_document(self, at: tuple[int, int]) -> None:
        self._documents += 1
        if self._documents > 1:
            message = "a second document starts here"
            raise _alone(
                self.file, at[0], message, "Put it into its own file.", "several-documents"
            )

    def _start_collection(self, event: yaml.CollectionStartEvent, at: tuple[int, int]) -> None:
        if len(self._open) >= MAX_DEPTH:
            message = f"is nested deeper than {MAX_DEPTH} levels"
            raise _alone(self.file, at[0], message, "Flatten it.", "too-deep")
        self._refuse_as_key(at)
        if event.tag not in {None, "!"}:
            self.problem(at, f"tag {event.tag} is not supported", "Remove the tag.", "tag")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._open.append(_Frame(*at, self._path(), is_mapping))

    def _start_entry(self, key: str, at: tuple[int, int]) -> None:
        frame = self._open[-1]
        if not key or _has_surrogate(key):
            message = "a key is empty or not text"
            self.problem(at, message, "Name the key.", "key-not-text")
        frame.key, frame.key_line, frame.key_column = key, *at
        first = frame.entries.get(key)
        frame.is_duplicate = first is not None
        if first is not None:
            message = f"is given twice, first on line {first.line}"
            self.problem(at, message, "Keep one of the two.", "duplicate-key")

    def _value(self, event: yaml.ScalarEvent, at: tuple[int, int]) -> Scalar | Broken:
        if event.tag not in {None, "!", _STR_TAG}:
            self.problem(at, f"tag {event.tag} is not supported", "Remove the tag.", "tag")
            return BROKEN
        if _has_surrogate(event.value):
            fix = "Write the character itself, not half of its UTF-16 pair."
            self.problem(at, "holds a lone surrogate", fix, "surrogate")
            return BROKEN
        if event.tag is not None or not event.implicit[0]:
            return str(event.value)
        for pattern, constant in _CONSTANTS:
            if pattern.fullmatch(event.value):
                return constant
        if _NUMBER.fullmatch(event.value):
            return self._number(event.value, at)
        return str(event.value)

    def _number(self, text: str, at: tuple[int, int]) -> Scalar | Broken:
        number = _number(text) if len(text) <= MAX_NUMBER_LENGTH else None
        if number is None:
            message = f"is {text[:40]}: a number must be finite and of a sensible size"
            fix = f"Write at most {MAX_EXPONENT} digits before or after the point."
            self.problem(at, message, fix, "number-range")
            return BROKEN
        return number

    def _place(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        if not frame.is_mapping:
            frame.items.append(node)
            return
        if frame.key and not frame.is_duplicate and not _has_surrogate(frame.key):
            frame.entries[frame.key] = Entry(frame.key_line, frame.key_column, node)
        frame.key = None


def _position(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _number(text: str) -> int | Decimal | None:
    """Return the number, or None when it is not finite, too large or too small to be meant."""
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _INT.fullmatch(text):
        return int(text) if len(text.lstrip("+-0")) <= MAX_EXPONENT else None
    if text[-1].lower() in "fn":
        return None
    value = Decimal(text)
    places = -int(value.as_tuple().exponent)
    return value if value.adjusted() < MAX_EXPONENT and places <= MAX_EXPONENT else None
