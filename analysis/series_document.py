"""The course of an experiment as a JSON document, schema ``klartext/series/v1``."""

from __future__ import annotations

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.series import Series, Totals
from klartext.experiments.experiment import Experiment, Json
from klartext.experiments.watermark import Watermark

SCHEMA = "klartext/series/v1"
NOTE = (
    "Charts, never estimands: units of different age are in one row, and cutting everybody to the "
    "youngest age would throw outcomes away. Read effects from klartext/analysis/v1."
)


def series_to_json(experiment: Experiment, watermark: Watermark, series: Series) -> dict[str, Json]:
    """Return the document: totals of each row, and means per unit where the units are one group."""
    return {
        "schema": SCHEMA,
        "experiment": experiment.key,
        "note": NOTE,
        "currency": experiment.currency,
        "timezone": series.timezone,
        "watermark": {"batch": watermark.batch, "cutoff": watermark.cutoff.isoformat()},
        "metrics": list(series.metrics),
        "left_out": list(series.left_out),
        "days": [
            {
                "day": row.day.isoformat(),
                "variant": row.variant,
                "exposed": row.exposed,
                "complete": row.complete,
                "totals": _rounded(row.totals),
                **_ratios(series, row.totals),
            }
            for row in series.days
        ],
        "ages": [
            {
                "days_since_exposure": row.age,
                "variant": row.variant,
                "units": row.units,
                **_means(row.totals, row.units),
                **_ratios(series, row.totals),
            }
            for row in series.ages
        ],
        "cohorts": [
            {
                "week": row.week.isoformat(),
                "weeks_since_exposure": row.age,
                "variant": row.variant,
                "units": row.units,
                **_means(row.totals, row.units),
                **_ratios(series, row.totals),
            }
            for row in series.cohorts
        ],
    }


def _rounded(totals: Totals) -> Json:
    return {name: float(f"{total:.10g}") for name, total in totals.items()}


def _means(totals: Totals | NotEstimable, units: int) -> dict[str, Json]:
    """Return totals and means per unit, or null and why."""
    if isinstance(totals, NotEstimable):
        return _null(totals.reason, totals.detail, "totals", "means")
    if not units:
        return {"totals": _rounded(totals), **_null("no-units", "no units", "means")}
    return {
        "totals": _rounded(totals),
        "means": _rounded({name: total / units for name, total in totals.items()}),
    }


def _null(code: str, detail: str, *names: str) -> dict[str, Json]:
    reason: Json = {"code": code, "detail": detail}
    return {**dict.fromkeys(names), "reason": dict.fromkeys(names, reason)}


def _ratios(series: Series, totals: Totals | NotEstimable) -> dict[str, Json]:
    if not series.ratios or isinstance(totals, NotEstimable):
        return {}
    found: dict[str, Json] = {}
    for key, (above, below) in series.ratios.items():
        if totals[below]:
            found[key] = float(f"{totals[above] / totals[below]:.10g}")
    empty = [key for key in series.ratios if key not in found]
    if empty:
        found |= _null("zero-denominator", "the denominator is zero", *empty)
    return {"ratios": found}
