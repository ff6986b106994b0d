"""Row stores as a line of text, so that other processes can open them; and a writer for such processes."""

from __future__ import annotations

import json
import random
import sys

import numpy as np
import pyarrow as pa

from feature_service.domain import Field, ValueType
from feature_service.packed.layout import RowLayout
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_rows import RedisRows
from feature_service.ports import RowStore

LAYOUT = RowLayout([Field("event", ValueType.INT64), Field("writer", ValueType.INT64)])


def open_rows(spec: str) -> RowStore:
    """`lmdb:<folder>`, `redis:<nodes>` or `redis_cluster:<nodes>`."""
    kind, _, where = spec.partition(":")
    if kind == "lmdb":
        return LmdbRows(where, map_size=256 * 1024**2)
    return RedisRows(RedisOptions.parse(where, cluster=kind == "redis_cluster", timeout=10))


def rows_of(events: list[int], writer: int = 0, created: list[int] | None = None) -> list[bytes]:
    """A row for each event time, which it also has as a value."""
    values = [pa.array(events, pa.int64()), pa.array([writer] * len(events), pa.int64())]
    known = None if created is None else np.array(created, np.int64)
    return LAYOUT.pack(values, np.array(events, np.int64), known)


def main() -> None:
    """Writes rows of all keys, shuffled. On stdin, as JSON: spec, view, writer, keys, events a key."""
    spec, view, writer, keys, events = json.load(sys.stdin)
    store = open_rows(spec)
    order = [(key, event) for key in range(keys) for event in range(events)]
    random.Random(writer).shuffle(order)
    written = 0
    for start in range(0, len(order), 50):
        part = order[start : start + 50]
        pairs = zip(
            [b"key-%d" % key for key, _ in part], rows_of([event for _, event in part], writer), strict=True
        )
        written += store.put(bytes.fromhex(view), list(pairs), None)
    store.close()
    print(written)


if __name__ == "__main__":
    main()
