"""What serving asks of registry_service. Calls block: use them on a thread."""

from __future__ import annotations

from pathlib import Path

from plumbline.errors import DataLoss, FailedPrecondition
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import VersionNotReady
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.serving.errors import ArtifactCorrupt
from serving import codec
from serving.domain import ModelRef, Release

#: Where a version keeps its Booster in LightGBM's text form.
MODEL_PATH = "model.txt"


class RegistryGateway:
    """Resolves names and fetches models. Raises the errors of `plumbline.registry.errors`."""

    def __init__(self, client: RegistryClient) -> None:
        self._client = client

    def resolve(self, ref: ModelRef) -> Release:
        """The READY version behind a name now. Raises FailedPrecondition when it holds no model that
        this server can read."""
        if ref.alias:
            message = self._client.resolve_alias(ref.name).version
        else:
            message = self._client.get_version(ref.name)
        if message.state != res.VERSION_STATE_READY:
            state = res.VersionState.Name(message.state).removeprefix("VERSION_STATE_")
            raise VersionNotReady(
                f"{message.name} is {state}; only READY versions are served",
                metadata={"version": message.name, "state": state},
            )
        try:
            return codec.release(message, MODEL_PATH)
        except ValueError as error:
            raise FailedPrecondition(f"{message.name} cannot be served: {error}") from error

    def download(self, release: Release, target: Path) -> None:
        """The model file to `target`, whole or not at all. Raises ArtifactCorrupt when the registry's
        copy is not what was recorded."""
        try:
            self._client.download_file(release.version, release.path, target)
        except DataLoss as error:
            raise ArtifactCorrupt(
                f"{release.version}: {error.message}",
                metadata={
                    "model": release.version,
                    "expected": release.sha256,
                    "actual": error.metadata.get("actual", ""),
                },
            ) from error
