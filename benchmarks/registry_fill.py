"""Fills our registry with many versions, written together: the rows that calls would leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, text, update

from registry_service.repository.database import begin_write, open_engine
from registry_service.repository.migration import migrate
from registry_service.tables import (
    AliasEventRow,
    AliasRow,
    ModelRow,
    VersionAnnotationRow,
    VersionRow,
    VersionTagRow,
)

#: When everything began.
START = datetime(2026, 1, 1, tzinfo=UTC)

_MANIFEST = "sha256:" + "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@contextmanager
def filling(url: str) -> Iterator[Connection]:
    """A transaction on a migrated database; statistics are taken at its end, as a database does in time."""
    engine = open_engine(url)
    try:
        migrate(engine)
        with engine.connect() as connection, begin_write(connection).begin():
            yield connection
        with engine.connect() as connection, begin_write(connection).begin():
            connection.execute(text("ANALYZE"))
    finally:
        engine.dispose()


def fill(url: str, versions: int, per_batch: int) -> None:
    """The models "large", "served" and "growing", as `registry_mlflow` makes them for MLflow."""
    with filling(url) as connection:
        add_models(connection, ["large", "served", "growing"], latest=[versions, 1, 0])
        add_versions(
            connection,
            [
                {"id": n, "model_id": 1, "number": n, "source": f"s3://bucket/models/large/{n}"}
                for n in range(1, versions + 1)
            ],
        )
        served = versions + 1
        add_versions(
            connection,
            [{"id": served, "model_id": 2, "number": 1, "source": "s3://bucket/models/served/1"}],
        )
        make_ready(connection)
        add_rows(
            connection,
            VersionTagRow,
            [
                {"version_id": n, "key": key, "value": value}
                for n in range(1, versions + 1)
                for key, value in (("batch", f"b{(n - 1) // per_batch}"), ("team", "risk"))
            ],
        )
        add_aliases(connection, [{"model_id": 2, "name": "champion", "version_id": served}])
        restart_ids(connection)


def add_rows(connection: Connection, table: type[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Many at once; nothing where there are none."""
    if rows:
        connection.execute(insert(table), rows)


def add_models(connection: Connection, names: Sequence[str], latest: Sequence[int]) -> None:
    """With ids from 1 on."""
    add_rows(
        connection,
        ModelRow,
        [
            {
                "id": number,
                "name": name,
                "description": "",
                "latest_version": count,
                "revision": count + 1,
                "create_time": START,
                "update_time": START + timedelta(seconds=count),
            }
            for number, (name, count) in enumerate(zip(names, latest, strict=True), 1)
        ],
    )


def add_versions(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Drafts, until `make_ready`. rows: id, model_id, number and what else differs."""
    common = {
        "state": "DRAFT",
        "signature": None,
        "run_id": None,
        "manifest_digest": "",
        "actor": "bench",
        "revision": 1,
        "source": "",
        "external_run": "",
        "run_link": "",
    }
    made = [(row, START + timedelta(seconds=row["id"])) for row in rows]
    add_rows(
        connection,
        VersionRow,
        [{**common, "create_time": time, **row} for row, time in made],
    )
    add_rows(
        connection,
        VersionAnnotationRow,
        [
            {
                "version_id": row["id"],
                "model_id": row["model_id"],
                "description": "",
                "stage": "None",
                "update_time": time,
                "revision": 1,
            }
            for row, time in made
        ],
    )


def make_ready(connection: Connection) -> None:
    """All drafts; from here on nothing can be tied to them."""
    ready = {"state": "READY", "manifest_digest": _MANIFEST, "revision": 2}
    connection.execute(update(VersionRow).values(**ready, finalize_time=VersionRow.create_time))


def add_aliases(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """With ids from 1 on. rows: model_id, name, version_id."""
    common = {"revision": 1, "actor": "bench", "reason": "bench"}
    add_rows(
        connection,
        AliasRow,
        [{"id": n, "update_time": START, **common, **row} for n, row in enumerate(rows, 1)],
    )
    add_rows(
        connection,
        AliasEventRow,
        [
            {
                "model_id": row["model_id"],
                "alias_id": n,
                "to_version_id": row["version_id"],
                "time": START,
                **common,
            }
            for n, row in enumerate(rows, 1)
        ],
    )


def restart_ids(connection: Connection) -> None:
    """Lets PostgreSQL go on with its own ids behind those given here; SQLite does by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in (ModelRow, VersionRow, AliasRow):
        name = table.__tablename__
        connection.execute(
            text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))")
        )
