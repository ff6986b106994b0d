"""The collection of garbage over the wire and by the command line."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.registry import errors
from plumbline.registry.v1 import changes_pb2
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.wire import translated
from tests.integration.registry_service.conftest import Running
from tests.support import wait_until


def _orphan(artifacts: Path, content: bytes) -> str:
    """Bytes without a record, as a process that was killed leaves them."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = artifacts / "sha256" / sha256[:2] / sha256[2:4] / sha256
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return sha256


@pytest.fixture
def orphan(registry: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Beside a version with a file."""
    monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", registry.client.target)
    source = tmp_path / "model.txt"
    source.write_bytes(b"tree")
    registry.client.create_model("m")
    registry.client.upload_file(registry.client.create_version("m").name, source)
    return _orphan(registry.artifacts, b"orphan")


def _call(*words: str) -> str:
    result = CliRunner().invoke(app, ["registry", "gc", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line_marks_then_sweeps(registry: Running, orphan: str) -> None:
    assert "1 blobs of 6 bytes of no use" in _call("--dry-run")
    assert "0 blobs" in _call("--sweep", "--min-age", "1s")
    marked = _call()
    assert orphan in marked
    assert "from tomorrow on" in marked
    assert "0 blobs" in _call("--sweep")

    def swept() -> bool:
        return bool(json.loads(_call("--sweep", "--min-age", "1s", "--dry-run", "--json")).get("blobs"))

    wait_until(swept, what="a second")
    assert "1 blobs of 6 bytes removed" in _call("--sweep", "--min-age", "1s")
    blobs = [path.name for path in (registry.artifacts / "sha256").rglob("*") if path.is_file()]
    assert blobs == [hashlib.sha256(b"tree").hexdigest()]
    registry.client.finalize_version("m/1")
    assert "0 blobs" in _call()


@pytest.mark.parametrize("words", [("--min-age", "soon"), ("--min-age", "0d"), ("--min-age", "-1s")])
def test_a_time_that_is_none(orphan: str, words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["registry", "gc", "--sweep", *words]).exit_code == 2


def test_uploads_given_up_go_with_the_sweep(registry: Running, orphan: str) -> None:
    left = registry.artifacts / "incoming" / f"{'0' * 64}.{'0' * 32}.part"
    left.write_bytes(b"half")
    week_ago = time.time() - 8 * 24 * 3600
    os.utime(left, (week_ago, week_ago))
    assert registry.client.sweep_garbage(dry_run=True).uploads == 1
    assert registry.client.sweep_garbage().uploads == 1
    assert not left.exists()
    assert registry.client.sweep_garbage() == changes_pb2.CollectGarbageResponse()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (changes_pb2.CollectGarbageRequest(), "phase"),
        (changes_pb2.CollectGarbageRequest(phase=7), "phase"),  # type: ignore[arg-type]
        (
            changes_pb2.CollectGarbageRequest(phase=changes_pb2.GARBAGE_PHASE_SWEEP, min_age_seconds=-1),
            "min_age_seconds",
        ),
    ],
)
def test_bad_requests_name_their_field(
    registry: Running, request_: changes_pb2.CollectGarbageRequest, field: str
) -> None:
    with pytest.raises(errors.InvalidField) as caught, translated(errors.CLASSES):
        registry.client._stub.CollectGarbage(request_, timeout=10)
    assert caught.value.metadata == {"field": field}


def test_a_swept_file_can_be_uploaded_again(registry: Running, orphan: str, tmp_path: Path) -> None:
    registry.client.mark_garbage()
    wait_until(lambda: registry.client.sweep_garbage(min_age_seconds=1).blobs == 1, what="a second")
    source = tmp_path / "again"
    source.write_bytes(b"orphan")
    expected = res.ModelFile(path="again", sha256=orphan, size_bytes=6, media_type="application/octet-stream")
    assert registry.client.upload_file("m/1", source) == expected
