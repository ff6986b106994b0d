"""Feast's registry file, read and written as a whole.

Feast's own file store empties the file before it writes it. Whoever reads in between sees a registry without
definitions, and no error: an empty file is a valid message. Here such a file is read again until it is whole,
and the file is replaced in one step, so that nobody who reads it sees less.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.repo_config import RegistryConfig
from google.protobuf.message import DecodeError

#: How long a file may stay in the middle of a write before it counts as broken.
_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.01


class BrokenRegistryError(OSError):
    """The registry file holds no registry, and nobody is writing one."""


class WholeFileRegistryStore(FileRegistryStore):
    """Feast's FileRegistryStore, safe beside others that read and write the file."""

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        super().__init__(registry_config, repo_path)

    def get_registry_proto(self) -> RegistryProto:
        """See Feast's RegistryStore. Raises FileNotFoundError, BrokenRegistryError."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            found = _whole(self._filepath)
            if found is not None:
                return found
            if time.monotonic() > deadline:
                raise BrokenRegistryError(
                    f"the registry {self._filepath} is empty or damaged: restore it, or delete it and apply "
                    "the definitions again"
                )
            time.sleep(_PAUSE_SECONDS)

    def _write_registry(self, registry_proto: RegistryProto) -> None:
        registry_proto.version_id = str(uuid4())
        registry_proto.last_updated.GetCurrentTime()
        target = self._filepath.resolve()  # of a link, what it leads to is replaced
        target.parent.mkdir(parents=True, exist_ok=True)
        made = target.with_name(f".{target.name}-{registry_proto.version_id}")
        try:
            with made.open("xb") as file:
                file.write(registry_proto.SerializeToString())
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                made.chmod(target.stat().st_mode)
            made.replace(target)
        finally:
            made.unlink(missing_ok=True)


def use_whole_files(registry: Any) -> None:
    """Makes a registry configuration name the store above, where Feast would take its own file store."""
    path = str(getattr(registry, "path", ""))
    kind = getattr(registry, "registry_type", "file")
    if kind == "file" and registry.registry_store_type in (None, "FileRegistryStore") and "://" not in path:
        registry.registry_store_type = f"{__name__}.{WholeFileRegistryStore.__name__}"


def _whole(path: Path) -> RegistryProto | None:
    """What the file holds; None in the middle of a write."""
    before = path.stat()
    data = path.read_bytes()
    after = path.stat()
    if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns) or after.st_size != len(data):
        return None
    found = RegistryProto()
    try:
        found.ParseFromString(data)
    except DecodeError:  # cut short
        return None
    # Every registry that was written has one.
    return found if found.version_id else None
