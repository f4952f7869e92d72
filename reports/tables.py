"""The tables of a report as plain data: columns and cells in words, no markup."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from klartext.analysis.bayes.comparison import Advantage
from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.result import Analysis, Beliefs, CostItem, MetricResult, TreatmentResult
from klartext.analysis.sequential.replay import Drift, Running
from klartext.experiments.experiment import MILLION
from klartext.reports import wording
from klartext.reports.conditions import conditions as worded_conditions
from klartext.reports.document import CostBlock, ReportDocument
from klartext.reports.language import MISSING, Locale

STATE_SIGNS: Final = {
    "met": "✓",
    "not_met": "✕",
    "harm": "✕",
    "open": "…",
    "ok": "✓",
    "info": "i",
    "warning": "!",
    "invalid": "✕",
}
"""Sign before a state, so that colour is never alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its header, and whether it holds numbers."""

    label: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: its text, a quieter second line, a state (``met``, ``warning``, …) if it is one.

    ``code`` is shown verbatim; ``again`` repeats the cell above it.
    """

    text: str
    note: str | None = None
    state: str | None = None
    code: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row heads it, ``total`` marks a last row of sums."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] | None = None


def conditions(document: ReportDocument, locale: Locale, treatment: TreatmentResult) -> Table:
    """Give every condition of a decision: seen, required, met, and what would change it."""
    found = worded_conditions(document, locale, treatment)
    open_ends = any(one.change for one in found)
    rows = tuple(
        (
            Cell(one.text),
            Cell(one.seen.text, one.seen.reason),
            Cell(one.required),
            Cell(locale.text(f"why.{one.state}"), state=one.state),
            *((Cell(one.change or MISSING),) if open_ends else ()),
        )
        for one in found
    )
    columns = (
        Column(locale.text("why.condition")),
        Column(locale.text("why.seen"), numeric=True),
        Column(locale.text("why.required"), numeric=True),
        Column(locale.text("why.state")),
        *((Column(locale.text("why.change")),) if open_ends else ()),
    )
    return Table(locale.text("section.why"), columns, rows)


def costs(locale: Locale, block: CostBlock) -> Table:
    """Give the exact ledger of one treatment."""
    columns = (
        Column(locale.text("costs.category")),
        Column(locale.text("costs.behaviour")),
        Column(locale.text("costs.quantity"), numeric=True),
        Column(locale.text("costs.amount"), numeric=True),
        Column(locale.text("costs.evidence")),
    )
    label = locale.text("costs.total_priced" if block.unpriced else "costs.total")
    total = (Cell(label), Cell(""), Cell(""), Cell(locale.exact(block.total)), Cell(""))
    title = locale.text("table.of", label=locale.text("section.costs"), variant=block.variant)
    return Table(title, columns, tuple(_cost_row(locale, item) for item in block.items), total)


def _cost_row(locale: Locale, item: CostItem) -> tuple[Cell, ...]:
    category = wording.coded(locale, "cost_category", item.category)
    said = wording.evidence(locale, item)
    amount = Cell(locale.text("costs.unpriced"), locale.text("costs.unpriced_note"), "warning")
    if item.amount is not None:
        amount = Cell(locale.exact(item.amount))
    return (
        Cell(category, None if item.label in {category, item.category, ""} else item.label),
        Cell(wording.coded(locale, "behaviour", item.behaviour)),
        Cell(locale.plain(item.quantity)),
        amount,
        Cell(item.evidence, code=True) if said is None else Cell(said),
    )


def sources(document: ReportDocument, locale: Locale) -> Table | None:
    """Say by whom AI calls are paid for: the ledger beside prices; None when it has no bills."""
    found = document.analysis.ledger.sources
    if not found:
        return None
    rows = tuple(
        (
            Cell(
                wording.coded(locale, "cost_category", one.category),
                f"{one.provider}, {one.variant or locale.text('costs.all_variants')}",
            ),
            Cell(f"{locale.instant(one.start)} – {locale.instant(one.end)}"),
            Cell(locale.text(f"costs.source_{one.source}")),
            Cell(locale.exact(one.booked)),
            Cell(
                locale.exact(one.priced),
                locale.text(
                    "costs.calls_unpriced",
                    calls=locale.integer(one.calls),
                    unpriced=locale.integer(one.unpriced),
                ),
            ),
            Cell(locale.exact(one.difference)),
        )
        for one in found
    )
    columns = (
        Column(locale.text("costs.provider")),
        Column(locale.text("costs.period")),
        Column(locale.text("costs.source")),
        Column(locale.text("costs.booked"), numeric=True),
        Column(locale.text("costs.priced"), numeric=True),
        Column(locale.text("costs.difference"), numeric=True),
    )
    return Table(locale.text("costs.sources"), columns, rows)


def variants(document: ReportDocument, locale: Locale) -> Table:
    """Units per variant: planned share, exposed, mature, excluded."""
    total = sum(count.weight for count in document.analysis.counts) or MILLION
    control = document.experiment.control
    rows = []
    for count in document.analysis.counts:
        named = locale.text("variants.role_control")
        role = named if count.variant == control != named else None
        share = Decimal(count.weight) / Decimal(total)
        rows.append(
            (
                Cell(count.variant, role),
                Cell(locale.percent(share, like=1.0)),
                Cell(locale.integer(count.exposed)),
                Cell(locale.integer(count.mature)),
                Cell(locale.integer(count.excluded)),
            )
        )
    columns = (
        Column(locale.text("variants.variant")),
        Column(locale.text("variants.share"), numeric=True),
        Column(locale.text("variants.exposed"), numeric=True),
        Column(locale.text("variants.mature"), numeric=True),
        Column(locale.text("variants.excluded"), numeric=True),
    )
    return Table(locale.text("section.variants"), columns, tuple(rows))


def metrics(document: ReportDocument, locale: Locale, variant: str) -> Table:
    """Means and effects of one treatment: one row per metric and method."""
    return _metrics(document.analysis, locale, variant, label=locale.text("section.effects"))


def intention_to_treat(document: ReportDocument, locale: Locale, variant: str) -> Table | None:
    """Give the effects of one treatment on all units; None when all units are analysed anyway."""
    every = document.analysis.intention_to_treat
    if every is None:
        return None
    return _metrics(every, locale, variant, label=locale.text("itt.title"))


def _metrics(analysis: Analysis, locale: Locale, variant: str, *, label: str) -> Table:
    found = [metric for metric in analysis.metrics if metric.variant == variant]
    level = wording.level(locale, analysis.alpha)
    columns = (
        Column(locale.text("metrics.metric")),
        Column(locale.text("metrics.baseline_mean"), numeric=True),
        Column(locale.text("metrics.mean"), numeric=True),
        Column(locale.text("metrics.difference", level=level), numeric=True),
        Column(locale.text("metrics.relative", level=level), numeric=True),
        Column(locale.text("metrics.p_value"), numeric=True),
        Column(locale.text("metrics.method")),
    )
    rows = [row for metric in found for row in _metric_rows(locale, metric)]
    title = locale.text("table.of", label=label, variant=variant)
    return Table(title, columns, tuple(rows))


def _metric_rows(locale: Locale, metric: MetricResult) -> list[tuple[Cell, ...]]:
    role = locale.text("metrics.primary") if metric.primary else None
    baseline = wording.metric_mean(locale, metric, metric.baseline_mean)
    mean = wording.metric_mean(locale, metric, metric.mean)
    rows = []
    for place, (name, estimate) in enumerate(metric.estimates):
        again = place > 0
        head = (
            Cell(wording.metric_name(locale, metric), None if again else role, again=again),
            Cell(baseline.text, None if again else baseline.reason, again=again),
            Cell(mean.text, None if again else mean.reason, again=again),
        )
        if name == "uncapped":  # the levels above are those with the cap
            head = (head[0], Cell(MISSING), Cell(MISSING))
        cells = _estimate_cells(locale, metric, name, estimate)
        if place == 0 and metric.adjustment is not None:
            said = wording.adjustment(locale, metric.adjustment)
            note = f"{cells[-1].note}; {said}" if cells[-1].note else said
            cells = (*cells[:-1], Cell(cells[-1].text, note))
        if place == 0 and isinstance(metric.adjusted_p, float):
            adjusted = locale.p_value(metric.adjusted_p)
            said = locale.text(f"correction.{metric.correction}", p_value=adjusted)
            p_cell = cells[-2]
            cells = (*cells[:-2], replace(p_cell, note=p_cell.note or said), cells[-1])
        rows.append((*head, *cells))
    below = tuple(replace(cell, note=None, again=True) for cell in rows[0][:3])
    if isinstance(metric.bayes, Beliefs):
        rows.append((*below, *_belief_cells(locale, metric, metric.bayes.better)))
    if metric.running is not None:
        rows.append((*below, *_running_cells(locale, metric, metric.running)))
    return rows


def _belief_cells(locale: Locale, metric: MetricResult, found: Advantage) -> tuple[Cell, ...]:
    """Say the posterior: mean, range, and how probable it is that the treatment is better."""
    show = wording.metric_difference(locale, metric, found.mean)
    relative = wording.number(locale, found.relative, wording.relative_like(locale, found.relative))
    better = locale.text("metrics.better", probability=locale.probability(found.probability_better))
    return (
        Cell(show(found.mean), wording.region(locale, found.interval, show)),
        Cell(relative.text, relative.reason),
        Cell(MISSING, better),
        Cell(locale.text("method.bayes")),
    )


def _running_cells(
    locale: Locale, metric: MetricResult, found: Running | NotEstimable
) -> tuple[Cell, ...]:
    """Say what the looks of all days so far have in common."""
    name = Cell(locale.text("method.running"))
    if isinstance(found, NotEstimable):
        return Cell(MISSING, wording.reason(locale, found)), Cell(MISSING), Cell(MISSING), name
    p_value = wording.number(locale, found.p_value, locale.p_value)
    match found.interval:
        case Interval(lower, upper):
            show = wording.metric_difference(locale, metric, (lower + upper) / 2)
            common = Cell(wording.region(locale, found.interval, show))
        case NotEstimable():
            common = Cell(MISSING, wording.reason(locale, found.interval))
        case Drift():
            common = Cell(MISSING, locale.text("missing.drift"))
    return common, Cell(MISSING), Cell(p_value.text, p_value.reason), name


def _estimate_cells(
    locale: Locale, metric: MetricResult, name: str, estimate: Estimate | NotEstimable
) -> tuple[Cell, ...]:
    said_name = wording.method(locale, name)
    if isinstance(estimate, NotEstimable):
        missing = Cell(MISSING, wording.reason(locale, estimate))
        return missing, Cell(MISSING), Cell(MISSING), Cell(said_name)
    show = wording.metric_difference(locale, metric, estimate.value)
    show_relative = wording.relative_like(locale, estimate.relative)
    relative = wording.number(locale, estimate.relative, show_relative)
    relative_set = wording.region(locale, estimate.relative_interval, show_relative)
    p_value = wording.number(locale, estimate.p_value, locale.p_value)
    note = None if estimate.valid_for_look else locale.text("metrics.note_look")
    return (
        Cell(show(estimate.value), wording.region(locale, estimate.interval, show)),
        Cell(relative.text, relative.reason or relative_set),
        Cell(p_value.text, p_value.reason),
        Cell(said_name, note),
    )


def checks(document: ReportDocument, locale: Locale) -> Table:
    """Every quality check with its severity, value and advice."""
    rows = []
    for found in document.analysis.checks:
        said = wording.check(locale, found)
        state = Cell(said.severity_text, state=said.severity)
        rows.append((Cell(said.name), state, Cell(said.value), Cell(said.advice)))
    columns = (
        Column(locale.text("checks.check")),
        Column(locale.text("checks.result")),
        Column(locale.text("checks.value"), numeric=True),
        Column(locale.text("checks.advice")),
    )
    return Table(locale.text("section.checks"), columns, tuple(rows))


def assumptions(document: ReportDocument, locale: Locale) -> Table:
    """Every stated input with its range, source and owner."""
    rows = []
    for row in document.assumptions:
        span = wording.assumption_span(locale, row)
        rows.append(
            (
                Cell(wording.assumption(locale, row)),
                Cell(wording.assumption_value(locale, row)),
                Cell(span.text, span.reason),
                _stated(locale, row.assumption.source, "source"),
                _stated(locale, row.assumption.owner, "owner"),
            )
        )
    columns = (
        Column(locale.text("assumptions.input")),
        Column(locale.text("assumptions.base"), numeric=True),
        Column(locale.text("assumptions.span"), numeric=True),
        Column(locale.text("assumptions.source")),
        Column(locale.text("assumptions.owner")),
    )
    return Table(locale.text("section.assumptions"), columns, tuple(rows))


def _stated(locale: Locale, value: str | None, what: str) -> Cell:
    return Cell(MISSING, locale.text(f"assumptions.missing_{what}")) if not value else Cell(value)


def batches(document: ReportDocument, locale: Locale) -> Table:
    """Every import the analysis has seen; what was sent adds up."""
    rows = []
    for batch in document.audit.batches:
        sent = batch.accepted + batch.duplicate + batch.conflict + batch.rejected
        counts = (batch.accepted, batch.duplicate, batch.conflict, batch.rejected, sent)
        kind = wording.coded(locale, "batch_kind", batch.kind)
        rows.append(
            (
                Cell(locale.integer(batch.batch), kind),
                Cell(locale.instant(batch.received_at)),
                Cell(batch.source, batch.content_sha256[:16] + "…", code=True),
                *(Cell(locale.integer(count)) for count in counts),
            )
        )
    names = ("accepted", "duplicate", "conflict", "rejected", "sent")
    columns = (
        Column(locale.text("audit.kind")),
        Column(locale.text("audit.received")),
        Column(locale.text("audit.source")),
        *(Column(locale.text(f"audit.{name}"), numeric=True) for name in names),
    )
    return Table(locale.text("section.batches"), columns, tuple(rows))


def trail(document: ReportDocument, locale: Locale) -> Table:
    """Give the audit log of this experiment."""
    rows = tuple(
        (
            Cell(locale.instant(entry.at)),
            Cell(entry.actor),
            Cell(wording.coded(locale, "action", entry.action)),
        )
        for entry in document.audit.trail
    )
    columns = tuple(Column(locale.text(f"audit.{name}")) for name in ("at", "actor", "action"))
    return Table(locale.text("section.trail"), columns, rows)


def facts(document: ReportDocument, locale: Locale) -> tuple[tuple[str, str], ...]:
    """Name and value of everything that identifies this analysis."""
    analysis, audit = document.analysis, document.audit
    proofs = {
        item.evidence
        for block in document.costs
        for item in block.items
        if wording.evidence(locale, item) is None
    }
    values = {
        "key": analysis.experiment,
        "version": locale.integer(analysis.version),
        "sha256": analysis.spec_sha256,
        "recorded_at": locale.instant(audit.recorded_at),
        "registered": locale.text("audit.yes" if analysis.registered else "audit.no"),
        "status": wording.coded(locale, "status", audit.status),
        "batch": (
            locale.integer(analysis.watermark.batch)
            if analysis.watermark.batch
            else locale.text("audit.no_batch")
        ),
        "cutoff": locale.instant(analysis.watermark.cutoff),
        "mode": locale.text(f"audit.mode_{analysis.mode}"),
        "alpha": locale.share(Decimal(repr(analysis.alpha))),
        "rule_alpha": locale.share(Decimal(repr(analysis.rule_alpha))),
        "currency": analysis.currency,
        "timezone": document.experiment.timezone,
        "prices": "; ".join(sorted(proofs)) or locale.text("audit.no_prices"),
        "software": f"Klartext {audit.software_version}",
        "generated_at": locale.instant(document.generated_at),
    }
    return tuple((locale.text(f"audit.{name}"), value) for name, value in values.items())
