import hashlib
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.app.session import open_session
from klartext.app.usecases import facts, registry, reports
from klartext.experiments.state import reading
from klartext.experiments.tables import looks
from klartext.reports import page
from tests.app.conftest import Run

EXAMPLES = Path(__file__).parents[3] / "examples"


def text_of(path: Path) -> str:
    source = path.read_text(encoding="utf-8")
    source = re.sub(r"<(style|title|desc)\b.*?</\1>", " ", source, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", source).split())


def copied(example: str, root: Path) -> Path:
    for path in sorted((EXAMPLES / example).rglob("*.yaml")):
        target = root / path.relative_to(EXAMPLES / example)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    settings = root / "klartext.yaml"
    settings.write_text(f"{settings.read_text()}\npseudonym_key: {root.parent / 'unit.key'}\n")
    return root


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    root = copied("hillstrom", tmp_path_factory.mktemp("reports") / "hillstrom")
    session = open_session(root)
    registry.apply(session, (), actor="test")
    facts.ingest(
        session,
        shared_data / "hillstrom" / "hillstrom.csv",
        root / "mappings" / "hillstrom.yaml",
    )
    return root


@pytest.fixture
def hillstrom(imported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(imported)
    return imported


def test_hillstrom_becomes_a_page_in_both_languages(hillstrom: Path, run: Run) -> None:
    """Numbers: shared/data/README.md, "Joined"; cost per customer 0.004998002943 USD."""
    german = run("report", "hillstrom-mail", "-o", "de.html", "--language", "de", "--json")
    assert german.status == 0
    assert german.json["schema"] == "klartext/report/v1"
    assert german.json["verdict"] == "GO"
    assert german.json["variant"] == "mens"
    assert german.json["registered"] is False
    content = (hillstrom / "de.html").read_bytes()
    assert german.json["sha256"] == hashlib.sha256(content).hexdigest()
    assert german.json["size"] == len(content)

    english = run("report", "hillstrom-mail", "-o", "en.html", "--language", "en")
    assert english.status == 0
    assert english.out == "en.html\n"
    assert "not registered before the data existed" in english.err

    text = text_of(hillstrom / "en.html")
    # adjusted for history: 16,352.05 and 152.551 [95.602, 209.500] from the file's rows in numpy
    assert "152.6 × cost 95% interval: 95.6 × to 209.5 ×" in text
    # and without: 153.027 [96.067, 209.987] (shared/data/README.md), 16,402.71 - 106.49 = 16,296.21
    assert (
        "Without the adjustment for covariates: 153.0 × (95% interval: 96.1 × to 210.0 ×)" in text
    )
    assert "Without the adjustment for covariates: US$16,296 (95% interval" in text
    assert "Incremental margin US$16,352" in text
    assert "US$0.73 95% interval" in text
    assert "145.0 incremental conversions" in text
    assert "US$106.492448706501" in text
    assert "Split of the units (SRM) ✓ in order p = 0.9037" in text
    assert "Not included, because neither recorded nor stated: Inference compute" in text
    assert "64,000 0 0 0 64,000" in text

    text = text_of(hillstrom / "de.html")
    assert "„mens“ rechnet sich – einführen." in text
    assert "Nicht vorab registriert" in text
    assert "+0,681 Pp. +0,500 Pp. bis +0,861 Pp." in text
    assert "hillstrom.csv" in text
    assert not re.search(r"\b(nan|inf|None|of the|cost line)\b", text)


def test_a_report_takes_no_look_and_comes_out_the_same(hillstrom: Path) -> None:
    session = open_session(hillstrom)
    now = session.now()
    pages = {
        page.render(
            reports.document(open_session(hillstrom), "hillstrom-mail", generated_at=now), "de"
        )
        for _ in range(2)
    }
    assert len(pages) == 1
    with reading(session.engine) as connection:
        assert connection.execute(sa.select(looks)).all() == []


def test_cookie_cats_is_not_go_and_its_split_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, shared_data: Path
) -> None:
    """Split: SRM p 0.008608; retention-7 -0.0082013 (shared/data/README.md)."""
    root = copied("cookie_cats", tmp_path / "cookie_cats")
    monkeypatch.chdir(root)
    data = next((shared_data / "cookie_cats").glob("*.csv"))
    assert run("apply").status == 0
    assert run("ingest", str(data), "-m", "mappings/cookie_cats.yaml").status == 0
    written = run("report", "cookie-cats-gate", "-o", "page.html", "--json")
    assert written.status == 0
    assert not written.json["verdict"].startswith("GO")
    text = text_of(root / "page.html")
    assert "Split of the units (SRM) ! warning p = 0.0086" in text
    assert "−0.820 pp −1.328 pp to −0.312 pp" in text


def test_the_language_is_that_of_the_workspace(hillstrom: Path, run: Run) -> None:
    settings = hillstrom / "klartext.yaml"
    before = settings.read_text()
    settings.write_text(before + "\nlanguage: de\n")
    try:
        assert run("report", "hillstrom-mail").status == 0
    finally:
        settings.write_text(before)
    assert '<html lang="de">' in (hillstrom / "hillstrom-mail.html").read_text(encoding="utf-8")


def test_without_facts_there_is_no_page(workspace: Path, run: Run) -> None:
    run("apply")
    written = run("report", "mail-subject")
    assert written.status == 3
    assert not (workspace / "mail-subject.html").exists()


def test_an_unknown_experiment_and_a_missing_folder_are_named(workspace: Path, run: Run) -> None:
    run("apply")
    unknown = run("report", "mail-subjekt")
    assert unknown.status == 2
    assert "mail-subject" in unknown.err
    nowhere = run("report", "mail-subject", "-o", "not/there.html")
    assert nowhere.status == 2
    assert "not is not a folder" in nowhere.err
    wrong = run("report", "mail-subject", "--language", "fr")
    assert wrong.status == 2
