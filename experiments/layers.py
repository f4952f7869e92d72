"""Layers: which slots of a layer an experiment holds, so that no unit is in two of its tests.

A layer has a million slots and every unit has one of them (`assignment.slot_of`). Started
experiments hold disjoint ranges; stopped ones hold none.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import sqlalchemy as sa

from klartext.experiments.errors import ConflictError
from klartext.experiments.experiment import MILLION
from klartext.experiments.tables import layer_slots

Range = tuple[int, int]
"""Slots ``[from, to)`` in millionths of the layer."""


def slots(connection: sa.Connection, key: str) -> tuple[Range, ...]:
    """Return the slot ranges of an experiment, ascending and merged; empty when it holds none.

    An experiment holds slots from its start until it is stopped or abandoned, also when paused.
    """
    query = (
        sa.select(layer_slots.c.slot_from, layer_slots.c.slot_to)
        .where(layer_slots.c.experiment == key)
        .order_by(layer_slots.c.slot_from)
    )
    merged: list[Range] = []
    for start, end in connection.execute(query):
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def reserve(connection: sa.Connection, layer: str, key: str, traffic: int) -> None:
    """Give the experiment free slots until it holds ``traffic`` millionths; it loses none.

    One free range that is wide enough is preferred to several, so that ranges stay few.

    Raises
    ------
    ConflictError
        The layer has not enough free slots; the message names who holds them.
    """
    held = sum(end - start for start, end in slots(connection, key))
    free = _free(connection, layer)
    wanted = traffic - held
    if wanted > sum(end - start for start, end in free):
        raise ConflictError(_full(connection, layer, key, wanted, free))
    for start, end in sorted(free, key=lambda gap: gap[1] - gap[0] < wanted):
        if wanted <= 0:
            return
        taken = min(wanted, end - start)
        connection.execute(
            sa.insert(layer_slots).values(
                layer=layer, slot_from=start, slot_to=start + taken, experiment=key
            )
        )
        wanted -= taken


def release(connection: sa.Connection, key: str) -> None:
    """Free all slots of the experiment."""
    connection.execute(sa.delete(layer_slots).where(layer_slots.c.experiment == key))


def _free(connection: sa.Connection, layer: str) -> list[Range]:
    query = (
        sa.select(layer_slots.c.slot_from, layer_slots.c.slot_to)
        .where(layer_slots.c.layer == layer)
        .order_by(layer_slots.c.slot_from)
    )
    gaps, position = [], 0
    for start, end in connection.execute(query):
        if position < start:
            gaps.append((position, start))
        position = end
    return [*gaps, (position, MILLION)] if position < MILLION else gaps


def _full(
    connection: sa.Connection, layer: str, key: str, wanted: int, free: Sequence[Range]
) -> str:
    width = sa.func.sum(layer_slots.c.slot_to - layer_slots.c.slot_from)
    query = (
        sa.select(layer_slots.c.experiment, width)
        .where(layer_slots.c.layer == layer)
        .group_by(layer_slots.c.experiment)
        .order_by(layer_slots.c.experiment)
    )
    holders = ", ".join(
        f"{name} {_percent(int(share))}" for name, share in connection.execute(query)
    )
    left = _percent(sum(end - start for start, end in free))
    return (
        f"{key} needs {_percent(wanted)} of layer {layer}, which has {left} left ({holders}). "
        f"Stop one of these experiments, lower traffic, or name another layer."
    )


def _percent(millionths: int) -> str:
    return f"{(Decimal(millionths) / 10_000).normalize():f}%"
