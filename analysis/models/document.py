"""A fitted model, and its JSON document, schema ``klartext/model/v1``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.json_values import figure, json_object
from klartext.analysis.models.diagnostics import (
    FEWEST_ESS,
    LARGEST_R_HAT,
    ModelEffect,
    NotShown,
    Shown,
)
from klartext.experiments.experiment import Json
from klartext.experiments.watermark import Watermark

SCHEMA = "klartext/model/v1"
NOTE = (
    "A model moves no verdict: the registered decision reads the intervals of "
    "klartext/analysis/v1, and looking at a posterior until it pleases makes it claim too much."
)
Found: TypeAlias = Shown | NotShown | NotEstimable
_EFFECTS = frozenset({"difference", "relative", "effects", "common"})


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit of a model.

    Parameters
    ----------
    segment
        The property whose levels it compares; None for all units.
    left_out
        Levels too sparse to enter.
    found
        What may be shown, or why nothing is.
    """

    segment: str | None
    left_out: tuple[str, ...]
    found: Found


@dataclass(frozen=True, slots=True)
class ModelRun:
    """A model of one experiment at one watermark.

    Parameters
    ----------
    experiment
        Its key.
    model
        As it was asked for: ``hurdle``, ``segments`` or ``module:function``.
    metric, direction
        What it reads, and which way is better; None for a team's own, which reads what it wants.
    level
        Of the credible intervals.
    seed
        The same again gives the same figures.
    watermark
        Which facts were seen.
    fits
        One, or one per segment.
    """

    experiment: str
    model: str
    metric: str | None
    direction: Literal["increase", "decrease"] | None
    level: float
    seed: int
    watermark: Watermark
    fits: tuple[Fit, ...]

    def probability_better(self, effect: ModelEffect) -> float | None:
        """Return the probability that it is in the metric's favour; None for what is no effect."""
        if self.direction is None or effect.name.partition("[")[0] not in _EFFECTS:
            return None
        positive = effect.probability_positive
        return positive if self.direction == "increase" else 1 - positive


def model_to_json(run: ModelRun) -> dict[str, Json]:
    """Return the document; what the diagnostics do not let pass has a reason and no figures."""
    return {
        "schema": SCHEMA,
        "experiment": run.experiment,
        "note": NOTE,
        "model": run.model,
        "metric": run.metric,
        "level": figure(run.level),
        "seed": run.seed,
        "watermark": {"batch": run.watermark.batch, "cutoff": run.watermark.cutoff.isoformat()},
        "required": {"min_ess": FEWEST_ESS, "max_r_hat": LARGEST_R_HAT},
        "fits": [
            {"segment": fit.segment, "left_out": list(fit.left_out), **_found(run, fit.found)}
            for fit in run.fits
        ],
    }


def _found(run: ModelRun, found: Found) -> dict[str, Json]:
    match found:
        case NotEstimable(reason, detail):
            return {"shown": False, "reason": {"code": reason, "detail": detail}}
        case NotShown(reason, detail, min_ess, max_r_hat):
            return {
                "shown": False,
                "reason": {"code": reason, "detail": detail},
                **json_object(min_ess=min_ess, max_r_hat=max_r_hat),
            }
    return {
        "shown": True,
        "sampler": found.sampler,
        **json_object(min_ess=found.min_ess, max_r_hat=found.max_r_hat),
        "predictive_checks": [json_object(name=name, p_value=p) for name, p in found.checks],
        "effects": [
            json_object(
                name=one.name,
                mean=one.mean,
                sd=one.sd,
                interval=one.interval,
                probability_positive=one.probability_positive,
                probability_better=run.probability_better(one),
                ess=one.ess,
                r_hat=one.r_hat,
                mc_error=one.mc_error,
            )
            for one in found.effects
        ],
    }
