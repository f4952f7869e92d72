"""A workspace whose clock a test sets: an A/B test of mails, delivered as a unit table."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from klartext.app.session import Session
from klartext.app.usecases import facts, registry
from klartext.experiments.workspace import find_workspace

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
DAY = timedelta(days=1)

WORKSPACE = """\
schema: klartext/workspace/v1
name: shop
timezone: Europe/Berlin
lateness: 1d
pseudonym_key: {key}
"""
SPEC = """\
schema: klartext/experiment/v1
key: mail
title: AI mails
owner: lena.vogt
unit: customer
assignment: external
variants: [{key: control}, {key: ai}]
control: control
metrics:
  - {key: conversion, kind: conversion, event: purchase}
  - {key: revenue, kind: mean, event: revenue}
value: [{metric: revenue, contribution_margin: 40%}]
costs:
  lines: [{category: model_fees, amount: COST EUR, per: unit, variant: ai}]
plan: {total_units: 4000, latest_end: END}
inference: {mode: MODE}
decision: {expected_loss: 5000 EURRULE}
rollout: {units_per_year: 100000}
"""
MAPPING = """\
schema: klartext/mapping/v1
kind: unit_table
experiment: mail
id: [customer]
unit: customer
variant: variant
time: sent_at
complete_until: "UNTIL"
currency: EUR
outcomes:
  purchase: {column: purchase, as: flag}
  revenue: {column: revenue, as: money}
"""


@dataclass
class Shop:
    """A workspace whose clock the test sets."""

    root: Path
    instant: datetime = START - DAY
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = Session(find_workspace(self.root), now=lambda: self.instant)

    @staticmethod
    def spec(
        *, cost: str = "0.10", mode: str = "anytime", end: str = "2026-03-31", rule: str = ""
    ) -> str:
        """Return the YAML of the experiment."""
        text = SPEC.replace("COST", cost).replace("MODE", mode).replace("END", end)
        return text.replace("RULE", rule)

    def begin(self, **changes: str) -> None:
        """Register, start, and let a day pass."""
        spec = self.root / "experiments" / "mail.yaml"
        spec.write_text(self.spec(**changes))
        registry.apply(self.session, [spec], actor="lena.vogt")
        registry.move(self.session, "mail", "running", actor="lena.vogt")

    @staticmethod
    def rows(units: int, *, lift: float, seed: int = 1) -> list[str]:
        """Return a unit table of mails of fifteen days, as CSV lines."""
        rng = np.random.default_rng(seed)
        lines = ["customer,variant,sent_at,purchase,revenue"]
        for unit in range(units):
            treated = unit % 2
            bought = rng.random() < 0.2 + treated * lift
            sent = (START + 15 * DAY * unit / units).isoformat()
            amount = f"{rng.exponential(50) + 0.01:.2f}" if bought else "0"
            variant = "ai" if treated else "control"
            lines.append(f"c{seed}-{unit},{variant},{sent},{int(bought)},{amount}")
        return lines

    def deliver(self, units: int, *, lift: float, until: datetime, seed: int = 1) -> None:
        """Bring in a unit table of mails of fifteen days."""
        lines = self.rows(units, lift=lift, seed=seed)
        table, mapping = self.root / f"units-{seed}.csv", self.root / f"mapping-{seed}.yaml"
        table.write_text("\n".join(lines) + "\n")
        mapping.write_text(MAPPING.replace("UNTIL", until.isoformat()))
        self.instant = until
        facts.ingest(self.session, table, mapping)

    def copied(self, folder: Path) -> Shop:
        """Return a copy in ``folder``, which is dearer to make anew than to copy."""
        self.session.engine.dispose()  # SQLite writes its log into the file when the last one ends
        return Shop(Path(shutil.copytree(self.root, folder / "shop")), self.instant)


def new_shop(folder: Path, migrated: Path) -> Shop:
    """Return a workspace in ``folder``, without an experiment."""
    root = folder / "shop"
    (root / "experiments").mkdir(parents=True)
    (root / ".klartext").mkdir()
    shutil.copy(migrated, root / ".klartext")
    (root / "klartext.yaml").write_text(WORKSPACE.format(key=folder / "shop.key"))
    return Shop(root)


@pytest.fixture
def shop(tmp_path: Path, migrated: Path) -> Shop:
    return new_shop(tmp_path, migrated)
