"""The experiment as written: strict YAML, resolved to an `Experiment` and its canonical form."""

from klartext.experiments.spec.canonical import canonical, restore
from klartext.experiments.spec.loading import load, loads
from klartext.experiments.spec.resolved import Resolved, resolved

__all__ = ["Resolved", "canonical", "load", "loads", "resolved", "restore"]
