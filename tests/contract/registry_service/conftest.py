"""Every test of this folder runs on an SQLite file and on a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from registry_service.repository.database import SqlDatabase, open_engine
from registry_service.repository.migration import migrate
from registry_service.tables import Base
from tests.contract.registry_service.desk import Desk

BACKENDS = ("sqlite", "postgresql")


class TickingClock:
    """Every look is a millisecond later, so that the order of things shows in their times."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy: migrating anew for each test would take most of the suite's time."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str) -> str:
    """The URL of a migrated database that the tests share, one after the other."""
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        # What the tests write need not outlive a power cut; they take a third of the time.
        maintain(postgres_server, f"ALTER SYSTEM SET {setting} = off")
    maintain(postgres_server, "SELECT pg_reload_conf()")
    name = f"registry_{uuid.uuid4().hex[:12]}"
    maintain(postgres_server, f"CREATE DATABASE {name}")
    url = _on(postgres_server, name)
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()
    return url


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: every commit waits for the disk otherwise."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="registry-test-") as folder:
        yield Path(folder)


@pytest.fixture
def empty_database(backend: str, fast_folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{fast_folder / 'registry.db'}"
        return
    server, name = request.getfixturevalue("postgres_server"), f"empty_{uuid.uuid4().hex[:12]}"
    maintain(server, f"CREATE DATABASE {name}")
    yield _on(server, name)
    maintain(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(backend: str, fast_folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    if backend == "sqlite":
        path = fast_folder / "registry.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    url = request.getfixturevalue("postgres_database")
    # As a replica does it, without the triggers that keep the evidence.
    tables = ", ".join(Base.metadata.tables)
    maintain(
        url,
        "SET session_replication_role = replica; "
        # The chain of events begins with the one of the migration.
        "CREATE TEMPORARY TABLE beginning AS SELECT * FROM audit_event WHERE sequence = 1; "
        f"TRUNCATE {tables} RESTART IDENTITY; INSERT INTO audit_event SELECT * FROM beginning; "
        "INSERT INTO audit_head SELECT 1, sequence, hash FROM beginning",
    )
    maintain(url, "UPDATE alembic_version SET version_num = '0002'")
    yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, pool_size=16, busy_seconds=20)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> TickingClock:
    return TickingClock()


@pytest.fixture
def desk(engine: Engine, clock: Callable[[], datetime]) -> Desk:
    return Desk(SqlDatabase(engine, busy_seconds=20), clock)


def maintain(server: str, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def _on(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")
