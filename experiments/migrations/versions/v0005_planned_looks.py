"""Looks know their place in a group sequential design."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "looks", sa.Column("planned", sa.Integer(), comment="planned look that it took, from 1")
    )
    op.add_column(
        "looks", sa.Column("fraction", sa.Double(), comment="mature units over planned ones")
    )
    op.add_column("looks", sa.Column("information", sa.BigInteger(), comment="mature units"))
