"""Servers that benchmarks measure, as processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """A process that is ended with the block; yields its pid. Raises SystemExit when it ended by itself."""
    with log.open("w") as output:
        running = subprocess.Popen(
            list(command), stdout=output, stderr=subprocess.STDOUT, env=os.environ | dict(environment or {})
        )
    try:
        yield running.pid
        if running.poll() is not None:
            raise SystemExit(f"{command[0]} ended by itself:\n{log.read_text()[-2000:]}")
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(15)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(5)


def wait_for_port(port: int, seconds: float = 120) -> None:
    """Returns once something listens on a port of this machine. Raises SystemExit."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing listens on port {port} after {seconds} s") from None
            time.sleep(0.1)
        else:
            return


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(item) for item in found]
