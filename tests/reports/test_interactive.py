import json
import sys
from dataclasses import replace

import pytest

from klartext.reports import figures, interactive, page, wording
from tests.reports import samples


def test_plotly_gets_the_numbers_of_the_static_figure() -> None:
    pytest.importorskip("plotly")
    document = samples.go()
    figure = figures.net_benefit(document, wording.locale_of(document, "en"))
    drawn = json.loads(interactive.data(figure))
    points = [trace["x"][0] for trace in drawn["data"] if trace["mode"] == "markers"]
    assert points == pytest.approx([x for row in figure.rows for x in (row.best, row.value)])
    assert drawn["layout"]["xaxis"]["ticktext"] == [tick.text for tick in figure.axis.ticks]


def test_user_text_cannot_leave_the_script_or_become_markup() -> None:
    pytest.importorskip("plotly")
    document = samples.stop()
    locale = wording.locale_of(document, "en")
    figure = figures.net_benefit(document, locale)
    row = replace(figure.rows[0], label="</script><a href='x'>")
    source = interactive.data(replace(figure, rows=(row,)))
    assert "<" not in source
    labels = [trace["y"][0] for trace in json.loads(source)["data"]]
    assert all(label.startswith("&lt;/script&gt;") for label in labels)


def test_without_plotly_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(
        interactive.MissingExtraError, match=r"pip install 'klartext\[interactive\]'"
    ):
        page.render(samples.go(), "en", interactive=True)
