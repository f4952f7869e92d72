"""Percentile caps, frozen."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "metric_caps",
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("percentile", sa.Text(), nullable=False, comment="a fraction"),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="pre_period or burn_in"),
        sa.Column("units", sa.BigInteger(), nullable=False, comment="with a value above 0"),
        sa.Column(
            "evidence", sa.Text(), nullable=False, comment="canonical JSON: computed from what"
        ),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the evidence"),
        sa.Column("frozen_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_metric_caps_experiment")
        ),
        sa.PrimaryKeyConstraint("experiment", "metric", name=op.f("pk_metric_caps")),
        comment="Percentile caps, resolved once; immutable.",
    )
