"""The readout: everything an analysis needs from the facts, as moments, counts and exact sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from klartext.analysis import attribution
from klartext.analysis.ai_calls import AiCalls
from klartext.analysis.aliases import AliasCounts
from klartext.analysis.amounts import Amounts
from klartext.analysis.diagnostics import (
    Diagnostics,
)
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.guardrails import Measured
from klartext.analysis.moments import Moments
from klartext.analysis.quantiles import Observations
from klartext.analysis.result import CohortUse, VariantCounts
from klartext.analysis.segments import Segment
from klartext.experiments.caps import PercentileCap
from klartext.experiments.experiment import AI_KEYS, Metric
from klartext.experiments.ledger.bills import Ledger
from klartext.experiments.watermark import Watermark


@dataclass(frozen=True, slots=True)
class UsageSum:
    """AI calls of one kind: how many, how many unpriced, and what the priced ones cost, exactly.

    Parameters
    ----------
    charged_to
        ``unit``, ``shared`` or ``nobody``, see `klartext.analysis.attribution`.
    variant
        None for nobody.
    counted
        Whether the calls belong to units in the comparison: mature, seen in one variant only.
        True for shared calls, of which a share counts.
    category, model, source
        As imported.
    evidence
        The price used; the first one in alphabetical order when there are several.
    calls, unpriced
        Number of calls, and of those without a price that no provider's bill pays for either.
    amount
        Sum of the priced ones, in the reporting currency.
    excluded
        Whether their units are out of the comparison for good: seen in two variants.
    bill
        Place among the bills of the ledger of the one that speaks of them;
        `klartext.analysis.attribution.NO_BILL` when none does.
    paid
        Calls without a price that a provider's bill pays for.
    """

    charged_to: str
    variant: str | None
    counted: bool
    category: str
    model: str
    source: str
    evidence: str
    calls: int
    unpriced: int
    amount: Decimal
    excluded: bool = False
    bill: int = attribution.NO_BILL
    paid: int = 0


@dataclass(frozen=True, slots=True)
class MaturityDay:
    """Units of the comparison that became mature on one calendar day, as moments per variant.

    A unit is mature from ``exposed_at`` plus the longest window and the lateness; the day is that
    of the workspace's time zone. The days of a readout add up to its moments, so that those of a
    past day are a sum too, on today's facts.
    """

    day: date
    moments: Mapping[str, Moments]


@dataclass(frozen=True, slots=True)
class Regime:
    """The units that one split assigned, per variant.

    Parameters
    ----------
    weights
        In millionths.
    moments
        Of mature units seen in one variant only.
    first
        Units whose first exposure was in the variant.
    excluded
        Those of them that saw another variant too.
    """

    weights: Mapping[str, int]
    moments: Mapping[str, Moments]
    first: Mapping[str, int]
    excluded: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Readout:
    """One experiment at one watermark, reduced.

    Parameters
    ----------
    watermark
        Which facts were seen.
    moments
        Per variant, in the order of the spec: mature units seen in one variant only.
    counts
        Exposed, mature and excluded units per variant; ``exposed`` leaves out the excluded.
    events
        Events of cost lines per ``(variant, name)``, of the units in ``moments``.
    all_units, all_events
        The same for every unit with this first variant: what was spent so far.
    first_exposure, last_exposure
        None when nothing was exposed.
    usage
        AI calls by who bears them.
    highest_price
        The dearest priced call, for a bound on the unpriced ones; None when none is priced.
    amounts
        What the events of mean metrics carried.
    strangers
        Units with an exposure in a variant that the spec does not have.
    daily
        The units of ``moments`` by the day on which they became mature, in order; none with
        several splits, whose moments do not add up over days.
    observations
        Per quantile metric the observations of each variant, or why there are none.
    calls
        What the AI metrics are made of; None when no AI call counts.
    caps
        Percentile caps, frozen or as they would be now.
    assigned
        With an exposure event: the readout of all units, counted from their exposure. None
        without one, when it would be this readout.
    segments
        The moments by level of each property that the spec names.
    diagnostics
        What the checks need beside all this; None when nobody asked.
    aliases
        Ids merged into exposed units; None when there never was an alias.
    regimes
        What ``moments`` are combined from, per split; empty before the start.
    ledger
        What the books say; its bills are those of the calls. ``moments`` know nothing of it.
    cohorts
        How much of it earlier analyses had left; None when nobody asked.
    """

    watermark: Watermark
    moments: Mapping[str, Moments]
    counts: tuple[VariantCounts, ...]
    events: Mapping[tuple[str, str], int]
    all_units: Mapping[str, int]
    all_events: Mapping[tuple[str, str], int]
    first_exposure: datetime | None
    last_exposure: datetime | None
    usage: tuple[UsageSum, ...]
    highest_price: Decimal | None
    amounts: tuple[Amounts, ...]
    strangers: int
    daily: tuple[MaturityDay, ...] = ()
    observations: Mapping[str, Mapping[str, Observations] | NotEstimable] = field(
        default_factory=dict
    )
    calls: AiCalls | None = None
    caps: tuple[PercentileCap, ...] = ()
    assigned: Readout | None = None
    segments: tuple[Segment, ...] = ()
    diagnostics: Diagnostics | None = None
    aliases: AliasCounts | None = None
    regimes: tuple[Regime, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    cohorts: CohortUse | None = None

    def measured(self, metric: Metric, variant: str) -> Measured:
        """Return what ``metric`` is read from in ``variant``, or why it cannot be compared."""
        if metric.key in AI_KEYS:
            if self.calls is None:
                return NotEstimable("no-calls", "there are no AI calls to measure")
            return self._unmoved() or self.calls.measured(metric, variant)
        if metric.kind != "quantile":
            return self.moments[variant]
        found = self._unmoved() or self.observations[metric.key]
        return found if isinstance(found, NotEstimable) else found[variant]

    def _unmoved(self) -> NotEstimable | None:
        if len(self.regimes) < 2:
            return None
        return NotEstimable("moved-weights", "the weights moved; this is not combined over splits")

    def count(self, variant: str) -> VariantCounts:
        """Return the counts of ``variant``."""
        return next(count for count in self.counts if count.variant == variant)
