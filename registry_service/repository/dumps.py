"""Whole databases, copied row by row between SQLite and PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Table,
    create_engine,
    exc,
    exists,
    func,
    select,
    text,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from registry_service.audit import record
from registry_service.backup.manifest import BackupError, Contents
from registry_service.domain import Act, ModelFile
from registry_service.events import Head, Kind, Subject
from registry_service.ports import Database
from registry_service.repository.database import (
    SqlDatabase,
    SqlTransaction,
    available,
    begin_write,
    is_sqlite,
    open_engine,
)
from registry_service.repository.migration import migrate
from registry_service.tables import AuditEventRow, AuditHeadRow, Base, BlobRow, FileRow, WebhookRow

# Rows in memory at once; a row is at most an answer kept by its request id.
_BATCH = 200
_TABLES = Base.metadata.sorted_tables
_HIDDEN = {"secret": "", "last_error": "restored without its secret: give it one"}
#: Who restores, and what the event of it is called.
_ACTOR, _ACTION = "registry", "RestoreBackup"


class SqlDumps:
    """`backup.ports.Dumps` on an engine of `open_engine`, whose database has the newest schema."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def write(self, path: Path, *, secrets: bool) -> Contents:
        database = self._engine.url.database
        if is_sqlite(self._engine) and not Path(database or "").is_file():
            raise BackupError(f"there is no database {database}")
        target = open_engine(f"sqlite:///{path}")
        try:
            migrate(target)
            with (
                available(),
                _snapshot(self._engine) as source,
                begin_write(target.connect()) as connection,
                connection.begin(),
            ):
                _check_schema(source, connection)
                _copy_all(source, connection, secrets=secrets)
        finally:
            target.dispose()
        _settle(path)
        return self.contents(path)

    def contents(self, path: Path) -> Contents:
        try:
            with _reading(path) as engine, engine.connect() as connection:
                return _contents(connection)
        except exc.DBAPIError as error:
            raise BackupError(f"{path} is no dump of a registry ({error.orig})") from error

    def blobs(self, path: Path) -> Iterator[ModelFile]:
        statement = select(BlobRow.sha256, BlobRow.size_bytes).order_by(BlobRow.sha256)
        with _reading(path) as engine, engine.connect() as connection:
            for sha256, size in connection.execute(statement.execution_options(yield_per=_BATCH)):
                yield ModelFile(sha256, sha256, size, "")

    @contextmanager
    def opened(self, path: Path) -> Iterator[Database]:
        with _reading(path) as engine:
            yield SqlDatabase(engine)

    def is_empty(self) -> bool:
        with available(), self._engine.connect() as connection:
            return _is_empty(connection)

    def load(self, path: Path, time: datetime) -> Contents:
        with (
            available(),
            _reading(path) as dump,
            dump.connect() as source,
            begin_write(self._engine.connect()) as connection,
            connection.begin(),
        ):
            if not is_sqlite(self._engine):
                _be_patient(connection)
                connection.execute(text("SELECT sequence FROM audit_head FOR UPDATE"))
            if not _is_empty(connection):
                raise BackupError("the database is not empty: restore into a new one. Nothing was changed")
            _check_schema(source, connection)
            _copy_all(source, connection, secrets=True)
            loaded = _contents(connection)
            _reset_sequences(connection)
            _tell(connection, loaded.head, time)
        return loaded


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """One unchanging state, for as long as it takes."""
    with engine.connect() as connection:
        if not is_sqlite(engine):
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            _be_patient(connection)
        yield connection


def _be_patient(connection: Connection) -> None:
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
        connection.execute(text(f"SET LOCAL {setting} = 0"))


@contextmanager
def _reading(path: Path) -> Iterator[Engine]:
    """A dump as an engine that cannot write, and leaves no file beside it."""
    uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False),
        poolclass=NullPool,
    )
    try:
        yield engine
    finally:
        engine.dispose()


def _settle(path: Path) -> None:
    """Makes a database in WAL mode a plain file."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
    finally:
        connection.close()
    for suffix in ("-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _check_schema(source: Connection, target: Connection) -> None:
    """Raises BackupError for an older or newer registry's, or for none."""
    try:
        found = _schema(source)
    except exc.DBAPIError as error:
        raise BackupError(f"the database is none of a registry ({error.orig})") from error
    if found != _schema(target):
        raise BackupError(
            f"the database has the schema {found}, this program has {_schema(target)}: use the version "
            "of the registry that it is of"
        )


def _schema(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def _copy_all(source: Connection, target: Connection, *, secrets: bool) -> None:
    """All rows, and none that were there. The guards of the evidence sleep meanwhile, in this transaction."""
    with _without_guards(target):
        for row in (AuditEventRow, AuditHeadRow):
            target.execute(row.__table__.delete())  # type: ignore[attr-defined]
        for table in _TABLES:
            # Never written, rather than removed again: a file keeps what was in it for long.
            hide = table is WebhookRow.__table__ and not secrets
            _copy_table(source, target, table, _HIDDEN if hide else {})


def _copy_table(source: Connection, target: Connection, table: Table, instead: Mapping[str, Any]) -> None:
    """instead: values for all rows."""
    found = source.execute(_rows(table).execution_options(stream_results=True, yield_per=_BATCH))
    for batch in found.mappings().partitions(_BATCH):
        target.execute(table.insert(), [{**row, **instead} for row in batch])


def _rows(table: Table) -> Select[*tuple[Any, ...]]:
    """In the order of the keys: rows that refer to others of their table come behind those."""
    statement = select(table).order_by(*table.primary_key.columns)
    if table is BlobRow.__table__:
        return statement.where(exists().where(FileRow.sha256 == BlobRow.sha256))
    return statement


def _contents(connection: Connection) -> Contents:
    sequence, last = connection.execute(select(AuditHeadRow.sequence, AuditHeadRow.hash)).one()
    rows = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in _TABLES}
    return Contents(_schema(connection), Head(sequence, last), rows)


def _is_empty(connection: Connection) -> bool:
    """Of a new database, the first event tells that the audit began."""
    for table in _TABLES:
        if table in (AuditEventRow.__table__, AuditHeadRow.__table__):
            continue
        if connection.execute(select(table).limit(1)).first() is not None:
            return False
    return connection.scalar(select(AuditHeadRow.sequence)) == 1


@contextmanager
def _without_guards(connection: Connection) -> Iterator[None]:
    if connection.dialect.name == "sqlite":
        triggers = connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY rowid")
        ).all()
        for name, _ in triggers:
            connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
        yield
        for _, statement in triggers:
            connection.exec_driver_sql(statement)
        return
    for table in _TABLES:
        connection.exec_driver_sql(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
    yield
    for table in _TABLES:
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")


def _reset_sequences(connection: Connection) -> None:
    """PostgreSQL gives out ids behind the greatest; SQLite does so anyway."""
    if connection.dialect.name == "sqlite":
        return
    for table in _TABLES:
        if "id" in table.columns and table.autoincrement_column is not None:
            statement = (
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "  # noqa: S608
                f"GREATEST(COALESCE(MAX(id), 0), 1), MAX(id) IS NOT NULL) FROM {table.name}"
            )
            connection.execute(text(statement))


def _tell(connection: Connection, head: Head, time: datetime) -> None:
    """The histories of the registry that was saved and of this one part here: their hashes differ."""
    with Session(connection, autoflush=False) as session:
        transaction = SqlTransaction.on(session)
        details = {"head": f"{head.sequence}:{head.hash}"}
        record(
            transaction, Act(_ACTOR, time), _ACTION, Subject(Kind.REGISTRY, 0, "registry"), details=details
        )
        transaction.audit.close()
        session.flush()
