from __future__ import annotations

import pytest
from pydantic import ValidationError

from registry_service.settings import RegistrySettings


def test_defaults_work_and_are_those_documented() -> None:
    settings = RegistrySettings()
    assert (settings.port, settings.metrics_port) == (7420, 7421)
    assert settings.database_url == "sqlite:///.plumbline/registry/registry.db"
    assert str(settings.artifacts_dir) == ".plumbline/registry/artifacts"
    assert settings.port_variable == "PLUMBLINE_REGISTRY_PORT"


def test_messages_have_room_for_a_megabyte_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract lets callers send as much at once."""
    monkeypatch.setenv("PLUMBLINE_REGISTRY_MAX_MESSAGE_BYTES", str(1024**2))
    with pytest.raises(ValidationError, match="max_message_bytes"):
        RegistrySettings()


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_REGISTRY_DATABASE_URL", "postgresql://me:secret@db/registry")
    assert "secret" not in repr(RegistrySettings())


@pytest.mark.parametrize(
    "url", ["", "mysql://h/d", "registry.db", "sqlite://", "sqlite:///", "sqlite:///:memory:"]
)
def test_databases_the_registry_cannot_live_in(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_REGISTRY_DATABASE_URL", url)
    with pytest.raises(ValidationError, match="sqlite:///"):
        RegistrySettings()


@pytest.mark.parametrize("url", ["postgresql://h/d", "postgresql+psycopg://h/d", "sqlite:////abs/path.db"])
def test_databases_it_can(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_REGISTRY_DATABASE_URL", url)
    assert RegistrySettings().database_url == url
