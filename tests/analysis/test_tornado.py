"""The tornado: every figure by hand, and against the decision view made anew."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from klartext.analysis.adjusted import money
from klartext.analysis.document import to_json
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.look import planned_look
from klartext.analysis.projection import decision_view
from klartext.analysis.readout import Readout
from klartext.analysis.result import DecisionView, Sway, TreatmentResult
from klartext.analysis.tornado import tornado
from klartext.experiments.experiment import (
    Assumption,
    ContributionMargin,
    CostLine,
    Costs,
    Covariate,
    Experiment,
    Inference,
    Rollout,
    Saving,
    Worth,
)
from klartext.experiments.inputs import revised
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    WATERMARK,
    evaluated,
    experiment,
    readout,
)
from tests.analysis.test_booked import booked, one

MONTHS = Fraction(3)


def range_of(base: str, low: str | None = None, high: str | None = None) -> Assumption:
    return Assumption(*(None if text is None else Decimal(text) for text in (base, low, high)))  # type: ignore[arg-type]  # the base is no None


SPEC = experiment(
    inference=Inference("fixed", Decimal("0.05"), Decimal("0.1")),
    metrics=(CONVERSION, REVENUE),
    value=(
        ContributionMargin("revenue", range_of("0.4", "0.3", "0.5")),
        Saving("Copy writing", range_of("2"), range_of("50"), range_of("0.5", "0.2", "0.6"), "ai"),
    ),
    costs=Costs(
        None,
        None,
        (
            CostLine("engineering", "amortised", range_of("2400"), "ai", life_months=24),
            CostLine("human_review", "event", range_of("1.50", "1", "2"), "ai", event="review"),
            CostLine("inference_compute", "unit", range_of("0.05"), "ai"),
            CostLine("monitoring", "month", range_of("50", None, "60"), "ai"),
            CostLine("monitoring", "month", range_of("10"), "control"),
            CostLine("media", "unit", range_of("3", "2", "4"), None),
        ),
    ),
    rollout=Rollout(
        range_of("1000", "800"), range_of("0.5"), range_of("0.8", "0.6", "1"), range_of("0.1")
    ),
)
COUNTS = {"control": np.zeros(10), "ai": np.array([1.0, 1, 0, 0, 0, 0, 0, 0, 0, 0])}
REVENUES = {"control": np.full(10, 10.0) + np.arange(10) - 4.5, "ai": np.arange(10) + 7.5}


def rows_of(spec: Experiment) -> dict[str, dict[str, npt.NDArray[np.float64]]]:
    """Ten units a variant: revenue 12 against 10, calls of 0.10, a fifth of the mails reviewed."""
    (entry, *_), (_, review, unit, *_) = spec.value, spec.costs.lines
    assert isinstance(entry, ContributionMargin)
    found = {}
    for variant, revenue in REVENUES.items():
        treated = float(variant == "ai")
        each = 0.1 + float(unit.amount.base)
        found[variant] = {
            "conversion": np.ones(10),
            "revenue": revenue,
            "events.review": COUNTS[variant],
            "margin": float(entry.rate.base) * revenue,
            "cost": treated * (each + float(review.amount.base) * COUNTS[variant]),
        }
    return found


def view_of(spec: Experiment, found: Readout) -> DecisionView:
    look = planned_look(spec, "ai", mature=20)
    return decision_view(spec, found, "ai", test_months=MONTHS, look=look)


def swings(spec: Experiment, found: Readout) -> dict[str, Sway]:
    moments = (found.moments["ai"], found.moments["control"])
    view = view_of(spec, found)
    ordered = tornado(spec, "ai", moments, test_months=MONTHS, net_benefit=view.net_benefit)
    return {one.input.path: one for one in ordered}


BY_HAND: dict[str, tuple[float | None, float | None, float | str, bool | None]] = {
    # as registered 500 (0.8 * 0.4 * 2 - 0.1 - 0.2 * 1.50 - 0.05) + 0.8 * 12 * 2 * 50 * 0.5 - 600,
    # which is 500 * 0.19 + 480 - 600 = -25
    # 500 (1.6 r - 0.45) - 120: 15 - 120 at 30 %, 175 - 120 at 50 %, 0 at 0.69 / 1.6
    "value.revenue.contribution_margin": (-105.0, 55.0, 0.43125, True),
    # 1000 p - 225 - 600: the margin and the saving persist, cost does not
    "rollout.persistence": (-225.0, 175.0, 0.825, True),
    # 500 (0.64 - 0.15 - 0.2 a) - 120 = 125 - 100 a
    "costs.human_review.amount": (25.0, -75.0, 1.25, True),
    # 95 + 960 q - 600
    "value.copy-writing.realised": (-313.0, 71.0, 505 / 960, True),
    # 575 - 12 m; the lower end is the base
    "costs.monitoring.amount": (-25.0, -145.0, 575 / 12, False),
    # 0.095 N - 120, the upper end is the base
    "rollout.units_per_year": (-44.0, -25.0, 120 / 0.095, False),
    # 190 s - 120
    "rollout.share": (None, None, 120 / 190, None),
    "value.copy-writing.hours": (None, None, 505 / 240, None),
    "value.copy-writing.rate": (None, None, 505 / 9.6, None),
    # 500 times (0.24 - u), less 120
    "costs.inference_compute.amount": (None, None, 0.0, None),
    # everybody is exposed to the media: no difference
    "costs.media.amount": (-25.0, -25.0, "no-dependence", None),
    # at a share below 100 % the control's monitoring goes on
    "costs.monitoring-2.amount": (None, None, "no-dependence", None),
    "costs.engineering.amount": (None, None, "sunk", None),
    "rollout.discount_rate": (None, None, "present-value", None),
}


def test_the_example_by_hand() -> None:
    found = readout(SPEC, rows_of(SPEC))
    assert view_of(SPEC, found).net_benefit == pytest.approx(-25)
    by_path = swings(SPEC, found)
    assert set(by_path) == set(BY_HAND)
    for path, (low, high, zero, in_range) in BY_HAND.items():
        sway = by_path[path]
        if low is None:
            assert isinstance(sway.at_low, NotEstimable)
            assert sway.at_low.reason == "no-range"
        else:
            assert [sway.at_low, sway.at_high] == pytest.approx([low, high]), path
        if isinstance(zero, str):
            assert isinstance(sway.break_even, NotEstimable)
            assert sway.break_even.reason == zero, path
        else:
            assert sway.break_even == pytest.approx(zero, abs=1e-9), path
        assert sway.in_range is in_range, path


def test_the_widest_comes_first_and_what_has_no_range_last() -> None:
    order = list(swings(SPEC, readout(SPEC, rows_of(SPEC))))
    assert order[:6] == [
        "rollout.persistence",  # 400
        "value.copy-writing.realised",  # 384
        "value.revenue.contribution_margin",  # 160
        "costs.monitoring.amount",  # 120
        "costs.human_review.amount",  # 100
        "rollout.units_per_year",  # 19
    ]
    assert order[6:] == sorted(order[6:])


@pytest.mark.parametrize("path", [p for p, row in BY_HAND.items() if not isinstance(row[2], str)])
def test_the_break_even_value_makes_the_net_benefit_zero(path: str) -> None:
    sway = swings(SPEC, readout(SPEC, rows_of(SPEC)))[path]
    assert not isinstance(sway.break_even, NotEstimable)
    spec = revised(SPEC, {path: Decimal(max(sway.break_even, 0.0))})
    assert view_of(spec, readout(spec, rows_of(spec))).net_benefit == pytest.approx(0, abs=1e-9)


def test_a_loss_that_no_margin_makes_good_has_no_break_even() -> None:
    rows = rows_of(SPEC)
    rows["ai"]["revenue"], rows["control"]["revenue"] = (
        rows["control"]["revenue"],
        rows["ai"]["revenue"],
    )
    for columns in rows.values():
        columns["margin"] = 0.4 * columns["revenue"]
    sway = swings(SPEC, readout(SPEC, rows))["value.revenue.contribution_margin"]
    assert isinstance(sway.break_even, NotEstimable)
    assert (sway.break_even.reason, sway.in_range) == ("no-break-even", False)


def test_a_share_of_everybody_ends_what_the_control_costs() -> None:
    rollout = SPEC.rollout
    assert rollout is not None
    whole = replace(SPEC, rollout=replace(rollout, share=range_of("1", "0.5")))
    found = swings(whole, readout(whole, rows_of(whole)))
    # 1000 * 0.19 + 480 - 12 (50 - 10); at a half it is -25 as before
    sway = found["rollout.share"]
    assert [sway.at_low, sway.at_high] == pytest.approx([-25, 190])
    assert sway.break_even == pytest.approx(120 / 190)
    assert sway.in_range
    # 190 + 12 (c - 10): no cost from zero on makes it a loss
    assert found["costs.monitoring-2.amount"].break_even == NotEstimable(
        "no-break-even", "no value that the input can have makes the net benefit zero"
    )


def test_a_zero_inside_the_jump_of_a_full_share_is_none() -> None:
    """190 s - 300 below a share of 100 %, and 190 - 300 + 120 = 10 at it: it is never zero."""
    rollout = SPEC.rollout
    assert rollout is not None
    lines = [
        replace(line, amount=range_of("65" if line.variant == "ai" else "10"))
        if line.behaviour == "month"
        else line
        for line in SPEC.costs.lines
    ]
    spec = replace(SPEC, costs=replace(SPEC.costs, lines=tuple(lines)))
    sway = swings(spec, readout(spec, rows_of(spec)))["rollout.share"]
    assert isinstance(sway.break_even, NotEstimable)
    assert sway.break_even.reason == "no-break-even"


def with_history(spec: Experiment, rng: np.random.Generator, n: int) -> dict[str, Any]:
    """Units whose revenue, purchases and reviews follow from what they bought before."""
    found = {}
    for variant, lift in (("control", 0.0), ("ai", 2.0)):
        before = rng.exponential(20, n)
        revenue = 5 + before * rng.uniform(0.2, 0.9, n) + lift
        conversion = (rng.random(n) < 0.2 + before / 200).astype(float)
        reviews = rng.poisson(0.1 + before / 40).astype(float)
        found[variant] = {
            "conversion": conversion,
            "revenue": revenue,
            "covariate.before": before,
            "events.review": reviews,
            "calls": rng.exponential(0.05, n),
        }
    return priced(spec, found)


def priced(spec: Experiment, rows: dict[str, Any]) -> dict[str, Any]:
    """Margin and cost from scratch, as the unit table makes them."""
    found = {}
    for variant, columns in rows.items():
        margin = np.zeros(len(columns["revenue"]))
        for entry in spec.value:
            match entry:
                case ContributionMargin(metric, rate) | Worth(metric, rate):
                    margin = margin + float(rate.base) * columns[metric]
        cost = columns["calls"].copy()
        for line in spec.costs.lines:
            if line.variant in {None, variant}:
                each = float(line.amount.base)
                cost += each * (columns["events.review"] if line.event else 1.0)
        found[variant] = {**columns, "margin": margin, "cost": cost}
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_covariates_it_is_the_adjusted_view_made_anew(seed: int) -> None:
    spec = replace(
        SPEC,
        metrics=(CONVERSION, replace(REVENUE, covariates=(Covariate(name="before"),))),
        value=(
            ContributionMargin("revenue", range_of("0.4", "0.3", "0.5")),
            Worth("conversion", range_of("-2", "-3", "1")),
        ),
        costs=Costs(
            None,
            None,
            (
                CostLine("human_review", "event", range_of("1.50", "1", "2"), "ai", event="review"),
                CostLine("qa", "event", range_of("0.30", "0", "1"), None, event="review"),
                CostLine("other", "event", range_of("0.20", "0", "1"), "control", event="review"),
                CostLine("inference_compute", "unit", range_of("0.05", "0", "1"), "ai"),
            ),
        ),
    )
    rows = with_history(spec, np.random.default_rng(seed), 300)

    def anew(changed: Experiment) -> float:
        found = readout(changed, priced(changed, rows))
        look = planned_look(changed, "ai", mature=600)
        one, base = found.moments["ai"], found.moments["control"]
        both = money(changed, one, base, look=look, alpha=0.05)
        assert both.adjustment is not None
        assert both.adjustment.covariates == ("covariate.before",)
        found = replace(found, moments={"ai": both.treatment, "control": both.control})
        value = view_of(changed, found).net_benefit
        assert not isinstance(value, NotEstimable)
        return value

    found = readout(spec, rows)
    moments = (found.moments["ai"], found.moments["control"])
    ordered = tornado(spec, "ai", moments, test_months=MONTHS, net_benefit=anew(spec))
    stated = [one for one in ordered if one.input.assumption.low is not None]
    assert len(stated) == 8
    for sway in stated:
        for end, seen in (("low", sway.at_low), ("high", sway.at_high)):
            stated_end = getattr(sway.input.assumption, end)
            value = sway.input.assumption.base if stated_end is None else stated_end
            expected = anew(revised(spec, {sway.input.path: value}))
            assert seen == pytest.approx(expected, rel=1e-9), (sway.input.path, end)


def test_what_the_ledger_replaces_is_priced_by_the_ledger() -> None:
    """Part of the reviews and of next year's monitoring is billed: the stated amounts count less.

    Every end is what the whole analysis says of a spec with that value.
    """
    year: Any = {"start": WATERMARK.cutoff, "end": WATERMARK.cutoff + 181 * DAY}
    half: Any = {"start": START, "end": START + 17 * DAY}
    ledger = booked(
        one("900", replaces="monitoring", **year),
        one("3", "human_review", replaces="human_review", **half),
        one("70", "licences"),
    )
    rollout = SPEC.rollout
    assert rollout is not None
    seen: Any = {"events": {("ai", "review"): 2, ("control", "review"): 0}, "ledger": ledger}

    def view(spec: Experiment) -> TreatmentResult:
        return evaluated(spec, readout(spec, rows_of(spec), **seen)).treatments[0]

    for share in ("0.5", "1"):
        spec = replace(SPEC, rollout=replace(rollout, share=range_of(share, "0.4")))
        lines = spec.costs.lines
        lines = (*lines[:4], replace(lines[4], amount=range_of("10", "5", "30")), *lines[5:])
        spec = replace(spec, costs=replace(spec.costs, lines=lines))
        stated = [sway for sway in view(spec).tornado if not isinstance(sway.at_low, NotEstimable)]
        assert {"costs.human_review.amount", "costs.monitoring.amount", "rollout.share"} <= {
            sway.input.path for sway in stated
        }
        for sway in stated:
            for end, found in (("low", sway.at_low), ("high", sway.at_high)):
                value = getattr(sway.input.assumption, end)
                value = sway.input.assumption.base if value is None else value
                expected = view(revised(spec, {sway.input.path: value})).outlook.net_benefit
                assert found == pytest.approx(expected, rel=1e-9), (sway.input.path, end)


def test_without_a_net_benefit_every_input_says_why() -> None:
    refused = NotEstimable("too-few-units", "a variant has 0 units; two are needed")
    found = readout(SPEC, rows_of(SPEC))
    moments = (found.moments["ai"], found.moments["control"])
    ordered = tornado(SPEC, "ai", moments, test_months=MONTHS, net_benefit=refused)
    assert len(ordered) == len(BY_HAND)
    assert all(one.at_low == one.at_high == one.break_even == refused for one in ordered)


def test_the_document_has_what_was_stated_exactly_and_a_reason_for_every_null() -> None:
    found = evaluated(SPEC, readout(SPEC, rows_of(SPEC), events={("ai", "review"): 2}))
    document = to_json(found)["by_variant"]
    assert isinstance(document, list)
    assert isinstance(document[0], dict)
    rows: Any = document[0]["tornado"]
    first = rows[0]
    assert first == {
        "input": "rollout.persistence",
        "unit": "fraction",
        "base": "0.8",
        "low": "0.6",
        "high": "1",
        "net_benefit_at_low": pytest.approx(-225),
        "net_benefit_at_high": pytest.approx(175),
        "swing": pytest.approx(400),
        "break_even": pytest.approx(0.825),
        "in_range": True,
    }
    engineering = next(row for row in rows if row["input"] == "costs.engineering.amount")
    assert engineering["break_even"] is None
    assert {name: one["code"] for name, one in engineering["reason"].items()} == {
        "low": "no-range",
        "high": "no-range",
        "net_benefit_at_low": "no-range",
        "net_benefit_at_high": "no-range",
        "swing": "no-range",
        "break_even": "sunk",
        "in_range": "sunk",
    }
