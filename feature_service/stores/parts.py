"""The parts of a source: the files that appends add, and those that compaction makes of them.

A part is named `pushed-SEQUENCE-IDENTITY-DIGEST.parquet`: its number among the parts of its folder (so
that of rows which agree in everything else, those added last can be told), who added it, and what was
added. Parts FIRST to LAST merged into one are `merged-FIRST-LAST-….parquet`; those merged stay for a
while, for readers who listed them before, and are not listed any more.
"""

from __future__ import annotations

import mmap
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".parquet"
#: The name of a part; group 1 is its number, of a merged one that of the last in it. Understood by Python
#: and DuckDB.
PART_NAME = r"(?:pushed|merged-[0-9]{20})-([0-9]{20})-([0-9a-f]{32})-([0-9a-f]{32})\.parquet$"
_MERGED_NAME = re.compile(r"merged-([0-9]{20})-")
#: Who added the parts that were merged, sorted: 16 bytes identity, 16 bytes digest each.
IDENTITIES = ".merged-identities"
RECORD = 32


class OtherRowsError(Exception):
    """A part of the same identity holds other rows."""


@dataclass(frozen=True)
class Part:
    """A part. first, last: the numbers of those it holds; equal, unless it is a merged one."""

    name: str
    first: int
    last: int
    identity: str
    digest: str

    @property
    def merged(self) -> bool:
        """Whether it holds the rows of several."""
        return self.name.startswith("merged-")

    def within(self, merged: Sequence[Part]) -> bool:
        """Whether another part, of these merged ones, holds the rows of this one."""
        return any(
            other.name != self.name and other.first <= self.first and self.last <= other.last
            for other in merged
        )


@dataclass(frozen=True)
class Appended:
    """What became of an append. part: the file that holds the rows; None when they were merged into another
    since. added: False when they were there already. later: the files of the parts that were added after."""

    part: str | None
    added: bool
    later: tuple[str, ...] = ()


def parts_of(names: Iterable[str]) -> tuple[list[Part], list[Part]]:
    """The parts among the names of a folder, in their order: those in force, and those merged into
    another."""
    found = []
    for name in names:
        match = re.match(PART_NAME, name)
        if match:
            first = _MERGED_NAME.match(name)
            number = int(match[1])
            found.append(Part(name, int(first[1]) if first else number, number, match[2], match[3]))
    found.sort(key=lambda part: part.last)
    merged = [part for part in found if part.merged]
    hidden = [part for part in found if part.within(merged)]
    gone = {part.name for part in hidden}
    return [part for part in found if part.name not in gone], hidden


def without_merged(files: tuple[str, ...]) -> tuple[str, ...]:
    """The files without the parts that were merged into another part of their folder."""
    folders = {file.rpartition("/")[0] for file in files if file.rpartition("/")[2].startswith("merged-")}
    hidden: set[str] = set()
    for folder in folders:
        names = [file.rpartition("/")[2] for file in files if file.rpartition("/")[0] == folder]
        hidden |= {f"{folder}/{part.name}" for part in parts_of(names)[1]}
    return tuple(file for file in files if file not in hidden) if hidden else files


def next_part(
    folder: str, names: Iterable[str], identity: str | None, digest: str
) -> tuple[str, Appended | None]:
    """The name of the part to add to those of a folder, or what became of it when its request added it
    before.

    folder: as the files are to be named. identity None: nobody says which request it is; rows that are
    those of the last part were added before. Raises OtherRowsError when the request added other rows.
    """
    parts, _ = parts_of(names)
    if identity is None:
        if parts and not parts[-1].merged and parts[-1].digest == digest:
            return parts[-1].name, Appended(f"{folder}/{parts[-1].name}", False)
        identity = uuid.uuid4().hex
    for part in parts:
        if part.identity == identity and not part.merged:
            if part.digest != digest:
                raise OtherRowsError(f"{part.name} was added by the same request with other rows")
            later = tuple(f"{folder}/{other.name}" for other in parts if other.last > part.last)
            return part.name, Appended(f"{folder}/{part.name}", False, later)
    last = max((part.last for part in parts), default=0)
    return f"pushed-{last + 1:020d}-{identity}-{digest}{_SUFFIX}", None


def merged_before(folder: Path, identity: str, digest: str) -> bool:
    """Whether a request's part was merged into another. Raises OtherRowsError when it added other rows."""
    try:
        with open(folder / IDENTITIES, "rb") as file, _mapped(file) as data:
            record = _record(data, bytes.fromhex(identity))
    except FileNotFoundError:
        return False
    if record is not None and record.hex() != digest:
        raise OtherRowsError("the same request added other rows, which were merged since")
    return record is not None


def _mapped(file: BinaryIO) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _record(data: mmap.mmap, identity: bytes) -> bytes | None:
    """The digest that is kept for an identity."""
    low, high = 0, len(data) // RECORD
    while low < high:
        middle = (low + high) // 2
        if data[middle * RECORD : middle * RECORD + 16] < identity:
            low = middle + 1
        else:
            high = middle
    found = data[low * RECORD : (low + 1) * RECORD]
    return found[16:] if found[:16] == identity else None
