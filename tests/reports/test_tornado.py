import re
from dataclasses import replace

import pytest

from klartext.app.cli.scorecard import scorecard
from klartext.reports import interactive, page, svg, tornado, wording
from klartext.reports.figures import Bars
from klartext.reports.language import MISSING, Language
from tests.reports import samples


def test_the_figure_has_the_inputs_whose_range_moves_the_net_benefit() -> None:
    document = samples.stop()
    figure = tornado.drawn(document, wording.locale_of(document, "en"))["tornado_0"]
    assert isinstance(figure, Bars)
    assert [(bar.start, bar.value) for bar in figure.bars] == [
        (-52_400.0, 4_180.5),
        (-41_000.0, -29_000.0),
        (-36_000.0, -34_500.0),
    ]
    assert figure.level == document.analysis.treatments[0].outlook.net_benefit
    assert figure.bars[0].label == "Persistence of the effect over the year"
    assert figure.bars[0].sublabel == "50% to 90%"
    assert figure.axis.low <= -52_400
    assert figure.axis.high >= 4_180.5


def test_a_bar_is_drawn_from_its_start_and_the_registered_state_across() -> None:
    document = samples.stop()
    figure = tornado.drawn(document, wording.locale_of(document, "de"))["tornado_0"]
    assert isinstance(figure, Bars)
    wide = svg.draw(figure, "wide")
    assert wide.count('class="bar"') == 3
    assert wide.count('class="level"') == 3
    widths = [float(width) for width in re.findall(r"h([\d.]+)v16", wide)]
    assert widths[0] / widths[1] == pytest.approx(56_580.5 / 12_000, rel=0.001)
    assert svg.draw(figure, "narrow").count('class="level"') == 3


def test_plotly_draws_the_same_bars() -> None:
    pytest.importorskip("plotly")
    document = samples.stop()
    figure = tornado.drawn(document, wording.locale_of(document, "en"))["tornado_0"]
    source = interactive.data(figure)
    assert '"base": [-52400.0, -41000.0, -36000.0]' in source
    assert '"x": [56580.5, 12000.0, 1500.0]' in source
    assert '"shapes"' in source


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", ("87.15%", "61.00%", "83.3 h", "812,346", "€7.35")),
        ("de", ("87,15 %", "61,00 %", "83,3 h", "812.346", "7,35 €")),
    ],
)
def test_the_table_has_every_input_with_its_path_and_break_even(
    language: Language, expected: tuple[str, ...]
) -> None:
    document = samples.stop()
    (block,) = tornado.blocks(document, wording.locale_of(document, language))
    rows = {row[0].note: row for row in block.table.rows}
    assert set(rows) == {one.path for one in document.assumptions}
    found = [
        rows[path][-1].text.replace("\N{NO-BREAK SPACE}", " ").replace("Std.", "h")
        for path in (
            "rollout.persistence",
            "value.spend.contribution_margin",
            "value.copywriting.hours",
            "rollout.units_per_year",
            "value.conversion.worth",
        )
    ]
    assert [text.rstrip(".") for text in found] == [
        one.replace("\N{NO-BREAK SPACE}", " ") for one in expected
    ]
    inside, outside = (
        rows[path][-1].note for path in ("rollout.persistence", "value.spend.contribution_margin")
    )
    assert inside != outside
    assert rows["costs.engineering.amount"][-1].text == MISSING
    assert rows["costs.engineering.amount"][3].text == MISSING


def test_an_invalid_experiment_shows_no_tornado() -> None:
    text = page.render(samples.invalid(), "en")
    assert "What moves the result" not in text
    assert "What moves the result" in page.render(samples.stop(), "en")
    assert "WHAT MOVES" not in scorecard(samples.invalid().analysis)


def test_the_scorecard_shows_the_widest() -> None:
    lines = scorecard(samples.stop().analysis).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("WHAT MOVES"))
    assert lines[start].startswith("WHAT MOVES THE NET BENEFIT, EUR")
    assert lines[start + 1].split() == [
        "rollout.persistence", "50%", "to", "90%", "-52,400.00", "4,180.50", "87.15%",
    ]  # fmt: skip
    assert lines[start + 2].endswith("61.00%, outside")
    assert lines[start + 3].endswith("– (no-break-even)")
    assert lines[start + 4] == ""


def test_without_stated_inputs_there_is_no_section() -> None:
    document = samples.stop()
    bare = replace(document.analysis.treatments[0], tornado=())
    document = replace(document, analysis=replace(document.analysis, treatments=(bare,)))
    assert tornado.blocks(document, wording.locale_of(document, "en")) == ()
    assert "What moves the result" not in page.render(document, "en")
