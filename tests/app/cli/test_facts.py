"""``klartext ingest``, ``dlq`` and ``facts``, on a real workspace and on real data."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.app.conftest import Run

EXAMPLES = Path(__file__).parents[3] / "examples"
MAPPING = """\
schema: klartext/mapping/v1
kind: exposures
experiment: mail-subject
id: [send_id]
unit: customer
variant: arm
time: sent_at
"""
ROWS = """\
send_id,customer,arm,sent_at
1,anna@example.org,control,2026-01-01T09:00:00Z
2,ben@example.org,ai,2026-01-01T09:00:00Z
3,carl@example.org,ai
4,dora@example.org,ai,2026-01-01 09:00
5,emil@example.org,holdout,2026-01-01T09:00:00Z
1,anna@example.org,control,2026-01-01T10:00:00+01:00
"""


@pytest.fixture
def sends(workspace: Path, run: Run) -> Path:
    """Return a file with one broken row, one naive time, one unknown variant and a duplicate."""
    assert run("apply").status == 0
    (workspace / "sends.yaml").write_text(MAPPING)
    path = workspace.parent / "sends.csv"
    path.write_text(ROWS)
    return path


def test_four_reasons_and_nothing_lost(sends: Path, run: Run) -> None:
    ran = run("ingest", str(sends), "--mapping", "sends.yaml")
    assert ran.status == 1
    lines = [line.split() for line in ran.out.splitlines()]
    for words in (["accepted", "2"], ["duplicate", "1"], ["conflict", "0"], ["rejected", "3"]):
        assert words in lines
    reasons = ran.out[ran.out.index("REASON") :].splitlines()[1:]
    assert [line.split()[:3] for line in reasons] == [
        ["broken-row", "1", "3"],
        ["duplicate", "1", "6"],
        ["naive-time", "1", "4"],
        ["unknown-variant", "1", "5"],
    ]
    again = run("ingest", str(sends), "-m", "sends.yaml", "--json")
    assert again.status == 1
    assert {name: again.json[name] for name in ("sent", "accepted", "duplicate", "rejected")} == {
        "sent": 6,
        "accepted": 0,
        "duplicate": 3,
        "rejected": 3,
    }


def test_dead_letters(sends: Path, run: Run) -> None:
    assert "No rows" in run("dlq", "list").out
    run("ingest", str(sends), "-m", "sends.yaml")
    listed = run("dlq", "list")
    assert "3 rejected: 1 broken-row, 1 naive-time, 1 unknown-variant" in listed.out
    found = run("dlq", "list", "--reason", "naive-time", "--json").json
    assert [letter["position"] for letter in found["letters"]] == [4]
    shown = run("dlq", "show", str(found["letters"][0]["id"]))
    assert "set timezone in the mapping" in shown.out
    exported = [json.loads(line) for line in run("dlq", "export").out.splitlines()]
    assert [letter["reason"] for letter in exported] == [
        "broken-row",
        "naive-time",
        "unknown-variant",
    ]
    assert run("dlq", "show", "99").status == 2


def test_facts_show_and_path(sends: Path, workspace: Path, run: Run) -> None:
    assert "none yet" in run("facts", "show").out
    run("ingest", str(sends), "-m", "sends.yaml")
    found = run("facts", "show", "--json").json
    assert [table["rows"] for table in found["tables"]] == [2, 0, 0, 0]
    assert found["tables"][0]["first"] == "2026-01-01T09:00:00+00:00"
    assert (found["batches"], found["watermark"]) == (1, None)
    assert run("facts", "path").out.splitlines()[0] == f"{workspace}/.klartext/facts/exposures"


def test_a_file_of_aliases(workspace: Path, run: Run) -> None:
    (workspace / "who.yaml").write_text(
        "schema: klartext/mapping/v1\nkind: aliases\nid: row_content\ntime: at\n"
        "unit: visitor\ncanonical: customer\n"
    )
    (workspace / "who.csv").write_text(
        "visitor,customer,at\nv1,c1,2026-01-01T09:00:00Z\nc1,c1,2026-01-01T09:00:00Z\n"
    )
    for accepted, duplicate in ((1, 0), (0, 1)):
        done = run("ingest", str(workspace / "who.csv"), "-m", "who.yaml", "--json").json
        assert (done["accepted"], done["duplicate"]) == (accepted, duplicate)
        assert [reason["reason"] for reason in done["reasons"]][:1] == ["alias-of-itself"]
    found = run("facts", "show", "--json").json
    assert {table["table"]: table["rows"] for table in found["tables"]}["aliases"] == 1
    assert found["watermark"] is None  # aliases say nothing about events


def test_mistakes_in_mapping_or_file(sends: Path, workspace: Path, run: Run) -> None:
    (workspace / "sends.yaml").write_text(MAPPING.replace("arm", "army"))
    ran = run("ingest", str(sends), "-m", "sends.yaml")
    assert ran.status == 1
    assert "sends.yaml:6 variant is 'army', which sends.csv does not have" in ran.err
    sends.write_text("")
    (workspace / "sends.yaml").write_text(MAPPING)
    ran = run("ingest", str(sends), "-m", "sends.yaml")
    assert (ran.status, ran.err) == (2, "sends.csv is empty\n")
    sends.write_text(ROWS.splitlines()[0])
    ran = run("ingest", str(sends), "-m", "sends.yaml", "--json")
    assert (ran.status, ran.json["sent"], ran.json["complete_until"]) == (0, 0, None)
    for path in ("nowhere.csv", "."):
        ran = run("ingest", path, "-m", "sends.yaml")
        assert (ran.status, ran.err) == (2, f"there is no file {path}\n")


SECRET = "quitelongname@secret-domain.example"
PLANTED = f"""\
send_id,customer,arm,sent_at,note,net
1,{SECRET},control,2026-01-01T09:00:00Z,{SECRET},1
{SECRET},{SECRET},ai,2026-01-01T09:00:00Z,,
3,{SECRET},ai
4,{SECRET},{SECRET},2026-01-01T09:00:00Z,,
5,{SECRET},ai,{SECRET},,
6,{SECRET},ai,2026-01-01 09:00,,
7,{SECRET},ai,2026-01-01T09:00:00Z,,{SECRET}
"{SECRET},8,ai,2026-01-01T09:00:00Z
{SECRET};9
"""


def test_a_planted_address_is_found_nowhere_on_disk(
    workspace: Path, run: Run, tmp_path: Path
) -> None:
    run("apply")
    text = (workspace / "klartext.yaml").read_text()
    (workspace / "klartext.yaml").write_text(text + "properties: {net: number}\n")
    (workspace / "sends.yaml").write_text(MAPPING + "properties: [note, net]\n")
    sends = tmp_path / "sends.csv"
    sends.write_text(PLANTED)
    ran = run("ingest", str(sends), "-m", "sends.yaml")
    assert "2" in ran.out
    letters = run("dlq", "export").out
    assert len(letters.splitlines()) == 7
    assert SECRET not in ran.out + ran.err + letters
    stored = [path for path in workspace.rglob("*") if path.is_file()]
    assert any(path.suffix == ".parquet" for path in stored)
    assert any(path.name.startswith("state.db") for path in stored)
    for path in stored:
        assert SECRET.encode() not in path.read_bytes(), path
        assert b"secret-domain" not in path.read_bytes(), path
        if path.suffix == ".parquet":  # columns are compressed
            assert "secret-domain" not in repr(pq.ParquetFile(path).read().to_pylist()), path


def example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    shutil.copytree(EXAMPLES / name, folder / name)
    monkeypatch.chdir(folder / name)
    monkeypatch.setenv("KLARTEXT_PSEUDONYM_KEY", str(folder / "pseudonym.key"))
    assert run("apply").status == 0


def test_hillstrom(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    """64,000 customers without an id column; 9,394 visits, 578 conversions (README of the data)."""
    example("hillstrom", tmp_path, monkeypatch, run)
    arguments = ("ingest", str(shared_data / "hillstrom/hillstrom.csv"), "--json", "-m")
    first = run(*arguments, "mappings/hillstrom.yaml")
    assert (first.status, first.json["accepted"], first.json["sent"]) == (0, 64_000, 64_000)
    second = run(*arguments, "mappings/hillstrom.yaml")
    assert (second.status, second.json["duplicate"], second.json["accepted"]) == (0, 64_000, 0)
    tables = run("facts", "show", "--json").json["tables"]
    assert tables[0]["rows"] == 64_000
    assert tables[1]["rows"] == 64_000 + 9_394 + 578 + 578  # each has a history


def test_cookie_cats(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    example("cookie_cats", tmp_path, monkeypatch, run)
    data = shared_data / "cookie_cats/cookie_cats.csv"
    ran = run("ingest", str(data), "-m", "mappings/cookie_cats.yaml", "--json")
    assert (ran.status, ran.json["accepted"]) == (0, 90_189)


def test_maintaining_the_facts(sends: Path, run: Run) -> None:
    assert run("ingest", str(sends), "--mapping", "sends.yaml").status == 1
    sends.write_text(ROWS.replace("\n1,", "\n11,").replace("\n2,", "\n12,"))
    assert run("ingest", str(sends), "--mapping", "sends.yaml").status == 1
    ran = run("facts", "maintain")
    assert ran.status == 0
    assert ran.out.splitlines()[1].split()[:5] == ["exposures", "1", "2", "->", "1"]
    again = run("facts", "maintain", "--keep-days", "30", "--json")
    assert again.json["schema"] == "klartext/facts-maintain/v1"
    assert [item["days"] for item in again.json["tables"]] == [0, 0, 0, 0]
    assert run("facts", "show", "--json").json["tables"][0]["rows"] == 4
