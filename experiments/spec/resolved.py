"""An experiment together with its canonical form, as the registry takes it."""

from __future__ import annotations

from dataclasses import dataclass

from klartext.experiments.experiment import Experiment
from klartext.experiments.spec.canonical import canonical, sha256


@dataclass(frozen=True, slots=True)
class Resolved:
    """An experiment, its canonical form and hash, and the YAML it was written as."""

    experiment: Experiment
    canonical: str
    sha256: str
    source: str


def resolved(experiment: Experiment, source: str) -> Resolved:
    """Return the experiment with its canonical form and hash."""
    text = canonical(experiment)
    return Resolved(experiment, text, sha256(text), source)
