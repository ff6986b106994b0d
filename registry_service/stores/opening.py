"""Which store of artifact bytes the settings ask for."""

from __future__ import annotations

import importlib
import os
from typing import cast

from registry_service.ports import BlobStore
from registry_service.settings import RegistrySettings
from registry_service.stores.local import LocalBlobs
from servicekit.server import StartupError


def open_blobs(settings: RegistrySettings) -> BlobStore:
    """Nothing connects yet. Raises StartupError when what the store needs is not installed."""
    if not settings.artifacts_url:
        return LocalBlobs(settings.artifacts_dir)
    bucket, _, prefix = settings.artifacts_url.removeprefix("s3://").partition("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    # By name: its library comes with the extra "s3" alone.
    try:
        s3 = importlib.import_module("registry_service.stores.s3")
    except ImportError as error:
        raise StartupError(
            f"artifacts in {settings.artifacts_url} need the library {error.name}: "
            "pip install 'plumbline[registry,s3]'"
        ) from error
    store = s3.S3Blobs(bucket, prefix.strip("/"), allow_http=endpoint.startswith("http://"))
    return cast("BlobStore", store)
