"""A team's own model: any callable that returns draws passes the same gates as ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from klartext.analysis.models.diagnostics import NotShown, Shown, judge, predictive_checks
from klartext.analysis.models.sampling import Drawn, Draws
from klartext.analysis.moments import Moments


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
    ValueError
        The model has no such effect.
    MissingExtraError
        ArviZ is not installed.
    """
    draws = model(moments, seed=seed)
    return judge(
        Drawn(draws, getattr(model, "__name__", type(model).__name__), seed),
        effects=effects,
        checks=predictive_checks(draws),
        level=level,
    )
