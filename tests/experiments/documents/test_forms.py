from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from klartext.experiments.documents import forms
from klartext.experiments.documents.validation import Model, examine
from klartext.experiments.documents.yaml_document import read


class Forms(Model):
    key: forms.Key = ""
    name: forms.Name = ""
    text: forms.Text = ""
    percent: forms.Percent = Decimal(0)
    share: forms.Share = Decimal(0)
    millionths: forms.Millionths = 0
    weight: forms.Weight = 0
    number: forms.Number = Decimal(0)
    hours: forms.NotNegative = Decimal(0)
    count: forms.Count = 0
    amount: forms.Amount = Decimal(0)
    cost: forms.AmountFromZero = Decimal(0)
    duration: forms.Duration = timedelta(0)
    window: forms.Window = timedelta(0)
    life: forms.LifeMonths = 0
    currency: forms.Currency = ""
    timezone: forms.Timezone = ""
    start: forms.Start = datetime(1970, 1, 1, tzinfo=UTC)
    end: forms.End = datetime(1970, 1, 1, tzinfo=UTC)
    limit: forms.Limit = ("number", Decimal(0))
    payload: forms.Payload = {}  # noqa: RUF012 - pydantic copies it


SETTINGS = {"currency": "EUR", "timezone": "Europe/Berlin"}


def form(key: str, written: str) -> tuple[Any, list[str]]:
    node = read(f"{key}: {written}\n", "x.yaml")
    instance, problems = examine(Forms, node, "x.yaml", settings=SETTINGS)
    return getattr(instance, key), [str(problem) for problem in problems]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type] # the tests give year to minute


@pytest.mark.parametrize(
    ("key", "written", "meant"),
    [
        ("key", "mail-2", "mail-2"),
        ("key", "no", "no"),
        ("percent", "12.5%", Decimal("0.125")),
        ("percent", "-20%", Decimal("-0.2")),
        ("percent", "150 %", Decimal("1.5")),
        ("share", "100%", Decimal(1)),
        ("millionths", "0.0001%", 1),
        ("weight", "33.3333%", 333_333),
        ("weight", "equal", None),
        ("number", "1.50", Decimal("1.50")),
        ("hours", "0", Decimal(0)),
        ("count", "40000", 40_000),
        ("amount", "-6.50 EUR", Decimal("-6.50")),
        ("amount", "60EUR", Decimal(60)),
        ("cost", "0 EUR", Decimal(0)),
        ("duration", "0d", timedelta(0)),
        ("duration", "36h", timedelta(hours=36)),
        ("window", "2w", timedelta(days=14)),
        ("life", "24mo", 24),
        ("life", "2y", 24),
        ("timezone", "America/New_York", "America/New_York"),
        ("start", "2027-01-12T09:00", utc(2027, 1, 12, 8, 0)),  # CET
        ("start", "2027-07-12 09:00", utc(2027, 7, 12, 7, 0)),  # CEST
        ("start", "2027-01-12", utc(2027, 1, 11, 23, 0)),
        ("end", "2027-03-31", utc(2027, 3, 31, 22, 0)),  # the day itself belongs to the test
        ("end", "2027-03-31T12:00", utc(2027, 3, 31, 10, 0)),
        ("start", "2027-01-12T09:00Z", utc(2027, 1, 12, 9, 0)),
        ("start", "2027-01-12T09:00+05:30", utc(2027, 1, 12, 3, 30)),
        ("start", "2027-10-31T02:30+01:00", utc(2027, 10, 31, 1, 30)),
        ("limit", "0.2pp", ("pp", Decimal("0.002"))),
        ("limit", "5%", ("%", Decimal("0.05"))),
        ("limit", "0.50 EUR", ("money", Decimal("0.50"))),
        ("limit", "3", ("number", Decimal(3))),
        ("payload", "{a: 0.7, b: [1, no, null], c: {d: true}}",
         {"a": 0.7, "b": [1, "no", None], "c": {"d": True}}),
    ],
)  # fmt: skip
def test_what_is_written_and_what_it_means(key: str, written: str, meant: Any) -> None:
    assert form(key, written) == (meant, [])


@pytest.mark.parametrize(
    ("key", "written", "said"),
    [
        ("key", "Mail", "is 'Mail': must be a key"),
        ("key", "12", "is 12: must be a key"),
        ("key", '"-a"', "must be a key"),
        ("name", "9lives", "must be a name"),
        ("text", "12", "is 12: must be text"),
        ("text", '"  "', "must be text"),
        ("percent", "0.05", "is 0.05: must be a percentage. Write 5% if that is meant"),
        ("percent", "5", "is 5: must be a percentage. Write 5% if that is meant"),
        ("percent", "5 percent", "Write a number and a percent sign"),
        ("percent", "1,5%", "must be a percentage"),
        ("share", "101%", "must be between 0% and 100%"),
        ("share", "-1%", "must be between 0% and 100%"),
        ("millionths", "33.33333%", "must be a whole number of millionths"),
        ("number", '"1"', "must be a number"),
        ("number", "true", "is true: must be a number"),
        ("hours", "-1", "must be at least 0"),
        ("count", "0", "must be a whole number above 0"),
        ("count", "1.0", "must be a whole number above 0"),
        ("count", "40k", "must be a whole number above 0"),
        ("amount", "60", "is 60: must be an amount of money. Write a plain number and the"),
        ("amount", "60 USD", "must be in the reporting currency EUR. Convert it"),
        ("amount", "1.000,00 EUR", "must be an amount of money"),
        ("amount", "€60", "must be an amount of money"),
        ("cost", "-1 EUR", "must be at least 0"),
        ("duration", "14", "must be a duration"),
        ("duration", "2 weeks", "must be a duration"),
        ("window", "0d", "must be longer than 0"),
        ("life", "24m", "must be a useful life"),
        ("life", "0mo", "must be a useful life"),
        ("currency", "euro", "must be an ISO 4217 code"),
        ("timezone", "Europe/Berln", "must be a time zone"),
        ("timezone", "../../etc/passwd", "must be a time zone"),
        ("timezone", "Europe", "must be a time zone"),
        ("start", "2027-02-29", "must be a date or a time"),
        ("start", "2027-01-12T25:00", "must be a date or a time"),
        ("start", "12.1.2027", "must be a date or a time"),
        ("start", "0001-01-01", "must be a date or a time"),
        ("start", "2027-03-28T02:30", "must be a time that exists in Europe/Berlin"),
        ("start", "2027-10-31T02:30", "must be a time that happens only once in Europe/Berlin"),
        ("limit", "-1%", "must be at least 0"),
        ("limit", "1 USD", "must be in the reporting currency EUR"),
        ("limit", "much", "must be a limit. Write it as 0.2pp, 5%, '0.50 EUR' or a number"),
        ("payload", "[a]", "is a list: must be a mapping"),
    ],
)
def test_what_is_refused_and_how_it_is_said(key: str, written: str, said: str) -> None:
    _, problems = form(key, written)
    assert len(problems) == 1
    assert problems[0].startswith(f"x.yaml:1 {key} is ")
    assert said in problems[0]
