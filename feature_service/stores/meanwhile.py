"""Rows that are pushed while a materialization runs, so that it does not put older ones in their place.

A run writes what it read when it began. A row that was pushed since for the same key, event and created time
counts more, as the join says, too; but the online store, which knows no other times of a row, lets whatever
comes last replace it. So the run looks which parts were added to the source since, and writes their rows in
the place of its own.

Why that is exact: a push appends its part first and goes online after that, and a run looks and writes while
it holds the folder of the parts, as an append does. So either the run sees the part, and writes its rows or
newer ones, or the part is added after the run's write, and what the push then writes comes last. To
leave rows of equal times alone would not do: a correction that is in the files has to replace what is online.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from feature_service.ports import NO_TIME, Micros, NewRows
from feature_service.stores import parquet
from feature_service.stores.remote import is_remote

Write = Callable[[NewRows], int]


class Meanwhile:
    """What is added to a source after a scan listed its files.

    path, files: of the source, as listed. read: the newest rows of some parts of it, in batches.
    """

    def __init__(
        self, path: str, files: Sequence[str], read: Callable[[tuple[str, ...]], Iterator[NewRows]]
    ) -> None:
        self._path, self._seen, self._read = path, list(files), read
        self._found: list[NewRows] = []

    def give(self, rows: NewRows, write: Write) -> int:
        """Has rows of the scan written, and with them those added since for the same keys. Returns how many
        were written. Pushes to the source wait meanwhile.

        Object storage has neither turns nor a quick listing: there `finish` makes good what this overwrites.
        """
        if is_remote(self._path) or not parquet.takes_parts(self._path):
            return write(rows)
        self._look()  # most of the reading, before pushes have to wait
        with self._turn() as alone:
            self._look()
            written = write(self._with_found(rows))
        while not alone and self._look():
            write(self._with_found(rows))
        return written

    def finish(self, write: Write) -> None:
        """Has all rows written that were added since: Feast's SDK pushes online first, so what it pushed may
        have been replaced before its part was there to be seen."""
        if not is_remote(self._path) and not parquet.takes_parts(self._path):
            return
        self._look()
        with self._turn() as alone:
            self._look()
            self._write_found(write)
        while not alone and self._look():
            self._write_found(write)

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Gives whether nobody can append: not where the source has no folder of parts yet to hold. Then
        the run looks again after each write, until nothing came."""
        folder = None if is_remote(self._path) else parquet.appends_to(self._path)
        if folder is None or not folder.is_dir():
            yield False
            return
        with parquet.locked(folder):
            yield True

    def _look(self) -> bool:
        """Reads the parts that came; whether there were any."""
        new = parquet.parts_since(self._path, self._seen)
        if new:
            self._found = [_joined([*self._found, *self._read(new)])]
            self._seen += new
        return bool(new)

    def _with_found(self, rows: NewRows) -> NewRows:
        """In this order, so that of equal times those found count."""
        return _joined([rows, *(_of_keys(found, rows.keys) for found in self._found)])

    def _write_found(self, write: Write) -> None:
        if self._found:
            write(_joined(self._found))


def _of_keys(rows: NewRows, keys: Sequence[pa.Array]) -> NewRows:
    """The rows of these keys, in their order."""
    if not keys:
        return rows
    names = [f"k{i}" for i in range(len(keys))]
    numbered = pa.table([*rows.keys, pa.array(np.arange(len(rows.event_micros)))], [*names, "row"])
    joined = numbered.join(pa.table(list(keys), names), keys=names, join_type="left semi")
    chosen = np.sort(joined["row"].to_numpy())
    index = pa.array(chosen)
    return NewRows(
        keys=tuple(array.take(index) for array in rows.keys),
        values=tuple(array.take(index) for array in rows.values),
        event_micros=rows.event_micros[chosen],
        created_micros=None if rows.created_micros is None else rows.created_micros[chosen],
    )


def _joined(parts: Sequence[NewRows]) -> NewRows:
    if len(parts) == 1:
        return parts[0]
    return NewRows(
        keys=tuple(map(pa.concat_arrays, zip(*(part.keys for part in parts), strict=True))),
        values=tuple(map(pa.concat_arrays, zip(*(part.values for part in parts), strict=True))),
        event_micros=np.concatenate([part.event_micros for part in parts]),
        created_micros=np.concatenate([_created(part) for part in parts]),
    )


def _created(rows: NewRows) -> Micros:
    return np.full(len(rows.event_micros), NO_TIME) if rows.created_micros is None else rows.created_micros
