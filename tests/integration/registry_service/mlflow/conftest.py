"""A registry with both doors open, and MLflow's own client to knock at one of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from benchmarks.peers import python_of
from plumbline.registry.client import RegistryClient
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Facade:
    """url: of MLflow's API. client: of Plumbline's."""

    url: str
    target: str
    client: RegistryClient
    folder: Path

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """As it is: the path is encoded by the caller."""
        kind = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(
            self.url + path, data=body, method=method, headers={**kind, **(headers or {})}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as reply:
                return Reply(reply.status, reply.read(), reply.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read(), error.headers)

    def get(self, route: str, **arguments: Any) -> Reply:
        return self.send("GET", f"/api/2.0/mlflow/{route}?{urlencode(arguments, doseq=True)}")

    def call(self, method: str, route: str, **arguments: Any) -> Reply:
        return self.send(method, f"/api/2.0/mlflow/{route}", json.dumps(arguments).encode())

    def post(self, route: str, **arguments: Any) -> Reply:
        return self.call("POST", route, **arguments)


@pytest.fixture
def facade(sqlite_url: str, tmp_path: Path) -> Iterator[Facade]:
    with serving(sqlite_url, tmp_path) as running:
        yield running


@pytest.fixture
def any_facade(any_database_url: str, tmp_path: Path) -> Iterator[Facade]:
    """On each kind of database."""
    with serving(any_database_url, tmp_path) as running:
        yield running


@contextmanager
def serving(url: str, folder: Path, **changes: Any) -> Iterator[Facade]:
    """changes: of the settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = settings_for(url, folder).model_copy(update={"http_port": port, **changes})
    with running_server(settings, build) as target, RegistryClient(target, actor="ann") as client:
        yield Facade(f"http://127.0.0.1:{port}", target, client, folder)


@pytest.fixture(scope="session")
def mlflow_python() -> Path:
    """An interpreter that has MLflow's client, made first where it is missing."""
    try:
        return python_of("mlflow-skinny")
    except SystemExit as error:
        pytest.skip(str(error))


def run_script(python: Path, name: str, url: str, *arguments: str, **variables: str) -> Any:
    """What a script prints, as JSON."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    environment |= {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    } | variables
    done = subprocess.run(
        [str(python), str(SCRIPTS / name), url, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
