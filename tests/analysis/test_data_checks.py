from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from klartext.analysis.amounts import Amounts
from klartext.analysis.data_checks import data_checks
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.quantiles import Observations
from klartext.analysis.readout import Readout
from klartext.analysis.result import Check, CostCompleteness
from klartext.analysis.segments import Level, LevelMoments, Segment
from klartext.experiments.experiment import Costs, Variant
from tests.analysis.samples import experiment, readout

KNOWN = CostCompleteness(0, 0, 0, 1.0, ())
CLEAN = Amounts("revenue", 1000, 100, True, 0, 0, 0)  # noqa: FBT003 - is_money


def found(control: int = 1000, ai: int = 1000, **given: Any) -> Readout:
    names = ("conversion", "revenue", "margin", "cost")
    units = {
        key: {name: (np.arange(n) % 10 == 0).astype(np.float64) for name in names}
        for key, n in (("control", control), ("ai", ai))
    }
    return readout(experiment(), units, **given)


def checks(readout_: Readout, known: CostCompleteness = KNOWN, **spec: Any) -> dict[str, Check]:
    return {check.code: check for check in data_checks(experiment(**spec), readout_, known)}


def test_clean_data_pass_every_check() -> None:
    severities = {check.severity for check in checks(found(amounts=(CLEAN,))).values()}
    assert severities == {"ok", "info"}


def test_a_wrong_split_invalidates() -> None:
    assert checks(found(700, 1300))["srm"].severity == "invalid"


def test_the_split_of_a_bandit_is_not_tested() -> None:
    assert checks(found(700, 1300), kind="bandit")["srm"].severity == "info"


def test_rounded_equal_shares_are_equal() -> None:
    uneven = (Variant("control", 500_001, {}), Variant("ai", 499_999, {}))
    third = (Variant("control", 333_334, {}), Variant("ai", 333_333, {}))
    exact = checks(found(900, 1000))["srm"].value
    assert checks(found(900, 1000), variants=third)["srm"].value == exact
    assert checks(found(900, 1000), variants=uneven)["srm"].value != exact


def test_a_quantile_without_an_event_in_one_variant_is_missed() -> None:
    """Of 300 deliveries none came from ai, which has half of the units: a chance of 2^-300."""
    given = {
        "control": Observations.of(np.arange(300.0)),
        "ai": Observations.of(np.empty(0)),
    }
    silent = checks(found(observations={"delivery": given}))["missing_outcomes"]
    assert (silent.severity, silent.detail) == (
        "warning",
        "no outcome of delivery in ai, 300 in the others",
    )
    heard = given | {"ai": given["control"]}
    assert checks(found(observations={"delivery": heard}))["missing_outcomes"].severity == "ok"
    many = NotEstimable("too-many-values", "")
    assert checks(found(observations={"delivery": many}))["missing_outcomes"].severity == "ok"


@pytest.mark.parametrize(("strangers", "severity"), [(0, "ok"), (10, "warning"), (30, "invalid")])
def test_units_in_unregistered_variants(strangers: int, severity: str) -> None:
    assert checks(found(strangers=strangers))["variants"].severity == severity


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        ({"missing": 11}, "missing_amount", "warning"),
        ({"foreign": 11}, "foreign_currency", "warning"),
        ({"foreign": 12}, "foreign_currency", "invalid"),
        ({"bare": 11}, "no_currency", "warning"),
        ({"bare": 12}, "no_currency", "invalid"),
        ({"negative_refunds": 1}, "negative_refund", "warning"),
    ],
)
def test_amounts_that_could_not_be_counted(
    change: dict[str, int], code: str, severity: str
) -> None:
    dirty: Any = replace(CLEAN, **change)  # type: ignore[arg-type]  # fields by name
    assert checks(found(amounts=(dirty,)))[code].severity == severity


@pytest.mark.parametrize(
    ("known", "severity"),
    [
        (CostCompleteness(100, 100, 0, 1.0, ()), "ok"),
        (CostCompleteness(100, 94, 0, 0.94, (), 0.99), "warning"),
        (CostCompleteness(100, 100, 2, 0.98, (), 0.90), "warning"),
        (CostCompleteness(0, 0, 0, 1.0, ()), "info"),
    ],
)
def test_completeness_counts_calls_and_money(known: CostCompleteness, severity: str) -> None:
    assert checks(found(), known)["cost_complete"].severity == severity


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (CostCompleteness(0, 0, 0, 1.0, (), calls_after=31), "no AI call counts: 31 came after"),
        (CostCompleteness(2, 1, 0, 0.5, (), calls_after=31), "1 of 2 .* 31 more came after"),
    ],
)
def test_completeness_says_which_calls_came_too_late(known: CostCompleteness, words: str) -> None:
    assert re.search(words, checks(found(), known)["cost_complete"].detail)


def test_a_promised_source_without_calls_is_a_warning() -> None:
    known = CostCompleteness(0, 0, 0, 0.0, ("qa",), 0.0)
    check = checks(found(), known, costs=Costs(None, "gateway", ()))["cost_complete"]
    assert check.severity == "warning"
    assert "gateway" in check.detail
    assert "qa" in check.detail


@pytest.mark.parametrize(("units", "severity"), [((500, 520), "ok"), ((600, 420), "warning")])
def test_the_split_within_segments_warns_and_never_invalidates(
    units: tuple[int, int], severity: str
) -> None:
    cuts = [dict(zip(("control", "ai"), pair, strict=True)) for pair in (units, (510, 500))]
    levels = tuple(
        LevelMoments(Level("value", name), found, {})
        for name, found in zip(("DE", "AT"), cuts, strict=True)
    )
    seen = checks(found(segments=(Segment("country", levels),)))["srm_segments"]
    assert seen.severity == severity
    assert "of 2 levels" in seen.detail
