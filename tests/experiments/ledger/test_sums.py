"""The ledger by what its lines say, and by day of service."""

from datetime import UTC, datetime
from decimal import Decimal

from klartext.experiments.ledger.book import Recorded
from klartext.experiments.ledger.sums import by_dimension
from tests.experiments.ledger.books import LATER, OCTOBER, line


def recorded(*lines: object) -> list[Recorded]:
    return [Recorded(n, f"{n}", LATER, "lena", one) for n, one in enumerate(lines)]  # type: ignore[arg-type]  # lines


def test_days_add_up_to_the_line() -> None:
    """10 EUR over three days of UTC are 3.33…; the twelfth place of the last day closes the sum."""
    end = datetime(2026, 10, 4, tzinfo=UTC)
    found = by_dimension(recorded(line("10", end=end)), "day", timezone="UTC")
    assert [day for day, _ in found] == ["2026-10-01", "2026-10-02", "2026-10-03"]
    third = Decimal("3.333333333333")
    assert [amount for _, amount in found] == [third, third + Decimal("1E-12"), third]
    assert sum(amount for _, amount in found) == 10


def test_a_one_off_falls_on_its_first_day_in_the_calendar_of_the_workspace() -> None:
    late = line("7", start=OCTOBER.replace(hour=23), behaviour="one_off")
    assert by_dimension(recorded(late), "day", timezone="Europe/Berlin") == (
        ("2026-10-02", Decimal(7)),
    )


def test_lines_by_what_they_say() -> None:
    lines = recorded(
        line("5", variant="ai", experiment="m"), line("7"), line("9", kind="tax"), line("-1")
    )
    assert by_dimension(lines, "variant", timezone="UTC") == (
        (None, Decimal(6)),
        ("ai", Decimal(5)),
    )
    assert by_dimension(lines, "model", timezone="UTC") == ((None, Decimal(11)),)
