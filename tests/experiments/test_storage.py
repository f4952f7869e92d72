"""Facts in an object store: a real one over HTTP, small and in memory."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import ibis
import pyarrow.fs as pafs
import pytest
import sqlalchemy as sa

from klartext.experiments.errors import KlartextError
from klartext.experiments.fact_snapshot import _file_system
from klartext.experiments.facts import ConcurrentAppendError, FactsStore
from klartext.experiments.ingest import Counts, Source, Writer, deliver
from klartext.experiments.maintenance import maintain
from klartext.experiments.storage import storage_options
from tests.experiments.doors import NOW, PROPERTIES, event_row, whole
from tests.experiments.object_store import object_store

SOURCE = Source("unit_table", "units.csv", "file", "mapping", "file+mapping", "received")


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with object_store() as address:
        for name, value in (
            ("AWS_ENDPOINT_URL", address),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "name"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "eu-central-1"),
        ):
            monkeypatch.setenv(name, value)
        yield address


@pytest.fixture
def writer(address: str, state: sa.Engine, tmp_path: Path) -> Writer:
    store = FactsStore("s3://bucket/facts", PROPERTIES, index=tmp_path / "ids")
    return Writer(state, store, lambda: NOW)


def test_facts_go_there_and_come_back(writer: Writer, address: str) -> None:
    assert deliver(SOURCE, [whole(1), whole(2)], writer).counts == Counts(accepted=2)
    again = replace(SOURCE, application="again")
    sent = [whole(1), whole(2, b"q" * 16), whole(3)]
    expected = Counts(accepted=1, duplicate=1, conflict=1)
    assert deliver(again, sent, writer).counts == expected
    folder = _file_system(writer.facts.location("events"))
    left = f"{address}/bucket/facts/events/part-killed.parquet"
    urlopen(Request(left, b"torn", method="PUT")).close()  # noqa: S310 - of loopback
    assert maintain(writer)[1].deleted == 1
    assert deliver(replace(SOURCE, application="more"), [whole(4)], writer).counts.accepted == 1
    maintain(writer)
    log = {file.base_name for file in folder.get_file_info(pafs.FileSelector("_delta_log"))}
    assert log == {
        "_last_checkpoint",
        *(f"{version:020d}.checkpoint.parquet" for version in (3, 5)),
        *(f"{version:020d}.json" for version in (3, 4, 5)),  # those before are older than 30 days
    }
    tables = writer.facts.tables(ibis.duckdb.connect())
    events = tables.events.order_by("id").to_pyarrow().to_pylist()
    assert [row["id"] for row in events] == [event_row(number).id for number in (1, 2, 3, 4)]
    assert [row["p_items"] for row in events] == [2, 2, 2, 2]
    assert tables.exposures.filter(tables.exposures.variant == "ai").count().execute() == 4
    assert tables.usage_costs.count().execute() == 0


def test_a_place_that_may_not_be_read_is_said(address: str, tmp_path: Path) -> None:
    store = FactsStore("s3://closed/facts", PROPERTIES, index=tmp_path / "ids")
    with pytest.raises(KlartextError, match="s3://closed/facts/events cannot be read") as raised:
        store.summary("events")
    assert "403 Forbidden" in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_two_writers_conflict_there_too(writer: Writer) -> None:
    store = writer.facts
    deliver(SOURCE, [whole(1)], writer)
    stale = store.snapshot("events")
    for number, read in ((2, None), (3, stale)):
        rows = store.to_arrow("events", [event_row(number)], batch=number, received_at=NOW)
        if read is None:
            store.append("events", rows, application="a", version=number, fence=1)
            continue
        with pytest.raises(ConcurrentAppendError):
            store.append("events", rows, application="b", version=1, fence=1, read=read)


def test_options_come_from_the_environment() -> None:
    environment = {"AWS_ACCESS_KEY_ID": "name", "AWS_REGION": "eu-central-1", "HOME": "/root"}
    expected = {"AWS_ACCESS_KEY_ID": "name", "AWS_REGION": "eu-central-1"}
    assert storage_options("s3://bucket/facts", environment) == expected
    assert storage_options("/folder", environment) is None


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("s3://bucket/facts", "AWS_ACCESS_KEY_ID"),
        ("gs://bucket/facts", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://container/facts", "AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_missing_access_is_said_at_once(location: str, named: str) -> None:
    with pytest.raises(KlartextError, match=f"no access to {location}: set one of .*{named}"):
        storage_options(location, {})


def test_other_schemes_are_refused() -> None:
    with pytest.raises(KlartextError, match="ftp:// is not supported"):
        storage_options("ftp://host/facts", {})
