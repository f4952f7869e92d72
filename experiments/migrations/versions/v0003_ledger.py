"""The cost ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts INTEGER only
INSTANT = sa.BigInteger()  # microseconds since 1970 UTC
DECIMAL = sa.Text()


def upgrade() -> None:
    op.create_table(
        "ledger_lines",
        sa.Column("number", IDENTITY, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="identity, keyed digest"),
        sa.Column("payload", sa.Text(), nullable=False, comment="digest of all it says"),
        sa.Column("batch", IDENTITY, comment="the import it came with"),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("behaviour", sa.Text(), nullable=False),
        sa.Column("service_start", INSTANT, nullable=False),
        sa.Column("service_end", INSTANT, nullable=False, comment="exclusive"),
        sa.Column("amount", DECIMAL, nullable=False, comment="net, in the bill's currency"),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reporting", DECIMAL, nullable=False, comment="in the workspace's currency"),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("billed", DECIMAL, comment="for reconciliation only"),
        sa.Column("vat", DECIMAL),
        sa.Column("experiment", sa.Text()),
        sa.Column("variant", sa.Text()),
        sa.Column("cost_centre", sa.Text()),
        sa.Column("account", sa.Text()),
        sa.Column("label", sa.Text()),
        sa.Column("billing_start", INSTANT),
        sa.Column("supersedes", IDENTITY),
        sa.ForeignKeyConstraint(["batch"], ["batches.batch"], name=op.f("fk_ledger_lines_batch")),
        sa.ForeignKeyConstraint(
            ["supersedes"], ["ledger_lines.number"], name=op.f("fk_ledger_lines_supersedes")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ledger_lines")),
        sa.UniqueConstraint("key", name=op.f("uq_ledger_lines_key")),
        sa.UniqueConstraint("supersedes", name=op.f("uq_ledger_lines_supersedes")),
        comment="Append-only and bitemporal: period of service, and when it was recorded.",
    )
    op.create_index(op.f("ix_ledger_lines_recorded_at"), "ledger_lines", ["recorded_at"])
