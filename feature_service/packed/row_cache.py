"""Rows of an embedded store in this process's memory, always as the store's last commit has them.

A lookup in LMDB costs some 0.4 µs, and a request makes as many as it has entities times views; most of a
large request's time is theirs. Rows of views that are read with the same keys are kept together, so that an
entity is one look into a dict, whatever the number of views. Nothing is served that another process has
replaced: `lmdb_changes` tells what was written since the commit that the cache stands for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from feature_service.packed import lmdb_changes
from feature_service.ports import RowReads

Found: TypeAlias = "tuple[bytes | None, ...]"
#: Looks up an entity's row of a view in the store.
Look: TypeAlias = "Callable[[bytes, bytes], bytes | None]"

#: What an entry takes besides the bytes of its rows and its key: dict, tuple, and the heads of bytes objects.
_ENTRY, _ROW = 200, 48
#: Combinations of views that are kept: a caller who asks for all there are must not fill the memory.
_MOST_GROUPS = 64
#: After so many keys it is asked whether a fourth of them was there; if not, the cache rests for so many.
_TRIAL, _REST = 20_000, 200_000


class _Group:
    """The rows of some views by entity key. Two generations: what is not asked for while the younger fills
    up goes with the older."""

    def __init__(self) -> None:
        self.young: dict[bytes, Found] = {}
        self.old: dict[bytes, Found] = {}

    def forget(self, keys: Sequence[bytes] | None) -> None:
        if keys is None:
            self.young, self.old = {}, {}
            return
        for key in keys:
            self.young.pop(key, None)
            self.old.pop(key, None)


class RowCache:
    """At most so many bytes, by estimate; of keys no longer than longest_key. One thread at a time has it,
    others look in the store."""

    def __init__(self, most_bytes: int, longest_key: int) -> None:
        self._half, self._longest = most_bytes // 2, longest_key
        self._lock = threading.Lock()
        self._commit = -1
        self._groups: dict[tuple[bytes, ...], _Group] = {}
        self._size = 0
        self._asked = self._missed = self._resting = 0

    def get(self, txn: Any, reads: RowReads, look: Look) -> list[list[bytes | None]] | None:
        """For each view the rows of its keys as a read transaction sees them; None: ask the store itself."""
        if self.rests:
            self._resting -= len(reads[0].keys)
            return None
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._rows(reads, look) if self._stands_for(txn) else None
        finally:
            self._lock.release()

    @property
    def rests(self) -> bool:
        """Whether the store is asked for the next rows."""
        return self._resting > 0

    def clear(self) -> None:
        """Forgets everything. Not for use beside `get`."""
        self._groups, self._size, self._commit = {}, 0, -1

    def _stands_for(self, txn: Any) -> bool:
        """Brings the cache to the transaction's commit; False when it is ahead of it."""
        now = txn.id()
        if now == self._commit:
            return True
        if now < self._commit:
            return False
        changes = None if self._commit < 0 else lmdb_changes.since(txn, self._commit)
        if changes is None:
            self._groups, self._size = {}, 0
        else:
            for view, keys in changes:
                for views, group in self._groups.items():
                    if view in views:
                        group.forget(keys)
        self._commit = now
        return True

    def _rows(self, reads: RowReads, look: Look) -> list[list[bytes | None]]:
        keys = reads[0].keys
        if all(read.keys is keys for read in reads):  # as they mostly are
            rows = self._group(tuple([read.view for read in reads]), keys, look)
            return list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in reads]
        found: list[list[bytes | None]] = [[] for _ in reads]
        together: dict[int, list[int]] = {}
        for i, read in enumerate(reads):
            together.setdefault(id(read.keys), []).append(i)
        for places in together.values():
            rows = self._group(tuple([reads[i].view for i in places]), reads[places[0]].keys, look)
            for i, column in zip(places, zip(*rows, strict=True), strict=False):
                found[i] = list(column)
        return found

    def _group(self, views: tuple[bytes, ...], keys: Sequence[bytes], look: Look) -> list[Found]:
        group = self._groups.get(views)
        if group is None:
            if len(self._groups) >= _MOST_GROUPS:
                self._groups, self._size = {}, 0
            group = self._groups[views] = _Group()
        self._asked += len(keys)
        try:
            return list(map(group.young.__getitem__, keys))
        except KeyError:
            found = self._filled(group, views, keys, look)
        if self._size > self._half:
            for each in self._groups.values():
                each.young, each.old = {}, each.young
            self._size = 0
        if self._asked >= _TRIAL:
            if self._missed > 0.75 * self._asked:
                self._resting = _REST
            self._asked = self._missed = 0
        return found

    def _filled(
        self, group: _Group, views: tuple[bytes, ...], keys: Sequence[bytes], look: Look
    ) -> list[Found]:
        found = []
        for key in keys:
            rows = group.young.get(key)
            if rows is None:
                rows = group.old.pop(key, None)
                if rows is None:
                    self._missed += 1
                    rows = tuple([look(view, key) for view in views])
                if len(key) > self._longest:  # what changes tell of these is a digest
                    found.append(rows)
                    continue
                group.young[key] = rows
                self._size += _ENTRY + len(key) + sum([_ROW + len(row) for row in rows if row is not None])
            found.append(rows)
        return found
