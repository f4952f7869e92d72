"""Facts in tables of the company's own: the same figures, and nothing personal leaves them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from starlette.testclient import TestClient

from klartext.analysis.document import dumps, to_json
from klartext.analysis.estimate import Estimate, Interval
from klartext.analysis.result import Analysis
from klartext.app.service import server
from klartext.app.session import Session, open_session
from klartext.app.usecases import (
    analysis,
    cost_import,
    costs,
    doctor,
    facts,
    registry,
    reports,
    standing,
)
from klartext.experiments.engines import PostgresEngine
from klartext.experiments.errors import (
    ConfigurationError,
    ConflictError,
    KlartextError,
    NotReadyError,
)
from klartext.experiments.imports.usage_mapping import TraceOptions
from tests.app import native

KEY = "hillstrom-mail"
NOW = datetime(2026, 2, 1, tzinfo=UTC)
SHOP = """\
schema: klartext/workspace/v1
name: shop
currency: USD
lateness: 1d
pseudonym_key: ../shop.key
engine: ENGINE
facts:
  exposures:
    table: exposures
    columns: {unit: customer, experiment: {constant: mail}, variant: arm, occurred_at: sent_at}
  events:
    table: events
    columns: {unit: customer, name: what, occurred_at: happened_at, value: amount,
              currency: {constant: USD}}
"""
USAGE = """\
  usage_costs:
    table: calls
    columns: {unit: customer, experiment: {constant: mail}, variant: arm, occurred_at: made_at,
              input_tokens: sent, output_tokens: got, error: error,
              source: {constant: gateway}, model: {constant: gpt}, amount: cost,
              currency: {constant: USD}}
"""
SPEC = """\
schema: klartext/experiment/v1
key: mail
title: AI mails
owner: lena.vogt
unit: customer
assignment: external
registration: retrospective
variants: [{key: control}, {key: ai}]
control: control
metrics:
  - {key: revenue, kind: mean, event: purchase, window: 7d}
value: [{metric: revenue, contribution_margin: 40%}]
costs: {usage: {source: gateway}}
plan: {start: 2026-01-01, latest_end: 2026-01-31}
inference: {mode: fixed, alpha: 5%}
decision: {hurdle_roi: 0%, probability: 80%, expected_loss: 1000 USD}
"""
CALLS = """\
timestamp,input_tokens,output_tokens,unit
2026-01-02 09:00:00,1000,100,3
2026-01-20 09:00:00,1000,100,4
"""


@pytest.fixture(scope="module", params=["duckdb", "postgres"])
def hillstrom(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> Session:
    root = tmp_path_factory.mktemp("native")
    tables = native.tables(shared_data / "hillstrom" / "hillstrom.csv")
    if request.param == "duckdb":
        native.fill_duckdb(root / "native.duckdb", tables)
        engine = "{kind: duckdb, database: ../native.duckdb}"
    else:
        postgres: PostgresEngine = request.getfixturevalue("postgres")
        native.fill_postgres(postgres.url, tables)
        engine = f'{{kind: postgres, url: "{postgres.url}"}}'
    return native.open_native(root / "hillstrom", engine)


def _estimates(found: Analysis, variant: str) -> dict[tuple[str, str], Estimate]:
    return {
        (result.metric, name): estimate
        for result in found.metrics
        if result.variant == variant
        for name, estimate in result.estimates
        if isinstance(estimate, Estimate)
    }


def test_hillstrom_gives_the_figures_of_the_imported_file(hillstrom: Session) -> None:
    """Reference: shared/data/README.md; the same as ``test_hillstrom`` pins for the file."""
    found = analysis.analyze(hillstrom, KEY)
    assert [count.mature for count in found.counts] == [21_306, 21_307, 21_387]
    assert found.checks[0].value == pytest.approx(0.9036929576, abs=5e-11)
    mens = _estimates(found, "mens")
    assert mens["conversion", "wald"].value == pytest.approx(0.00680501, abs=5e-9)
    spend = mens["spend", "welch"]
    assert spend.value == pytest.approx(0.769827, abs=5e-7)
    assert isinstance(spend.interval, Interval)
    ends = (spend.interval.lower, spend.interval.upper)
    assert ends == pytest.approx((0.485140, 1.054515), abs=5e-7)
    assert mens["spend", "lin"].value == pytest.approx(0.7674802348, abs=5e-7)
    womens = _estimates(found, "womens")["spend", "welch"]
    assert womens.value == pytest.approx(0.424412, abs=5e-7)
    assert found.treatments[0].unadjusted is not None  # the spec names a covariate
    window, _ = found.treatments[0].unadjusted
    assert window.cost == pytest.approx(106.492449, abs=5e-7)
    assert window.roi == pytest.approx(153.0270, abs=5e-5)
    assert found.watermark.cutoff == datetime(2008, 4, 3, 16, tzinfo=UTC)


def test_no_id_of_the_company_leaves_its_tables(
    hillstrom: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    taken = analysis.decide(hillstrom, KEY, actor="lena.vogt")
    page = tmp_path / "report.html"
    reports.report(hillstrom, KEY, page)
    shown = facts.summary_document(facts.summary(hillstrom))
    said = [dumps(to_json(taken.analysis)), json.dumps(shown), page.read_text(), caplog.text]
    said += [check.detail for check in doctor.examine(hillstrom)]
    for text in said:
        assert "example.com" not in text
    written = [path for path in hillstrom.workspace.root.rglob("*") if path.is_file()]
    assert any(path.name.startswith("state.db") for path in written)
    for path in written:
        assert b"example.com" not in path.read_bytes(), path


def test_the_facts_are_shown_and_proved(hillstrom: Session) -> None:
    found = facts.summary(hillstrom)
    rows = {table.table: (table.rows, table.incomplete) for table in found.tables}
    assert rows["exposures"] == (64_000, 0)
    assert rows["usage_costs"] == (0, 0)
    assert found.locations["exposures"] == "crm.mails"
    assert found.locations["events"] == "the query"
    assert found.watermark is not None
    checks = {check.name: check for check in doctor.examine(hillstrom)}
    assert checks["facts"].state == "ok"
    assert "units are text" in checks["facts"].detail
    assert standing.status(hillstrom, KEY).exposed == 64_000


def test_the_queries_name_the_tables_of_the_company(hillstrom: Session) -> None:
    shown = analysis.sql(hillstrom, KEY)
    assert '"crm"."mails"' in shown
    assert "crm.orders" in shown


def make_shop(
    root: Path, *, engine: str = "{kind: duckdb, database: ../shop.duckdb}", more: str = ""
) -> Session:
    """Return a workspace on a small database, beside it."""
    (root / "shop" / "experiments").mkdir(parents=True)
    (root / "shop" / "klartext.yaml").write_text(SHOP.replace("ENGINE", engine) + more)
    (root / "shop" / "experiments" / "mail.yaml").write_text(SPEC)
    session = replace(open_session(root / "shop"), now=lambda: NOW)
    registry.apply(session, (), actor="lena.vogt")
    return session


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return a database with two units in control, three in ai, and their purchases."""
    file = tmp_path / "shop.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("""
            CREATE TABLE exposures AS SELECT * FROM (VALUES
                (1, 'control', timestamptz '2026-01-02 09:00:00'), (2, 'control', '2026-01-02'),
                (3, 'ai', '2026-01-02'), (4, 'ai', '2026-01-02'), (5, 'ai', '2026-01-10')
            ) AS t(customer, arm, sent_at);
            CREATE TABLE events AS SELECT * FROM (VALUES
                (1, 'purchase', timestamptz '2026-01-03', 10.0), (3, 'purchase', '2026-01-04', 30),
                (3, 'purchase', '2026-01-04', 30), (5, 'visit', '2026-01-12 00:00:00', NULL)
            ) AS t(customer, what, happened_at, amount);
            CREATE TABLE calls AS SELECT * FROM (VALUES
                (3, 'ai', timestamptz '2026-01-02', 0.5, 10, 20, NULL),
                (NULL, 'ai', '2026-01-20', 0.3, 10, 20, 'timeout')
            ) AS t(customer, arm, made_at, cost, sent, got, error);
        """)
    return file


def _change(database: Path, statement: str) -> None:
    with duckdb.connect(str(database)) as connection:
        connection.execute(statement)


def test_the_newest_event_matures_units_a_lateness_later(tmp_path: Path, database: Path) -> None:
    """Windows of seven days and a lateness of one end on the 10th for those of the 2nd."""
    session = make_shop(tmp_path)
    found = analysis.analyze(session, "mail")
    assert found.watermark.cutoff == datetime(2026, 1, 12, tzinfo=UTC)
    assert found.watermark.batch == 0
    assert [(count.exposed, count.mature) for count in found.counts] == [(2, 2), (3, 2)]
    moments = analysis.moments(session, "mail").by_variant
    assert moments["ai"].mean[moments["ai"].columns.index("revenue")] == pytest.approx(30)
    assert moments["control"].mean[0] == pytest.approx(5)


def test_a_time_that_is_still_to_come_completes_nothing(tmp_path: Path, database: Path) -> None:
    _change(database, "INSERT INTO events VALUES (9, 'visit', timestamptz '2099-01-01', NULL)")
    found = analysis.analyze(make_shop(tmp_path), "mail")
    assert found.watermark.cutoff == datetime(2026, 1, 12, tzinfo=UTC)


def test_complete_until_is_believed_but_not_ahead_of_the_clock(
    tmp_path: Path, database: Path
) -> None:
    session = make_shop(tmp_path, more="    complete_until: 2026-01-31T00:00:00Z\n")
    found = analysis.analyze(session, "mail")
    assert found.watermark.cutoff == datetime(2026, 1, 31, tzinfo=UTC)
    assert [count.mature for count in found.counts] == [2, 3]
    early = replace(session, now=lambda: datetime(2026, 1, 30, tzinfo=UTC))
    with pytest.raises(ConfigurationError, match=r"facts\.events\.complete_until .* to come"):
        analysis.analyze(early, "mail")


def test_no_events_are_no_facts(tmp_path: Path, database: Path) -> None:
    _change(database, "DELETE FROM events")
    with pytest.raises(NotReadyError, match="events has no events before now"):
        analysis.analyze(make_shop(tmp_path), "mail")


def test_mapped_calls_are_charged_to_units_and_variants(tmp_path: Path, database: Path) -> None:
    found = analysis.analyze(make_shop(tmp_path, more=USAGE), "mail")
    assert found.watermark.cutoff == datetime(2026, 1, 12, tzinfo=UTC)  # calls go on to the 20th
    (treatment,) = found.treatments
    assert found.completeness.priced_calls == 2
    assert treatment.window.cost == pytest.approx(0.5 + 0.3 * 2 / 3)
    assert "as charged in calls" in dumps(to_json(found))


def test_calls_that_klartext_imported_stand_beside_mapped_exposures(
    tmp_path: Path, database: Path
) -> None:
    session = make_shop(tmp_path)
    (tmp_path / "calls.csv").write_text(CALLS)
    imported = cost_import.import_calls(session, tmp_path / "calls.csv", _options("ai"))
    assert imported.delivered.counts.accepted == 2
    found = analysis.analyze(session, "mail")
    assert found.watermark.batch == 1
    assert found.watermark.cutoff == datetime(2026, 1, 12, tzinfo=UTC)
    assert found.completeness.priced_calls == 2
    (treatment,) = found.treatments
    each = 1000 * 2.50 / 1e6 + 100 * 10 / 1e6  # units of the file are pseudonyms: shared by ai
    assert treatment.window.cost == pytest.approx(2 * each * 2 / 3)


def _options(variant: str) -> TraceOptions:
    return TraceOptions(
        source="gateway",
        identity="row_number",
        timezone="UTC",
        model="gpt-4o-2024-11-20",
        experiment="mail",
        variant=variant,
    )


@pytest.mark.parametrize("kind", ["exposures", "events"])
def test_files_of_mapped_facts_are_refused(tmp_path: Path, database: Path, kind: str) -> None:
    session = make_shop(tmp_path)
    rest = "event: what\n" if kind == "events" else "experiment: mail\nvariant: arm\n"
    mapping = tmp_path / "m.yaml"
    mapping.write_text(
        f"schema: klartext/mapping/v1\nkind: {kind}\nid: [n]\nunit: u\ntime: at\n{rest}"
    )
    (tmp_path / "rows.csv").write_text("n,u,at,what,arm\n")
    with pytest.raises(ConflictError, match=f"{kind} are read from {kind}"):
        facts.ingest(session, tmp_path / "rows.csv", mapping)


def test_imported_calls_are_refused_where_the_engine_could_not_read_them(
    tmp_path: Path, database: Path, postgres: PostgresEngine
) -> None:
    (tmp_path / "calls.csv").write_text(CALLS)
    mapped = make_shop(tmp_path, more=USAGE)
    with pytest.raises(ConflictError, match="usage_costs are read from calls"):
        cost_import.import_calls(mapped, tmp_path / "calls.csv", _options("ai"))
    own = mapped.workspace.mapped
    assert own is not None
    without = replace(own, tables={k: v for k, v in own.tables.items() if k != "usage_costs"})
    workspace = replace(mapped.workspace, mapped=without)
    stored = replace(mapped, workspace=workspace)
    cost_import.import_calls(stored, tmp_path / "calls.csv", _options("ai"))
    elsewhere = replace(stored, workspace=replace(workspace, engine=postgres))
    with pytest.raises(ConflictError, match="postgres} reads mapped tables only"):
        cost_import.import_calls(elsewhere, tmp_path / "calls.csv", _options("ai"))


def test_postgresql_does_not_read_files_of_klartext(
    tmp_path: Path, database: Path, postgres: PostgresEngine
) -> None:
    """First the files are there, then somebody changes the engine."""
    session = make_shop(tmp_path)
    (tmp_path / "calls.csv").write_text(CALLS)
    cost_import.import_calls(session, tmp_path / "calls.csv", _options("ai"))
    engine = replace(session.workspace, engine=postgres, mapped=None)
    with pytest.raises(KlartextError, match="postgres cannot read the usage_costs"):
        costs.listing(replace(session, workspace=engine))


def test_a_service_takes_no_facts_that_nobody_would_read(tmp_path: Path, database: Path) -> None:
    session = make_shop(tmp_path)
    event = {"id": "e1", "name": "purchase", "unit": "lena@example.com",
             "occurred_at": "2026-01-12T12:00:00Z"}  # fmt: skip
    with TestClient(server.build(session, flush_s=3600)) as client:
        answer = client.post("/v1/events", json=event)
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("mapped-facts")
    assert "bring the rows there" in answer.json()["detail"]
    assert standing.status(session, "mail").exposed == 5
