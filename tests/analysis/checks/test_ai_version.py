"""AI version: calls against the registered models and prompts."""

from __future__ import annotations

import pytest

from klartext.analysis.checks import ai_version
from klartext.analysis.checks.ai_version import AiCalls
from klartext.experiments.experiment import AiModel

SPEC = {"control": None, "ai": AiModel("gpt-4o-2024-11-20", prompt="subject@7"),
        "free": AiModel("haiku")}  # fmt: skip
GOOD = AiCalls("ai", "gpt-4o-2024-11-20", "subject@7", 95)


@pytest.mark.parametrize(
    ("call", "severity"),
    [
        (AiCalls("ai", "gpt-4o-2024-11-20", None, 5), "ok"),  # says nothing about its prompt
        (AiCalls("free", "haiku", "any@1", 5), "ok"),  # no prompt is registered
        (AiCalls("retired", "other", None, 5), "ok"),  # no variant of the spec
        (AiCalls("ai", "gpt-4o", "subject@7", 5), "warning"),  # an alias is another name
        (AiCalls("ai", "gpt-4o-2024-11-20", "subject@8", 5), "warning"),
        (AiCalls("control", "gpt-4o-2024-11-20", None, 5), "warning"),  # no AI is registered there
    ],
)
def test_what_differs_warns(call: AiCalls, severity: str) -> None:
    found = ai_version.check(SPEC, (GOOD, call))
    assert found.severity == severity
    assert found.value == pytest.approx(0.05 if severity == "warning" else 0.0)


def test_the_warning_names_the_most_frequent_stranger() -> None:
    calls = (GOOD, AiCalls("ai", "b", None, 2), AiCalls("ai", "a", "p@1", 3))
    assert ai_version.check(SPEC, calls).detail == (
        "5.0% of 100 calls are not as registered, most of them a with prompt p@1 in ai"
    )


def test_nothing_to_compare_is_said() -> None:
    for registered, calls in ((SPEC, ()), ({"control": None, "ai": None}, (GOOD,))):
        found = ai_version.check(registered, calls)
        assert (found.severity, found.value) == ("info", None)
