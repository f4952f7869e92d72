"""Segments: units by what was known of them at their first exposure, as moments per level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis.engine import rows_of
from klartext.analysis.instants import microseconds
from klartext.analysis.moments import Moments
from klartext.analysis.reduction import Group
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment
from klartext.experiments.watermark import Watermark

MAX_LEVELS = 10
"""Values of a property that are levels of their own; the others together are one more."""

_MISSING, _OTHER = -2, -1
_LEVEL = "segment.level"  # no metric can be called that


@dataclass(frozen=True, slots=True)
class Level:
    """A value of a property; ``missing`` has none, ``other`` pools the values beyond the limit."""

    kind: Literal["value", "missing", "other"]
    value: str = ""


@dataclass(frozen=True, slots=True)
class LevelMoments:
    """The units of one level.

    Parameters
    ----------
    level
        Which one.
    units
        Per variant: every analysed unit with this first variant, mature or not, excluded or not.
    moments
        Per variant: mature units seen in one variant only, as in the readout.
    """

    level: Level
    units: Mapping[str, int]
    moments: Mapping[str, Moments]


@dataclass(frozen=True, slots=True)
class Segment:
    """One property, cut into disjoint levels that hold all units: their moments add up."""

    property: str
    levels: tuple[LevelMoments, ...]


def first_values(
    experiment: Experiment, exposures: ir.Table, watermark: Watermark, units: ir.Table
) -> ir.Table:
    """Return ``unit`` and, numbered, the value of each segment's property at its first exposure.

    Parameters
    ----------
    experiment
        Resolved spec.
    exposures
        All exposures.
    watermark
        Later batches are not seen.
    units
        From `klartext.analysis.exposed.exposed_units`.

    Notes
    -----
    As text; null when the exposure says nothing, whatever later ones say: what is known later may
    be an effect of the treatment. When exposures of one instant and variant disagree nobody knows
    which is right, so that is null too; the order of delivery must not decide.

    Raises
    ------
    KlartextError
        A property is not declared in the workspace.
    """
    columns = {}
    for place, name in enumerate(experiment.segments):
        if f"p_{name}" not in exposures.columns:
            raise KlartextError(
                f"{experiment.key} is cut by the property {name!r}, which klartext.yaml does not "
                "declare"
            )
        columns[_column(place)] = _text(exposures[f"p_{name}"])
    seen = exposures.filter(
        exposures.ingest_batch <= watermark.batch, exposures.experiment == experiment.key
    )
    seen = seen.select("unit", "variant", instant=microseconds(seen.occurred_at), **columns)
    first = units.select(owner=units.unit, met=units.variant, since=units.exposed_us)
    at_first = seen.inner_join(
        first, [seen.unit == first.owner, seen.variant == first.met, seen.instant == first.since]
    )
    lowest = {f"low_{name}": at_first[name].min() for name in columns}
    highest = {f"high_{name}": at_first[name].max() for name in columns}
    found = at_first.group_by("unit").aggregate(**lowest, **highest)
    return found.select(
        "unit",
        **{
            name: (found[f"low_{name}"] == found[f"high_{name}"]).ifelse(
                found[f"low_{name}"], ibis.null("string")
            )
            for name in columns
        },
    )


def _column(place: int) -> str:
    return f"segment.{place}"


def _text(column: ir.Value) -> ir.StringValue:
    """Return a property as text, spelt alike on every engine."""
    if column.type().is_boolean():
        return column.cases((True, "true"), (False, "false"))
    return column if column.type().is_string() else column.cast("string")


def read_segments(  # noqa: PLR0913 - what to reduce, and how the readout does it
    experiment: Experiment,
    units: ir.Table,
    values: ir.Table,
    *,
    engine: BaseBackend,
    groups: Callable[[ir.Table, str], Sequence[Group]],
    moments: Callable[[Sequence[Group]], Moments],
) -> tuple[Segment, ...]:
    """Return the moments of every segment, in the order of the spec.

    Parameters
    ----------
    experiment
        Resolved spec.
    units
        The unit table, kept in the engine.
    values
        From `first_values`, kept in the engine.
    engine
        The engine of both.
    groups
        Reduces a unit table by variant, excluded, mature and one more column.
    moments
        Merges the moments of such groups.

    Notes
    -----
    Levels are the values of the audience, then those of most analysed units, all variants
    together, so that no outcome and no variant chooses them: at most `MAX_LEVELS`, and of
    values with equally many units at the limit none. The others are one level, ``other``; units
    without a value are one, ``missing``. A level of the audience without units stays there.
    """
    found = []
    for place, name in enumerate(experiment.segments):
        column = _column(place)
        table = units.inner_join(values.select("unit", column), "unit")
        kept = _kept(experiment.audience.get(name, ()), table, column, engine)
        value = table[column]
        coded = ibis.cases(
            (value.isnull(), _MISSING),
            *((value == text, code) for code, text in enumerate(kept)),
            else_=_OTHER,
        )
        rows = groups(table.mutate(**{_LEVEL: coded.cast("int64")}), _LEVEL)
        found.append(Segment(name, tuple(_levels(experiment, kept, rows, moments))))
    return tuple(found)


def _kept(
    declared: Iterable[str], table: ir.Table, column: str, engine: BaseBackend
) -> tuple[str, ...]:
    """Return the values that are levels of their own, at most `MAX_LEVELS`."""
    first = tuple(declared)
    first = first if len(first) <= MAX_LEVELS else ()
    known = table.filter(table[column].notnull())
    counts = known.group_by(column).aggregate(n=known.count())
    top = counts.order_by(ibis.desc("n")).limit(MAX_LEVELS + len(first) + 1)
    rows = [row for row in rows_of(engine, top) if row[column] not in first]
    rows.sort(key=lambda row: (-row["n"], row[column]))
    slots = MAX_LEVELS - len(first)
    least = rows[slots]["n"] if len(rows) > slots else 0
    return (*first, *(row[column] for row in rows if row["n"] > least))


def _levels(
    experiment: Experiment,
    kept: Sequence[str],
    rows: Sequence[Group],
    moments: Callable[[Sequence[Group]], Moments],
) -> Iterable[LevelMoments]:
    named = [(code, Level("value", text)) for code, text in enumerate(kept)]
    named += [(_OTHER, Level("other")), (_MISSING, Level("missing"))]
    for code, level in named:
        mine = [row for row in rows if row[_LEVEL] == code]
        if code < 0 and not mine:
            continue
        variants = {
            variant.key: [row for row in mine if row["variant"] == variant.key]
            for variant in experiment.variants
        }
        yield LevelMoments(
            level=level,
            units={key: sum(row["n"] for row in found) for key, found in variants.items()},
            moments={
                key: moments([row for row in found if row["mature"] and not row["excluded"]])
                for key, found in variants.items()
            },
        )
