"""Replay over the look calendar: intersection, running minimum, drift."""

import math
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klartext.analysis.estimate import Estimate, Interval, NotEstimable
from klartext.analysis.moments import FloatArray, Moments
from klartext.analysis.sequential import mixture, replay

START = date(2026, 3, 2)
PLANNED = 8000


def moments(values: FloatArray) -> Moments:
    # net = margin - 0.1 cost of every unit; only margin is rare
    return Moments.of(("net", "margin"), np.column_stack([values - 0.1, values]))


def calendar(shifts: list[float], *, per_day: int, seed: int) -> tuple[replay.DayLook, ...]:
    """Cumulative looks; the treatment's mean on day d is 1 + shifts[d], sd 2."""
    rng = np.random.default_rng(seed)
    looks = []
    empty = np.empty((0, 2))
    treatment, control = Moments.of(("net", "margin"), empty), Moments.of(("net", "margin"), empty)
    for day, shift in enumerate(shifts):
        treatment += moments(rng.normal(1 + shift, 2, per_day))
        control += moments(rng.normal(1, 2, per_day))
        looks.append(replay.DayLook(START + timedelta(days=day), treatment, control))
    return tuple(looks)


def run(looks: tuple[replay.DayLook, ...], alpha: float = 0.05) -> tuple[replay.Running, ...]:
    return replay.replay(looks, column="net", outcome="margin", alpha=alpha, planned_n=PLANNED)


def test_by_hand() -> None:
    # three looks; the running state is computed from the single looks in the plainest way
    looks = calendar([0.2, 0.2, 0.2], per_day=400, seed=70)
    found = run(looks)
    singles = []
    for look in looks:
        single = mixture.anytime(
            look.treatment.sample("net"),
            look.control.sample("net"),
            alpha=0.05,
            planned_n=PLANNED,
            nonzero=(look.treatment.n, look.control.n),
        )
        assert isinstance(single, Estimate)
        assert isinstance(single.interval, Interval)
        singles.append((single.interval.lower, single.interval.upper, single.p_value))
    assert [state.day for state in found] == [START + timedelta(days=k) for k in range(3)]
    for k, state in enumerate(found):
        lower = max(low for low, _, _ in singles[: k + 1])
        upper = min(high for _, high, _ in singles[: k + 1])
        assert state.interval == Interval(lower, upper, 0.95)
        assert state.p_value == min(p for _, _, p in singles[: k + 1] if isinstance(p, float))
        assert isinstance(state.current, Estimate)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=12),
    st.integers(60, 300),
    st.integers(0, 2**32 - 1),
)
def test_p_never_rises_and_interval_never_grows(
    shifts: list[float], per_day: int, seed: int
) -> None:
    found = run(calendar(shifts, per_day=per_day, seed=seed))
    assert len(found) == len(shifts)
    p, lower, upper = 1.0, -math.inf, math.inf
    drifted: replay.Drift | None = None
    for state in found:
        if isinstance(state.p_value, float):
            assert 0 < state.p_value <= p
            p = state.p_value
        else:
            assert p == 1.0  # a p-value, once there, does not vanish
        if drifted is not None:
            assert state.interval == drifted
            continue
        match state.interval:
            case Interval(low, high, _):
                assert lower <= low <= high <= upper
                lower, upper = low, high
            case replay.Drift(since, low, high, _):
                assert low > high
                assert since == state.day
                drifted = state.interval
            case NotEstimable(reason, _):
                assert reason == "burn-in"
                assert lower == -math.inf


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_a_longer_calendar_keeps_the_past(shifts: list[float], seed: int) -> None:
    looks = calendar(shifts, per_day=150, seed=seed)
    assert run(looks)[:-1] == run(looks[:-1])


def test_swapping_variants_flips_the_interval() -> None:
    looks = calendar([0.3] * 5, per_day=300, seed=71)
    swapped = tuple(replay.DayLook(x.day, x.control, x.treatment) for x in looks)
    for one, other in zip(run(looks), run(swapped), strict=True):
        assert isinstance(one.interval, Interval)
        assert isinstance(other.interval, Interval)
        assert other.interval.lower == pytest.approx(-one.interval.upper, rel=1e-9)
        assert other.p_value == one.p_value


def test_a_difference_that_turns_is_flagged_as_drift() -> None:
    shifts = [1.0] * 8 + [-3.0] * 25
    found = run(calendar(shifts, per_day=300, seed=72))
    first = next(state for state in found if isinstance(state.interval, replay.Drift))
    assert isinstance(first.interval, replay.Drift)
    assert START + timedelta(days=8) <= first.day  # the first changed day
    assert first.interval.since == first.day
    assert first.interval.highest_lower > first.interval.lowest_upper
    assert first.interval.level == 0.95
    # it stays, while the current look goes on being estimated
    assert found[-1].interval == first.interval
    assert isinstance(found[-1].current, Estimate)


def test_burn_in_comes_first_and_a_refused_look_changes_nothing() -> None:
    rng = np.random.default_rng(73)
    rare = np.where(rng.random(6000) < 0.05, rng.lognormal(1, 0.3, 6000), 0.0)
    looks = tuple(
        replay.DayLook(START + timedelta(days=k), moments(rare[:n]), moments(rare[::-1][:n]))
        for k, n in enumerate((500, 1000, 4000, 6000))
    )
    found = run(looks)
    assert isinstance(found[0].interval, NotEstimable)
    assert found[0].interval.reason == "burn-in"
    assert found[0].p_value == found[0].interval
    assert isinstance(found[-1].interval, Interval)
    # one giant order closes the gate again: what was known stays known
    giant = moments(np.append(rare, 1e4))
    again = run((*looks, replay.DayLook(START + timedelta(days=9), giant, looks[-1].control)))
    assert isinstance(again[-1].current, NotEstimable)
    assert again[-1].interval == found[-1].interval
    assert again[-1].p_value == found[-1].p_value


def test_nothing_to_replay() -> None:
    assert run(()) == ()
    empty = Moments.of(("net", "margin"), np.empty((0, 2)))
    found = run((replay.DayLook(START, empty, empty),))
    assert isinstance(found[0].interval, NotEstimable)
    assert found[0].interval.reason == "too-few-units"


def test_calendars_that_cannot_be_are_errors() -> None:
    looks = calendar([0.0] * 3, per_day=50, seed=74)
    with pytest.raises(ValueError, match="do not increase"):
        run((looks[0], looks[0]))
    shrunk = replay.DayLook(START + timedelta(days=9), looks[0].treatment, looks[2].control)
    with pytest.raises(ValueError, match="not cumulative"):
        run((*looks, shrunk))
    with pytest.raises(ValueError, match=r"not in tuple|index"):
        replay.replay(looks, column="total", outcome="margin", alpha=0.05, planned_n=PLANNED)


@pytest.mark.slow
def test_running_interval_and_p_hold_under_fifty_looks() -> None:
    # no effect, 300 calendars through the real replay: the running interval loses zero exactly
    # when the running p falls to alpha, at most alpha of the time (about 1.6 % with 50 looks)
    lost = false = 0
    for seed in range(300):
        last = run(calendar([0.0] * 50, per_day=80, seed=1000 + seed))[-1]
        match last.interval:
            case Interval(lower, upper, _):
                lost += not lower <= 0 <= upper
            case _:
                lost += 1
        assert isinstance(last.p_value, float)
        false += last.p_value < 0.05
    assert lost == false
    assert false / 300 <= 0.05
