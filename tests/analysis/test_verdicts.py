"""Verdicts beside each other: read from documents, compared, and written again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from klartext.analysis.document import to_json
from klartext.analysis.verdicts import (
    Beside,
    Verdict,
    beside_to_json,
    difference,
    same_figures,
    verdict_of,
)
from tests.reports import samples


def verdict() -> Verdict:
    return verdict_of(to_json(samples.go().analysis))


def test_a_verdict_is_what_the_document_says() -> None:
    analysis = samples.go().analysis
    found = verdict()
    assert (found.verdict, found.variant) == ("GO", analysis.decision.variant)
    assert (found.version, found.spec_sha256) == (analysis.version, analysis.spec_sha256)
    assert (found.batch, found.cutoff) == (analysis.watermark.batch, analysis.watermark.cutoff)
    first = found.of("mens")
    assert first is not None
    outlook = analysis.treatments[0].outlook
    assert first.net_benefit == pytest.approx(outlook.net_benefit)
    assert first.interval == pytest.approx((10_230.38, 22_362.05))
    assert found.of("nobody") is None
    assert found.revision is None


def test_a_document_before_there_was_a_ledger_or_a_tornado_is_read() -> None:
    document = to_json(samples.go().analysis)
    for name in ("ledger", "segments", "look"):
        document.pop(name, None)
    for one in document["by_variant"]:  # type: ignore[union-attr]  # a list of objects
        one.pop("tornado", None)  # type: ignore[union-attr,arg-type,call-arg]  # as above
    assert verdict_of(json.loads(json.dumps(document))) == verdict()


def test_what_could_not_be_estimated_has_no_difference() -> None:
    early = verdict_of(to_json(samples.going_on().analysis))
    (one,) = early.treatments
    assert (one.net_benefit, one.interval) == (None, None)
    assert difference(one, one) is None
    assert difference(None, one) is None
    assert same_figures(early, early)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"net_benefit": 1 + 5e-7}, True),
        ({"net_benefit": 1 + 5e-6}, False),
        ({"verdict": "CONTINUE"}, False),
        ({"rule": "loss"}, False),
    ],
)
def test_the_same_figures_are_the_same_verdicts_to_a_millionth(
    changes: dict[str, Any],
    same: bool,  # noqa: FBT001 - a case of the table
) -> None:
    one = verdict()
    first = one.treatments[0]
    assert first.net_benefit is not None
    if "net_benefit" in changes:
        changes = {"net_benefit": first.net_benefit * changes["net_benefit"]}
    other = replace(one, treatments=(replace(first, **changes), *one.treatments[1:]))
    assert same_figures(one, other) is same
    assert same_figures(other, one) is same


def test_another_verdict_or_treatment_is_not_the_same() -> None:
    one = verdict()
    assert not same_figures(one, replace(one, verdict="STOP"))
    assert not same_figures(one, replace(one, variant=None))
    assert not same_figures(one, replace(one, treatments=one.treatments[:1]))
    missing = replace(one.treatments[0], net_benefit=None)
    assert not same_figures(one, replace(one, treatments=(missing, *one.treatments[1:])))


def test_nothing_beside_adds_nothing() -> None:
    assert beside_to_json(Beside(None, None)) == {}
