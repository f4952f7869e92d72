"""Whether two paths have given one answer: counts and money exactly, floats to 1e-9."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TOLERANCE = 1e-9
COLUMNS = {"cart": 0, "conversion": 1, "revenue": 2, "items": 3, "net": 6}
"""Places of the columns that the other tools compute too."""

Answer = Mapping[str, Any]


def differences(ours: Answer, theirs: Answer) -> list[str]:
    """Return what differs between two whole answers; floats relative to their own scale."""
    found = [
        f"{part}: {ours[part]} against {theirs[part]}"
        for part in ("counts", "usage", "highest", "amounts", "strangers")
        if ours[part] != theirs[part]
    ]
    for variant, one in ours["moments"].items():
        other = theirs["moments"][variant]
        found += [
            f"{variant} {part}: {one[part]} against {other[part]}"
            for part in ("n", "nonzero")
            if one[part] != other[part]
        ]
        found += [f"{variant} {name}" for name, error in _errors(one, other) if error > TOLERANCE]
    return found


def mean_differences(ours: Answer, means: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the metrics whose means differ by 1e-9 of a standard deviation."""
    found = []
    for metric, place in COLUMNS.items():
        for variant, moments in ours["moments"].items():
            scale = _deviation(moments, place)
            error = abs(moments["mean"][place] - means[metric][variant])
            if error > TOLERANCE * scale:
                found.append(f"{variant} {metric}: off by {error / scale:.1e} sd")
    return found


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
