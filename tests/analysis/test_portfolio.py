"""Sums over experiments by hand: all cost once, ROI of sums, launches with and without roll-out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.moments import Moments
from klartext.analysis.outlay import Outlay
from klartext.analysis.portfolio import (
    Entry,
    Portfolio,
    finding_of,
    portfolio_of,
)
from klartext.analysis.recorded import Figures, RecordedLook
from klartext.analysis.result import Verdict
from klartext.analysis.winners_curse import Corrected, Finding
from klartext.experiments.experiment import Assumption, Experiment, Rollout
from tests.analysis.samples import START, experiment

N = 10_000
NONE = NotEstimable("no-units", "no unit is mature")
OUTLAY = Outlay(Decimal(1000), Decimal(0), Decimal(0), Decimal(500), None, 0)
ROLLOUT = Rollout(*(Assumption(Decimal(given)) for given in ("100000", "1", "1", "0.1")))


def variant(margin: float, cost: float) -> Moments:
    """Margins of sd 20, a constant cost."""
    m2 = np.array([[(N - 1) * 400.0, 0.0], [0.0, 0.0]])
    return Moments(("margin", "cost"), N, np.array([margin, cost]), m2, np.zeros(2), np.full(2, N))


def look(
    effect: float, verdict: Verdict, *, units: float = 100_000.0, control: float = 10.0
) -> RecordedLook:
    """A look at 10,000 units each: a control that earns 10 EUR, a cost of 0.10 EUR per unit."""
    each = control * effect
    outlook = units * (each - 0.1)
    figures = Figures(
        variant="ai", mature_share=1.0, margin=N * each, incremental_cost=1000.0, cost=1000.0,
        net_benefit=N * each - 1000, interval=Interval(N * each - 3000, N * each + 1000, 0.95),
        units=units, persistence=1.0, fixed_cost=0.0,
        outlook=outlook, outlook_interval=Interval(outlook - 1, outlook + 1, 0.95),
    )  # fmt: skip
    moments = {"control": variant(control, 0.0), "ai": variant(control + each, 0.1)}
    go = verdict == "GO"
    return RecordedLook(
        1, START, 1, START, verdict, "go" if go else "loss", "ai" if go else None, registered=True,
        figures=(figures,), moments=moments,
    )  # fmt: skip


def entry(
    key: str,
    seen: RecordedLook | None,
    *,
    outlay: Outlay = OUTLAY,
    **given: object,
) -> Entry:
    spec: Experiment = experiment(key=key, **({"rollout": ROLLOUT} | given))
    launched = seen.variant if seen is not None else None
    return Entry(spec, "decided", START, START + timedelta(days=30), seen, launched, outlay)


def summed(*entries: Entry) -> Portfolio:
    return portfolio_of(
        entries, (), currency="EUR", timezone="UTC", generated_at=START + timedelta(days=60)
    )


LOSERS = tuple(
    entry(f"lost-{i}", look(effect, "STOP")) for i, effect in enumerate((-0.02, 0.0, 0.01, -0.01))
)


def test_roi_is_one_ratio_of_sums() -> None:
    found = summed(*LOSERS, entry("won", look(0.06, "GO")))
    assert isinstance(found.corrected, Corrected)
    assert not isinstance(found.result, NotEstimable)
    # five experiments at 1,500 EUR, and the launch costs 100,000 units at 0.10 EUR
    assert found.cost == Decimal(7500)
    assert found.result.charged == pytest.approx(7500)
    assert found.result.cost == pytest.approx(17_500)
    # as estimated: 100,000 (0.60 - 0.10) = 50,000; tests earned 10,000 * 10 * 0.04 = 4,000
    assert found.naive == pytest.approx(50_000)
    assert found.result.naive == pytest.approx(50_000 + 4_000 - 7_500)
    assert found.result.roi == pytest.approx(found.result.value / 17_500)
    assert isinstance(found.result.roi_interval, Interval)
    assert found.result.roi_interval.lower == pytest.approx(found.result.interval.lower / 17_500)
    # sums of the window view: no mean of five returns
    assert found.tests.net_benefit == pytest.approx(4_000 - 5_000)
    assert (found.tests.experiments, found.tests.cost) == (5, 5_000.0)


def test_a_launch_without_rollout_is_its_test_and_is_not_charged_for_it_again() -> None:
    won = entry("won", look(0.06, "GO", units=N), rollout=None)
    found = summed(*LOSERS, won)
    assert not isinstance(found.result, NotEstimable)
    # NB 10,000 (0.60 - 0.10) = 5,000 holds margin and running cost of the test; the four others
    # are charged 1,500 each and earned -2,000, the launch only its 500 once
    assert found.naive == pytest.approx(5_000)
    assert found.result.charged == pytest.approx(4 * 1_500 + 500)
    assert found.result.naive == pytest.approx(5_000 - 2_000 - 6_500)
    assert found.result.cost == pytest.approx(7_500)


def test_nothing_divides_by_cost_that_is_none() -> None:
    free = Outlay(Decimal(0), Decimal(0), Decimal(0), Decimal(0), None, 0)
    credit = replace(free, calls=Decimal(-10))
    for outlay in (free, credit):
        every = (*LOSERS, entry("e", None), entry("f", look(0.0, "CONTINUE")))
        found = summed(*(replace(one, outlay=outlay) for one in every))
        assert not isinstance(found.result, NotEstimable)
        assert isinstance(found.result.roi, NotEstimable)
        assert found.result.roi.reason == "no-cost"


def test_budgets_count_what_has_one() -> None:
    capped = Outlay(Decimal(90), Decimal(0), Decimal(5), Decimal(7), Decimal(100), 3)
    found = summed(entry("a", None, outlay=capped), entry("b", None))
    assert (found.budgeted, found.budget) == (Decimal(90), Decimal(100))
    assert found.cost == Decimal(102 + 1500)
    assert found.unpriced_calls == 3


def test_what_teaches_nothing_is_named() -> None:
    invalid = entry("invalid", look(0.0, "INVALID"))
    bandit = entry("bandit", look(0.0, "CONTINUE"), kind="bandit")
    poor = entry("poor", look(0.0, "STOP", control=0.1))
    found = summed(
        *LOSERS, entry("won", look(0.06, "GO")), invalid, bandit, poor, entry("new", None)
    )
    assert {key: why.reason for key, why in found.left_out} == {
        "invalid": "invalid-look", "bandit": "adaptive-allocation", "poor": "weak-control",
    }  # fmt: skip
    assert isinstance(found.corrected, Corrected)
    assert found.corrected.experiments == 5
    assert found.cost == Decimal(9 * 1500)  # their cost counts all the same
    assert found.tests.experiments == 7  # not the invalid one, not the one without a look


def test_a_launch_that_cannot_be_read_leaves_no_corrected_sum() -> None:
    found = summed(
        *LOSERS, entry("a", look(0.0, "CONTINUE")), entry("poor", look(0.5, "GO", control=0.1))
    )
    assert isinstance(found.corrected, NotEstimable)
    assert found.corrected.reason == "unreadable-launch"
    assert "poor" in found.corrected.detail
    assert isinstance(found.result, NotEstimable)
    assert isinstance(found.naive, float)


def test_a_programme_is_net_of_all_that_ran_beside_it_and_in_no_sum() -> None:
    def ran(key: str, *, began: int, ended: int | None) -> Entry:
        one = entry(
            key, None, outlay=Outlay(Decimal(77), Decimal(100), Decimal(20), Decimal(80), None, 0)
        )
        stopped = None if ended is None else START + timedelta(days=ended)
        return replace(one, started_at=START + timedelta(days=began), stopped_at=stopped)

    seen = look(0.05, "CONTINUE")
    seen = replace(seen, figures=(replace(seen.figures[0], mature_share=0.5),))
    first, second = experiment().variants
    held = replace(
        entry("all-ai", seen, scope="programme",
              variants=(replace(first, weight=50_000), replace(second, weight=950_000)),
              outlay=Outlay(Decimal(1000), Decimal(0), Decimal(0), Decimal(30), None, 0)),
        started_at=START + timedelta(days=10), stopped_at=None,
    )  # fmt: skip
    over, across, within = (
        ran("over", began=0, ended=9), ran("across", began=0, ended=20),
        ran("within", began=30, ended=None),
    )  # fmt: skip
    found = summed(over, across, held, within)
    assert [one.key for one in found.entries] == ["over", "across", "within"]
    # three times 277 EUR, and 30 EUR that the programme itself states; its calls are theirs
    assert found.cost == Decimal(3 * 277 + 30)
    assert found.tests.experiments == 0
    (said,) = found.programmes
    assert said.held_out == pytest.approx(0.05)
    # 10,000 (0.50 - 0.10) = 4,000; cost lines of the two that ran beside it, for half of the units
    assert said.net_benefit == pytest.approx(4_000)
    assert said.stated == pytest.approx(0.5 * 2 * 200)
    assert said.value == pytest.approx(3_800)
    assert said.value_interval == Interval(1_800.0, 5_800.0, 0.95)


def test_a_programme_without_a_look_has_no_number() -> None:
    for seen, why in ((None, "no-look"), (look(0.0, "INVALID"), "invalid-look")):
        (said,) = summed(entry("all-ai", seen, scope="programme")).programmes
        assert isinstance(said.value, NotEstimable)
        assert said.value.reason == why


def test_currency_changes_money_and_no_share() -> None:
    seen = look(0.06, "GO")
    before, after = (finding_of(entry("won", one)) for one in (seen, seen.times(1.25)))
    assert isinstance(before, Finding)
    assert isinstance(after, Finding)
    assert after.block.effects == pytest.approx(before.block.effects)
    assert after.block.covariance == pytest.approx(before.block.covariance)
    assert before.launch is not None
    assert after.launch is not None
    assert after.launch.amount == pytest.approx(1.25 * before.launch.amount)
    assert after.launch.per_effect == pytest.approx(1.25 * before.launch.per_effect)
    assert after.earned[0].per_effect == pytest.approx(1.25 * before.earned[0].per_effect)
