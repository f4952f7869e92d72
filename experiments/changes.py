"""What a change to a started experiment means: safe, a new phase, or refused.

Every field of `Experiment` has a rule here; what a rule does not name more closely is as its
parent, and nothing below ``refused`` becomes safe by being new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from klartext.experiments.experiment import Experiment

Effect: TypeAlias = Literal["safe", "new_phase", "refused"]
"""Whether results before and after the change may be read as one test.

``safe``: yes. ``new_phase``: the test goes on, but what came before counts as its own part. Of
these a running A/B test takes moved weights: units are then analysed by split.
``refused``: the question itself would be another one.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs: its value before and after as text (None: not there), and why."""

    path: str
    before: str | None
    after: str | None
    effect: Effect
    reason: str

    def __str__(self) -> str:
        values = f"{self.before or '(nothing)'} -> {self.after or '(nothing)'}"
        return f"{self.path}: {values} ({self.effect.replace('_', ' ')}: {self.reason})"


_Rule: TypeAlias = tuple[Effect, str]


def _traffic(old: Any, new: Any) -> _Rule:
    if new > old:
        return "safe", "ramping up moves no unit between variants"
    return "new_phase", "units that were in the test would leave it"


def _variant(old: Any, new: Any) -> _Rule:
    if new is None:
        return "new_phase", "its units would get another variant"
    if old is None:
        return "refused", "one more comparison changes the error rate of the others"
    return "refused", "it would be another variant"


def _metric(old: Any, _new: Any) -> _Rule:
    if old is None:
        return "safe", "an exploratory metric; it decides nothing"
    return "refused", "an announced metric is reported as announced; add another under a new key"


_RULE = "the decision rule and its inputs are fixed before the first exposure"
_UNITS = "it decides which units are in the test and what they are"
_WORKSPACE = "klartext.yaml was changed; a registered experiment keeps its value"

RULES: Mapping[str, _Rule | Callable[[Any, Any], _Rule]] = {
    "key": ("refused", "the key is the identity of an experiment"),
    "title": ("safe", "a text"),
    "owner": ("safe", "a hand-over, kept in the audit log"),
    "hypothesis": ("safe", "a text"),
    "kind": ("refused", "a test with fixed weights and a bandit are read differently"),
    "unit": ("refused", _UNITS),
    "registration": ("refused", "when it was registered is a fact"),
    "assignment": ("refused", "another split would be another test"),
    "exposure": ("refused", "exposed units before and after would not be the same kind of unit"),
    "exposure_event": ("refused", _UNITS),
    "scope": ("refused", "it decides which units other experiments may have"),
    "segments": ("safe", "another cut of the same comparison; it decides nothing"),
    "layer": ("refused", "another layer would reshuffle all units"),
    "traffic": _traffic,
    "audience": ("new_phase", "another population is measured from then on"),
    "variants": ("refused", "their order says which units get which"),
    "variants[]": _variant,
    "variants[].weight": ("new_phase", "units from before and after must not be pooled"),
    "variants[].payload": ("new_phase", "another treatment is measured from then on"),
    "variants[].ai": ("new_phase", "another model or prompt is another treatment"),
    "control": ("refused", "every effect is measured against it"),
    "metrics": ("safe", "their order is only how they are listed"),
    "metrics[]": _metric,
    "guardrails": ("refused", _RULE),
    "value": ("refused", _RULE),
    "costs": ("refused", _RULE),
    "plan": ("refused", "the intervals and the end of the test follow from the plan"),
    "inference": ("refused", "the error rate and method are fixed before the first exposure"),
    "decision": ("refused", _RULE),
    "rollout": ("refused", _RULE),
    "bandit": ("refused", "the policy is part of the design"),
    "currency": ("refused", _WORKSPACE),
    "timezone": ("refused", _WORKSPACE),
    "lateness": ("refused", _WORKSPACE),
}
"""Rules by path, keyed lists as ``[]``; a path without one has that of its nearest parent."""

_KEYED = frozenset({"variants", "metrics"})
_MILLIONTHS = re.compile(r"traffic|bandit\.floor|variants\[.+\]\.weight")


def classify(old: Experiment, new: Experiment) -> tuple[Change, ...]:
    """Return every field in which the experiments differ, in the order of the spec.

    A started experiment takes ``new`` when all changes are ``safe`` or only move its weights.
    """
    changes = []
    for path, before, after in _differences("", old, new):
        effect, reason = _rule(path, before, after)
        changes.append(Change(path, _shown(path, before), _shown(path, after), effect, reason))
    return tuple(changes)


def _rule(path: str, before: Any, after: Any) -> _Rule:
    whole = name = re.sub(r"\[[^\]]*\]", "[]", path)
    while name not in RULES:
        name = name[:-2] if name.endswith("[]") else name.rpartition(".")[0]
    rule = RULES[name]
    if not callable(rule):
        return rule
    # Below an item that is there before and after, nothing is new or gone but one of its fields.
    return rule(before, after) if name == whole else rule(whole, whole)


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if old == new:
        return
    if path in _KEYED:
        yield from _keyed(path, old, new)
    elif is_dataclass(old) and type(old) is type(new):
        for field in fields(old):
            inner = f"{path}.{field.name}" if path else field.name
            yield from _differences(inner, getattr(old, field.name), getattr(new, field.name))
    elif isinstance(old, tuple) and isinstance(new, tuple):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            yield from _differences(f"{path}[{index}]", before, after)
    else:
        yield path, old, new


def _keyed(path: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[tuple[str, Any, Any]]:
    before = {item.key: item for item in old}
    after = {item.key: item for item in new}
    kept = [key for key in before if key in after]
    if kept != [key for key in after if key in before]:
        yield path, tuple(before), tuple(after)
    for key in {**before, **after}:
        yield from _differences(f"{path}[{key}]", before.get(key), after.get(key))


def _shown(path: str, value: Any) -> str | None:
    return None if value is None else _text(path, value)


def _text(path: str, value: Any) -> str:
    match value:
        case int() if _MILLIONTHS.fullmatch(path):
            text = f"{(Decimal(value) / 10_000).normalize():f}%"
        case Decimal():
            text = f"{value:f}"
        case datetime():
            text = value.isoformat()
        case tuple():
            text = ", ".join(_text("", item) for item in value) or "(none)"
        case Mapping():
            text = ", ".join(f"{name}: {_text('', item)}" for name, item in value.items())
            text = f"{{{text}}}"
        case _ if is_dataclass(value):
            named = ((field.name, getattr(value, field.name)) for field in fields(value))
            told = (f"{name} {_text('', item)}" for name, item in named if item not in _UNSET)
            text = ", ".join(told)
        case _:
            text = str(value)
    return text


_UNSET: tuple[Any, ...] = (None, ())
