"""The portfolio as one self-contained HTML page: no network, complete in print, no script."""

from __future__ import annotations

from klartext.analysis.portfolio import Portfolio
from klartext.reports.language import Language, Locale
from klartext.reports.portfolio_view import view
from klartext.reports.self_contained import policy, style, template
from klartext.reports.tables import STATE_SIGNS
from klartext.reports.verdict import SYMBOLS


def render(portfolio: Portfolio, language: Language, *, version: str) -> str:
    """Return the page.

    Parameters
    ----------
    portfolio
        What to show.
    language
        ``"de"`` or ``"en"``.
    version
        Of the software.
    """
    locale = Locale(language, portfolio.currency, portfolio.timezone)
    shown = view(portfolio, locale)
    return template("portfolio.html.j2").render(
        portfolio=shown,
        locale=locale,
        text=locale.text,
        style=style(),
        policy=policy(),
        symbol=SYMBOLS[shown.tone],
        signs=STATE_SIGNS,
        figures={},
        plots={},
        treatments=(),
        version=version,
        generated_at=locale.instant(portfolio.generated_at),
    )
