"""Alembic's entry: runs the steps on the connection that `upgrade` holds, in its transaction."""

from alembic import context

from klartext.experiments.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite's too: the caller's BEGIN IMMEDIATE spans all steps
    render_as_batch=True,  # SQLite alters by copying
)
with context.begin_transaction():
    context.run_migrations()
