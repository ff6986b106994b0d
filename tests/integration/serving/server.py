"""`python -m serving` as a process of its own, and a registry to publish to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline.registry.client import RegistryClient
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.serving.client import PredictionClient
from tests.support import wait_until


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ServingProcess:
    """A running server; its stderr goes to `log`."""

    process: subprocess.Popen[bytes]
    grpc_port: int
    http_port: int
    log: Path
    client: PredictionClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = PredictionClient(f"127.0.0.1:{self.grpc_port}", timeout=20)

    def http(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a GET, or of a POST of JSON. Raises OSError when nobody listens."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def predict(self, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON of a POST to /predict."""
        status, reply = self.http("/predict", body, headers)
        return status, json.loads(reply)

    def health(self) -> int:
        """What gRPC health says of the server as a whole."""
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)

    def answers(self, path: str, status: int) -> bool:
        """Whether a GET is answered with `status` now. Raises AssertionError when the server is gone."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return self.http(path)[0] == status
        except OSError:
            return False

    def lines(self) -> list[dict[str, Any]]:
        """The log's JSON lines, so far as they are whole."""
        whole = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def environment(folder: Path, registry: str, features: str, **more: str) -> dict[str, str]:
    """The environment of a server between others; more: settings by name, in lower case."""
    settings = {
        "models": "delay@champion",
        "registry_address": registry,
        "features_address": features,
        "cache_dir": str(folder / "models"),
        "poll_seconds": "0.1",
        "retry_seconds": "0.5",
        "features_timeout": "8",
        "grace_seconds": "15",
        **more,
    }
    return os.environ | {f"PLUMBLINE_SERVING_{name.upper()}": value for name, value in settings.items()}


@contextmanager
def serving_process(folder: Path, registry: str, features: str, **more: str) -> Iterator[ServingProcess]:
    """Starts a server and waits until it listens; ends it in the end, if it still runs."""
    grpc_port, http_port = free_port(), free_port()
    env = environment(folder, registry, features, port=str(grpc_port), http_port=str(http_port), **more)
    # Every import is told on stderr, so that a test can see what was not imported.
    env["PYTHONPROFILEIMPORTTIME"] = "1"
    log = folder / f"serving-{http_port}.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "serving"], env=env, stderr=stderr)
    server = ServingProcess(process, grpc_port, http_port, log)
    try:
        wait_until(lambda: server.answers("/livez", 200), timeout=120, what="serving listens")
        yield server
    finally:
        server.client.close()
        if process.poll() is None:
            process.kill()
            process.wait(10)


def publish(client: RegistryClient, folder: Path, text: str, signature: res.ModelSignature) -> str:
    """A READY version of models/delay; returns its name."""
    if not any(model.name == "models/delay" for model in client.list_models()):
        client.create_model("delay")
    source = folder / "model.txt"
    source.write_text(text)
    version = client.create_version("delay", signature=signature)
    client.upload_file(version.name, source, media_type="text/plain")
    return client.finalize_version(version.name).name
