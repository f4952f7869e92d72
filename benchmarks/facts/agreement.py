"""Whether two paths have given one answer: counts and money exactly, floats to 1e-9."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

TOLERANCE = 1e-9
COLUMNS = {"cart": 0, "conversion": 1, "revenue": 2, "items": 3, "net": 10}
"""Places of the columns that the other tools compute too."""

BEFORE = {"cart": 4, "conversion": 5, "revenue": 6, "items": 7}
"""Places of their covariates."""

EXACT = (
    "counts",
    "usage",
    "highest",
    "amounts",
    "covered",
    "latencies",
    "days",
    "models",
    "strangers",
)

Answer = Mapping[str, Any]


def differences(ours: Answer, theirs: Answer) -> list[str]:
    """Return what differs between two whole answers; floats relative to their own scale."""
    found = [
        f"{part}: {ours[part]} against {theirs[part]}"
        for part in EXACT
        if ours[part] != theirs[part]
    ]
    for part in ("moments", "call_moments"):
        found += [f"{part} of {name}" for name in _moment_differences(ours[part], theirs[part])]
    if set(ours["daily"]) != set(theirs["daily"]):
        found.append("the days on which units became mature")
    else:
        for day, one in ours["daily"].items():
            found += [f"{day}: {name}" for name in _moment_differences(one, theirs["daily"][day])]
    for part in ("call_totals", "halves"):
        found += [
            f"{part}: {ours[part]} against {theirs[part]}"
            for variant, one in ours[part].items()
            if not np.allclose(one, theirs[part][variant], rtol=TOLERANCE, atol=TOLERANCE)
        ]
    return found


def _moment_differences(ours: Answer, theirs: Answer) -> list[str]:
    found = []
    for variant, one in ours.items():
        other = theirs[variant]
        found += [
            f"{variant} {part}: {one[part]} against {other[part]}"
            for part in ("n", "nonzero")
            if one[part] != other[part]
        ]
        found += [f"{variant} {name}" for name, error in _errors(one, other) if error > TOLERANCE]
    return found


def mean_differences(ours: Answer, means: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the metrics whose adjusted means differ by 1e-9 of a standard deviation."""
    found = []
    for metric, place in COLUMNS.items():
        for variant, mean in _adjusted(ours, place, BEFORE.get(metric)).items():
            scale = _deviation(ours["moments"][variant], place)
            error = abs(mean - means[metric][variant])
            if not error <= TOLERANCE * scale:
                found.append(f"{variant} {metric}: off by {error / scale:.1e} sd")
    return found


def _adjusted(ours: Answer, place: int, before: int | None) -> dict[str, float]:
    """Return the mean of each variant, adjusted by the slope in all units together."""
    groups = ours["moments"]
    means = {variant: group["mean"][place] for variant, group in groups.items()}
    if before is None:
        return means
    n = sum(group["n"] for group in groups.values())
    centre = {
        at: sum(group["n"] * group["mean"][at] for group in groups.values()) / n
        for at in (place, before)
    }

    def product(one: int, other: int) -> float:
        return sum(
            group["m2"][one][other]
            + group["n"]
            * (group["mean"][one] - centre[one])
            * (group["mean"][other] - centre[other])
            for group in groups.values()
        )

    slope = product(place, before) / product(before, before)
    return {
        variant: means[variant] - slope * (group["mean"][before] - centre[before])
        for variant, group in groups.items()
    }


def _errors(one: Answer, other: Answer) -> Iterator[tuple[str, float]]:
    places = range(len(one["mean"]))
    scale = [_deviation(one, place) or 1.0 for place in places]
    for i in places:
        yield f"mean {i}", abs(one["mean"][i] - other["mean"][i]) / scale[i]
        cube = max(abs(one["m3"][i]), one["n"] * scale[i] ** 3)
        yield f"m3 {i}", abs(one["m3"][i] - other["m3"][i]) / cube
        for j in places:
            product = one["n"] * scale[i] * scale[j]
            yield f"m2 {i} {j}", abs(one["m2"][i][j] - other["m2"][i][j]) / product


def _deviation(moments: Answer, place: int) -> float:
    return float((moments["m2"][place][place] / moments["n"]) ** 0.5)
