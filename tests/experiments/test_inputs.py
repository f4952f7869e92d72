"""Business inputs: which there are, what they are called, and who may not be one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.changes import classify
from klartext.experiments.errors import ConflictError, NotFoundError
from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    Experiment,
    Rollout,
    Saving,
    Worth,
)
from klartext.experiments.inputs import find, inputs, revised
from tests.analysis.samples import experiment

D = Decimal


def one(value: str, low: str | None = None, high: str | None = None, **said: Any) -> Assumption:
    lowest, highest = (None if text is None else D(text) for text in (low, high))
    return Assumption(D(value), lowest, highest, **said)


SPEC = experiment(
    value=(
        ContributionMargin("revenue", one("0.42", "0.38", "0.45", source="DB", owner="m.huber")),
        Worth("conversion", one("-6.50")),
        Saving("Texte & Bilder", one("12"), one("60"), one("0.5"), "ai"),
        Saving("texte: bilder", one("1"), one("60"), one("0.5"), "ai"),
    ),
    costs=Costs(
        D(5000),
        None,
        (
            CostLine("engineering", "once", one("15200", "14000"), "ai", hours=D(160), rate=D(95)),
            CostLine("qa", "month", one("10"), None, label="Prüfung"),
            CostLine("qa", "month", one("20"), None),
            CostLine("qa", "unit", one("0.01"), None),
        ),
    ),
    rollout=Rollout(one("500000"), one("0.8"), one("0.7", "0.5", "0.9"), one("0.1")),
)
PATHS = (
    "value.revenue.contribution_margin",
    "value.conversion.worth",
    "value.texte-bilder.hours",
    "value.texte-bilder.rate",
    "value.texte-bilder.realised",
    "value.texte-bilder-2.hours",
    "value.texte-bilder-2.rate",
    "value.texte-bilder-2.realised",
    "costs.engineering.amount",
    "costs.prüfung.amount",
    "costs.qa.amount",
    "costs.qa-2.amount",
    "rollout.units_per_year",
    "rollout.share",
    "rollout.persistence",
    "rollout.discount_rate",
)


def test_every_input_has_a_path_of_its_own() -> None:
    assert tuple(found.path for found in inputs(SPEC)) == PATHS


@given(st.lists(st.text(min_size=1, max_size=60), max_size=6))
def test_no_two_inputs_have_one_path_whatever_their_names(names: list[str]) -> None:
    lines = tuple(CostLine("qa", "once", one("1"), None, label=name) for name in names)
    savings = tuple(Saving(name, one("1"), one("1"), one("1"), "ai") for name in names)
    spec = replace(SPEC, costs=Costs(None, None, lines), value=savings)
    paths = [found.path for found in inputs(spec)]
    assert len(set(paths)) == len(paths)
    assert not any(character in path for path in paths for character in " ,=")
    assert all(path.count(".") in {1, 2} for path in paths)


@pytest.mark.parametrize("path", PATHS)
def test_a_revision_changes_its_input_and_nothing_else(path: str) -> None:
    new = D("0.4") if find(SPEC, path).unit == "fraction" else D(3)
    after = revised(SPEC, {path: new})
    before = {found.path: found.assumption for found in inputs(SPEC)}
    for found in inputs(after):
        if found.path == path:
            assert found.assumption.base == new
        else:
            assert found.assumption == before[found.path]
    heads = {change.path.split(".")[0].split("[")[0] for change in classify(SPEC, after)}
    assert heads == {path.split(".", maxsplit=1)[0]}


def test_a_range_keeps_the_ends_that_the_value_does_not_pass() -> None:
    path = "value.revenue.contribution_margin"
    inside = find(revised(SPEC, {path: D("0.40")}), path).assumption
    assert inside == Assumption(D("0.40"), D("0.38"), D("0.45"), None, "m.huber")
    below = find(revised(SPEC, {path: D("0.30")}), path).assumption
    assert (below.low, below.high) == (None, D("0.45"))
    above = find(revised(SPEC, {path: D("0.50")}), path).assumption
    assert (above.low, above.high) == (D("0.38"), None)


def test_an_amount_of_hours_times_a_rate_becomes_a_plain_amount() -> None:
    line = revised(SPEC, {"costs.engineering.amount": D(20_000)}).costs.lines[0]
    assert (line.amount.base, line.amount.low) == (D(20_000), D(14_000))
    assert (line.hours, line.rate) == (None, None)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("value.revenue.contribution_margin", "1.01"),
        ("value.revenue.contribution_margin", "-0.01"),
        ("value.texte-bilder.realised", "2"),
        ("value.texte-bilder.hours", "-1"),
        ("costs.qa.amount", "-0.01"),
        ("rollout.units_per_year", "0"),
        ("rollout.units_per_year", "NaN"),
        ("rollout.share", "1.5"),
        ("rollout.persistence", "Infinity"),
        ("rollout.discount_rate", "-0.1"),
    ],
)
def test_a_value_that_the_input_cannot_have_is_refused(path: str, value: str) -> None:
    with pytest.raises(ConflictError, match=rf"{path} cannot be"):
        revised(SPEC, {path: D(value)})


def test_a_worth_may_be_negative() -> None:
    assert revised(SPEC, {"value.conversion.worth": D(-9)}).value[1].amount.base == -9  # type: ignore[union-attr]  # a Worth


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("inference.alpha", "error rate"),
        ("alpha", "error rate"),
        ("control", "every effect is measured against it"),
        ("decision.expected_loss", "before the first exposure"),
        ("hurdle_roi", "before the first exposure"),
        ("costs.budget", "before the first exposure"),
        ("metrics[revenue].window", "announced|business input"),
        ("variants[ai].weight", "which units get which"),
        ("plan.total_units", "follow from the plan"),
        ("guardrails", "before the first exposure"),
    ],
)
def test_the_design_cannot_be_revised(path: str, why: str) -> None:
    with pytest.raises(ConflictError, match=why) as refused:
        revised(SPEC, {path: D(1)})
    assert "rollout.persistence" in str(refused.value)


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("rollout.persistance", "rollout.persistence"),
        ("value.revenue.margin", "value.revenue.contribution_margin"),
        ("costs.qa.amout", "costs.qa.amount"),
        ("", "It has"),
        ("nonsense", "It has"),
    ],
)
def test_a_path_that_is_none_names_the_nearest(path: str, near: str) -> None:
    with pytest.raises(NotFoundError, match=near):
        revised(SPEC, {path: D(1)})


def test_an_experiment_without_money_has_no_inputs() -> None:
    bare: Experiment = experiment(value=())
    assert inputs(bare) == ()
    with pytest.raises(NotFoundError, match="It has none"):
        find(bare, "rollout.share")
