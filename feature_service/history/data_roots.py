"""The places that callers may have the service read from and write to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from feature_service.history.entity_rows import bad_field
from feature_service.stores.remote import is_remote, local_path, shown


class DataRoots:
    """Folders and URI prefixes (s3://bucket/folder) below which a caller's files may lie; none: nowhere."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._remote = [root.rstrip("/") + "/" for root in roots if is_remote(root)]
        self._local = [Path(os.path.realpath(local_path(root))) for root in roots if not is_remote(root)]

    def resolve(self, uri: str, field: str) -> str:
        """The place that a URI of a request names, links and ".." followed; "" stays so.

        Raises InvalidField, naming the field, when it is not below a root.
        """
        if not uri:
            return ""
        if not self._remote and not self._local:
            raise bad_field(field, "this server reads and writes no files for callers (it has no data roots)")
        if "\x00" in uri:
            raise bad_field(field, "holds a null byte")
        if is_remote(uri):
            key = uri.rstrip("/")
            steps = key.partition("://")[2].split("/")
            plain = not {"", ".", ".."} & set(steps) and not set(key) & set("?#%@")
            if plain and any(key.startswith(root) for root in self._remote):
                return key
        else:
            path = Path(os.path.realpath(local_path(uri)))
            if local_path(uri).is_absolute() and any(
                path != root and path.is_relative_to(root) for root in self._local
            ):
                return str(path)
        raise bad_field(field, f"{shown(uri)} is not below one of this server's data roots")
