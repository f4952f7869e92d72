"""Pages on disk: a file is replaced whole, never left half written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from klartext.experiments.errors import NotFoundError


def check_folder(output: Path) -> None:
    """Refuse a file in no folder, before anything is computed for it.

    Raises
    ------
    NotFoundError
        There is no such folder.
    """
    if not output.parent.is_dir():
        raise NotFoundError(f"{output.parent} is not a folder: make it, or write elsewhere with -o")


def replace_file(output: Path, content: bytes) -> None:
    """Write a file, whole, in the place of the one that was there."""
    handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
