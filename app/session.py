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
    from ibis.backends import BaseBackend

    from klartext.experiments.facts import FactsStore, FactTables
    from klartext.experiments.identity import Pseudonymiser
    from klartext.experiments.watermark import Watermark


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

    @property
    def cohorts(self) -> Path:
        """Where analyses keep what the next one need not read again; may be deleted."""
        return self.workspace.root / ".klartext" / "cohorts"

    def tables(self, connection: BaseBackend) -> FactTables:
        """Return the facts that analyses read: Klartext's own, or mapped tables of the engine."""
        from klartext.experiments.seen import fact_tables  # noqa: PLC0415 - pyarrow is heavy

        return fact_tables(self.facts, self.workspace.mapped, connection)

    def see(
        self, connection: BaseBackend, *, usage: bool, as_of: datetime | None = None
    ) -> tuple[FactTables, Watermark | None]:
        """Return these tables, and which facts in them an analysis may rely on; None: none yet."""
        from klartext.experiments import seen  # noqa: PLC0415 - pyarrow is heavy
        from klartext.experiments.state import reading  # noqa: PLC0415

        mapped = self.workspace.mapped
        with reading(self.engine) as state:
            return seen.see(
                self.facts, mapped, state, connection, usage=usage, now=self.now(), as_of=as_of
            )

    @cached_property
    def pseudonymiser(self) -> Pseudonymiser:
        """Turns raw ids into pseudonyms; refuses a key other than the facts'."""
        from klartext.experiments.identity import open_pseudonymiser  # noqa: PLC0415

        return open_pseudonymiser(self.engine, self.workspace.key_file)


def open_session(path: str | Path = ".") -> Session:
    """Open the workspace whose ``klartext.yaml`` lies in ``path`` or above it."""
    return Session(find_workspace(Path(path)))
