"""Closed choices of which more are designed than built: the others are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import PlainValidator, WithJsonSchema

from klartext.experiments.documents.validation import rule
from klartext.experiments.documents.wording import seen_as
from klartext.experiments.experiment import COST_CATEGORIES


def _choice(*now: str, later: tuple[str, ...] = ()) -> Callable[[object], str]:
    wanted = " or ".join((", ".join(now[:-1]), now[-1])) if len(now) > 1 else now[0]

    def check(value: object) -> str:
        if isinstance(value, str) and value in now:
            return value
        if isinstance(value, dict) and any(key in later for key in value):
            value = next(key for key in value if key in later)
        if isinstance(value, str) and value in later:
            message = f"is {value}: that is not supported in this version"
            raise rule("not-yet-supported", message, f"Use {wanted}.")
        raise rule("choice", f"is {seen_as(value)}: must be {wanted}", f"Write {wanted}.")

    return check


def _schema(*now: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [*now]})


_METRIC_KINDS = ("conversion", "mean", "count", "ratio", "retention", "quantile")
MetricKind = Annotated[
    Literal["conversion", "mean", "count", "ratio", "retention", "quantile"],
    PlainValidator(_choice(*_METRIC_KINDS, later=("clustered",))),
    _schema(*_METRIC_KINDS),
]
_MODES = ("anytime", "group_sequential", "fixed")
InferenceMode = Annotated[
    Literal["anytime", "group_sequential", "fixed"],
    PlainValidator(_choice(*_MODES)),
    _schema(*_MODES),
]
_SPENDING = ("obrien_fleming", "pocock")
Spending = Annotated[
    Literal["obrien_fleming", "pocock"],
    PlainValidator(_choice(*_SPENDING)),
    _schema(*_SPENDING),
]
_CORRECTIONS = ("holm", "false_discovery")
Correction = Annotated[
    Literal["holm", "false_discovery"],
    PlainValidator(_choice(*_CORRECTIONS)),
    _schema(*_CORRECTIONS),
]
Exposure = Annotated[
    Literal["posted", "on_allocation"],
    PlainValidator(_choice("posted", "on_allocation")),
    _schema("posted", "on_allocation"),
]
BanditPolicyName = Annotated[
    Literal["thompson"],
    PlainValidator(
        _choice(
            "thompson",
            later=("top_two", "ucb", "epsilon_greedy", "inverse_gap", "lin_ts", "lin_ucb"),
        )
    ),
    _schema("thompson"),
]
Category = Annotated[str, PlainValidator(_choice(*COST_CATEGORIES)), _schema(*COST_CATEGORIES)]
