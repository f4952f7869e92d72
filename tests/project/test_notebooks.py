"""Notebooks run top to bottom, on a demo, and hold no saved output."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from klartext.app.demo.run import SEED, run
from klartext.app.demo.simulate import Shop, simulate

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("notebook")
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        finished = run(home / "shop", replace=False, seed=SEED, tell=lambda c, _: told.append(c))
    assert finished.verdict == "GO"
    assert finished.report.is_file()
    assert "klartext decide reactivation-mail" in told
    return home


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: str(path.stem))
def test_notebook_runs(notebook: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    names: dict[str, object] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "clear the output before committing"
            source = "".join(cell["source"])
            assert not any(
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                for node in ast.walk(ast.parse(source))
            ), "notebooks hold no logic"
            exec(compile(source, f"{notebook.name}:{cell['id']}", "exec"), names)  # noqa: S102
    assert names


def test_the_demo_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    small = Shop(customers=500)
    first = simulate(small, tmp_path / "a", np.random.default_rng(1))
    again = simulate(small, tmp_path / "b", np.random.default_rng(1))
    other = simulate(small, tmp_path / "c", np.random.default_rng(2))
    assert first.events.read_bytes() == again.events.read_bytes()
    assert first.calls.read_bytes() == again.calls.read_bytes()
    assert first.events.read_bytes() != other.events.read_bytes()
