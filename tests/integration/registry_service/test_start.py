"""Starts that cannot succeed: an error that names what is in the way and what to set."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from plumbline import RegistryClient
from registry_service.app import build
from registry_service.settings import RegistrySettings
from servicekit.server import StartupError
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server


def _refusal(settings: RegistrySettings) -> str:
    with pytest.raises(StartupError) as caught, running_server(settings, build):
        pytest.fail("the server started")
    return str(caught.value)


def test_a_taken_port(sqlite_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = _refusal(settings_for(sqlite_url, tmp_path).model_copy(update={"port": port}))
    assert f"127.0.0.1:{port}" in message
    assert "PLUMBLINE_REGISTRY_PORT" in message


def test_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
        url = f"postgresql://me:secret@127.0.0.1:{unused.getsockname()[1]}/registry"
        message = _refusal(settings_for(url, tmp_path))
    assert "cannot open the database postgresql+psycopg://me:***@127.0.0.1:" in message
    assert "PLUMBLINE_REGISTRY_DATABASE_URL" in message
    assert "secret" not in message


def test_a_database_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    message = _refusal(settings_for(f"sqlite:///{tmp_path / 'data' / 'registry.db'}", tmp_path))
    assert "cannot open the database" in message
    assert "PLUMBLINE_REGISTRY_DATABASE_URL" in message


def test_an_artifact_folder_that_is_a_file(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file")
    message = _refusal(settings_for(sqlite_url, tmp_path))
    assert str(tmp_path / "artifacts") in message
    assert "PLUMBLINE_REGISTRY_ARTIFACTS_DIR" in message


def test_a_database_without_an_encoding_keeps_text(postgres_server: str, tmp_path: Path) -> None:
    name = f"ascii_{uuid.uuid4().hex[:12]}"
    maintenance = create_engine(
        make_url(postgres_server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with maintenance.connect() as connection:
        connection.execute(
            text(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        )
    maintenance.dispose()
    url = make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with running_server(settings_for(url, tmp_path), build) as address, RegistryClient(address) as client:
        client.create_model("m", description="Verspätung ≥ 15 min")
        assert client.get_model("m").description == "Verspätung ≥ 15 min"
