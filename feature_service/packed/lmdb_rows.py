"""Packed rows in LMDB: one memory-mapped file that any number of processes of this machine read and write.

Readers take no lock and wait for nobody: a read is a walk through pages that the operating system keeps in
memory. Writers, of all processes, take turns. A commit is on disk when `put` returns, unless `sync` is off; a
writer that is killed leaves what was committed before. A reader that is killed keeps the pages it saw from
being used again until the next write.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lmdb

from feature_service.packed import lmdb_changes
from feature_service.packed.guard import newest, sort_key
from feature_service.packed.row_cache import RowCache
from feature_service.ports import RowReads
from plumbline.features.errors import StorageFull, StoreUnavailable

#: Address space, not disk: the file grows as rows come.
DEFAULT_MAP_SIZE = 64 * 1024**3
DEFAULT_CACHE = 64 * 1024**2
#: LMDB's own limit on the length of a key, and what a view's prefix leaves of it.
_LONGEST_KEY, _PREFIX = 511, 8
_LONGEST_ENTITY_KEY = _LONGEST_KEY - _PREFIX
#: Views' prefixes begin below 0x80.
_NOTES = b"\xffnotes:\x00"
#: Rows looked at in one read transaction of a sweep, and removed in one write transaction.
_SCAN, _REMOVE = 20_000, 2_000
_READERS = 510


@dataclass
class _Shared:
    """An open environment and how many LmdbRows of this process use it."""

    env: lmdb.Environment
    sync: bool
    users: int = 0


_opened: dict[tuple[int, str], _Shared] = {}
#: Environments that nobody uses any more but a transaction of another thread, perhaps; and whether they sync.
_closing: dict[tuple[int, str], tuple[weakref.ref[lmdb.Environment], bool]] = {}
_opening = threading.Lock()


class LmdbRows:
    """See ports.RowStore.

    path: a folder, made if it is missing. map_size: the most bytes the store may grow to; within a process
    the first to open it decides. sync: whether a commit waits for the disk, also where others that have it
    open in this process do not; without it a crash of the
    machine (not of the process) may lose the last commits or, on file systems that write out of order, the
    store. retention: how long a sweep leaves a row after its ttl, so that a raised ttl finds it; None: for
    good. cache: the most bytes of rows that are kept in this process's memory (`row_cache`); 0: none.
    """

    local = True

    def __init__(
        self,
        path: Path | str,
        *,
        map_size: int = DEFAULT_MAP_SIZE,
        sync: bool = True,
        retention: timedelta | None = timedelta(days=1),
        cache: int = DEFAULT_CACHE,
    ) -> None:
        self._path = os.path.realpath(path)
        self.address = f"lmdb:{path}"
        self._map_size = map_size
        self._pid = os.getpid()
        self._sync = sync
        self._retention = None if retention is None else retention // timedelta(microseconds=1)
        self._forked = threading.RLock()
        self._cache = RowCache(cache, _LONGEST_ENTITY_KEY) if cache else None
        shared = _open(self._path, map_size, sync, self.address)
        self._env: lmdb.Environment | None = shared.env
        # Whoever opened it first does not wait for the disk: this one does, for its own commits.
        self._flush = sync and not shared.sync

    @property
    def wants_whole(self) -> bool:
        """See ports.RowStore."""
        return self._cache is None or self._cache.rests

    def get(self, reads: RowReads) -> list[list[bytes | None]]:
        """See ports.RowStore."""
        with self._reading() as txn:
            get = txn.get
            if self._cache is not None and reads:
                kept = self._cache.get(txn, reads, lambda view, key: get(_key(view, key)))
                if kept is not None:
                    return kept
            found: list[list[bytes | None]] = []
            for view, keys, whole in reads:
                rows = list(map(get, whole)) if whole is not None else [get(view + key) for key in keys]
                if None in rows:
                    # A key too long for LMDB is not found, whatever is stored for it.
                    for i, key in enumerate(keys):
                        if len(key) > _LONGEST_ENTITY_KEY:
                            rows[i] = get(_key(view, key))
                found.append(rows)
            return found

    async def get_async(self, reads: RowReads) -> list[list[bytes | None]]:
        """See ports.RowStore."""
        return self.get(reads)

    def put(self, view: bytes, rows: Sequence[tuple[bytes, bytes]], ttl_micros: int | None) -> int:
        """See ports.RowStore. One transaction: all of the rows, or after a failure none."""
        del ttl_micros  # expired rows are swept
        written: list[bytes] = []
        # Neighbours in the tree one after the other.
        ordered = sorted((_key(view, key), row) for key, row in newest(rows))
        with self._writing() as txn:
            put, get = txn.put, txn.get
            for key, row in ordered:
                if put(key, row, overwrite=False):
                    written.append(key)
                elif sort_key(row) >= sort_key(get(key)):
                    put(key, row)
                    written.append(key)
            if written:
                lmdb_changes.record(txn, view, written)
        return len(written)

    def drop(self, view: bytes) -> None:
        """See ports.RowStore."""
        self._remove(view, None)

    def hold(self, ttls: Mapping[bytes, int | None]) -> None:
        """See ports.RowStore. Nothing to do: a sweep goes by the ttl of its moment."""

    def sweep(self, view: bytes, before_micros: int) -> int:
        """See ports.RowStore."""
        return 0 if self._retention is None else self._remove(view, before_micros - self._retention)

    def note(self, name: str) -> bytes | None:
        """See ports.RowStore."""
        with self._reading() as txn:
            found: bytes | None = txn.get(_key(_NOTES, name.encode()))
            return found

    def set_note(self, name: str, value: bytes | None) -> None:
        """See ports.RowStore."""
        key = _key(_NOTES, name.encode())
        with self._writing() as txn:
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)
            lmdb_changes.record(txn, b"")

    def close(self) -> None:
        """See ports.RowStore."""
        if self._env is not None:
            self._env = None
            _release(self._path, self._pid)

    def _remove(self, view: bytes, before: int | None) -> int:
        removed, position = 0, view
        while True:
            expired, position = self._scan(view, position, before)
            for start in range(0, len(expired), _REMOVE):
                removed += self._delete(expired[start : start + _REMOVE], before)
            if not position:
                return removed

    def _scan(self, view: bytes, position: bytes, before: int | None) -> tuple[list[bytes], bytes]:
        """Keys to remove among the next rows from a position on, and where to go on; b"" at the end."""
        expired: list[bytes] = []
        with self._reading() as txn, txn.cursor() as cursor:
            if not cursor.set_range(position):
                return expired, b""
            for seen, (key, row) in enumerate(cursor.iternext(keys=True, values=True)):
                if not key.startswith(view):
                    return expired, b""
                if seen == _SCAN:
                    return expired, key
                if before is None or sort_key(row)[0] < before:
                    expired.append(key)
        return expired, b""

    def _delete(self, keys: Sequence[bytes], before: int | None) -> int:
        """Removes rows that are still what the scan saw."""
        with self._writing() as txn:
            removed = []
            for key in keys:
                row = txn.get(key)
                if row is not None and (before is None or sort_key(row)[0] < before):
                    txn.delete(key)
                    removed.append(key)
            if removed:
                lmdb_changes.record(txn, removed[0][:_PREFIX], removed)
        return len(removed)

    # Any: lmdb's types do not say that without buffers keys and values are bytes.
    @contextmanager
    def _reading(self) -> Iterator[Any]:
        env = self._environment()
        try:
            txn = env.begin(buffers=False)
        except lmdb.ReadersFullError:
            # Slots of processes that were killed in the middle of a read.
            env.reader_check()
            try:
                txn = env.begin(buffers=False)
            except lmdb.Error as error:
                raise self._failed(error) from error
        except lmdb.Error as error:
            raise self._failed(error) from error
        try:
            yield txn
        finally:
            txn.abort()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        try:
            env = self._environment()
            # Else the pages that a reader saw which was killed are never used again, and the file grows.
            env.reader_check()
            with env.begin(write=True, buffers=False) as txn:
                yield txn
            if self._flush:
                env.sync(True)
        except lmdb.Error as error:
            raise self._failed(error) from error

    def _environment(self) -> lmdb.Environment:
        env = self._env
        if env is None:
            raise StoreUnavailable(
                f"the online store {self.address} was closed", metadata={"store": self.address}
            )
        if self._pid != os.getpid():
            # A forked child: what it inherited belongs to its parent.
            with self._forked:
                if self._pid != os.getpid():
                    shared = _open(self._path, self._map_size, self._sync, self.address)
                    self._env, self._flush = shared.env, self._sync and not shared.sync
                    self._pid = os.getpid()
                    if self._cache is not None:
                        self._cache.clear()
                return self._environment()
        return env

    def _failed(self, error: lmdb.Error) -> StorageFull | StoreUnavailable:
        metadata = {"store": self.address}
        number = getattr(error, "code", None)
        if isinstance(error, lmdb.MapFullError):
            return StorageFull(
                f"the online store {self.address} has reached its map_size of "
                f"{self._map_size:,} bytes; set a greater online_store.map_size in "
                "feature_store.yaml and start the programs that use it again",
                metadata=metadata,
            )
        if isinstance(error, lmdb.DiskError) or number == errno.ENOSPC:
            return StorageFull(f"no space is left for the online store {self.address}", metadata=metadata)
        if isinstance(error, lmdb.ReadersFullError):
            return StoreUnavailable(
                f"the online store {self.address} has {_READERS} readers at once, which is its limit; "
                "run fewer processes or threads on it",
                metadata=metadata,
            )
        if isinstance(error, lmdb.MapResizedError):
            return StoreUnavailable(
                f"another program let the online store {self.address} grow beyond this one's map_size; "
                "give all of them the same online_store.map_size",
                metadata=metadata,
            )
        return StoreUnavailable(f"the online store {self.address} fails: {error}", metadata=metadata)


def _key(view: bytes, key: bytes) -> bytes:
    """A key LMDB can hold; what is too long is stood for by its digest."""
    return view + key if len(key) <= _LONGEST_ENTITY_KEY else view + hashlib.sha256(key).digest()


def _open(path: str, map_size: int, sync: bool, address: str) -> _Shared:
    """The environment of a folder; LMDB forbids to open one twice in a process, so users share it."""
    with _opening:
        key = (os.getpid(), path)
        shared = _opened.get(key) or _reopened(key)
        if shared is None:
            try:
                Path(path).mkdir(parents=True, exist_ok=True)
                env = lmdb.open(
                    path,
                    map_size=map_size,
                    sync=sync,
                    # Rows are read here and there: what lies beside them is not wanted.
                    readahead=False,
                    # Pages are overwritten or cut to the row; zeroing them first is work for nothing.
                    meminit=False,
                    max_readers=_READERS,
                    max_spare_txns=64,
                )
                env.reader_check()
            except (lmdb.Error, OSError) as error:
                raise StoreUnavailable(
                    f"the online store {address} cannot be opened: {error}{_cure(error)}",
                    metadata={"store": address},
                ) from error
            shared = _opened[key] = _Shared(env, sync)
        shared.users += 1
        return shared


def _reopened(key: tuple[int, str]) -> _Shared | None:
    """An environment that was given back, and is not closed yet: until then there must be no other."""
    reference, sync = _closing.pop(key, (None, False))
    env = None if reference is None else reference()
    if env is None:
        return None
    shared = _opened[key] = _Shared(env, sync)
    return shared


def _cure(error: Exception) -> str:
    """What to do about a store that cannot be opened."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "; online_store.path has to be a folder, or one that can be made"
    if isinstance(error, PermissionError) or "ermission denied" in str(error):
        return f"; user {os.getuid()} needs the right to write there, or another online_store.path"
    if isinstance(error, lmdb.InvalidError | lmdb.CorruptedError | lmdb.VersionMismatchError):
        return "; it is damaged or no LMDB: move it away and materialize again"
    return ""


def _release(path: str, pid: int) -> None:
    with _opening:
        shared = _opened.get((pid, path))
        if shared is None or pid != os.getpid():
            return
        shared.users -= 1
        if not shared.users:
            # Not closed here: a transaction of another thread may still run, and the last one closes it.
            _closing[pid, path] = weakref.ref(shared.env), shared.sync
            del _opened[pid, path]
