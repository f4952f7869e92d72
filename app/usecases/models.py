"""Fit a model beside the analysis: asked for, drawn by PyMC; it moves no verdict."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from typing import cast

import numpy as np

from klartext.analysis import unit_table
from klartext.analysis.bayes.pooling import segment_effects
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.metric_results import PRIMARY
from klartext.analysis.models import extra, hurdle, own, segments
from klartext.analysis.models.document import Fit, Found, ModelRun
from klartext.analysis.models.rounding import settled
from klartext.analysis.models.sampling import Sampling
from klartext.analysis.moments import FloatArray
from klartext.analysis.segment_effects import is_dense
from klartext.analysis.segments import Level, LevelMoments, Segment
from klartext.app.session import Session
from klartext.app.usecases.analysis import OpenFacts, load, open_facts
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment, Metric

SEED = 1
"""Of the draws, unless another one is asked for."""

_MOVED = NotEstimable("moved-weights", "the weights moved; models do not combine over splits")


def fit(
    session: Session, key: str, *, model: str, metric: str | None = None, seed: int = SEED
) -> ModelRun:
    """Return what a model says of an experiment on the facts so far; nothing is recorded.

    Parameters
    ----------
    model
        ``hurdle``: revenue per unit as a purchase and a log-normal amount; ``segments``: effects
        by level, pooled; ``module:function``: a team's own `own.OwnModel`, imported from the
        workspace's folder or the Python path.
    metric
        Default: the first mean metric for ``hurdle``, the primary one for ``segments``.
    seed
        Same seed and facts, same figures, with one version of the sampler.

    Raises
    ------
    MissingExtraError
        The ``models`` extra is not installed.
    KlartextError
        There is no such model or metric, or the model cannot read the metric.
    OwnModelError
        The team's model does not return draws.
    NotFoundError
        There is no such experiment.
    NotReadyError
        It is not registered, or no facts were delivered yet.
    """
    if ":" in model:
        if metric is not None:
            raise KlartextError(
                "--metric is for hurdle and segments; a model of your own gets every column"
            )
        return _own(session, key, model=model, seed=seed)
    if model not in {"hurdle", "segments"}:
        raise KlartextError(
            f"there is no model {model!r}. Choose hurdle, segments, or your own as module:function."
        )
    extra.library("pymc")
    return (_hurdle if model == "hurdle" else _segments)(session, key, metric=metric, seed=seed)


def _hurdle(session: Session, key: str, *, metric: str | None, seed: int) -> ModelRun:
    registered = load(session, key)
    chosen = _amount(registered.experiment, metric)
    with open_facts(session, registered) as facts:
        moved = len(facts.splits) > 1
        values = {} if moved else _unit_values(facts, chosen.key)
    level = _level(facts.experiment)
    found: Found = _MOVED
    if not moved:
        found = hurdle.fit(
            {name: hurdle.purchases(one) for name, one in values.items()},
            control=facts.experiment.control,
            sampling=Sampling(seed),
            level=level,
        )
    return ModelRun(
        experiment=key,
        model="hurdle",
        metric=chosen.key,
        direction=chosen.direction,
        level=level,
        seed=seed,
        watermark=facts.watermark,
        fits=(Fit(None, (), found),),
    )


def _segments(session: Session, key: str, *, metric: str | None, seed: int) -> ModelRun:
    registered = load(session, key)
    chosen = _mean(registered.experiment, metric)
    with open_facts(session, registered) as facts:
        moved = len(facts.splits) > 1
        cut = () if moved else facts.read_out().segments
    fits = tuple(_segment(facts.experiment, one, chosen, seed=seed) for one in cut)
    return ModelRun(
        experiment=key,
        model="segments",
        metric=PRIMARY if chosen is None else chosen.key,
        direction="increase" if chosen is None else chosen.direction,
        level=_level(facts.experiment),
        seed=seed,
        watermark=facts.watermark,
        fits=(Fit(None, (), _MOVED),) if moved else fits,
    )


def _level(experiment: Experiment) -> float:
    return 1 - float(experiment.inference.alpha)


def _amount(experiment: Experiment, key: str | None) -> Metric:
    """Return the metric of a hurdle model: one that sums an amount per unit."""
    means = [metric for metric in experiment.metrics if metric.kind == "mean"]
    found = next((metric for metric in means if key in {None, metric.key}), None)
    if found is None:
        asked = "no metric" if key is None else f"no metric {key!r}"
        raise KlartextError(
            f"{experiment.key} has {asked} of kind mean, which hurdle needs"
            + (f"; it has {', '.join(metric.key for metric in means)}" if means else "")
        )
    return found


def _mean(experiment: Experiment, key: str | None) -> Metric | None:
    """Return the metric of a segment model: one number per unit; None is the net value."""
    if not experiment.segments:
        raise KlartextError(
            f"{experiment.key} has no segments. Name properties under `segments:` in its spec."
        )
    if key in {None, PRIMARY} and experiment.value:
        return None
    known = {metric.key: metric for metric in experiment.metrics}
    found = known.get(experiment.metrics[0].key if key is None else key)
    if found is None or not found.is_column:
        usable = [metric.key for metric in experiment.metrics if metric.is_column]
        names = ", ".join(([PRIMARY] if experiment.value else []) + usable)
        raise KlartextError(
            f"segments cannot read {key or experiment.metrics[0].key!r} of {experiment.key}; it "
            f"reads metrics with one number per unit: {names}"
        )
    return found


def _unit_values(facts: OpenFacts, column: str) -> dict[str, FloatArray]:
    """Return a column of mature units seen in one variant only, per variant, in order.

    Equal values come from the engine as one row with their number: those without revenue, mostly
    nearly all, cost nothing.
    """
    units = unit_table.build(facts.experiment, facts.tables, facts.watermark, facts.splits)
    kept = units.filter(units["mature"], ~units["excluded"])
    kept = kept.select("variant", amount=kept[column])
    rows = facts.engine.to_pyarrow(kept.group_by("variant", "amount").aggregate(units=kept.count()))
    variant = np.asarray(rows["variant"].to_pylist(), dtype=object)
    amount = rows["amount"].to_numpy().astype(np.float64)
    counts = rows["units"].to_numpy().astype(np.int64)
    return {
        one.key: np.sort(np.repeat(amount[variant == one.key], counts[variant == one.key]))
        for one in facts.experiment.variants
    }


def _segment(experiment: Experiment, segment: Segment, metric: Metric | None, *, seed: int) -> Fit:
    """Fit the levels of one property that are dense in every variant."""
    column = PRIMARY if metric is None else metric.key
    is_rate = metric is not None and metric.is_rate

    def dense(level: LevelMoments) -> bool:
        return all(is_dense(one, column, is_rate=is_rate) for one in level.moments.values())

    kept = [level for level in segment.levels if dense(level)]
    left_out = tuple(_label(level.level) for level in segment.levels if level not in kept)
    if len(kept) < 2:
        found = NotEstimable("too-few-segments", "two segments are needed for pooling")
        return Fit(segment.property, left_out, found)
    moments = {
        _label(level.level): {key: settled(one) for key, one in level.moments.items()}
        for level in kept
    }
    control = experiment.control
    base = reduce(add, (each[control] for each in moments.values())).sample(column).mean
    prior_sd = float(experiment.inference.prior_relative_sd) * abs(base)
    if prior_sd == 0:
        refused = NotEstimable("no-prior", "the control's mean is zero: no prior could refer to it")
        return Fit(segment.property, left_out, refused)
    blocks = segment_effects(moments, column, control=control, treatments=experiment.treatments)
    if isinstance(blocks, NotEstimable):
        return Fit(segment.property, left_out, blocks)
    drawn = segments.fit(
        blocks,
        mean_prior_sd=prior_sd,
        scale_prior_sd=prior_sd,
        sampling=Sampling(seed),
        level=_level(experiment),
    )
    return Fit(segment.property, left_out, drawn)


def _label(level: Level) -> str:
    """Return a value in quotes, so that none can be taken for ``other`` or ``missing``."""
    if level.kind == "value":
        return json.dumps(level.value, ensure_ascii=not level.value.isprintable())
    return level.kind


def _own(session: Session, key: str, *, model: str, seed: int) -> ModelRun:
    extra.library("arviz")
    registered = load(session, key)
    with _importable(session.workspace.root):
        function = _function(model)
        with open_facts(session, registered) as facts:
            moved = len(facts.splits) > 1
            moments = {} if moved else facts.read_out().moments
        level = _level(facts.experiment)
        found: Found = _MOVED
        if not moved:
            known = {name: settled(one) for name, one in moments.items()}
            found = own.run(function, known, effects=own.EFFECTS, seed=seed, level=level)
    return ModelRun(
        experiment=key,
        model=model,
        metric=None,
        direction=None,
        level=level,
        seed=seed,
        watermark=facts.watermark,
        fits=(Fit(None, (), found),),
    )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported, as Python does for a script there."""
    path = str(folder.resolve())
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)


def _function(model: str) -> own.OwnModel:
    """Import what the user named; code is never named by a spec or by data."""
    name, _, attribute = model.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), attribute)):
        raise KlartextError(f"--model: {model!r} is not of the form module:function")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise KlartextError(f"--model: {name} needs {error.name}, not installed") from error
        raise KlartextError(
            f"--model: there is no module {error.name!r} in the workspace's folder or on the "
            "Python path"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        place = getattr(module, "__file__", None) or name
        raise KlartextError(f"--model: {place} has no function {attribute!r}")
    return cast("own.OwnModel", found)
