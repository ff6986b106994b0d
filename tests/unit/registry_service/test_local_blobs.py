"""What is particular to the folder of blobs; the rest is in the contract of all stores."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from plumbline.registry.errors import BlobCorrupt
from registry_service.domain import ModelFile
from registry_service.stores.local import LocalBlobs

FILE = ModelFile("model.txt", hashlib.sha256(b"abcdef").hexdigest(), 6, "text/plain")


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    store = LocalBlobs(tmp_path / "artifacts")
    store.prepare()
    source = tmp_path / "source"
    source.write_bytes(b"abcdef")
    store.publish(FILE, source)
    return store


def _files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]


def test_a_blob_is_read_only_and_of_this_user_alone(blobs: LocalBlobs, tmp_path: Path) -> None:
    (path,) = _files(tmp_path)
    digest = FILE.sha256
    assert path == tmp_path / "artifacts" / "sha256" / digest[:2] / digest[2:4] / digest
    assert path.stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "artifacts" / "sha256").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "artifacts" / "publishing").stat().st_mode & 0o777 == 0o700


def test_a_link_in_the_place_of_a_blob_is_not_followed(blobs: LocalBlobs, tmp_path: Path) -> None:
    (path,) = _files(tmp_path)
    path.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"abcdef")
    path.symlink_to(elsewhere)
    with pytest.raises(BlobCorrupt, match="unreadable"):
        blobs.open(FILE)
    with pytest.raises(OSError, match="symbolic links"):
        blobs.measure(FILE.sha256)


def test_without_hard_links_the_bytes_are_copied(
    blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    blobs.remove(FILE.sha256)
    source = tmp_path / "other"
    source.write_bytes(b"abcdef")
    blobs.publish(FILE, source)
    (path,) = _files(tmp_path)
    assert path.read_bytes() == b"abcdef"
    assert path.stat().st_ino != source.stat().st_ino


def test_what_a_killed_process_left_while_publishing_goes_at_a_later_start(
    blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "artifacts" / "publishing" / ("0" * 32)
    left.write_bytes(b"half")
    blobs.prepare()
    assert left.exists(), "it may be of another process, just now"
    later = left.stat().st_ctime + 3700
    monkeypatch.setattr("time.time", lambda: later)
    blobs.prepare()
    assert not left.exists()
    assert blobs.holds(FILE)


def test_strangers_in_the_folder_are_no_blobs(blobs: LocalBlobs, tmp_path: Path) -> None:
    top = tmp_path / "artifacts" / "sha256"
    (top / "README").write_text("x")
    (top / "lost+found").mkdir()
    (top / FILE.sha256[:2] / FILE.sha256[2:4] / "note").write_text("x")
    (top / "00" / "00").mkdir(parents=True, exist_ok=True)
    (top / "00" / "00" / FILE.sha256).write_text("x")
    assert [blob.sha256 for blob in blobs.stored()] == [FILE.sha256]
