"""Many small parts of a source merged into few, so that a source that is pushed to every second stays fast
to read.

What a join or a materialization answers stays the same. Of rows that agree in keys and times only the one
pushed last ever counts, so a merged file holds that one alone; and its place among the other parts is that
of the last part in it. Request ids stay known. The parts that were merged are not listed any more, but
stay for a while, since a join that runs may have listed them before.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_service.stores import parquet
from feature_service.stores.part_types import unified
from feature_service.stores.parts import IDENTITIES, RECORD, Part, parts_of
from feature_service.stores.remote import is_remote

#: Parts with more rows or bytes than this are left as they are, and no merged file gets more.
LARGEST = 1_000_000
LARGEST_BYTES = 256 * 1024 * 1024
#: Seconds that merged parts stay: no join should run longer.
KEPT_SECONDS = 86_400.0


@dataclass(frozen=True)
class Compacted:
    """What was done: parts merged into how many files, rows dropped because a later one replaces them, and
    merged parts of earlier runs removed."""

    parts: int = 0
    files: int = 0
    rows_dropped: int = 0
    removed: int = 0

    def __add__(self, other: Compacted) -> Compacted:
        return Compacted(
            self.parts + other.parts,
            self.files + other.files,
            self.rows_dropped + other.rows_dropped,
            self.removed + other.removed,
        )


def compact(
    path: str,
    keys: Sequence[str],
    timestamp: str,
    created: str | None,
    *,
    at_least: int = 2,
    kept: float = KEPT_SECONDS,
    settled: float = 0.0,
) -> Compacted:
    """Merges runs of at least `at_least` neighbouring parts of a local source.

    keys, timestamp, created: columns of the source that tell its rows apart. kept: seconds that merged parts
    stay. settled: seconds that a part must have been there; the rows of a younger one may still have to be
    brought online by a retry of their push. Pushes to the source wait meanwhile. Raises OSError, ValueError
    for a remote source, a glob, parts that lack one of the columns, and parts whose types no type unites.
    """
    if is_remote(path):
        raise ValueError(f"{path} is not on this machine")
    folder = parquet.appends_to(path)
    if not folder.is_dir():
        return Compacted()
    parts = files = dropped = 0
    with parquet.locked(folder) as directory:
        removed = _remove_hidden(folder, kept)
        for group in _groups(folder, at_least, time.time() - settled):
            dropped += _merge(folder, group, [*keys, timestamp, *([created] if created else [])])
            parts, files = parts + len(group), files + 1
            os.fsync(directory)
    return Compacted(parts, files, dropped, removed)


def _groups(folder: Path, at_least: int, before: float) -> list[list[Part]]:
    groups: list[list[Part]] = [[]]
    rows = held = 0
    for part in parts_of(os.listdir(folder))[0]:
        if not part.merged and (folder / part.name).stat().st_mtime > before:
            break
        more, size = _size(folder / part.name)
        if rows + more > LARGEST or held + size > LARGEST_BYTES:
            groups.append([])
            rows = held = 0
        if more <= LARGEST and size <= LARGEST_BYTES:
            groups[-1].append(part)
            rows, held = rows + more, held + size
    return [group for group in groups if len(group) >= max(at_least, 2)]


def _size(file: Path) -> tuple[int, int]:
    """Rows, and bytes before compression."""
    found = pq.read_metadata(file)
    return found.num_rows, sum(found.row_group(i).total_byte_size for i in range(found.num_row_groups))


def _merge(folder: Path, group: Sequence[Part], named: Sequence[str]) -> int:
    tables = unified([parquet.read(str(folder / part.name)) for part in group])
    whole = pa.concat_tables(tables, promote_options="default")
    lacking = set(named) - set(whole.column_names)
    if lacking:
        raise ValueError(f"parts in {folder} lack the column {min(lacking)}")
    keep = _last_of_each([whole[name] for name in named])
    digest = hashlib.sha256("".join(part.identity + part.digest for part in group).encode()).hexdigest()
    name = f"merged-{group[0].first:020d}-{group[-1].last:020d}-{digest[:32]}-{digest[32:]}.parquet"
    # First who added them, then the file: between the two, a request is known by its own part as well.
    _remember(folder, [part for part in group if not part.merged])
    parquet.write_whole(folder / name, whole.take(keep))
    return int(whole.num_rows) - len(keep)


def _last_of_each(columns: Sequence[pa.ChunkedArray]) -> pa.Array:
    """Positions, in order, of the last of the rows that agree in all columns."""
    codes = {
        str(index): pc.dictionary_encode(column.combine_chunks(), null_encoding="encode").indices
        for index, column in enumerate(columns)
    }
    # Arrow's own: it lets other threads run meanwhile, as numpy does not when it compares rows.
    rows = pa.table(codes | {"row": pa.array(np.arange(len(columns[0])))})
    last = rows.group_by(list(codes)).aggregate([("row", "max")])["row_max"].combine_chunks()
    return last.take(pc.sort_indices(last))


def _remember(folder: Path, parts: Sequence[Part]) -> None:
    file = folder / IDENTITIES
    before = file.read_bytes() if file.exists() else b""
    records = {before[at : at + RECORD] for at in range(0, len(before), RECORD)}
    records |= {bytes.fromhex(part.identity + part.digest) for part in parts}
    temporary = file.with_name(file.name + ".tmp")
    with open(temporary, "wb") as sink:
        sink.write(b"".join(sorted(records)))
        sink.flush()
        os.fsync(sink.fileno())
    os.replace(temporary, file)


def _remove_hidden(folder: Path, kept: float) -> int:
    """Removes parts that were merged long enough ago."""
    parts, hidden = parts_of(os.listdir(folder))
    removed = 0
    for part in hidden:
        holder = next((other for other in parts if other.merged and part.within([other])), None)
        if holder is not None and time.time() - (folder / holder.name).stat().st_mtime >= kept:
            (folder / part.name).unlink()
            removed += 1
    return removed
