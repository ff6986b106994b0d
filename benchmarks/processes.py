"""Servers that benchmarks measure, as processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Server:
    """A server that runs: where, its method, and the processes that do its work."""

    address: str
    method: str
    pids: Sequence[int]
    protocol: Literal["grpc", "http"] = "grpc"

    def cpu(self) -> float:
        """CPU seconds of its processes so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        total = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / ticks

    def rss_mib(self) -> float:
        """Resident memory of its processes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2

    def peak_mib(self) -> float:
        """The most resident memory each of its processes ever had, added up."""
        lines = [line for pid in self.pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Iterator[int]:
    """A process that is ended with the block, and with it whatever it started; yields its pid.

    folder: where it runs. Raises SystemExit when it ended by itself.
    """
    with log.open("w") as output:
        running = subprocess.Popen(
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
            cwd=folder,
            start_new_session=True,
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
        # What it started and left behind is in the session it was given.
        for last in (signal.SIGTERM, signal.SIGKILL):
            _end_group(running.pid, last, seconds=5)


def _end_group(group: int, with_signal: signal.Signals, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, with_signal)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.02)


def wait_for_lines(log: Path, text: str, count: int, pid: int, seconds: float = 120) -> None:
    """Returns once a process has written a text so many times. Raises SystemExit with what it wrote."""
    deadline = time.monotonic() + seconds
    while log.read_text().count(text) < count:
        if time.monotonic() > deadline or not _runs(pid):
            raise SystemExit(f"process {pid} does not come up; it wrote:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


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


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those they started."""
    return [found for child in children(pid) for found in (child, *descendants(child))]
