"""The log of a fact table: commits forced to the disk, and checkpoints.

A checkpoint is one file that says what a number of commits add up to: who opens the table reads it
and the commits after it. The Delta library would write one into the table, name it and leave
forcing it to the system, so that a power cut could hide the table behind a torn one. In local
folders it therefore writes none: ours get their names once they are on the disk.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

from deltalake import DeltaTable, PostCommitHookProperties

from klartext.experiments.disk import force
from klartext.experiments.storage import is_remote

INTERVAL = 100
"""Commits from one checkpoint to the next, unless maintenance makes one before."""

REMEMBERED = timedelta(days=7)
"""A checkpoint forgets what was removed longer ago."""

_LOG = "_delta_log"
_POINTER = "_last_checkpoint"
_VERSIONED = re.compile(r"(?P<version>\d{20})\.(json|(?P<checkpoint>checkpoint.*)\.parquet)")


def hooks(location: str) -> PostCommitHookProperties:
    """Return what the library does after a commit: in object stores checkpoints, else nothing."""
    return PostCommitHookProperties(
        create_checkpoint=is_remote(location), cleanup_expired_logs=False
    )


def make_durable(location: str, delta: DeltaTable, *, since: int) -> None:
    """Force the commits after version ``since`` to the disk; object stores do so themselves.

    The hundredth one is followed by a checkpoint.
    """
    if is_remote(location):
        return
    version = delta.version()
    _force_commits(Path(location), range(since + 1, version + 1))
    if (version + 1) % INTERVAL == 0:
        _checkpoint(Path(location), version)


def shorten(location: str, delta: DeltaTable, *, keep: timedelta) -> None:
    """Delete commits before the last checkpoint that are older than 30 days, and make another.

    Not the other way round: who is opening the table may be reading the commits before the new one.

    Parameters
    ----------
    location, delta
        The table and its latest version.
    keep
        How long files stay after they were rewritten. If that is longer than a checkpoint
        remembers them, all commits stay: they say when it was.
    """
    if keep <= REMEMBERED:
        delta.cleanup_metadata()
    if is_remote(location):
        delta.create_checkpoint()
    else:
        _checkpoint(Path(location), delta.version())


def _checkpoint(table: Path, version: int) -> None:
    """Let the library make a checkpoint of a copy of the log, and publish that.

    Killed in between it leaves the copy among the temporary files of the machine, and beside the
    data a file that nobody names: maintenance deletes it.
    """
    log = table / _LOG
    files = [found for path in log.iterdir() if (found := _VERSIONED.fullmatch(path.name))]
    latest = max((int(file["version"]) for file in files if file["checkpoint"]), default=-1)
    if latest >= version:
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, _LOG)
        copy.mkdir()
        for file in files:
            first = latest if file["checkpoint"] else latest + 1
            if first <= int(file["version"]) <= version:
                shutil.copyfile(log / file[0], copy / file[0])
        DeltaTable(folder).create_checkpoint()
        _publish(copy / f"{version:020d}.checkpoint.parquet", table)
        _publish(copy / _POINTER, table)


def _publish(file: Path, table: Path) -> None:
    """Put a file into the log of a table: whole and on the disk before it has its name there."""
    log, staged = table / _LOG, table / f"staged-{uuid4().hex}"
    try:
        shutil.copyfile(file, staged)
        force(staged)
        staged.replace(log / file.name)
    finally:
        staged.unlink(missing_ok=True)
    force(log)


def _force_commits(table: Path, versions: range) -> None:
    """Force what commits add, then the commits, then the folders that name all these."""
    log = table / _LOG
    commits = [log / f"{version:020d}.json" for version in versions]
    data = sorted({table / path for commit in commits for path in _added(commit)})
    folders = sorted({file.parent for file in data} | {log, table, table.parent})
    for path in (*data, *commits, *folders):
        force(path)


def _added(commit: Path) -> Iterator[str]:
    for line in commit.read_text("utf-8").splitlines():
        added = json.loads(line).get("add")
        if added is not None:
            yield unquote(added["path"])
