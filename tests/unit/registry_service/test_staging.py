"""Uploads under way: kept over breaks, apart from one another, gone after a week."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from pathlib import Path

import pytest

from plumbline.registry.errors import UploadDigestMismatch, UploadOffsetMismatch, UploadSizeMismatch
from registry_service.artifacts import Upload
from registry_service.domain import ModelFile
from registry_service.stores.staging import SILENT_SECONDS, LocalStaged, LocalStaging

CONTENT = os.urandom(3_000_000)


class Clock:
    """Stands still until moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def staging(tmp_path: Path, clock: Clock) -> LocalStaging:
    return _staging(tmp_path, clock)


def _staging(folder: Path, clock: Clock) -> LocalStaging:
    staging = LocalStaging(folder / "incoming", clock)
    staging.prepare()
    return staging


def _upload(content: bytes = CONTENT, *, version: int = 7, path: str = "model.txt") -> Upload:
    return Upload(version, ModelFile(path, hashlib.sha256(content).hexdigest(), len(content), "text/plain"))


def _resume(staging: LocalStaging, upload: Upload, offset: int) -> LocalStaged:
    staged = staging.resume(upload, offset)
    while staged.reread():
        pass
    return staged


def _files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "incoming").iterdir())


def test_an_upload_goes_on_where_it_was_left(staging: LocalStaging, tmp_path: Path) -> None:
    upload, half = _upload(), 1_500_000
    first = staging.begin(upload)
    first.write([CONTENT[:1_000_000], CONTENT[1_000_000:half]])
    first.close()
    assert staging.received(upload) == half
    second = _resume(staging, upload, half)
    second.write([memoryview(CONTENT)[half:]])
    second.sync()
    second.finish()
    assert second.path.read_bytes() == CONTENT
    second.discard()
    assert _files(tmp_path) == []
    assert staging.received(upload) == 0


def test_another_process_goes_on_with_what_a_killed_one_left(tmp_path: Path, clock: Clock) -> None:
    upload = _upload()
    first = _staging(tmp_path, clock).begin(upload)
    first.write([CONTENT[:10]])
    other = _staging(tmp_path, clock)
    # While that process lives, the bytes are its own, however long nothing comes.
    clock.now += 1000
    assert other.received(upload) == 0
    with pytest.raises(UploadOffsetMismatch):
        other.resume(upload, 10)
    # Its end: the system takes its locks.
    os.close(first._descriptor)
    assert other.received(upload) == 10
    _resume(other, upload, 10).discard()


def test_a_call_that_went_silent_gives_way_and_its_late_bytes_are_refused(
    staging: LocalStaging, clock: Clock
) -> None:
    upload = _upload()
    silent = staging.begin(upload)
    silent.write([CONTENT[:10]])
    assert staging.received(upload) == 0
    with pytest.raises(UploadOffsetMismatch):
        staging.resume(upload, 10)
    clock.now += SILENT_SECONDS
    assert staging.received(upload) == 10
    staged = _resume(staging, upload, 10)
    with pytest.raises(UploadOffsetMismatch):
        silent.write([b"late"])
    silent.discard()
    staged.write([CONTENT[10:]])
    staged.finish()
    assert staged.path.read_bytes() == CONTENT
    staged.discard()


def test_two_calls_that_begin_at_once_do_not_meet(staging: LocalStaging, tmp_path: Path) -> None:
    upload = _upload(b"abcdef")
    one, other = staging.begin(upload), staging.begin(upload)
    one.write([b"abc"])
    other.write([b"xyzxyz"])
    one.write([b"def"])
    one.finish()
    with pytest.raises(UploadDigestMismatch):
        other.finish()
    other.discard()
    assert one.path.read_bytes() == b"abcdef"
    one.discard()
    assert _files(tmp_path) == []


def test_the_offset_must_be_what_is_there(staging: LocalStaging) -> None:
    upload = _upload()
    staged = staging.begin(upload)
    staged.write([CONTENT[:100]])
    staged.close()
    for offset in (1, 99, 101, len(CONTENT)):
        with pytest.raises(UploadOffsetMismatch) as caught:
            staging.resume(upload, offset)
        assert caught.value.metadata == {"path": "model.txt", "expected": "100", "actual": str(offset)}
    assert staging.received(upload) == 100


@pytest.mark.parametrize(
    "other",
    [
        _upload(version=8),
        _upload(path="other.txt"),
        Upload(7, ModelFile("model.txt", "0" * 64, len(CONTENT), "")),
    ],
)
def test_other_uploads_do_not_see_it(staging: LocalStaging, other: Upload) -> None:
    staged = staging.begin(_upload())
    staged.write([b"abc"])
    staged.close()
    assert staging.received(other) == 0


def test_beginning_anew_drops_what_was_left(staging: LocalStaging, tmp_path: Path) -> None:
    left = staging.begin(_upload())
    left.write([b"abc"])
    left.close()
    staging.begin(_upload()).close()
    assert [path.stat().st_size for path in _files(tmp_path)] == [0]


def test_fewer_more_and_other_bytes(staging: LocalStaging) -> None:
    short = staging.begin(_upload(b"abcdef"))
    short.write([b"abc"])
    with pytest.raises(UploadSizeMismatch) as caught:
        short.finish()
    assert caught.value.metadata == {"path": "model.txt", "expected": "6", "actual": "3"}
    longer = staging.begin(_upload(b"abc"))
    with pytest.raises(UploadSizeMismatch):
        longer.write([b"abcdef"])
    other = staging.begin(_upload(b"abc"))
    other.write([b"abd"])
    with pytest.raises(UploadDigestMismatch) as wrong:
        other.finish()
    assert wrong.value.metadata["expected"] == hashlib.sha256(b"abc").hexdigest()
    assert wrong.value.metadata["actual"] == hashlib.sha256(b"abd").hexdigest()
    for staged in (short, longer, other):
        staged.discard()
        staged.discard()


def test_damaged_bytes_of_an_earlier_call_are_found_out(staging: LocalStaging, tmp_path: Path) -> None:
    upload = _upload()
    first = staging.begin(upload)
    first.write([CONTENT[:100]])
    first.close()
    (path,) = _files(tmp_path)
    path.write_bytes(b"x" + CONTENT[1:100])
    second = _resume(staging, upload, 100)
    second.write([CONTENT[100:]])
    with pytest.raises(UploadDigestMismatch):
        second.finish()
    second.discard()


def test_a_whole_file_is_gone_on_with_though_it_is_read_only(staging: LocalStaging) -> None:
    """It may be one with the blob already, when the database failed after that."""
    upload = _upload(b"abc")
    first = staging.begin(upload)
    first.write([b"abc"])
    first.finish()
    first.path.chmod(0o400)
    first.close()
    second = _resume(staging, upload, 3)
    with pytest.raises(UploadSizeMismatch):
        second.write([b"d"])
    second.finish()
    second.discard()


def test_what_is_older_than_a_week_goes_unless_it_is_being_written(
    staging: LocalStaging, tmp_path: Path
) -> None:
    old, fresh, running = (_upload(version=number) for number in range(3))
    for upload in (old, fresh):
        staging.begin(upload).close()
    living = staging.begin(running)
    week_ago = time.time() - 7 * 24 * 3600 - 60
    for path in _files(tmp_path):
        os.utime(path, (week_ago, week_ago))
    (path,) = [path for path in _files(tmp_path) if staging._free(fresh)[0][0] == path]
    os.utime(path)
    assert staging.expire(dry_run=True) == 1
    assert len(_files(tmp_path)) == 3
    assert staging.expire() == 1
    assert len(_files(tmp_path)) == 2
    assert living.path.exists()
    living.close()


def test_a_file_that_another_process_has_locked_is_left_alone(staging: LocalStaging, tmp_path: Path) -> None:
    upload = _upload()
    staged = staging.begin(upload)
    staged.write([b"abc"])
    staged.close()
    (path,) = _files(tmp_path)
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        staging.begin(upload).discard()
        assert path.exists()
        assert staging.received(upload) == 0
    assert staging.received(upload) == 3


def test_names_tell_nothing_of_what_is_uploaded(staging: LocalStaging, tmp_path: Path) -> None:
    staging.begin(_upload(path="secret/name.txt")).close()
    (path,) = _files(tmp_path)
    key, attempt, end = path.name.split(".")
    assert (len(key), len(attempt), end) == (64, 32, "part")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
