import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.analysis.estimate import Interval, NotEstimable, Unbounded
from klartext.reports import figures, wording
from klartext.reports.figures import Span, nice_ticks
from tests.reports import samples


@given(
    low=st.floats(-1e9, 1e9, allow_nan=False),
    width=st.floats(1e-3, 1e9, allow_nan=False),
)
def test_ticks_are_few_even_and_cover_the_range(low: float, width: float) -> None:
    high = low + width
    if not high > low:
        return
    ticks = nice_ticks(low, high)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    slack = 1e-6 * max(abs(low), abs(high), width)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert all(math.isclose(step, steps[0], rel_tol=1e-3, abs_tol=1e-9) for step in steps)


def test_net_benefit_shows_what_was_measured_beside_the_best_estimate() -> None:
    document = samples.go()
    figure = figures.net_benefit(document, wording.locale_of(document, "en"))
    first = figure.rows[0]
    assert first.label == "mens"
    assert first.value == document.analysis.treatments[0].outlook.net_benefit
    assert first.best == document.analysis.treatments[0].outlook.posterior_mean
    assert first.span == Span(10_230.38, 22_362.05)
    assert first.rule_span == Span(9_351.2, 23_241.2)
    assert [row.sign for row in figure.rows] == ["above", "above"]
    assert {key for key, _ in figure.legend} == {"above", "best", "rule"}
    assert figure.axis.low <= 0 <= figure.axis.high


def test_one_treatment_has_no_second_interval() -> None:
    document = samples.stop()
    figure = figures.net_benefit(document, wording.locale_of(document, "de"))
    assert figure.rows[0].rule_span is None
    assert figure.rows[0].sign == "below"


def test_a_row_without_a_number_says_why() -> None:
    document = samples.going_on()
    figure = figures.net_benefit(document, wording.locale_of(document, "en"))
    assert not figure.has_anything
    assert figure.rows[0].value is None
    assert figure.rows[0].detail.startswith("too early")


def test_costs_add_up_to_the_ledger() -> None:
    document = samples.go()
    figure = figures.costs(document, wording.locale_of(document, "en"))
    assert [bar.text for bar in figure.bars] == ["US$106.49", "US$106.89"]
    assert [tick.text for tick in figure.axis.ticks][:2] == ["US$0", "US$25"]


@pytest.mark.parametrize(
    ("found", "span", "sign"),
    [
        (Interval(1.0, 2.0, 0.95), Span(1.0, 2.0), "above"),
        (Interval(-2.0, -1.0, 0.95), Span(-2.0, -1.0), "below"),
        (Interval(0.0, 1.0, 0.95), Span(0.0, 1.0), "across"),
        (Interval(-math.inf, 1.0, 0.95), None, "across"),
        (Unbounded("right", (1.0,), 0.95), Span(1.0, 1.0, open_high=True), "above"),
        (Unbounded("left", (1.0,), 0.95), Span(1.0, 1.0, open_low=True), "across"),
        (Unbounded("left", (-1.0,), 0.95), Span(-1.0, -1.0, open_low=True), "below"),
        (Unbounded("line", (), 0.95), None, "across"),
        (Unbounded("rays", (1.0, 2.0), 0.95), None, "across"),
        (NotEstimable("burn-in", ""), None, "across"),
    ],
)
def test_only_bounded_ends_are_drawn(
    found: Interval | Unbounded | NotEstimable, span: Span | None, sign: str
) -> None:
    drawn = figures.span_of(found)
    assert drawn == span
    assert figures.sign_of(drawn) == sign
