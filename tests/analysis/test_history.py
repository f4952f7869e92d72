"""History read as a test: who is pretended to be exposed, and what the unit table says of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from klartext.analysis.engine import open_engine
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.history import History, Like, Population, Seen, as_exposed, read_history
from klartext.experiments.errors import NotReadyError
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    Covariate,
    Experiment,
    Metric,
    Plan,
    Variant,
)
from klartext.experiments.watermark import Watermark
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE,
    START,
    WATERMARK,
    Tables,
    call,
    event,
    experiment,
    exposure,
    purchase,
    tables,
)

AT = WATERMARK.cutoff - 16 * DAY
"""Windows of 14 days and a lateness of 2: the latest mature exposure."""

BEFORE = (AT - START) / DAY
"""Days from START to it."""


def read(
    spec: Experiment,
    facts: Tables,
    population: Population,
    *,
    treatment: str = "ai",
    watermark: Watermark = WATERMARK,
) -> History:
    with open_engine() as engine:
        return read_history(
            spec,
            treatment,
            facts,  # type: ignore[arg-type]  # the same attributes
            watermark,
            population=population,
            engine=engine,
        )


def shop() -> Tables:
    """Seen in the week before: 1, 2 and 3; 4 too early, 5 only after, 6 only by a covariate."""
    return tables(
        [],
        [
            event(1, "visit", days=BEFORE - 1),
            purchase(1, "30", days=BEFORE + 1),
            purchase(1, "12", days=BEFORE + 13.99),
            purchase(1, "999", days=BEFORE + 14),
            purchase(2, "8", days=BEFORE - 7),
            purchase(3, "5", days=BEFORE - 0.001),
            purchase(3, "6", days=BEFORE),
            purchase(4, "70", days=BEFORE - 7.001),
            purchase(5, "80", days=BEFORE + 2),
            purchase(6, "9", days=BEFORE - 2) | {"name": "covariate.age"},
        ],
    )


def test_seen_units_and_their_windows_by_hand() -> None:
    found = read(experiment(), shop(), Seen(7 * DAY))
    control = found.moments["control"]
    assert found.units == control.n == 3
    # unit 1: 30 + 12, unit 2: nothing after, unit 3: 6 at the instant itself
    assert control.sample("revenue").mean == pytest.approx((42 + 0 + 6) / 3)
    assert control.sample("revenue").variance == pytest.approx(((42 - 16) ** 2 + 256 + 100) / 2)
    assert control.sample("conversion").mean == pytest.approx(2 / 3)
    assert found.units_per_day == pytest.approx(3 / 7)
    assert (found.start, found.end) == (AT - 7 * DAY, AT)
    assert not found.with_calls


def test_only_the_named_event_makes_a_unit_seen() -> None:
    assert read(experiment(), shop(), Seen(7 * DAY, "visit")).units == 1
    with pytest.raises(NotReadyError, match="no unit had an event 'login'"):
        read(experiment(), shop(), Seen(7 * DAY, "login"))


def test_another_instant_and_one_that_is_not_mature() -> None:
    earlier = read(experiment(), shop(), Seen(7 * DAY, at=AT - 7 * DAY))
    # from 14 to 7 days before AT only unit 4 acted; nothing follows within its windows
    assert (earlier.units, earlier.moments["control"].sample("revenue").mean) == (1, 0.0)
    with pytest.raises(NotReadyError, match="are not mature"):
        read(experiment(), shop(), Seen(7 * DAY, at=AT + DAY))


def test_traffic_counts_only_days_that_history_has() -> None:
    # the first event is 7.001 days before: a look back of 70 days has seen 7.001 of them
    found = read(experiment(), shop(), Seen(70 * DAY))
    assert found.units == 4
    assert found.units_per_day == pytest.approx(4 / 7.001)
    assert found.start == found.first_event


def test_what_the_spec_charges_is_read_from_the_same_units() -> None:
    lines = (
        CostLine("model_fees", "unit", Assumption(Decimal("0.05")), "ai"),
        CostLine("human_review", "event", Assumption(Decimal("1.2")), "ai", event="purchase"),
        CostLine("media", "unit", Assumption(Decimal("0.02")), "control"),
    )
    found = read(experiment(costs=Costs(None, None, lines)), shop(), Seen(7 * DAY))
    # three purchases in the windows of three units
    assert found.moments["ai"].sample("cost").mean == pytest.approx(0.05 + 1.2 * 3 / 3)
    assert found.moments["control"].sample("cost").mean == pytest.approx(0.02)
    assert found.moments["ai"].sample("revenue") == found.moments["control"].sample("revenue")


def test_covariates_look_back_from_the_pretended_exposure() -> None:
    metric = replace(REVENUE, covariates=(Covariate(lookback=7 * DAY),))
    found = read(experiment(metrics=(CONVERSION, metric)), shop(), Seen(7 * DAY))
    column = "revenue.before.168h"
    assert found.moments["control"].sample(column).mean == pytest.approx((0 + 8 + 5) / 3)


def test_late_batches_are_not_seen() -> None:
    facts = tables([], [event(1, days=BEFORE - 1), event(2, days=BEFORE - 1, ingest_batch=9)])
    assert read(experiment(), facts, Seen(7 * DAY)).units == 1


def test_nothing_at_all() -> None:
    with pytest.raises(NotReadyError, match="no events yet"):
        read(experiment(), tables([]), Seen(7 * DAY))


LAST = experiment(
    key="last",
    variants=(Variant("old", 500_000, {}), Variant("a", 300_000, {}), Variant("b", 200_000, {})),
    control="old",
    costs=Costs(None, "gateway", ()),
)


def last_test(**given: Any) -> Tables:
    def exposed(unit: int, variant: str, days: float = 0) -> dict[str, Any]:
        return exposure(unit, variant, experiment="last", occurred_at=START + days * DAY)

    return tables(
        [
            exposed(1, "old"),
            exposed(2, "old", 4),
            exposed(3, "a", 1),
            exposed(4, "b", 2),
            exposed(5, "old"),
            exposed(5, "a", 1),  # two variants: excluded
            exposed(6, "gone", 1),  # no variant of the spec
            exposure(7, "ai"),  # another experiment
        ],
        [purchase(1, "10"), purchase(3, "99"), purchase(7, "99")],
        [
            call("0.4", experiment="last", variant="a", unit=3),
            call("0.2", experiment="last", variant="b"),
            call("7", experiment="last", variant="a", unit=3, source="twice"),
            call("5", experiment="mail", variant="ai", unit=7),
        ],
        **given,
    )


def test_an_earlier_experiment_by_hand() -> None:
    found = read(experiment(), last_test(), Like(LAST))
    assert found.units == 2
    assert found.moments["control"].sample("revenue").mean == pytest.approx(5)
    # a and b both stand for the one planned treatment; calls of another source are not its own
    assert found.moments["ai"].n == 2
    assert found.moments["ai"].sample("cost").mean == pytest.approx((0.4 + 0.2) / 2)
    assert found.with_calls
    # 1 to 5 were exposed, over four days
    assert found.units_per_day == pytest.approx(5 / 4)
    renamed = replace(experiment(), costs=Costs(None, "other", ()))
    assert read(renamed, last_test(), Like(LAST)).moments["ai"].sample("cost").mean > 0


def test_exposures_in_one_moment_have_no_pace() -> None:
    facts = tables([exposure(1, "control"), exposure(2, "ai")], [purchase(1, "3")])
    found = read(experiment(), facts, Like(experiment()))
    assert isinstance(found.units_per_day, NotEstimable)
    assert found.units_per_day.reason == "no-traffic"


def test_an_earlier_experiment_without_mature_units() -> None:
    facts = tables([], [purchase(1, "3")])
    with pytest.raises(NotReadyError, match="no exposures"):
        read(experiment(), facts, Like(experiment()))
    young = tables([exposure(1, "control", occurred_at=WATERMARK.cutoff - DAY)], [purchase(1, "3")])
    with pytest.raises(NotReadyError, match="is mature yet"):
        read(experiment(), young, Like(experiment()))


def test_its_own_exposures_are_the_unit_table_itself() -> None:
    spec = experiment(plan=Plan(None, None, None, {}))
    facts = tables([exposure(1, "control"), exposure(2, "ai")], [purchase(2, "3")])
    shown = as_exposed(spec, facts, WATERMARK, Like(spec))  # type: ignore[arg-type]  # alike
    rows = shown.exposures.select("unit", "variant").to_pyarrow().to_pylist()
    assert sorted((row["unit"], row["variant"]) for row in rows) == [(1, "control"), (2, "ai")]


def test_kinds_of_metrics_come_from_the_same_expression() -> None:
    retention = Metric(
        "back", "retention", "visit", None, 7 * DAY, "increase", delay=timedelta(days=7)
    )
    count = Metric("visits", "count", "visit", None, 14 * DAY, "increase")
    basket = Metric(
        "basket", "ratio", None, None, timedelta(0), "increase",
        numerator="revenue", denominator="visits",
    )  # fmt: skip
    facts = tables(
        [],
        [event(unit, "visit", days=BEFORE - 1) for unit in (1, 2)]
        + [event(1, "visit", days=BEFORE + days) for days in (1, 2, 8)]
        + [purchase(1, "30", days=BEFORE + 3)],
    )
    spec = experiment(metrics=(retention, count, REVENUE, basket))
    control = read(spec, facts, Seen(7 * DAY)).moments["control"]
    assert control.sample("back").mean == 0.5
    assert control.sample("visits").mean == 1.5
    assert control.sample("revenue").mean / control.sample("visits").mean == 10
