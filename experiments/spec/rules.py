"""The rules across keys: each finds what is wrong in the parts of a document that could be read.

A rule takes the document, which may hold `INVALID` where a mistake is already known, and what the
workspace knows, and yields where it found what. It never assumes that another rule holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from klartext.experiments.spec import design_rules, metric_rules, money_rules
from klartext.experiments.spec.names import Finding, Known
from klartext.experiments.spec.syntax import ExperimentDocument

RULES: tuple[Callable[[ExperimentDocument, Known], Iterator[Finding]], ...] = (
    design_rules.check_lengths,
    design_rules.check_variants,
    design_rules.check_weights,
    metric_rules.check_metrics,
    metric_rules.check_referenced_metrics,
    metric_rules.check_ratios,
    metric_rules.check_guardrails,
    money_rules.check_value,
    money_rules.check_caused_by,
    money_rules.check_line_forms,
    money_rules.check_ranges,
    design_rules.check_plan,
    design_rules.check_inference,
    design_rules.check_looks,
    design_rules.check_decision,
    money_rules.check_rollout,
    design_rules.check_bandit,
    design_rules.check_exposure,
    design_rules.check_segments,
    design_rules.check_programme,
)


def findings(document: ExperimentDocument, known: Known) -> Iterator[Finding]:
    """Yield what the rules across keys find."""
    for rule in RULES:
        yield from rule(document, known)
