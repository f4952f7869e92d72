from pathlib import Path

import pytest

from klartext.experiments.engines import DuckDbEngine, EngineSettings, PostgresEngine, SparkEngine
from klartext.experiments.errors import ConfigurationError
from klartext.experiments.workspace import find_workspace

MINIMUM = "schema: klartext/workspace/v1\nname: shop\n"


def engine(root: Path, text: str) -> EngineSettings:
    (root / "klartext.yaml").write_text(f"{MINIMUM}engine: {text}\n")
    return find_workspace(root).engine


def test_the_default_is_duckdb_without_limits(tmp_path: Path) -> None:
    (tmp_path / "klartext.yaml").write_text(MINIMUM)
    assert find_workspace(tmp_path).engine == DuckDbEngine()


def test_each_kind_takes_its_own_keys(tmp_path: Path) -> None:
    limits = "{kind: duckdb, memory_limit: 4GB, threads: 2, temp_directory: spill}"
    assert engine(tmp_path, limits) == DuckDbEngine("4GB", 2, tmp_path / "spill")
    cluster = '{kind: spark, url: "sc://spark:15002", options: {spark.executor.memory: 2g}}'
    assert engine(tmp_path, cluster) == SparkEngine(
        "sc://spark:15002", {"spark.executor.memory": "2g"}
    )
    assert engine(tmp_path, '{kind: spark, url: "local[4]"}') == SparkEngine("local[4]")
    address = "postgresql://reader@db.example.com/shop"
    assert engine(tmp_path, f'{{kind: postgres, url: "{address}"}}') == PostgresEngine(address)


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("{kind: sqlite}", "choice", "engine.kind"),
        ("{kind: duckdb, memory_limit: much}", "memory", "engine.memory_limit"),
        ("{kind: duckdb, threads: 0}", "count", "engine.threads"),
        ("{kind: duckdb, url: local}", "engine-key", "url"),
        ("{kind: spark}", "engine-url", "no url"),
        ("{kind: spark, url: local, threads: 2}", "engine-key", "threads"),
        ('{kind: postgres, url: "mysql://x"}', "engine-url", "mysql"),
        ('{kind: postgres, url: "postgresql://reader:secret@db/x"}', "password", "engine.url"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, code: str, part: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        engine(tmp_path, text)
    (problem,) = caught.value.problems
    assert (problem.code, problem.line) == (code, 3)
    assert part in str(problem)
    assert "secret" not in str(problem)
