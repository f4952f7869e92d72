"""The history of a fact table: whether facts were only added since something was made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deltalake import DeltaTable

BATCH = "klartext.batch"
"""In the log of a table: the earliest batch of a commit."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which table something was made of, and what was done to the table since.

    Parameters
    ----------
    delta
        The table as it is; None when there is none.
    """

    delta: DeltaTable | None

    @property
    def table(self) -> str:
        """Identity of the table: another one at the same place has another."""
        return "" if self.delta is None else str(self.delta.metadata().id)

    def document(self) -> dict[str, Any]:
        """Return it as JSON, for `only_grew`."""
        return {"table": self.table, "version": self._version}

    @property
    def _version(self) -> int:
        return -1 if self.delta is None else int(self.delta.version())

    def only_grew(self, before: Mapping[str, Any], batch: int) -> bool:
        """Whether facts of later batches were added since, or facts rewritten as they are.

        Parameters
        ----------
        before
            `document` of then.
        batch
            The latest batch of then. A writer that stalled beyond its lease adds rows to an
            earlier one.
        """
        if before["version"] < 0:
            return True  # there was none
        since = self._version - before["version"]
        if self.delta is None or before["table"] != self.table or since < 0:
            return False
        commits = self.delta.history(since) if since else []
        return len(commits) == since and all(_keeps_facts(commit, batch) for commit in commits)


def _keeps_facts(commit: Mapping[str, Any], batch: int) -> bool:
    """Whether a commit added a later batch or compacted; a vacuum deletes what nobody reads."""
    if commit["operation"].startswith("VACUUM"):
        return True
    is_append = commit.get("operationParameters", {}).get("mode") == "Append"
    adds = is_append and int(commit.get(BATCH, batch + 1)) > batch
    return commit["operation"] == "WRITE" and (adds or commit.get("klartext") == "compaction")
