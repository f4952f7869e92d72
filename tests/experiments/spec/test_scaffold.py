from datetime import date
from pathlib import Path

import pytest

from klartext.experiments.spec.linter import lint
from klartext.experiments.spec.loading import load, read_metrics
from klartext.experiments.spec.scaffold import (
    FIRST_KEYS,
    TEMPLATES,
    Blanks,
    TemplateName,
    experiment_text,
    workspace_files,
)
from klartext.experiments.workspace import find_workspace

TODAY = date(2027, 1, 6)  # a Wednesday


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_workspace_is_valid_and_wise_as_it_is(tmp_path: Path, template: TemplateName) -> None:
    key = FIRST_KEYS[template]
    write(tmp_path, workspace_files(template, "shop", Blanks(key, "lena", "EUR", TODAY)))
    workspace = find_workspace(tmp_path)
    resolved = load(tmp_path / "experiments" / f"{key}.yaml", workspace)
    experiment = resolved.experiment
    assert lint(experiment, resolved.source, "x.yaml") == ()
    assert experiment.value
    assert experiment.costs.lines
    assert experiment.costs.usage_source
    assert experiment.guardrails
    assert experiment.rollout is not None
    assert experiment.decision.approvals is not None
    assert any(variant.ai for variant in experiment.variants)
    start, end = experiment.plan.start, experiment.plan.latest_end
    assert start is not None
    assert end is not None
    assert start.isoformat() == "2027-01-17T23:00:00+00:00"  # Monday 18 January in Berlin
    assert end.isoformat() == "2027-04-11T22:00:00+00:00"  # twelve weeks later, in summer time


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("workspace_template", TEMPLATES)
def test_any_template_fits_any_workspace(
    tmp_path: Path, workspace_template: TemplateName, template: TemplateName
) -> None:
    blanks = Blanks("first", "lena", "CHF", TODAY)
    write(tmp_path, workspace_files(workspace_template, "shop", blanks))
    workspace = find_workspace(tmp_path)
    shared, _ = read_metrics(workspace)
    text = experiment_text(template, Blanks("second", "m. huber: x", "CHF", TODAY), shared)
    write(tmp_path, {"experiments/second.yaml": text})
    experiment = load(tmp_path / "experiments" / "second.yaml", workspace).experiment
    assert (experiment.key, experiment.owner, experiment.currency) == (
        "second",
        "m. huber: x",
        "CHF",
    )
