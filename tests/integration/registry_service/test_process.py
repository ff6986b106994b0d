"""The program as a process: killed in the middle of its work, started again, stopped as asked."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plumbline.errors import Unavailable
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import CLASSES
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.wire import translated
from tests.support import wait_until

ROOT = Path(__file__).resolve().parents[3]
CONTENT = os.urandom(256 * 1024) * 8


class Program:
    """One registry process on a free port."""

    def __init__(self, folder: Path, **variables: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PLUMBLINE_")}
        environment |= {
            "PLUMBLINE_REGISTRY_PORT": "0",
            "PLUMBLINE_REGISTRY_METRICS_PORT": "0",
            "PLUMBLINE_REGISTRY_HTTP_PORT": "0",
            "PLUMBLINE_REGISTRY_DATABASE_URL": f"sqlite:///{folder / 'registry.db'}",
            "PLUMBLINE_REGISTRY_ARTIFACTS_DIR": str(folder / "artifacts"),
            "PLUMBLINE_REGISTRY_LOG_FORMAT": "text",
            "PLUMBLINE_REGISTRY_BUSY_SECONDS": "2",
        } | variables
        self.process = subprocess.Popen(
            [sys.executable, "-m", "registry_service"],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def target(self) -> str:
        """Waits until the server listens."""
        wait_until(lambda: self._address() is not None or self.process.poll() is not None)
        address = self._address()
        assert address, "".join(self.log)
        return address

    def end(self) -> tuple[int, str]:
        """Waits for the end; the exit code and what was said."""
        code = self.process.wait(30)
        self._reader.join(30)
        return code, "".join(self.log)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.end()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _address(self) -> str | None:
        found = re.search(r"listens on (127\.0\.0\.1:\d+)", "".join(self.log))
        return found.group(1) if found else None

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(iter(self.process.stderr.readline, ""))


@contextmanager
def program(folder: Path, **variables: str) -> Iterator[Program]:
    running = Program(folder, **variables)
    try:
        yield running
    finally:
        running.kill()


def test_killed_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    """Nothing is half-registered, what came is kept, and the upload goes on after the restart."""
    half_sent, killed = threading.Event(), threading.Event()
    file = res.ModelFile(
        path="model.txt", sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT)
    )
    incoming = tmp_path / "artifacts" / "incoming"

    def parts(version: str) -> Iterator[pb.UploadFileRequest]:
        yield pb.UploadFileRequest(header=pb.UploadFileHeader(version=version, file=file))
        yield pb.UploadFileRequest(chunk=CONTENT[: len(CONTENT) // 2])
        half_sent.set()
        killed.wait(30)

    with program(tmp_path) as first, RegistryClient(first.target) as client:
        client.create_model("m")
        version = client.create_version("m")
        call = client._stub.UploadFile.future(parts(version.name), timeout=30)
        assert half_sent.wait(30)
        wait_until(lambda: any(path.stat().st_size for path in incoming.iterdir()), what="half of the bytes")
        first.kill()
        killed.set()
        with pytest.raises(Unavailable), translated(CLASSES):
            call.result(timeout=30)
    assert len(list(incoming.iterdir())) == 1

    with program(tmp_path) as second, RegistryClient(second.target) as client:
        assert client.get_upload(version.name, file).received_bytes == len(CONTENT) // 2
        assert client.get_version("m/1") == version
        assert list((tmp_path / "artifacts" / "sha256").rglob("*.*")) == []
        source, target = tmp_path / "model.txt", tmp_path / "got.txt"
        source.write_bytes(CONTENT)
        assert client.upload_file(version.name, source).sha256 == file.sha256
        wait_until(lambda: not list(incoming.iterdir()), what="no staged files")
        client.finalize_version(version.name)
        client.download_file(version.name, "model.txt", target)
        assert target.read_bytes() == CONTENT
        second.process.send_signal(signal.SIGTERM)
        code, log = second.end()
        assert (code, "stopped" in log) == (0, True), log
