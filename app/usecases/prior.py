"""The default prior of a new experiment: what finished experiments say about effects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING

import sqlalchemy as sa

from klartext.experiments import registry
from klartext.experiments.errors import NotFoundError
from klartext.experiments.experiment import Experiment
from klartext.experiments.registry import Registered, Status
from klartext.experiments.spec.resolved import Resolved, resolved
from klartext.experiments.tables import looks

if TYPE_CHECKING:
    from klartext.analysis.moments import Sample

_FINISHED: tuple[Status, ...] = ("stopped", "decided", "live", "archived", "abandoned")
_DIGITS = Decimal("0.0001")


def with_prior(connection: sa.Connection, spec: Resolved) -> Resolved:
    """Return the spec with the prior that finished experiments suggest, if it states none.

    Notes
    -----
    The first registration settles it, with its evidence in the hashed form; later versions of the
    same experiment keep it, however many experiments have finished since. Fewer than five finished
    experiments leave the default.
    """
    experiment = spec.experiment
    if experiment.inference.prior_source != "default":
        return spec
    try:
        before = registry.load(connection, experiment.key).experiment
    except NotFoundError:
        settled = _from_finished(connection, experiment)
    else:
        settled = keep_prior(experiment, before)
    return spec if settled == experiment else resolved(settled, spec.source)


def keep_prior(experiment: Experiment, before: Experiment) -> Experiment:
    """Return the experiment with the prior it was registered with, if it states none itself."""
    now, then = experiment.inference, before.inference
    if now.prior_source != "default" or then.prior_source != "finished":
        return experiment
    kept = replace(
        now,
        prior_relative_sd=then.prior_relative_sd,
        prior_source=then.prior_source,
        prior_evidence=then.prior_evidence,
    )
    return replace(experiment, inference=kept)


def _from_finished(connection: sa.Connection, experiment: Experiment) -> Experiment:
    finished = list(_finished(connection))
    if not finished:
        return experiment
    from klartext.analysis.bayes import track_record  # noqa: PLC0415 - heavy, and rarely needed
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    blocks, evidence = [], []
    for found, look, samples in finished:
        control = samples.pop(found.experiment.control)
        block = track_record.relative_effects(found.key, control, samples)
        if isinstance(block, NotEstimable):  # no margin, or too little to speak of its effects
            continue
        blocks.append(block)
        evidence.append(look)
    record = track_record.pool_experiments(
        blocks, scale_prior_sd=float(experiment.inference.prior_relative_sd), level=0.95
    )
    if isinstance(record, NotEstimable):
        return experiment
    sd = max(_DIGITS, Decimal(record.prior_sd).quantize(_DIGITS))
    learned = replace(
        experiment.inference,
        prior_relative_sd=sd,
        prior_source="finished",
        prior_evidence=tuple(evidence),
    )
    return replace(experiment, inference=learned)


def _finished(connection: sa.Connection) -> Iterator[tuple[Registered, str, dict[str, Sample]]]:
    """Yield every finished experiment with its last readable look and the margins it kept."""
    for found in registry.registered(connection):
        if found.status not in _FINISHED or found.experiment.scope == "programme":
            continue  # all AI together is no change like the next one
        query = sa.select(looks.c.look, looks.c.moments).where(
            looks.c.experiment == found.key, looks.c.verdict != "INVALID"
        )
        row = connection.execute(query.order_by(looks.c.look.desc()).limit(1)).one_or_none()
        if row is None:
            continue
        from klartext.analysis.moments import Sample  # noqa: PLC0415 - heavy

        samples = {}
        for variant, kept in json.loads(row.moments)["variants"].items():
            place = kept["columns"].index("margin")
            samples[variant] = Sample(
                kept["n"], kept["mean"][place], kept["m2"][place][place], kept["m3"][place]
            )
        if found.experiment.control in samples and len(samples) > 1:
            digest = sha256(row.moments.encode()).hexdigest()[:12]
            yield found, f"{found.key} look {row.look} {digest}", samples
