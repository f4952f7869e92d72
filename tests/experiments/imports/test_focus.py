import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from klartext.experiments import migrations
from klartext.experiments.door import Door
from klartext.experiments.errors import ConfigurationError, KlartextError
from klartext.experiments.identity import Pseudonymiser
from klartext.experiments.imports.bookings import Booking, Books, book
from klartext.experiments.imports.focus import BillOptions, open_focus
from klartext.experiments.ledger.book import Draft, Recorded, append, standing
from klartext.experiments.ledger.fx import Rates
from klartext.experiments.ledger.sums import by_category, reconciled
from klartext.experiments.state import open_state

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DOOR = Door(
    pseudonymiser=Pseudonymiser(bytes(32)),
    properties={},
    currency="USD",
    timezone="UTC",
    rates=Rates(),
    latest=NOW,
    variants={"mail": ("control", "ai")},
)
CHARGE = {
    "BilledCost": "0",
    "EffectiveCost": "1.5",
    "BillingCurrency": "USD",
    "BillingPeriodStart": "2026-10-01T00:00:00Z",
    "ChargePeriodStart": "2026-10-05T10:00:00Z",
    "ChargePeriodEnd": "2026-10-05T11:00:00Z",
    "ChargeCategory": "Usage",
    "ChargeClass": "",
    "ChargeFrequency": "Usage-Based",
    "ServiceCategory": "AI and Machine Learning",
    "ServiceName": "Foundation Models",
    "SubAccountId": "4711",
    "ProviderName": "Cloud",
    "ResourceId": "r-1",
    "Tags": "",
}


class Ledger:
    """A ledger in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = open_state(f"sqlite:///{folder}/state.db")
        migrations.upgrade(self.engine)

    def take(self, path: Path, *, restates: bool = False, **options: Any) -> Booking:
        source, rows = open_focus(path, BillOptions("bill", **options), DOOR)
        books = Books(self.engine, lambda: NOW, "lena")
        return book(source, rows, books, DOOR, restates=restates)

    def take_rows(self, *rows: dict[str, str], **options: Any) -> Booking:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(CHARGE))
        writer.writeheader()
        writer.writerows(CHARGE | row for row in rows)
        path = self.folder / "bill.csv"
        path.write_text(text.getvalue())
        return self.take(path, **options)

    def lines(self) -> list[Recorded]:
        with self.engine.connect() as connection:
            return list(standing(connection))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def test_the_sample_of_the_standard(shared_data: Path, ledger: Ledger) -> None:
    """Sums and counts are those of the sample's README."""
    sample = shared_data / "focus" / "focus_sample.csv"
    assert ledger.take(sample).delivered.counts.accepted == 1000
    lines = ledger.lines()
    costs = by_category(lines)
    assert sum(cost.amount for cost in costs) == Decimal("14.97651418586")
    (bill,) = reconciled(lines)
    assert (bill.billed, bill.effective) == (Decimal("20.52022672899"), Decimal("14.97651418586"))
    assert sum(each.line.reporting < 0 for each in lines) == 13
    assert sum(each.line.kind == "credit" for each in lines) == 1
    (models,) = (cost for cost in costs if cost.category == "model_fees")
    assert models.amount < 0
    assert models.lines == 9
    again = ledger.take(sample)
    assert again.delivered.counts.duplicate == 1000
    assert again.outdated == 0
    assert ledger.lines() == lines


def test_parquet_is_read_alike(shared_data: Path, ledger: Ledger, tmp_path: Path) -> None:
    sample = shared_data / "focus" / "focus_sample.csv"
    exact = dict.fromkeys(("BilledCost", "EffectiveCost"), pa.decimal128(38, 12))
    table = pacsv.read_csv(
        sample, convert_options=pacsv.ConvertOptions(column_types=exact, null_values=["NULL"])
    )
    pq.write_table(table, tmp_path / "bill.parquet")
    ledger.take(tmp_path / "bill.parquet")
    lines = ledger.lines()
    assert sum(cost.amount for cost in by_category(lines)) == Decimal("14.97651418586")
    assert reconciled(lines)[0].billed == Decimal("20.52022672899")


def test_tags_are_a_map_in_parquet(ledger: Ledger, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        CHARGE | {"Tags": [("experiment", "mail"), ("variant", "ai")]},
        CHARGE | {"Tags": None},
    ]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in CHARGE}
    columns["Tags"] = pa.array(columns["Tags"], pa.map_(pa.string(), pa.string()))
    when = [datetime(2026, 10, 5, 10, tzinfo=UTC).replace(tzinfo=None)] * 2
    columns["ChargePeriodStart"] = pa.array(when, pa.timestamp("ns"))
    pq.write_table(pa.table(columns), tmp_path / "bill.parquet")
    assert ledger.take(tmp_path / "bill.parquet").delivered.counts.accepted == 2
    assert [each.line.variant for each in ledger.lines()] == ["ai", None]
    assert ledger.lines()[0].line.start == datetime(2026, 10, 5, 10, tzinfo=UTC)


def test_equal_rows_are_charged_each_and_known_again(ledger: Ledger) -> None:
    assert ledger.take_rows({}, {}, {}).delivered.counts.accepted == 3
    again = ledger.take_rows({}, {"EffectiveCost": "2"}, {}, {}, {}).delivered.counts
    assert (again.accepted, again.duplicate) == (2, 3)  # a fourth of its kind, and another
    assert sum(each.line.reporting for each in ledger.lines()) == Decimal(8)


def test_a_restated_bill_voids_what_it_no_longer_has(ledger: Ledger) -> None:
    september = {"BillingPeriodStart": "2026-09-01T00:00:00Z", "EffectiveCost": "50"}
    ledger.take_rows({}, {"ResourceId": "r-2"}, september)
    restated: tuple[dict[str, str], ...] = ({}, {"ResourceId": "r-2", "EffectiveCost": "1.4"})
    warned = ledger.take_rows(*restated)
    assert warned.outdated == 1  # r-2 at 1.5 still counts beside the new line
    assert sum(each.line.reporting for each in ledger.lines()) == Decimal("54.4")
    voided = ledger.take_rows(*restated, restates=True)
    assert (voided.outdated, voided.delivered.counts.duplicate) == (1, 2)
    assert sum(each.line.reporting for each in ledger.lines()) == Decimal("52.9")
    assert ledger.take_rows(*restated, restates=True).outdated == 0
    # A row that cannot be read may be the one that is still meant.
    unread = ledger.take_rows({}, {"ResourceId": "r-2", "EffectiveCost": "?"}, restates=True)
    assert (unread.outdated, unread.restated) == (1, False)
    assert sum(each.line.reporting for each in ledger.lines()) == Decimal("52.9")


def test_what_was_restated_by_mistake_comes_back(ledger: Ledger) -> None:
    """Bill A, restated as B, then A again: its lines are known, but no longer in the books."""
    right: tuple[dict[str, str], ...] = ({}, {"ResourceId": "r-2"})
    wrong: tuple[dict[str, str], ...] = ({}, {"ResourceId": "r-2", "EffectiveCost": "9"})

    def total() -> Decimal:
        return sum((each.line.reporting for each in ledger.lines()), Decimal(0))

    ledger.take_rows(*right)
    ledger.take_rows(*wrong, restates=True)
    assert total() == Decimal("10.5")
    late = ledger.take_rows(*right)  # an old file once more says nothing by itself
    assert (late.withdrawn, late.outdated, late.restated) == (1, 1, False)
    assert total() == Decimal("10.5")
    for _ in range(2):  # to and fro, as often as somebody errs
        back = ledger.take_rows(*right, restates=True)
        assert (back.withdrawn, back.outdated, back.delivered.counts.duplicate) == (1, 1, 2)
        assert total() == Decimal(3)
        again = ledger.take_rows(*right, restates=True)
        assert (again.withdrawn, again.outdated) == (0, 0)
        assert total() == Decimal(3)
        ledger.take_rows(*wrong, restates=True)
        assert total() == Decimal("10.5")


def test_a_line_that_a_person_voided_stays_out(ledger: Ledger) -> None:
    ledger.take_rows({}, {"ResourceId": "r-2"})
    first = ledger.lines()[0]
    draft = Draft("by hand", "by hand", first.line.voided(first.number))
    with ledger.engine.begin() as connection:
        append(connection, [draft], actor="lena", now=NOW)
    again = ledger.take_rows({}, {"ResourceId": "r-2"}, restates=True)
    assert (again.withdrawn, len(ledger.lines())) == (0, 1)


def test_one_bill_as_csv_and_as_parquet_is_two_until_restated(
    ledger: Ledger, tmp_path: Path
) -> None:
    """A charge has no id, only what its row says, and a row of text is none of numbers."""
    ledger.take_rows({}, {"ResourceId": "r-2"})
    table = pacsv.read_csv(ledger.folder / "bill.csv")
    pq.write_table(table, tmp_path / "bill.parquet")
    twice = ledger.take(tmp_path / "bill.parquet")
    assert (twice.delivered.counts.accepted, twice.outdated) == (2, 2)  # and a warning says so
    assert sum(each.line.reporting for each in ledger.lines()) == Decimal(6)
    once = ledger.take(tmp_path / "bill.parquet", restates=True)
    assert (once.outdated, once.restated) == (2, True)
    assert sum(each.line.reporting for each in ledger.lines()) == Decimal(3)


def test_what_a_charge_is(ledger: Ledger) -> None:
    ledger.take_rows(
        {"ChargeCategory": "Tax", "EffectiveCost": "19"},
        {"ChargeCategory": "Credit", "EffectiveCost": "-5"},
        {"ChargeClass": "Correction", "EffectiveCost": "-1"},
        {"ChargeFrequency": "One-Time", "ServiceCategory": "Storage", "EffectiveCost": "7"},
        {"ServiceCategory": "Something New"},
    )
    kinds = [(each.line.kind, each.line.category, each.line.behaviour) for each in ledger.lines()]
    assert kinds == [
        ("tax", "model_fees", "per_event"),
        ("credit", "model_fees", "per_event"),
        ("correction", "model_fees", "per_event"),
        ("charge", "vector_storage", "one_off"),
        ("charge", "other", "per_event"),
    ]
    first = ledger.lines()[0].line
    assert (first.status, first.account, first.label) == ("invoiced", "4711", "Foundation Models")
    assert first.evidence == "FOCUS EffectiveCost Cloud"


def test_tags_name_the_experiment_and_nothing_else_is_kept(ledger: Ledger) -> None:
    ledger.take_rows(
        {"Tags": '{"experiment": "mail", "variant": "ai", "CostCenter": "77"}'},
        {"Tags": '{"experiment": "elsewhere", "owner": "anna@example.org"}'},
        {"Tags": '{"experiment": "mail", "variant": "nobody"}'},
        {"Tags": "{"},
        {"Tags": '["mail"]'},
    )
    lines = [each.line for each in ledger.lines()]
    assert [(line.experiment, line.variant, line.cost_centre) for line in lines] == [
        ("mail", "ai", "77"),
        (None, None, None),
    ]
    for path in ledger.folder.iterdir():
        if path.name.startswith("state"):
            assert b"anna@example" not in path.read_bytes()
    other = Ledger(ledger.folder / "other")
    other.take_rows({}, experiment="mail", variant="control")
    assert other.lines()[0].line.variant == "control"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"EffectiveCost": "12,50"}, "bad-number"),
        ({"EffectiveCost": ""}, "bad-number"),
        ({"EffectiveCost": "NaN"}, "bad-number"),
        ({"BilledCost": "free"}, "bad-number"),
        ({"BillingCurrency": "dollars"}, "unknown-currency"),
        ({"BillingCurrency": "GBP"}, "no-exchange-rate"),
        ({"ChargePeriodEnd": "2026-10-05T10:00:00Z"}, "bad-period"),
        ({"ChargePeriodStart": "yesterday"}, "bad-time"),
        ({"ChargeCategory": "Gift"}, "bad-kind"),
    ],
)
def test_bad_rows_are_rejected_and_the_rest_goes_on(
    ledger: Ledger, change: dict[str, str], reason: str
) -> None:
    found = ledger.take_rows(change, {}).delivered
    assert (found.counts.accepted, found.counts.rejected, found.counts.sent) == (1, 1, 2)
    assert [each.reason for each in found.reasons] == [reason]


def test_what_is_no_bill_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("BilledCost,EffectiveCost\n1,1\n")
    with pytest.raises(ConfigurationError) as caught:
        ledger.take(tmp_path / "other.csv")
    assert len(caught.value.problems) == 6
    with pytest.raises(KlartextError, match="--source"):
        open_focus(tmp_path / "other.csv", BillOptions("a b"), DOOR)


def test_a_killed_import_is_repeated_without_loss_or_double(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klartext.experiments.imports.bookings.CHUNK_LINES", 2)
    rows = [{"ResourceId": f"r-{number}"} for number in range(5)]
    ticks = iter([NOW, NOW, NOW])

    def stopping() -> datetime:
        return next(ticks) + timedelta(seconds=1)

    ledger.take_rows()
    path = ledger.folder / "bill.csv"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(CHARGE))
    writer.writeheader()
    writer.writerows(CHARGE | row for row in rows)
    path.write_text(text.getvalue())
    source, drafts = open_focus(path, BillOptions("bill"), DOOR)
    with pytest.raises(StopIteration):
        book(source, drafts, Books(ledger.engine, stopping, "lena"), DOOR)
    assert len(ledger.lines()) == 4
    again = ledger.take(path).delivered.counts
    assert (again.accepted, again.duplicate) == (1, 4)
