"""Watch: every change once and in order, over breaks, restarts and processes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from plumbline.errors import Unavailable
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import InvalidResumeToken, ResumeTokenUnknown
from plumbline.registry.v1 import changes_pb2
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from tests.integration.registry_service.conftest import Running
from tests.integration.registry_service.test_process import program
from tests.support import wait_until


class Watcher:
    """Collects events on a thread."""

    def __init__(self, client: RegistryClient, **arguments: object) -> None:
        self.events: list[changes_pb2.AuditEvent] = []
        self.token = ""
        self.error: BaseException | None = None
        self.ready = threading.Event()
        self._stream = client.watch(**arguments)  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.ready.wait(30), self.error

    def _run(self) -> None:
        try:
            for message in self._stream:
                self.token = message.resume_token
                if message.HasField("event"):
                    self.events.append(message.event)
                self.ready.set()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            self.error = error
            self.ready.set()

    def names(self) -> list[str]:
        return [f"{event.action} {event.resource}" for event in self.events]


def test_changes_come_within_a_second_and_in_order(registry: Running) -> None:
    client = registry.client
    client.create_model("before")
    watcher = Watcher(client)
    start = time.monotonic()
    client.create_model("a")
    wait_until(lambda: len(watcher.events) == 1)
    assert time.monotonic() - start < 5
    version = client.create_version("a", source="s3://elsewhere/model")
    client.finalize_version(version.name)
    client.set_alias("a@champion", version.name, reason="first")
    wait_until(lambda: len(watcher.events) == 4)
    assert watcher.names() == [
        "CreateModel models/a",
        "CreateVersion models/a/versions/1",
        "FinalizeVersion models/a/versions/1",
        "SetAlias models/a/aliases/champion",
    ]
    sequences = [event.sequence for event in watcher.events]
    assert sequences == list(range(sequences[0], sequences[0] + 4))
    assert [event.actor for event in watcher.events] == ["ann"] * 4
    assert watcher.events[-1].previous_hash == watcher.events[-2].hash


def test_from_a_token_on_nothing_is_missed_and_nothing_comes_twice(registry: Running) -> None:
    client = registry.client
    stream = client.watch()
    token = next(stream).resume_token
    stream.close()  # type: ignore[attr-defined]
    for name in ("a", "b", "c"):
        client.create_model(name)
    seen = []
    for _ in range(3):
        part = client.watch(resume_token=token)
        next(part)
        message = next(part)
        seen.append(message.event.resource)
        token = message.resume_token
        part.close()  # type: ignore[attr-defined]
    assert seen == ["models/a", "models/b", "models/c"]


def test_one_model_or_some_kinds(registry: Running) -> None:
    client = registry.client
    client.create_model("a")
    of_model, of_kind = Watcher(client, model="a"), Watcher(client, kinds=["version"])
    client.create_model("b")
    client.create_version("b")
    client.create_version("a")
    wait_until(lambda: len(of_kind.events) == 2 and len(of_model.events) == 1)
    assert of_model.names() == ["CreateVersion models/a/versions/1"]
    assert of_kind.names() == ["CreateVersion models/b/versions/1", "CreateVersion models/a/versions/1"]
    # The token went past what was not told.
    assert of_kind.token == of_model.token


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("1.0123456789abcdef", ResumeTokenUnknown),
        ("99." + "0" * 16, ResumeTokenUnknown),
        ("x", InvalidResumeToken),
    ],
)
def test_tokens_of_another_history(registry: Running, token: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="token"):
        next(registry.client.watch(resume_token=token))


def test_over_a_kill_and_a_restart(tmp_path: Path) -> None:
    with program(tmp_path) as first, RegistryClient(first.target) as client:
        client.create_model("a")
        port = first.target.rpartition(":")[2]
        watcher = Watcher(client, reconnect_seconds=60.0)
        client.create_model("b")
        wait_until(lambda: len(watcher.events) == 1)
        first.kill()
        with program(tmp_path, PLUMBLINE_REGISTRY_PORT=port):
            for name in ("c", "d"):
                _until_reached(client, name)
            wait_until(lambda: len(watcher.events) == 3)
        assert watcher.names() == [f"CreateModel models/{name}" for name in "bcd"]


def _until_reached(client: RegistryClient, name: str) -> None:
    def created() -> bool:
        try:
            client.create_model(name, request_id=f"create-{name}")
        except Unavailable:
            return False
        return True

    wait_until(created)


def test_changes_of_another_process_on_the_same_database(any_database_url: str, tmp_path: Path) -> None:
    url = {"PLUMBLINE_REGISTRY_DATABASE_URL": any_database_url}
    with (
        program(tmp_path, **url) as one,
        program(tmp_path, **url) as two,
        RegistryClient(one.target) as first,
        RegistryClient(two.target) as second,
    ):
        watchers = [Watcher(first), Watcher(second)]
        for index in range(10):
            (first, second)[index % 2].create_model(f"m{index}")
        for watcher in watchers:
            wait_until(lambda watcher=watcher: len(watcher.events) == 10)  # type: ignore[misc]
            assert watcher.names() == [f"CreateModel models/m{index}" for index in range(10)]
        # What one process keeps in memory is current when the other has changed it.
        assert first.get_model("m3").description == ""
        model = second.get_model("m3")
        model.description = "new"
        second.update_model(model)
        assert first.get_model("m3").description == "new"


def test_a_server_that_stops_ends_its_streams_at_once(tmp_path: Path) -> None:
    with program(tmp_path) as running, grpc.insecure_channel(running.target) as channel:
        stream: Iterator[changes_pb2.WatchResponse] = ModelRegistryServiceStub(channel).Watch(
            changes_pb2.WatchRequest(), timeout=60
        )
        next(stream)
        start = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "resume token" in caught.value.details()
        code, log = running.end()
        assert (code, "stopped" in log) == (0, True), log
        # Well below the time that calls in flight are given.
        assert time.monotonic() - start < 8
