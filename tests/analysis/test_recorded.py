"""A look read back is the look that was taken; anything else is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from klartext.analysis.document import dumps, moments_to_json, to_json
from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.recorded import read_look
from tests.analysis.samples import START, evaluated, experiment, readout, shop


@pytest.fixture
def stored() -> tuple[str, str]:
    rng = np.random.default_rng(3)
    units = {"control": shop(rng, 4000, rate=0.3), "ai": shop(rng, 4000, rate=0.36, cost=0.1)}
    found = readout(experiment(), units)
    return dumps(to_json(evaluated(experiment(), found))), dumps(moments_to_json(found))


def test_figures_and_moments_come_back(stored: tuple[str, str]) -> None:
    found = read_look(*stored, number=4, taken_at=START)
    told = json.loads(stored[0])
    (treatment,) = told["by_variant"]
    figures = found.of("ai")
    assert found.number == 4
    assert found.verdict == told["decision"]["verdict"]
    assert figures.margin == treatment["incremental_margin"]
    assert figures.net_benefit == treatment["net_benefit"]
    assert figures.units == treatment["outlook"]["units"]
    for region, kept in (
        (figures.interval, treatment["net_benefit_interval"]),
        (figures.outlook_interval, treatment["outlook"]["net_benefit_interval"]),
    ):
        if kept is None:
            assert isinstance(region, NotEstimable)
        else:
            assert region == Interval(kept[0], kept[1], 0.95)
    kept = json.loads(stored[1])["variants"]["ai"]
    assert found.moments["ai"].n == 4000
    assert found.moments["ai"].mean.tolist() == kept["mean"]
    with pytest.raises(KeyError):
        found.of("robot")


def test_a_variant_without_moments_keeps_its_reason(stored: tuple[str, str]) -> None:
    moments = json.loads(stored[1])
    moments["variants"]["ai"] = {"columns": ["margin"], "n": 3, "reason": "regime-lacks-variant"}
    found = read_look(stored[0], json.dumps(moments), number=1, taken_at=START)
    missing = found.moments["ai"].missing
    assert missing is not None
    assert missing.reason == "regime-lacks-variant"


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"decision": {}}', '{"alpha": "x"}'])
def test_what_is_no_look_is_refused(stored: tuple[str, str], text: str) -> None:
    with pytest.raises(ValueError, match="look 2 cannot be read back"):
        read_look(text, stored[1], number=2, taken_at=START)
    with pytest.raises(ValueError, match="look 2 cannot be read back"):
        read_look(stored[0], text, number=2, taken_at=START)
