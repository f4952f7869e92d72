"""The schema of the state database: brought to this version of Klartext, or refused.

One Alembic tree for all tables; ``versions/`` holds its steps. They are written out, never made
from `tables.metadata`, because a step must stay what it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from klartext.experiments.errors import ConflictError
from klartext.experiments.state import reading

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0009"
"""The newest step; a constant so that an up-to-date database does not cost Alembic's import."""

_VERSION_TABLE = "alembic_version"
_POSTGRESQL_LOCK = 0x6B6C617274657874  # "klartext"; two servers starting at once migrate once


def upgrade(engine: sa.Engine) -> None:
    """Bring the schema to `HEAD`; all or nothing, and nothing at all when it is there already.

    Raises
    ------
    ConflictError
        The database was written by a newer Klartext.
    """
    if current(engine) == HEAD:
        return
    from alembic import command  # noqa: PLC0415 - heavy, and rarely needed

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRESQL_LOCK)))
        configuration = alembic_config(connection)
        _refuse_unknown(_recorded(connection), configuration, connection.engine.url)
        command.upgrade(configuration, HEAD)


def current(engine: sa.Engine) -> str | None:
    """Return the step the database is at; None when it is empty."""
    with reading(engine) as connection:
        return _recorded(connection)


def alembic_config(connection: sa.Connection) -> Config:
    """Return Alembic's settings for this tree on an open connection; no alembic.ini needed."""
    from alembic.config import Config  # noqa: PLC0415 - heavy, and rarely needed

    configuration = Config()
    folder = str(Path(__file__).parent)
    configuration.set_main_option("script_location", folder.replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    return configuration


def _recorded(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return None
    version = sa.column("version_num", sa.Text)
    query = sa.select(version).select_from(sa.table(_VERSION_TABLE, version))
    return connection.execute(query).scalar_one_or_none()


def _refuse_unknown(recorded: str | None, configuration: Config, url: sa.URL) -> None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - heavy, and rarely needed

    if recorded is None:
        return
    known = {step.revision for step in ScriptDirectory.from_config(configuration).walk_revisions()}
    if recorded not in known:
        raise ConflictError(
            f"The state database {url.render_as_string(hide_password=True)} has schema "
            f"{recorded}; this Klartext knows schemas up to {HEAD}. A newer Klartext wrote it: "
            f"install that version, or restore a backup made before the update."
        )
