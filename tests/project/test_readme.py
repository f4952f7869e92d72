"""The README's own commands run, in order, as a newcomer would type them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for block in _BLOCK.findall(text) for line in block.splitlines()]
    return [line[2:] for line in lines if line.startswith("$ klartext ")]


@pytest.mark.slow
def test_every_klartext_command_of_the_readme_works(tmp_path: Path) -> None:
    commands = _commands()
    assert len(commands) >= 5, "the README shows how to use the product"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    home = tmp_path / "home"
    home.mkdir()
    for command in commands:
        run = subprocess.run(
            ["bash", "-c", command],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert run.returncode == 0, f"$ {command}\n{run.stdout}\n{run.stderr}"
