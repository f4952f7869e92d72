"""The verdict in words: what it means, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.result import Decision, TreatmentResult, Verdict
from klartext.reports import wording
from klartext.reports.document import ReportDocument
from klartext.reports.language import Locale

Tone = Literal["go", "stop", "wait", "invalid"]

TONES: Final[dict[Verdict, Tone]] = {
    "GO": "go",
    "GO_LIMITED": "go",
    "GO_PENDING_APPROVAL": "wait",
    "STOP": "stop",
    "CONTINUE": "wait",
    "INVALID": "invalid",
}
SYMBOLS: Final[dict[Tone, str]] = {"go": "✓", "stop": "✕", "wait": "…", "invalid": "!"}
"""Colour never stands alone: each tone has its sign."""


@dataclass(frozen=True, slots=True)
class Banner:
    """The verdict banner, worded."""

    tone: Tone
    symbol: str
    word: str
    headline: str
    expected: str | None
    measured: str | None
    also: str | None
    meaning: str
    forecast: str | None
    next_step: str
    rule: str


def banner(document: ReportDocument, locale: Locale) -> Banner:
    """Word the verdict of the experiment."""
    analysis = document.analysis
    decision = analysis.decision
    verdict = decision.verdict
    lead = document.lead
    variant = decision.variant or (lead.variant if lead and verdict.startswith("GO") else None)
    key = f"verdict.{verdict}"
    one = f"{key}.headline_one"
    headline = one if variant is not None and locale.has(one) else f"{key}.headline"
    headline = _by_rule(locale, headline, decision.rule)
    tone = TONES[verdict]
    following = "next" if analysis.registered else "next_unregistered"
    found = Banner(
        tone=tone,
        symbol=SYMBOLS[tone],
        word=locale.text(f"{key}.word"),
        headline=locale.text(headline, variant=variant or ""),
        expected=None
        if lead is None or verdict == "INVALID"
        else _expected(document, locale, lead),
        measured=None
        if lead is None or verdict == "INVALID"
        else _measured(document, locale, lead),
        also=_also(document, locale),
        meaning=locale.text(_by_rule(locale, f"{key}.meaning", decision.rule)),
        forecast=_forecast(locale, lead) if decision.rule == "continue" else None,
        next_step=locale.text(_by_rule(locale, f"{key}.{following}", decision.rule)),
        rule=rule(locale, decision),
    )
    return _what_if(locale, found) if analysis.is_what_if else found


def _what_if(locale: Locale, found: Banner) -> Banner:
    """Take the colour of a verdict, and all that sounds like one, from that of a what-if."""
    return replace(
        found,
        tone="invalid" if found.tone == "invalid" else "wait",  # without a readout stays without
        symbol="?",
        word=locale.text("what_if.word", word=found.word),
        headline=locale.text("what_if.headline", word=found.word),
        next_step=locale.text("what_if.next"),
    )


def _by_rule(locale: Locale, key: str, rule: str) -> str:
    """Return the key of the words that a rule has of its own, else ``key``."""
    own = f"{key}_{rule}"
    return own if locale.has(own) else key


def _expected(document: ReportDocument, locale: Locale, lead: TreatmentResult) -> str | None:
    outlook = lead.outlook
    mean = outlook.posterior_mean
    if isinstance(mean, NotEstimable):
        return None
    show = wording.money_like(locale, mean)
    return locale.text(
        "verdict.expected",
        horizon=wording.horizon(document, locale),
        value=show(mean),
        range=wording.labelled_region(
            locale,
            wording.credible(outlook, alpha=document.analysis.alpha),
            show,
            alpha=document.analysis.alpha,
            kind="credible",
        ),
    )


def _measured(document: ReportDocument, locale: Locale, lead: TreatmentResult) -> str | None:
    outlook = lead.outlook
    raw = outlook.net_benefit
    if isinstance(raw, NotEstimable):
        return None
    show = wording.money_like(locale, raw)
    said = locale.text(
        "verdict.measured",
        value=show(raw),
        range=wording.labelled_region(
            locale, outlook.interval, show, alpha=document.analysis.alpha
        ),
    )
    return f"{said} {locale.text('tile.pulled')}" if wording.is_pulled(outlook) else said


def _forecast(locale: Locale, lead: TreatmentResult | None) -> str | None:
    """Say when a decision is to be expected, and how likely it is a GO."""
    if lead is None:
        return None
    chance, expected = lead.prospect.predictive_probability, lead.prospect.forecast
    if isinstance(chance, NotEstimable) or isinstance(expected, NotEstimable):
        return None
    return locale.text(
        "verdict.CONTINUE.forecast",
        date=locale.date(expected),
        chance=locale.probability(chance),
    )


def _also(document: ReportDocument, locale: Locale) -> str | None:
    """Name the other treatments with the verdict of the chosen one."""
    chosen = document.analysis.decision
    others = [
        treatment.variant
        for treatment in document.analysis.treatments
        if treatment.decision.verdict == chosen.verdict and treatment.variant != chosen.variant
    ]
    if not others or not chosen.verdict.startswith("GO"):
        return None
    return locale.text("verdict.also", variants=", ".join(others))


def rule(locale: Locale, decision: Decision) -> str:
    """Say which rule matched."""
    return wording.coded(locale, "rule", decision.rule)
