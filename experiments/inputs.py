"""Business inputs: the numbers of a spec that somebody stated, each under one path.

A path is ``value.<metric>.contribution_margin`` or ``.worth``, ``value.<saving>.hours``, ``.rate``
or ``.realised``, ``costs.<line>.amount``, or ``rollout.`` and ``units_per_year``, ``share``,
``persistence``, ``discount_rate``. A saving and a cost line are called by their name (label, else
category) in lower case with dashes; the second of a name ends in ``-2``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

from klartext.experiments.changes import RULES
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    CostLine,
    Experiment,
    Saving,
    Worth,
)

InputUnit: TypeAlias = Literal["fraction", "money", "hours", "count"]

LONGEST_NAME = 40
"""Characters of a name that a path keeps."""


@dataclass(frozen=True, slots=True)
class Input:
    """A business input of an experiment.

    Parameters
    ----------
    path
        What it is called on the command line and in documents.
    topic, subject
        What it is (``contribution_margin``, ``cost_month``, ``persistence``, …), and the metric,
        saving or cost line it belongs to.
    unit
        Of its value: a fraction, money in the reporting currency, hours, or a count.
    assumption
        Value, range, source, owner.
    at
        Where it stands in `Experiment`: names of fields, and places in tuples.
    lowest, highest
        Between which values it can lie; None without a limit.
    variant
        Variant it is about; None when it is about all.
    line
        Cost line it is the amount of.
    """

    path: str
    topic: str
    subject: str
    unit: InputUnit
    assumption: Assumption
    at: tuple[str | int, ...]
    lowest: Decimal | None = Decimal(0)
    highest: Decimal | None = None
    variant: str | None = None
    line: CostLine | None = None

    def admits(self, value: Decimal) -> bool:
        """Whether the input can have ``value`` at all; a count is at least 1."""
        if not value.is_finite():
            return False
        if self.unit == "count":
            return value >= 1
        above = self.lowest is None or value >= self.lowest
        return above and (self.highest is None or value <= self.highest)


def inputs(experiment: Experiment) -> tuple[Input, ...]:
    """Return all business inputs, in the order of the spec."""
    return (*_of_value(experiment), *_of_costs(experiment), *_of_rollout(experiment))


def find(experiment: Experiment, path: str) -> Input:
    """Return the input that ``path`` names.

    Raises
    ------
    ConflictError
        The path is of something else in the spec, which nobody can revise.
    NotFoundError
        There is no such input; the message names the nearest.
    """
    known = {one.path: one for one in inputs(experiment)}
    if path in known:
        return known[path]
    head = re.split(r"[.\[]", path, maxsplit=1)[0]
    names = {field.name for field in fields(Experiment)}
    parts = {
        part.name: field.name
        for field in fields(Experiment)
        if field.name in {"inference", "decision", "plan", "costs"}
        for part in fields(getattr(experiment, field.name))
    }
    head = parts.get(head, head)
    inside = head in {"value", "rollout"} or (path.startswith("costs.") and path != "costs.budget")
    if head in names and not inside:
        rule = RULES[head]
        why = "it is no business input" if callable(rule) else rule[1]
        raise ConflictError(
            f"{path} cannot be revised: {why}. Only business inputs can: {_listed(known)}."
        )
    near = get_close_matches(path, known, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise NotFoundError(
        f"{experiment.key} has no business input {path!r}.{meant} It has {_listed(known)}."
    )


def _listed(known: Mapping[str, Input]) -> str:
    return ", ".join(known) or "none"


def revised(experiment: Experiment, values: Mapping[str, Decimal]) -> Experiment:
    """Return the experiment with other values of some business inputs.

    The range of an input keeps the ends that its new value does not pass; its source was that of
    the old value. An amount that was hours times a rate is a plain amount from then on.

    Raises
    ------
    ConflictError
        A path is of something that cannot be revised, or a value is one that its input cannot have.
    NotFoundError
        There is no such input.
    """
    for path, value in values.items():
        one = find(experiment, path)
        if not one.admits(value):
            raise ConflictError(f"{path} cannot be {value:f}: {_limits(one)}.")
        experiment = with_value(experiment, one, value)
    return experiment


def _limits(one: Input) -> str:
    if one.unit == "count":
        return "a count is at least 1"
    if one.lowest is None:
        return "it must be a number"
    if one.highest is None:
        return f"it is at least {one.lowest}"
    return f"it lies between {one.lowest:%} and {one.highest:%}"


def with_value(experiment: Experiment, one: Input, value: Decimal) -> Experiment:
    """Return the experiment with ``value`` for an input, whether it can have it or not."""
    old = one.assumption
    new = replace(
        old,
        base=value,
        low=None if old.low is None or old.low > value else old.low,
        high=None if old.high is None or old.high < value else old.high,
        source=None,
    )
    at: tuple[str | int, ...] = one.at
    held: Assumption | CostLine = new
    if one.line is not None:
        at, held = at[:-1], replace(one.line, amount=new, hours=None, rate=None)
    changed: Experiment = _put(experiment, at, held)
    return changed


def _put(held: Any, at: tuple[str | int, ...], new: Any) -> Any:
    if not at:
        return new
    first, *rest = at
    if isinstance(first, int):
        return (*held[:first], _put(held[first], tuple(rest), new), *held[first + 1 :])
    return replace(held, **{first: _put(getattr(held, first), tuple(rest), new)})


def _of_value(experiment: Experiment) -> Iterator[Input]:
    names = _Names()
    for place, entry in enumerate(experiment.value):
        at: tuple[str | int, ...] = ("value", place)
        match entry:
            case ContributionMargin(metric, rate):
                path, topic = f"value.{metric}.contribution_margin", "contribution_margin"
                yield Input(path, topic, metric, "fraction", rate, (*at, "rate"), highest=_ONE)
            case Worth(metric, amount):
                path = f"value.{metric}.worth"
                yield Input(path, "worth", metric, "money", amount, (*at, "amount"), lowest=None)
            case Saving(name, hours, rate, realised, variant):
                path = f"value.{names.of(name)}"
                parts: tuple[tuple[str, InputUnit, Assumption, Decimal | None], ...] = (
                    ("hours", "hours", hours, None),
                    ("rate", "money", rate, None),
                    ("realised", "fraction", realised, _ONE),
                )
                for part, unit, assumption, highest in parts:
                    yield Input(
                        f"{path}.{part}", f"saving_{part}", name, unit, assumption, (*at, part),
                        highest=highest, variant=variant,
                    )  # fmt: skip


def _of_costs(experiment: Experiment) -> Iterator[Input]:
    names = _Names()
    for place, line in enumerate(experiment.costs.lines):
        subject = line.label or line.category
        yield Input(
            f"costs.{names.of(subject)}.amount",
            f"cost_{line.behaviour}",
            subject,
            "money",
            line.amount,
            ("costs", "lines", place, "amount"),
            variant=line.variant,
            line=line,
        )


def _of_rollout(experiment: Experiment) -> Iterator[Input]:
    rollout = experiment.rollout
    if rollout is None:
        return
    units: tuple[tuple[str, str, InputUnit, Decimal | None], ...] = (
        ("units_per_year", "units_per_year", "count", None),
        ("share", "rollout_share", "fraction", _ONE),
        ("persistence", "persistence", "fraction", _ONE),
        ("discount_rate", "discount_rate", "fraction", Decimal(10)),
    )
    for name, topic, unit, highest in units:
        assumption = getattr(rollout, name)
        at = ("rollout", name)
        yield Input(f"rollout.{name}", topic, "", unit, assumption, at, highest=highest)


_ONE = Decimal(1)


class _Names:
    """Gives every name a spelling that no other has."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def of(self, text: str) -> str:
        """Return the spelling of the next thing that is called ``text``."""
        spelt = re.sub(r"[^\w]+", "-", text.casefold()).strip("-")[:LONGEST_NAME] or "unnamed"
        name, count = spelt, 1
        while name in self.taken:
            count += 1
            name = f"{spelt}-{count}"
        self.taken.add(name)
        return name
