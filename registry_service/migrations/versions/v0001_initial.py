"""Models, versions, aliases, runs, datasets, feature definitions and request ids.

The triggers say in the database what the code says too: a version that is READY never changes, and
evidence is neither rewritten nor deleted, whatever program connects.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# Microseconds since 1970 on SQLite.
MOMENT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")

# What may still change in a version that is no DRAFT: its state, by archiving, and what that touches.
FROZEN = (
    "id",
    "model_id",
    "number",
    "description",
    "tags",
    "signature",
    "run_id",
    "manifest_digest",
    "create_time",
    "finalize_time",
    "actor",
)
# What never changes, in any state.
FIXED = ("id", "model_id", "number", "create_time", "actor")
# Rows that are only ever added.
APPEND_ONLY = (
    "blob",
    "alias_event",
    "evaluation",
    "dataset_snapshot",
    "dataset_feature_view",
    "feature_service_version",
    "feature_service_member",
    "feature_view_version",
    "code_revision",
    "run_input",
)
# Parts of a version; they may be added while it is a DRAFT.
PARTS = ("version_file", "version_dataset")


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "sqlite":
        _create_sqlite_triggers()
    else:
        _create_postgresql_triggers()


def downgrade() -> None:
    postgres = op.get_bind().dialect.name != "sqlite"
    for table in TABLES:
        op.drop_table(table)
    if postgres:
        for function in ("refuse_change", "guard_version", "guard_version_part", "guard_run"):
            op.execute(f"DROP FUNCTION plumbline_{function}()")


# In an order in which they can be dropped.
TABLES = (
    "alias_event",
    "version_file",
    "version_dataset",
    "evaluation",
    "alias",
    "run_input",
    "model_version",
    "dataset_feature_view",
    "training_run",
    "feature_service_member",
    "dataset_snapshot",
    "request",
    "registered_model",
    "feature_view_version",
    "feature_service_version",
    "code_revision",
    "blob",
)


def _create_sqlite_triggers() -> None:
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            _refuse_sqlite(table, verb, f"{table} is append-only")
    _refuse_sqlite("model_version", "DELETE", "a version is never deleted")
    _refuse_sqlite("training_run", "DELETE", "a run is never deleted")
    _refuse_sqlite(
        "training_run", "UPDATE", "a run that has ended is immutable", when="OLD.state <> 'RUNNING'"
    )
    fixed = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in FIXED)
    frozen = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in FROZEN)
    _refuse_sqlite(
        "model_version",
        "UPDATE",
        "a version that is not a draft is immutable",
        when=f"({fixed}) OR (OLD.state <> 'DRAFT' AND ({frozen} OR NEW.state = 'DRAFT')) "
        "OR (OLD.state = 'ARCHIVED' AND NEW.state <> 'ARCHIVED')",
    )
    for table in PARTS:
        for verb, row in (("INSERT", "NEW"), ("DELETE", "OLD")):
            _refuse_sqlite(
                table,
                verb,
                "a version that is not a draft is immutable",
                when=f"(SELECT state FROM model_version WHERE id = {row}.version_id) <> 'DRAFT'",  # noqa: S608
            )
        _refuse_sqlite(table, "UPDATE", f"{table} is append-only")


def _refuse_sqlite(table: str, verb: str, message: str, when: str = "1") -> None:
    op.execute(
        f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
    )


def _create_postgresql_triggers() -> None:
    fixed = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in FIXED)
    frozen = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in FROZEN)
    _function("refuse_change", "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23000';")
    _function(
        "guard_version",
        f"""
        IF TG_OP = 'DELETE' THEN
            RAISE EXCEPTION 'a version is never deleted' USING ERRCODE = '23000';
        END IF;
        IF ({fixed}) OR (OLD.state <> 'DRAFT' AND ({frozen} OR NEW.state = 'DRAFT'))
            OR (OLD.state = 'ARCHIVED' AND NEW.state <> 'ARCHIVED')
        THEN
            RAISE EXCEPTION 'a version that is not a draft is immutable' USING ERRCODE = '23000';
        END IF;
        RETURN NEW;
        """,
    )
    # FOR SHARE: the version cannot become READY between this look and the end of the transaction.
    _function(
        "guard_version_part",
        """
        DECLARE present text;
        BEGIN
            IF TG_OP = 'DELETE' THEN
                SELECT state INTO present FROM model_version WHERE id = OLD.version_id FOR SHARE;
            ELSE
                SELECT state INTO present FROM model_version WHERE id = NEW.version_id FOR SHARE;
            END IF;
            IF present <> 'DRAFT' THEN
                RAISE EXCEPTION 'a version that is not a draft is immutable' USING ERRCODE = '23000';
            END IF;
            IF TG_OP = 'DELETE' THEN
                RETURN OLD;
            END IF;
            RETURN NEW;
        END;
        """,
    )
    _function(
        "guard_run",
        """
        IF TG_OP = 'DELETE' THEN
            RAISE EXCEPTION 'a run is never deleted' USING ERRCODE = '23000';
        END IF;
        IF OLD.state <> 'RUNNING' THEN
            RAISE EXCEPTION 'a run that has ended is immutable' USING ERRCODE = '23000';
        END IF;
        RETURN NEW;
        """,
    )
    for table in (*APPEND_ONLY, *PARTS):
        verbs = "UPDATE" if table in PARTS else "UPDATE OR DELETE"
        _trigger(f"{table}_refuse", table, verbs, "refuse_change")
    for table in PARTS:
        _trigger(f"{table}_guard", table, "INSERT OR DELETE", "guard_version_part")
    _trigger("model_version_guard", "model_version", "UPDATE OR DELETE", "guard_version")
    _trigger("training_run_guard", "training_run", "UPDATE OR DELETE", "guard_run")
    for table in (*APPEND_ONLY, *PARTS, "model_version", "training_run"):
        _trigger(f"{table}_keep", table, "TRUNCATE", "refuse_change", each="STATEMENT")


def _function(name: str, body: str) -> None:
    op.execute(
        f"CREATE FUNCTION plumbline_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
    )


def _trigger(name: str, table: str, verbs: str, function: str, each: str = "ROW") -> None:
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {verbs} ON {table} "
        f"FOR EACH {each} EXECUTE FUNCTION plumbline_{function}()"
    )


def _create_tables() -> None:
    op.create_table(
        "blob",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_blob"),
    )
    op.create_table(
        "code_revision",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("commit_id", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_code_revision"),
        sa.UniqueConstraint("commit_id", name="uq_code_revision_commit_id"),
    )
    op.create_table(
        "feature_service_version",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feature_service_version"),
        sa.UniqueConstraint(
            "project", "name", "digest", name="uq_feature_service_version_project_name_digest"
        ),
    )
    op.create_table(
        "feature_view_version",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feature_view_version"),
        sa.UniqueConstraint("project", "name", "digest", name="uq_feature_view_version_project_name_digest"),
    )
    op.create_table(
        "registered_model",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("latest_version", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("update_time", MOMENT, nullable=False),
        sa.Column("archive_time", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_registered_model"),
        sa.UniqueConstraint("name", name="uq_registered_model_name"),
    )
    op.create_table(
        "request",
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("principal", "method", "request_id", name="pk_request"),
    )
    op.create_index("ix_request_create_time", "request", ["create_time"], unique=False)
    op.create_table(
        "dataset_snapshot",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("schema", JSON, nullable=False),
        sa.Column("as_of_start", MOMENT, nullable=True),
        sa.Column("as_of_end", MOMENT, nullable=True),
        sa.Column("feature_service_id", ID, nullable=True),
        sa.Column("entity_digest", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["feature_service_id"],
            ["feature_service_version.id"],
            name="fk_dataset_snapshot_feature_service_id",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_dataset_snapshot"),
        sa.UniqueConstraint("digest", name="uq_dataset_snapshot_digest"),
    )
    op.create_index(
        "ix_dataset_snapshot_feature_service_id", "dataset_snapshot", ["feature_service_id"], unique=False
    )
    op.create_table(
        "feature_service_member",
        sa.Column("service_id", ID, nullable=False),
        sa.Column("view_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["service_id"], ["feature_service_version.id"], name="fk_feature_service_member_service_id"
        ),
        sa.ForeignKeyConstraint(
            ["view_id"], ["feature_view_version.id"], name="fk_feature_service_member_view_id"
        ),
        sa.PrimaryKeyConstraint("service_id", "view_id", name="pk_feature_service_member"),
    )
    op.create_index("ix_feature_service_member_view_id", "feature_service_member", ["view_id"], unique=False)
    op.create_table(
        "training_run",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("code_id", ID, nullable=True),
        sa.Column("has_code", sa.Boolean(), nullable=False),
        sa.Column("code_repository", sa.Text(), nullable=False),
        sa.Column("code_dirty", sa.Boolean(), nullable=False),
        sa.Column("environment_digest", sa.Text(), nullable=False),
        sa.Column("start_time", MOMENT, nullable=False),
        sa.Column("end_time", MOMENT, nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state in ('RUNNING', 'FINISHED', 'FAILED')", name="ck_training_run_state"),
        sa.ForeignKeyConstraint(["code_id"], ["code_revision.id"], name="fk_training_run_code_id"),
        sa.PrimaryKeyConstraint("id", name="pk_training_run"),
        sa.UniqueConstraint("name", name="uq_training_run_name"),
    )
    op.create_index("ix_training_run_code_id", "training_run", ["code_id"], unique=False)
    op.create_table(
        "dataset_feature_view",
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("view_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset_snapshot.id"], name="fk_dataset_feature_view_dataset_id"
        ),
        sa.ForeignKeyConstraint(
            ["view_id"], ["feature_view_version.id"], name="fk_dataset_feature_view_view_id"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "view_id", name="pk_dataset_feature_view"),
    )
    op.create_index("ix_dataset_feature_view_view_id", "dataset_feature_view", ["view_id"], unique=False)
    op.create_table(
        "model_version",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("signature", JSON, nullable=True),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("manifest_digest", sa.Text(), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("finalize_time", MOMENT, nullable=True),
        sa.Column("archive_time", MOMENT, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state <> 'READY' or manifest_digest <> ''", name="ck_model_version_manifest"),
        sa.CheckConstraint("state in ('DRAFT', 'READY', 'ARCHIVED')", name="ck_model_version_state"),
        sa.CheckConstraint("number > 0", name="ck_model_version_number"),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_model_version_model_id"),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name="fk_model_version_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_model_version"),
        sa.UniqueConstraint("model_id", "number", name="uq_model_version_model_id_number"),
    )
    op.create_index("ix_model_version_run_id", "model_version", ["run_id"], unique=False)
    op.create_table(
        "run_input",
        sa.Column("run_id", ID, nullable=False),
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset_snapshot.id"], name="fk_run_input_dataset_id"),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name="fk_run_input_run_id"),
        sa.PrimaryKeyConstraint("run_id", "dataset_id", name="pk_run_input"),
    )
    op.create_index("ix_run_input_dataset_id", "run_input", ["dataset_id"], unique=False)
    op.create_table(
        "alias",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("version_id", ID, nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("update_time", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_alias_model_id"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_alias_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_alias"),
        sa.UniqueConstraint("model_id", "name", name="uq_alias_model_id_name"),
    )
    op.create_index("ix_alias_version_id", "alias", ["version_id"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("version_id", ID, nullable=False),
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("metrics", JSON, nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset_snapshot.id"], name="fk_evaluation_dataset_id"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_evaluation_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
    )
    op.create_index("ix_evaluation_dataset_id", "evaluation", ["dataset_id"], unique=False)
    op.create_index("ix_evaluation_version_id", "evaluation", ["version_id"], unique=False)
    op.create_table(
        "version_dataset",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("dataset_id", ID, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset_snapshot.id"], name="fk_version_dataset_dataset_id"
        ),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_version_dataset_version_id"),
        sa.PrimaryKeyConstraint("version_id", "dataset_id", name="pk_version_dataset"),
    )
    op.create_index("ix_version_dataset_dataset_id", "version_dataset", ["dataset_id"], unique=False)
    op.create_table(
        "version_file",
        sa.Column("version_id", ID, nullable=False),
        sa.Column("path", NAME, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("create_time", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blob.sha256"], name="fk_version_file_sha256"),
        sa.ForeignKeyConstraint(["version_id"], ["model_version.id"], name="fk_version_file_version_id"),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_version_file"),
    )
    op.create_index("ix_version_file_sha256", "version_file", ["sha256"], unique=False)
    op.create_table(
        "alias_event",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("model_id", ID, nullable=False),
        sa.Column("alias_id", ID, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("from_version_id", ID, nullable=True),
        sa.Column("to_version_id", ID, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["alias_id"], ["alias.id"], name="fk_alias_event_alias_id"),
        sa.ForeignKeyConstraint(
            ["from_version_id"], ["model_version.id"], name="fk_alias_event_from_version_id"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["registered_model.id"], name="fk_alias_event_model_id"),
        sa.ForeignKeyConstraint(["to_version_id"], ["model_version.id"], name="fk_alias_event_to_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_alias_event"),
        sa.UniqueConstraint("alias_id", "revision", name="uq_alias_event_alias_id_revision"),
    )
    op.create_index("ix_alias_event_alias_id_time", "alias_event", ["alias_id", "time"], unique=False)
    op.create_index("ix_alias_event_model_id_id", "alias_event", ["model_id", "id"], unique=False)
