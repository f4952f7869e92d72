"""The scorecard: rows of several treatments stay beside each other."""

from dataclasses import replace
from datetime import UTC, datetime

from klartext.analysis.estimate import NotEstimable
from klartext.app.cli.scorecard import scorecard
from tests.reports.samples import go


def test_a_row_that_only_one_treatment_has_moves_no_figure_of_another() -> None:
    analysis = go().analysis
    done = analysis.treatments[0]
    forecast = datetime(2027, 3, 9, 23, 30, tzinfo=UTC)
    waiting = replace(
        done,
        variant="later",
        prospect=replace(done.prospect, predictive_probability=0.25, forecast=forecast),
        decision=replace(done.decision, verdict="CONTINUE", rule="continue"),
    )
    for treatments in ((done, waiting), (waiting, done)):
        lines = scorecard(replace(analysis, treatments=treatments)).splitlines()
        verdicts = next(line for line in lines if line.startswith("verdict"))
        assert "GO (go)" in verdicts
        assert "CONTINUE (continue)" in verdicts
        chance = next(line for line in lines if line.startswith("shown > 0 by the end"))
        assert sorted(chance.split()[-2:]) == ["25.00%", "–"]
        assert any("2027-03-09 23:30 UTC" in line for line in lines)


def test_a_row_that_no_treatment_has_is_left_out() -> None:
    text = scorecard(go().analysis)
    assert "shown > 0 by the end" not in text
    assert "before the adjustment" not in text


def test_a_code_where_a_number_is_missing_is_explained_once_below() -> None:
    analysis = go().analysis
    reason = NotEstimable("no-gain", "the margin does not grow")
    first = analysis.treatments[0]
    done = replace(first, window=replace(first.window, cost_per_incremental_conversion=reason))
    text = scorecard(replace(analysis, treatments=(done,)))
    assert "– (no-gain)" in text
    assert text.count("– no-gain: there is no gain to divide by or to pay back with") == 1
    assert text.splitlines()[-1].startswith("– ")
