"""docs/operations.md names every setting of every program, with its default and what it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from feature_service.settings import FeatureSettings
from registry_service.settings import RegistrySettings
from servicekit.settings import ServerSettings
from serving.settings import ServingSettings
from trainer.settings import TrainerSettings

ROOT = Path(__file__).resolve().parents[3]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
OF_EVERY_SERVER = set(ServerSettings.model_fields) - {"port", "metrics_port"}


def line(name: str, default: object, description: str | None) -> str:
    shown = "" if default is None or default == "" else f"`{default}`"
    return f"| `{name}` | {shown} | {description} |"


@pytest.mark.parametrize("name", sorted(OF_EVERY_SERVER))
def test_a_setting_of_every_server_is_documented(name: str) -> None:
    field = ServerSettings.model_fields[name]
    assert line(name.upper(), field.default, field.description) in OPERATIONS


@pytest.mark.parametrize("cls", [FeatureSettings, RegistrySettings, ServingSettings, TrainerSettings])
def test_a_setting_of_one_program_is_documented(cls: type[BaseSettings]) -> None:
    prefix = cls.model_config.get("env_prefix", "")
    for name, field in cls.model_fields.items():
        # BentoML's /metrics is on serving's HTTP port; the servers' own page is not used there.
        if name in OF_EVERY_SERVER or (cls is ServingSettings and name == "metrics_port"):
            continue
        assert line(f"{prefix}{name.upper()}", field.default, field.description) in OPERATIONS
