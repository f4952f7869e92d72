"""What an estimator returns: an estimate with its interval, or a typed reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


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
