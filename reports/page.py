"""The report as one self-contained HTML file: no network, complete in print, no script needed."""

from __future__ import annotations

from markupsafe import Markup

from klartext.analysis.result import TreatmentResult
from klartext.reports import (
    beside,
    courses,
    figures,
    segments,
    svg,
    tables,
    tornado,
    verdict,
    what_if,
    wording,
)
from klartext.reports.document import ReportDocument
from klartext.reports.language import Language, Locale
from klartext.reports.self_contained import policy, style, template
from klartext.reports.tiles import tiles


def render(document: ReportDocument, language: Language, *, interactive: bool = False) -> str:
    """Return the page.

    Parameters
    ----------
    document
        What to show.
    language
        ``"de"`` or ``"en"``.
    interactive
        Add Plotly figures with their bundle (4.8 MB); print still uses the static ones.

    Raises
    ------
    MissingExtraError
        ``interactive`` without plotly installed.
    """
    locale = wording.locale_of(document, language)
    drawn = _figures(document, locale)
    scripts = _scripts(drawn) if interactive else ()
    return template("page.html.j2").render(
        document=document,
        analysis=document.analysis,
        experiment=document.experiment,
        locale=locale,
        text=locale.text,
        say=wording,
        style=style(),
        policy=policy(scripts),
        what_if=what_if.mark(document, locale),
        beside=beside.blocks(document, locale),
        banner=verdict.banner(document, locale),
        segments=segments.blocks(document, locale),
        tornados=tornado.blocks(document, locale),
        cohorts=courses.cohorts(document, locale),
        treatments=[_treatment(document, locale, one) for one in document.analysis.treatments],
        figures=drawn,
        draw=svg.draw,
        swatch=svg.swatch,
        tables=_tables(document, locale),
        facts=tables.facts(document, locale),
        level=wording.level(locale, document.analysis.alpha),
        signs=tables.STATE_SIGNS,
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - ours and Plotly's
        plots=_plots(drawn) if interactive else {},
    )


def _treatment(
    document: ReportDocument, locale: Locale, treatment: TreatmentResult
) -> dict[str, object]:
    """Return what the page shows of one treatment."""
    tone = verdict.TONES[treatment.decision.verdict]
    block = next(block for block in document.costs if block.variant == treatment.variant)
    return {
        "variant": treatment.variant,
        "baseline": treatment.baseline,
        "tone": tone,
        "symbol": verdict.SYMBOLS[tone],
        "word": locale.text(f"verdict.{treatment.decision.verdict}.word"),
        "rule": verdict.rule(locale, treatment.decision),
        "tiles": tiles(document, locale, treatment),
        "conditions": tables.conditions(document, locale, treatment),
        "costs": tables.costs(locale, block),
        "metrics": tables.metrics(document, locale, treatment.variant),
        "intention_to_treat": tables.intention_to_treat(document, locale, treatment.variant),
    }


def _tables(document: ReportDocument, locale: Locale) -> dict[str, tables.Table | None]:
    return {
        "sources": tables.sources(document, locale),
        "variants": tables.variants(document, locale),
        "checks": tables.checks(document, locale),
        "assumptions": tables.assumptions(document, locale),
        "batches": tables.batches(document, locale),
        "trail": tables.trail(document, locale),
    }


def _figures(document: ReportDocument, locale: Locale) -> dict[str, figures.Figure]:
    """Return the figures that have anything to show; an invalid experiment shows no effect."""
    found: dict[str, figures.Figure] = {}
    if document.analysis.decision.verdict != "INVALID":
        found["net_benefit"] = figures.net_benefit(document, locale)
        found |= tornado.drawn(document, locale)
        found["effects"] = figures.effects(document, locale)
        found |= segments.forests(document, locale)
        found |= courses.drawn(document, locale)
    found["costs"] = figures.costs(document, locale)
    return {key: figure for key, figure in found.items() if figure.has_anything}


def _plots(drawn: dict[str, figures.Figure]) -> dict[str, Markup]:
    from klartext.reports import interactive  # noqa: PLC0415 - plotly is heavy and optional

    return {key: interactive.data(figure) for key, figure in drawn.items()}


def _scripts(drawn: dict[str, figures.Figure]) -> tuple[str, ...]:
    from klartext.reports import interactive  # noqa: PLC0415 - plotly is heavy and optional

    return interactive.scripts() if drawn else ()
