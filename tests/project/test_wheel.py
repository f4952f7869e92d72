"""A look inside the wheel, built from the sdist as an index would serve it."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("experiments", "analysis", "bandits", "reports", "app")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def _product_files() -> set[str]:
    """Every file of the product that git tracks, as it is named in the wheel."""
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return {f"klartext/{name}" for name in listed}


def test_the_wheel_holds_every_product_file_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[1]).namelist())
    product = {name for name in names if ".dist-info/" not in name}
    own = {"klartext/__init__.py", "klartext/__main__.py", "klartext/py.typed"}
    assert product == _product_files() | own
    assert any("/migrations/versions/" in name for name in product)
    assert any("/templates/" in name for name in product)


def test_the_sdist_holds_licence_readme_and_tests(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "README.md", "tests/conftest.py"} <= names


def test_the_wheel_runs_on_its_own(built: tuple[Path, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(built[1]).extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-P", "-c", "import klartext; print(klartext.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert run.stdout.strip() == str(site / "klartext" / "__init__.py")
    made = subprocess.run(
        [sys.executable, "-P", "-m", "klartext", "init", "shop", "--template", "mail"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "shop" / "klartext.yaml").is_file()
