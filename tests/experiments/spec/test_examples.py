from pathlib import Path

import pytest

from klartext.experiments.mapping import UnitTableMapping, load_mapping
from klartext.experiments.spec.canonical import restore
from klartext.experiments.spec.loading import load
from klartext.experiments.workspace import find_workspace

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("name", ["hillstrom", "cookie_cats"])
def test_examples_are_valid_and_their_mappings_fit(name: str) -> None:
    workspace = find_workspace(EXAMPLES / name)
    (file,) = workspace.experiment_files
    resolved = load(file, workspace)
    experiment = resolved.experiment
    assert restore(resolved.canonical) == experiment
    assert experiment.registration == "retrospective"
    assert experiment.inference.mode == "fixed"
    (mapping_file,) = (EXAMPLES / name / "mappings").glob("*.yaml")
    mapping = load_mapping(mapping_file).mapping
    assert isinstance(mapping, UnitTableMapping)
    assert mapping.experiment == experiment.key
    assert set(mapping.variant.values.values()) == {variant.key for variant in experiment.variants}
    events = {metric.event for metric in experiment.metrics if metric.event is not None}
    assert events == mapping.outcomes.keys()
    named = {c.name for metric in experiment.metrics for c in metric.covariates if c.name}
    assert named <= mapping.covariates.keys()
