"""Calls about the bytes of versions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from plumbline.calls import Client
from plumbline.registry.files import Files, check_digest, describe
from plumbline.registry.naming import version_name
from plumbline.registry.v1 import changes_pb2
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub


class FileCalls(Client):
    """A part of `RegistryClient`."""

    _stub: ModelRegistryServiceStub
    _files: Files

    def upload_file(
        self, version: str, source: Path, *, path: str = "", media_type: str = "application/octet-stream"
    ) -> res.ModelFile:
        """Uploads a local file to a DRAFT as `path` (default: its own name), in bounded memory.

        After a break it goes on where it was, some times by itself, and so does the next call for the same
        file: a server keeps what it received for a week.
        """
        return self._files.upload(version_name(version), source, describe(source, path, media_type))

    def get_upload(self, version: str, file: res.ModelFile) -> pb.UploadStatus:
        """How much of an upload is there. file: path, sha256 and size_bytes."""
        return self._files.get_upload(version_name(version), file)

    def download_file(self, version: str, path: str, target: Path) -> res.ModelFile:
        """Downloads one file of a version to `target`, verified; a file is there whole or not at all.

        Raises DataLoss when what arrives does not have the recorded digest.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                meta, digest = self._files.download(version_name(version), path, file)
                check_digest(version, meta, digest)
                os.fsync(file.fileno())
            os.replace(scratch, target)
        finally:
            Path(scratch).unlink(missing_ok=True)
        return meta

    def mark_garbage(self, *, dry_run: bool = False) -> changes_pb2.CollectGarbageResponse:
        """Has the registry note which bytes no version refers to."""
        return self._collect(changes_pb2.GARBAGE_PHASE_MARK, 0, dry_run)

    def sweep_garbage(
        self, *, min_age_seconds: int = 0, dry_run: bool = False
    ) -> changes_pb2.CollectGarbageResponse:
        """Has the registry remove bytes marked so long ago (0: a day) that still nobody refers to,
        and uploads that nobody went on with for a week."""
        return self._collect(changes_pb2.GARBAGE_PHASE_SWEEP, min_age_seconds, dry_run)

    def _collect(
        self, phase: changes_pb2.GarbagePhase.ValueType, seconds: int, dry_run: bool
    ) -> changes_pb2.CollectGarbageResponse:
        # It walks all that is stored.
        return self._call(
            self._stub.CollectGarbage,
            changes_pb2.CollectGarbageRequest(phase=phase, min_age_seconds=seconds, dry_run=dry_run),
            timeout=self._files.transfer_timeout,
        )
