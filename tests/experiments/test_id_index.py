"""The index only says where to look: it may be too broad, but never misses a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klartext.experiments import id_index
from klartext.experiments.id_index import IdIndex


class Files:
    """Data files in memory; counts how often each is read."""

    def __init__(self, contents: Mapping[str, Sequence[bytes]]) -> None:
        self.contents = dict(contents)
        self.reads: list[str] = []

    def read(self, name: str) -> pa.ChunkedArray:
        self.reads.append(name)
        return pa.chunked_array([pa.array(self.contents[name], pa.binary())])

    def find(self, folder: Path, *ids: bytes) -> list[str]:
        return IdIndex(folder).files_of(ids, sorted(self.contents), self.read)


def number(value: int) -> bytes:
    return value.to_bytes(16, "big")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_index, "_KEPT_FILES", 1)


@pytest.mark.usefixtures("kept")
def test_a_file_is_read_once(tmp_path: Path) -> None:
    files = Files({"a": [number(1), number(2)], "b": [number(3)]})
    assert files.find(tmp_path, number(2)) == ["a"]
    assert files.find(tmp_path, number(3), number(4)) == ["b"]
    files.contents["c"] = [number(2)]
    assert files.find(tmp_path, number(2)) == ["a", "c"]
    assert files.find(tmp_path, number(9)) == []
    assert files.reads == ["a", "b", "c"]


@pytest.mark.usefixtures("kept")
def test_files_that_are_no_more_are_forgotten(tmp_path: Path) -> None:
    files = Files({name: [number(place)] for place, name in enumerate("abcdefgh")})
    for name in "abcdefgh":
        Files({name: files.contents[name]}).find(tmp_path / "one", number(0))
    assert len(list((tmp_path / "one").glob("*.json"))) == 1  # each snapshot without the others
    compacted = Files({"z": [number(place) for place in range(8)]})
    assert compacted.find(tmp_path / "one", number(5)) == ["z"]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("suffix", [".digests.npy", ".json"])
def test_a_torn_run_is_made_again(tmp_path: Path, suffix: str) -> None:
    files = Files({"a": [number(1)]})
    files.find(tmp_path, number(1))
    (torn,) = tmp_path.glob(f"*{suffix}")
    torn.write_bytes(torn.read_bytes()[:-4])
    assert files.find(tmp_path, number(1)) == ["a"]
    assert files.reads == ["a", "a"]


def test_ids_have_sixteen_bytes(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowInvalid):
        Files({"a": [b"short"]}).find(tmp_path, number(1))


@given(
    contents=st.lists(st.lists(st.integers(0, 30), max_size=6), min_size=1, max_size=12),
    wanted=st.lists(st.integers(0, 40), max_size=5),
    kept_files=st.integers(1, 3),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_file_that_holds_an_id_is_missing(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    contents: list[list[int]],
    wanted: list[int],
    kept_files: int,
) -> None:
    monkeypatch.setattr(id_index, "_KEPT_FILES", kept_files)
    folder = tmp_path_factory.mktemp("ids")
    files = Files({})
    for place, values in enumerate(contents):  # one commit after another, one more run each
        files.contents[f"file{place}"] = [number(value) for value in values]
        found = files.find(folder, *map(number, wanted))
        assert found == sorted(
            name
            for name, ids in files.contents.items()
            if not {number(value) for value in wanted}.isdisjoint(ids)
        )
