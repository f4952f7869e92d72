"""All tables of the walking skeleton, and the first link of the audit chain."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts INTEGER only
INSTANT = sa.BigInteger()  # microseconds since 1970 UTC


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", IDENTITY, autoincrement=False, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False, comment="canonical JSON"),
        sa.Column("previous", sa.Text(), nullable=False, comment="hash of the entry before"),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
        comment="Append-only hash chain.",
    )
    op.create_table(
        "batches",
        sa.Column("batch", IDENTITY, autoincrement=True, nullable=False),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="exposures, events, usage, unit_table"
        ),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("content_sha256", sa.Text(), nullable=False),
        sa.Column("mapping_sha256", sa.Text(), nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("complete_until", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("duplicate", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("conflict", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("batch", name=op.f("pk_batches")),
        comment="One row per import; accepted + duplicate + conflict + rejected = sent.",
    )
    op.create_table(
        "experiments",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, comment="the version in force"),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("stopped_at", INSTANT),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_experiments")),
    )
    op.create_table(
        "inbox",
        sa.Column("id", IDENTITY, autoincrement=True, nullable=False),
        sa.Column("fact_table", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False, comment="JSON of a fact row, pseudonymised"),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("batch", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        comment="Acknowledged over HTTP, not yet in the facts.",
    )
    op.create_index(op.f("ix_inbox_batch"), "inbox", ["batch"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", IDENTITY, autoincrement=True, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("sent_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
        comment="Facts about the workspace itself, such as the fingerprint of its pseudonym key.",
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", IDENTITY, autoincrement=True, nullable=False),
        sa.Column("batch", IDENTITY, nullable=False),
        sa.Column(
            "position", sa.BigInteger(), nullable=False, comment="one-based row in its source"
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="stable code"),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("row_sha256", sa.Text(), nullable=False),
        sa.Column("unit", sa.BigInteger(), comment="pseudonym, when it could be read"),
        sa.Column("parsed", sa.Text(), comment="JSON of the parsed row without raw ids"),
        sa.ForeignKeyConstraint(["batch"], ["batches.batch"], name=op.f("fk_dead_letters_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        comment="Rejected rows; unparsable ones only as position, reason and hash.",
    )
    op.create_index(op.f("ix_dead_letters_batch"), "dead_letters", ["batch"])
    op.create_table(
        "experiment_versions",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("canonical", sa.Text(), nullable=False, comment="resolved form, canonical JSON"),
        sa.Column("source", sa.Text(), nullable=False, comment="the YAML as written"),
        sa.Column("recorded_at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key"], ["experiments.key"], name=op.f("fk_experiment_versions_key")
        ),
        sa.PrimaryKeyConstraint("key", "version", name=op.f("pk_experiment_versions")),
        comment="Immutable; a change is a new version.",
    )
    op.create_table(
        "layer_slots",
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("slot_from", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("slot_to", sa.Integer(), nullable=False, comment="exclusive"),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_layer_slots_experiment")
        ),
        sa.PrimaryKeyConstraint("layer", "slot_from", name=op.f("pk_layer_slots")),
        comment="Traffic reserved by started experiments: [from, to) in millionths of the layer.",
    )
    op.create_index(op.f("ix_layer_slots_experiment"), "layer_slots", ["experiment"])
    op.create_table(
        "looks",
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("look", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec_sha256", sa.Text(), nullable=False),
        sa.Column("taken_at", INSTANT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("watermark_batch", sa.BigInteger(), nullable=False),
        sa.Column("watermark_cutoff", INSTANT, nullable=False),
        sa.Column("moments", sa.Text(), nullable=False, comment="JSON; reports survive retention"),
        sa.Column("result", sa.Text(), nullable=False, comment="the analysis JSON"),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_looks_experiment")
        ),
        sa.PrimaryKeyConstraint("experiment", "look", name=op.f("pk_looks")),
        comment="Recorded by decide only.",
    )
    op.create_table(
        "policy_versions",
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer()),
        sa.Column(
            "weights", sa.Text(), nullable=False, comment="JSON: variant -> millionths, in order"
        ),
        sa.Column("floors", sa.Text(), nullable=False, comment="JSON: variant -> millionths"),
        sa.Column("watermark_batch", sa.BigInteger(), nullable=False),
        sa.Column("watermark_cutoff", INSTANT),
        sa.Column("evidence", sa.Text(), nullable=False, comment="JSON of the posterior behind it"),
        sa.Column("published_at", INSTANT, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment"], ["experiments.key"], name=op.f("fk_policy_versions_experiment")
        ),
        sa.PrimaryKeyConstraint("experiment", "version", name=op.f("pk_policy_versions")),
        comment="Immutable bandit policies.",
    )
    op.execute("INSERT INTO settings (name, value) VALUES ('audit_head', '0 " + 64 * "0" + "')")
