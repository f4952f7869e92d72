"""Generated facts for every kind of metric, covariate, filter and cap.

Beside three large variants that mix all difficulties stand many small ones, each with a draw of
difficulties of its own: many cases, and one query for them all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from klartext.experiments.door import PropertyType
from klartext.experiments.experiment import (
    Assumption,
    CostLine,
    Costs,
    Covariate,
    Experiment,
    Filter,
    Metric,
    Refunds,
    Rollout,
    Variant,
)
from tests.analysis.nasty import Facts, calls
from tests.analysis.samples import (
    CONVERSION,
    DAY,
    REVENUE_NET_OF_REFUNDS,
    START,
    call,
    event,
    experiment,
    exposure,
)

MICROSECOND = timedelta(microseconds=1)
WINDOW = 14 * DAY
PRECISE = "precise"
"""A metric with mean 1e9 and standard deviation 1: one event per unit."""

CASES = 40
PROPERTIES: dict[str, PropertyType] = {
    "amount_net": "money", "country": "text", "items": "integer", "score": "number",
    "new": "boolean",
}  # fmt: skip
SWITCHES = (datetime(2025, 10, 26, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC))
_IDS = (0, -1, 1, 2**63 - 1, -(2**63))


def spec() -> Experiment:
    """Every kind of metric and covariate; a variant with one unit, one with none, many cases."""
    net = replace(
        REVENUE_NET_OF_REFUNDS, covariates=(Covariate(lookback=14 * DAY), Covariate("history"))
    )
    late = Metric(
        "late", "mean", "purchase", "amount_net", 6 * DAY, "increase", Refunds("refund", 28 * DAY),
        delay=DAY, filters=(Filter("country", "text", "in", ("DE", "AT")),),
        cap=Decimal("50.5"), covariates=(Covariate(lookback=28 * DAY),),
    )  # fmt: skip
    orders = Metric(
        "orders", "count", "purchase", None, WINDOW, "increase",
        cap=Decimal(2), covariates=(Covariate(lookback=7 * DAY),),
    )  # fmt: skip
    metrics = (
        CONVERSION,
        net,
        late,
        orders,
        Metric("huge", "mean", "measure", "value", WINDOW, "increase"),
        Metric("net_amount", "mean", "purchase", "amount_net", 7 * DAY, "increase"),
        Metric(PRECISE, "mean", PRECISE, "value", WINDOW, "increase"),
        Metric(
            "returning", "retention", "visit", None, 6 * DAY, "increase", delay=DAY,
            filters=(Filter("new", "boolean", "in", ("true",)),),
        ),
        Metric(
            "items", "count", "purchase", None, WINDOW, "increase",
            filters=(
                Filter("items", "integer", "at_least", ("2",)),
                Filter("amount_net", "money", "above", ("0",)),
            ),
        ),
        Metric(
            "scores", "mean", "visit", "score", WINDOW, "increase",
            filters=(Filter("score", "number", "below", ("2.5",)),),
        ),
        Metric(
            "typical", "quantile", "purchase", "value", WINDOW, "increase", quantile=Decimal("0.5")
        ),
        Metric("basket", "ratio", None, None, timedelta(0), "increase", numerator="revenue",
               denominator="orders", covariates=(Covariate(lookback=14 * DAY),)),
    )  # fmt: skip
    lines = (
        CostLine(
            "human_review", "event", Assumption(Decimal("1.2"), high=Decimal(2)), None,
            event="review",
        ),
        CostLine("other", "unit", Assumption(Decimal("0.10")), "ai"),
    )  # fmt: skip
    return experiment(
        variants=tuple(
            Variant(key, weight, {})
            for key, weight in (
                ("control", 400_000), ("ai", 400_000), ("ai_2", 100_000), ("solo", 49_999),
                ("empty", 1), *((key, 50_000 // CASES) for key in cases()),
            )
        ),
        metrics=metrics,
        costs=Costs(None, "gateway", lines),
        rollout=Rollout(*(Assumption(Decimal(x)) for x in ("1000", "1", "0.7", "0"))),
    )  # fmt: skip


def cases() -> tuple[str, ...]:
    """Keys of the small variants."""
    return tuple(f"case_{number}" for number in range(CASES))


@dataclass(frozen=True)
class Draw:
    """The difficulties that the units of a variant may have; None means anything."""

    starts: tuple[int, ...]
    exposures: tuple[int, ...]
    ages: tuple[timedelta | None, ...]
    amounts: tuple[Decimal | None, ...]
    events: int


_AGES: tuple[timedelta | None, ...] = (
    None, None, timedelta(0), -MICROSECOND, MICROSECOND, WINDOW, WINDOW - MICROSECOND, 7 * DAY,
    7 * DAY - MICROSECOND, DAY, DAY - MICROSECOND, 28 * DAY, 28 * DAY - MICROSECOND, 60 * DAY, -DAY,
    -7 * DAY, -7 * DAY - MICROSECOND, -14 * DAY, -28 * DAY,
)  # fmt: skip
_AMOUNTS = (
    None, Decimal(0), Decimal("0.000000000001"), Decimal("19.99"), Decimal("50.5"),
    Decimal("50.500000000001"), Decimal("-3.5"), Decimal("123456789012345.123456789012"),
)  # fmt: skip
EVERYTHING = Draw(tuple(range(5)), tuple(range(8)), _AGES, _AMOUNTS, 6)


def draw(rng: random.Random) -> Draw:
    """Make a case: some of everything, often only one."""

    def some(of: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(rng.sample(of, rng.choice([1, 1, 2, len(of)])))

    return Draw(
        some(EVERYTHING.starts), some(EVERYTHING.exposures), some(_AGES), some(_AMOUNTS),
        rng.choice([0, 1, 1, 3, 6]),
    )  # fmt: skip


def generate(seed: int, *, units: int) -> Facts:
    """Make facts of ``units`` units, and of some more in each case."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    facts = Facts()
    for place in range(units):
        unit = _IDS[place] if place < len(_IDS) else rng.getrandbits(63)
        variant = "solo" if place == units // 2 else rng.choice(["control", "ai"] * 2 + ["ai_2"])
        _add(facts, rng, unit, variant, EVERYTHING)
    for case in cases():
        allowed = draw(rng)
        size = rng.choice([0, 1, 2, 2, 3, 10, 30])
        if case == cases()[0]:  # all of its units are seen in a second variant
            allowed, size = replace(allowed, exposures=(2,)), 5
        for _ in range(size):
            _add(facts, rng, rng.getrandbits(63), case, allowed)
    for nobody in range(20):
        facts.usage_costs.append(call("0.000000000001", variant="retired", model=f"m{nobody % 3}"))
        facts.usage_costs.append(call("1.5", variant=rng.choice(["ai", None]), unit=None))
        facts.events.append(event(nobody, "purchase", value=Decimal(9), currency="EUR"))
    for rows in (facts.exposures, facts.events, facts.usage_costs):
        rng.shuffle(rows)
    return facts


def _add(facts: Facts, rng: random.Random, unit: int, variant: str, allowed: Draw) -> None:
    first = _instant(rng, rng.choice(allowed.starts))
    facts.exposures.extend(_exposures(rng, unit, first, variant, allowed))
    facts.events.extend(_events(rng, unit, first, allowed))
    facts.usage_costs.extend(calls(rng, unit))


def _instant(rng: random.Random, kind: int) -> datetime:
    """An ordinary instant, one around a clock change, or one at the edge of a day."""
    match kind:
        case 0:
            return rng.choice(SWITCHES) + rng.randrange(-7200, 7200) * timedelta(seconds=1)
        case 1:
            return rng.choice(SWITCHES) + rng.choice([-MICROSECOND, timedelta(0), MICROSECOND])
        case 2:
            return START.replace(hour=0) + rng.choice([-MICROSECOND, timedelta(0)])
        case 3:
            return START.replace(year=1960) + rng.randrange(10**9) * MICROSECOND
        case _:
            return START + rng.randrange(30 * 86_400_000_000) * MICROSECOND


def _exposures(
    rng: random.Random, unit: int, first: datetime, variant: str, allowed: Draw
) -> Iterator[dict[str, Any]]:
    yield exposure(unit, variant, occurred_at=first)
    if variant == "solo":
        return
    match rng.choice(allowed.exposures):
        case 0:  # again, the same
            yield exposure(unit, variant, occurred_at=first)
        case 1:  # a tie in another variant
            yield exposure(unit, rng.choice(["control", "ai", "ai_2"]), occurred_at=first)
        case 2:  # another variant a microsecond later
            yield exposure(unit, "ai", occurred_at=first + MICROSECOND)
        case 3:  # the same variant, much later and in a later batch
            yield exposure(unit, variant, occurred_at=first + 40 * DAY)
            yield exposure(unit, "ai_2", occurred_at=first - DAY, ingest_batch=99)
        case 4:  # what no analysis may see
            yield exposure(unit, "retired", occurred_at=first - DAY)
            yield exposure(unit, "ai", occurred_at=first - DAY, experiment="other")
        case _:
            pass


def _events(
    rng: random.Random, unit: int, first: datetime, allowed: Draw
) -> Iterator[dict[str, Any]]:
    yield event(unit, PRECISE, occurred_at=first, value=Decimal(f"{1e9 + rng.gauss(0, 1):.9f}"))
    for _ in range(rng.randrange(allowed.events + 1)):
        age = rng.choice(allowed.ages)
        if age is None:
            age = rng.randrange(20 * 86_400_000_000) * MICROSECOND
        amount = rng.choice(allowed.amounts)
        row = event(
            unit,
            rng.choice(["purchase", "purchase", "refund", "review", "visit"]),
            occurred_at=first + age,
            value=amount,
            currency=rng.choice(["EUR", "EUR", "EUR", "USD", None]),
            p_amount_net=rng.choice([None, amount]),
            p_country=rng.choice(["DE", "AT", "CH", "", None]),
            p_items=rng.choice([None, 0, 1, 2, 3, 2**53 + 1]),
            p_score=rng.choice([None, 0.0, 2.5, rng.randrange(200) / 64]),
            p_new=rng.choice([None, True, False]),
            ingest_batch=rng.choice([1, 1, 1, 1, 99]),
        )
        yield row
        if rng.randrange(5) == 0:
            yield row
    for _ in range(rng.randrange(3)):
        before = rng.choice([timedelta(0), MICROSECOND, DAY, DAY])  # two of them may tie
        history = rng.choice([None, Decimal(-1), Decimal("0.1"), Decimal("99999999999.5")])
        yield event(unit, "covariate.history", occurred_at=first - before, value=history,
                    currency=rng.choice([None, "EUR", "USD"]))  # fmt: skip
    for _ in range(rng.randrange(3)):
        value = Decimal(f"{1e9 + rng.gauss(0, 1):.9f}")
        yield event(unit, "measure", occurred_at=first + rng.randrange(100) * MICROSECOND,
                    value=value)  # fmt: skip
