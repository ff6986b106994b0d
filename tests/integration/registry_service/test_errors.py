"""Bad input and bad luck over the wire: the typed error with its reason, metadata and field."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import create_engine, text

from plumbline.errors import PlumblineError
from plumbline.registry import errors
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import CLASSES
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.wire import translated
from registry_service.app import build
from tests.integration.registry_service.conftest import Running, settings_for
from tests.support import running_server, wait_until

NO_DATASET = f"datasets/{'0' * 64}"
NO_RUN = f"runs/{'0' * 32}"


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def client(registry: Running, tmp_path: Path) -> RegistryClient:
    """With model m: version 1 READY behind alias champion, version 2 a DRAFT with a file."""
    client = registry.client
    client.create_model("m")
    source = tmp_path / "model.txt"
    source.write_bytes(b"tree")
    for _ in range(2):
        client.upload_file(client.create_version("m").name, source)
    client.finalize_version("models/m/versions/1")
    client.set_alias("m@champion", "m/1", reason="first")
    return client


def _upload(client: RegistryClient, header: res.ModelFile, *chunks: bytes, version: int = 2) -> res.ModelFile:
    def parts() -> Iterator[pb.UploadFileRequest]:
        name = f"models/m/versions/{version}"
        yield pb.UploadFileRequest(header=pb.UploadFileHeader(version=name, file=header))
        for chunk in chunks:
            yield pb.UploadFileRequest(chunk=chunk)

    with translated(CLASSES):
        return client._stub.UploadFile(parts(), timeout=10)


def _raw(client: RegistryClient, method: str, request: object) -> object:
    with translated(CLASSES):
        return getattr(client._stub, method)(request, timeout=10)


def _download(client: RegistryClient, version: str, path: str) -> Iterator[pb.DownloadFileResponse]:
    with translated(CLASSES):
        yield from client._stub.DownloadFile(pb.DownloadFileRequest(version=version, path=path), timeout=10)


def _header(content: bytes, path: str = "new.txt", size: int | None = None) -> res.ModelFile:
    return res.ModelFile(path=path, sha256=_sha(content), size_bytes=len(content) if size is None else size)


Call = Callable[[RegistryClient], object]

CASES: list[tuple[str, type[PlumblineError], dict[str, str], Call]] = [
    ("unknown model", errors.ModelNotFound, {"model": "nope"}, lambda c: c.get_model("nope")),
    ("version of no model", errors.ModelNotFound, {"model": "nope"}, lambda c: c.create_version("nope")),
    (
        "unknown version",
        errors.VersionNotFound,
        {"model": "m", "version": "9"},
        lambda c: c.get_version("m/9"),
    ),
    ("unknown alias", errors.AliasNotFound, {"model": "m", "alias": "x"}, lambda c: c.resolve_alias("m@x")),
    ("unknown alias get", errors.AliasNotFound, {"model": "m", "alias": "x"}, lambda c: c.get_version("m@x")),
    ("unknown run", errors.RunNotFound, {"run": "0" * 32}, lambda c: c.get_run(NO_RUN)),
    ("unknown dataset", errors.DatasetNotFound, {"dataset": "0" * 64}, lambda c: c.get_dataset(NO_DATASET)),
    (
        "unknown file",
        errors.FileNotFound,
        {"version": "models/m/versions/1", "path": "x"},
        lambda c: list(_download(c, "models/m/versions/1", "x")),
    ),
    ("unknown node", errors.NodeNotFound, {"node": "models/nope"}, lambda c: c.get_lineage("models/nope")),
    ("model exists", errors.ModelExists, {"model": "m"}, lambda c: c.create_model("m")),
    (
        "other bytes at a path",
        errors.FileExists,
        {"path": "model.txt", "expected": _sha(b"tree"), "actual": _sha(b"other")},
        lambda c: _upload(c, _header(b"other", "model.txt"), b"other"),
    ),
    (
        "upload to a ready version",
        errors.VersionImmutable,
        {"version": "models/m/versions/1"},
        lambda c: _upload(c, _header(b"x"), b"x", version=1),
    ),
    (
        "draft behind an alias",
        errors.VersionNotReady,
        {"version": "models/m/versions/2", "state": "DRAFT"},
        lambda c: c.set_alias("m@shadow", "m/2", reason="r"),
    ),
    (
        "stale etag",
        errors.EtagMismatch,
        {"resource": "models/m/aliases/champion", "expected": "stale"},
        lambda c: c.set_alias("m@champion", "m/1", reason="r", etag="stale"),
    ),
    (
        "truncated upload",
        errors.UploadSizeMismatch,
        {"path": "new.txt", "expected": "6", "actual": "3"},
        lambda c: _upload(c, _header(b"abcdef"), b"abc"),
    ),
    (
        "upload that never stops",
        errors.UploadSizeMismatch,
        {"path": "new.txt", "expected": "3"},
        lambda c: _upload(c, _header(b"abc"), b"abc", b"d", b"e"),
    ),
    (
        "wrong digest",
        errors.UploadDigestMismatch,
        {"path": "new.txt", "expected": _sha(b"abc"), "actual": _sha(b"abd")},
        lambda c: _upload(c, _header(b"abc"), b"abd"),
    ),
    (
        "file too large",
        errors.FileTooLarge,
        {"limit": "50000000", "actual": "50000001"},
        lambda c: _upload(c, _header(b"abc", size=50_000_001), b"abc"),
    ),
    (
        "reserved alias",
        errors.InvalidName,
        {"field": "name"},
        lambda c: c.set_alias("m@latest", "m/1", reason="r"),
    ),
    ("bad model name", errors.InvalidName, {"field": "model_id"}, lambda c: c.create_model("a/b")),
    (
        "alias without a reason",
        errors.InvalidField,
        {"field": "reason"},
        lambda c: c.set_alias("m@a", "m/1", reason=""),
    ),
    (
        "path out of the folder",
        errors.InvalidField,
        {"field": "header.file.path"},
        lambda c: _upload(c, _header(b"x", "../x"), b"x"),
    ),
    (
        "nan metric",
        errors.InvalidField,
        {"field": "run.metrics[auc]"},
        lambda c: c.start_run(res.TrainingRun(metrics={"auc": math.nan})),
    ),
    (
        "input without a type",
        errors.InvalidField,
        {"field": "signature.inputs[0].type"},
        lambda c: c.create_version(
            "m",
            signature=res.ModelSignature(inputs=[res.ModelInput(name="x", source=res.INPUT_SOURCE_REQUEST)]),
        ),
    ),
    (
        "unknown mask",
        errors.InvalidField,
        {"field": "update_mask"},
        lambda c: c.update_model(res.Model(name="models/m"), fields=["etag"]),
    ),
    (
        "moment out of range",
        errors.InvalidField,
        {"field": "as_of"},
        lambda c: _raw(
            c,
            "ResolveAlias",
            pb.ResolveAliasRequest(name="models/m/aliases/champion", as_of=Timestamp(seconds=2**60)),
        ),
    ),
    (
        "negative depth",
        errors.InvalidField,
        {"field": "depth"},
        lambda c: c.get_lineage("models/m", depth=-1),
    ),
    (
        "unknown direction",
        errors.InvalidField,
        {"field": "direction"},
        lambda c: _raw(c, "GetLineage", pb.GetLineageRequest(node="models/m", direction=7)),  # type: ignore[arg-type]
    ),
    (
        "foreign page token",
        errors.InvalidPageToken,
        {"page_token": "x"},
        lambda c: _raw(c, "ListModels", pb.ListModelsRequest(page_token="x")),
    ),
    (
        "upload without a header",
        errors.InvalidField,
        {"field": "header"},
        lambda c: _raw(c, "UploadFile", iter([pb.UploadFileRequest(chunk=b"x")])),
    ),
    ("empty upload", errors.InvalidField, {"field": "header"}, lambda c: _raw(c, "UploadFile", iter([]))),
    (
        "long chunk",
        errors.InvalidField,
        {"field": "chunk"},
        lambda c: _upload(c, _header(b"x" * 1_048_577), b"x" * 1_048_577),
    ),
]


def test_every_bad_request_has_its_error(client: RegistryClient) -> None:
    """One server for all of them: each must leave it as it was for the next."""
    for what, cls, metadata, call in CASES:
        with pytest.raises(PlumblineError) as caught:
            call(client)
        error = caught.value
        assert type(error) is cls, f"{what}: {error!r}"
        assert error.reason == cls.reason, what
        assert metadata.items() <= error.metadata.items(), f"{what}: {error.metadata}"
        if "field" in metadata:
            assert metadata["field"] in [violation.field for violation in error.violations], what
        assert len(error.message) > 15, what
    assert [file.path for file in client.get_version("m/2").files] == ["model.txt"]


def test_a_request_id_is_good_for_one_request(client: RegistryClient) -> None:
    first = client.create_version("m", description="a", request_id="r1")
    with pytest.raises(errors.RequestIdReused) as caught:
        client.create_version("m", description="b", request_id="r1")
    assert caught.value.metadata == {"request_id": "r1", "method": "CreateVersion"}
    assert client.create_version("m", description="a", request_id="r1") == first
    assert client.get_model("m").latest_version == first.version


def test_a_page_token_is_good_for_its_query(client: RegistryClient) -> None:
    client.create_model("n")
    page = client._stub.ListModels(pb.ListModelsRequest(page_size=1))
    other = pb.ListModelsRequest(page_size=1, page_token=page.next_page_token, show_archived=True)
    with pytest.raises(errors.InvalidPageToken):
        _raw(client, "ListModels", other)


def test_an_ended_run_and_a_known_dataset(client: RegistryClient) -> None:
    run = client.finish_run(client.start_run(res.TrainingRun()).name, error="no rows")
    assert run.state == res.RUN_STATE_FAILED
    with pytest.raises(errors.RunEnded):
        client.log_run(run.name, metrics={"auc": 0.5})
    name = f"datasets/{'a' * 64}"
    client.record_dataset(res.Dataset(name=name, row_count=1))
    with pytest.raises(errors.DatasetExists) as caught:
        client.record_dataset(res.Dataset(name=name, row_count=2))
    assert caught.value.metadata == {"dataset": name, "field": "row_count"}


def test_a_version_without_files_and_an_archived_model(client: RegistryClient) -> None:
    empty = client.create_version("m")
    with pytest.raises(errors.VersionEmpty):
        client.finalize_version(empty.name)
    client.archive_model("m")
    with pytest.raises(errors.ModelArchived):
        client.create_version("m")


def test_bytes_altered_on_disk_are_never_handed_out_as_whole(
    registry: Running, client: RegistryClient, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 8_000
    source, target = tmp_path / "big.bin", tmp_path / "got.bin"
    source.write_bytes(content)
    version = client.create_version("m").name
    client.upload_file(version, source)
    client.finalize_version(version)
    blob = registry.artifacts / "sha256" / _sha(content)[:2] / _sha(content)[2:4] / _sha(content)
    blob.chmod(0o600)
    for altered, actual in (
        (content[:-1] + b"!", _sha(content[:-1] + b"!")),
        (content[:-1], f"{len(content) - 1} bytes instead of {len(content)}"),
    ):
        blob.write_bytes(altered)
        got = []
        with pytest.raises(errors.BlobCorrupt) as caught:
            got.extend(part.chunk for part in _download(client, version, "big.bin"))
        assert caught.value.metadata == {"sha256": _sha(content), "actual": actual}
        assert sum(map(len, got)) < len(altered)
        with pytest.raises(errors.BlobCorrupt):
            client.download_file(version, "big.bin", target)
    blob.unlink()
    with pytest.raises(errors.BlobCorrupt):
        client.download_file(version, "big.bin", target)
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_failed_upload_leaves_no_bytes(registry: Running, client: RegistryClient) -> None:
    kept = sorted(path for path in registry.artifacts.rglob("*") if path.is_file())
    with pytest.raises(errors.UploadDigestMismatch):
        _upload(client, _header(b"abc"), b"abd")
    with pytest.raises(errors.UploadSizeMismatch):
        _upload(client, _header(b"abc"), b"abcdef")
    wait_until(lambda: list((registry.artifacts / "incoming").iterdir()) == [], what="no scratch files")
    assert sorted(path for path in registry.artifacts.rglob("*") if path.is_file()) == kept


def test_a_database_that_went_away_is_unavailable_and_nothing_leaks(
    postgres_server: str, tmp_path: Path
) -> None:
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE vanishing"))
        url = postgres_server.replace("/postgres?", "/vanishing?")
        with (
            running_server(settings_for(url, tmp_path), build) as target,
            RegistryClient(target, timeout=20) as client,
        ):
            client.create_model("m")
            connection.execute(text("DROP DATABASE vanishing WITH (FORCE)"))
            for call in (lambda: client.get_model("m"), lambda: client.create_model("n")):
                with pytest.raises(errors.DatabaseUnavailable) as caught:
                    call()
                assert "try again" in caught.value.message
                assert "vanishing" not in caught.value.message
                assert "SELECT" not in caught.value.message
    admin.dispose()
