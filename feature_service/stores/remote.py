"""Files by URI: on this machine and in object storage, for Arrow and for DuckDB.

`s3://bucket/key` is S3 as the AWS SDK finds it: AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL,
a role of the machine. `s3+http://host:port/bucket/key` and `s3+https://…` are the same at another endpoint,
with the same credentials. Other schemes (gs, abfs, hdfs) are what Arrow makes of them. A plain path, or
`file://`, is local.

DuckDB reads them through Arrow, since its own extension for S3 is an extra download: column chunks by ranges,
only those of the columns asked for and of the row groups that its filters leave.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import fsspec
import pyarrow as pa
from pyarrow import fs

_S3 = ("s3", "s3+http", "s3+https")
#: The schemes that `register` teaches DuckDB.
SCHEMES = (*_S3, "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
#: Enough for the footer of most files, so that one request reads it.
_TAIL_BYTES = 64 * 1024
#: Files kept open, each with its footer.
_OPEN_FILES = 256


def is_remote(uri: str) -> bool:
    """Whether a path is a URI of another machine, as s3://…"""
    return "://" in uri and not uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The path of what is not remote."""
    return Path(uri.removeprefix("file://"))


def at_endpoint(uri: str, endpoint: str | None) -> str:
    """An s3:// URI at an endpoint of its own (host:port, or a URL); any other URI as it is."""
    if not endpoint or not uri.startswith("s3://"):
        return uri
    scheme, found, host = endpoint.rpartition("://")
    return f"s3+{scheme if found else 'https'}://{host.rstrip('/')}/{uri.removeprefix('s3://')}"


def shown(uri: str) -> str:
    """A URI for messages: without a password that it may hold."""
    head, found, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{head}{found}{host.rpartition('@')[2]}{slash}{path}" if found else uri


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The Arrow file system of a URI and the path in it. Raises ValueError for a URI of no use."""
    if not is_remote(uri):
        return fs.LocalFileSystem(), str(local_path(uri))
    scheme, _, rest = uri.partition("://")
    if scheme == "s3" and "@" not in rest.partition("/")[0] and "?" not in rest:
        return fs.S3FileSystem(), rest.rstrip("/")
    if scheme in ("s3+http", "s3+https"):
        where = urlsplit(uri)
        if not where.netloc or not where.path.strip("/"):
            raise ValueError(f"{shown(uri)}: expected {scheme}://host:port/bucket/key")
        found = fs.S3FileSystem(endpoint_override=where.netloc, scheme=scheme.removeprefix("s3+"))
        return found, rest.partition("/")[2].strip("/")
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except pa.ArrowException as error:
        raise ValueError(f"{shown(uri)}: {error}") from error
    return filesystem, path


def exists(uri: str) -> bool:
    """Whether there is a file or a folder at a URI or path. Raises OSError without an answer."""
    filesystem, path = open_filesystem(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


def is_folder(uri: str) -> bool:
    """Whether there is a folder at a URI. Raises OSError without an answer."""
    filesystem, path = open_filesystem(uri)
    return bool(filesystem.get_file_info(path).type == fs.FileType.Directory)


def list_files(uri: str, suffix: str, *, deep: bool = True) -> tuple[str, ...]:
    """The URIs of the files with a suffix in a remote folder, sorted; of a file: itself.

    deep: those of the folders in it, too.
    Raises FileNotFoundError where there is neither, OSError when the storage does not answer.
    """
    filesystem, path = open_filesystem(uri)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(f"no such file or folder: {shown(uri)}")
    if info.type == fs.FileType.File:
        return (uri,)
    base = uri.rstrip("/")
    found = filesystem.get_file_info(fs.FileSelector(path, recursive=deep))
    inside = [item.path.removeprefix(path.rstrip("/")) for item in found if item.type == fs.FileType.File]
    return tuple(sorted(base + name for name in inside if name.endswith(suffix)))


def write_whole(uri: str, data: pa.Buffer) -> None:
    """Writes a remote file that readers see whole or not at all: object storage shows what was completed."""
    filesystem, path = open_filesystem(uri)
    stream = filesystem.open_output_stream(path)
    stream.write(data)
    stream.close()


def register(connection: duckdb.DuckDBPyConnection) -> ArrowFiles:
    """Lets a DuckDB connection read the URIs of `SCHEMES`. Nothing is opened before it is read."""
    files = ArrowFiles()
    connection.register_filesystem(files)
    return files


class ArrowFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """What DuckDB asks a file system of fsspec for; read only."""

    protocol = SCHEMES
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _Shared] = OrderedDict()
        self._systems: dict[str, fs.FileSystem] = {}

    @property
    def bytes_read(self) -> int:
        """Fetched so far from the files that are open."""
        with self._lock:
            return sum(file.bytes_read for file in self._files.values())

    def open(self, path: str, mode: str = "rb", **_: Any) -> _File:
        if mode != "rb":
            raise OSError(f"{shown(path)} is only read")
        return _File(self._shared(path))

    def glob(self, path: str, **_: Any) -> list[str]:
        """A name that DuckDB is given is that of one file; `list_files` has found it."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._shared(path).size, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        return True

    def isfile(self, path: str) -> bool:
        return True

    def modified(self, path: str) -> datetime:
        return datetime.fromtimestamp(0, UTC)

    def _shared(self, uri: str) -> _Shared:
        with self._lock:
            found = self._files.get(uri)
            if found is None:
                found = self._files[uri] = _Shared(*self._place(uri))
                if len(self._files) > _OPEN_FILES:
                    self._files.popitem(last=False)
            return found

    def _place(self, uri: str) -> tuple[fs.FileSystem, str]:
        scheme, _, rest = uri.partition("://")
        if scheme not in _S3 or "@" in rest.partition("/")[0]:
            return open_filesystem(uri)
        # One file system for an endpoint: it holds the connections.
        root = scheme if scheme == "s3" else f"{scheme}://{rest.partition('/')[0]}"
        if root not in self._systems:
            self._systems[root] = open_filesystem(uri)[0]
        return self._systems[root], rest if scheme == "s3" else rest.partition("/")[2]


class _Shared:
    """An open file and its end; `read_at` may be called by several threads."""

    def __init__(self, filesystem: fs.FileSystem, path: str) -> None:
        self._file = filesystem.open_input_file(path)
        self.size: int = self._file.size()
        self._tail_from = max(0, self.size - _TAIL_BYTES)
        self._tail: bytes = self._file.read_at(self.size - self._tail_from, self._tail_from)
        self.bytes_read = len(self._tail)

    def read_at(self, length: int, position: int) -> bytes:
        if position >= self._tail_from:
            start = position - self._tail_from
            return self._tail[start : start + length]
        data: bytes = self._file.read_at(length, position)
        self.bytes_read += len(data)
        return data


class _File:
    """A file as DuckDB uses it: threads share one, and seek and read in two steps, so each has its place."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._place = threading.local()

    def seek(self, position: int, whence: int = 0) -> int:
        base = (0, self.tell(), self._shared.size)[whence]
        self._place.position = base + position
        return base + position

    def tell(self) -> int:
        return getattr(self._place, "position", 0)

    def read(self, length: int = -1) -> bytes:
        position = self.tell()
        data = self._shared.read_at(self._shared.size - position if length < 0 else length, position)
        self._place.position = position + len(data)
        return data

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """The file is shared; it closes with the connection."""
