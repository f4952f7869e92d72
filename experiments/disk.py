"""What has to outlast a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def force(path: Path) -> None:
    """Force a file to the disk; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
