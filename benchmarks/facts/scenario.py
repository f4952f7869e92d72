"""The experiment that is read out, and how large its facts are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    Costs,
    Covariate,
    DecisionRule,
    Experiment,
    Inference,
    Metric,
    Plan,
    Refunds,
    Rollout,
    Variant,
)
from klartext.experiments.watermark import Watermark

DAY = timedelta(days=1)
START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = 90
"""Days on which units are exposed; the facts are read at the end of the last one."""

SUMMER_TIME = datetime(2026, 3, 29, 1, tzinfo=UTC)
"""When the clocks of the experiment's time zone change."""

HISTORY_DAYS = 28
"""Days of events before the first exposure."""

PROPERTIES = {"country": "text", "items": "integer"}
KEY = "recommendations"
OTHER = "search-ranking"
"""Another experiment in the same tables."""

WINDOW = 21 * DAY
CART_WINDOW = 7 * DAY
REFUND_WINDOW = 35 * DAY
LATENESS = 2 * DAY
BEFORE = (Covariate(lookback=HISTORY_DAYS * DAY),)
"""Each metric is adjusted for itself in the days before the exposure."""

MARGIN_RATE = Decimal("0.42")
PERSISTENCE = Decimal("0.7")
WATERMARK = Watermark(batch=DAYS + HISTORY_DAYS, cutoff=START + DAYS * DAY)


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows: ``name`` is the number of events, e.g. ``60m``."""

    name: str
    events: int

    @property
    def exposures(self) -> int:
        """One exposure for three events."""
        return self.events // 3

    @property
    def units(self) -> int:
        """Exposed units: 5.5 million at 60 million events."""
        return self.events * 11 // 120

    @property
    def calls(self) -> int:
        """One AI call for twenty events."""
        return self.events // 20

    @property
    def rows(self) -> int:
        """All of them."""
        return self.events + self.exposures + self.calls

    @classmethod
    def of(cls, name: str) -> Size:
        """Read ``60m`` as 60 million events.

        Raises
        ------
        ValueError
            It is not a number of millions from 1 to 1000.
        """
        millions = int(name.lower().removesuffix("m"))
        if not 1 <= millions <= 1000:
            raise ValueError(f"{name} is not 1m to 1000m events")
        return cls(f"{millions}m", millions * 1_000_000)


def experiment() -> Experiment:
    """Two variants; two conversions, revenue net of refunds, items; AI calls as cost."""
    return Experiment(
        key=KEY,
        title="Recommendations written by a model",
        owner="lena.vogt",
        hypothesis="Written recommendations raise margin by more than they cost.",
        kind="ab",
        unit="customer",
        registration="prospective",
        assignment="klartext",
        exposure="posted",
        layer="shop",
        traffic=1_000_000,
        audience={},
        variants=(Variant("control", 500_000, {}), Variant("ai", 500_000, {})),
        control="control",
        metrics=(
            Metric(
                "cart",
                "conversion",
                "add_to_cart",
                None,
                CART_WINDOW,
                "increase",
                covariates=BEFORE,
            ),
            Metric(
                "conversion", "conversion", "purchase", None, WINDOW, "increase", covariates=BEFORE
            ),
            Metric(
                "revenue",
                "mean",
                "purchase",
                "value",
                WINDOW,
                "increase",
                Refunds("refund", REFUND_WINDOW),
                covariates=BEFORE,
            ),
            Metric("items", "mean", "purchase", "items", WINDOW, "increase", covariates=BEFORE),
        ),
        guardrails=(),
        value=(ContributionMargin("revenue", Assumption(MARGIN_RATE)),),
        costs=Costs(None, "gateway", ()),
        plan=Plan(START, None, None, {}),
        inference=Inference("anytime", Decimal("0.05"), Decimal("0.1")),
        decision=DecisionRule(Decimal(0), Decimal("0.8"), Decimal(1000), 14 * DAY, None),
        rollout=Rollout(*(Assumption(Decimal(x)) for x in (1_000_000, 1, PERSISTENCE, 0))),
        bandit=None,
        currency="EUR",
        timezone="Europe/Berlin",
        lateness=LATENESS,
    )


def description() -> dict[str, Any]:
    """Say what is computed, as plain values for the scripts of other tools."""
    hour = timedelta(hours=1)
    return {
        "experiment": KEY,
        "hours": {
            "cart": CART_WINDOW // hour,
            "purchase": WINDOW // hour,
            "refund": REFUND_WINDOW // hour,
            "before": HISTORY_DAYS * DAY // hour,
            "mature": (REFUND_WINDOW + LATENESS) // hour,
        },
        "margin_rate": float(MARGIN_RATE),
        "cutoff": WATERMARK.cutoff.isoformat(),
        "cutoff_us": int(WATERMARK.cutoff.timestamp()) * 1_000_000,
    }
