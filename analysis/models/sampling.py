"""Draws from a PyMC model, the same ones for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from klartext.analysis.models import extra


class Draws(Protocol):
    """What a model returns: the part of ArviZ's InferenceData that is read here.

    ``posterior[name]`` is an array of (chain, draw, ...) with labelled dimensions;
    ``posterior_predictive`` and ``observed_data`` hold the same names, for the check that the
    model can produce data like those it was fitted to; ``sample_stats["diverging"]`` may exist.
    """

    @property
    def posterior(self) -> Any:
        """Draws by name."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw.

    Parameters
    ----------
    seed
        Same seed, same draws, with one version of the sampler.
    draws, tune
        Kept and discarded draws per chain. 4 x 3,000 gave 900 effective draws and more of the
        slowest quantity seen, the scale between segments; 4 x 1,000 gave 200 to 600.
    chains
        Independent chains.
    target_accept
        Of the No-U-Turn sampler; higher means smaller steps and fewer divergences.
    """

    seed: int
    draws: int = 3000
    tune: int = 1000
    chains: int = 4
    target_accept: float = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Draws and where they come from: sampler with its version, and seed."""

    draws: Draws
    sampler: str
    seed: int


def draw(model: Any, sampling: Sampling) -> Drawn:
    """Draw from the posterior of a PyMC model with nutpie, else with PyMC's own sampler.

    Raises
    ------
    MissingExtraError
        PyMC is not installed.

    References
    ----------
    Hoffman, Gelman (2014), "The No-U-Turn sampler", J. Mach. Learn. Res. 15, 1593-1623.
    """
    pymc = extra.library("pymc")
    faster = extra.nutpie()
    if faster is not None:
        drawn = faster.sample(
            faster.compile_pymc_model(model),
            draws=sampling.draws,
            tune=sampling.tune,
            chains=sampling.chains,
            seed=sampling.seed,
            target_accept=sampling.target_accept,
            progress_bar=False,
        )
        return Drawn(drawn, f"nutpie {faster.__version__}", sampling.seed)
    with model:
        drawn = pymc.sample(
            draws=sampling.draws,
            tune=sampling.tune,
            chains=sampling.chains,
            random_seed=sampling.seed,
            target_accept=sampling.target_accept,
            progressbar=False,
            compute_convergence_checks=False,
        )
    return Drawn(drawn, f"pymc {pymc.__version__}", sampling.seed)
