"""Serving in this process, between fakes of its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import pytest

from plumbline.serving.client import PredictionClient
from servicekit.telemetry import Telemetry
from serving.app import build
from serving.settings import ServingSettings
from tests.support import running_server, wait_until
from tests.unit.serving.fakes import FakeFeatures, FakeRegistry, listening, train


@dataclass(frozen=True)
class World:
    """Fakes, their addresses, and a folder for serving's cache."""

    registry: FakeRegistry
    features: FakeFeatures
    registry_address: str
    features_address: str
    cache: Path

    def settings(self, **changes: Any) -> ServingSettings:
        """Serving between the fakes; anything may be set otherwise."""
        values: dict[str, Any] = {
            "port": 0,
            "models": "delay@champion",
            "registry_address": self.registry_address,
            "features_address": self.features_address,
            "cache_dir": self.cache,
            "poll_seconds": 0.05,
            "retry_seconds": 0.2,
            "registry_timeout": 2.0,
            "features_timeout": 2.0,
        }
        return ServingSettings(**(values | changes))

    @contextmanager
    def serving(
        self, *, wait: bool = True, telemetry: Telemetry | None = None, **changes: Any
    ) -> Iterator[PredictionClient]:
        """Runs serving; yields a client of it, once every model is loaded."""
        with ExitStack() as stack:
            target = stack.enter_context(running_server(self.settings(**changes), build, telemetry))
            client = stack.enter_context(PredictionClient(target))
            if wait:
                wait_until(lambda: all(m.model_version for m in client.list_models()), what="models loaded")
            yield client


@pytest.fixture(scope="session")
def trained() -> tuple[str, lightgbm.Booster]:
    """A model's text and the Booster it came from."""
    return train(1)


@pytest.fixture(scope="session")
def retrained() -> tuple[str, lightgbm.Booster]:
    """Another model of the same shape."""
    return train(2)


@pytest.fixture
def world(tmp_path: Path, trained: tuple[str, lightgbm.Booster]) -> Iterator[World]:
    """A registry whose champion is version 1, and features of two entities."""
    registry = FakeRegistry()
    registry.point("champion", registry.add(trained[0]))
    features = FakeFeatures(rows={("JFK", "AA"): (12.0, 180, 7.5), ("LGA", "DL"): (None, 150, 3.0)})
    with listening(registry) as registry_address, listening(features) as features_address:
        yield World(registry, features, registry_address, features_address, tmp_path / "models")
