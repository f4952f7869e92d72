"""A team's own model: any callable that returns draws passes the same gates as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from klartext.analysis.models.diagnostics import NotShown, Shown, judge, predictive_checks
from klartext.analysis.models.sampling import Drawn, Draws
from klartext.analysis.moments import Moments
from klartext.experiments.errors import KlartextError

EFFECTS = ("effect",)
"""What the command line shows of a team's model: its posterior variable of this name."""


class OwnModelError(KlartextError):
    """A team's model does not return what `OwnModel` says."""


class OwnModel(Protocol):
    """What a team writes.

    The function gets the moments per variant and a seed, and returns an ArviZ InferenceData, or
    anything with the same groups: ``posterior`` with the named effects, ``posterior_predictive``
    and ``observed_data`` so that the fit can be checked, and ``sample_stats`` if there are any.
    All randomness comes from the seed: the same seed has to give the same draws.
    """

    def __call__(self, moments: Mapping[str, Moments], *, seed: int) -> Draws:
        """Fit the model and return its draws."""
        ...


def run(
    model: OwnModel,
    moments: Mapping[str, Moments],
    *,
    effects: Sequence[str],
    seed: int,
    level: float,
) -> Shown | NotShown:
    """Run a team's model and show its effects if the draws pass the gates.

    Parameters
    ----------
    model
        The team's function.
    moments
        Moments per variant, control included.
    effects
        Names of the posterior variables to show.
    seed
        Handed to the model.
    level
        Of the credible intervals; 0.95 is 95 %.

    Returns
    -------
    Shown or NotShown
        As `diagnostics.judge`. A model without ``posterior_predictive`` and ``observed_data``
        is never shown (``no-predictive-check``).

    Raises
    ------
    OwnModelError
        The model returned no draws, or has no such effect.
    MissingExtraError
        ArviZ is not installed.
    """
    draws = model(moments, seed=seed)
    name = getattr(model, "__name__", type(model).__name__)
    _check(name, draws, effects)
    return judge(
        Drawn(draws, name, seed),
        effects=effects,
        checks=predictive_checks(draws),
        level=level,
    )


def _check(name: str, draws: Draws, effects: Sequence[str]) -> None:
    variables = getattr(getattr(draws, "posterior", None), "data_vars", None)
    if variables is None:
        raise OwnModelError(
            f"{name} returned {type(draws).__name__}: it has to return an ArviZ InferenceData, "
            "with the group posterior"
        )
    if missing := [effect for effect in effects if effect not in variables]:
        raise OwnModelError(
            f"the posterior of {name} has no {missing[0]!r}; it has {sorted(map(str, variables))}"
        )
    for key in variables:
        if tuple(draws.posterior[key].dims[:2]) != ("chain", "draw"):
            raise OwnModelError(f"{key!r} of {name} has to begin with the dimensions chain, draw")
