"""The figures a treatment is judged by, worded, each with its range or its reason."""

from __future__ import annotations

from dataclasses import dataclass

from klartext.analysis.estimate import ConfidenceSet, NotEstimable, Unbounded
from klartext.analysis.result import Number, TreatmentResult
from klartext.reports import wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import MISSING, Locale


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: its name, its value or a dash, its range, and lines that explain it."""

    label: str
    value: str
    reason: str | None
    range: str | None
    notes: tuple[str, ...]


def tiles(document: ReportDocument, locale: Locale, treatment: TreatmentResult) -> tuple[Tile, ...]:
    """Word the figures of one treatment: outlook first, then what the test itself showed."""
    planned = () if document.experiment.rollout is None else _rollout(document, locale, treatment)
    return (
        _net_benefit(document, locale, treatment),
        _probability(document, locale, treatment),
        *planned,
        _roi(document, locale, treatment),
        _test_net_benefit(document, locale, treatment),
        _cost(locale, treatment),
        _cost_per_conversion(document, locale, treatment),
    )


def _tile(label: str, said: wording.Said, found: str | None, notes: tuple[str | None, ...]) -> Tile:
    """Drop the range when there is no number: its reason is the same."""
    return Tile(
        label=label,
        value=said.text,
        reason=said.reason,
        range=None if said.reason else found,
        notes=tuple(note for note in notes if note is not None),
    )


def _ratio(
    locale: Locale, value: Number, found: ConfidenceSet, show: wording.Show
) -> tuple[wording.Said, str | None]:
    """Say a ratio; one that the data do not determine is a dash, its raw value a note."""
    if isinstance(found, Unbounded):
        raw = _note(locale, "tile.raw", value, show)
        return wording.Said(MISSING, wording.region(locale, found, show)), raw
    return wording.number(locale, value, show), None


def _note(locale: Locale, key: str, value: Number, show: wording.Show) -> str | None:
    """Return a line about a number, none when it cannot be estimated."""
    if isinstance(value, NotEstimable):
        return None
    return locale.text(key, value=show(value))


def _without_covariates(
    locale: Locale, found: tuple[Number, ConfidenceSet] | None, show: wording.Show, *, alpha: float
) -> str | None:
    """Say what stands without the adjustment for covariates, where there is one."""
    if found is None or isinstance(found[0], NotEstimable):
        return None
    region = wording.labelled_region(locale, found[1], show, alpha=alpha)
    return locale.text("tile.without_covariates", value=show(found[0]), range=region)


def _net_benefit(document: ReportDocument, locale: Locale, treatment: TreatmentResult) -> Tile:
    """Show the posterior mean with its own range, and beside it what was measured with its."""
    outlook, alpha = treatment.outlook, document.analysis.alpha
    plain = treatment.unadjusted[1] if treatment.unadjusted else None
    horizon = "planned" if document.experiment.rollout is None else "year"
    show = wording.money_like(locale, outlook.posterior_mean)
    show_raw = wording.money_like(locale, outlook.net_benefit)
    measured = None
    if not isinstance(outlook.net_benefit, NotEstimable):
        measured = locale.text(
            "tile.measured",
            value=show_raw(outlook.net_benefit),
            range=wording.labelled_region(locale, outlook.interval, show_raw, alpha=alpha),
        )
    return _tile(
        locale.text(f"tile.net_benefit_{horizon}"),
        wording.number(locale, outlook.posterior_mean, show),
        wording.labelled_region(
            locale, wording.credible(outlook, alpha=alpha), show, alpha=alpha, kind="credible"
        ),
        (
            measured,
            _without_covariates(
                locale,
                None if plain is None else (plain.net_benefit, plain.interval),
                show_raw,
                alpha=alpha,
            ),
            locale.text("tile.pulled") if wording.is_pulled(outlook) else None,
            _saved(locale, outlook.savings, show),
        ),
    )


def _rollout(
    document: ReportDocument, locale: Locale, treatment: TreatmentResult
) -> tuple[Tile, ...]:
    """Return what only a planned roll-out has: the full-cost view, present value, payback."""
    outlook, rollout = treatment.outlook, document.experiment.rollout
    rate = "" if rollout is None else locale.share(rollout.discount_rate.base)

    def months(x: float) -> str:
        return locale.text("unit.months", number=locale.number(x, decimals=1))

    show = wording.money_like(locale, outlook.npv)
    full = wording.money_like(locale, outlook.full_cost_net_benefit)
    return (
        _tile(
            locale.text("tile.full_cost"),
            wording.number(locale, outlook.full_cost_net_benefit, full),
            None,
            (locale.text("tile.full_cost_note"),),
        ),
        _tile(
            locale.text("tile.npv"),
            wording.number(locale, outlook.npv, show),
            None,
            (locale.text("tile.discounted", rate=rate),),
        ),
        _tile(
            locale.text("tile.payback"),
            wording.number(locale, outlook.payback_months, months),
            None,
            (),
        ),
    )


def _saved(locale: Locale, savings: float, show: wording.Show) -> str | None:
    """Say how much of an amount is time saved; that is not cash beyond its realised share."""
    return locale.text("tile.savings", value=show(savings)) if savings else None


def _probability(document: ReportDocument, locale: Locale, treatment: TreatmentResult) -> Tile:
    outlook = treatment.outlook
    hurdle = None
    if not isinstance(outlook.probability_hurdle, NotEstimable):
        hurdle = locale.text(
            "tile.probability_hurdle",
            hurdle=locale.share(document.experiment.decision.hurdle_roi),
            value=locale.probability(outlook.probability_hurdle),
        )
    return _tile(
        locale.text("tile.probability"),
        wording.number(locale, outlook.probability_positive, locale.probability),
        None,
        (hurdle,),
    )


def _roi(document: ReportDocument, locale: Locale, treatment: TreatmentResult) -> Tile:
    window = treatment.window
    show = wording.roi_like(locale, window.roi)
    each = None
    unbounded = isinstance(window.roi_interval, Unbounded)
    if not isinstance(window.roi, NotEstimable) and not unbounded:
        unit = locale.money(1, like=1_000)
        key = "tile.roi_each" if window.roi >= 0 else "tile.roi_each_loss"
        each = locale.text(key, unit=unit, value=locale.money(abs(window.roi)))
    said, raw = _ratio(locale, window.roi, window.roi_interval, show)
    found = wording.labelled_region(
        locale,
        window.roi_interval,
        wording.roi_like(locale, window.roi, short=True),
        alpha=document.analysis.alpha,
    )
    before = treatment.unadjusted[0] if treatment.unadjusted else None
    unadjusted = _without_covariates(
        locale,
        None if before is None else (before.roi, before.roi_interval),
        wording.roi_like(locale, window.roi, short=True),
        alpha=document.analysis.alpha,
    )
    return _tile(locale.text("tile.roi"), said, found, (raw, unadjusted, each))


def _test_net_benefit(document: ReportDocument, locale: Locale, treatment: TreatmentResult) -> Tile:
    window, alpha = treatment.window, document.analysis.alpha
    show = wording.money_like(locale, window.net_benefit)
    before = treatment.unadjusted[0] if treatment.unadjusted else None
    return _tile(
        locale.text("tile.test_net_benefit"),
        wording.number(locale, window.net_benefit, show),
        wording.labelled_region(locale, window.net_benefit_interval, show, alpha=alpha),
        (
            _note(locale, "tile.test_margin", window.incremental_margin, show),
            _without_covariates(
                locale,
                None if before is None else (before.net_benefit, before.net_benefit_interval),
                show,
                alpha=alpha,
            ),
            _saved(locale, window.savings, show),
        ),
    )


def _cost(locale: Locale, treatment: TreatmentResult) -> Tile:
    window = treatment.window
    show = wording.money_like(locale, window.cost)
    parts = None
    even = window.break_even_cost_per_unit
    worth = None
    if not isinstance(even, NotEstimable) and even > 0:
        worth = locale.text("tile.break_even", value=locale.money(even))
    if not isinstance(window.incremental_cost, NotEstimable):
        parts = locale.text(
            "tile.cost_parts",
            variable=show(window.incremental_cost),
            fixed=show(window.fixed_cost),
        )
    return _tile(
        locale.text("tile.cost"), wording.number(locale, window.cost, show), None, (parts, worth)
    )


def _cost_per_conversion(
    document: ReportDocument, locale: Locale, treatment: TreatmentResult
) -> Tile:
    window = treatment.window
    each = window.cost_per_incremental_conversion
    show = wording.money_like(locale, each)
    conversions = None
    if not isinstance(window.incremental_conversions, NotEstimable):
        like = window.incremental_conversions

        def count(x: float) -> str:
            return locale.number(x, decimals=0 if abs(like) >= 1000 else 1)

        conversions = locale.text(
            "tile.conversions_range",
            value=count(like),
            range=wording.region(locale, window.incremental_conversions_interval, count),
        )
    said, raw = _ratio(locale, each, window.cost_per_incremental_conversion_interval, show)
    return _tile(
        locale.text("tile.cost_per_conversion"),
        said,
        wording.labelled_region(
            locale,
            window.cost_per_incremental_conversion_interval,
            show,
            alpha=document.analysis.alpha,
        ),
        (raw, conversions),
    )
