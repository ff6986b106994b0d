"""The files of versions, for MLflow's clients to list and download. What is asked for is looked up among the
recorded paths; no path from outside becomes a path of the machine, and every byte is verified on its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from plumbline.errors import NotFound
from registry_service import versions
from registry_service.calls import Calls
from registry_service.checks import check_active
from registry_service.domain import ModelFile, ModelVersion, VersionRef
from registry_service.mlflow_api import codec, places
from registry_service.ports import Transaction
from registry_service.transfers import Transfers


class ArtifactFiles:
    """Listings and downloads of READY versions."""

    def __init__(self, calls: Calls, transfers: Transfers) -> None:
        self._calls, self._transfers = calls, transfers

    async def listing(self, path: str) -> bytes:
        """What is directly in a folder; a file alone when it is one. Raises NotFound for what is no place of
        a version, and as `versions.find_file`."""
        ref, below = _place(path)
        version = await self._calls.read(lambda tx: _ready(tx, ref))
        return codec.encode({"files": entries(version.files, below)})

    async def send(self, path: str, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """The bytes of a file. Raises as `listing`, and BlobCorrupt."""
        ref, below = _place(path)
        file = await self._calls.read(lambda tx: _find(tx, ref, below))
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(file.size_bytes).encode()),
            (
                b"content-disposition",
                f"attachment; filename*=UTF-8''{quote(below.rpartition('/')[2])}".encode(),
            ),
            (b"x-content-type-options", b"nosniff"),
            (b"etag", f'"{file.sha256}"'.encode()),
        ]
        started = False
        async for chunk in self._transfers.send(file):
            if not started:
                # Only now: what cannot be opened is an error with a status of its own.
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                started = True
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not started:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def entries(files: tuple[ModelFile, ...], folder: str) -> list[codec.Json]:
    """What is directly in a folder of these files ("" for the top), by name; a file asked for is alone."""
    below = folder.strip("/")
    found: dict[str, codec.Json] = {}
    for file in files:
        if file.path == below:
            name = file.path.rpartition("/")[2]
            return [{"path": name, "is_dir": False, "file_size": file.size_bytes}]
        if below and not file.path.startswith(f"{below}/"):
            continue
        name, slash, _ = file.path[len(below) :].lstrip("/").partition("/")
        found.setdefault(
            name,
            {"path": name, "is_dir": True}
            if slash
            else {"path": name, "is_dir": False, "file_size": file.size_bytes},
        )
    return [found[name] for name in sorted(found)]


def _place(path: str) -> tuple[VersionRef, str]:
    place = places.parse(path)
    if place is None:
        shown = path if len(path) <= 200 else f"{path[:200]}…"
        raise NotFound(f"there are no files at {shown!r}; a version's are at models/{{name}}/{{number}}")
    return place


def _ready(transaction: Transaction, ref: VersionRef) -> ModelVersion:
    check_active(transaction.models.get(ref.model))
    return versions.get_ready(transaction, ref)


def _find(transaction: Transaction, ref: VersionRef, path: str) -> ModelFile:
    check_active(transaction.models.get(ref.model))
    return versions.find_file(transaction, ref, path)
