"""The report as plain data: one analysis, its experiment, and where every number comes from.

Nothing here is worded or drawn; `wording` says it, `figures` plots it, `page` lays it out. Equal
inputs give an equal document; ``generated_at`` is the only thing that differs between two runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from klartext.analysis.estimate import NotEstimable, Unbounded
from klartext.analysis.result import Analysis, CostItem, TreatmentResult
from klartext.analysis.series import Series
from klartext.analysis.verdicts import Beside
from klartext.experiments.experiment import Experiment
from klartext.experiments.inputs import Input, inputs

NOTHING_BESIDE = Beside(None, None)


@dataclass(frozen=True, slots=True)
class CostBlock:
    """The ledger of one treatment: every item, the exact sum of those that have a price."""

    variant: str
    items: tuple[CostItem, ...]
    total: Decimal
    unpriced: int

    @property
    def by_category(self) -> tuple[tuple[str, Decimal], ...]:
        """Priced cost per category, largest first."""
        sums: dict[str, Decimal] = {}
        for item in self.items:
            if item.amount is not None:
                sums[item.category] = sums.get(item.category, Decimal(0)) + item.amount
        return tuple(sorted(sums.items(), key=lambda pair: (-pair[1], pair[0])))


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One import that the analysis has seen; accepted + duplicate + conflict + rejected = sent."""

    batch: int
    kind: str
    source: str
    content_sha256: str
    received_at: datetime
    accepted: int
    duplicate: int
    conflict: int
    rejected: int


@dataclass(frozen=True, slots=True)
class TrailRow:
    """One entry of the audit log about this experiment."""

    at: datetime
    actor: str
    action: str


@dataclass(frozen=True, slots=True)
class AuditAppendix:
    """Where the analysis comes from: registration, imports, audit log, software.

    ``batches`` are the latest imports seen; ``earlier_batches`` counts those before them.
    """

    status: str
    recorded_at: datetime
    batches: tuple[BatchRow, ...]
    earlier_batches: int
    trail: tuple[TrailRow, ...]
    software_version: str


@dataclass(frozen=True, slots=True)
class ReportDocument:
    """Everything a report shows, in the order of the experiment's variants."""

    analysis: Analysis
    experiment: Experiment
    costs: tuple[CostBlock, ...]
    assumptions: tuple[Input, ...]
    glossary: tuple[str, ...]
    audit: AuditAppendix
    generated_at: datetime
    series: Series | None = None
    beside: Beside = NOTHING_BESIDE

    @property
    def lead(self) -> TreatmentResult | None:
        """The treatment the verdict is about, else the best by posterior-mean net benefit."""
        named = self.analysis.decision.variant
        for treatment in self.analysis.treatments:
            if treatment.variant == named:
                return treatment
        return max(self.analysis.treatments, key=_promise, default=None)


def build(  # noqa: PLR0913 - the parts of a report, by name
    analysis: Analysis,
    experiment: Experiment,
    audit: AuditAppendix,
    *,
    generated_at: datetime,
    series: Series | None = None,
    beside: Beside = NOTHING_BESIDE,
) -> ReportDocument:
    """Gather one report.

    Raises
    ------
    ValueError
        ``generated_at`` is naive, or the analysis belongs to another experiment.
    """
    if generated_at.tzinfo is None:
        raise ValueError(f"naive datetime {generated_at.isoformat()}: instants carry a time zone")
    if analysis.experiment != experiment.key:
        raise ValueError(f"analysis of {analysis.experiment!r} with spec {experiment.key!r}")
    return ReportDocument(
        analysis=analysis,
        experiment=experiment,
        costs=tuple(_cost_block(treatment) for treatment in analysis.treatments),
        assumptions=inputs(experiment),
        glossary=tuple(_glossary(analysis, experiment)),
        audit=audit,
        generated_at=generated_at,
        series=series,
        beside=beside,
    )


def _promise(treatment: TreatmentResult) -> float:
    mean = treatment.outlook.posterior_mean
    return float("-inf") if isinstance(mean, NotEstimable) else mean


def _cost_block(treatment: TreatmentResult) -> CostBlock:
    amounts = [item.amount for item in treatment.costs if item.amount is not None]
    return CostBlock(
        variant=treatment.variant,
        items=treatment.costs,
        total=sum(amounts, Decimal(0)),
        unpriced=len(treatment.costs) - len(amounts),
    )


def _glossary(analysis: Analysis, experiment: Experiment) -> Iterator[str]:
    """Yield the terms this report uses, in reading order."""
    yield from ("net_benefit", "roi", "incremental", "interval", analysis.mode, "posterior_mean")
    yield from ("hurdle", "expected_loss", "srm", "mature", "watermark")
    if experiment.rollout is not None:
        yield "persistence"
    if any(_unbounded(treatment) for treatment in analysis.treatments):
        yield "unbounded"
    if not analysis.registered:
        yield "retrospective"
    yield "sha256"


def _unbounded(treatment: TreatmentResult) -> bool:
    window = treatment.window
    sets = (window.roi_interval, window.cost_per_incremental_conversion_interval)
    return any(isinstance(one, Unbounded) for one in sets)
