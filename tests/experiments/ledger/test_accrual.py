from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klartext.experiments.experiment import Assumption, CostLine
from klartext.experiments.ledger.accrual import (
    Accrual,
    accrue,
    left_out,
    months_between,
)

BERLIN = ZoneInfo("Europe/Berlin")


def line(behaviour: Any, amount: str, variant: str | None = "ai", **options: Any) -> CostLine:
    return CostLine(
        options.pop("category", "monitoring"),
        behaviour,
        Assumption(Decimal(amount)),
        variant,
        **options,
    )


def local(year: int, month: int, day: int, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=BERLIN)


NEW_YEAR, FEBRUARY = local(2027, 1, 1), local(2027, 2, 1)


def charged(
    *lines: CostLine,
    start: datetime = NEW_YEAR,
    end: datetime = FEBRUARY,
    units: dict[str, int] | None = None,
    events: dict[tuple[str, str], int] | None = None,
    treatments: tuple[str, ...] = ("ai",),
) -> tuple[Accrual, ...]:
    return accrue(
        lines,
        start=start,
        end=end,
        timezone="Europe/Berlin",
        units=units or {},
        events=events or {},
        treatments=treatments,
    )


def test_part_of_a_month_is_charged_by_its_days() -> None:
    # 16 of January's 31 days: 250 x 16/31 = 129.032258064516...
    (accrual,) = charged(line("month", "250"), end=local(2027, 1, 17))
    assert accrual.amount == Decimal("129.032258064516")
    assert accrual.quantity == Decimal("0.516129032258")


def test_leap_february_has_29_days() -> None:
    (leap,) = charged(line("month", "290"), start=local(2024, 2, 1), end=local(2024, 2, 15))
    (plain,) = charged(line("month", "280"), start=local(2027, 2, 1), end=local(2027, 2, 15))
    assert leap.amount == Decimal(140)
    assert plain.amount == Decimal(140)


def test_months_of_unlike_length_add_up() -> None:
    # 20/31 of January, all of February, 10/31 of March
    months = months_between(local(2027, 1, 12), local(2027, 3, 11), "Europe/Berlin")
    assert months == Fraction(20, 31) + 1 + Fraction(10, 31)


@pytest.mark.parametrize(
    ("midnight", "hours"), [(local(2027, 3, 28), 23), (local(2027, 10, 31), 25)]
)
def test_a_day_on_which_the_clocks_change_is_one_day(midnight: datetime, hours: int) -> None:
    whole = midnight.astimezone(UTC) + timedelta(hours=hours)
    assert months_between(midnight, whole, "Europe/Berlin") == Fraction(1, 31)
    one_hour = midnight.astimezone(UTC) + timedelta(hours=1)
    assert months_between(midnight, one_hour, "Europe/Berlin") == Fraction(1, 31 * hours)


def test_time_zone_decides_the_month() -> None:
    start = datetime(2027, 1, 31, 23, tzinfo=UTC)  # 1 February in Berlin
    end = datetime(2027, 2, 28, 23, tzinfo=UTC)
    assert months_between(start, end, "Europe/Berlin") == 1
    assert months_between(start, end, "UTC") != 1


def test_amortised_cost_is_charged_by_the_month_and_never_beyond_its_life() -> None:
    work = line("amortised", "15200", category="engineering", life_months=24)
    (january,) = charged(work)
    assert january.amount == Decimal("633.333333333333")  # 15,200 / 24
    (all_of_it,) = charged(work, end=local(2031, 1, 1))
    assert (all_of_it.quantity, all_of_it.amount) == (Decimal(24), Decimal(15200))


def test_one_off_cost_is_charged_in_full() -> None:
    (accrual,) = charged(line("once", "400"), end=local(2027, 1, 1))
    assert (accrual.quantity, accrual.amount) == (Decimal(1), Decimal(400))


def test_cost_per_unit_of_hillstroms_mens_mail() -> None:
    # 21,307 x 0.004998002943 USD, the trace's mean cost per call
    mail = line("unit", "0.004998002943", "mens", category="model_fees")
    (accrual,) = charged(mail, units={"mens": 21_307, "control": 21_306}, treatments=("mens",))
    assert accrual.amount == Decimal("106.492448706501")
    assert round(accrual.amount, 6) == Decimal("106.492449")
    assert accrual.quantity == 21_307


def test_zero_units_cost_nothing_but_are_named() -> None:
    (accrual,) = charged(line("unit", "0.5"), units={"ai": 0})
    assert (accrual.variant, accrual.quantity, accrual.amount) == ("ai", Decimal(0), Decimal(0))


def test_cost_per_event_counts_that_event_of_that_variant() -> None:
    review = line("event", "1.20", category="human_review", event="review")
    (accrual,) = charged(
        review, units={"ai": 9}, events={("ai", "review"): 7, ("control", "review"): 3}
    )
    assert (accrual.quantity, accrual.amount) == (Decimal(7), Decimal("8.40"))


def test_shared_cost_is_split_to_the_cent() -> None:
    shared = charged(line("month", "100", None), treatments=("a", "b", "c"))
    assert [accrual.variant for accrual in shared] == ["a", "b", "c"]
    assert [accrual.amount for accrual in shared] == [
        Decimal("33.34"),
        Decimal("33.33"),
        Decimal("33.33"),
    ]


def test_thirds_of_a_cent_are_not_lost() -> None:
    shared = charged(line("once", "0.01", None), treatments=("a", "b", "c"))
    assert [accrual.amount for accrual in shared] == [Decimal("0.01"), Decimal(0), Decimal(0)]


def test_shared_cost_per_unit_goes_to_the_units_that_caused_it() -> None:
    accruals = charged(line("unit", "0.10", None), units={"control": 10, "ai": 30})
    assert [(accrual.variant, accrual.amount) for accrual in accruals] == [
        ("control", Decimal(1)),
        ("ai", Decimal(3)),
    ]


def test_shared_cost_needs_somebody_to_bear_it() -> None:
    with pytest.raises(ValueError, match="no treatment"):
        charged(line("once", "1", None), treatments=())


def test_periods_are_instants_in_order() -> None:
    with pytest.raises(ValueError, match="time zone"):
        months_between(NEW_YEAR.replace(tzinfo=None), local(2027, 2, 1), "UTC")
    with pytest.raises(ValueError, match="before it starts"):
        months_between(local(2027, 2, 1), local(2027, 1, 1), "UTC")


def test_categories_nobody_spoke_about_are_left_out() -> None:
    lines = (line("once", "1", category="engineering"), line("once", "0", category="compliance"))
    missing = left_out(lines, {"model_fees"})
    assert missing[0] == "inference_compute"
    assert not {"engineering", "compliance", "model_fees"} & set(missing)
    assert len(missing) == 9


instants = st.integers(0, 10**14).map(
    lambda after: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(microseconds=after)
)


@given(instants, instants, instants)
def test_periods_add_up_exactly(a: datetime, b: datetime, c: datetime) -> None:
    start, middle, end = sorted((a, b, c))
    whole = months_between(start, end, "Europe/Berlin")
    parts = (
        months_between(start, middle, "Europe/Berlin"),
        months_between(middle, end, "Europe/Berlin"),
    )
    assert whole == sum(parts)
