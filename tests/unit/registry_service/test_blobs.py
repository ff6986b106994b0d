from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from plumbline.registry.errors import BlobCorrupt, UploadDigestMismatch, UploadSizeMismatch
from registry_service.blobs import CHUNK_BYTES, LocalBlobs
from registry_service.domain import ModelFile
from registry_service.ports import BlobStore


def _file(content: bytes, *, size: int | None = None) -> ModelFile:
    digest = hashlib.sha256(content).hexdigest()
    return ModelFile("model.txt", digest, len(content) if size is None else size, "text/plain")


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    store = LocalBlobs(tmp_path)
    store.prepare()
    return store


def _put(blobs: BlobStore, content: bytes) -> ModelFile:
    file = _file(content)
    incoming = blobs.receive(file)
    for start in range(0, len(content), 100_000):
        incoming.write(content[start : start + 100_000])
    incoming.keep()
    incoming.discard()
    return file


def _get(blobs: BlobStore, file: ModelFile) -> bytes:
    outgoing = blobs.open(file)
    try:
        return b"".join(iter(outgoing.read, b""))
    finally:
        outgoing.close()


def _stored(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_bytes_come_back(blobs: LocalBlobs, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    file = _put(blobs, content)
    assert _get(blobs, file) == content
    (path,) = _stored(tmp_path)
    assert path == tmp_path / "sha256" / file.sha256[:2] / file.sha256[2:4] / file.sha256
    assert path.stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "incoming").stat().st_mode & 0o777 == 0o700


def test_fewer_more_and_other_bytes_leave_nothing(blobs: LocalBlobs, tmp_path: Path) -> None:
    truncated = blobs.receive(_file(b"abcdef"))
    truncated.write(b"abc")
    with pytest.raises(UploadSizeMismatch) as short:
        truncated.keep()
    assert short.value.metadata == {"path": "model.txt", "expected": "6", "actual": "3"}
    longer = blobs.receive(_file(b"abc"))
    with pytest.raises(UploadSizeMismatch):
        longer.write(b"abcdef")
    other = blobs.receive(_file(b"abc"))
    other.write(b"abd")
    with pytest.raises(UploadDigestMismatch) as wrong:
        other.keep()
    assert wrong.value.metadata["expected"] == _file(b"abc").sha256
    assert wrong.value.metadata["actual"] == _file(b"abd").sha256
    for incoming in (truncated, longer, other):
        incoming.discard()
        incoming.discard()
    assert _stored(tmp_path) == []


def test_nobody_sees_bytes_before_they_are_kept(blobs: LocalBlobs) -> None:
    file = _file(b"abc")
    incoming = blobs.receive(file)
    incoming.write(b"abc")
    with pytest.raises(BlobCorrupt):
        blobs.open(file)
    incoming.keep()
    incoming.discard()
    assert _get(blobs, file) == b"abc"


@pytest.mark.parametrize("where", [0, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
def test_altered_bytes_never_come_out_whole(blobs: LocalBlobs, tmp_path: Path, where: int) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 10)
    file = _put(blobs, content)
    _alter(_stored(tmp_path)[0], where)
    outgoing, got = blobs.open(file), list[bytes]()
    with pytest.raises(BlobCorrupt) as caught:
        got.extend(iter(outgoing.read, b""))
    outgoing.close()
    assert sum(map(len, got)) <= 2 * CHUNK_BYTES
    assert caught.value.metadata["sha256"] == file.sha256
    assert caught.value.metadata["actual"] != file.sha256


def test_cut_missing_and_linked_blobs_are_told_at_once(blobs: LocalBlobs, tmp_path: Path) -> None:
    file = _put(blobs, b"abcdef")
    (path,) = _stored(tmp_path)
    path.chmod(0o600)
    path.write_bytes(b"abc")
    with pytest.raises(BlobCorrupt, match="3 bytes instead of 6"):
        blobs.open(file)
    path.unlink()
    with pytest.raises(BlobCorrupt, match="unreadable"):
        blobs.open(file)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.write_bytes(b"abcdef")
    path.symlink_to(elsewhere)
    with pytest.raises(BlobCorrupt, match="unreadable"):
        blobs.open(file)


def test_uploading_again_heals_a_damaged_blob(blobs: LocalBlobs, tmp_path: Path) -> None:
    file = _put(blobs, b"abcdef")
    _alter(_stored(tmp_path)[0], 2)
    _put(blobs, b"abcdef")
    assert _get(blobs, file) == b"abcdef"


def test_what_a_crash_left_is_removed_and_what_lives_is_kept(blobs: LocalBlobs, tmp_path: Path) -> None:
    left = tmp_path / "incoming" / "crashed.part"
    left.write_bytes(b"half")
    living = blobs.receive(_file(b"abc"))
    living.write(b"abc")
    again = LocalBlobs(tmp_path)
    again.prepare()
    assert not left.exists()
    living.keep()
    living.discard()
    assert _get(again, _file(b"abc")) == b"abc"


def test_a_file_locked_by_another_is_not_stale(blobs: LocalBlobs, tmp_path: Path) -> None:
    path = tmp_path / "incoming" / "other.part"
    with path.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        blobs.prepare()
        assert path.exists()
    blobs.prepare()
    assert not path.exists()


def _alter(path: Path, where: int) -> None:
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
