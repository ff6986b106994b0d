"""Which of two rows of one key is the newer: what every store's guarded write goes by."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from feature_service.packed.layout import EARLIEST, HEADER, LATEST, VERSION

_header = struct.Struct("<BBxxI8xqq").unpack_from
#: A row's event time in units of 2**32 µs: what a Redis server, which counts in doubles, compares exactly.
FIRST, LAST = EARLIEST >> 32, LATEST >> 32


def sort_key(row: bytes) -> tuple[int, int]:
    """(event, created) of a row; a greater one is newer, and an equal one replaces.

    What is no row, by its length, version or event time, is older than everything: it keeps nobody out.
    """
    if len(row) < HEADER:
        return _NOTHING
    version, flags, reserved, event, created = _header(row)
    if version != VERSION or flags or reserved or not FIRST <= event >> 32 <= LAST:
        return _NOTHING
    return event, created


def newest(rows: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    """Of each key the row with the greatest times, the last among equals. Raises ValueError for NO_KEY."""
    found = dict(rows)
    if b"" in found:
        raise ValueError("a row without a key cannot be stored")
    if len(found) == len(rows):
        return rows
    found.clear()
    for key, row in rows:
        other = found.get(key)
        if other is None or sort_key(row) >= sort_key(other):
            found[key] = row
    return list(found.items())


_NOTHING = (-(2**63), -(2**63))
