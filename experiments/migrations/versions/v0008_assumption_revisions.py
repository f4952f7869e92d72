"""Signed revisions of business assumptions."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "assumption_revisions",
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec_sha256", sa.Text(), nullable=False),
        sa.Column("look", sa.Integer(), comment="recorded look that was decided again"),
        sa.Column("revised_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("changes", sa.Text(), nullable=False, comment="JSON: input, old and new values"),
        sa.Column(
            "values", sa.Text(), nullable=False, comment="JSON: all that differs once in force"
        ),
        sa.Column("at_look", sa.Text(), comment="the analysis JSON, on the facts of the look"),
        sa.Column(
            "at_revision", sa.Text(), nullable=False, comment="the analysis JSON, on all facts"
        ),
        sa.Column(
            "registered",
            sa.Text(),
            nullable=False,
            comment="the analysis JSON, on all facts, with registered assumptions",
        ),
        sa.Column("reproduced", sa.Boolean(), comment="whether the look's figures came again"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of all of it"),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_assumption_revisions_experiment")
        ),
        sa.PrimaryKeyConstraint("experiment", "number", name=op.f("pk_assumption_revisions")),
        comment="Append-only; no verdict follows from them.",
    )
