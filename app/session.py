"""An opened workspace: its settings, state, facts and pseudonyms, each made when first needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from klartext.experiments.workspace import Workspace, find_workspace

if TYPE_CHECKING:
    import sqlalchemy as sa

    from klartext.experiments.facts import FactsStore
    from klartext.experiments.identity import Pseudonymiser


@dataclass(frozen=True)
class Session:
    """A workspace in use; what every use case takes first.

    ``now`` is the one place where use cases read the clock; a simulation brings its own.
    """

    workspace: Workspace
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @cached_property
    def engine(self) -> sa.Engine:
        """The state database, brought to the current schema."""
        from klartext.experiments.migrations import upgrade  # noqa: PLC0415 - SQLAlchemy is heavy
        from klartext.experiments.state import open_state  # noqa: PLC0415

        engine = open_state(self.workspace.state_url)
        upgrade(engine)
        return engine

    @cached_property
    def facts(self) -> FactsStore:
        """The Delta tables of this workspace."""
        from klartext.experiments.facts import FactsStore  # noqa: PLC0415 - pyarrow is heavy

        workspace = self.workspace
        index = workspace.root / ".klartext" / "ids"
        return FactsStore(workspace.facts_root, workspace.properties, index=index)

    @cached_property
    def pseudonymiser(self) -> Pseudonymiser:
        """Turns raw ids into pseudonyms; refuses a key other than the facts'."""
        from klartext.experiments.identity import open_pseudonymiser  # noqa: PLC0415

        return open_pseudonymiser(self.engine, self.workspace.key_file)


def open_session(path: str | Path = ".") -> Session:
    """Open the workspace whose ``klartext.yaml`` lies in ``path`` or above it."""
    return Session(find_workspace(Path(path)))
