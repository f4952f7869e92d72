"""The command line starts light, and the online modules stay so."""

import subprocess
import sys

import pytest

HEAVY = {
    "alembic",
    "babel",
    "deltalake",
    "duckdb",
    "genai_prices",
    "ibis",
    "jinja2",
    "numpy",
    "pandas",
    "plotly",
    "pyarrow",
    "pydantic",
    "scipy",
    "sqlalchemy",
    "starlette",
    "statsmodels",
    "uvicorn",
    "yaml",
}
ONLINE = ("assignment", "policies", "tokens", "inbox")


def _loaded(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name.split(".")[0] for name in out.split("\n")[-2].split()}


def test_help_imports_nothing_heavy() -> None:
    code = (
        "from klartext.app.cli import app\n"
        "try: app(['--help'], standalone_mode=False)\n"
        "except SystemExit: pass"
    )
    assert not _loaded(code) & HEAVY


@pytest.mark.parametrize("module", ONLINE)
def test_online_modules_import_nothing_analytical(module: str) -> None:
    forbidden = HEAVY - {"sqlalchemy"} if module == "inbox" else HEAVY
    assert not _loaded(f"import klartext.experiments.{module}") & forbidden
