"""Every code that the analysis can make has its words, so that no page falls back to English."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from klartext.analysis.result import Verdict
from klartext.experiments.batches import BatchKind
from klartext.experiments.experiment import COST_CATEGORIES
from klartext.experiments.lifecycle import TRANSITIONS
from klartext.reports.conditions import CONDITION_VALUES
from klartext.reports.language import catalogue

ROOT = Path(__file__).parents[2]
PACKAGE = "klartext.analysis"
KEYS = set(catalogue("en"))


@cache  # twenty tests ask
def sources(folder: str) -> dict[Path, ast.Module]:
    """Return the modules of a folder; of the analysis those that an evaluation can reach."""
    if folder != "analysis":
        paths = sorted((ROOT / folder).rglob("*.py"))
        return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    found: dict[Path, ast.Module] = {}
    waiting = [ROOT / "analysis" / name for name in ("evaluate.py", "readout.py", "document.py")]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found[path] = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(found[path]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                place = ROOT.joinpath("analysis", *(node.module or "").split(".")[2:])
                waiting.append(place.with_suffix(".py"))
                waiting += [place / f"{name.name}.py" for name in node.names]
    return found


def calls(folder: str, *names: str) -> Iterator[ast.Call]:
    for tree in sources(folder).values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else ""
                name = function.id if isinstance(function, ast.Name) else name
                if name in names:
                    yield node


def text_argument(call: ast.Call, place: int, keyword: str) -> str | None:
    values = [one.value for one in call.keywords if one.arg == keyword]
    values += call.args[place : place + 1]
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return None


def codes(folder: str, place: int, keyword: str, *names: str) -> set[str]:
    found = {text_argument(call, place, keyword) for call in calls(folder, *names)}
    return {code for code in found if code is not None}


def test_every_reason_for_a_missing_number_has_words() -> None:
    found = codes("analysis", 0, "reason", "NotEstimable")
    assert len(found) > 10
    assert {code for code in found if f"missing.{code}" not in KEYS} == set()


def test_every_condition_of_a_decision_has_words() -> None:
    found = codes("analysis", 0, "code", "Reason", "compared", "unmet")
    assert {"net_benefit_lower", "guardrail", "approvals", "budget"} <= found
    for code in found:
        assert f"condition.{code}.text" in KEYS, code
        assert f"condition.{code}.change" in KEYS, code


def test_every_condition_with_a_value_says_what_it_is() -> None:
    without = {
        "incident",
        "registration",
        "adaptive_allocation",
        "deciding_look",
        "planned_look",
        "drift",
        "other_treatment",
    }
    found = codes("analysis", 0, "code", "Reason", "compared", "unmet")
    assert found - without <= set(CONDITION_VALUES)


def test_every_rule_has_words() -> None:
    found = codes("analysis", 2, "rule", "_decision", "_signed")
    assert {"go", "loss", "safety", "continue"} <= found
    assert {code for code in found if f"rule.{code}" not in KEYS} == set()


def checks() -> dict[str, set[str]]:
    """Return the severities that the code names beside each check's code."""
    found: dict[str, set[str]] = {}
    for path, tree in sources("analysis").items():
        source = path.read_text(encoding="utf-8")
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            body = ast.get_source_segment(source, function) or ""
            severities = set(re.findall(r'"(ok|info|warning|invalid)"', body))
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Check":
                    code = text_argument(call, 0, "code")
                    if code is not None:
                        stated = text_argument(call, 1, "severity")
                        found.setdefault(code, set()).update({stated} if stated else severities)
    return found


@pytest.mark.parametrize(("code", "severities"), sorted(checks().items()))
def test_every_check_has_words_and_advice(code: str, severities: set[str]) -> None:
    assert f"check.{code}.name" in KEYS
    assert {one for one in severities if f"check.{code}.{one}" not in KEYS} == set()


def test_every_invalidating_check_has_words_as_a_condition() -> None:
    for code, severities in checks().items():
        if "invalid" in severities:
            assert f"condition.{code}.text" in KEYS, code
            assert f"condition.{code}.change" in KEYS, code


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_says_what_it_means_and_what_to_do(verdict: str) -> None:
    for part in ("word", "headline", "meaning", "next", "next_unregistered"):
        assert f"verdict.{verdict}.{part}" in KEYS


def test_closed_lists_have_words() -> None:
    assert {code for code in COST_CATEGORIES if f"cost_category.{code}" not in KEYS} == set()
    assert {code for code in get_args(BatchKind) if f"batch_kind.{code}" not in KEYS} == set()
    assert {code for code in TRANSITIONS if f"status.{code}" not in KEYS} == set()
    behaviours = codes("analysis", 1, "behaviour", "CostItem", "replace")
    behaviours |= {"once", "amortised", "month", "unit", "event", "call", "shared"}
    assert {code for code in behaviours if f"behaviour.{code}" not in KEYS} == set()


def test_every_estimator_has_a_name() -> None:
    found = codes("analysis", 0, "method", "Estimate")
    assert found
    assert {name for name in found if f"method.{name}" not in KEYS} == set()


def test_every_key_that_the_reports_name_has_words() -> None:
    found = {key for key in codes("reports", 0, "key", "text") if "." in key}
    assert "method.bayes" in found
    assert {key for key in found if key not in KEYS} == set()


def test_every_recorded_action_has_words() -> None:
    source = (ROOT / "experiments" / "lifecycle.py").read_text(encoding="utf-8")
    table = source[source.index("_ACTIONS") : source.index("def transition")]
    actions = set(re.findall(r': "([a-z-]+)"', table)) | {"resume"}
    for folder in ("experiments", "app"):
        actions |= codes(folder, 3, "action", "record")
    assert {"start", "register"} <= actions
    assert {one for one in actions if f"action.{one}" not in KEYS} == set()


OTHER_PAGES = (
    "baseline", "break_even", "history", "outcome", "planning", "proposal", "question", "stakes",
    "portfolio", "winners_curse",
)  # fmt: skip


@pytest.mark.parametrize("module", OTHER_PAGES)
def test_every_reason_and_note_of_plan_and_portfolio_has_words(module: str) -> None:
    tree = ast.parse((ROOT / "analysis" / f"{module}.py").read_text(encoding="utf-8"))
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            place = {"NotEstimable": "missing", "Note": "plan.note"}.get(call.func.id)
            code = text_argument(call, 0, "reason")
            if place is not None and code is not None:
                assert f"{place}.{code}" in KEYS


def test_every_key_that_a_page_asks_for_has_words() -> None:
    asked = codes("reports", 0, "key", "text") | codes("app", 0, "key", "text")
    assert "method.running" in asked
    assert {key for key in asked if "." in key} - KEYS == set()


def test_words_of_a_section_are_of_nothing_else() -> None:
    status = {key.removeprefix("status.") for key in KEYS if key.startswith("status.")}
    assert status == set(TRANSITIONS)


@pytest.mark.parametrize("code", sorted(checks()))
def test_every_check_is_documented(code: str) -> None:
    assert f"`{code}`" in (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
