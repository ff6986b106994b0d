"""What each of the last commits changed, written down in the store by the commit itself.

Whoever keeps rows in memory can so tell, after any number of commits of any process, which of them still
stand. Under `\\xffchange:` and the commit's number (u64, big-endian) lies either the view's prefix (8 bytes)
and, each after its length (u16, little-endian), the keys that were written or removed, without the prefix;
or, where they are many, the prefix alone. A commit that changed no rows has an empty entry.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

_CHANGES = b"\xffchange:"
_number = struct.Struct(">Q")
_length = struct.Struct("<H")
_PREFIX = 8
#: Commits that are remembered, and keys of one that are told apart.
_KEPT, _MOST = 256, 256

#: A view's prefix and the keys that changed; None: any of them.
Change: TypeAlias = tuple[bytes, Sequence[bytes] | None]


def record(txn: Any, view: bytes, keys: Sequence[bytes] = ()) -> None:
    """Writes down what a write transaction changes, once a transaction. keys: as they lie in the store, all
    of one view; none: no rows."""
    now = txn.id()
    entry = view if keys else b""
    if len(keys) <= _MOST:
        entry += b"".join([_length.pack(len(key) - _PREFIX) + key[_PREFIX:] for key in keys])
    with txn.cursor() as cursor:
        while _at(cursor, 0) and _number_of(cursor) <= now - _KEPT:
            cursor.delete()
        # A store that was copied begins to count anew: what it still holds of later commits is not true.
        while _at(cursor, now):
            cursor.delete()
    txn.put(_CHANGES + _number.pack(now), entry)


def since(txn: Any, seen: int) -> list[Change] | None:
    """The changes after commit `seen` up to a read transaction's own; None when they are not all known, for
    one because another version of this program wrote."""
    now = txn.id()
    if now - seen > _KEPT:
        return None
    found: list[Change] = []
    with txn.cursor() as cursor:
        there = _at(cursor, seen + 1)
        for number in range(seen + 1, now + 1):
            if not there or cursor.key() != _CHANGES + _number.pack(number):
                return None
            entry = cursor.value()
            if entry:
                found.append((entry[:_PREFIX], _keys(entry)))
            there = cursor.next()
    return found


def _at(cursor: Any, number: int) -> bool:
    """Moves to the first entry from a number on; whether there is one."""
    return bool(cursor.set_range(_CHANGES + _number.pack(number)) and cursor.key().startswith(_CHANGES))


def _number_of(cursor: Any) -> int:
    (number,) = _number.unpack_from(cursor.key(), len(_CHANGES))
    return int(number)


def _keys(entry: bytes) -> list[bytes] | None:
    if len(entry) == _PREFIX:
        return None
    keys, at = [], _PREFIX
    while at < len(entry):
        (size,) = _length.unpack_from(entry, at)
        at += _length.size + size
        keys.append(entry[at - size : at])
    return keys
