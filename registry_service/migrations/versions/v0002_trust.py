"""The audit chain; annotations, tags and metrics as rows; policies, approvals, deployments, webhooks.

What was recorded before this migration has no events: the first event of the chain says how far such records
go, by kind and greatest id.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op

from registry_service.migrations.schema_0002 import INDEXED, TABLES, add_columns, create_tables
from registry_service.migrations.triggers import (
    FIXED,
    FROZEN,
    guard_sqlite_versions,
    postgresql_function,
    postgresql_trigger,
    refuse_sqlite,
    version_guard_body,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = ("audit_event", "approval", "environment", "feature_spec", "run_base_version")
# Rows that change, but are never deleted.
KEPT = ("audit_head", "version_annotation", "promotion_policy", "deployment")
NOW_FROZEN = (
    "id",
    "model_id",
    "number",
    "signature",
    "run_id",
    "manifest_digest",
    "create_time",
    "finalize_time",
    "actor",
    "source",
    "external_run",
    "run_link",
    "copied_from_id",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    sqlite = _is_sqlite()
    _drop_guards(sqlite)
    create_tables()
    add_columns(sqlite=sqlite)
    _move_notes_out()
    for table, column in (
        ("model_version", "description"),
        ("model_version", "tags"),
        ("registered_model", "tags"),
    ):
        op.drop_column(table, column)
    _begin_audit()
    _create_guards(sqlite)


def downgrade() -> None:
    sqlite = _is_sqlite()
    _drop_new_guards(sqlite)
    _move_notes_back(sqlite)
    for table in TABLES:
        op.drop_table(table)
    for table, *columns in INDEXED:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table_name=table)
    for table, column in (
        ("model_version", "source"),
        ("model_version", "external_run"),
        ("model_version", "run_link"),
        ("model_version", "copied_from_id"),
        ("alias_event", "restored_revision"),
        ("blob", "mark_time"),
        ("dataset_snapshot", "recipe"),
        ("training_run", "environment_id"),
        ("training_run", "config"),
        ("training_run", "parent_id"),
        ("training_run", "lease_expire_time"),
    ):
        op.drop_column(table, column)
    # Runs referred to it.
    op.drop_table("environment")
    _restore_guards(sqlite)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _rows(statement: str) -> list[Any]:
    return list(op.get_bind().execute(sa.text(statement)))


def _move_notes_out() -> None:
    """Descriptions and tags of versions, tags of models and metrics of evaluations, as rows."""
    bind = op.get_bind()
    op.execute(
        "INSERT INTO version_annotation (version_id, model_id, description, stage, update_time, revision) "
        "SELECT id, model_id, description, 'None', COALESCE(archive_time, finalize_time, create_time), 0 "
        "FROM model_version"
    )
    for source, target, column in (
        ("model_version", "version_tag", "version_id"),
        ("registered_model", "model_tag", "model_id"),
    ):
        rows = [
            {"id": row_id, "key": key, "value": value}
            for row_id, tags in _rows(f"SELECT id, tags FROM {source}")  # noqa: S608
            for key, value in _document(tags).items()
        ]
        if rows:
            statement = f"INSERT INTO {target} ({column}, key, value) VALUES (:id, :key, :value)"  # noqa: S608
            bind.execute(sa.text(statement), rows)
    newest: dict[tuple[int, str], float] = {}
    for version_id, metrics in _rows("SELECT version_id, metrics FROM evaluation ORDER BY id"):
        newest |= {(version_id, name): value for name, value in _document(metrics).items()}
    if newest:
        bind.execute(
            sa.text("INSERT INTO version_metric (version_id, name, value) VALUES (:id, :name, :value)"),
            [{"id": key[0], "name": key[1], "value": float(value)} for key, value in newest.items()],
        )


def _document(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


def _begin_audit() -> None:
    counted = {
        "version": "model_version",
        "model": "registered_model",
        "run": "training_run",
        "dataset": "dataset_snapshot",
        "alias": "alias",
        "evaluation": "evaluation",
        "alias_event": "alias_event",
    }
    before = {
        kind: _rows(f"SELECT COALESCE(MAX(id), 0) FROM {table}")[0][0]  # noqa: S608
        for kind, table in counted.items()
    }
    now = datetime.now(UTC)
    micros = (now - _EPOCH) // timedelta(microseconds=1)
    details = json.dumps({"before": before, "id": 0}, sort_keys=True, separators=(",", ":"))
    previous = "0" * 64
    fields = [1, micros, "registry", "BeginAudit", "registry", "registry", details, "", "", previous]
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    op.get_bind().execute(
        sa.text(
            "INSERT INTO audit_event (sequence, time, actor, action, kind, node_id, model_id, resource, "
            "details, state_digest, request_id, previous_hash, hash) VALUES (1, :time, 'registry', "
            "'BeginAudit', 'registry', 0, NULL, 'registry', :details, '', '', :previous, :hash)"
        ),
        {"time": micros if _is_sqlite() else now, "details": details, "previous": previous, "hash": digest},
    )
    op.get_bind().execute(
        sa.text("INSERT INTO audit_head (id, sequence, hash) VALUES (1, 1, :hash)"), {"hash": digest}
    )


def _drop_guards(sqlite: bool) -> None:
    """Those of the first schema that say too much now."""
    if sqlite:
        for trigger in ("model_version_update", "blob_update", "blob_delete"):
            op.execute(f"DROP TRIGGER {trigger}")
    else:
        op.execute("DROP TRIGGER blob_refuse ON blob")


def _create_guards(sqlite: bool) -> None:
    if sqlite:
        guard_sqlite_versions(FIXED, NOW_FROZEN)
        for table in APPEND_ONLY:
            for verb in ("UPDATE", "DELETE"):
                refuse_sqlite(table, verb, f"{table} is append-only")
        for table in KEPT:
            refuse_sqlite(table, "DELETE", f"{table} is never deleted")
        refuse_sqlite(
            "audit_head", "UPDATE", "the audit goes forward only", when="NEW.sequence <= OLD.sequence"
        )
        refuse_sqlite(
            "deployment",
            "UPDATE",
            "a deployment that has ended is immutable",
            when="OLD.end_time IS NOT NULL",
        )
        refuse_sqlite(
            "blob",
            "UPDATE",
            "blob is append-only",
            when="OLD.sha256 IS NOT NEW.sha256 OR OLD.size_bytes IS NOT NEW.size_bytes "
            "OR OLD.create_time IS NOT NEW.create_time",
        )
        return
    postgresql_function("guard_version", version_guard_body(FIXED, NOW_FROZEN), replace=True)
    _forbid(
        "guard_blob",
        "OLD.sha256 <> NEW.sha256 OR OLD.size_bytes <> NEW.size_bytes OR OLD.create_time <> NEW.create_time",
        "blob is append-only",
    )
    _forbid("guard_audit_head", "NEW.sequence <= OLD.sequence", "the audit goes forward only")
    _forbid("guard_deployment", "OLD.end_time IS NOT NULL", "a deployment that has ended is immutable")
    postgresql_trigger("blob_guard", "blob", "UPDATE", "guard_blob")
    postgresql_trigger("audit_head_guard", "audit_head", "UPDATE", "guard_audit_head")
    postgresql_trigger("deployment_guard", "deployment", "UPDATE", "guard_deployment")
    for table in APPEND_ONLY:
        postgresql_trigger(f"{table}_refuse", table, "UPDATE OR DELETE", "refuse_change")
    for table in KEPT:
        postgresql_trigger(f"{table}_refuse", table, "DELETE", "refuse_change")
    for table in (*APPEND_ONLY, *KEPT):
        postgresql_trigger(f"{table}_keep", table, "TRUNCATE", "refuse_change", each="STATEMENT")


def _forbid(function: str, condition: str, message: str) -> None:
    postgresql_function(
        function,
        f"IF {condition} THEN RAISE EXCEPTION '{message}' USING ERRCODE = '23000'; END IF; RETURN NEW;",
    )


def _drop_new_guards(sqlite: bool) -> None:
    if sqlite:
        for trigger in ("model_version_update", "blob_update"):
            op.execute(f"DROP TRIGGER {trigger}")
        # The others go with their tables, which may be dropped only without them.
        for table in APPEND_ONLY:
            for verb in ("update", "delete"):
                op.execute(f"DROP TRIGGER {table}_{verb}")
        for table in KEPT:
            op.execute(f"DROP TRIGGER {table}_delete")
        op.execute("DROP TRIGGER audit_head_update")
        op.execute("DROP TRIGGER deployment_update")
        return
    op.execute("DROP TRIGGER blob_guard ON blob")
    op.execute("DROP TRIGGER model_version_guard ON model_version")


def _restore_guards(sqlite: bool) -> None:
    if sqlite:
        guard_sqlite_versions(FIXED, FROZEN)
        for verb in ("UPDATE", "DELETE"):
            refuse_sqlite("blob", verb, "blob is append-only")
        return
    postgresql_function("guard_version", version_guard_body(FIXED, FROZEN), replace=True)
    postgresql_trigger("model_version_guard", "model_version", "UPDATE OR DELETE", "guard_version")
    postgresql_trigger("blob_refuse", "blob", "UPDATE OR DELETE", "refuse_change")
    for function in ("guard_blob", "guard_audit_head", "guard_deployment"):
        op.execute(f"DROP FUNCTION plumbline_{function}()")


def _move_notes_back(sqlite: bool) -> None:
    json_type = "JSON" if sqlite else "JSONB"
    for table, columns in (("registered_model", ("tags",)), ("model_version", ("description", "tags"))):
        for column in columns:
            kind, default = ("TEXT", "''") if column == "description" else (json_type, "'{}'")
            op.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind} NOT NULL DEFAULT {default}")
    op.execute(
        "UPDATE model_version SET description = "
        "(SELECT a.description FROM version_annotation a WHERE a.version_id = model_version.id)"
    )
    bind = op.get_bind()
    for source, target, column in (
        ("version_tag", "model_version", "version_id"),
        ("model_tag", "registered_model", "model_id"),
    ):
        tags: dict[int, dict[str, str]] = {}
        for row_id, key, value in _rows(f"SELECT {column}, key, value FROM {source}"):  # noqa: S608
            tags.setdefault(row_id, {})[key] = value
        cast = ":tags" if sqlite else "CAST(:tags AS JSONB)"
        for row_id, found in tags.items():
            statement = f"UPDATE {target} SET tags = {cast} WHERE id = :id"  # noqa: S608
            bind.execute(sa.text(statement), {"id": row_id, "tags": json.dumps(found)})
