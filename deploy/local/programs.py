"""The programs of the local stack: how each is started, where it listens, how it says that it is well."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.records import read_records
from deploy.local.state import StackError, state_folder
from plumbline import RegistryClient
from plumbline.errors import PlumblineError


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
        text = env.get(variable, str(default))
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise StackError(f"{variable} is {text!r}; it must be a port number, 1 to 65535")
        return int(text)

    def chosen_ports(self, env: dict[str, str]) -> dict[str, int]:
        """Variable → port, for the record of a started program."""
        return {variable: self.port(kind, env) for kind, (variable, _) in self.ports.items()}

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
        {
            "grpc": ("PLUMBLINE_REGISTRY_PORT", 7420),
            "metrics": ("PLUMBLINE_REGISTRY_METRICS_PORT", 7421),
            "mlflow": ("PLUMBLINE_REGISTRY_HTTP_PORT", 7422),
        },
    ),
    Program(
        "feature_service",
        "feature_service",
        {
            "grpc": ("PLUMBLINE_FEATURES_PORT", 7410),
            "metrics": ("PLUMBLINE_FEATURES_METRICS_PORT", 7411),
            "http": ("PLUMBLINE_FEATURES_HTTP_PORT", 7412),
        },
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
    # Where a running program listens is not a matter of this shell's variables.
    for record in read_records().values():
        if record.alive():
            env |= {variable: str(port) for variable, port in record.ports.items()}
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


def models_exist(env: dict[str, str]) -> bool:
    """Whether every model that serving is to serve is in the registry, so that it can become ready."""
    names = [name.strip() for name in env.get("PLUMBLINE_SERVING_MODELS", "").split(",") if name.strip()]
    try:
        with RegistryClient(env["PLUMBLINE_REGISTRY_ADDRESS"], timeout=2.0) as registry:
            for name in names:
                registry.get_version(name)
    except PlumblineError:
        return False
    return True


def check_ports(programs: Iterable[Program], env: dict[str, str]) -> None:
    """Raises StackError when two programs share a port, or somebody else has one."""
    users: dict[int, str] = {}
    for program in programs:
        for variable, port in program.chosen_ports(env).items():
            if port in users:
                raise StackError(
                    f"{variable} and {users[port]} are both {port}; set one of them to another port"
                )
            users[port] = variable
        program.check_ports(env)
