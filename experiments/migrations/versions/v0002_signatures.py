"""Signatures on a GO, incidents, and results of preflight checks."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts INTEGER only
INSTANT = sa.BigInteger()  # microseconds since 1970 UTC


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("look", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("evidence_sha256", sa.Text(), nullable=False, comment="of looks.result"),
        sa.Column("signed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_approvals_experiment")
        ),
        sa.PrimaryKeyConstraint("experiment", "look", "role", name=op.f("pk_approvals")),
    )
    op.create_table(
        "incidents",
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("opened_at", INSTANT, nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("closed_at", INSTANT),
        sa.Column("closed_by", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_incidents_experiment")
        ),
        sa.PrimaryKeyConstraint("experiment", "number", name=op.f("pk_incidents")),
    )
    op.create_table(
        "preflights",
        sa.Column("id", IDENTITY, autoincrement=True, nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("check", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("evidence_sha256", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_preflights_experiment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preflights")),
        comment="The latest result of a check counts.",
    )
    op.create_index(op.f("ix_preflights_experiment"), "preflights", ["experiment"])
