"""Missing outcomes: metrics whose events do not arrive, at all or from one variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from klartext.analysis.result import Check

MINIMUM_UNITS = 100
"""Mature units below which no outcome at all is no news."""

WARNING_P = 0.0005


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Units of a variant, and how many of them have any outcome of a metric."""

    units: int
    with_outcome: int


def check(metrics: Mapping[str, Mapping[str, Outcomes]]) -> Check:
    """Check that events of every metric arrive from every variant.

    Parameters
    ----------
    metrics
        Per metric and variant, mature units.

    Returns
    -------
    Check
        Code ``missing_outcomes``, value the smallest p-value (0 when a metric has no outcome at
        all): ``warning`` when a metric has none in `MINIMUM_UNITS` units or more, or none in one
        variant although the others have so many that chance leaves it none with a probability
        below `WARNING_P`, over all metrics and variants together.

    Notes
    -----
    Without an effect each of the k outcomes falls into a variant with its share s of the units,
    so none do with probability at most ``(1 - s)^k`` (units are drawn without replacement, which
    makes it smaller). Bonferroni over metrics and variants. A treatment that ends an outcome
    altogether looks the same; the warning asks, it does not know.
    """
    compared = sum(len(variants) for variants in metrics.values())
    smallest, worst = 1.0, ""
    for metric, variants in metrics.items():
        units = sum(one.units for one in variants.values())
        found = sum(one.with_outcome for one in variants.values())
        if not found:
            if units >= MINIMUM_UNITS:
                detail = f"none of {units:,} mature units has an outcome of {metric}"
                return Check("missing_outcomes", "warning", 0.0, detail)
            continue
        for variant, one in variants.items():
            if one.with_outcome == 0 and one.units:
                p = min(1.0, compared * (1 - one.units / units) ** found)
                if p < smallest:
                    smallest = p
                    worst = f"no outcome of {metric} in {variant}, {found:,} in the others"
    if smallest < WARNING_P:
        return Check("missing_outcomes", "warning", smallest, worst)
    return Check("missing_outcomes", "ok", smallest, "outcomes arrive from every variant")
