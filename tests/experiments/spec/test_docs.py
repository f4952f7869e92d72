"""The page about metrics: its examples are valid, and it names every key."""

import re
from pathlib import Path
from typing import get_args

import pytest

from klartext.experiments.documents.choices import MetricKind
from klartext.experiments.spec.loading import read_metrics
from klartext.experiments.spec.metric_syntax import COMPARISONS, MetricSyntax
from klartext.experiments.workspace import Workspace

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(metrics:\n.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_are_valid(workspace: Workspace, block: str) -> None:
    (workspace.root / "metrics.yaml").write_text(f"schema: klartext/metrics/v1\n{block}")
    metrics, problems = read_metrics(workspace)
    assert problems == ()
    assert metrics


def test_every_key_and_kind_is_documented() -> None:
    words = {*MetricSyntax.model_fields, *COMPARISONS, *get_args(get_args(MetricKind)[0])}
    assert {word for word in words if f"`{word}" not in PAGE and f"{{{word}" not in PAGE} == set()
