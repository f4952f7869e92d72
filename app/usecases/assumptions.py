"""Other assumptions: a what-if that is recorded nowhere, and a revision that somebody signs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from hashlib import sha256

import sqlalchemy as sa

from klartext.analysis.document import dumps, to_json
from klartext.analysis.result import Analysis, Assumed
from klartext.analysis.verdicts import Beside, Past, Revised, Verdict, same_figures, verdict_of
from klartext.app.session import Session
from klartext.app.usecases import analysis, looks
from klartext.experiments import audit, caps, registry, revisions
from klartext.experiments.changes import classify
from klartext.experiments.errors import ConflictError
from klartext.experiments.inputs import find, revised
from klartext.experiments.registry import Registered
from klartext.experiments.revisions import Results, Revision
from klartext.experiments.spec.canonical import restore
from klartext.experiments.spec.input_values import read_values
from klartext.experiments.state import reading

_REVISABLE = frozenset({"running", "paused", "stopped", "decided", "live"})


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What other assumptions would say, beside what the registered ones say, on the same facts."""

    assumed: Analysis
    registered: Analysis


def what_if(
    session: Session,
    key: str,
    texts: Iterable[str],
    *,
    as_of: datetime | None = None,
    kept: bool = False,
) -> WhatIf:
    """Return the analysis with other values of business inputs; nothing is recorded.

    Parameters
    ----------
    texts
        As for `klartext.experiments.spec.input_values.read_values`.
    as_of, kept
        As for `klartext.app.usecases.analysis.analyze`; with other values all facts are read.

    Raises
    ------
    NotFoundError
        There is no such experiment or input.
    NotReadyError
        It is not registered, or no facts were delivered yet.
    KlartextError, ConflictError
        A text cannot be read, or names what cannot be assumed otherwise.
    """
    registered = analysis.load(session, key)
    values = read_values(registered.experiment, texts)
    return WhatIf(
        assumed=_analysed(session, registered, values, as_of=as_of),
        registered=analysis.analyze(session, key, as_of=as_of, kept=kept),
    )


def assume(
    session: Session, key: str, texts: Iterable[str], *, comment: str, actor: str
) -> Revised:
    """Sign other values of business inputs, and decide again with them; no verdict moves.

    The values join those of the revision in force; an input that gets its registered value back is
    as registered again.

    Raises
    ------
    NotFoundError
        There is no such experiment or input.
    NotReadyError
        It is not registered, or no facts were delivered yet.
    KlartextError, ConflictError
        A text cannot be read, or names what cannot be revised; the comment is empty; the
        experiment is a draft or closed, or changed meanwhile.
    """
    if not comment.strip():
        raise ConflictError("A revision needs a comment that can be read later: --comment.")
    registered = analysis.load(session, key)
    _check_revisable(registered)
    with reading(session.engine) as connection:
        before = revisions.in_force(connection, registered)
        number = len(revisions.of(connection, key)) + 1
        look = looks.last(connection, key)
    old: Mapping[str, Decimal] = {} if before is None else before.values
    values = read_values(revised(registered.experiment, old), texts)
    changes, after = revisions.merged(registered, old, values)
    results = _results(session, registered, after, look, number=number)
    now = session.now()
    with session.engine.begin() as connection:
        audit.lock(connection)
        current = registry.load(connection, key)
        known = len(revisions.of(connection, key)) + 1, looks.last(connection, key)
        if (current.sha256, current.status) != (registered.sha256, registered.status) or known != (
            number,
            look,
        ):
            raise ConflictError(
                f"{key} changed while it was decided again. Run `klartext assume` again."
            )
        made = revisions.record(
            connection,
            registered,
            changes=changes,
            values=after,
            results=results,
            look=None if look is None else look.look,
            actor=actor,
            comment=comment.strip(),
            now=now,
        )
    return _shown(made, look)


def beside(
    session: Session,
    key: str,
    found: Analysis | None = None,
    *,
    as_of: datetime | None = None,
) -> Beside:
    """Return what stands beside the present figures: the last look, and the revision in force.

    Parameters
    ----------
    found
        The analysis on the facts so far, beside which the revised one is to be made; None: only
        what is stored.
    as_of
        That of the analysis.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    """
    registered = analysis.load(session, key)
    with reading(session.engine) as connection:
        look = looks.last(connection, key)
        past = None if look is None else _past(connection, registered, look)
        revision = revisions.in_force(connection, registered)
        decided_again = None if revision is None else _look(connection, key, revision.look)
    if revision is None:
        return Beside(past, None)
    shown = _shown(revision, decided_again)
    if found is not None:
        again = _analysed(session, registered, revision.values, number=revision.number, as_of=as_of)
        shown = replace(shown, now=(verdict_of(to_json(found)), verdict_of(to_json(again))))
    return Beside(past, shown)


def _check_revisable(registered: Registered) -> None:
    key = registered.key
    if registered.status == "draft":
        raise ConflictError(
            f"{key} has not started: change its file and register it with `klartext apply`."
        )
    if registered.status not in _REVISABLE:
        raise ConflictError(f"{key} is {registered.status}; nothing is decided on it any more.")


def _analysed(  # noqa: PLR0913 - other values of what, and on which facts
    session: Session,
    registered: Registered,
    values: Mapping[str, Decimal],
    *,
    number: int | None = None,
    as_of: datetime | None = None,
    at: looks.Recorded | None = None,
) -> Analysis:
    """Return the analysis with other values, marked as such: the facts so far, or those of a look.

    The signatures on a GO are those on the registered figures, so they count here for nothing.
    """
    changed = replace(registered, experiment=revised(registered.experiment, values))
    # What is kept is that of the registered values.
    readout = analysis.read(session, changed, as_of=as_of, at=at)
    with reading(session.engine) as connection:
        registration = analysis.registration_of(connection, registered, None, at=at)
    found = analysis.evaluate(changed, readout, registration)
    assumed = tuple(
        Assumed(one.path, one.unit, one.assumption.base, value)
        for one, value in (
            (find(registered.experiment, path), value) for path, value in values.items()
        )
    )
    return replace(found, assumed=assumed, revision=number if assumed else None)


def _results(
    session: Session,
    registered: Registered,
    values: Mapping[str, Decimal],
    look: looks.Recorded | None,
    *,
    number: int,
) -> Results:
    """Decide again on the facts so far and on those of the look, as registered and as revised."""
    plain = analysis.analyze(session, registered.key)
    other = _analysed(session, registered, values, number=number)
    at_look, reproduced = None, None
    if look is not None:
        with reading(session.engine) as connection:
            then = _as_of(connection, registered, look)
        again = _analysed(session, then, {}, at=look)
        reproduced = same_figures(_stored(look.result), verdict_of(to_json(again)))
        at_look = dumps(to_json(_analysed(session, then, values, number=number, at=look)))
    return Results(at_look, dumps(to_json(other)), dumps(to_json(plain)), reproduced)


def _as_of(connection: sa.Connection, registered: Registered, look: looks.Recorded) -> Registered:
    """Return the experiment as it was registered when a look was taken."""
    versions = {one.version: one for one in registry.history(connection, registered.key)}
    frozen = {
        name: cap
        for name, cap in caps.frozen(connection, registered.key).items()
        if cap.frozen_at is not None and cap.frozen_at <= look.taken_at
    }
    experiment = caps.in_force(restore(versions[look.version].canonical), frozen)
    return replace(registered, version=look.version, sha256=look.spec_sha256, experiment=experiment)


def _look(connection: sa.Connection, key: str, number: int | None) -> looks.Recorded | None:
    return None if number is None else looks.numbered(connection, key, number)


def _past(connection: sa.Connection, registered: Registered, look: looks.Recorded) -> Past:
    versions = {one.version: one for one in registry.history(connection, registered.key)}
    then, now = (
        restore(versions[number].canonical) for number in (look.version, registered.version)
    )
    return Past(
        look=look.look,
        taken_at=look.taken_at,
        actor=look.actor,
        verdict=_stored(look.result),
        result_sha256=sha256(look.result.encode()).hexdigest(),
        changes=classify(then, now),
    )


def _shown(revision: Revision, look: looks.Recorded | None) -> Revised:
    at_look: tuple[Verdict, Verdict] | None = None
    if look is not None and revision.at_look is not None:
        at_look = _stored(look.result), _stored(revision.at_look)
    return Revised(
        revision=revision,
        at_look=at_look,
        reproduced=revision.reproduced,
        at_revision=(_stored(revision.registered), _stored(revision.at_revision)),
    )


def _stored(text: str) -> Verdict:
    return verdict_of(json.loads(text))
