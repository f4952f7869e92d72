"""A workspace with one experiment, and the command line in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from klartext.app.cli import main

WORKSPACE = """\
schema: klartext/workspace/v1
name: shop
timezone: Europe/Berlin
pseudonym_key: {key}
"""

EXPERIMENT = """\
schema: klartext/experiment/v1
key: mail-subject
title: AI subject lines
owner: lena.vogt
hypothesis: They earn more than they cost.
kind: ab
unit: customer
layer: crm
variants:
  - {key: control, weight: 50%}
  - {key: ai, weight: 50%}
control: control
metrics:
  - {key: conversion, kind: conversion, event: purchase, window: 14d}
value:
  - {metric: conversion, worth: 20 EUR}
costs:
  lines:
    - {category: engineering, amount: 1000 EUR, per: once, variant: ai}
plan: {total_units: 40000, latest_end: 2099-03-31}
inference: {mode: anytime, alpha: 5%}
decision: {hurdle_roi: 30%, probability: 80%, expected_loss: 1000 EUR, min_duration: 14d}
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command returned and wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run: TypeAlias = Callable[..., Ran]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a workspace that is the current directory and describes one experiment."""
    root = tmp_path / "shop"
    (root / "experiments").mkdir(parents=True)
    (root / "klartext.yaml").write_text(WORKSPACE.format(key=tmp_path / "pseudonym.key"))
    (root / "experiments" / "mail.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs ``klartext`` with arguments."""

    def klartext(*arguments: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["klartext", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return klartext
