"""The evidence on one treatment: everything that the rules read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from klartext.analysis.guardrails import GuardrailReading
from klartext.analysis.result import Check, CostCompleteness, DecisionView, Number, Prospect
from klartext.analysis.sequential.replay import Drift
from klartext.experiments.experiment import DecisionRule, Gate, InferenceMode


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rules read about one treatment.

    Parameters
    ----------
    variant
        Key of the treatment.
    rule
        Registered thresholds.
    registered
        Whether the rule was recorded before the first exposure.
    retrospective
        Whether the spec declares that it was not.
    adaptive
        Whether the weights follow the outcomes (a bandit).
    treatments
        How many there are in the experiment.
    deciding
        Whether intervals may decide at this look.
    mode
        Registered inference mode.
    at_end
        Whether the registered end is reached: no later look will know more.
    checks
        Those with severity ``invalid`` make the data unreadable.
    spent, budget
        Variable cost of the test and its cap, money; no cap is None.
    guardrails
        One per guardrail of the spec.
    view, worst
        Decision view, and the same with every open cost at its upper bound.
    duration
        Time over which mature units were exposed.
    completeness
        How much of the AI cost is known.
    approved
        Roles that have signed.
    gates
        Preflight checks of the spec, each with its latest result (None: none yet).
    incidents
        Reasons of the open ones.
    prospect
        What the rest of the test may bring.
    uncapped
        Raw net benefit without the caps on metrics; None when no metric of value has one.
    drift
        Since when no value of the effect agrees with all daily intervals; None when one does.
    """

    variant: str
    rule: DecisionRule
    registered: bool
    retrospective: bool
    adaptive: bool
    treatments: int
    deciding: bool
    mode: InferenceMode
    at_end: bool
    checks: tuple[Check, ...]
    spent: Decimal
    budget: Decimal | None
    guardrails: tuple[GuardrailReading, ...]
    view: DecisionView
    worst: DecisionView
    duration: timedelta
    completeness: CostCompleteness
    approved: frozenset[str]
    prospect: Prospect
    uncapped: Number | None = None
    gates: tuple[tuple[Gate, Decimal | None], ...] = ()
    incidents: tuple[str, ...] = ()
    drift: Drift | None = None
