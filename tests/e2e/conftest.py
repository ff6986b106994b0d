"""The demo, run once on a slice of the data, with its stack left running for the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.otlp import Collector, collector

ROOT = Path(__file__).resolve().parents[2]

PORTS = (
    "PLUMBLINE_FEATURES_PORT",
    "PLUMBLINE_FEATURES_METRICS_PORT",
    "PLUMBLINE_FEATURES_HTTP_PORT",
    "PLUMBLINE_REGISTRY_PORT",
    "PLUMBLINE_REGISTRY_METRICS_PORT",
    "PLUMBLINE_REGISTRY_HTTP_PORT",
    "PLUMBLINE_SERVING_PORT",
    "PLUMBLINE_SERVING_HTTP_PORT",
)
# Three months, so that everything the demo does has enough rows to mean something.
SLICE = [
    "--months=1-3",
    "--set=split.valid_start=2013-02-15T00:00:00-05:00",
    "--set=split.test_start=2013-03-01T00:00:00-05:00",
    "--set=training.num_boost_round=60",
]


@dataclass(frozen=True)
class Stack:
    """A running stack. env: for commands, with addresses and ports set. spans: what it exported."""

    env: dict[str, str]
    state: Path
    spans: Collector

    def run(self, *command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command from the checkout's root with this stack's environment."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )

    def demo(self) -> subprocess.CompletedProcess[str]:
        """Runs the demo as `make demo` does, on the slice."""
        return self.run(sys.executable, "-m", "examples.flights.demo", *SLICE)

    def program(self, command: str) -> subprocess.CompletedProcess[str]:
        """`python -m deploy.local.stack COMMAND`, as make's stack targets do."""
        return self.run(sys.executable, "-m", "deploy.local.stack", command)

    def port(self, variable: str) -> int:
        return int(self.env[variable])


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack on free ports with a state folder of its own, after one run of the demo."""
    state = tmp_path_factory.mktemp("state")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PLUMBLINE_")}
    env |= dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    env |= {
        "PLUMBLINE_STATE": str(state),
        "PLUMBLINE_FEATURES_REPLAY_TIME": "2013-03-20T17:00:00Z",
        "PLUMBLINE_FEATURES_ADDRESS": f"127.0.0.1:{env['PLUMBLINE_FEATURES_PORT']}",
        "PLUMBLINE_REGISTRY_ADDRESS": f"127.0.0.1:{env['PLUMBLINE_REGISTRY_PORT']}",
        "PLUMBLINE_SERVING_ADDRESS": f"127.0.0.1:{env['PLUMBLINE_SERVING_PORT']}",
    }
    with collector() as (spans, endpoint):
        programs = ("FEATURES", "REGISTRY", "SERVING", "TRAINER")
        env |= {f"PLUMBLINE_{program}_OTLP_ENDPOINT": endpoint for program in programs}
        running = Stack(env, state, spans)
        try:
            done = running.demo()
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
            (state / "first-run.txt").write_text(done.stdout)
            yield running
        finally:
            cleaned = running.program("clean")
        # Only what a test put there itself is left.
        assert cleaned.returncode == 0, cleaned.stderr
        assert [path.name for path in state.iterdir()] == ["first-run.txt"]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
