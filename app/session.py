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
    from ibis.expr.types import Table

    from klartext.analysis.frames import VariantMoments
    from klartext.analysis.result import Analysis
    from klartext.app.usecases.analysis import Experiments
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

        return FactsStore(self.workspace.facts_root, self.workspace.properties)

    @cached_property
    def pseudonymiser(self) -> Pseudonymiser:
        """Turns raw ids into pseudonyms; refuses a key other than the facts'."""
        from klartext.experiments.identity import open_pseudonymiser  # noqa: PLC0415

        return open_pseudonymiser(self.engine, self.workspace.key_file)

    def experiments(self) -> Experiments:
        """Return the registered experiments; ``to_frame()`` gives a pandas table."""
        from klartext.app.usecases import analysis  # noqa: PLC0415 - heavy

        return analysis.experiments(self)

    def analyze(self, key: str) -> Analysis:
        """Return the analysis of an experiment on the facts so far; looking changes nothing.

        ``to_frame()`` gives its estimates as a pandas table.

        Raises
        ------
        klartext.experiments.errors.NotFoundError
            There is no such experiment.
        klartext.experiments.errors.NotReadyError
            It is not registered, or no facts were delivered yet.
        """
        from klartext.app.usecases import analysis  # noqa: PLC0415 - heavy

        return analysis.analyze(self, key)

    def moments(self, key: str) -> VariantMoments:
        """Return count, means and central moments of the unit columns, per variant.

        ``to_frame()`` gives a pandas table. Raises as `analyze`.
        """
        from klartext.app.usecases import analysis  # noqa: PLC0415 - heavy

        return analysis.moments(self, key)

    def units(self, key: str) -> Table:
        """Return the unit table as a lazy Ibis table: one row per exposed unit.

        ``to_pandas()`` computes it. Raises as `analyze`.
        """
        from klartext.app.usecases import analysis  # noqa: PLC0415 - heavy

        return analysis.units(self, key)


def open_session(path: str | Path = ".") -> Session:
    """Open the workspace whose ``klartext.yaml`` lies in ``path`` or above it."""
    return Session(find_workspace(Path(path)))
