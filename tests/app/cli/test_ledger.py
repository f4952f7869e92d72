"""The ledger on the command line: bills, lines by hand, and the books as they stood."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.roi import Totals, return_on_cost

Run = Callable[..., Any]

OCTOBER = ("--from", "2026-10-01", "--until", "2026-11-01")


@pytest.fixture
def rates(workspace: Path, run: Run) -> Path:
    (workspace / "rates.csv").write_text("date,currency,rate\n2024-09-02,USD,1.25\n")
    run("apply")
    return workspace


@pytest.mark.usefixtures("workspace")
def test_an_accrual_is_replaced_by_its_invoice(run: Run) -> None:
    run("apply")
    accrued = run(
        *("costs", "add", "1000 EUR", "--category", "engineering", *OCTOBER),
        *("--status", "accrued", "--experiment", "mail-subject", "--variant", "ai", "--json"),
    ).json
    assert (accrued["schema"], accrued["number"]) == ("klartext/costs-add/v1", 1)
    assert accrued["from"] == "2026-09-30T22:00:00+00:00"  # midnight in Berlin
    before = run("costs", "list", "--as-of", accrued["recorded_at"], "--json").json["ledger"]
    done = run(
        *("costs", "add", "1180 EUR", "--category", "engineering", *OCTOBER),
        *("--status", "invoiced", "--supersedes", "1", "--vat", "224.20"),
        *("--evidence", "invoice 2026-118", "--cost-centre", "77", "--account", "6300"),
    )
    assert (done.status, done.out) == (0, "line 2: 1180.00 in engineering, invoiced\n")
    now = run("costs", "list", "--lines", "--json").json["ledger"]
    assert [cost["amount"] for cost in now["costs"]] == ["1180.00"]
    (line,) = now["lines"]
    assert (line["vat"], line["cost_centre"], line["account"], line["supersedes"]) == (
        "224.20",
        "77",
        "6300",
        1,
    )
    again = run("costs", "list", "--as-of", accrued["recorded_at"], "--json").json["ledger"]
    assert again == before
    assert [(cost["amount"], cost["not_invoiced"]) for cost in before["costs"]] == [
        ("1000.00", "1000.00")
    ]
    assert run("audit", "verify").status == 0
    shown = run("costs", "list", "--lines").out
    assert "1,180.00 EUR" in shown


@pytest.mark.usefixtures("workspace")
def test_a_period_of_service_cuts_the_cost(run: Run) -> None:
    run("costs", "add", "310 EUR", "--category", "monitoring", *OCTOBER)
    part = ("--from", "2026-10-01", "--until", "2026-10-02", "--json")
    (cost,) = run("costs", "list", *part).json["ledger"]["costs"]
    # A day of a Berlin October, which has 31 days and an hour.
    assert cost["amount"] == "9.986577181208"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("12,50 EUR", "--category", "media", *OCTOBER), "is not an amount"),
        (("1 EUR", "--category", "fun", *OCTOBER), "the category is not one of"),
        (("1 EUR", "--category", "media", "--from", "today", "--until", "2026-10-02"), "no day"),
        (("1 EUR", "--category", "media", *OCTOBER, "--supersedes", "9"), "no line 9"),
        (("1 EUR", "--category", "media", *OCTOBER, "--variant", "ai"), "name the experiment"),
        (("1 EUR", "--category", "media", *OCTOBER, "--kind", "credit"), "credit is negative"),
        (("1 EUR", "--category", "media", *OCTOBER, "--vat", "x"), "--vat is not a number"),
        (("1 GBP", "--category", "media", *OCTOBER), "no rate for GBP"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_mistakes_are_said_and_nothing_is_booked(run: Run, more: Any, said: str) -> None:
    done = run("costs", "add", *more)
    assert done.status == 2
    assert said in " ".join(done.err.split())
    assert run("costs", "list", "--json").json["ledger"]["costs"] == []


@pytest.mark.usefixtures("workspace")
def test_a_period_that_ends_before_it_begins_is_refused(run: Run) -> None:
    for end in ("2026-10-01", "2026-09-01"):
        ran = run("costs", "list", "--from", "2026-10-01", "--until", end)
        assert ran.status == 2
        assert "--until must be later than --from" in ran.err


def test_a_weekend_uses_the_last_day_and_an_old_rate_is_none(workspace: Path, run: Run) -> None:
    """Friday 2 October at 1.25: 100 USD of Saturday are 80 EUR; Thursday's are six days from it."""
    (workspace / "rates.csv").write_text("date,currency,rate\n2026-10-02,USD,1.25\n")
    usd = ("costs", "add", "100 USD", "--category", "media")
    booked = run(*usd, "--from", "2026-10-03", "--until", "2026-10-04", "--json").json
    assert (booked["reporting"], booked["currency"]) == ("80.00", "USD")
    assert "1.25 USD per EUR of 2026-10-02" in booked["evidence"]
    refused = run(*usd, "--from", "2026-10-08", "--until", "2026-10-09")
    assert (refused.status, "more than 5 days old" in " ".join(refused.err.split())) == (2, True)


@pytest.mark.usefixtures("workspace")
def test_a_credit_has_a_sign(run: Run) -> None:
    arguments = ("--category", "model_fees", *OCTOBER, "--kind", "credit")
    assert run("costs", "add", *arguments, "--", "-50 EUR").status == 0
    (cost,) = run("costs", "list", "--json").json["ledger"]["costs"]
    assert cost["amount"] == "-50.00"


def test_the_focus_sample_is_an_import_of_one_command(
    shared_data: Path, workspace: Path, run: Run
) -> None:
    text = (workspace / "klartext.yaml").read_text()
    (workspace / "klartext.yaml").write_text(text + "currency: USD\n")
    sample = str(shared_data / "focus" / "focus_sample.csv")
    arguments = ("costs", "import", sample, "--format", "focus", "--source", "cloud")
    done = run(*arguments)
    assert done.status == 0
    assert "14.97651418586" in done.out
    assert "billed 20.52022672899 USD, effective 14.97651418586 USD (1,000 lines)" in done.out
    again = run(*arguments, "--json").json
    assert (again["schema"], again["duplicate"]) == ("klartext/ledger-import/v1", 1000)
    models = next(each for each in again["costs"] if each["category"] == "model_fees")
    assert models["amount"] == "-0.15189756178"
    # Nothing is divided by a credit: a return on it has a reason instead of a value.
    totals = Totals(100.0, float(models["amount"]), 1.0, 0.0, 0.0)
    value, region = return_on_cost(totals, multiplier=1.96, level=0.95)
    assert isinstance(value, NotEstimable)
    assert isinstance(region, NotEstimable)
    assert value.reason == "no-cost"
    listed = run("costs", "list", "--json").json["ledger"]
    assert listed["reconciliation"] == again["reconciliation"]


@pytest.mark.usefixtures("rates")
def test_a_bill_without_an_exchange_rate_is_rejected(shared_data: Path, run: Run) -> None:
    sample = str(shared_data / "focus" / "focus_sample.csv")
    done = run("costs", "import", sample, "--format", "focus", "--source", "cloud")
    assert done.status == 1
    assert "no-exchange-rate" in done.out
    letters = run("dlq", "export").out
    assert "SunBird" not in letters


BILL = """\
schema: klartext/mapping/v1
kind: invoice
source: supplier
delimiter: ";"
numbers: {decimal: ",", thousands: "."}
dates: "%d.%m.%Y"
id: [Rechnung]
first_day: von
last_day: bis
amount: Netto
currency: EUR
category: engineering
supersedes: Ersetzt
"""


def test_a_german_bill_replaces_its_accrual_once(workspace: Path, run: Run) -> None:
    run("costs", "add", "1000 EUR", "--category", "engineering", *OCTOBER, "--status", "accrued")
    (workspace / "bill.yaml").write_text(BILL)
    (workspace / "bill.csv").write_text(
        "Rechnung;von;bis;Netto;Ersetzt\n"
        "118;01.10.2026;31.10.2026;1.180,00;1\n"
        "119;01.11.2026;30.11.2026;10,00;77\n"
    )
    done = run("costs", "import", "bill.csv", "--mapping", "bill.yaml")
    assert done.status == 1
    assert "bad-supersedes x 1: there is no line 77" in done.out
    again = run("costs", "import", "bill.csv", "--mapping", "bill.yaml", "--json").json
    assert (again["duplicate"], again["rejected"], again["accepted"]) == (1, 1, 0)
    (cost,) = run("costs", "list", "--json").json["ledger"]["costs"]
    assert (cost["amount"], cost["not_invoiced"]) == ("1180.00", "0.00")
