"""What an estimator returns: an estimate with its interval, or a typed reason why there is none."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

SMALLEST_P_VALUE = sys.float_info.min
"""A p-value below this (2.2e-308) is reported as this: an upper bound, never a false zero."""


@dataclass(frozen=True, slots=True)
class NotEstimable:
    """No number, and why. ``reason`` is a stable kebab-case code, ``detail`` one English clause."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A bounded interval at ``level`` (0.95 is 95 %)."""

    lower: float
    upper: float
    level: float


@dataclass(frozen=True, slots=True)
class Unbounded:
    """A confidence set of a ratio that is not an interval; the data do not determine the ratio.

    ``shape`` is ``line`` (every value), ``rays`` (all but the open gap ``bounds``), ``left``
    (up to ``bounds[0]``) or ``right`` (from ``bounds[0]``).
    """

    shape: Literal["line", "rays", "left", "right"]
    bounds: tuple[float, ...]
    level: float


ConfidenceSet: TypeAlias = Interval | Unbounded | NotEstimable


def affine(region: ConfidenceSet, *, scale: float, shift: float) -> ConfidenceSet:
    """Confidence set of ``scale * x + shift``, given the one of ``x``, at the same level.

    Parameters
    ----------
    region
        Confidence set of ``x``; a `NotEstimable` passes through.
    scale
        Any finite number but 0; a negative one swaps the ends.
    shift
        In the unit of the result.

    Raises
    ------
    ValueError
        ``scale`` is 0 or not finite, or ``shift`` is not finite.

    Examples
    --------
    >>> affine(Interval(1.0, 2.0, level=0.95), scale=-10.0, shift=5.0)
    Interval(lower=-15.0, upper=-5.0, level=0.95)
    """
    if scale == 0 or not (math.isfinite(scale) and math.isfinite(shift)):
        raise ValueError(f"scale {scale} and shift {shift} must be finite, and scale not 0")
    match region:
        case NotEstimable():
            return region
        case Interval(lower, upper, level):
            ends = sorted((scale * lower + shift, scale * upper + shift))
            return Interval(ends[0], ends[1], level)
        case Unbounded(shape, bounds, _):
            mirrored: dict[str, Literal["left", "right"]] = {"left": "right", "right": "left"}
            return replace(
                region,
                shape=mirrored.get(shape, shape) if scale < 0 else shape,
                bounds=tuple(sorted(scale * bound + shift for bound in bounds)),
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """An effect of a treatment against its baseline, in the metric's unit.

    Parameters
    ----------
    method
        Name of the estimator, such as ``welch`` or ``anytime``.
    valid_for_look
        Whether the interval may be read at this look under the registered inference mode.
    value
        Difference of means, treatment minus baseline.
    interval
        Confidence set of ``value``.
    std_error
        Standard error of ``value``.
    p_value
        Two-sided, for a difference of zero.
    relative, relative_interval
        Ratio of means minus one (0.03 is 3 %) and its confidence set.
    n, baseline_n
        Mature units.
    """

    method: str
    valid_for_look: bool
    value: float
    interval: ConfidenceSet
    std_error: float
    p_value: float | NotEstimable
    relative: float | NotEstimable
    relative_interval: ConfidenceSet
    n: int
    baseline_n: int
