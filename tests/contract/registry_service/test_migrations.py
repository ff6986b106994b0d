from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, exc, inspect, text

from registry_service.repository.database import open_engine
from registry_service.repository.migration import MigrationError, migrate
from registry_service.tables import Base


def _tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_up_down_and_up_again(empty_database: str) -> None:
    engine = open_engine(empty_database)
    migrate(engine)
    assert _tables(engine) == {*Base.metadata.tables, "alembic_version"}
    migrate(engine)
    migrate(engine, "base")
    assert _tables(engine) == {"alembic_version"}
    migrate(engine)
    assert _tables(engine) == {*Base.metadata.tables, "alembic_version"}
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO code_revision (commit_id, repository) VALUES ('abc', '')"))
        with pytest.raises(exc.IntegrityError):
            connection.execute(text("UPDATE code_revision SET commit_id = 'x'"))
    engine.dispose()


def test_the_migrations_make_the_tables_the_code_maps(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_servers_that_start_together_migrate_once(empty_database: str) -> None:
    engines = [open_engine(empty_database) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate, engines))
    with engines[0].connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).all() == [("0002",)]
    for engine in engines:
        engine.dispose()


def test_a_schema_from_the_future_is_not_touched(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(MigrationError, match="does not know"):
        migrate(engine)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("these are notes, " * 100)
    engine = open_engine(f"sqlite:///{path}")
    with pytest.raises(MigrationError, match=r"notes\.db.*not a database"):
        migrate(engine)
    engine.dispose()


def test_an_sqlite_database_is_in_wal_mode_and_checks_foreign_keys(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'deep' / 'er' / 'r.db'}")
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
    engine.dispose()
