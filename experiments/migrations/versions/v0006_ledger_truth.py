"""Ledger lines say whose AI calls they bill, and which cost line of the spec they replace."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "ledger_lines", sa.Column("provider", sa.Text(), comment="whose AI calls it bills")
    )
    op.add_column(
        "ledger_lines",
        sa.Column("replaces", sa.Text(), comment="cost line of the spec whose place it takes"),
    )
