"""Uploads over the wire: broken, cut, killed, doubled; they go on, or leave nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from plumbline.registry import errors
from plumbline.registry.chunks import MAX_CHUNK_BYTES
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import CLASSES
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.wire import translated
from tests.integration.registry_service.conftest import Running
from tests.integration.registry_service.test_process import program
from tests.support import wait_until

MIB = 1024 * 1024
CONTENT = os.urandom(24 * MIB)
FILE = res.ModelFile(
    path="model.bin", sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT), media_type="x/y"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def draft(registry: Running) -> str:
    registry.client.create_model("m")
    return registry.client.create_version("m").name


def _parts(
    version: str, file: res.ModelFile, content: bytes, offset: int = 0
) -> Iterator[pb.UploadFileRequest]:
    yield pb.UploadFileRequest(header=pb.UploadFileHeader(version=version, file=file, offset=offset))
    for start in range(0, len(content), MAX_CHUNK_BYTES):
        yield pb.UploadFileRequest(chunk=content[start : start + MAX_CHUNK_BYTES])


def _send(
    client: RegistryClient, version: str, content: bytes, offset: int = 0, file: res.ModelFile = FILE
) -> res.ModelFile:
    with translated(CLASSES):
        return client._stub.UploadFile(_parts(version, file, content, offset), timeout=30)


def _break_off(client: RegistryClient, version: str, content: bytes, file: res.ModelFile = FILE) -> None:
    """Sends some bytes and cancels the call once they were taken."""
    sent, ended = threading.Event(), threading.Event()

    def parts() -> Iterator[pb.UploadFileRequest]:
        yield from _parts(version, file, content)
        sent.set()
        ended.wait(30)

    call = client._stub.UploadFile.future(parts(), timeout=30)
    assert sent.wait(30)
    call.cancel()
    ended.set()
    with pytest.raises(grpc.FutureCancelledError):
        call.result(timeout=30)


def _staged(registry: Running) -> list[Path]:
    return list((registry.artifacts / "incoming").iterdir())


def test_a_broken_stream_is_gone_on_with(registry: Running, draft: str, tmp_path: Path) -> None:
    client, half = registry.client, 12 * MIB
    assert client.get_upload(draft, FILE) == pb.UploadStatus()
    _break_off(client, draft, CONTENT[:half])
    wait_until(lambda: client.get_upload(draft, FILE).received_bytes > 0, what="the end of the broken call")
    received = client.get_upload(draft, FILE).received_bytes
    assert received <= half
    for offset in (received - 1, received + 1):
        with pytest.raises(errors.UploadOffsetMismatch) as caught:
            _send(client, draft, CONTENT[offset:], offset)
        assert caught.value.metadata == {
            "path": "model.bin",
            "expected": str(received),
            "actual": str(offset),
        }
    assert _send(client, draft, CONTENT[received:], received) == FILE
    assert client.get_upload(draft, FILE) == pb.UploadStatus(received_bytes=len(CONTENT), complete=True)
    client.finalize_version(draft)
    client.download_file(draft, "model.bin", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT
    wait_until(lambda: not _staged(registry), what="no staged files")


def test_too_few_bytes_may_be_followed_by_the_rest(registry: Running, draft: str) -> None:
    with pytest.raises(errors.UploadSizeMismatch) as caught:
        _send(registry.client, draft, CONTENT[:100])
    assert caught.value.metadata == {"path": "model.bin", "expected": str(len(CONTENT)), "actual": "100"}
    wait_until(lambda: registry.client.get_upload(draft, FILE).received_bytes == 100)
    assert _send(registry.client, draft, CONTENT[100:], 100) == FILE


def test_other_bytes_behind_the_break_leave_nothing(registry: Running, draft: str) -> None:
    file = res.ModelFile(path="x", sha256=hashlib.sha256(b"abcdef").hexdigest(), size_bytes=6)
    with pytest.raises(errors.UploadSizeMismatch):
        _send(registry.client, draft, b"abc", file=file)
    wait_until(lambda: registry.client.get_upload(draft, file).received_bytes == 3)
    with pytest.raises(errors.UploadDigestMismatch):
        _send(registry.client, draft, b"xyz", 3, file)
    wait_until(lambda: not _staged(registry), what="no staged files")
    assert registry.client.get_upload(draft, file) == pb.UploadStatus()
    assert not [path for path in (registry.artifacts / "sha256").rglob("*") if path.is_file()]
    assert registry.client.get_version(draft).files == []


def test_offset_zero_begins_anew(registry: Running, draft: str) -> None:
    with pytest.raises(errors.UploadSizeMismatch):
        _send(registry.client, draft, CONTENT[:100])
    wait_until(lambda: registry.client.get_upload(draft, FILE).received_bytes == 100)
    assert _send(registry.client, draft, CONTENT) == FILE


def test_what_the_version_has_is_answered_before_any_byte(
    registry: Running, draft: str, source: Path
) -> None:
    registry.client.upload_file(draft, source, media_type="x/y")
    never = threading.Event()

    def parts() -> Iterator[pb.UploadFileRequest]:
        yield pb.UploadFileRequest(header=pb.UploadFileHeader(version=draft, file=FILE))
        never.wait(20)

    assert registry.client._stub.UploadFile(parts(), timeout=15) == FILE
    never.set()
    # Not so for another path: who names a digest does not thereby have the bytes.
    other = res.ModelFile(path="other.bin", sha256=FILE.sha256, size_bytes=FILE.size_bytes)
    with pytest.raises(errors.UploadSizeMismatch):
        _send(registry.client, draft, b"", file=other)


def test_a_size_that_is_not_that_of_the_digest(registry: Running, draft: str, source: Path) -> None:
    registry.client.upload_file(draft, source)
    wrong = res.ModelFile(path="model.bin", sha256=FILE.sha256, size_bytes=5)
    with pytest.raises(errors.UploadSizeMismatch):
        _send(registry.client, draft, b"abcde", file=wrong)


@pytest.mark.parametrize("offset", [-1, len(CONTENT) + 1])
def test_an_offset_outside_of_the_file(registry: Running, draft: str, offset: int) -> None:
    with pytest.raises(errors.InvalidField) as caught:
        _send(registry.client, draft, b"", offset)
    assert caught.value.metadata == {"field": "header.offset"}


def test_fields_of_get_upload_are_named(registry: Running, draft: str) -> None:
    with pytest.raises(errors.InvalidField) as caught:
        registry.client.get_upload(draft, res.ModelFile(path="../x", sha256="y", size_bytes=-1))
    assert [violation.field for violation in caught.value.violations] == [
        "file.path",
        "file.sha256",
        "file.size_bytes",
    ]


def test_many_callers_upload_the_same_at_once(
    registry: Running, draft: str, source: Path, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        uploads = [pool.submit(registry.client.upload_file, draft, source) for _ in range(4)]
        assert {upload.result(60).sha256 for upload in uploads} == {FILE.sha256}
    assert len(registry.client.get_version(draft).files) == 1
    registry.client.finalize_version(draft)
    registry.client.download_file(draft, "model.bin", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT
    wait_until(lambda: not _staged(registry), what="no staged files")


class Wire:
    """A connection through which bytes pass until it is cut; later ones pass freely."""

    def __init__(self, target: str, cut_after: int, then: Callable[[], None] = lambda: None) -> None:
        host, _, port = target.partition(":")
        self._server, self._left, self._then = (host, int(port)), cut_after, then
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent, self.cut = 0, False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self._hang_up()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server, timeout=30)
            except OSError:
                # Closed; or the server is down, which the caller finds out when nothing is answered.
                if self._listener.fileno() < 0:
                    return
                client.close()
                continue
            with self._lock:
                self._sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, reads: socket.socket, writes: socket.socket, counted: bool) -> None:
        try:
            while data := reads.recv(65536):
                writes.sendall(data)
                if counted and self._count(len(data)):
                    self._hang_up()
                    self._then()
        except OSError:
            pass
        finally:
            for end in (reads, writes):
                end.close()

    def _count(self, size: int) -> bool:
        with self._lock:
            self.sent += size
            if self.cut or self.sent < self._left:
                return False
            self.cut = True
            return True

    def _hang_up(self) -> None:
        with self._lock:
            ends, self._sockets = self._sockets, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                end.close()


@contextmanager
def wire(target: str, cut_after: int, then: Callable[[], None] = lambda: None) -> Iterator[Wire]:
    found = Wire(target, cut_after, then)
    try:
        yield found
    finally:
        found.close()


def test_the_client_goes_on_by_itself_after_a_cut(
    registry: Running, draft: str, source: Path, tmp_path: Path
) -> None:
    target = registry.client.target
    with wire(target, 16 * MIB) as cut, RegistryClient(cut.target) as client:
        assert client.upload_file(draft, source).sha256 == FILE.sha256
        assert cut.cut
        assert cut.sent < 1.5 * len(CONTENT), "it began anew"
    registry.client.finalize_version(draft)
    registry.client.download_file(draft, "model.bin", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_client_goes_on_after_a_restart_of_the_server(
    tmp_path: Path, source: Path, how: signal.Signals
) -> None:
    port = str(_free_port())
    variables = {"PLUMBLINE_REGISTRY_PORT": port, "PLUMBLINE_REGISTRY_GRACE_SECONDS": "0"}
    with program(tmp_path, **variables) as first:
        ended = threading.Event()

        def stop() -> None:
            first.process.send_signal(how)
            first.end()
            ended.set()

        with wire(first.target, 16 * MIB, stop) as cut, RegistryClient(cut.target) as client:
            client.create_model("m")
            draft = client.create_version("m").name
            with ThreadPoolExecutor(1) as pool:
                upload = pool.submit(client.upload_file, draft, source)
                assert ended.wait(60)
                with program(tmp_path, **variables) as second:
                    assert second.target
                    assert upload.result(60).sha256 == FILE.sha256
                    assert cut.sent < 1.5 * len(CONTENT), "it began anew"
                    client.finalize_version(draft)
                    client.download_file(draft, "model.bin", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == CONTENT


def test_a_new_call_goes_on_where_a_client_that_was_killed_left_off(
    registry: Running, draft: str, source: Path
) -> None:
    with RegistryClient(registry.client.target) as killed:
        _break_off(killed, draft, CONTENT[: 20 * MIB])
    wait_until(lambda: registry.client.get_upload(draft, FILE).received_bytes > 0)
    received = registry.client.get_upload(draft, FILE).received_bytes
    with wire(registry.client.target, 10**9) as free, RegistryClient(free.target) as client:
        client.upload_file(draft, source)
        assert free.sent < len(CONTENT) - received + 2 * MIB


def test_a_client_gives_up_after_some_tries(tmp_path: Path, source: Path) -> None:
    with program(tmp_path) as running, RegistryClient(running.target) as client:
        client.create_model("m")
        draft = client.create_version("m").name
        running.kill()
        with pytest.raises(errors.Unavailable):
            client.upload_file(draft, source)
