import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from klartext.experiments.errors import ConfigurationError, NotFoundError
from klartext.experiments.workspace import KEY_VARIABLE, Workspace, find_workspace

MINIMUM = "schema: klartext/workspace/v1\nname: shop\n"


def workspace(root: Path, more: str = "") -> Workspace:
    (root / "klartext.yaml").write_text(MINIMUM + more)
    return find_workspace(root)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def test_defaults(tmp_path: Path) -> None:
    found = workspace(tmp_path)
    assert found.root == tmp_path
    assert found.name == "shop"
    assert found.state_url == f"sqlite:///{tmp_path}/.klartext/state.db"
    assert found.facts_root == f"{tmp_path}/.klartext/facts"
    assert (found.currency, found.language, found.timezone) == ("EUR", "en", "UTC")
    assert found.lateness == timedelta(days=1)
    assert found.properties == {}
    assert (found.metrics_file, found.prices_file, found.rates_file) == (None, None, None)
    assert found.experiment_files == ()
    assert not (tmp_path / ".klartext").exists()  # looking makes nothing


def test_everything_may_be_said(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").touch()
    (tmp_path / "metrics.yaml").touch()
    found = workspace(
        tmp_path,
        "currency: CHF\nlanguage: de\ntimezone: Europe/Zurich\nlateness: 36h\n"
        "state: sqlite:///db/state.db\nfacts: data\nprices: contract.yaml\n"
        "pseudonym_key: ../keys/k\nproperties: {country: text, amount_net: money}\n",
    )
    assert (found.currency, found.language, found.timezone) == ("CHF", "de", "Europe/Zurich")
    assert found.lateness == timedelta(hours=36)
    assert found.state_url == f"sqlite:///{tmp_path}/db/state.db"
    assert found.facts_root == f"{tmp_path}/data"
    assert found.prices_file == tmp_path / "contract.yaml"
    assert found.metrics_file == tmp_path / "metrics.yaml"
    assert found.key_file.resolve() == tmp_path.parent / "keys" / "k"
    assert found.properties == {"country": "text", "amount_net": "money"}


def test_urls_are_kept(tmp_path: Path) -> None:
    found = workspace(
        tmp_path, "state: postgresql+psycopg://db/klartext\nfacts: s3://bucket/facts\n"
    )
    assert found.state_url == "postgresql+psycopg://db/klartext"
    assert found.facts_root == "s3://bucket/facts"
    assert workspace(tmp_path, "state: sqlite:////var/x.db\n").state_url == "sqlite:////var/x.db"


def test_the_pseudonym_key_lies_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = workspace(tmp_path / "a"), workspace(tmp_path / "b")
    assert one.key_file.parent == tmp_path / "config" / "klartext" / "keys"
    assert one.key_file.name.startswith("shop-")
    assert one.key_file != other.key_file
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "elsewhere"))
    assert workspace(tmp_path / "a").key_file == tmp_path / "elsewhere"


@pytest.mark.parametrize("stated", ["k.key", "keys/../k.key", "./.klartext/k.key"])
def test_a_pseudonym_key_inside_is_refused(tmp_path: Path, stated: str) -> None:
    with pytest.raises(ConfigurationError, match="inside the workspace") as caught:
        workspace(tmp_path, f"pseudonym_key: {stated}\n")
    assert [problem.code for problem in caught.value.problems] == ["key-in-workspace"]


def test_properties_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'Land' beside 'land'") as caught:
        workspace(tmp_path, "properties: {land: text, region: text, Land: text}\n")
    assert [(one.code, one.path) for one in caught.value.problems] == [("alike", "properties.Land")]


def test_it_is_found_upwards(tmp_path: Path) -> None:
    found = workspace(tmp_path)
    deep = tmp_path / "experiments" / "2027"
    deep.mkdir(parents=True)
    assert find_workspace(deep) == found
    assert find_workspace(tmp_path / "klartext.yaml") == found
    for name in ("b.yaml", "a.yml", "notes.txt"):
        (tmp_path / "experiments" / name).touch()
    assert [file.name for file in found.experiment_files] == ["a.yml", "b.yaml"]


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no klartext\.yaml in .* or above it"):
        find_workspace(tmp_path)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        workspace(
            tmp_path,
            "nam: x\ncurrency: euro\nlanguage: fr\ntimezone: Berlin\nlateness: 2\n"
            "properties: {country: string, 9: text}\nretention: 1y\nname: twice\n",
        )
    assert [(problem.line, problem.path) for problem in raised.value.problems] == [
        (3, "nam"),
        (4, "currency"),
        (5, "language"),
        (6, "timezone"),
        (7, "lateness"),
        (8, "properties.country"),
        (8, "properties.9"),
        (9, "retention"),
        (10, "name"),
    ]


def test_named_files_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        workspace(tmp_path, "prices: nowhere.yaml\nrates: nowhere.csv\n")
    assert [str(problem) for problem in raised.value.problems] == [
        "klartext.yaml:3 prices is 'nowhere.yaml': there is no such file. Make it, or fix it.",
        "klartext.yaml:4 rates is 'nowhere.csv': there is no such file. Make it, or fix it.",
    ]


def test_the_module_itself_loads_nothing_heavy() -> None:
    code = (
        "import sys, klartext.experiments.workspace\n"
        "print([name for name in ('pydantic', 'yaml', 'sqlalchemy', 'numpy') "
        "if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert ran.stdout == "[]\n"
