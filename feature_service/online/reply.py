"""Replies as wire bytes: what stays from call to call is encoded once, columns are copied whole.

A packed field of fixed-width numbers is a tag, a length and the little-endian array, and a status below 128
is one byte. So a reply is the plan's own bytes with arrays put in between; to every client it is an ordinary
message. The numbers of the fields are those of protos/plumbline/features/v1 and …/types/v1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from feature_service.domain import ValueType

#: Field of Column.values that holds a type; lists of all types are in one.
_VALUES_FIELD = {
    ValueType.DOUBLE: 3,
    ValueType.FLOAT: 4,
    ValueType.INT64: 5,
    ValueType.INT32: 6,
    ValueType.BOOL: 7,
    ValueType.STRING: 8,
    ValueType.BYTES: 9,
    ValueType.TIMESTAMP: 10,
    # Messages of Feast's, as bytes.
    ValueType.UNSPECIFIED: 9,
}
_LISTS_FIELD = 11
#: Sizes of replies whose frames are kept; a caller that sends all sizes must not fill the memory.
_FRAMES_KEPT = 64


def varint(number: int) -> bytes:
    """A number ≥ 0 as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field: bytes, a string, a message or packed numbers."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def _opening(number: int, size: int) -> bytes:
    """The start of a length-delimited field whose `size` bytes follow."""
    return varint(number << 3 | 2) + varint(size)


@dataclass(frozen=True)
class ReplyColumn:
    """One column of a reply. width: bytes of a value; 0 where they differ from value to value."""

    name: str
    view: str
    type: ValueType
    width: int


@dataclass(frozen=True)
class Cells:
    """What a column of a general reply holds.

    values: the array where the column's width is fixed, else the bytes of the message that holds the values
    (as plumbline.types.v1.Strings). null_mask: b"" without nulls; statuses: b"" when all are PRESENT.
    """

    values: bytes
    null_mask: bytes = b""
    statuses: bytes = b""


@dataclass(frozen=True)
class _Frame:
    """What stands around the arrays of a reply of so many rows.

    plain: by column, what comes before the values when all cells are PRESENT. masked: before the null mask,
    the values and the statuses when not. views: before the event times of each view. end: after the last of
    them. present: the openings of a reply in which all cells are PRESENT, one more than it has arrays.
    """

    plain: tuple[bytes, ...]
    masked: tuple[tuple[bytes, bytes, bytes], ...]
    views: tuple[bytes, ...]
    end: bytes
    present: list[bytes]


class OnlineReply:
    """GetOnlineFeaturesResponse for one selection: columns in its order, event times of `views`."""

    def __init__(self, columns: Sequence[ReplyColumn], views: Sequence[str], digest: str) -> None:
        self._columns, self._views = tuple(columns), tuple(views)
        self._after = [field(3, column.view.encode()) for column in self._columns]
        self._digest = field(3, digest.encode()) if digest else b""
        self._frames: dict[int, _Frame] = {}

    def present(self, rows: int, values: Sequence[bytes], events: Sequence[bytes], now: int) -> bytes:
        """All cells are PRESENT and all columns of fixed width.

        values: the array of each column; events: the array of each view's event times; now: µs.
        """
        frame = self._frame(rows).present
        parts = [b""] * (2 * len(frame) - 1)
        parts[::2] = frame
        parts[1::2] = [*values, *events]
        parts.append(read_time(5, now))
        return b"".join(parts)

    def general(self, rows: int, cells: Sequence[Cells], events: Sequence[bytes], now: int) -> bytes:
        """Any statuses and any columns."""
        frame, parts = self._frame(rows), []
        for i, (column, cell) in enumerate(zip(self._columns, cells, strict=True)):
            if not column.width or (cell.statuses and not cell.null_mask):
                parts.append(_other(column, cell))
            elif cell.statuses:
                mask, values, statuses = frame.masked[i]
                parts += [mask, cell.null_mask, values, cell.values, statuses, cell.statuses, self._after[i]]
            else:
                parts += [frame.plain[i], cell.values, self._after[i]]
        for opening, data in zip(frame.views, events, strict=True):
            parts += [opening, data]
        parts += [frame.end, read_time(5, now)]
        return b"".join(parts)

    def _frame(self, rows: int) -> _Frame:
        found = self._frames.get(rows)
        if found is not None:
            return found
        plain = tuple(
            _plain(column, rows, len(after)) if column.width else b""
            for column, after in zip(self._columns, self._after, strict=True)
        )
        masked = tuple(
            _masked(column, rows, len(after)) if column.width else (b"", b"", b"")
            for column, after in zip(self._columns, self._after, strict=True)
        )
        views = []
        for label in self._views:
            name, array = field(1, label.encode()), _opening(2, rows * 8)
            views.append(_opening(2, len(name) + len(array) + rows * 8) + name + array)
        end = self._digest + b"\x20" + varint(rows)
        openings, before = [], b""
        for opening, after in zip(
            (*plain, *views, end), (*self._after, *(b"" for _ in views), b""), strict=True
        ):
            openings.append(before + opening)
            before = after
        frame = _Frame(plain, masked, tuple(views), end, openings)
        if len(self._frames) >= _FRAMES_KEPT:
            self._frames.clear()
        self._frames[rows] = frame
        return frame


def _plain(column: ReplyColumn, rows: int, after: int) -> bytes:
    """What opens a column without nulls; after: the bytes that follow its values."""
    size = rows * column.width
    array = _opening(1, size)
    inner = field(1, column.name.encode()) + _opening(_VALUES_FIELD[column.type], len(array) + size) + array
    opening = _opening(1, len(inner) + size)
    return _opening(1, len(opening) + len(inner) + size + after) + opening + inner


def _masked(column: ReplyColumn, rows: int, after: int) -> tuple[bytes, bytes, bytes]:
    """The same with a null mask, and with statuses, which follow the values."""
    size, bits = rows * column.width, -(-rows // 8)
    array = _opening(1, size)
    values = _opening(_VALUES_FIELD[column.type], len(array) + size) + array
    mask = field(1, column.name.encode()) + _opening(2, bits)
    statuses = _opening(2, rows)
    inner = len(mask) + bits + len(values) + size
    opening = _opening(1, inner)
    whole = len(opening) + inner + len(statuses) + rows + after
    return _opening(1, whole) + opening + mask, values, statuses


def _other(column: ReplyColumn, cell: Cells) -> bytes:
    """A column that no frame fits: of values without a fixed width, or with statuses but no nulls."""
    values = field(1, cell.values) if column.width else cell.values
    number = _LISTS_FIELD if column.type.is_list else _VALUES_FIELD[column.type]
    mask = field(2, cell.null_mask) if cell.null_mask else b""
    inner = field(1, field(1, column.name.encode()) + mask + field(number, values))
    statuses = field(2, cell.statuses) if cell.statuses else b""
    return field(1, inner + statuses + field(3, column.view.encode()))


class MatrixReply:
    """GetFeatureMatrixResponse for one selection."""

    def __init__(self, names: Sequence[str], views: Sequence[str], digest: str) -> None:
        self._names = b"".join(field(3, name.encode()) for name in names)
        self._views = tuple(field(1, view.encode()) for view in views)
        self._digest = field(6, digest.encode()) if digest else b""

    def encode(self, rows: int, values: bytes, statuses: bytes, events: Sequence[bytes], now: int) -> bytes:
        """values, statuses: row by row; statuses b"" when all are PRESENT. now: µs."""
        parts = [_opening(1, len(values)), values, b"\x10", varint(rows), self._names]
        if statuses:
            parts += [_opening(4, len(statuses)), statuses]
        for view, data in zip(self._views, events, strict=True):
            array = _opening(2, len(data))
            parts += [_opening(5, len(view) + len(array) + len(data)), view, array, data]
        parts += [self._digest, read_time(7, now)]
        return b"".join(parts)


def read_time(number: int, micros: int) -> bytes:
    """A Timestamp field: seconds and nanoseconds, each left out when 0."""
    seconds, fraction = divmod(micros, 1_000_000)
    inner = b""
    if seconds:
        # A negative number is written as its two's complement of 64 bits.
        inner = b"\x08" + varint(seconds & 0xFFFF_FFFF_FFFF_FFFF)
    if fraction:
        inner += b"\x10" + varint(fraction * 1000)
    return field(number, inner)
