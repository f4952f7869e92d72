"""What the service serves: every experiment prepared, kept current by polling the state."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from klartext.app.usecases.allocation import Serving, nobody_is_assigned, prepare
from klartext.experiments import layers, policy_store, programme, registry
from klartext.experiments.errors import KlartextError, StateError
from klartext.experiments.state import reading
from klartext.experiments.tables import experiments, layer_slots, policy_versions

if TYPE_CHECKING:
    from klartext.app.session import Session
    from klartext.experiments.experiment import Experiment
    from klartext.experiments.policies import PolicyVersion
    from klartext.experiments.tokens import Signer

ACTOR = "klartext serve"
_log = logging.getLogger("klartext.service")


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What changes whenever the serving of an experiment must."""

    status: str
    version: int
    policy_version: int | None
    slots: int | None
    programmes: tuple[str, ...]  # they decide which units an experiment may have


class Catalogue:
    """The prepared experiments; `refresh` replaces those that changed, readers never wait.

    When the state cannot be read, what was loaded last keeps serving, and ``stale_s`` grows.
    An experiment or policy that was altered by hand is not loaded: the last good one keeps
    serving, and a pause or stop still ends it; without one a bandit serves its control, and an
    altered experiment is not served.
    """

    def __init__(self, session: Session, signer: Signer) -> None:
        self._session = session
        self._signer = signer
        self._servings: Mapping[str, Serving] = {}
        self._seen: Mapping[str, _Fingerprint] = {}
        self._refreshed_at: datetime | None = None
        self._stale = False
        self._policies: dict[str, PolicyVersion] = {}
        self._reported: dict[str, str] = {}

    @property
    def servings(self) -> Mapping[str, Serving]:
        """By key of the experiment."""
        return self._servings

    @property
    def loaded(self) -> bool:
        """Whether the state was ever read."""
        return self._refreshed_at is not None

    def stale_s(self, now: datetime) -> int:
        """Return seconds since the state was last read; 0 while reading it works."""
        if not self._stale or self._refreshed_at is None:
            return 0
        return max(1, round((now - self._refreshed_at).total_seconds()))

    def poll(self) -> None:
        """Refresh, and go on with what is there when the state cannot be read."""
        try:
            self.refresh()
        except (sa.exc.SQLAlchemyError, StateError, OSError) as error:
            if not self._stale:
                cause = getattr(error, "orig", error)
                _log.warning("state cannot be read, serving what was loaded last: %s", cause)
            self._stale = True

    def refresh(self) -> None:
        """Load what changed since the last time.

        Raises
        ------
        sqlalchemy.exc.SQLAlchemyError, StateError
            The state cannot be read.
        """
        now = self._session.now()
        with reading(self._session.engine) as connection:
            seen = _fingerprints(connection)
        servings = dict(self._servings)
        for key in servings.keys() - seen.keys():
            del servings[key]
        loaded = dict(seen)
        for key, fingerprint in seen.items():
            if self._seen.get(key) == fingerprint:
                continue
            try:
                servings[key] = self._load(key, now)
            except KlartextError as error:
                self._report(key, error)
                del loaded[key]  # tried again at the next poll
                if key in servings:
                    nobody = nobody_is_assigned(fingerprint.status)
                    servings[key] = replace(servings[key], nobody=nobody or servings[key].nobody)
        self._servings, self._seen = servings, loaded
        self._refreshed_at, self._stale = now, False

    def _load(self, key: str, now: datetime) -> Serving:
        with reading(self._session.engine) as connection:
            registered = registry.load(connection, key)
            slots = layers.slots(connection, key)
            held_out = programme.hold_out(connection, registered)
        policy = None
        if registered.experiment.bandit is not None and registered.status == "running":
            policy = self._policy(registered.experiment, now)
        return prepare(
            registered, slots=slots, policy=policy, signer=self._signer, hold_out=held_out
        )

    def _policy(self, experiment: Experiment, now: datetime) -> PolicyVersion | None:
        """Return the policy in force; the last good one when it was altered, None without."""
        key = experiment.key
        try:
            with reading(self._session.engine) as connection:
                policy = policy_store.latest(connection, key)
            if policy is None or not policy_store.serves(policy, experiment):
                with self._session.engine.begin() as connection:
                    policy = policy_store.in_force(connection, experiment, actor=ACTOR, now=now)
        except policy_store.TamperedPolicyError as error:
            self._report(key, error)
            return self._policies.get(key)
        self._policies[key] = policy
        return policy

    def _report(self, key: str, error: KlartextError) -> None:
        if self._reported.get(key) != str(error):
            _log.error("%s is not refreshed: %s", key, error)
        self._reported[key] = str(error)


def _fingerprints(connection: sa.Connection) -> dict[str, _Fingerprint]:
    policies = (
        sa.select(policy_versions.c.experiment, sa.func.max(policy_versions.c.version).label("n"))
        .group_by(policy_versions.c.experiment)
        .subquery()
    )
    width = sa.func.sum(layer_slots.c.slot_to - layer_slots.c.slot_from)
    slots = (
        sa.select(layer_slots.c.experiment, width.label("width"))
        .group_by(layer_slots.c.experiment)
        .subquery()
    )
    query = (
        sa.select(
            experiments.c.key,
            experiments.c.status,
            experiments.c.version,
            policies.c.n,
            slots.c.width,
        )
        .outerjoin(policies, policies.c.experiment == experiments.c.key)
        .outerjoin(slots, slots.c.experiment == experiments.c.key)
    )
    programmes = programme.going_on(connection)
    return {
        row.key: _Fingerprint(row.status, row.version, row.n, row.width, programmes)
        for row in connection.execute(query)
    }
