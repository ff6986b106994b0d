"""How the values of one view's row lie in bytes.

Little-endian:

    0   u8   row version, 1
    1   u8   flags, 0
    2   u16  number of columns
    4   u32  0
    8   8 bytes, the digest of the columns' names and types
    16  i64  event time, µs
    24  i64  created time, µs; the least i64 where there is none
    32  null mask: 1 bit a column, least significant first, padded to 8 bytes
        fixed cells: columns of 8 bytes first, then of 4, then of 1, in the view's order; 0 in a null
        u32 for each variable column, from a multiple of 4 on: where its bytes end, counted from `width`
        padding to a multiple of 8: that is `width`
        the bytes of the variable columns

Rows without variable columns are all `width` bytes long, so many of them joined are a matrix.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.arrow_types import arrow_type
from feature_service.domain import Field, ValueType
from feature_service.packed import variable
from feature_service.packed.variable import CorruptRow

VERSION = 1
HEADER = 32
#: Where the header has its times, each an i64.
EVENT_AT, CREATED_AT = 16, 24
#: The event time of a blank row, and the created time of a row that has none.
NO_TIME = int(np.iinfo(np.int64).min)
#: Event times that a row can have: from year 1 to the end of year 9999. Others are damage.
EARLIEST, LATEST = -62_135_596_800_000_000, 253_402_300_799_999_999

Micros = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FIXED = {
    ValueType.DOUBLE: "<f8",
    ValueType.INT64: "<i8",
    ValueType.TIMESTAMP: "<i8",
    ValueType.FLOAT: "<f4",
    ValueType.INT32: "<i4",
    ValueType.BOOL: "u1",
}
_HEADER_FIELDS = [
    ("version", "u1", 0),
    ("columns", "<u2", 2),
    ("digest", "V8", 8),
    ("event", "<i8", EVENT_AT),
    ("created", "<i8", CREATED_AT),
]


@dataclass(frozen=True)
class Cell:
    """Where a column lies in a row.

    dtype, offset: of its fixed cell; None and 0 for a variable column. bit: in the null mask.
    variable: its number among the variable columns, or -1.
    """

    field: Field
    bit: int
    dtype: np.dtype[Any] | None
    offset: int
    variable: int


class RowLayout:
    """The layout of rows with these columns. Immutable; one serves all threads."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        #: 8 bytes that differ when a name, a type or the order of the columns does.
        self.digest = hashlib.sha256(self.describe()).digest()[:8]
        mask = max(-(-len(self.fields) // 64), 1) * 8
        sizes = [_size(field.type) for field in self.fields]
        at, offsets = HEADER + mask, [0] * len(sizes)
        for size in (8, 4, 1):
            for i, found in enumerate(sizes):
                if found == size:
                    offsets[i] = at
                    at += size
        variables = [i for i, size in enumerate(sizes) if not size]
        #: Where the u32 ends of the variable columns begin.
        self.ends_at = -(-at // 4) * 4 if variables else at
        #: Bytes of a row without what its variable columns hold.
        self.width = -(-(self.ends_at + 4 * len(variables)) // 8) * 8
        #: One for each field.
        self.cells = tuple(
            Cell(
                field,
                i,
                np.dtype(_FIXED[field.type]) if sizes[i] else None,
                offsets[i],
                variables.index(i) if not sizes[i] else -1,
            )
            for i, field in enumerate(self.fields)
        )
        self.variables = tuple(self.cells[i] for i in variables)
        self.bools = tuple(cell for cell in self.cells if cell.field.type is ValueType.BOOL)
        self._mask = mask
        self._record = self._record_type()
        blank = np.zeros((), self._record)
        blank["version"], blank["columns"] = VERSION, len(self.fields)
        blank["digest"], blank["event"], blank["created"] = np.void(self.digest), NO_TIME, NO_TIME
        blank["mask"] = np.packbits(np.arange(mask * 8) < len(self.fields), bitorder="little")
        #: A row that stands for "not stored": no event time, all columns null.
        self.blank: bytes = blank.tobytes()
        #: The first 16 bytes of all rows of this layout.
        self.head = self.blank[:EVENT_AT]

    @property
    def fixed(self) -> bool:
        """Whether all rows are `width` bytes long."""
        return not self.variables

    def describe(self) -> bytes:
        """The columns as JSON, to be kept beside the rows: [[name, type], …]."""
        pairs = [[field.name, field.type.value] for field in self.fields]
        return json.dumps(pairs, separators=(",", ":")).encode()

    @classmethod
    def from_description(cls, description: bytes) -> RowLayout:
        """The layout that was described. Raises ValueError when it makes no sense."""
        found = json.loads(description)
        if not isinstance(found, list) or not all(
            isinstance(item, list) and len(item) == 2 for item in found
        ):
            raise ValueError(f"not a description of columns: {description[:100]!r}")
        return cls([Field(str(name), ValueType(kind)) for name, kind in found])

    def pack(
        self, values: Sequence[pa.Array], event_micros: Micros, created_micros: Micros | None
    ) -> list[bytes]:
        """One row for each position. values: an array of `arrow_type` for each field, in their order.

        Raises ValueError for a list with a null inside, which nothing here can hold.
        """
        count = len(event_micros)
        if not count:
            return []
        # Copies of the blank row; numpy's own assignment of records leaves the bytes between cells undefined.
        records = np.frombuffer(bytearray(self.blank * count), self._record)
        records["event"] = event_micros
        if created_micros is not None:
            records["created"] = created_micros
        mask = np.zeros((count, self._mask), np.uint8)
        for cell, array in zip(self.cells, values, strict=True):
            if len(array) != count:
                raise ValueError(f"column {cell.field.name} has {len(array)} values, not {count}")
            if array.null_count:
                null = array.is_null().to_numpy(zero_copy_only=False)
                mask[:, cell.bit >> 3] |= null.astype(np.uint8) << (cell.bit & 7)
            if cell.dtype is not None:
                records[f"c{cell.bit}"] = _fixed_values(array, cell.field.type)
        records["mask"] = mask
        if not self.variables:
            return _records_as_bytes(records)
        tails, ends = variable.pack([(values[cell.bit], cell.field.type) for cell in self.variables])
        records["ends"] = ends
        return variable.concatenate(records, tails)

    def decode(self, rows: Sequence[bytes]) -> Rows:
        """The columns of rows of this layout, `blank` among them.

        Raises CorruptRow for rows of another layout, version or length, and for times or bools that are none.
        """
        count, width = len(rows), self.width
        if self.fixed:
            joined = b"".join(rows)
            if count and set(map(len, rows)) != {width}:
                raise CorruptRow(f"a row is not {width} bytes long")
            matrix = np.frombuffer(joined, np.uint8).reshape(count, width)
            tails = None
        else:
            fixed = b"".join([row[:width] for row in rows])
            if len(fixed) != count * width:
                raise CorruptRow(f"a row is shorter than {width} bytes")
            matrix = np.frombuffer(fixed, np.uint8).reshape(count, width)
            ends = matrix[:, self.ends_at : self.ends_at + 4 * len(self.variables)].view("<u4")
            tails = variable.Tails(rows, width, ends)
        if not (matrix[:, :EVENT_AT] == np.frombuffer(self.head, np.uint8)).all():
            raise CorruptRow("a row has another version or other columns")
        found = Rows(self, matrix, tails)
        events = found.event_micros
        odd = (events < EARLIEST) | (events > LATEST)
        if odd.any() and (matrix[odd] != np.frombuffer(self.blank, np.uint8)).any():
            raise CorruptRow("a row's event time is none")
        if any((found.numbers(cell.bit) > 1).any() for cell in self.bools):
            raise CorruptRow("a bool is neither 0 nor 1")
        return found

    def _record_type(self) -> np.dtype[Any]:
        names = [name for name, _, _ in _HEADER_FIELDS] + ["mask"]
        formats: list[Any] = [form for _, form, _ in _HEADER_FIELDS] + [("u1", (self._mask,))]
        offsets = [offset for _, _, offset in _HEADER_FIELDS] + [HEADER]
        for cell in self.cells:
            if cell.dtype is not None:
                names.append(f"c{cell.bit}")
                formats.append(cell.dtype)
                offsets.append(cell.offset)
        if self.variables:
            names.append("ends")
            formats.append(("<u4", (len(self.variables),)))
            offsets.append(self.ends_at)
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": self.width})


class Rows:
    """Decoded rows. matrix: the fixed part of each row, as bytes."""

    def __init__(
        self, layout: RowLayout, matrix: npt.NDArray[np.uint8], tails: variable.Tails | None
    ) -> None:
        self.layout, self.matrix, self._tails = layout, matrix, tails
        self._texts: dict[int, pa.Array] = {}

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def event_micros(self) -> Micros:
        """The event times; NO_TIME in blank rows."""
        found: Micros = self.matrix[:, EVENT_AT:CREATED_AT].view("<i8")[:, 0]
        return found

    @property
    def created_micros(self) -> Micros:
        """The created times; NO_TIME in rows without one."""
        found: Micros = self.matrix[:, CREATED_AT:HEADER].view("<i8")[:, 0]
        return found

    def nulls(self, index: int) -> Bools:
        """Which rows have no value in a column."""
        bits = self.matrix[:, HEADER + (index >> 3)]
        return np.asarray(bits & np.uint8(1 << (index & 7)), bool)

    def numbers(self, index: int) -> npt.NDArray[Any]:
        """A column of a fixed type: timestamps as µs, bools as 0 and 1, nulls as 0. A view, not a copy."""
        cell = self.layout.cells[index]
        assert cell.dtype is not None
        found = self.matrix[:, cell.offset : cell.offset + cell.dtype.itemsize]
        return found.view(cell.dtype)[:, 0]

    def column(self, index: int) -> pa.Array:
        """A column as an Arrow array of `arrow_type`. Raises CorruptRow."""
        cell = self.layout.cells[index]
        null = self.nulls(index)
        if cell.dtype is None:
            assert self._tails is not None
            if index not in self._texts:
                self._texts[index] = self._tails.column(cell.variable, cell.field.type, null)
            return self._texts[index]
        numbers = self.numbers(index)
        if cell.field.type is ValueType.BOOL:
            return pa.array(numbers != 0, mask=null)
        return pa.array(np.ascontiguousarray(numbers), mask=null).cast(arrow_type(cell.field.type))


def times(rows: Sequence[bytes]) -> tuple[Micros, Micros]:
    """The event and created times of rows of any layouts. Raises CorruptRow for one without a header."""
    joined = b"".join([row[EVENT_AT:HEADER] for row in rows])
    if len(joined) != len(rows) * (HEADER - EVENT_AT):
        raise CorruptRow(f"a row is shorter than its header of {HEADER} bytes")
    pairs = np.frombuffer(joined, "<i8").reshape(len(rows), 2)
    return pairs[:, 0], pairs[:, 1]


def _size(kind: ValueType) -> int:
    found = _FIXED.get(kind)
    return np.dtype(found).itemsize if found else 0


def _fixed_values(array: pa.Array, kind: ValueType) -> npt.NDArray[Any]:
    if kind is ValueType.TIMESTAMP:
        array = array.cast(pa.int64())
    if array.null_count:
        array = array.fill_null(False if kind is ValueType.BOOL else 0)
    found: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return found


def _records_as_bytes(records: npt.NDArray[Any]) -> list[bytes]:
    found: list[bytes] = records.view(f"V{records.dtype.itemsize}").tolist()
    return found
