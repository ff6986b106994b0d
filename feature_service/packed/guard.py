"""Which of two rows of one key is the newer: what every store's guarded write goes by."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from feature_service.packed.layout import EVENT_AT

_times = struct.Struct("<qq").unpack_from


def sort_key(row: bytes) -> tuple[int, int]:
    """(event, created) of a row; a greater one is newer, and an equal one replaces.

    A stored value that is too short to be a row is older than everything.
    """
    if len(row) < EVENT_AT + 16:
        return _NOTHING
    found: tuple[int, int] = _times(row, EVENT_AT)
    return found


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
