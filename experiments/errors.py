"""What can go wrong, as types: configuration problems, and errors with an exit status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class KlartextError(Exception):
    """Something the user can act on; the message is the whole story, no traceback needed.

    ``exit_code`` is what the command line returns: 1 findings, 2 usage, 3 not ready.
    """

    exit_code: ClassVar[int] = 2


class NotFoundError(KlartextError):
    """The named experiment, version, file or workspace does not exist."""


class ConflictError(KlartextError):
    """The request contradicts what is already registered or running."""


class NotReadyError(KlartextError):
    """The answer is not to be had yet: no facts, not started, not registered."""

    exit_code = 3


class StateError(KlartextError):
    """The state database cannot be read or written, whatever is asked of it."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One configuration mistake: where, what was seen, which rule, and how to fix it.

    Parameters
    ----------
    file
        Name as the user gave it.
    line, column
        One-based position of the value or key; 0 when the file as a whole is meant.
    path
        Key path such as ``variants[1].weight``; empty for the document.
    message
        What was seen and which rule it breaks, without a full stop.
    fix
        What to do about it, one sentence.
    code
        Stable kebab-case name of the rule.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    fix: str
    code: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where} {self.path}{' ' if self.path else ''}{self.message}. {self.fix}"


class ConfigurationError(KlartextError):
    """A document has problems; all of them at once, in the order of the file."""

    exit_code = 1

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))
