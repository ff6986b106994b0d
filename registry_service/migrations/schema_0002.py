"""What migration 0002 creates. A module of its own for its length."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# Microseconds since 1970 on SQLite.
MOMENT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")

#: The new tables, in an order in which they can be dropped.
TABLES = (
    "webhook_delivery",
    "webhook",
    "audit_head",
    "audit_event",
    "feature_spec",
    "model_tag",
    "promotion_policy",
    "approval",
    "deployment",
    "run_base_version",
    "version_annotation",
    "version_metric",
    "version_tag",
)


def create_tables() -> None:
    """The new tables."""
    op.create_table(
        "audit_head",
        sa.Column("id", ID, autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_audit_head_one"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    op.create_table(
        "environment",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("python_version", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("packages", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_environment"),
        sa.UniqueConstraint(
            "digest", "python_version", "platform", name="uq_environment_digest_python_version_platform"
        ),
    )
    op.create_table(
        "feature_spec",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_feature_spec"),
    )
    op.create_table(
        "audit_event",
        sa.Column("sequence", ID, autoincrement=False, nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("node_id", sa.BigInteger(), nullable=False),
        sa.Column("model_id", ID, nullable=True),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("state_digest", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_audit_event_model_id"),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_event"),
    )
    op.create_index(
        "ix_audit_event_kind_node_id_sequence", "audit_event", ["kind", "node_id", "sequence"], unique=False
    )
    op.create_index("ix_audit_event_model_id_sequence", "audit_event", ["model_id", "sequence"], unique=False)
    op.create_index("ix_audit_event_time", "audit_event", ["time"], unique=False)
    op.create_table(
        "model_tag",
        sa.Column("model_id", ID, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_model_tag_model_id"),
        sa.PrimaryKeyConstraint("model_id", "key", name="pk_model_tag"),
    )
    op.create_index("ix_model_tag_key_model_id", "model_tag", ["key", "model_id"], unique=False)
    op.create_table(
        "promotion_policy",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("alias", NAME, nullable=False),
        sa.Column("rules", JSON, nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("update_time", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_promotion_policy_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_promotion_policy"),
        sa.UniqueConstraint("model_id", "alias", name="uq_promotion_policy_model_id_alias"),
    )
    op.create_table(
        "webhook",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("actions", JSON, nullable=False),
        sa.Column("model_id", ID, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("update_time", MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("delivered_sequence", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("first_failure_time", MOMENT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("next_attempt_time", MOMENT, nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=False),
        sa.Column("lease_expire_time", MOMENT, nullable=True),
        sa.CheckConstraint("state in ('ACTIVE', 'PAUSED')", name="ck_webhook_state"),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_webhook_model_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
        sa.UniqueConstraint("name", name="uq_webhook_name"),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("webhook_id", ID, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.Column("given_up", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhook.id"], name="fk_webhook_delivery_webhook_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
    )
    op.create_index(
        "ix_webhook_delivery_webhook_id_id", "webhook_delivery", ["webhook_id", "id"], unique=False
    )
    op.create_table(
        "approval",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.CheckConstraint("decision in ('APPROVED', 'REJECTED', 'WITHDRAWN')", name="ck_approval_decision"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_approval_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_approval"),
    )
    op.create_index("ix_approval_version_id_id", "approval", ["version_id", "id"], unique=False)
    op.create_table(
        "deployment",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("start_time", MOMENT, nullable=False),
        sa.Column("end_time", MOMENT, nullable=True),
        sa.Column("lease_expire_time", MOMENT, nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_deployment_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_deployment"),
        sa.UniqueConstraint("name", name="uq_deployment_name"),
    )
    op.create_index("ix_deployment_lease_expire_time", "deployment", ["lease_expire_time"], unique=False)
    op.create_index("ix_deployment_version_id", "deployment", ["version_id"], unique=False)
    op.create_table(
        "run_base_version",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name="fk_run_base_version_run_id"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_run_base_version_version_id"),
        sa.PrimaryKeyConstraint("run_id", "version_id", name="pk_run_base_version"),
    )
    op.create_index("ix_run_base_version_version_id", "run_base_version", ["version_id"], unique=False)
    op.create_table(
        "version_annotation",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("update_time", MOMENT, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_version_annotation_model_id"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_version.id"], name="fk_version_annotation_version_id"
        ),
        sa.PrimaryKeyConstraint("version_id", name="pk_version_annotation"),
    )
    op.create_index(
        "ix_version_annotation_model_id_update_time",
        "version_annotation",
        ["model_id", "update_time"],
        unique=False,
    )
    op.create_index("ix_version_annotation_update_time", "version_annotation", ["update_time"], unique=False)
    op.create_table(
        "version_metric",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_version_metric_version_id"),
        sa.PrimaryKeyConstraint("version_id", "name", name="pk_version_metric"),
    )
    op.create_index(
        "ix_version_metric_name_value_version_id",
        "version_metric",
        ["name", "value", "version_id"],
        unique=False,
    )
    op.create_table(
        "version_tag",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_version_tag_version_id"),
        sa.PrimaryKeyConstraint("version_id", "key", name="pk_version_tag"),
    )
    op.create_index("ix_version_tag_key_version_id", "version_tag", ["key", "version_id"], unique=False)
    for table, owner in (("model_tag", "model_id"), ("version_tag", "version_id")):
        short = sa.text("length(value) <= 200")
        op.create_index(
            f"ix_{table}_short_value",
            table,
            ["key", "value", owner],
            unique=False,
            sqlite_where=short,
            postgresql_where=short,
        )


def add_columns(*, sqlite: bool) -> None:
    """New columns of tables that are there; with defaults, for the rows in them."""
    number, moment = ("INTEGER", "BIGINT") if sqlite else ("BIGINT", "TIMESTAMP WITH TIME ZONE")
    text = "TEXT NOT NULL DEFAULT ''"
    for table, column, kind in (
        ("alias_event", "restored_revision", "BIGINT"),
        ("blob", "mark_time", moment),
        ("dataset_snapshot", "recipe", text),
        ("model_version", "source", text),
        ("model_version", "external_run", text),
        ("model_version", "run_link", text),
        (
            "model_version",
            "copied_from_id",
            _reference(number, "model_version", "copied_from_id", "model_version"),
        ),
        (
            "training_run",
            "environment_id",
            _reference(number, "training_run", "environment_id", "environment"),
        ),
        ("training_run", "config", text),
        ("training_run", "parent_id", _reference(number, "training_run", "parent_id", "training_run")),
        ("training_run", "lease_expire_time", moment),
    ):
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    for table, *columns in INDEXED:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns, unique=False)


#: New indexes of tables that are there: the table and the columns.
INDEXED = (
    ("alias", "name"),
    ("model_version", "copied_from_id"),
    ("model_version", "create_time"),
    ("model_version", "external_run"),
    ("model_version", "manifest_digest"),
    ("model_version", "model_id", "create_time"),
    ("training_run", "environment_id"),
    ("training_run", "lease_expire_time"),
    ("training_run", "parent_id"),
)


def _reference(number: str, table: str, column: str, other: str) -> str:
    return f"{number} CONSTRAINT fk_{table}_{column} REFERENCES {other} (id)"
