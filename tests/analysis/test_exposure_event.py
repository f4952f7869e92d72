"""An exposure event: who is analysed, from when, and what all units say beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from klartext.analysis.document import to_json
from klartext.analysis.estimate import Estimate
from klartext.analysis.evaluate import analyse
from klartext.analysis.result import Analysis
from klartext.analysis.subject import Registration
from klartext.experiments.experiment import Experiment, Inference
from tests.analysis import nasty
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    START,
    WATERMARK,
    evaluated,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)

MAIL = "mail_sent"
SPEC = experiment(exposure_event=MAIL)
MICROSECOND = timedelta(microseconds=1)


def sent(unit: int, *, days: float = 1, **given: Any) -> dict[str, Any]:
    return event(unit, MAIL, days=days, **given)


def test_units_count_from_their_first_event_at_or_after_the_exposure() -> None:
    facts = tables(
        [exposure(unit, "ai" if unit % 2 else "control") for unit in range(1, 8)],
        [
            sent(1, days=3), sent(1, days=2), purchase(1, "10", days=2.5),
            purchase(1, "99", days=1),  # before the mail: not an effect of it
            purchase(1, "7", days=2 + 14 - 1e-6),
            purchase(1, "99", days=2 + 14),  # the window runs from the mail
            sent(2, days=0), purchase(2, "5", days=0),  # the same instant counts
            sent(3, days=-1),  # before the exposure: of another time
            sent(4, ingest_batch=99),  # not yet seen
            sent(5, days=50),  # reached, not mature
            event(6, "mail_opened"),
        ],
    )  # fmt: skip
    rows = unit_rows(SPEC, facts)
    assert sorted(rows) == [1, 2, 5]
    assert (rows[1]["exposed_at"] - START, rows[1]["revenue"]) == (2 * DAY, 17.0)
    assert (rows[2]["exposed_at"] - START, rows[2]["revenue"]) == (timedelta(0), 5.0)
    assert [rows[unit]["mature"] for unit in (1, 2, 5)] == [True, True, False]
    found = read(SPEC, facts)
    assert found.all_units == {"control": 1, "ai": 2}
    assert found.first_exposure == START
    assert found.assigned is not None
    assert found.assigned.all_units == {"control": 3, "ai": 4}
    assert found.assigned.moments["ai"].sample("revenue").n == 4
    assert read(experiment(), facts).assigned is None


def test_a_unit_in_two_variants_is_left_out_whenever_the_second_came() -> None:
    facts = tables(
        [exposure(1, "ai"), exposure(1, "control", occurred_at=START + 5 * DAY)], [sent(1)]
    )
    (row,) = unit_rows(SPEC, facts).values()
    assert (row["variant"], row["excluded"]) == ("ai", True)


def independent(spec: Experiment, facts: nasty.Facts) -> dict[int, tuple[str, Any, bool]]:
    """Variant, time of the event and exclusion per unit, by plain Python."""
    order = [variant.key for variant in spec.variants]
    seen: dict[int, list[tuple[Any, int]]] = {}
    for row in facts.exposures:
        known = row["experiment"] == spec.key and row["variant"] in order
        if known and row.get("ingest_batch", 1) <= WATERMARK.batch:
            place = order.index(row["variant"])
            seen.setdefault(row["unit"], []).append((row["occurred_at"], place))
    found = {}
    for unit, rows in seen.items():
        since, place = min(rows)
        times = [
            row["occurred_at"]
            for row in facts.events
            if row["unit"] == unit
            and row["name"] == spec.exposure_event
            and row.get("ingest_batch", 1) <= WATERMARK.batch
            and row["occurred_at"] >= since
        ]
        if times:
            found[unit] = (order[place], min(times), len({place for _, place in rows}) > 1)
    return found


def test_it_agrees_with_plain_python_on_nasty_facts() -> None:
    facts = nasty.generate(7, units=400)
    spec = replace(nasty.spec(), exposure_event="visit")
    expected = independent(spec, facts)
    rows = unit_rows(spec, tables(facts.exposures, facts.events, facts.usage_costs))
    found = {
        unit: (row["variant"], row["exposed_at"], row["excluded"]) for unit, row in rows.items()
    }
    assert found == expected
    assert 50 < len(found) < 300
    assert Counter(excluded for _, _, excluded in found.values())[True] > 5


def test_the_event_may_be_at_the_last_microsecond_before_the_exposure_and_then_is_not_it() -> None:
    early = sent(1) | {"occurred_at": START - MICROSECOND}
    assert unit_rows(SPEC, tables([exposure(1, "ai")], [early])) == {}


def analysed(reached: dict[str, int], of: int = 2_000) -> Analysis:
    """Fixed look at ``of`` units per variant, of which some reached the event and then bought."""
    spec = experiment(
        exposure_event=MAIL,
        metrics=(CONVERSION,),
        value=(),
        registration="retrospective",
        inference=Inference("fixed", SPEC.inference.alpha, SPEC.inference.prior_relative_sd),
    )
    exposures, events = [], []
    for place, (variant, count) in enumerate(reached.items()):
        for unit in range(place * of, (place + 1) * of):
            exposures.append(exposure(unit, variant))
            if unit - place * of < count:
                events.append(sent(unit))
                if unit % (4 if variant == "ai" else 5) == 0:
                    events.append(purchase(unit, "1", days=2))
    return evaluated(spec, read(spec, tables(exposures, events)))


def test_all_units_stand_beside_those_that_reached_the_event() -> None:
    found = analysed({"control": 1_000, "ai": 1_000})
    assert {check.code: check.severity for check in found.checks} | {
        "srm": "ok", "srm_exposure": "ok",
    } == {check.code: check.severity for check in found.checks}  # fmt: skip
    every = found.intention_to_treat
    assert every is not None
    (effect,) = (result.estimates[0][1] for result in found.metrics)
    (diluted,) = (result.estimates[0][1] for result in every.metrics)
    assert isinstance(effect, Estimate)
    assert isinstance(diluted, Estimate)
    assert (effect.n, diluted.n) == (1_000, 2_000)
    assert effect.value == pytest.approx(1 / 4 - 1 / 5)
    assert diluted.value == pytest.approx((250 - 200) / 2_000)
    document = to_json(found)["intention_to_treat"]
    assert isinstance(document, dict)
    assert set(document) == {"counts", "metrics", "by_variant"}
    assert "decision" not in str(document["by_variant"])


def test_a_treatment_that_keeps_units_from_the_event_invalidates() -> None:
    found = analysed({"control": 1_000, "ai": 800})
    checks = {check.code: check for check in found.checks}
    assert checks["srm"].severity == "ok"
    assert checks["srm_exposure"].severity == "invalid"
    # (1000 - 900)^2 / 900 twice: chi-square 22.22 with one degree of freedom (R: pchisq).
    assert checks["srm_exposure"].value == pytest.approx(2.42847e-06, rel=1e-4)
    assert found.decision.verdict == "INVALID"
    assert "srm_exposure" in {reason.code for reason in found.decision.reasons}


def test_all_units_decide_no_look_of_their_own() -> None:
    """The plan counts units that reach the event; until they are there, no interval is valid."""
    spec = experiment(
        exposure_event=MAIL,
        inference=Inference("fixed", SPEC.inference.alpha, SPEC.inference.prior_relative_sd),
        plan=replace(SPEC.plan, total_units=4),
    )
    exposures = [exposure(unit, "ai" if unit % 2 else "control") for unit in range(6)]
    events = [sent(unit) for unit in range(3)] + [purchase(1, "1", days=2), purchase(2, "3")]
    every = evaluated(spec, read(spec, tables(exposures, events))).intention_to_treat
    assert every is not None
    looks = [one for result in every.metrics for _, one in result.estimates]
    assert not any(one.valid_for_look for one in looks if isinstance(one, Estimate))


@pytest.mark.parametrize(("days", "registered"), [(-1, True), (1, False)])
def test_registered_means_before_the_first_allocation_not_before_the_event(
    days: int, *, registered: bool
) -> None:
    facts = tables([exposure(1, "ai"), exposure(2, "control")], [sent(1, days=5), sent(2, days=5)])
    found = read(SPEC, facts)
    registration = Registration(1, "0" * 64, START + days * DAY)
    assert analyse(SPEC, registration, found, period=None).registered is registered
