from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from klartext.experiments.cells import (
    Cell,
    NumberFormat,
    RowError,
    decimal,
    flag,
    identifier,
    instant,
    integer,
    shape,
)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("12.50", "12.5"),
        (" -3 ", "-3"),
        (".5", "0.5"),
        ("1e3", "1000"),
        (0.1, "0.1"),
        (7, "7"),
        (Decimal("0.1234567890125"), "0.123456789012"),  # half to even
        ("-0", "0"),
    ],
)
def test_numbers_are_exact(cell: Cell, expected: str) -> None:
    assert decimal(cell, "x") == Decimal(expected)
    assert str(decimal(cell, "x")).startswith("-") == expected.startswith("-")


@pytest.mark.parametrize(
    "cell",
    ["", "abc", "1,5", "NaN", "inf", "1_000", "٣", "0x10", "1" * 27, "1e30", "9" * 100,
     float("nan"), float("inf"), Decimal("nan"), Decimal("1e400"), None, True, "yes"],
)  # fmt: skip
def test_what_is_no_number_is_refused(cell: Cell) -> None:
    with pytest.raises(RowError) as raised:
        decimal(cell, "x")
    assert raised.value.reason == "bad-number"


def test_german_numbers() -> None:
    german = NumberFormat(",", ".")
    assert decimal("1.234.567,89", "x", german) == Decimal("1234567.89")
    assert decimal("12,5", "x", german) == Decimal("12.5")
    with pytest.raises(RowError):
        decimal("1.5", "x", german)  # not 15


def test_whole_numbers_fit_64_bits() -> None:
    assert integer("9223372036854775807", "x") == 2**63 - 1
    for cell in ("1.5", "9223372036854775808"):
        with pytest.raises(RowError):
            integer(cell, "x")


def test_flags() -> None:
    assert [flag(cell, "x") for cell in ("TRUE", "1", "yes", True, 1)] == [True] * 5
    assert [flag(cell, "x") for cell in ("false", "0", "N", False, 0)] == [False] * 5
    with pytest.raises(RowError, match="bad-flag"):
        flag("maybe", "x")


@pytest.mark.parametrize(
    ("cell", "format_", "zone", "expected"),
    [
        ("2026-03-01T12:00:00+02:00", "iso", None, datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01 12:00:00.1234567Z", "iso", None,
         datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        ("2026-07-01", "iso", "Europe/Berlin", datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("2026-10-25 02:30", "iso", "Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("01.07.2026 09:30", "%d.%m.%Y %H:%M", "Europe/Berlin",
         datetime(2026, 7, 1, 7, 30, tzinfo=UTC)),
        ("1767225600", "epoch_s", None, datetime(2026, 1, 1, tzinfo=UTC)),
        (1767225600123, "epoch_ms", None, datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        (date(2026, 1, 1), "iso", "UTC", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_instants(cell: Cell, format_: str, zone: str | None, expected: datetime) -> None:
    assert instant(cell, "time", format=format_, zone=zone) == expected


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("2026-03-01 12:00", "naive-time"),
        (datetime(2026, 3, 1), "naive-time"),  # noqa: DTZ001 - what is refused
        ("20260301", "bad-time"),
        ("2026-W10-1", "bad-time"),
        ("2026-13-01T00:00:00Z", "bad-time"),
        ("0026-01-01T00:00:00Z", "bad-time"),
        ("0001-01-01T00:00:00+14:00", "bad-time"),
        ("", "time-missing"),
    ],
)
def test_bad_instants(cell: Cell, reason: str) -> None:
    with pytest.raises(RowError) as raised:
        instant(cell, "time")
    assert raised.value.reason == reason


def test_ids_are_text_or_integers() -> None:
    assert identifier(" 42\t", "unit") == "42"  # padded: the same customer in every file
    assert identifier("Anna B", "unit") == "Anna B"
    assert identifier(42, "unit") == "42"
    reasons: list[tuple[Cell, str]] = [
        ("", "unit-missing"), (None, "unit-missing"), (42.0, "bad-id"), (True, "bad-id"),
        ("x" * 513, "bad-id"), ("\ud800", "bad-encoding"),
    ]  # fmt: skip
    for cell, reason in reasons:
        with pytest.raises(RowError) as raised:
            identifier(cell, "unit")
        assert raised.value.reason == reason


def test_shapes_tell_no_values() -> None:
    assert shape("anna.müller7@example.org") == "'aaaa.aaaaaa9@aaaaaaa.aaa'"
    assert shape("9" * 100) == f"'{'9' * 40}'…"
