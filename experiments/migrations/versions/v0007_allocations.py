"""Ledger lines may be shares of another one."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # No foreign key: SQLite cannot add one to a table that is there.
    op.add_column(
        "ledger_lines",
        sa.Column("allocates", sa.BigInteger(), comment="line that it is a share of"),
    )
