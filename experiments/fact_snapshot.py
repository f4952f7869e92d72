"""One version of a fact table: which files it has, and where ids are in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from klartext.experiments.errors import KlartextError
from klartext.experiments.fact_columns import IDS
from klartext.experiments.id_index import IdIndex
from klartext.experiments.storage import is_remote, storage_options

_ARROW = re.compile("\x1b\\[[0-9;]*m|↳")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of one table, or its absence; ``index`` knows where ids are."""

    delta: DeltaTable | None
    location: str
    index: IdIndex

    @classmethod
    def of(cls, location: str, index: IdIndex) -> Snapshot:
        """Read the latest version of the table at a folder or URL.

        Raises
        ------
        KlartextError
            Its log is damaged, or it may not be read.
        """
        try:
            delta = DeltaTable(location, storage_options=storage_options(location))
        except TableNotFoundError:
            return cls(None, location, index)
        except DeltaError as error:
            reason = _lines(error)[0]
            raise KlartextError(
                f"the facts in {location} cannot be opened, their log is damaged: {reason}. "
                f"Restore {location}/_delta_log from a backup; the data files are as they were."
            ) from error
        except OSError as error:  # no rights, no answer
            raise KlartextError(
                f"the facts in {location} cannot be read: {'; '.join(_lines(error))}"
            ) from error
        return cls(delta, location, index)

    def committed(self, application: str) -> int | None:
        """Return the highest version of an application transaction, None when there is none."""
        found = None if self.delta is None else self.delta.transaction_version(application)
        return None if found is None else int(found)

    def files(self) -> list[str]:
        """Return the data files, relative to the table."""
        if self.delta is None:
            return []
        paths = pa.table(self.delta.get_add_actions(flatten=True))["path"]
        return [unquote(path) for path in paths.to_pylist()]

    def delete(self, files: Sequence[str]) -> int:
        """Delete files, relative to the table, that nobody needs; return how many there were."""
        folder = _file_system(self.location)
        present = [info.path for info in folder.get_file_info(list(files)) if info.is_file]
        for path in present:
            with suppress(FileNotFoundError):  # somebody else was first
                folder.delete_file(path)
        return len(present)

    def known(self, ids: Sequence[bytes]) -> pa.Table:
        """Return ``id``, ``payload``, ``ingest_batch`` of the rows that have one of ``ids``."""
        files = self.files()
        found = self.index.files_of(ids, files, self._ids) if files else []
        wanted = pc.field("id").isin(pa.array(ids, pa.binary()))
        return self._dataset(found).to_table(filter=wanted)

    def _ids(self, file: str) -> pa.ChunkedArray:
        return self._dataset([file]).to_table(columns=["id"])["id"]

    def _dataset(self, files: Sequence[str]) -> pads.Dataset:
        return pads.FileSystemDataset.from_paths(
            files,
            schema=IDS,
            format=pads.ParquetFileFormat(),
            filesystem=_file_system(self.location),
        )


def _lines(error: Exception) -> list[str]:
    """Return a message of the table library without colours and arrows."""
    lines = (_ARROW.sub("", line).strip(" .") for line in str(error).splitlines())
    return [line for line in lines if line]


def _file_system(location: str) -> pafs.FileSystem:
    """Return the folder of a table as a file system."""
    if is_remote(location):
        return pafs.PyFileSystem(DeltaStorageHandler(location, storage_options(location)))
    return pafs.SubTreeFileSystem(location, pafs.LocalFileSystem())
