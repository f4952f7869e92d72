import csv
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from klartext.app.session import Session, open_session
from klartext.app.usecases import cost_import, costs, ledger, registry
from klartext.experiments.errors import KlartextError, NotFoundError, NotReadyError
from klartext.experiments.imports.usage_mapping import TraceOptions

EXAMPLE = Path(__file__).parents[3] / "examples" / "azure_llm"
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
TRACE = "AzureLLMInferenceTrace_conv.csv"

WORKSPACE = """\
schema: klartext/workspace/v1
name: calls
currency: {currency}
timezone: {timezone}
pseudonym_key: ../calls.key
"""
EXPERIMENT = """\
schema: klartext/experiment/v1
key: mail
title: AI subject lines
owner: lena.vogt
hypothesis: They earn more than they cost.
kind: ab
unit: customer
variants:
  - {key: control, weight: 50%}
  - {key: ai, weight: 50%}
control: control
metrics:
  - {key: conversion, kind: conversion, event: purchase, window: 14d}
value:
  - {metric: conversion, worth: 20 EUR}
costs:
  usage: {source: gateway}
  lines:
    - {category: engineering, hours: 160, rate: 95 EUR, life: 24mo, variant: ai}
    - {category: monitoring, amount: 250 EUR, per: month, variant: ai}
plan: {total_units: 40000, latest_end: 2099-03-31}
decision: {hurdle_roi: 30%, probability: 80%, expected_loss: 1000 EUR}
"""
CALLS = """\
id,timestamp,model,input_tokens,output_tokens,variant,unit
1,2026-03-01T12:00:00Z,gpt-4o,1000,100,ai,anna@example.org
2,2026-03-01T23:30:00Z,gpt-4o,1000,100,control,ben@example.org
3,2026-03-02T12:00:00Z,house-model,1000,100,ai,anna@example.org
"""
RATES = "date,currency,rate\n2026-02-27,USD,1.25\n2026-03-02,USD,1.60\n"


def made(folder: Path, currency: str = "EUR", timezone: str = "Europe/Berlin") -> Session:
    root = folder / "calls"
    (root / "experiments").mkdir(parents=True)
    (root / "klartext.yaml").write_text(WORKSPACE.format(currency=currency, timezone=timezone))
    return replace(open_session(root), now=lambda: NOW)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """A workspace in EUR with exchange rates and one registered experiment."""
    made(tmp_path)
    root = tmp_path / "calls"
    (root / "rates.csv").write_text(RATES)
    (root / "experiments" / "mail.yaml").write_text(EXPERIMENT)
    session = replace(open_session(root), now=lambda: NOW)
    registry.apply(session, (), actor="lena")
    return session


def written(folder: Path, text: str, name: str = "calls.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


OPTIONS = TraceOptions("gateway", experiment="mail")


def test_calls_are_priced_converted_and_counted(session: Session, tmp_path: Path) -> None:
    found = cost_import.import_calls(session, written(tmp_path, CALLS), OPTIONS)
    assert found.delivered.counts.accepted == 3
    # A call is 0.0035 USD: at 1.25 on 1 March, and at 1.60 on 2 March, which in Berlin began
    # before the second call.
    assert found.calls.amount == Decimal("0.0049875")
    assert (found.calls.priced_calls, found.calls.unpriced_calls) == (2, 1)
    assert found.calls.mean == Decimal("0.00249375")


def test_breakdowns_add_up(session: Session, tmp_path: Path) -> None:
    cost_import.import_calls(session, written(tmp_path, CALLS), OPTIONS)
    days = costs.break_down(session, "day")
    assert [(part.key, part.amount, part.calls) for part in days.parts] == [
        ("2026-03-01", Decimal("0.0028"), 1),
        ("2026-03-02", Decimal("0.0021875"), 2),
    ]
    by_variant = costs.break_down(session, "variant", experiment="mail")
    assert [(part.key, part.amount) for part in by_variant.parts] == [
        ("ai", Decimal("0.0028")),
        ("control", Decimal("0.0021875")),
    ]
    assert by_variant.total.amount == days.total.amount
    ((reason, number),) = days.unpriced.items()
    assert reason.startswith("unpriced unknown-model: ")
    assert number == 1
    with pytest.raises(NotFoundError):
        costs.break_down(session, "day", experiment="male")


def test_listing_shows_lines_and_what_was_left_out(session: Session, tmp_path: Path) -> None:
    cost_import.import_calls(session, written(tmp_path, CALLS), OPTIONS)
    listing = costs.listing(session)
    assert [(source.key, source.calls) for source in listing.sources] == [("gateway", 3)]
    (mail,) = listing.experiments
    assert [line.category for line in mail.lines] == ["engineering", "monitoring"]
    assert "model_fees" not in mail.left_out  # it has calls
    assert "human_review" in mail.left_out


def test_a_listing_as_of_an_instant_has_the_calls_that_were_known_then(
    session: Session, tmp_path: Path
) -> None:
    first = "".join(CALLS.splitlines(keepends=True)[:2])
    cost_import.import_calls(session, written(tmp_path, first), OPTIONS)
    later = replace(session, now=lambda: NOW + timedelta(days=2))
    cost_import.import_calls(later, written(tmp_path, CALLS), OPTIONS)
    found = [
        [(source.key, source.calls) for source in costs.listing(later, as_of=as_of).sources]
        for as_of in (None, NOW + timedelta(days=1), NOW - timedelta(days=1))
    ]
    assert found == [[("gateway", 3)], [("gateway", 1)], []]
    with pytest.raises(KlartextError, match="still to come"):
        ledger.listing(session, as_of=NOW + timedelta(days=1))


def test_a_contract_price_is_believed_first(session: Session, tmp_path: Path) -> None:
    (session.workspace.root / "prices.yaml").write_text(
        "schema: klartext/prices/v1\n"
        "prices:\n"
        "  - {model: house-model, per_million: {input: 1 EUR, output: 10 EUR}}\n"
    )
    again = replace(open_session(session.workspace.root), now=lambda: NOW)
    found = cost_import.import_calls(again, written(tmp_path, CALLS), OPTIONS)
    assert found.calls.unpriced_calls == 0
    assert found.calls.amount == Decimal("0.0069875")  # and 0.002 EUR for the third call


def test_a_file_without_a_single_price_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    session = made(tmp_path)  # EUR, and no exchange rates
    path = written(tmp_path, CALLS.replace(",variant,", ",arm,"))
    options = TraceOptions("gateway")
    with pytest.raises(NotReadyError, match=r"no-exchange-rate.*Nothing was stored"):
        cost_import.import_calls(session, path, options)
    assert costs.break_down(session, "model").total.calls == 0
    kept = cost_import.import_calls(session, path, options, keep_unpriced=True)
    assert (kept.calls.calls, kept.calls.amount) == (3, None)


def test_no_raw_id_is_on_disk(session: Session, tmp_path: Path) -> None:
    cost_import.import_calls(
        session, written(tmp_path, CALLS + "4,,gpt-4o,1,1,ai,eva@example.org\n"), OPTIONS
    )
    session.engine.dispose()
    for path in (tmp_path / "calls").rglob("*"):
        if path.is_file():
            assert b"example.org" not in path.read_bytes(), path


@pytest.fixture
def azure(tmp_path: Path) -> Session:
    return made(tmp_path, "USD", "UTC")


def total(session: Session) -> Decimal | None:
    return costs.break_down(session, "model").total.amount


def test_the_azure_trace_costs_what_it_must(
    azure: Session, shared_data: Path, tmp_path: Path
) -> None:
    # Reference: 22,361,870 x 2.50 + 4,088,665 x 10.00 USD per million (README of the data).
    trace, mapping = shared_data / "azure_llm" / TRACE, EXAMPLE / "mappings" / "trace.yaml"
    first = cost_import.import_calls(azure, trace, mapping)
    assert first.delivered.counts.accepted == 19_366
    assert first.calls.amount == Decimal("96.791325")
    assert first.calls.mean is not None
    assert round(first.calls.mean, 12) == Decimal("0.004998002943")
    assert (first.calls.input_tokens, first.calls.output_tokens) == (22_361_870, 4_088_665)

    again = cost_import.import_calls(azure, trace, mapping)
    assert (again.delivered.counts.accepted, again.delivered.counts.duplicate) == (0, 19_366)
    assert total(azure) == Decimal("96.791325")

    header, *rows = csv.reader(trace.read_text().splitlines())
    rows.sort(key=lambda row: (row[1], row[2]))
    shuffled = tmp_path / "shuffled.csv"
    with shuffled.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    moved = cost_import.import_calls(azure, shuffled, mapping)
    assert (moved.delivered.counts.accepted, moved.delivered.counts.duplicate) == (0, 19_366)
    assert total(azure) == Decimal("96.791325")


def test_the_azure_trace_shuffled_first_and_at_the_smaller_price(
    azure: Session, shared_data: Path, tmp_path: Path
) -> None:
    header, *rows = (shared_data / "azure_llm" / TRACE).read_text().splitlines()
    rows.sort(key=lambda row: row.rpartition(",")[2])
    trace = written(tmp_path, "\n".join([header, *rows]) + "\n", "shuffled.csv")
    text = (EXAMPLE / "mappings" / "trace.yaml").read_text().replace("gpt-4o", "gpt-4o-mini")
    found = cost_import.import_calls(azure, trace, written(tmp_path, text, "mini.yaml"))
    assert found.calls.amount == Decimal("5.8074795")
