"""Environments of other tools: each has its own, made on first use."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

_REQUIREMENTS = Path(__file__).parent / "facts" / "environments"


def environment(folder: Path, name: str) -> Path:
    """Return the interpreter of an environment with the other tool, made on first use."""
    place = folder / f"environment-{name}"
    python = place / "bin" / "python"
    done = place / "complete"
    if not done.exists():
        print(f"making the environment of {name}", file=sys.stderr)  # noqa: T201 - progress
        venv.create(place, with_pip=True, clear=True)
        wanted = str(_REQUIREMENTS / f"{name}.txt")
        output([str(python), "-m", "pip", "install", "--quiet", "-r", wanted])
        done.touch()
    return python


def output(command: list[str]) -> str:
    """Return what a command prints; end this process if it fails."""
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - own commands
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ran.returncode}")
    return ran.stdout
