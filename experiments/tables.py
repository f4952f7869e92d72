"""All state tables, one metadata, and the exact column types they use.

SQLite turns ``Numeric`` into floats and drops time zones, so decimals are text and instants are
integer microseconds since 1970 UTC on every database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ExactDecimal(TypeDecorator[Decimal]):
    """A `Decimal` kept as its text, so that not a digit changes."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class Instant(TypeDecorator[datetime]):
    """An aware datetime kept as integer microseconds since 1970 UTC; naive ones are refused."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value.isoformat()}: instants carry a time zone")
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts INTEGER only

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    comment="Facts about the workspace itself, such as the fingerprint of its pseudonym key.",
)

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, comment="the version in force"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("stopped_at", Instant),
)

experiment_versions = sa.Table(
    "experiment_versions",
    metadata,
    sa.Column("key", sa.ForeignKey("experiments.key"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("canonical", sa.Text, nullable=False, comment="resolved form, canonical JSON"),
    sa.Column("source", sa.Text, nullable=False, comment="the YAML as written"),
    sa.Column("recorded_at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    comment="Immutable; a change is a new version.",
)

layer_slots = sa.Table(
    "layer_slots",
    metadata,
    sa.Column("layer", sa.Text, primary_key=True),
    sa.Column("slot_from", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("slot_to", sa.Integer, nullable=False, comment="exclusive"),
    sa.Column("experiment", sa.ForeignKey("experiments.key"), nullable=False, index=True),
    comment="Traffic reserved by started experiments: [from, to) in millionths of the layer.",
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", Identity, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False, comment="canonical JSON"),
    sa.Column("previous", sa.Text, nullable=False, comment="hash of the entry before"),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    comment="Append-only hash chain.",
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("batch", Identity, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Text, nullable=False, comment="exposures, events, usage, unit_table"),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("content_sha256", sa.Text, nullable=False),
    sa.Column("mapping_sha256", sa.Text, nullable=False),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("complete_until", Instant),
    sa.Column("finished_at", Instant),
    sa.Column("accepted", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("duplicate", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("conflict", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("rejected", sa.BigInteger, nullable=False, server_default="0"),
    comment="One row per import; accepted + duplicate + conflict + rejected = sent.",
)

ledger_lines = sa.Table(
    "ledger_lines",
    metadata,
    sa.Column("number", Identity, primary_key=True, autoincrement=True),
    sa.Column("key", sa.Text, nullable=False, unique=True, comment="identity, keyed digest"),
    sa.Column("payload", sa.Text, nullable=False, comment="digest of all it says"),
    sa.Column("batch", sa.ForeignKey("batches.batch"), comment="the import it came with"),
    sa.Column("recorded_at", Instant, nullable=False, index=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("category", sa.Text, nullable=False),
    sa.Column("behaviour", sa.Text, nullable=False),
    sa.Column("service_start", Instant, nullable=False),
    sa.Column("service_end", Instant, nullable=False, comment="exclusive"),
    sa.Column("amount", ExactDecimal, nullable=False, comment="net, in the bill's currency"),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reporting", ExactDecimal, nullable=False, comment="in the workspace's currency"),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("billed", ExactDecimal, comment="for reconciliation only"),
    sa.Column("vat", ExactDecimal),
    sa.Column("experiment", sa.Text),
    sa.Column("variant", sa.Text),
    sa.Column("cost_centre", sa.Text),
    sa.Column("account", sa.Text),
    sa.Column("label", sa.Text),
    sa.Column("billing_start", Instant),
    sa.Column("supersedes", sa.ForeignKey("ledger_lines.number"), unique=True),
    sa.Column("provider", sa.Text, comment="whose AI calls it bills"),
    sa.Column("replaces", sa.Text, comment="cost line of the spec whose place it takes"),
    sa.Column("allocates", sa.BigInteger, comment="line that it is a share of"),
    comment="Append-only and bitemporal: period of service, and when it was recorded.",
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", Identity, primary_key=True, autoincrement=True),
    sa.Column("batch", sa.ForeignKey("batches.batch"), nullable=False, index=True),
    sa.Column("position", sa.BigInteger, nullable=False, comment="one-based row in its source"),
    sa.Column("reason", sa.Text, nullable=False, comment="stable code"),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("row_sha256", sa.Text, nullable=False),
    sa.Column("unit", sa.BigInteger, comment="pseudonym, when it could be read"),
    comment="Rejected rows; unparsable ones only as position, reason and hash.",
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", Identity, primary_key=True, autoincrement=True),
    sa.Column("fact_table", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False, comment="JSON of a fact row, pseudonymised"),
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("batch", sa.BigInteger, index=True),
    comment="Acknowledged over HTTP, not yet in the facts.",
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
)

policy_versions = sa.Table(
    "policy_versions",
    metadata,
    sa.Column("experiment", sa.ForeignKey("experiments.key"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("parent", sa.Integer),
    sa.Column("weights", sa.Text, nullable=False, comment="JSON: variant -> millionths, in order"),
    sa.Column("floors", sa.Text, nullable=False, comment="JSON: variant -> millionths"),
    sa.Column("watermark_batch", sa.BigInteger, nullable=False),
    sa.Column("watermark_cutoff", Instant),
    sa.Column("evidence", sa.Text, nullable=False, comment="JSON of the posterior behind it"),
    sa.Column("published_at", Instant, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    comment="Immutable bandit policies.",
)

looks = sa.Table(
    "looks",
    metadata,
    sa.Column("experiment", sa.ForeignKey("experiments.key"), primary_key=True),
    sa.Column("look", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("spec_sha256", sa.Text, nullable=False),
    sa.Column("taken_at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("watermark_batch", sa.BigInteger, nullable=False),
    sa.Column("watermark_cutoff", Instant, nullable=False),
    sa.Column("moments", sa.Text, nullable=False, comment="JSON; reports survive retention"),
    sa.Column("result", sa.Text, nullable=False, comment="the analysis JSON"),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("planned", sa.Integer, comment="planned look that it took, from 1"),
    sa.Column("fraction", sa.Double, comment="mature units over planned ones"),
    sa.Column("information", sa.BigInteger, comment="mature units"),
    comment="Recorded by decide only.",
)

metric_caps = sa.Table(
    "metric_caps",
    metadata,
    sa.Column("experiment", sa.ForeignKey("experiments.key"), primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("percentile", ExactDecimal, nullable=False, comment="a fraction"),
    sa.Column("value", ExactDecimal, nullable=False),
    sa.Column("source", sa.Text, nullable=False, comment="pre_period or burn_in"),
    sa.Column("units", sa.BigInteger, nullable=False, comment="with a value above 0"),
    sa.Column("evidence", sa.Text, nullable=False, comment="canonical JSON: computed from what"),
    sa.Column("sha256", sa.Text, nullable=False, comment="of the evidence"),
    sa.Column("frozen_at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    comment="Percentile caps, resolved once; immutable.",
)

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("experiment", sa.ForeignKey("experiments.key"), primary_key=True),
    sa.Column("look", sa.Integer, primary_key=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.Column("person", sa.Text, nullable=False),
    sa.Column("approved", sa.Boolean, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("evidence_sha256", sa.Text, nullable=False, comment="of looks.result"),
    sa.Column("signed_at", Instant, nullable=False),
)

assumption_revisions = sa.Table(
    "assumption_revisions",
    metadata,
    sa.Column("experiment", sa.ForeignKey("experiments.key"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("spec_sha256", sa.Text, nullable=False),
    sa.Column("look", sa.Integer, comment="recorded look that was decided again"),
    sa.Column("revised_at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("changes", sa.Text, nullable=False, comment="JSON: input, old and new values"),
    sa.Column("values", sa.Text, nullable=False, comment="JSON: all that differs once in force"),
    sa.Column("at_look", sa.Text, comment="the analysis JSON, on the facts of the look"),
    sa.Column("at_revision", sa.Text, nullable=False, comment="the analysis JSON, on all facts"),
    sa.Column(
        "registered",
        sa.Text,
        nullable=False,
        comment="the analysis JSON, on all facts, with registered assumptions",
    ),
    sa.Column("reproduced", sa.Boolean, comment="whether the look's figures came again"),
    sa.Column("sha256", sa.Text, nullable=False, comment="of all of it"),
    comment="Append-only; no verdict follows from them.",
)

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("experiment", sa.ForeignKey("experiments.key"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("opened_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("closed_at", Instant),
    sa.Column("closed_by", sa.Text),
    sa.Column("comment", sa.Text),
)

preflights = sa.Table(
    "preflights",
    metadata,
    sa.Column("id", Identity, primary_key=True, autoincrement=True),
    sa.Column("experiment", sa.ForeignKey("experiments.key"), nullable=False, index=True),
    sa.Column("check", sa.Text, nullable=False),
    sa.Column("value", ExactDecimal, nullable=False),
    sa.Column("evidence_sha256", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("recorded_at", Instant, nullable=False),
    comment="The latest result of a check counts.",
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", Identity, primary_key=True, autoincrement=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("sent_at", Instant),
)
