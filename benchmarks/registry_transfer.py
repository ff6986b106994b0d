"""One transfer, timed, as a process of its own: prints the seconds it took.

    python -m benchmarks.registry_transfer copy SOURCE TARGET
    python -m benchmarks.registry_transfer upload ADDRESS VERSION SOURCE
    python -m benchmarks.registry_transfer download ADDRESS VERSION TARGET

copy: what a person would write to keep a file together with its sha256, read once, nothing made durable.
upload and download: our client as it is, with all it verifies and makes durable.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

from plumbline.registry.client import RegistryClient

#: The path of the file within its version.
FILE = "weights.bin"

_PIECE = 1024 * 1024


def copy(source: Path, target: Path) -> float:
    """Seconds."""
    start, sha256 = time.perf_counter(), hashlib.sha256()
    with source.open("rb", buffering=0) as reading, target.open("wb", buffering=0) as writing:
        while piece := reading.read(_PIECE):
            sha256.update(piece)
            writing.write(piece)
    sha256.hexdigest()
    return time.perf_counter() - start


def upload(address: str, version: str, source: Path) -> float:
    """Seconds."""
    with RegistryClient(address, actor="bench") as client:
        client.get_version(version)
        start = time.perf_counter()
        client.upload_file(version, source, path=FILE)
        return time.perf_counter() - start


def download(address: str, version: str, target: Path) -> float:
    """Seconds."""
    with RegistryClient(address, actor="bench") as client:
        client.get_version(version)
        start = time.perf_counter()
        client.download_file(version, FILE, target)
        return time.perf_counter() - start


def main(what: str, *arguments: str) -> None:
    """Prints the seconds."""
    if what == "copy":
        print(copy(Path(arguments[0]), Path(arguments[1])))
    else:
        transfer = upload if what == "upload" else download
        print(transfer(arguments[0], arguments[1], Path(arguments[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
