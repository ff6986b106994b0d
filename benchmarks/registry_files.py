"""A large file up and down, against a plain copy with its sha256."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import QUICK, Row, Samples, in_turn
from benchmarks.registry_transfer import FILE
from benchmarks.registry_world import our_server
from plumbline.registry.client import RegistryClient

_MIB = 1024**2
_SIZE_MIB, _ROUNDS = (128, 1) if QUICK else (1024, 5)
_CASE = f"a file of {_SIZE_MIB:,} MiB"


def files(folder: Path) -> list[Row]:
    """Each round takes other bytes, so that nothing is there already."""
    folder.mkdir(parents=True)
    samples, source = Samples(), folder / "source.bin"
    _write(source)
    with our_server(folder / "registry", f"sqlite:///{folder / 'registry.db'}") as ours:
        address = ours.grpc.address
        with RegistryClient(address, actor="bench") as client:
            client.create_model("large")
            round_trip = _RoundTrip(samples, address, client, source, ours.artifacts)
            in_turn(_ROUNDS, {"upload and download": round_trip.run})
            samples.add(_CASE, "peak MiB", ours.grpc.peak_mib())
    return [
        samples.ratio(
            _CASE, "copy s", f"{what} s", metric=f"speed, {what} / plain copy", better="higher", goal=0.6
        )
        for what in ("upload", "download")
    ] + [
        samples.row(_CASE, "peak MiB", metric="server's peak memory, MiB", better="lower", goal=200),
        *(samples.row(_CASE, f"{what} s", better="lower") for what in ("copy", "upload", "download")),
    ]


class _RoundTrip:
    def __init__(
        self, samples: Samples, address: str, client: RegistryClient, source: Path, artifacts: Path
    ) -> None:
        self._samples, self._address, self._client = samples, address, client
        self._source, self._artifacts = source, artifacts

    def run(self) -> None:
        """One version with the file, taken up, finalized and taken down; then a plain copy of it."""
        _alter(self._source)
        back, copied = self._source.with_name("back.bin"), self._source.with_name("copied.bin")
        version = self._client.create_version("large").name
        self._time("upload", self._address, version, str(self._source))
        self._client.finalize_version(version)
        self._time("download", self._address, version, str(back))
        self._time("copy", str(self._source), str(copied))
        if _tail(back) != _tail(self._source) or back.stat().st_size != self._source.stat().st_size:
            raise SystemExit(f"{version}/{FILE} came back otherwise than it went")
        # What was measured is not needed again, and rounds would fill the disk.
        for file in (back, copied, *self._artifacts.rglob("*")):
            if file.is_file() and file.stat().st_size >= _MIB:
                file.unlink()

    def _time(self, what: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "benchmarks.registry_transfer", what, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise SystemExit(f"the {what} failed:\n{done.stderr[-2000:]}")
        self._samples.add(_CASE, f"{what} s", float(done.stdout))


def _write(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(_SIZE_MIB):
            file.write(os.urandom(_MIB))


def _alter(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-16, os.SEEK_END)
        file.write(os.urandom(16))


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-_MIB, os.SEEK_END)
        return file.read()
