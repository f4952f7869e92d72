import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klartext.experiments.documents.yaml_document import MAX_BYTES
from klartext.experiments.errors import ConfigurationError, NotFoundError
from klartext.experiments.spec.canonical import restore
from klartext.experiments.spec.loading import load, loads
from klartext.experiments.workspace import Workspace, find_workspace
from tests.experiments.spec.conftest import (
    EXPERIMENT,
    METRICS,
    WORKSPACE,
    Mistakes,
    changed,
    document,
)

TEN = (
    ("title: AI", "titel: AI"),  # unknown key
    ("kind: ab ", "kind: ab\nkind: ab "),  # duplicate key
    ("audience: {country: [DE, AT, NO]}", "audience: DE"),  # wrong type
    ("key: ai, weight: 50%", "key: ai, weight: 60%"),  # weights sum
    ("- conversion ", "- convresion "),  # unknown metric
    ("1.20 EUR", "'1,20 EUR'"),  # not an amount of money
    ("5000 EUR", "5000 USD"),  # another currency
    ("min_duration: 14d", "min_duration: 14 days"),  # not a duration
    ("control: control\n", "control: contorl\n"),  # control is no variant
    ("[controlling, cfo]", "[controlling, lena.vogt]"),  # approver owns the experiment
)


def test_ten_mistakes_are_ten_errors_at_once(mistakes: Mistakes) -> None:
    problems = mistakes(*TEN)
    assert [(problem.line, problem.path, problem.code) for problem in problems] == [
        (3, "titel", "unknown-key"),
        (7, "kind", "duplicate-key"),
        (10, "audience", "wrong-type"),
        (11, "variants", "weights-sum"),
        (14, "control", "unknown-variant"),
        (16, "metrics[0]", "unknown-metric"),
        (25, "costs.budget", "currency"),
        (29, "costs.lines[1].amount", "money"),
        (33, "decision.min_duration", "duration"),
        (33, "decision.approvals.by[1]", "approver-is-owner"),
    ]
    for problem in problems:
        assert problem.message
        assert problem.fix.endswith((".", "?"))
    text = "\n".join(str(problem) for problem in problems)
    assert text.count("\n") == 9
    assert "Did you mean 'title'?" in text
    assert "Did you mean 'control'?" in text
    assert "Input should" not in text


@pytest.mark.parametrize("mistake", TEN)
def test_each_of_the_ten_alone_is_one_error(mistakes: Mistakes, mistake: tuple[str, str]) -> None:
    assert len(mistakes(mistake)) == 1


def test_a_decimal_comma_is_recognised(mistakes: Mistakes) -> None:
    """In YAML a comma ends the value: ``{amount: 1,20 EUR}`` is an amount of 1 and a key."""
    problems = mistakes(("1.20 EUR", "1,20 EUR"))
    assert [problem.code for problem in problems] == ["money", "decimal-comma"]


def test_a_file_that_cannot_be_read_at_all(workspace: Workspace) -> None:
    for text in (b"", b"- a\n", b"a: [\n", b"\xff\xfe", b"a: " + b"x" * MAX_BYTES):
        with pytest.raises(ConfigurationError) as raised:
            loads(text, "x.yaml", workspace)
        assert len(raised.value.problems) == 1
        assert str(raised.value).startswith("x.yaml")
    with pytest.raises(NotFoundError, match="cannot read"):
        load(workspace.root / "nothing.yaml", workspace)


def test_mistakes_in_shared_metrics_are_said_with_those_of_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "klartext.yaml").write_text(WORKSPACE)
    metrics = METRICS.replace("window: 14d}", "window: 14}", 1) + (
        "  - {key: unsubscribe, kind: mean, event: x, value: nothing}\n"
    )
    (tmp_path / "metrics.yaml").write_text(metrics)
    with pytest.raises(ConfigurationError) as raised:
        loads(changed(("60 EUR", "60 USD")).encode(), "x.yaml", find_workspace(tmp_path))
    assert [(problem.file, problem.line, problem.code) for problem in raised.value.problems] == [
        ("metrics.yaml", 3, "duration"),
        ("metrics.yaml", 5, "twice"),
        ("metrics.yaml", 5, "unknown-property"),
        ("x.yaml", 22, "currency"),
    ]


@pytest.mark.parametrize("metrics", ["- a\n", "schema: klartext/metrics/v2\nmetrics: []\n", ""])
def test_shared_metrics_that_are_no_metrics(tmp_path: Path, metrics: str) -> None:
    (tmp_path / "klartext.yaml").write_text(WORKSPACE)
    (tmp_path / "metrics.yaml").write_text(metrics)
    with pytest.raises(ConfigurationError, match=r"^metrics\.yaml"):
        loads(EXPERIMENT.encode(), "x.yaml", find_workspace(tmp_path))


def test_the_text_is_kept_as_it_was_written(workspace: Workspace) -> None:
    path = workspace.root / "experiments" / "mail.yaml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    resolved = load(path, workspace)
    assert resolved.source == EXPERIMENT
    assert resolved.experiment.key == "mail-subject-ai"


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    ["", "x", "50%", "0.2pp", "5 EUR", "14d", "-1", 0, -1, 10**20, True, None, [], {}, [None],
     [[]], {"key": "x"}, {"base": "x"}, [{"key": 5}], ["conversion"], "2027-01-01", "control"]
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10**6), JUNK), min_size=1, max_size=4))
def test_any_mutilated_experiment_is_read_or_explained(
    workspace: Workspace, changes: list[tuple[int, Any]]
) -> None:
    tree = document()
    for place, junk in changes:
        places = list(inner_places(tree))
        holder, step = places[place % len(places)]
        holder[step] = deepcopy(junk)
    try:
        resolved = loads(json.dumps(tree).encode(), "x.yaml", workspace)
    except ConfigurationError as error:
        assert error.problems  # noqa: PT017 - either outcome is right
        for problem in error.problems:
            assert "Input should" not in str(problem)
            assert "not valid here" not in str(problem)  # every kind of mistake has its words
            assert problem.line == 1
    else:
        assert restore(resolved.canonical) == resolved.experiment


def inner_places(tree: Any) -> Iterator[tuple[Any, Any]]:
    steps = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for step in steps:
        yield tree, step
        yield from inner_places(tree[step])
