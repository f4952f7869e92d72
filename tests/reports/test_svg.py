import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from klartext.reports import figures, svg, wording
from klartext.reports.figures import Bars, Figure, Forest, Lines, Span
from tests.reports import samples

LAYOUTS: tuple[svg.Layout, ...] = ("wide", "narrow")


def drawn(name: str) -> list[Figure]:
    document = samples.SAMPLES[name]()
    locale = wording.locale_of(document, "de")
    return [
        make(document, locale) for make in (figures.net_benefit, figures.effects, figures.costs)
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_figure_is_xml_with_title_and_every_number_in_words(
    name: str, layout: svg.Layout
) -> None:
    for figure in drawn(name):
        root = ET.fromstring(str(svg.draw(figure, layout)))  # noqa: S314 - our own text
        title, description = root[0].text, root[1].text or ""
        assert title == figure.alt
        assert not isinstance(figure, Lines)  # the samples have no course
        rows = figure.bars if isinstance(figure, Bars) else figure.rows
        assert all(row.text in description for row in rows)
        width = float(root.attrib["viewBox"].split()[2])
        marks = [
            float(x) for line in root.iter() for x in re.findall(r"^M([-\d.]+)", line.get("d", ""))
        ]
        assert all(-8 <= x <= width + 8 for x in marks)


def test_hostile_labels_are_text() -> None:
    figure = drawn("stop")[0]
    assert isinstance(figure, Forest)
    row = replace(figure.rows[0], label='<script>"x"</script>')
    source = svg.draw(replace(figure, rows=(row,)), "wide")
    assert "<script" not in source
    assert "&lt;script&gt;" in source


def test_an_open_end_is_an_arrow() -> None:
    figure = drawn("stop")[0]
    assert isinstance(figure, Forest)
    closed = str(svg.draw(figure, "wide"))
    row = replace(figure.rows[0], span=Span(-100.0, -100.0, open_low=True))
    assert "arrow" not in closed
    assert "arrow" in str(svg.draw(replace(figure, rows=(row,)), "wide"))
