"""Brings a database to the newest schema, also when several servers start on it at once."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Engine, exc, text

from registry_service.repository.database import begin_write, is_sqlite

_MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"

# Any number no other program on the database uses for pg_advisory_xact_lock.
_LOCK = 0x706C756D62


class MigrationError(Exception):
    """The database cannot be reached or brought to the schema; the message is for people."""


def migrate(engine: Engine, revision: str = "head") -> None:
    """Upgrades (or, to an older revision or "base", downgrades) in one transaction.

    One process at a time does this; others wait, and then find nothing to do. Creates the folder and
    the file of an SQLite database. Raises MigrationError.
    """
    try:
        with _alone(engine), begin_write(engine.connect()) as connection, connection.begin():
            if not is_sqlite(engine):
                # Waits as long as the other server migrates, and migrates as long as it takes.
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            current = MigrationContext.configure(connection).get_current_revision()
            # Revisions are numbered in order.
            back = revision == "base" or (revision != "head" and current is not None and current > revision)
            (command.downgrade if back else command.upgrade)(config, revision)
    except CommandError as error:
        raise MigrationError(
            f"the database {_shown(engine)} has a schema this version of the registry does not know ({error})"
        ) from error
    except (exc.DBAPIError, sqlite3.Error, OSError) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        raise MigrationError(
            f"cannot open the database {_shown(engine)}: {' '.join(str(cause).split())}"
        ) from error


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """On SQLite, a lock file beside the database: switching a new file to WAL fails at once, whatever
    the busy timeout, while anybody else has it open."""
    if not is_sqlite(engine):
        yield
        return
    path = Path(engine.url.database or "").resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        raw = engine.raw_connection()
        try:
            # Kept in the file; readers then never wait for a writer.
            raw.cursor().execute("PRAGMA journal_mode = WAL").close()
        finally:
            raw.close()
        yield
