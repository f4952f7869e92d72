import pytest

from klartext.experiments.spec.linter import lint
from tests.experiments.spec.conftest import EXPERIMENT, Read, changed


def warned(read: Read, *replacements: tuple[str, str]) -> list[tuple[int, str]]:
    resolved = read(changed(*replacements))
    warnings = lint(resolved.experiment, resolved.source, "x.yaml")
    assert all(warning.message and warning.fix.endswith(".") for warning in warnings)
    return [(warning.line, warning.code) for warning in warnings]


def section(key: str) -> str:
    """Return a top-level key of the example with all its lines."""
    lines = EXPERIMENT.splitlines(keepends=True)
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
    end = next((i for i in range(start + 1, len(lines)) if lines[i][0] != " "), len(lines))
    return "".join(lines[start:end])


def test_the_example_is_wise(read: Read) -> None:
    assert warned(read) == []


@pytest.mark.parametrize(
    ("old", "new", "warnings"),
    [
        (section("hypothesis"), "", [(1, "no-hypothesis")]),
        (section("guardrails"), "", [(1, "no-guardrail")]),
        (section("value"), "", [(1, "no-value")]),
        (section("costs"), "", [(1, "no-costs")]),
        (section("rollout"), "", [(1, "no-rollout")]),
        (section("value").splitlines(keepends=True)[1], "", [(20, "savings-only")]),
        ("latest_end: 2027-03-31, ", "", [(30, "no-end")]),
        ("min_duration: 14d", "min_duration: 10d", [(32, "part-week")]),
        ("window: 14d, refunds", "window: 90d, refunds", [(30, "window-too-long")]),
        ("  usage:", "  window: 90d\n  usage:", [(31, "window-too-long")]),
        ("  usage:", "  window: 13d\n  usage:", [(25, "cost-window")]),
        ("{metric: unsubscribe, may_worsen_by: 0.2pp}", "{metric: conversion, at_most: 9%}",
         [(19, "guardrail-direction")]),
        ("unit: customer", "unit: customer\nexposure: {event: mail_sent}",
         [(8, "exposure-after-treatment")]),
        ("unit: customer",
         "unit: customer\nassignment: external\nexposure: {event: mail_sent}", []),
        ("unit: customer", "unit: customer\nassignment: external\nexposure: {event: refund}",
         [(9, "exposure-outcome")]),
        ("unit: customer", "unit: customer\nassignment: external\nexposure: {event: review}",
         [(9, "exposure-outcome")]),
    ],
)  # fmt: skip
def test_what_is_legal_but_unwise(
    read: Read, old: str, new: str, warnings: list[tuple[int, str]]
) -> None:
    assert warned(read, (old, new)) == warnings


def test_an_imported_experiment_needs_no_plan(read: Read) -> None:
    replacements = (
        ("unit: customer", "unit: customer\nregistration: retrospective"),
        ("mode: anytime, ", ""),
        (section("plan"), ""),
        ("min_duration: 14d, ", ""),
    )
    assert warned(read, *replacements) == []
