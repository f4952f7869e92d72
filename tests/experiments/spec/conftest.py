"""A workspace, and functions that read an experiment from text or say what is wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.spec.loading import loads
from klartext.experiments.spec.resolved import Resolved
from klartext.experiments.workspace import Workspace, find_workspace

WORKSPACE = """\
schema: klartext/workspace/v1
name: shop
timezone: Europe/Berlin
properties: {country: text, amount_net: money, items: integer}
"""

METRICS = """\
schema: klartext/metrics/v1
metrics:
  - {key: conversion, kind: conversion, event: purchase, window: 14d}
  - {key: unsubscribe, kind: conversion, event: unsubscribe, window: 14d, direction: decrease}
"""

# DESIGN 3's example, without what this version does not take.
EXPERIMENT = """\
schema: klartext/experiment/v1
key: mail-subject-ai
title: AI-written subject lines
owner: lena.vogt                       # a person; approvers must be others
hypothesis: Personalised subject lines raise margin per customer by more than they cost.
kind: ab                               # ab | bandit
unit: customer
layer: crm-mail                        # one experiment of a layer per unit
audience: {country: [DE, AT, NO]}
variants:
  - {key: control, weight: 50%, payload: {template: classic}}
  - {key: ai, weight: 50%, payload: {template: generated}, ai: {model: gpt-4o-2024-11-20, prompt: subject-lines@7}}
control: control
metrics:
  - conversion                         # from metrics.yaml
  - unsubscribe
  - {key: revenue, kind: mean, event: purchase, value: amount_net, window: 14d, refunds: {event: refund, window: 45d}}
guardrails:
  - {metric: unsubscribe, may_worsen_by: 0.2pp}
value:                                 # EUR per unit: the sum of these, minus AI cost
  - {metric: revenue, contribution_margin: {base: 42%, low: 38%, high: 45%, source: DB-Rechnung 2026, owner: m.huber}}
  - {saving: copywriting, hours: 12, rate: 60 EUR, per: month, realised: 50%, variant: ai}
costs:
  budget: 5000 EUR                     # variable cost of the test; reaching it stops the test
  usage: {source: ai-gateway}          # priced AI calls, attributed by variant
  lines:
    - {category: engineering, hours: 160, rate: 95 EUR, life: 24mo, variant: ai}
    - {category: human_review, amount: 1.20 EUR, per: review, variant: ai}
    - {category: monitoring, amount: 250 EUR, per: month, variant: ai}
plan: {start: 2027-01-12T09:00, latest_end: 2027-03-31, total_units: 40000, expected_lift: {conversion: 3%}}
inference: {mode: anytime, alpha: 5%}  # anytime | fixed
decision: {hurdle_roi: 30%, probability: 80%, expected_loss: 1000 EUR, min_duration: 14d, approvals: {by: [controlling, cfo], within: 10d}}
rollout: {units_per_year: 500000, share: 80%, persistence: {base: 70%, low: 50%, high: 90%}, discount_rate: 10%}
"""  # noqa: E501 - as the design document writes it

Read: TypeAlias = Callable[..., Resolved]
Mistakes: TypeAlias = Callable[..., tuple[Problem, ...]]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "klartext.yaml").write_text(WORKSPACE)
    (tmp_path / "metrics.yaml").write_text(METRICS)
    (tmp_path / "experiments").mkdir()
    return find_workspace(tmp_path)


@pytest.fixture
def read(workspace: Workspace) -> Read:
    """Return a function that reads the example, with pieces of its text replaced."""

    def from_text(text: str = EXPERIMENT, **_: object) -> Resolved:
        return loads(text.encode(), "x.yaml", workspace)

    return from_text


@pytest.fixture
def mistakes(read: Read) -> Mistakes:
    """Return a function that says what is wrong with the example after replacing ``old, new``."""

    def after(*replacements: tuple[str, str]) -> tuple[Problem, ...]:
        text = changed(*replacements)
        try:
            read(text)
        except ConfigurationError as error:
            return error.problems
        return ()

    return after


def changed(*replacements: tuple[str, str], text: str = EXPERIMENT) -> str:
    """Return the example with each ``old`` replaced, once, by ``new``."""
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def document() -> dict[str, Any]:
    """Return the example as plain data (every scalar in it is text, a number or a boolean)."""
    loaded: dict[str, Any] = yaml.load(EXPERIMENT, Loader=yaml.BaseLoader)  # noqa: S506 - text only
    return loaded
