"""The programs of the local stack: how each is started, where it listens, how it says that it is well."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def state_folder() -> Path:
    """Where everything the stack writes lives: PLUMBLINE_STATE, or .plumbline in the checkout."""
    return Path(os.environ.get("PLUMBLINE_STATE", ".plumbline")).resolve()


class StackError(Exception):
    """What went wrong, for people."""


@dataclass(frozen=True)
class Program:
    """One program. ports: kind → (environment variable, default); the kind "grpc" is asked for health."""

    name: str
    module: str
    ports: dict[str, tuple[str, int]]
    start_seconds: float = 60.0
    #: Whether it reads the Feast registry at its start.
    needs_definitions: bool = False

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return state_folder() / "logs" / f"{self.name}.log"

    def port(self, kind: str, env: dict[str, str]) -> int:
        """The port it is told to listen on."""
        variable, default = self.ports[kind]
        try:
            return int(env.get(variable, default))
        except ValueError:
            raise StackError(f"{variable} is {env[variable]!r}; it must be a port number") from None

    def addresses(self, env: dict[str, str]) -> dict[str, str]:
        """Kind → "127.0.0.1:port", for people."""
        return {kind: f"127.0.0.1:{self.port(kind, env)}" for kind in self.ports}

    def check_ports(self, env: dict[str, str]) -> None:
        """Raises StackError naming the first port that is taken and the variable that moves it."""
        for kind, (variable, _) in self.ports.items():
            port = self.port(kind, env)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise StackError(
                        f"{self.name} needs port {port} ({kind}), which is taken: {error.strerror}. "
                        f"Free it, or set {variable} to another, as in {variable}={port + 100}"
                    ) from None

    def health(self, env: dict[str, str]) -> str:
        """ "ready", "no model yet" (serving without a model), "starting" or "not serving"."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port('grpc', env)}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                state = stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0).status
            except grpc.RpcError:
                return "starting"
        if state == health_pb2.HealthCheckResponse.SERVING:
            return "ready"
        return "no model yet" if "http" in self.ports and self._live(env) else "not serving"

    def _live(self, env: dict[str, str]) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port('http', env)}/livez", timeout=1.0):
                return True
        except (urllib.error.URLError, TimeoutError):
            return False


PROGRAMS = (
    Program(
        "registry_service",
        "registry_service",
        {"grpc": ("PLUMBLINE_REGISTRY_PORT", 7420), "metrics": ("PLUMBLINE_REGISTRY_METRICS_PORT", 7421)},
    ),
    Program(
        "feature_service",
        "feature_service",
        {"grpc": ("PLUMBLINE_FEATURES_PORT", 7410), "metrics": ("PLUMBLINE_FEATURES_METRICS_PORT", 7411)},
        start_seconds=90.0,  # importing Feast alone takes ten seconds on a busy machine
        needs_definitions=True,
    ),
    Program(
        "serving",
        "serving",
        {"grpc": ("PLUMBLINE_SERVING_PORT", 7430), "http": ("PLUMBLINE_SERVING_HTTP_PORT", 7431)},
    ),
)


def environment() -> dict[str, str]:
    """The environment of the programs: this process's, over the file STACK_ENV, over defaults.

    The addresses at which they find one another follow from the ports.
    """
    state = state_folder()
    env = {
        "PLUMBLINE_STATE": str(state),
        "PLUMBLINE_REGISTRY_DATABASE_URL": f"sqlite:///{state}/registry/registry.db",
        "PLUMBLINE_REGISTRY_ARTIFACTS_DIR": f"{state}/registry/artifacts",
        "PLUMBLINE_SERVING_CACHE_DIR": f"{state}/serving/models",
        "BENTOML_HOME": f"{state}/bentoml",
        "FEAST_USAGE": "False",
        "PYTHONUNBUFFERED": "1",
    }
    env |= _read_env_file(Path(os.environ.get("STACK_ENV", "examples/flights/stack.env")), env)
    env |= os.environ
    env["PLUMBLINE_STATE"] = str(state)
    by_name = {program.name: program for program in PROGRAMS}
    for variable, name, kind in (
        ("PLUMBLINE_FEATURES_ADDRESS", "feature_service", "grpc"),
        ("PLUMBLINE_REGISTRY_ADDRESS", "registry_service", "grpc"),
        ("PLUMBLINE_SERVING_ADDRESS", "serving", "grpc"),
    ):
        env.setdefault(variable, by_name[name].addresses(env)[kind])
    env.setdefault("PLUMBLINE_SERVING_REGISTRY_ADDRESS", env["PLUMBLINE_REGISTRY_ADDRESS"])
    env.setdefault("PLUMBLINE_SERVING_FEATURES_ADDRESS", env["PLUMBLINE_FEATURES_ADDRESS"])
    return env


def _read_env_file(path: Path, known: dict[str, str]) -> dict[str, str]:
    """NAME=value lines; ${NAME} stands for what `known`, or a line above, says."""
    if not path.is_file():
        raise StackError(f"the environment file {path} (STACK_ENV) does not exist")
    values: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise StackError(f"{path}, line {number}: expected NAME=value, found {text!r}")
        try:
            values[name] = Template(value.strip().strip("'\"")).substitute(known | values)
        except (KeyError, ValueError) as error:
            raise StackError(f"{path}, line {number}: cannot expand {value!r}: {error}") from None
    return values
