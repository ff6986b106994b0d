"""Models on this machine's disk, by digest, and which were served last."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from plumbline.serving.errors import ArtifactCorrupt
from serving import codec
from serving.domain import ModelRef, Release

Download = Callable[[Release, Path], None]


class ModelCache:
    """Files under `folder`: blobs/{sha256} and served/{model}@{alias}.json.

    Bytes are hashed each time they are read, so what is loaded is what the registry recorded.
    Methods block: use them on a thread.
    """

    #: Blobs kept beside those of the releases last served, for a quick way back.
    KEPT = 4

    def __init__(self, folder: Path) -> None:
        self._blobs, self._served = folder / "blobs", folder / "served"

    def read(self, release: Release, download: Download) -> str:
        """The model's text, from disk or downloaded. Raises ArtifactCorrupt when the bytes downloaded
        are not those of the release, and what `download` raises."""
        path = self._blobs / release.sha256
        whole = _read(path)
        if whole is None or _sha256(whole) != release.sha256:
            path.unlink(missing_ok=True)
            download(release, path)
            whole = path.read_bytes()
        actual = _sha256(whole)
        if actual != release.sha256:
            path.unlink(missing_ok=True)
            raise ArtifactCorrupt(
                f"{release.version}: {release.path} has sha256 {actual}, recorded is {release.sha256}; "
                "it is not loaded",
                metadata={"model": release.version, "expected": release.sha256, "actual": actual},
            )
        os.utime(path)
        return whole.decode()

    def remember(self, ref: ModelRef, release: Release) -> None:
        """Notes what a name is served by, and drops the oldest blobs nobody needs."""
        _write(self._served / f"{_file_name(ref)}.json", codec.release_json(release))
        self._prune()

    def last_served(self, ref: ModelRef) -> Release | None:
        """What a name was served by last, if that is known."""
        return _release(self._served / f"{_file_name(ref)}.json")

    def was_served(self, release: Release) -> bool:
        """Whether some name was served by exactly this release, signature included, when it was last
        served: it was checked then."""
        return release in self._notes()

    def _notes(self) -> list[Release]:
        found = (_release(note) for note in self._served.glob("*.json"))
        return [release for release in found if release is not None]

    def _prune(self) -> None:
        needed = {release.sha256 for release in self._notes()}
        spare = [path for path in self._blobs.iterdir() if path.name not in needed and path.name[0] != "."]
        spare.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in spare[self.KEPT :]:
            path.unlink(missing_ok=True)


def _release(note: Path) -> Release | None:
    whole = _read(note)
    if whole is None:
        return None
    try:
        return codec.release_from_json(whole.decode())
    except ValueError:
        return None  # damaged, so nothing is known; the next load writes it anew


def _file_name(ref: ModelRef) -> str:
    return f"{ref.model}@{ref.alias}" if ref.alias else f"{ref.model}+{ref.version}"


def _sha256(whole: bytes) -> str:
    return hashlib.sha256(whole).hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(scratch).replace(path)
