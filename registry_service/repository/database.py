"""Engines and transactions for SQLite and PostgreSQL."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, exc, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from plumbline.registry.errors import DatabaseUnavailable
from registry_service.ports import Transaction
from registry_service.repository.aliases import SqlAliases
from registry_service.repository.audit import SqlAudit
from registry_service.repository.blobs import SqlBlobs
from registry_service.repository.datasets import SqlDatasets
from registry_service.repository.deployments import SqlDeployments
from registry_service.repository.governance import SqlApprovals, SqlPolicies
from registry_service.repository.impact import SqlImpact
from registry_service.repository.integrity import SqlIntegrity
from registry_service.repository.lineage import SqlLineage
from registry_service.repository.models import SqlModels
from registry_service.repository.requests import SqlRequests
from registry_service.repository.runs import SqlRuns
from registry_service.repository.summaries import SqlSummaries
from registry_service.repository.versions import SqlVersions
from registry_service.repository.webhooks import SqlWebhooks

_log = logging.getLogger("plumbline.registry.database")

_WRITE = "plumbline_write"


def patience(busy_seconds: float) -> float:
    """How long one call may wait for the database in all: long enough that a wait of busy_seconds for a
    lock or a connection ends by itself, with a better message."""
    return busy_seconds + 1.0


def open_engine(url: str, *, pool_size: int = 8, busy_seconds: float = 10.0) -> Engine:
    """An engine whose transactions are those of `SqlDatabase`; nothing connects yet.

    url: sqlite:///path/to/file.db or postgresql://…; other databases are refused with a ValueError.
    busy_seconds: how long to wait for a connection, a lock or a free pool slot. PostgreSQL ends statements
    that take longer than `patience`, and a server that no longer acknowledges what is sent to it is given up
    about as soon. One that acknowledges but says nothing (a process that was stopped, any unix socket) is
    not noticed here: whoever needs an answer bounds the wait, as `Calls` does.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite(parsed, pool_size, busy_seconds)
    if backend == "postgresql":
        return _postgresql(parsed, pool_size, busy_seconds)
    raise ValueError(f"unknown database {backend!r}; use sqlite:///path/to/file.db or postgresql://…")


def is_sqlite(engine: Engine) -> bool:
    """Whether the database is a file of this machine."""
    return engine.dialect.name == "sqlite"


def begin_write(connection: Connection) -> Connection:
    """Marks a fresh connection, so that on SQLite its transaction takes the write lock at once."""
    return connection.execution_options(**{_WRITE: True})


def _sqlite(url: URL, pool_size: int, busy_seconds: float) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ValueError("the registry needs a database file: sqlite:///path/to/file.db")
    engine = create_engine(
        url, pool_size=pool_size, pool_timeout=busy_seconds, connect_args={"timeout": busy_seconds}
    )

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _record: Any) -> None:
        # The driver's own implicit BEGIN comes too late (before the first INSERT), after reads that
        # may be stale by then; transactions are begun below instead.
        dbapi_connection.isolation_level = None
        dbapi_connection.execute("PRAGMA foreign_keys = ON")
        # Durable at each commit: a number, once given, is never given again, even after a power cut.
        dbapi_connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql(url: URL, pool_size: int, busy_seconds: float) -> Engine:
    seconds = math.ceil(patience(busy_seconds))
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        pool_timeout=busy_seconds,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": max(2, round(busy_seconds)),
            # Text is UTF-8 whatever encoding the database has: with SQL_ASCII it would come back as bytes.
            "client_encoding": "utf8",
            # Over TCP, a host that is gone is noticed while waiting for it (keepalives) and while sending.
            "keepalives": 1,
            "keepalives_idle": seconds,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": seconds * 1000,
        },
    )

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _record: Any) -> None:
        with dbapi_connection.cursor() as cursor:
            cursor.execute("SET timezone = 'UTC'")
            cursor.execute(f"SET lock_timeout = {round(busy_seconds * 1000)}")
            cursor.execute(f"SET statement_timeout = {round(patience(busy_seconds) * 1000)}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {round(busy_seconds * 6000)}")
        dbapi_connection.commit()

    return engine


@dataclass(frozen=True)
class SqlTransaction:
    """The stores on one session."""

    requests: SqlRequests
    models: SqlModels
    versions: SqlVersions
    summaries: SqlSummaries
    aliases: SqlAliases
    runs: SqlRuns
    datasets: SqlDatasets
    policies: SqlPolicies
    approvals: SqlApprovals
    deployments: SqlDeployments
    lineage: SqlLineage
    impact: SqlImpact
    audit: SqlAudit
    webhooks: SqlWebhooks
    blobs: SqlBlobs
    integrity: SqlIntegrity

    @classmethod
    def on(cls, session: Session) -> SqlTransaction:
        return cls(
            requests=SqlRequests(session),
            models=SqlModels(session),
            versions=SqlVersions(session),
            summaries=SqlSummaries(session),
            aliases=SqlAliases(session),
            runs=SqlRuns(session),
            datasets=SqlDatasets(session),
            policies=SqlPolicies(session),
            approvals=SqlApprovals(session),
            deployments=SqlDeployments(session),
            lineage=SqlLineage(session),
            impact=SqlImpact(session),
            audit=SqlAudit(session),
            webhooks=SqlWebhooks(session),
            blobs=SqlBlobs(session),
            integrity=SqlIntegrity(session),
        )


class SqlDatabase:
    """`ports.Database` on an engine of `open_engine`.

    SQLite: readers see a snapshot (WAL) and never wait; writers of this process queue on a lock of
    their own, those of other processes on the file's, so nobody meets "database is locked" before
    busy_seconds have passed. PostgreSQL: readers have a snapshot (REPEATABLE READ), writers take turns by
    locking the end of the audit chain first (READ COMMITTED): changes have one order, and never deadlock.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        busy_seconds: float = 10.0,
        on_commit: Callable[[int], None] = lambda _sequence: None,
    ) -> None:
        """on_commit: called by the writing thread, with where the chain ends, after a commit added events."""
        self._engine, self._busy_seconds, self._on_commit = engine, busy_seconds, on_commit
        self._one_writer = threading.Lock() if is_sqlite(engine) else None

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        options: dict[str, Any] = {}
        if not is_sqlite(self._engine):
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with available(), self._engine.connect() as connection:
            connection.execution_options(**options)
            with Session(connection, autoflush=False) as session:
                yield SqlTransaction.on(session)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with (
            available(),
            self._turn(),
            self._engine.connect() as connection,
            begin_write(connection).begin(),
            # Rows read again are read anew: a row locked after it was read may have changed between.
            Session(connection, autoflush=False, execution_options={"populate_existing": True}) as session,
        ):
            transaction = SqlTransaction.on(session)
            if self._one_writer is None:
                transaction.audit.lock()
            yield transaction
            session.flush()
            transaction.audit.close()
            moved_to = transaction.audit.moved_to
        if moved_to is not None:
            self._on_commit(moved_to)

    def _turn(self) -> AbstractContextManager[None]:
        return nullcontext() if self._one_writer is None else self._wait_for_turn(self._one_writer)

    @contextmanager
    def _wait_for_turn(self, lock: threading.Lock) -> Iterator[None]:
        if not lock.acquire(timeout=self._busy_seconds):
            raise DatabaseUnavailable(f"the database was busy for {self._busy_seconds:g} s; try again")
        try:
            yield
        finally:
            lock.release()


@contextmanager
def available() -> Iterator[None]:
    """Turns what a caller can only wait for into DatabaseUnavailable; the details go to the log."""
    try:
        yield
    except exc.TimeoutError as error:
        _log.warning("no free connection to the database", exc_info=error)
        raise DatabaseUnavailable("the registry's database has no free connection; try again") from error
    except exc.DBAPIError as error:
        if isinstance(error, exc.OperationalError) or error.connection_invalidated:
            _log.warning("the database failed", exc_info=error)
            raise DatabaseUnavailable(
                "the registry's database is busy or cannot be reached; try again"
            ) from error
        raise
