"""Reduced facts: all that an analysis reads of units and calls, as sums that add and subtract.

Of two sets of units that share none, each with its calls, the sums of both are those of the first
plus those of the second. So what changed of a few units is taken off and put back in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.moments import Moments, two_sum
from klartext.analysis.quantiles import Observations
from klartext.analysis.sequential.mixture import MINIMUM_NONZERO

Key: TypeAlias = tuple[Any, ...]
Number: TypeAlias = int | Decimal
Sums: TypeAlias = Mapping[Key, tuple[Number, ...]]

EXACT = Context(prec=100)
"""Sums of money that round nothing."""

OLD, NEW = STATES = 0, 1
"""Units as they were, and as they are."""

SHARPEST = 1e3
"""How many times a second moment may shrink in all before its digits are worn off.

It is that of a variant: on one day a few units may happen to have one value.
"""

A_DAY = 1e4
"""The same of what a day's units are taken off, against all units up to that day."""

DUST = 1e-9
"""What may be missing of a second moment, as a share of what there was."""

ROUNDING = 1e-12
"""A standard deviation that is none, as a share of the mean."""

_POOLED = 2
"""How many parts of the keys of moments are not added up over: name and variant."""

_ARRAYS = ("values", "counts", "earlier", "sizes")


class WornOffError(Exception):
    """What is left of a sum is too small against what was taken off: sum it up anew."""


class NotPartError(Exception):
    """What is to be taken off a sum was never put in."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """Sums over some units and calls.

    Parameters
    ----------
    exact
        By name, integers and decimals per key. The first number of each is how many there are;
        where that is 0 there is no row.
    moments
        Per name and key.
    peaks
        Per name and variant of moments ``(k,)``: the largest sum of squares so far.
    latencies
        Per variant; not estimable where they were too many.
    highest
        The dearest call; calls do not vanish.
    """

    exact: Mapping[str, Sums] = field(default_factory=dict)
    moments: Mapping[Key, Moments] = field(default_factory=dict)
    peaks: Mapping[Key, Any] = field(default_factory=dict)
    latencies: Mapping[str, Observations] | NotEstimable = field(default_factory=dict)
    highest: Decimal | None = None

    def __or__(self, other: Reduced) -> Reduced:
        """Return the sums of both, which are of different names."""
        return Reduced(
            {**self.exact, **other.exact},
            {**self.moments, **other.moments},
            {**self.peaks, **other.peaks},
            self.latencies or other.latencies,
            self.highest if other.highest is None else other.highest,
        )

    def of_state(self, state: int) -> Reduced:
        """Return the sums of one state, of those whose keys begin with it."""
        marked = mark(state)
        return Reduced(
            {
                name: {key[1:]: found for key, found in sums.items() if key[0] == state}
                for name, sums in self.exact.items()
            },
            {key[1:]: one for key, one in self.moments.items() if key[0] == state},
            latencies={
                key.removeprefix(marked): one
                for key, one in self.latencies.items()
                if key.startswith(marked)
            }
            if isinstance(self.latencies, Mapping)
            else self.latencies,
            highest=self.highest,
        )

    def by_variant(self, name: str) -> dict[str, Moments]:
        """Return the moments of a name per variant, over all further parts of their keys."""
        mine = {key: one for key, one in self.moments.items() if key[0] == name}
        return {variant: one for (_, variant), one in _pooled(mine).items()}

    def document(self) -> dict[str, Any]:
        """Return it as JSON, which `of_document` reads."""
        return {
            "exact": {
                name: [
                    [key, [str(n) if isinstance(n, Decimal) else n for n in found]]
                    for key, found in sums.items()
                ]
                for name, sums in self.exact.items()
            },
            "moments": [
                [key, one.columns, one.n, one.mean.tolist(), one.m2.tolist(), one.m3.tolist(),
                 one.nonzero.tolist(), np.broadcast_to(one.rest, one.mean.shape).tolist()]
                for key, one in self.moments.items()
            ],
            "peaks": [[key, peak.tolist()] for key, peak in self.peaks.items()],
            "latencies": {
                key: [one.n, *(getattr(one, name).tolist() for name in _ARRAYS)]
                for key, one in self.latencies.items()
            }
            if isinstance(self.latencies, Mapping)
            else [self.latencies.reason, self.latencies.detail],
            "highest": None if self.highest is None else str(self.highest),
        }  # fmt: skip

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Reduced:
        """Return what `document` was made of."""
        durations = document["latencies"]
        highest = document["highest"]
        return cls(
            exact={
                name: {
                    tuple(key): tuple(Decimal(n) if isinstance(n, str) else n for n in found)
                    for key, found in sums
                }
                for name, sums in document["exact"].items()
            },
            moments={
                tuple(key): Moments(
                    tuple(columns), n, np.array(mean), np.array(m2), np.array(m3),
                    np.array(nonzero, dtype=np.int64), rest=np.array(rest),
                )
                for key, columns, n, mean, m2, m3, nonzero, rest in document["moments"]
            },
            peaks={tuple(key): np.array(peak) for key, peak in document["peaks"]},
            latencies={key: _observations(*found) for key, found in durations.items()}
            if isinstance(durations, dict)
            else NotEstimable(*durations),
            highest=None if highest is None else Decimal(highest),
        )  # fmt: skip

    def replaced(self, old: Reduced, new: Reduced) -> Reduced:
        """Return the sums with ``new`` in the place of ``old``, which is part of them.

        Raises
        ------
        WornOffError
            Too little is left to be precise.
        NotPartError
            ``old`` has a key that there is not.
        """
        if not old.moments.keys() <= self.moments.keys():
            raise NotPartError
        moments, peaks = dict(self.moments), dict(self.peaks)
        for key, taken in old.moments.items():
            moments[key] = without(moments[key], taken)
        for key, given in new.moments.items():
            moments[key] = moments[key] + given if key in moments else given
        had = _pooled(self.moments)
        for pool in {key[:_POOLED] for key in (*old.moments, *new.moments)}:
            keys = sorted(key for key in moments if key[:_POOLED] == pool)
            so_far = list(accumulate(moments[key] for key in keys))  # in the order of days
            for key, has in zip(keys, so_far, strict=True):
                if key in old.moments:
                    shown = has.nonzero >= MINIMUM_NONZERO  # before there is no interval
                    _require_digits(has, np.diag(self.moments[key].m2), A_DAY, shown)
            has = so_far[-1]
            squares = np.diag(has.m2)
            before = np.maximum(
                peaks.get(pool, 0.0), np.diag(had[pool].m2) if pool in had else squares
            )
            # Of no value, or of one, no variance is left to be worn off.
            _require_digits(has, before, SHARPEST, (has.nonzero > 0) & (has.n > 1))
            peaks[pool] = np.where(has.nonzero > 0, np.maximum(before, squares), 0.0)
        names = {**self.exact, **new.exact}
        highest = [one for one in (self.highest, new.highest) if one is not None]
        return Reduced(
            {
                name: _replaced(
                    self.exact.get(name, {}), old.exact.get(name, {}), new.exact.get(name, {})
                )
                for name in names
            },
            {key: found for key, found in moments.items() if found.n},
            peaks,
            _latencies(self.latencies, old.latencies, new.latencies),
            max(highest, default=None),
        )


def mark(state: int) -> str:
    """Return what a variant in the latencies of a state begins with."""
    return f"{state} "


def _observations(n: int, values: list[float], *sums: list[int]) -> Observations:
    counts, earlier, sizes = (np.array(each, dtype=np.int64) for each in sums)
    return Observations(np.array(values, dtype=np.float64), counts, earlier, sizes, n)


def _replaced(total: Sums, old: Sums, new: Sums) -> Sums:
    if not old.keys() <= total.keys():
        raise NotPartError
    found = dict(total)
    for key, numbers in old.items():
        if numbers[0] > total[key][0]:
            raise NotPartError
        found[key] = _sum(found[key], tuple(-number for number in numbers))
    for key, numbers in new.items():
        found[key] = _sum(found[key], numbers) if key in found else numbers
    return {key: numbers for key, numbers in found.items() if numbers[0]}


def _sum(one: tuple[Number, ...], other: tuple[Number, ...]) -> tuple[Number, ...]:
    return tuple(
        EXACT.add(a, b) if isinstance(a, Decimal) or isinstance(b, Decimal) else a + b
        for a, b in zip(one, other, strict=True)
    )


def without(total: Moments, part: Moments) -> Moments:
    """Return the moments of the units of ``total`` that are not in ``part``.

    Notes
    -----
    `Moments.__add__` solved for its first summand. Digits are lost as second moments shrink:
    callers compare them.

    Raises
    ------
    WornOffError
        A second moment would be negative, or was not finite.
    NotPartError
        ``part`` has more units.
    """
    n = total.n - part.n
    if n < 0:
        raise NotPartError
    if part.n == 0:
        return total
    if not np.isfinite(np.diag(total.m2)).all():
        raise WornOffError  # what is infinite stays so, whatever is taken off
    if n == 0:
        empty = np.zeros(len(total.columns))
        return Moments.of(total.columns, np.empty((0, len(empty))))
    away = (part.mean - total.mean) + (part.rest - total.rest)
    delta = away * (total.n / n)  # from the rest to the part
    weight = n * part.n / total.n
    m2 = total.m2 - part.m2 - np.outer(delta, delta) * weight
    squares, nonzero = np.diag(m2), total.nonzero - part.nonzero
    dust = DUST * np.diag(total.m2) + total.n * (ROUNDING * total.mean) ** 2
    if np.any(squares < -dust):
        raise WornOffError
    varies = (squares > 0) & (nonzero > 0) & (n > 1)
    m2 = np.where(np.outer(varies, varies), m2, 0.0)
    m3 = (
        total.m3
        - part.m3
        - delta**3 * weight * (n - part.n) / total.n
        - 3 * delta * (n * np.diag(part.m2) - part.n * np.diag(m2)) / total.n
    )
    mean, rest = two_sum(total.mean, total.rest - away * (part.n / n))
    mean, rest = (np.where(nonzero > 0, each, 0.0) for each in (mean, rest))
    return Moments(total.columns, n, mean, m2, np.where(varies, m3, 0.0), nonzero, rest=rest)


def _require_digits(has: Moments, before: Any, most: float, where: Any) -> None:
    if np.any(where & (np.diag(has.m2) * most < before)):
        raise WornOffError


def _pooled(moments: Mapping[Key, Moments]) -> dict[Key, Moments]:
    found: dict[Key, Moments] = {}
    for key, one in moments.items():
        pool = key[:_POOLED]
        found[pool] = found[pool] + one if pool in found else one
    return found


def _latencies(
    total: Mapping[str, Observations] | NotEstimable,
    old: Mapping[str, Observations] | NotEstimable,
    new: Mapping[str, Observations] | NotEstimable,
) -> Mapping[str, Observations] | NotEstimable:
    if isinstance(total, NotEstimable):
        return total
    found = dict(total)
    for sign, part in ((-1, old), (1, new)):
        if isinstance(part, NotEstimable):
            return part
        for variant, more in part.items():
            found[variant] = _merged(found[variant], more, sign) if variant in found else more
    return found


def _merged(one: Observations, other: Observations, sign: int) -> Observations:
    values, place = np.unique(np.concatenate([one.values, other.values]), return_inverse=True)

    def summed(name: str) -> Any:
        total = np.zeros(len(values), dtype=np.int64)
        np.add.at(total, place, np.concatenate([getattr(one, name), sign * getattr(other, name)]))
        return total

    counts = summed("counts")
    left = counts != 0
    return Observations(
        values[left],
        counts[left],
        summed("earlier")[left],
        summed("sizes")[left],
        one.n + sign * other.n,
    )
