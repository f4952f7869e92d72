"""Re-randomisation: real units split again and again, where no method may find an effect.

Whatever the treatment did to the units is in the rows, and a new split puts it into all variants
alike: every difference is chance. How often a method calls it an effect is its false-positive
rate on these very data, with their tails, zeros and covariates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from ibis.backends import BaseBackend
from scipy import special

from klartext.analysis import unit_table
from klartext.analysis.columns import value_columns
from klartext.analysis.comparison import evenly
from klartext.analysis.estimate import Estimate, NotEstimable
from klartext.analysis.instants import microseconds
from klartext.analysis.look import Look, bounds, planned_look
from klartext.analysis.metric_estimates import metric_estimates
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.ratio_metrics import Quantity, quantity
from klartext.analysis.sequential import group
from klartext.experiments.experiment import MILLION, Experiment, Metric
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables

FAMILY = 0.05
"""Probability that a sound set of methods is flagged anywhere: shared by all judged rates."""

_BATCH = 200
"""Splits whose sums are held at once."""

_CHUNK = 8_192
"""Units that are multiplied at once."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitRows:
    """Unit rows in the order of their exposure.

    Parameters
    ----------
    columns
        Names, k of them.
    values
        ``(n, k)``.
    instants
        ``(n,)`` exposures in microseconds since 1970, not decreasing.
    """

    columns: tuple[str, ...]
    values: FloatArray
    instants: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a method called chance an effect.

    Parameters
    ----------
    metric, variant, method
        What was read.
    alpha
        How often it may.
    splits
        Splits in which the method gave an interval at the last look; ``any_splits`` at any.
    alarms
        Of those, how many excluded 0.
    any_splits, any_alarms
        The same at any of the looks.
    judged
        Which of both the method promises: ``end`` or ``any``.
    band
        Exact binomial (Clopper-Pearson) interval of the promised rate, at a level shared by all
        judged rates; None without a split.
    verdict
        ``above`` when the whole band lies above alpha, ``below`` when under it, else ``inside``;
        ``unread`` when no split could be read.
    reason
        Why the method could not be read in some split, when it could not.
    """

    metric: str
    variant: str
    method: str
    alpha: float
    splits: int
    alarms: int
    any_splits: int
    any_alarms: int
    judged: Literal["end", "any"]
    band: tuple[float, float] | None
    verdict: Literal["inside", "above", "below", "unread"]
    reason: str | None


@dataclass(frozen=True, slots=True)
class AaResult:
    """Rates of every method.

    Parameters
    ----------
    units, repeats, seed, looks
        What was split, how often, from which seed, and at how many looks each split was read.
    level
        Of each band.
    rates
        In the order of the analysis.
    """

    units: int
    repeats: int
    seed: int
    looks: int
    level: float
    rates: tuple[Rate, ...]

    @property
    def too_high(self) -> tuple[Rate, ...]:
        """Methods that call chance an effect more often than they promise."""
        return tuple(rate for rate in self.rates if rate.verdict == "above")


def unit_rows(
    experiment: Experiment, tables: FactTables, watermark: Watermark, *, engine: BaseBackend
) -> UnitRows:
    """Fetch the mature units of one variant each, once, by exposure and then pseudonym."""
    units = unit_table.build(experiment, tables, watermark)
    kept = units.filter(units.mature, ~units.excluded)
    columns = value_columns(experiment)
    chosen = kept.select(
        "unit",
        instant=microseconds(kept.exposed_at),
        **{f"c{place}": kept[column] for place, column in enumerate(columns)},
    ).order_by(["instant", "unit"])
    table = engine.to_pyarrow(chosen)
    values = [table[f"c{place}"].to_numpy() for place in range(len(columns))]
    rows = np.column_stack(values).astype(np.float64) if values else np.empty((len(table), 0))
    return UnitRows(columns, rows, table["instant"].to_numpy().astype(np.int64))


def rerandomise(  # noqa: PLR0913 - rows, and how often they are split and read
    experiment: Experiment,
    rows: UnitRows,
    *,
    repeats: int,
    looks: int,
    seed: int,
    progress: Callable[[int], None],
) -> AaResult:
    """Split the rows ``repeats`` times by the planned weights and read every split.

    Parameters
    ----------
    experiment
        Resolved spec: weights, metrics, mode and alpha.
    rows
        From `unit_rows`.
    repeats
        Number of splits.
    looks
        Looks at even shares of the units, in the order of exposure, in anytime mode. A group
        sequential test is read at its planned looks, a fixed one at the end, and so is every one
        when all units were exposed at one instant.
    seed
        Of the splits; the same seed gives the same splits.
    progress
        Told how many more splits have been read.

    Notes
    -----
    Rows stay where they are: a split is a matrix of zeros and ones, its product with the unit
    columns, their squares, products and cubes gives the sums, and the sums the moments, for many
    splits at once. Columns are centred first. Every split is a draw from the same law, so that
    alarms are binomial given the rows, and the band is exact.
    """
    total = len(rows.values)
    experiment = _as_planned(experiment, total)
    at = evenly(looks)
    if experiment.inference.mode == "group_sequential":
        at = tuple(map(float, experiment.plan.looks))
    if experiment.inference.mode == "fixed" or rows.instants[0] == rows.instants[-1]:
        at = (1.0,)
    looks, ends = len(at), [round(total * fraction) for fraction in at]
    tally = _Tally(experiment)
    rng = np.random.default_rng(seed)
    done = 0
    while done < repeats:
        batch = min(_BATCH, repeats - done)
        sums = _split_sums(experiment, rows, ends, rng, batch=batch)
        for split in range(batch):
            tally.read([_moments(experiment, rows, sums[:, :, split], k) for k in range(looks)])
            progress(1)
        done += batch
    rates, level = tally.rates()
    return AaResult(total, repeats, seed, looks, level, rates)


def _as_planned(experiment: Experiment, total: int) -> Experiment:
    """Plan what there is: the last look is the deciding one, and looks are read as if live."""
    plan = experiment.plan
    anytime = experiment.inference.mode == "anytime"
    planned = plan.total_units or total if anytime else total
    return replace(experiment, plan=replace(plan, total_units=planned), registration="prospective")


def _split_sums(
    experiment: Experiment,
    rows: UnitRows,
    ends: list[int],
    rng: np.random.Generator,
    *,
    batch: int,
) -> FloatArray:
    """Return sums up to each look: ``(looks, variants, batch, 1 + 3 k + k (k + 1) / 2)``."""
    weights = np.cumsum([variant.weight for variant in experiment.variants]) / MILLION
    centre = rows.values.mean(axis=0)
    k = len(rows.columns)
    width = 1 + 3 * k + k * (k + 1) // 2
    sums = np.zeros((len(ends), len(weights), batch, width))
    pairs = np.tril_indices(k)
    start = 0
    for look, end in enumerate(ends):
        if look:
            sums[look] = sums[look - 1]
        for low in range(start, end, _CHUNK):
            values = rows.values[low : min(low + _CHUNK, end)]
            centred = values - centre
            parts = np.column_stack(
                [
                    np.ones(len(values)),
                    centred,
                    centred**3,
                    values != 0,
                    centred[:, pairs[0]] * centred[:, pairs[1]],
                ]
            )
            places = np.searchsorted(weights, rng.random((batch, len(values))), side="right")
            for variant in range(len(weights)):
                sums[look, variant] += (places == variant).astype(np.float64) @ parts
        start = end
    return sums


def _moments(
    experiment: Experiment, rows: UnitRows, sums: FloatArray, look: int
) -> dict[str, Moments]:
    """Moments per variant of one split, from its sums ``(looks, variants, width)``."""
    centre = rows.values.mean(axis=0)
    return {
        variant.key: _of_sums(rows.columns, centre, sums[look, place])
        for place, variant in enumerate(experiment.variants)
    }


def _of_sums(columns: tuple[str, ...], centre: FloatArray, sums: FloatArray) -> Moments:
    """Shift sums around the common centre to the mean of the group."""
    k = len(columns)
    n = round(float(sums[0]))
    first, cubes, nonzero, packed = np.split(sums[1:], [k, 2 * k, 3 * k])
    shift = first / n if n else np.zeros(k)
    m2 = np.zeros((k, k))
    m2[np.tril_indices(k)] = packed
    m2 = m2 + np.tril(m2, -1).T
    squares = m2.diagonal().copy()
    m2 = m2 - n * np.outer(shift, shift)
    np.fill_diagonal(m2, np.maximum(m2.diagonal(), 0.0))
    return Moments(
        columns=columns,
        n=n,
        mean=centre + shift,
        m2=m2,
        m3=cubes - 3 * shift * squares + 2 * n * shift**3,
        nonzero=np.rint(nonzero).astype(np.int64),
    )


_Key: TypeAlias = tuple[str, str, str]
"""Metric, variant and method."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One method at one look: whether it excludes 0 and promises to at every look, or why not."""

    key: _Key
    alarm: bool
    at_every_look: bool
    reason: str | None


@dataclass(slots=True)
class _Count:
    """Splits and alarms of one method so far."""

    splits: int = 0
    alarms: int = 0
    any_splits: int = 0
    any_alarms: int = 0
    at_every_look: bool = False
    reason: str | None = None

    def add(self, looks: list[_Read]) -> None:
        """Count one split, read at all looks."""
        opened = [look for look in looks if look.reason is None]
        self.splits += looks[-1].reason is None
        self.alarms += looks[-1].alarm
        self.any_splits += bool(opened)
        self.any_alarms += any(look.alarm for look in opened)
        self.at_every_look |= any(look.at_every_look for look in opened)
        self.reason = next((look.reason for look in looks if look.reason), self.reason)


class _Tally:
    """Counts alarms, split by split."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._alpha = float(experiment.inference.alpha)
        self._questions: list[tuple[str, Quantity, Metric | None]] = [
            (metric.key, quantity(metric), metric)
            for metric in experiment.metrics
            if metric.kind != "quantile"
        ]
        if experiment.value:
            self._questions.insert(0, ("net", "net", None))
        self._counts: dict[_Key, _Count] = {}

    def read(self, looks: list[dict[str, Moments]]) -> None:
        """Read one split at all its looks."""
        seen: dict[_Key, list[_Read]] = {}
        taken: tuple[group.Look, ...] = ()
        for moments in looks:
            for one in self._look(moments, taken):
                seen.setdefault(one.key, []).append(one)
            place = self._read_at(self._experiment.treatments[0], moments, taken).place
            if place is not None and isinstance(place.due, group.Look):
                taken = (*taken, place.due)
        for key, found in seen.items():
            self._counts.setdefault(key, _Count()).add(found)

    def _read_at(
        self, treatment: str, moments: dict[str, Moments], taken: tuple[group.Look, ...]
    ) -> Look:
        mature = sum(one.n for one in moments.values())
        return planned_look(self._experiment, treatment, mature=mature, taken=taken)

    def _look(self, moments: dict[str, Moments], taken: tuple[group.Look, ...]) -> Iterator[_Read]:
        experiment = self._experiment
        for treatment in experiment.treatments:
            look = self._read_at(treatment, moments, taken)
            for name, what, metric in self._questions:
                found = metric_estimates(
                    experiment,
                    metric,
                    what,
                    moments[treatment],
                    moments[experiment.control],
                    look=look,
                    alpha=self._alpha,
                )
                for method, estimate in found.estimates:
                    yield _read((name, treatment, method), estimate, peeked=look.mode != "fixed")

    def rates(self) -> tuple[tuple[Rate, ...], float]:
        """Judge every method; return the level of each band too."""
        level = 1 - FAMILY / max(1, len(self._counts))
        return tuple(self._rate(*pair, level=level) for pair in self._counts.items()), level

    def _rate(self, key: _Key, count: _Count, *, level: float) -> Rate:
        metric, variant, method = key
        alarms, splits = (
            (count.any_alarms, count.any_splits)
            if count.at_every_look
            else (count.alarms, count.splits)
        )
        band = clopper_pearson(alarms, splits, level=level) if splits else None
        return Rate(
            metric=metric,
            variant=variant,
            method=method,
            alpha=self._alpha,
            splits=count.splits,
            alarms=count.alarms,
            any_splits=count.any_splits,
            any_alarms=count.any_alarms,
            judged="any" if count.at_every_look else "end",
            band=band,
            verdict=_verdict(band, self._alpha),
            reason=count.reason,
        )


def _read(key: _Key, estimate: Estimate | NotEstimable, *, peeked: bool) -> _Read:
    if isinstance(estimate, NotEstimable):
        return _Read(key, alarm=False, at_every_look=False, reason=estimate.reason)
    ends = bounds(estimate.interval)
    if isinstance(ends, NotEstimable):
        return _Read(key, alarm=False, at_every_look=False, reason=ends.reason)
    return _Read(
        key,
        alarm=not ends[0] <= 0 <= ends[1],
        at_every_look=peeked and estimate.valid_for_look,
        reason=None,
    )


def _verdict(
    band: tuple[float, float] | None, alpha: float
) -> Literal["inside", "above", "below", "unread"]:
    if band is None:
        return "unread"
    if band[0] > alpha:
        return "above"
    return "below" if band[1] < alpha else "inside"


def clopper_pearson(hits: int, trials: int, *, level: float) -> tuple[float, float]:
    """Exact interval of a binomial probability.

    Notes
    -----
    The lower end is the p with ``P(X >= hits) = (1 - level) / 2``, the upper one that with
    ``P(X <= hits) = (1 - level) / 2``; both are quantiles of beta distributions.

    References
    ----------
    Clopper, Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of
    the binomial", Biometrika 26, 404-413.

    Examples
    --------
    >>> [round(end, 4) for end in clopper_pearson(5, 100, level=0.95)]
    [0.0164, 0.1128]
    """
    if not 0 <= hits <= trials or trials < 1:
        raise ValueError(f"{hits} of {trials} is no count")
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(special.betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(special.betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high
