"""The programme: one experiment whose control is held out from all that start while it runs."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from klartext.experiments import layers, registry
from klartext.experiments.assignment import Assigner, HoldOut, Split
from klartext.experiments.errors import ConflictError
from klartext.experiments.registry import Registered
from klartext.experiments.tables import experiment_versions, experiments

_ON = ("running", "paused")
_SAID = '"scope":"programme"'


def hold_out(connection: sa.Connection, registered: Registered) -> HoldOut | None:
    """Return the units that an experiment may not have; None when all are its own.

    Notes
    -----
    A programme binds the experiments that were started after it. One that ran before keeps its
    units: taking them away would break its split. It is the programme's comparison that is diluted
    until it ends, towards no effect. A programme itself has all its units, and one that is split
    elsewhere cannot be asked by hash.
    """
    if registered.experiment.scope == "programme" or registered.started_at is None:
        return None
    for programme in _programmes(connection):
        experiment, began = programme.experiment, programme.started_at
        if experiment.assignment != "klartext" or began is None:
            continue
        if began <= registered.started_at:
            slots = layers.slots(connection, programme.key)
            return HoldOut(
                Assigner.of(layer=experiment.layer, experiment=experiment.key, slots=slots),
                Split.of((variant.key, variant.weight) for variant in experiment.variants),
                experiment.control,
            )
    return None


def check_alone(connection: sa.Connection, starting: Registered) -> None:
    """Refuse the start of a second programme: nobody could say which one a unit is held out by.

    Raises
    ------
    ConflictError
        Another one is running or paused.
    """
    if starting.experiment.scope != "programme":
        return
    for programme in _programmes(connection):
        if programme.key != starting.key:
            raise ConflictError(
                f"{programme.key} is {programme.status} and holds out units from all experiments; "
                f"a workspace has one programme. Stop {programme.key}, or do not start "
                f"{starting.key}."
            )


def going_on(connection: sa.Connection) -> tuple[str, ...]:
    """Return the keys of what may be a programme that is running or paused.

    A cheap question to ask often: when the answer changes, `hold_out` has to be asked again.
    """
    query = (
        sa.select(experiments.c.key)
        .join(
            experiment_versions,
            sa.and_(
                experiment_versions.c.key == experiments.c.key,
                experiment_versions.c.version == experiments.c.version,
            ),
        )
        .where(
            experiments.c.status.in_(_ON),
            experiment_versions.c.canonical.contains(_SAID, autoescape=True),
        )
        .order_by(experiments.c.key)
    )
    return tuple(connection.execute(query).scalars())


def _programmes(connection: sa.Connection) -> Iterator[Registered]:
    for key in going_on(connection):
        found = registry.load(connection, key)
        if found.experiment.scope == "programme":  # the words may stand in a payload as well
            yield found
