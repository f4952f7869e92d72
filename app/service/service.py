"""What the routes share: the open workspace, the catalogue, the writer, the door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from starlette.requests import Request

from klartext.app.service.catalogue import Catalogue
from klartext.app.service.problems import ProblemError
from klartext.app.service.writer import NotWrittenError, Writer
from klartext.experiments.door import FUTURE_TOLERANCE, Door
from klartext.experiments.errors import ConflictError
from klartext.experiments.mapped_tables import require_own

if TYPE_CHECKING:
    from klartext.app.session import Session
    from klartext.experiments.identity import Pseudonymiser
    from klartext.experiments.records import FactRow
    from klartext.experiments.tokens import Signer


@dataclass(frozen=True, slots=True)
class Service:
    """One running service on one workspace."""

    session: Session
    pseudonymiser: Pseudonymiser
    signer: Signer
    catalogue: Catalogue
    writer: Writer
    judge: Door

    def door(self, now: datetime) -> Door:
        """Return what records arriving ``now`` are judged by."""
        return replace(self.judge, latest=now + FUTURE_TOLERANCE)

    async def write(self, rows: Sequence[FactRow]) -> None:
        """Return when ``rows`` are durable.

        Raises
        ------
        ProblemError
            409 for facts of a kind that is mapped; 503, with the time to wait.
        """
        try:
            require_own(self.session.workspace.mapped, (row.table for row in rows))
        except ConflictError as error:
            raise ProblemError(409, "mapped-facts", str(error)) from None
        try:
            await self.writer.write(rows)
        except NotWrittenError as error:
            detail = f"Nothing of this request was written: {error}. Send it again."
            raise ProblemError(503, "not-written", detail, retry_after_s=1) from None


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    service: Service = request.app.state.service
    return service
