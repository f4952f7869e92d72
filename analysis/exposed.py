"""The exposed units: variant of the first exposure, maturity, and what was known before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir

from klartext.analysis import covariates
from klartext.analysis.columns import REGIME
from klartext.analysis.hits import is_foreign
from klartext.analysis.instants import microseconds, since_epoch, whole
from klartext.analysis.windows import windows
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import MOST_VARIANTS, Experiment
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.splits import Split

# A variant's place in the spec (below `MOST_VARIANTS`) under the instant: one MIN finds both.
_SLOT_BITS = 6


def exposed_units(
    experiment: Experiment,
    exposures: ir.Table,
    watermark: Watermark,
    splits: Sequence[Split] = (),
) -> ir.Table:
    """Return unit, variant, exposed_at, exposed_us (since 1970), excluded and mature.

    With several ``splits`` also ``regime``: the place of that by which the unit's first exposure
    was assigned. It says so itself by its ``policy_version``; without one, the split in force at
    its time is taken. Of two at one instant the earlier split counts.

    Raises
    ------
    KlartextError
        There are more variants than `MOST_VARIANTS`.
    """
    seen = sightings(experiment, exposures, watermark)
    units = first_seen(seen, exposed_at=seen.occurred_at.min())
    units = assigned(experiment, units, watermark)
    return units if len(splits) < 2 else _with_regime(units, seen, splits)


def sightings(experiment: Experiment, exposures: ir.Table, watermark: Watermark) -> ir.Table:
    """Return the exposures in known variants, with the integers that `first_seen` reduces.

    Raises
    ------
    KlartextError
        There are more variants than `MOST_VARIANTS`.
    """
    keys = [variant.key for variant in experiment.variants]
    if len(keys) > MOST_VARIANTS:
        raise KlartextError(
            f"{experiment.key} has {len(keys)} variants; at most {MOST_VARIANTS} can be analysed"
        )
    seen = exposures.filter(
        exposures.ingest_batch <= watermark.batch,
        exposures.experiment == experiment.key,
        exposures.variant.isin(keys),
    )

    place = ibis.cases(*((seen.variant == key, i) for i, key in enumerate(keys))).cast("int64")
    instant = microseconds(seen.occurred_at)
    version = {"policy_version"} & set(seen.columns)
    return seen.select(
        "unit",
        "occurred_at",
        *version,
        instant=instant,
        low=place,
        high=place,
        packed=instant * (1 << _SLOT_BITS) + place,
    )


def first_seen(seen: ir.Table, **beside: ir.Value) -> ir.Table:
    """Return one row per unit: ``packed``, its first instant and variant.

    Beside it stand ``low`` and ``high``, the first and last variant in the order of the spec that
    it has seen. Least and largest: those of several sets of exposures reduce to those of all of
    them, in any order and however often.
    """
    return seen.group_by("unit").aggregate(
        packed=seen.packed.min(), low=seen.low.min(), high=seen.high.max(), **beside
    )


def instant_of(packed: ir.IntegerValue) -> ir.IntegerValue:
    """Return the instant of a ``packed`` exposure, in microseconds since 1970."""
    return packed >> _SLOT_BITS


def assigned(experiment: Experiment, first: ir.Table, watermark: Watermark) -> ir.Table:
    """Return the units of `first_seen` as `exposed_units` describes them."""
    keys = [variant.key for variant in experiment.variants]
    place = first.packed & ((1 << _SLOT_BITS) - 1)
    units = first.select(
        "unit",
        *({"exposed_at"} & set(first.columns)),
        variant=ibis.cases(*((place == i, key) for i, key in enumerate(keys))),
        exposed_us=instant_of(first.packed),
        excluded=first.low != first.high,
    )
    return units.mutate(mature=is_mature(experiment, units.exposed_us, watermark))


def maturing(
    experiment: Experiment, first: ir.Table, since: Watermark, until: Watermark
) -> ir.Table:
    """Return the rows of `first_seen` that mature after ``since`` and by ``until``."""
    before, now = (latest_mature(experiment, each) + 1 for each in (since, until))
    # Of the packed instants themselves, so that the engine can leave out parts of a file.
    return first.filter(first.packed >= before << _SLOT_BITS, first.packed < now << _SLOT_BITS)


def latest_mature(experiment: Experiment, watermark: Watermark) -> int:
    """Return the last instant of exposure, in microseconds since 1970, of a mature unit."""
    wait = whole(windows(experiment).maturity + experiment.lateness)
    return since_epoch(watermark.cutoff) - wait


def strangers(experiment: Experiment, exposures: ir.Table, watermark: Watermark) -> ir.Table:
    """Return each ``unit`` with an exposure in a variant that the spec does not have, once."""
    found = exposures.filter(
        exposures.ingest_batch <= watermark.batch,
        exposures.experiment == experiment.key,
        ~exposures.variant.isin([variant.key for variant in experiment.variants]),
    )
    return found.select("unit").distinct()


def span_of(units: ir.Table) -> ir.Table:
    """Return one row: ``first_us`` and ``last_us``, the first and last exposure; null without."""
    return units.aggregate(first_us=units.exposed_us.min(), last_us=units.exposed_us.max())


def reached_units(
    experiment: Experiment, units: ir.Table, events: ir.Table, watermark: Watermark
) -> ir.Table:
    """Return the units that reached the exposure event, counted from it; all units without one.

    Parameters
    ----------
    experiment
        Resolved spec.
    units
        From `exposed_units`.
    events
        All events.
    watermark
        Events of later batches are not seen.

    Notes
    -----
    It is the first such event at or after the first exposure: one before it belongs to another
    time. Variant and exclusion stay those of the exposures, before and after the event, so that
    the rule is the same in all variants.
    """
    if experiment.exposure_event is None:
        return units
    found = events.filter(
        events.ingest_batch <= watermark.batch, events.name == experiment.exposure_event
    )
    found = found.select("unit", "occurred_at", instant=microseconds(found.occurred_at))
    since = units.select(owner=units.unit, since=units.exposed_us)
    found = found.inner_join(since, [found.unit == since.owner, found.instant >= since.since])
    first = found.group_by("unit").aggregate(
        exposed_at=found.occurred_at.min(), exposed_us=found.instant.min()
    )
    kept = {REGIME} & set(units.columns)
    reached = units.select("unit", "variant", "excluded", *kept).inner_join(first, "unit")
    return reached.select(
        *kept,
        "unit",
        "exposed_at",
        "variant",
        "exposed_us",
        "excluded",
        mature=is_mature(experiment, reached.exposed_us, watermark),
    )


def is_mature(
    experiment: Experiment, exposed_us: ir.IntegerValue, watermark: Watermark
) -> ir.BooleanValue:
    """Whether all windows of a unit have closed before the watermark."""
    return exposed_us <= latest_mature(experiment, watermark)


def _with_regime(units: ir.Table, seen: ir.Table, splits: Sequence[Split]) -> ir.Table:
    def place(number: ir.IntegerValue, starts: Iterable[int]) -> ir.IntegerValue:
        found = [(number >= start, place) for place, start in enumerate(starts)]
        return ibis.cases(*found[:0:-1], else_=0)

    regime = place(seen.instant, (since_epoch(split.since) for split in splits))
    if "policy_version" in seen.columns:
        said = place(seen.policy_version, (split.version for split in splits))
        regime = seen.policy_version.notnull().ifelse(said, regime)
    found = seen.select("unit", "instant", regime=regime.cast("int64"))
    first = found.inner_join(
        units.select(owner=units.unit, first_us=units.exposed_us),
        [("unit", "owner"), ("instant", "first_us")],
    ).select("unit", "regime")
    regimes = first.group_by("unit").aggregate(regime=first.regime.min())
    return units.inner_join(regimes, "unit")


def known_before(
    experiment: Experiment, units: ir.Table, events: ir.Table, watermark: Watermark
) -> ir.Table | None:
    """Return ``unit`` and ``pre.<name>``: the latest value of each named covariate before exposure.

    Null without one; None when no covariate has a name. Of several at one instant the largest
    counts, so that no order of delivery matters.
    """
    names = covariates.named(experiment)
    if not names:
        return None
    known = events.filter(events.ingest_batch <= watermark.batch, events.name.isin(names))
    known = known.inner_join(units.select("unit", "exposed_us"), "unit")
    known = known.mutate(instant=microseconds(known.occurred_at))
    known = known.filter(
        known.instant < known.exposed_us,
        known.value.notnull(),
        ~is_foreign(experiment, known),
    )
    latest = known.group_by("unit", "name").aggregate(
        last=known.instant.max(), owner=known.unit.max(), called=known.name.max()
    )
    latest = latest.select("owner", "called", "last")
    known = known.inner_join(
        latest,
        [
            known.unit == latest.owner,
            known.name == latest.called,
            known.instant == latest["last"],
        ],
    )
    return known.group_by("unit").aggregate(
        **{f"pre.{name}": known.value.max(where=known.name == name) for name in names}
    )
