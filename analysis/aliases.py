"""Aliases: units that turned out to be one, merged before anything else is looked at.

Each id has at most one canonical id: the claim that happened first, of two at one instant the
smaller canonical id. Chains are followed to their end, at most `HOPS` steps. What is claimed in a
circle, or leads into one, stays what it is: a circle names no end. None of this depends on the
order in which aliases were delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from klartext.analysis.engine import rows_of
from klartext.experiments.watermark import Watermark

if TYPE_CHECKING:
    from klartext.experiments.facts import FactTables

_DOUBLINGS = 4

HOPS = 2**_DOUBLINGS
"""Longest chain of aliases that is followed."""


@dataclass(frozen=True, slots=True)
class AliasCounts:
    """Aliases that concern exposed units.

    Parameters
    ----------
    merged
        Ids that became one with an exposed unit.
    contested
        Ids claimed by several units, at least one of which was exposed; the first claim counts.
    unresolved
        Ids claimed in a circle or by too long a chain, which stayed what they are.
    """

    merged: int
    contested: int
    unresolved: int


def links(aliases: ir.Table, watermark: Watermark) -> ir.Table:
    """Return ``unit`` and ``canonical``, one row per id that stands for another one.

    No ``canonical`` is a ``unit``.
    """
    claims = _claims(aliases, watermark)
    earliest = claims.group_by("unit").aggregate(at=claims.occurred_at.min())
    first = claims.inner_join(earliest, ["unit", ("occurred_at", "at")])
    first = first.group_by("unit").aggregate(canonical=first.canonical.min())
    found = first
    for _ in range(_DOUBLINGS):  # each doubles the number of steps
        beyond = found.select(via=found.unit, end=found.canonical)
        joined = found.left_join(beyond, [("canonical", "via")])
        joined = joined.select("unit", "canonical", "end")  # ends the chain of joins
        found = joined.select("unit", canonical=ibis.coalesce(joined.end, joined.canonical))
    going_on = first.select(via=first.unit)
    ends = found.left_join(going_on, [("canonical", "via")])
    return ends.filter(ends.via.isnull()).select("unit", "canonical")


def merged(
    tables: FactTables, watermark: Watermark, keep: Callable[[ir.Table], ir.Table] = lambda t: t
) -> FactTables:
    """Return the facts with canonical units, and no aliases left; as they are without aliases.

    Parameters
    ----------
    tables
        Facts as Ibis tables of one engine.
    watermark
        Aliases of later batches are not seen.
    keep
        Computes a table once that is used several times.
    """
    if tables.aliases is None:
        return tables
    found = keep(links(tables.aliases, watermark))
    return replace(
        tables,
        exposures=_canonical(tables.exposures, found),
        events=_canonical(tables.events, found),
        usage_costs=_canonical(tables.usage_costs, found),
        aliases=None,
    )


def count(
    aliases: ir.Table | None, units: ir.Table, watermark: Watermark, engine: BaseBackend
) -> AliasCounts | None:
    """Return how many aliases concern the exposed ``units``; None when there never was one.

    Parameters
    ----------
    aliases
        As delivered.
    units
        Exposed units, after merging.
    watermark
        Aliases of later batches are not seen.
    engine
        The engine of both.
    """
    if aliases is None:
        return None
    claims, found = _claims(aliases, watermark), links(aliases, watermark)
    known = found.select(via=found.unit, end=found.canonical)
    ends = claims.left_join(known, [("canonical", "via")])
    ends = ends.select("unit", "canonical", "end")
    ends = ends.select("unit", "canonical", end=ibis.coalesce(ends["end"], ends.canonical))
    exposed = units.select(exposed=units.unit)
    ends = ends.left_join(exposed, [("end", "exposed")]).select("unit", "canonical", "exposed")
    ids = ends.group_by("unit").aggregate(
        claimants=ends.canonical.nunique(), concerned=ends.exposed.notnull().sum()
    )
    ids = ids.filter(ids.concerned > 0)
    unresolved = ids.left_join(known, [("unit", "via")]).select("unit", "via")
    unresolved = unresolved.filter(unresolved.via.isnull())
    joined = found.inner_join(exposed, [("canonical", "exposed")]).select("exposed")

    def number(table: ir.Table, of: ir.IntegerScalar) -> int:
        (row,) = rows_of(engine, table.aggregate(number=of))
        return int(row["number"])

    return AliasCounts(
        merged=number(joined, joined.count()),
        contested=number(ids, ids.count(where=ids.claimants > 1)),
        unresolved=number(unresolved, unresolved.count()),
    )


def _claims(aliases: ir.Table, watermark: Watermark) -> ir.Table:
    known = aliases.filter(
        aliases.ingest_batch <= watermark.batch, aliases.unit != aliases.canonical
    )
    return known.select("unit", "canonical", "occurred_at")


def _canonical(facts: ir.Table, found: ir.Table) -> ir.Table:
    to = found.select(via=found.unit, end=found.canonical)
    joined = facts.left_join(to, [("unit", "via")])
    return joined.mutate(unit=ibis.coalesce(joined.end, joined.unit)).select(*facts.columns)
