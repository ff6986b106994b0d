"""What changed since one looked last, at the price of looking and no more."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import Engine, exc, text

from registry_service.ports import Changed
from registry_service.repository.database import is_sqlite

# More changes at once are not told one by one.
_MOST = 10_000
_LATER = "SELECT sequence, model_id FROM audit_event WHERE sequence > :known ORDER BY sequence LIMIT 10001"
_END = "SELECT sequence FROM audit_head"


def open_freshness(engine: Engine) -> SqliteFreshness | PostgresFreshness:
    """`ports.Freshness` of the database, with a connection of its own once it is first asked."""
    if is_sqlite(engine):
        return SqliteFreshness(engine.url.database or "")
    return PostgresFreshness(engine)


class SqliteFreshness:
    """Looking costs some microseconds: a counter in shared memory tells whether any connection of any process
    has committed since. It never waits, and so may be asked where nothing may wait."""

    waits = False

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._version = -1

    def look(self, known: int) -> Changed | None:
        try:
            if self._connection is None:
                # Used by one thread at a time, but not always by the same.
                self._connection = sqlite3.connect(
                    self._path, timeout=0, isolation_level=None, check_same_thread=False
                )
            ask = self._connection.execute
            (version,) = ask("PRAGMA data_version").fetchone()
            if version == self._version:
                return Changed(known, frozenset())
            rows = ask(_LATER, {"known": known}).fetchall()
            end = ask(_END).fetchone()[0] if len(rows) > _MOST else 0
            # What is committed between the two questions is found by the next look.
            self._version = version
        except sqlite3.Error:
            return None
        return _changed(known, rows, end)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresFreshness:
    """Looking is one round trip."""

    waits = True

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None
        self._later, self._end = text(_LATER), text(_END)

    def look(self, known: int) -> Changed | None:
        try:
            if self._connection is None:
                options = {"isolation_level": "AUTOCOMMIT"}
                self._connection = self._engine.connect().execution_options(**options)
            rows = self._connection.execute(self._later, {"known": known}).all()
            end = self._connection.scalar(self._end) if len(rows) > _MOST else 0
        except exc.SQLAlchemyError:
            self.close()
            return None
        return _changed(known, rows, end)

    def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()
            connection.close()


def _changed(known: int, rows: Any, end: int) -> Changed:
    """end: of the chain, where there are more changes than rows."""
    if not rows:
        return Changed(known, frozenset())
    if end:
        return Changed(end, None)
    return Changed(rows[-1][0], frozenset(model for _, model in rows if model is not None))
