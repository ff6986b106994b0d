"""A database as the first release of the registry left it: schema 0001, with something in every table."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, MetaData, Table, insert, text

from registry_service.repository.database import begin_write

A, B, C, D = (digit * 64 for digit in "abcd")
START = datetime(2025, 11, 3, 8, 0, 0, 250_001, tzinfo=UTC)

SIGNATURE = {
    "inputs": [
        {
            "name": "wind",
            "type": "DOUBLE",
            "source": "FEATURE",
            "feature_reference": "weather:wind",
            "categories": [],
        },
        {
            "name": "carrier",
            "type": "STRING",
            "source": "REQUEST",
            "feature_reference": "",
            "categories": ["AA", "Ü"],
        },
    ],
    "outputs": [{"name": "delay", "type": "DOUBLE", "description": "minutes"}],
    "feature_service": "flights_v1",
    "feature_service_digest": f"sha256:{C}",
    "join_keys": [{"name": "airport", "type": "STRING", "description": ""}],
    "request_data": [],
}
SCHEMA = [
    {"name": "airport", "type": "STRING", "description": ""},
    {"name": "delay", "type": "DOUBLE", "description": "in minutes"},
]


def moment(minutes: float) -> datetime:
    """So many minutes after the first thing happened."""
    return START + timedelta(minutes=minutes)


# Version 3 of model 1 was archived when READY, version 4 as a DRAFT; version 2 is a DRAFT.
_VERSIONS: list[dict[str, Any]] = [
    {
        "id": number,
        "model_id": 1,
        "number": number,
        "state": "DRAFT",
        "description": description,
        "tags": tags,
        "signature": SIGNATURE if number == 1 else None,
        "run_id": run_id,
        "manifest_digest": "",
        "create_time": moment(10 * number),
        "finalize_time": None,
        "archive_time": None,
        "actor": "ann",
        "revision": number,
    }
    for number, description, tags, run_id in (
        (1, "the first", {"stage": "gold", "ключ": "value with 'quotes' and \"more\"", "empty": ""}, 1),
        (2, "", {}, None),
        (3, "never good", {"stage": "bad"}, 1),
        (4, "", {}, None),
    )
]

ROWS: dict[str, list[dict[str, Any]]] = {
    "blob": [
        {"sha256": A, "size_bytes": 10, "create_time": moment(11)},
        {"sha256": B, "size_bytes": 2**40, "create_time": moment(12)},
    ],
    "code_revision": [{"id": 1, "commit_id": "abc123", "repository": "git@git.example:shop.git"}],
    "feature_service_version": [{"id": 1, "project": "shop", "name": "flights_v1", "digest": f"sha256:{C}"}],
    "feature_view_version": [
        {"id": 1, "project": "shop", "name": "weather", "digest": f"sha256:{A}"},
        {"id": 2, "project": "shop", "name": "airports", "digest": f"sha256:{B}"},
    ],
    "feature_service_member": [{"service_id": 1, "view_id": 1}, {"service_id": 1, "view_id": 2}],
    "registered_model": [
        {
            "id": 1,
            "name": "flights",
            "description": "Delays",
            "tags": {"team": "ops", "ü": "ö"},
            "latest_version": 4,
            "revision": 7,
            "create_time": moment(1),
            "update_time": moment(45),
            "archive_time": None,
        },
        {
            "id": 2,
            "name": "old",
            "description": "",
            "tags": {},
            "latest_version": 0,
            "revision": 2,
            "create_time": moment(2),
            "update_time": moment(3),
            "archive_time": moment(3),
        },
    ],
    "request": [
        {
            "principal": "ann",
            "method": "CreateModel",
            "request_id": "r-1",
            "fingerprint": D,
            "response": b"\x00\x01",
            "create_time": moment(1),
        }
    ],
    "dataset_snapshot": [
        {
            "id": 1,
            "digest": A,
            "display_name": "train",
            "row_count": 1_000,
            "schema": SCHEMA,
            "as_of_start": moment(-900),
            "as_of_end": moment(-1),
            "feature_service_id": 1,
            "entity_digest": B,
            "uri": "s3://bucket/train",
            "create_time": moment(4),
            "actor": "ann",
        },
        {
            "id": 2,
            "digest": B,
            "display_name": "",
            "row_count": 0,
            "schema": [],
            "as_of_start": None,
            "as_of_end": None,
            "feature_service_id": None,
            "entity_digest": "",
            "uri": "",
            "create_time": moment(5),
            "actor": "bob",
        },
    ],
    "dataset_feature_view": [
        {"dataset_id": 1, "view_id": 2, "position": 0},
        {"dataset_id": 1, "view_id": 1, "position": 1},
    ],
    "training_run": [
        {
            "id": 1,
            "name": "0" * 32,
            "display_name": "nightly",
            "state": "FINISHED",
            "parameters": {"depth": "6"},
            "metrics": {"auc": 0.75},
            "tags": {"by": "cron"},
            "seed": -7,
            "code_id": 1,
            "has_code": True,
            "code_repository": "git@git.example:shop.git",
            "code_dirty": True,
            "environment_digest": f"sha256:{D}",
            "start_time": moment(6),
            "end_time": moment(9),
            "error": "",
            "actor": "ann",
            "revision": 3,
        },
        {
            "id": 2,
            "name": "1" * 32,
            "display_name": "",
            "state": "RUNNING",
            "parameters": {},
            "metrics": {},
            "tags": {},
            "seed": 0,
            "code_id": None,
            "has_code": False,
            "code_repository": "",
            "code_dirty": False,
            "environment_digest": "",
            "start_time": moment(7),
            "end_time": None,
            "error": "",
            "actor": "bob",
            "revision": 1,
        },
    ],
    "run_input": [
        {"run_id": 1, "dataset_id": 2, "position": 0},
        {"run_id": 1, "dataset_id": 1, "position": 1},
    ],
    "model_version": _VERSIONS,
    "version_dataset": [{"version_id": 1, "dataset_id": 1, "position": 0}],
    "version_file": [
        {"version_id": 1, "path": "a/model.txt", "sha256": A, "media_type": "", "create_time": moment(11)},
        {
            "version_id": 1,
            "path": "ü.txt",
            "sha256": B,
            "media_type": "text/plain",
            "create_time": moment(12),
        },
        {"version_id": 2, "path": "draft.txt", "sha256": A, "media_type": "", "create_time": moment(21)},
        {"version_id": 3, "path": "model.txt", "sha256": A, "media_type": "", "create_time": moment(31)},
    ],
    "evaluation": [
        {
            "id": 1,
            "version_id": 1,
            "dataset_id": 2,
            "split": "test",
            "metrics": {"auc": 0.7, "n": 100},
            "create_time": moment(15),
            "actor": "ann",
        },
        {
            "id": 2,
            "version_id": 1,
            "dataset_id": 1,
            "split": "train",
            "metrics": {"auc": 0.125, "loss": 1e-300},
            "create_time": moment(16),
            "actor": "bob",
        },
    ],
    "alias": [
        {
            "id": 1,
            "model_id": 1,
            "name": "champion",
            "version_id": 1,
            "revision": 1,
            "actor": "ann",
            "reason": "better",
            "update_time": moment(17),
        },
        {
            "id": 2,
            "model_id": 1,
            "name": "canary",
            "version_id": None,
            "revision": 2,
            "actor": "bob",
            "reason": "worse",
            "update_time": moment(36),
        },
    ],
    "alias_event": [
        {
            "id": number,
            "model_id": 1,
            "alias_id": alias,
            "revision": revision,
            "from_version_id": before,
            "to_version_id": after,
            "actor": actor,
            "reason": reason,
            "time": moment(minutes),
        }
        for number, alias, revision, before, after, actor, reason, minutes in (
            (1, 1, 1, None, 1, "ann", "better", 17),
            (2, 2, 1, None, 3, "ann", "to try", 35),
            (3, 2, 2, 3, None, "bob", "worse", 36),
        )
    ],
}
# What became of the versions, once their parts were there.
_CHANGES = (
    (1, {"state": "READY", "manifest_digest": f"sha256:{C}", "finalize_time": moment(14)}),
    (3, {"state": "READY", "manifest_digest": f"sha256:{D}", "finalize_time": moment(34)}),
    (3, {"state": "ARCHIVED", "archive_time": moment(37)}),
    (4, {"state": "ARCHIVED", "archive_time": moment(45)}),
)


def fill(engine: Engine) -> None:
    """Puts the rows into the tables of schema 0001."""
    tables = _tables(engine)
    with begin_write(engine.connect()) as connection, connection.begin():
        for name, rows in ROWS.items():
            connection.execute(insert(tables[name]), [_stored(engine, row) for row in rows])
        for version, values in _CHANGES:
            table = tables["model_version"]
            connection.execute(
                table.update().where(table.c.id == version).values(**_stored(engine, dict(values)))
            )
        if engine.dialect.name == "postgresql":
            # As they would stand had the rows come one after the other.
            for name, rows in ROWS.items():
                if "id" in rows[0]:
                    connection.execute(text(f"SELECT setval('{name}_id_seq', {len(rows)})"))


def contents(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table but Alembic's, whatever the schema."""
    with engine.connect() as connection:
        return {
            name: sorted(
                (dict(row) for row in connection.execute(table.select()).mappings()),
                key=lambda row: json.dumps(row, sort_keys=True, default=str),
            )
            for name, table in sorted(_tables(engine).items())
            if name != "alembic_version"
        }


def _tables(engine: Engine) -> dict[str, Table]:
    metadata = MetaData()
    metadata.reflect(engine)
    return dict(metadata.tables)


def _stored(engine: Engine, row: dict[str, Any]) -> dict[str, Any]:
    """SQLite keeps moments as microseconds."""
    if engine.dialect.name == "postgresql":
        return row
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return {
        name: (value - epoch) // timedelta(microseconds=1) if isinstance(value, datetime) else value
        for name, value in row.items()
    }
