"""A workspace with a running bandit and an A/B test, and a clock to turn.

Conftest modules import the fixtures by name.
"""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from klartext.app.session import Session, open_session
from klartext.app.usecases import registry

START = datetime(2027, 1, 12, 9, tzinfo=UTC)

WORKSPACE = """\
schema: klartext/workspace/v1
name: letters
timezone: Europe/Berlin
lateness: 0d
pseudonym_key: ../keys/letters.key
properties: {country: text}
"""

BANDIT = """\
schema: klartext/experiment/v1
key: subject-bandit
title: Subject lines
owner: lena.vogt
hypothesis: One of the subject lines is opened more often.
kind: bandit
unit: customer
layer: bandits
variants:
  - {key: control, weight: 50%, payload: {subject: classic}}
  - {key: short, weight: 30%, payload: {subject: short}}
  - {key: long, weight: 20%, payload: {subject: long}}
control: control
metrics:
  - {key: open, kind: conversion, event: mail_open, window: 1d}
value:
  - {metric: open, worth: 0.10 EUR}
plan: {total_units: 100000}
decision: {hurdle_roi: 0%, probability: 80%, expected_loss: 100 EUR}
bandit: {policy: thompson, reward: open, floor: 5%}
"""

AB = """\
schema: klartext/experiment/v1
key: mail-ab
title: Mails
owner: lena.vogt
hypothesis: Generated mails sell more.
kind: ab
unit: customer
layer: mails
traffic: 40%
audience: {country: [DE, AT]}
exposure: on_allocation
segments: [country]
variants:
  - {key: control, weight: 50%, payload: {template: classic}}
  - {key: ai, weight: 50%, payload: {template: generated}}
control: control
metrics:
  - {key: conversion, kind: conversion, event: purchase, window: 1d}
value:
  - {metric: conversion, worth: 20 EUR}
plan: {total_units: 100000}
decision: {hurdle_roi: 0%, probability: 80%, expected_loss: 100 EUR}
"""


@dataclass
class Clock:
    """Time that a test moves."""

    at: datetime = START

    def __call__(self) -> datetime:
        return self.at

    def forward(self, by: timedelta) -> None:
        self.at += by


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path, migrated: Path) -> Path:
    """Return a workspace with two experiments that were not applied."""
    root = tmp_path / "letters"
    (root / "experiments").mkdir(parents=True)
    (root / ".klartext").mkdir()
    shutil.copy(migrated, root / ".klartext")
    (root / "klartext.yaml").write_text(WORKSPACE)
    (root / "experiments" / "subject-bandit.yaml").write_text(BANDIT)
    (root / "experiments" / "mail-ab.yaml").write_text(AB)
    return root


@pytest.fixture
def session(root: Path, clock: Clock) -> Session:
    """Return a session in which both experiments run."""
    session = replace(open_session(root), now=clock)
    registry.apply(session, (), actor="lena")
    for key in ("subject-bandit", "mail-ab"):
        registry.move(session, key, "running", actor="lena")
    return session
