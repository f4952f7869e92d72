"""Fixtures for the registry and what hangs on it: an experiment, and an empty state database."""

import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.experiments.experiment import (
    AiModel,
    Approvals,
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    DecisionRule,
    Experiment,
    Guardrail,
    Inference,
    Metric,
    Plan,
    Rollout,
    Variant,
)
from klartext.experiments.state import open_state


@pytest.fixture
def state(tmp_path: Path, migrated: Path) -> sa.Engine:
    """Return a migrated, empty state database."""
    shutil.copy(migrated, tmp_path / "state.db")
    return open_state(f"sqlite:///{tmp_path}/state.db")


@pytest.fixture
def experiment() -> Experiment:
    """Return an A/B experiment on half of its layer that uses most of the vocabulary."""
    window = timedelta(days=14)
    return Experiment(
        key="mail",
        title="Mail",
        owner="lena",
        hypothesis="It pays.",
        kind="ab",
        unit="customer",
        registration="prospective",
        assignment="klartext",
        exposure="posted",
        layer="crm",
        traffic=500_000,
        audience={"country": ("DE", "AT")},
        variants=(
            Variant("control", 700_000, {}),
            Variant(
                "ai", 300_000, {"template": "generated"}, AiModel("gpt-4o", prompt="subject@7")
            ),
        ),
        control="control",
        metrics=(
            Metric("conversion", "conversion", "purchase", None, window, "increase"),
            Metric("revenue", "mean", "purchase", "value", window, "increase"),
        ),
        guardrails=(Guardrail("conversion", may_worsen_by=Decimal("0.002")),),
        value=(ContributionMargin("revenue", Assumption(Decimal("0.42"))),),
        costs=Costs(
            budget=Decimal(5000),
            usage_source=None,
            lines=(CostLine("engineering", "once", Assumption(Decimal(1000)), "ai"),),
        ),
        plan=Plan(
            start=None,
            latest_end=datetime(2027, 3, 31, tzinfo=UTC),
            total_units=40_000,
            expected_lift={"conversion": Decimal("0.03")},
        ),
        inference=Inference("anytime", Decimal("0.05"), Decimal("0.1")),
        decision=DecisionRule(
            hurdle_roi=Decimal("0.3"),
            probability=Decimal("0.8"),
            expected_loss=Decimal(1000),
            min_duration=timedelta(days=14),
            approvals=Approvals(("cfo",), timedelta(days=10)),
        ),
        rollout=Rollout(*(Assumption(Decimal(x)) for x in ("500000", "0.8", "0.7", "0.1"))),
        bandit=None,
        currency="EUR",
        timezone="Europe/Berlin",
        lateness=timedelta(days=2),
    )
