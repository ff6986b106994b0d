"""A real server on a free port, with a real client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from plumbline.registry.client import RegistryClient
from registry_service.app import build
from registry_service.settings import RegistrySettings
from tests.support import running_server


@dataclass(frozen=True)
class Running:
    """One running registry."""

    client: RegistryClient
    artifacts: Path


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'registry.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database, on each backend."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    server, name = request.getfixturevalue("postgres_server"), f"registry_{uuid.uuid4().hex[:12]}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.replace("/postgres?", f"/{name}?")
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def settings_for(url: str, folder: Path) -> RegistrySettings:
    return RegistrySettings(
        port=0,
        metrics_port=None,
        http_port=None,
        database_url=url,
        artifacts_dir=folder / "artifacts",
        max_file_bytes=50_000_000,
        busy_seconds=2,
    )


@pytest.fixture
def registry(sqlite_url: str, tmp_path: Path) -> Iterator[Running]:
    """On SQLite."""
    with (
        running_server(settings_for(sqlite_url, tmp_path), build) as target,
        RegistryClient(target, actor="ann") as client,
    ):
        yield Running(client, tmp_path / "artifacts")
