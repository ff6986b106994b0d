"""The whole program with its artifacts in S3, as moto's server speaks it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from plumbline.registry import errors
from plumbline.registry.client import RegistryClient
from registry_service.app import build
from registry_service.settings import RegistrySettings
from servicekit.server import StartupError
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server, wait_until

CONTENT = os.urandom(20 * 1024 * 1024 + 7)


@pytest.fixture
def settings(
    sqlite_url: str, tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> RegistrySettings:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    url = f"s3://plumbline/{uuid.uuid4().hex}"
    return settings_for(sqlite_url, tmp_path).model_copy(update={"artifacts_url": url})


def _raw(settings: RegistrySettings) -> S3Store:
    prefix = settings.artifacts_url.removeprefix("s3://plumbline/")
    return S3Store("plumbline", prefix=prefix, client_options={"allow_http": True})


def test_up_down_damaged_and_swept(settings: RegistrySettings, tmp_path: Path) -> None:
    raw, source, target = _raw(settings), tmp_path / "model.bin", tmp_path / "got"
    source.write_bytes(CONTENT)
    with running_server(settings, build) as address, RegistryClient(address) as client:
        client.create_model("m")
        draft = client.create_version("m").name
        file = client.upload_file(draft, source)
        client.finalize_version(draft)
        client.download_file(draft, "model.bin", target)
        assert target.read_bytes() == CONTENT
        # Nothing of it stays on this machine.
        local = settings.artifacts_dir
        wait_until(lambda: not [path for path in local.rglob("*") if path.is_file()], what="no local files")

        key = f"sha256/{file.sha256[:2]}/{file.sha256[2:4]}/{file.sha256}"
        damaged = bytearray(CONTENT)
        damaged[-1] ^= 1
        obstore.put(raw, key, bytes(damaged))
        target.unlink()
        with pytest.raises(errors.BlobCorrupt) as caught:
            client.download_file(draft, "model.bin", target)
        assert caught.value.metadata["sha256"] == file.sha256
        assert not target.exists()

        orphan = "0" * 64
        obstore.put(raw, f"sha256/00/00/{orphan}", b"lost")
        assert list(client.mark_garbage().sha256) == [orphan]
        wait_until(lambda: client.sweep_garbage(min_age_seconds=1).blobs == 1, what="a second")
        keys = [item["path"] for page in obstore.list(raw) for item in page]
        assert keys == [key]


def test_a_store_that_is_away_is_unavailable(
    settings: RegistrySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was received stays for the next try."""
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    boto = _bucket(bucket)
    source = tmp_path / "model.txt"
    source.write_bytes(b"tree")
    away = settings.model_copy(update={"artifacts_url": f"s3://{bucket}/x"})
    with running_server(away, build) as address, RegistryClient(address, transfer_timeout=5) as client:
        client.create_model("m")
        draft = client.create_version("m").name
        boto.delete_dir(bucket)
        with pytest.raises(errors.StorageUnavailable) as caught:
            client.upload_file(draft, source)
        assert caught.value.metadata == {"path": "model.txt"}
        assert client.get_version(draft).files == []
        boto.create_dir(bucket)
        client.upload_file(draft, source)
        assert [file.path for file in client.get_version(draft).files] == ["model.txt"]


def _bucket(name: str):  # type: ignore[no-untyped-def]
    from pyarrow import fs

    store = fs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )
    store.create_dir(name)
    return store


def test_a_bucket_that_is_not_there_is_told_at_the_start(settings: RegistrySettings) -> None:
    wrong = settings.model_copy(update={"artifacts_url": "s3://no-such-bucket-here/x"})
    with pytest.raises(StartupError) as caught, running_server(wrong, build):
        pass
    assert "s3://no-such-bucket-here/x" in str(caught.value)
    assert "ARTIFACTS_URL" in str(caught.value)
