"""A plan as one self-contained HTML page: no network, complete in print, no script."""

from __future__ import annotations

from datetime import datetime

from klartext.analysis.proposal import Proposal
from klartext.reports import svg
from klartext.reports.language import Language, Locale
from klartext.reports.plan_view import view
from klartext.reports.self_contained import policy, style, template
from klartext.reports.tables import STATE_SIGNS


def render(proposal: Proposal, language: Language, *, generated_at: datetime, version: str) -> str:
    """Return the page.

    Parameters
    ----------
    proposal
        What to show.
    language
        ``"de"`` or ``"en"``.
    generated_at
        Shown at the foot.
    version
        Of the software.
    """
    experiment = proposal.experiment
    locale = Locale(language, experiment.currency, experiment.timezone)
    shown = view(proposal, locale)
    return template("plan.html.j2").render(
        plan=shown,
        experiment=experiment,
        locale=locale,
        text=locale.text,
        style=style(),
        policy=policy(),
        figures={curve.key: curve for curve in shown.curves},
        draw=svg.draw,
        signs=STATE_SIGNS,
        plots={},
        treatments=(),
        version=version,
        generated_at=locale.instant(generated_at),
    )
