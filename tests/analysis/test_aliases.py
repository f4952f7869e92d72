"""Units of several ids: who becomes whom, by hand, whatever the order of delivery."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from klartext.analysis.aliases import HOPS, AliasCounts, links
from klartext.analysis.unit_table import build
from klartext.experiments.watermark import Watermark
from tests.analysis.samples import (
    DAY,
    START,
    WATERMARK,
    alias,
    call,
    evaluated,
    event,
    experiment,
    exposure,
    purchase,
    read,
    tables,
    unit_rows,
)


def canonical(rows: list[dict[str, Any]], watermark: Watermark = WATERMARK) -> dict[int, int]:
    found = tables([], aliases=rows).aliases
    assert found is not None
    table = links(found, watermark).to_pyarrow().to_pylist()
    assert len({row["unit"] for row in table}) == len(table)
    return {row["unit"]: row["canonical"] for row in table}


def test_a_visitor_is_the_customer_it_turned_out_to_be() -> None:
    assert canonical([alias(1, 100), alias(2, 100), alias(3, 300)]) == {1: 100, 2: 100, 3: 300}


def test_an_alias_sent_twice_under_two_ids_is_one() -> None:
    assert canonical([alias(1, 100, id=b"a"), alias(1, 100, id=b"b")]) == {1: 100}


def test_a_chain_is_followed_to_its_end() -> None:
    assert canonical([alias(1, 2), alias(3, 4), alias(2, 3)]) == {1: 4, 2: 4, 3: 4}


def test_a_chain_may_have_so_many_steps_and_no_more() -> None:
    chain = [alias(i, i + 1) for i in range(HOPS + 1)]
    assert canonical(chain[1:]) == dict.fromkeys(range(1, HOPS + 1), HOPS + 1)
    assert canonical(chain) == dict.fromkeys(range(1, HOPS + 1), HOPS + 1)  # 0 stays itself


@pytest.mark.parametrize(
    "circle", [[alias(1, 2), alias(2, 1)], [alias(1, 2), alias(2, 3), alias(3, 1)]]
)
def test_a_circle_and_what_leads_into_it_stay_what_they_are(circle: list[dict[str, Any]]) -> None:
    assert canonical([*circle, alias(9, 1), alias(7, 8)]) == {7: 8}


def test_the_first_claim_counts_and_the_smaller_id_at_one_instant() -> None:
    rows = [alias(1, 100, days=2), alias(1, 200, days=1), alias(2, 300), alias(2, -300)]
    for order in (rows, rows[::-1]):
        assert canonical(order) == {1: 200, 2: -300}


def test_the_first_claim_decides_before_chains_and_circles() -> None:
    rows = [alias(1, 2, days=1), alias(2, 1, days=2), alias(2, 3, days=1)]
    assert canonical(rows) == {1: 3, 2: 3}


def test_an_alias_of_itself_says_nothing() -> None:
    assert canonical([alias(1, 1), alias(1, 2, days=1)]) == {1: 2}


def test_aliases_of_later_batches_are_not_seen() -> None:
    rows = [alias(1, 2), alias(2, 3, ingest_batch=8)]
    assert canonical(rows) == {1: 2}
    assert canonical(rows, replace(WATERMARK, batch=8)) == {1: 3, 2: 3}


def by_hand(rows: list[tuple[int, int, int]]) -> dict[int, int]:
    """Who becomes whom, one id and one step at a time."""
    claims: dict[int, tuple[int, int]] = {}
    for unit, to, at in rows:
        if unit != to:
            claims[unit] = min(claims.get(unit, (at, to)), (at, to))
    found = {}
    for unit in claims:
        end, steps = unit, 0
        while end in claims and steps < HOPS:
            end, steps = claims[end][1], steps + 1
        if end not in claims:
            found[unit] = end
    return found


def test_links_are_those_by_hand_in_any_order() -> None:
    """Three hundred small graphs in one query, each with ids of its own."""
    rng = random.Random(20261122)  # noqa: S311 - no secret
    rows = []
    for graph in range(300):
        size = rng.randint(1, 25)
        ids = [graph * 100 + place for place in range(rng.randint(2, 22))]
        if graph % 3 == 0:  # chains, some of them too long
            rows += [(one, other, 0) for one, other in pairwise(ids)]
        rows += [(rng.choice(ids), rng.choice(ids), rng.randint(0, 3)) for _ in range(size)]
    expected = by_hand(rows)
    assert 500 < len(expected) < len({unit for unit, _, _ in rows})
    for _ in range(2):
        rng.shuffle(rows)
        assert canonical([alias(unit, to, days=at) for unit, to, at in rows]) == expected


def test_exposures_events_and_calls_become_the_customers() -> None:
    found = tables(
        [exposure(1, "ai"), exposure(2, "control")],
        [purchase(1, "5"), purchase(100, "7"), purchase(2, "1")],
        [call("0.5", unit=1, variant="ai"), call("0.25", unit=100, variant="ai")],
        [alias(1, 100, days=1)],
    )
    rows = unit_rows(experiment(), found)
    assert set(rows) == {2, 100}
    assert (rows[100]["revenue"], rows[100]["cost"]) == (12.0, 0.75)
    assert rows[2]["revenue"] == 1.0


def test_aliases_merge_before_the_first_exposure_is_found() -> None:
    found = tables(
        [
            exposure(100, "ai", occurred_at=START + DAY),
            exposure(1, "ai"),
            exposure(2, "control"),
            exposure(200, "ai", occurred_at=START + DAY),
        ],
        [event(100, days=0.5)],
        aliases=[alias(1, 100), alias(2, 200, days=30)],
    )
    rows = unit_rows(experiment(), found)
    assert (rows[100]["exposed_at"], rows[100]["excluded"]) == (START, False)
    assert rows[100]["conversion"] == 1.0  # after the visitor's exposure, before the customer's
    assert (rows[200]["variant"], rows[200]["excluded"]) == ("control", True)
    readout = read(experiment(), found)
    assert [(count.exposed, count.excluded) for count in readout.counts] == [(0, 1), (1, 0)]


def test_without_an_alias_the_query_is_the_one_it_was() -> None:
    found = tables([exposure(1, "ai")], [purchase(1, "5")])
    with_none = str(build(experiment(), found, WATERMARK))  # type: ignore[arg-type]  # alike
    assert "canonical" not in with_none
    with_one = tables([exposure(1, "ai")], [purchase(1, "5")], aliases=[alias(7, 8)])
    assert "canonical" in str(build(experiment(), with_one, WATERMARK))  # type: ignore[arg-type]
    assert unit_rows(experiment(), with_one) == unit_rows(experiment(), found)


def test_what_could_not_be_merged_is_counted_where_it_concerns_the_units() -> None:
    found = tables(
        [exposure(i, "ai") for i in (100, 200)] + [exposure(i, "control") for i in (300, 1)],
        [],
        [],
        [
            alias(10, 100),
            alias(11, 10),
            alias(12, 100, days=1),
            alias(12, 999, days=2),  # contested, won by an exposed unit
            alias(13, 999, days=1),
            alias(13, 200, days=2),  # contested, lost by one
            alias(1, 2),
            alias(2, 1),  # a circle that touches an exposed unit
            alias(50, 60),
            alias(50, 70),
            alias(51, 52),
            alias(52, 51),  # nobody here
        ],
    )
    readout = read(experiment(), found)
    assert readout.aliases == AliasCounts(merged=3, contested=2, unresolved=1)
    check = next(c for c in evaluated(experiment(), readout).checks if c.code == "aliases")
    assert (check.severity, check.value) == ("warning", 3 / 4)
    assert "3 ids were merged" in check.detail


@pytest.mark.parametrize("aliases", [None, [], [alias(8, 9)]])
def test_no_check_speaks_of_aliases_that_concern_nobody(
    aliases: list[dict[str, Any]] | None,
) -> None:
    found = read(experiment(), tables([exposure(1, "ai")], aliases=aliases))
    assert "aliases" not in [check.code for check in evaluated(experiment(), found).checks]


def test_calls_without_a_unit_stay_without_one() -> None:
    spec = experiment()
    usage = [call("1", unit=None, variant="ai"), call("2", unit=None, variant=None)]
    plain = read(spec, tables([exposure(1, "ai")], [], usage))
    aliased = read(spec, tables([exposure(1, "ai")], [], usage, [alias(8, 1)]))
    assert aliased.usage == plain.usage
    assert sum(usage.amount for usage in aliased.usage) == Decimal(3)
