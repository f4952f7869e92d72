"""Which data file may hold an id: a local index that spares reading all ids for every import.

Data files never change, so what is known about a file stays true. The index is a set of sorted
runs on the local disk; each covers some files and is memory-mapped, so that memory stays bounded
however many facts there are. It only says where to look: ids are then compared in the files
themselves. It may be deleted at any time, and is made again from the files.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from klartext.experiments.disk import force

MAX_RUN_ROWS = 16_000_000
"""Rows of one run; making one takes about 40 bytes of memory per row."""

_KEPT_FILES = 32
_KEPT_ROWS = 100_000
"""From so much on a run is written; less is read again each time."""

_TIER = 4
"""So many runs of similar size become one."""

_Digests: TypeAlias = "npt.NDArray[np.uint64]"
_Numbers: TypeAlias = "npt.NDArray[np.uint32]"


@dataclass(frozen=True, slots=True)
class _Run:
    """Folded ids in order ``(n,)``, the place in ``files`` of the file of each ``(n,)``.

    ``name`` is empty for one that is not kept.
    """

    name: str
    files: tuple[str, ...]
    digests: _Digests
    numbers: _Numbers


@dataclass(frozen=True, slots=True)
class IdIndex:
    """The index of one table, in a folder of its own that several processes may share."""

    folder: Path

    def files_of(
        self,
        ids: Sequence[bytes],
        files: Sequence[str],
        read: Callable[[str], pa.ChunkedArray],
    ) -> list[str]:
        """Return which of ``files`` may hold one of ``ids``; no file that does is missing.

        Parameters
        ----------
        ids
            16 bytes each.
        files
            Data files of the snapshot.
        read
            Returns all ids of a file; called for files that are not in the index yet.
        """
        runs = self._refreshed(files, read)
        wanted = np.sort(_folded(pa.array(ids, pa.binary())))
        found: set[str] = set()
        for run in runs:
            first = np.searchsorted(run.digests, wanted, "left")
            last = np.searchsorted(run.digests, wanted, "right")
            is_hit = last > first
            for start, end in zip(first[is_hit], last[is_hit], strict=True):
                found.update(run.files[number] for number in np.unique(run.numbers[start:end]))
        return sorted(found.intersection(files))

    def _refreshed(
        self, files: Sequence[str], read: Callable[[str], pa.ChunkedArray]
    ) -> list[_Run]:
        """Return runs that cover ``files``; those that are not covered yet are read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        active = set(files)
        runs = list(self._current(active))
        covered = {name for run in runs for name in run.files}
        missing = [name for name in files if name not in covered]
        for gathered in _gathered(missing, read):
            is_kept = len(gathered[0]) >= _KEPT_FILES or len(gathered[1]) >= _KEPT_ROWS
            runs.append(self._written(*gathered) if is_kept else _Run("", *gathered))
        return self._tiered(runs, active)

    def _current(self, active: set[str]) -> Iterator[_Run]:
        """Return the runs on disk; those of which no file is left are deleted."""
        for manifest in sorted(self.folder.glob("*.json")):
            try:
                run = self._open(manifest)
            except (FileNotFoundError, ValueError):
                self._delete(manifest.stem)  # another process merged it, or it is torn
                continue
            if active.isdisjoint(run.files):
                self._delete(run.name)
            else:
                yield run

    def _open(self, manifest: Path) -> _Run:
        document: dict[str, Any] = json.loads(manifest.read_bytes())
        digests = np.load(manifest.with_suffix(".digests.npy"), mmap_mode="r")
        numbers = np.load(manifest.with_suffix(".numbers.npy"), mmap_mode="r")
        if not len(digests) == len(numbers) == document["rows"]:
            raise ValueError(f"{manifest.name} does not fit its data")
        return _Run(manifest.stem, tuple(document["files"]), digests, numbers)

    def _written(self, files: tuple[str, ...], digests: _Digests, numbers: _Numbers) -> _Run:
        """Write a run, the manifest last: what has none does not exist."""
        name = secrets.token_hex(8)
        manifest = self.folder / f"{name}.json"
        for kind, values in (("digests", digests), ("numbers", numbers)):
            file = manifest.with_suffix(f".{kind}.npy")
            np.save(file, values)
            force(file)  # a torn run would let a repeat pass as new
        draft = manifest.with_suffix(".draft")
        draft.write_text(json.dumps({"rows": len(digests), "files": files}))
        draft.replace(manifest)
        return _Run(name, files, digests, numbers)

    def _tiered(self, runs: list[_Run], active: set[str]) -> list[_Run]:
        """Merge runs of similar size, so that their number grows with the logarithm of rows."""
        tiers: dict[int, list[_Run]] = {}
        for run in runs:
            if run.name:
                tiers.setdefault(int(max(len(run.digests), 1)).bit_length() // 2, []).append(run)
        for _, tier in sorted(tiers.items()):
            rows = sum(len(run.digests) for run in tier)
            if len(tier) >= _TIER and rows <= MAX_RUN_ROWS:
                merged = self._written(*_merged(tier, active))
                for run in tier:
                    self._delete(run.name)
                names = {run.name for run in tier}
                rest = [run for run in runs if run.name not in names]
                return self._tiered([*rest, merged], active)
        return runs

    def _delete(self, name: str) -> None:
        for suffix in (".json", ".digests.npy", ".numbers.npy"):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)


def _gathered(
    files: Sequence[str], read: Callable[[str], pa.ChunkedArray]
) -> Iterator[tuple[tuple[str, ...], _Digests, _Numbers]]:
    """Return the contents of runs that cover ``files``, of bounded size."""
    names: list[str] = []
    parts: list[_Digests] = []
    for place, name in enumerate(files, start=1):
        names.append(name)
        parts.append(_folded(read(name)))
        if place == len(files) or sum(map(len, parts)) >= MAX_RUN_ROWS:
            lengths = [len(part) for part in parts]
            numbers = np.repeat(np.arange(len(names), dtype=np.uint32), lengths)
            yield tuple(names), *_ordered(np.concatenate(parts), numbers)
            names, parts = [], []


def _merged(runs: Sequence[_Run], active: set[str]) -> tuple[tuple[str, ...], _Digests, _Numbers]:
    """Return one run for several, without files that are no more."""
    names = sorted({name for run in runs for name in run.files} & active)
    place = {name: number for number, name in enumerate(names)}
    digests, numbers = [], []
    for run in runs:
        renumbered = np.array([place.get(name, -1) for name in run.files], dtype=np.int64)
        mapped = renumbered[run.numbers]
        digests.append(run.digests[mapped >= 0])
        numbers.append(mapped[mapped >= 0].astype(np.uint32))
    return tuple(names), *_ordered(np.concatenate(digests), np.concatenate(numbers))


def _ordered(digests: _Digests, numbers: _Numbers) -> tuple[_Digests, _Numbers]:
    order = np.argsort(digests, kind="stable")
    return digests[order], numbers[order]


def _folded(ids: pa.Array | pa.ChunkedArray) -> _Digests:
    """Return 64 of the 128 bits of each id ``(n,)``."""
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    halves = [np.empty((0, 2), np.uint64)]
    for chunk in chunks:
        fixed = chunk.cast(pa.binary(16))
        held = np.frombuffer(fixed.buffers()[1] or b"", np.uint64).reshape(-1, 2)
        halves.append(held[fixed.offset : fixed.offset + len(fixed)])
    both = np.concatenate(halves)
    return both[:, 0] ^ both[:, 1]
