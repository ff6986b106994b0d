"""One contract for every store of artifact bytes: a local folder, and S3 as moto's server speaks it."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from plumbline.registry.errors import BlobCorrupt, StorageUnavailable
from registry_service.domain import ModelFile
from registry_service.ports import BlobStore
from registry_service.stores.local import LocalBlobs
from registry_service.stores.s3 import S3Blobs
from registry_service.stores.verified import CHUNK_BYTES

MIB = 1024 * 1024


@dataclass(frozen=True)
class Bench:
    """A store, and a way to its bytes behind its back."""

    store: BlobStore
    overwrite: Callable[[str, bytes], None]
    scratch: Path

    def put(self, content: bytes, path: str = "model.txt") -> ModelFile:
        file = file_of(content, path)
        source = self.scratch / uuid.uuid4().hex
        source.write_bytes(content)
        self.store.publish(file, source)
        assert source.read_bytes() == content
        return file

    def get(self, file: ModelFile) -> bytes:
        outgoing = self.store.open(file)
        try:
            return b"".join(iter(outgoing.read, b""))
        finally:
            outgoing.close()


def file_of(content: bytes, path: str = "model.txt") -> ModelFile:
    return ModelFile(path, hashlib.sha256(content).hexdigest(), len(content), "text/plain")


@pytest.fixture(params=["local", "s3", "s3 without a prefix"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    if request.param == "local":
        folder = tmp_path / "artifacts"

        def overwrite(sha256: str, content: bytes) -> None:
            path = folder / "sha256" / sha256[:2] / sha256[2:4] / sha256
            path.chmod(0o600)
            path.write_bytes(content)

        local = LocalBlobs(folder)
        local.prepare()
        return Bench(local, overwrite, scratch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_endpoint"))
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    prefix = "" if "without" in str(request.param) else "models/artifacts"
    make_bucket(bucket, request.getfixturevalue("s3_endpoint"))
    raw = S3Store(bucket, prefix=prefix or None, client_options={"allow_http": True})

    def overwrite(sha256: str, content: bytes) -> None:
        obstore.put(raw, f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}", content)

    store = S3Blobs(bucket, prefix, allow_http=True)
    store.prepare()
    return Bench(store, overwrite, scratch)


def make_bucket(name: str, endpoint: str) -> None:
    from pyarrow import fs

    fs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True).create_dir(name)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 17 * MIB + 3])
def test_bytes_come_back(bench: Bench, size: int) -> None:
    content = os.urandom(size)
    file = file_of(content)
    assert not bench.store.holds(file)
    assert bench.store.measure(file.sha256) is None
    bench.put(content)
    assert bench.store.holds(file)
    assert bench.get(file) == content
    assert bench.store.measure(file.sha256) == (file.sha256, size)


def test_every_chunk_fits_a_message(bench: Bench) -> None:
    outgoing = bench.store.open(bench.put(os.urandom(10 * MIB)))
    sizes = [len(chunk) for chunk in iter(outgoing.read, b"")]
    outgoing.close()
    assert sum(sizes) == 10 * MIB
    assert max(sizes) <= CHUNK_BYTES


@pytest.mark.parametrize("where", [0, CHUNK_BYTES, 9 * MIB + 5, 10 * MIB - 1])
def test_a_flipped_bit_never_comes_out_whole(bench: Bench, where: int) -> None:
    content = os.urandom(10 * MIB)
    file = bench.put(content)
    altered = bytearray(content)
    altered[where] ^= 1
    bench.overwrite(file.sha256, bytes(altered))
    outgoing, got = bench.store.open(file), list[bytes]()
    with pytest.raises(BlobCorrupt) as caught:
        got.extend(iter(outgoing.read, b""))
    outgoing.close()
    assert sum(map(len, got)) < len(content)
    assert caught.value.metadata["sha256"] == file.sha256
    assert caught.value.metadata["actual"] == hashlib.sha256(altered).hexdigest()
    assert bench.store.measure(file.sha256) == (caught.value.metadata["actual"], len(content))


def test_cut_and_missing_bytes_are_told_at_once(bench: Bench) -> None:
    file = bench.put(b"abcdef")
    bench.overwrite(file.sha256, b"abc")
    with pytest.raises(BlobCorrupt, match="3 bytes instead of 6"):
        bench.store.open(file)
    assert not bench.store.holds(file)
    bench.store.remove(file.sha256)
    with pytest.raises(BlobCorrupt):
        bench.store.open(file)


def test_publishing_again_heals_a_damaged_blob(bench: Bench) -> None:
    file = bench.put(b"abcdef")
    bench.overwrite(file.sha256, b"abcdeX")
    bench.put(b"abcdef")
    assert bench.get(file) == b"abcdef"


def test_one_file_is_published_twice(bench: Bench) -> None:
    source = bench.scratch / "source"
    source.write_bytes(b"abc")
    file = file_of(b"abc")
    bench.store.publish(file, source)
    bench.store.publish(file, source)
    assert bench.get(file) == b"abc"
    assert len(list(bench.store.stored())) == 1


def test_a_removed_blob_is_gone_and_its_source_is_not(bench: Bench) -> None:
    source = bench.scratch / "source"
    source.write_bytes(b"abc")
    file = file_of(b"abc")
    bench.store.publish(file, source)
    bench.store.remove(file.sha256)
    bench.store.remove(file.sha256)
    assert not bench.store.holds(file)
    assert list(bench.store.stored()) == []
    bench.store.publish(file, source)
    assert bench.get(file) == b"abc"


def test_all_that_is_stored_is_listed_by_digest(bench: Bench) -> None:
    files = [bench.put(f"blob {number}".encode()) for number in range(50)]
    # What is not a blob is none.
    bench.overwrite(files[0].sha256, b"damaged")
    listed = list(bench.store.stored())
    assert [blob.sha256 for blob in listed] == sorted(file.sha256 for file in files)
    sizes = {blob.sha256: blob.size_bytes for blob in listed}
    assert sizes[files[0].sha256] == len(b"damaged")
    assert sizes[files[1].sha256] == files[1].size_bytes
    assert all(blob.time.tzinfo is not None for blob in listed)


def test_a_source_that_is_gone_is_no_failure_of_the_store(bench: Bench) -> None:
    with pytest.raises(FileNotFoundError):
        bench.store.publish(file_of(b"abc"), bench.scratch / "none")


def test_a_bucket_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    store = S3Blobs("no-such-bucket", "", allow_http=True)
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    with pytest.raises(StorageUnavailable):
        store.publish(file_of(b"abc"), source)
    with pytest.raises(OSError, match="cannot be listed"):
        store.prepare()
    # Nobody listens there.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    unreachable = S3Blobs("bucket", "", allow_http=True)
    with pytest.raises(StorageUnavailable) as caught:
        unreachable.holds(file_of(b"abc"))
    assert caught.value.metadata == {"path": "model.txt"}
