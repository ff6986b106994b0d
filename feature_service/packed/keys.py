"""What a row is stored under: the view's prefix and the entity key, in the bytes Feast gives it.

The entity key is Feast's serialization, version 3, little-endian: u32 number of keys; for each key, in the
order of their names, u32 type STRING, u32 length, name; then for each value u32 type, u32 length, bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.domain import Field, ValueType

#: Stands for a key with a null in it. No row is ever stored under it.
NO_KEY = b""

#: Values of one join key: an Arrow array (null: no key), a numpy array, or Python values (None: no key).
#: TIMESTAMP in microseconds when not an Arrow array.
KeyColumn: TypeAlias = pa.Array | npt.NDArray[Any] | Sequence[Any]

#: Feast's ValueType numbers.
_BYTES, _STRING, _INT32, _INT64, _UNIX_TIMESTAMP = 1, 2, 3, 4, 8
_TYPE = {
    ValueType.BYTES: _BYTES,
    ValueType.STRING: _STRING,
    ValueType.INT32: _INT32,
    ValueType.INT64: _INT64,
    ValueType.TIMESTAMP: _UNIX_TIMESTAMP,
}
_INTEGERS = {ValueType.INT32: "<i4", ValueType.INT64: "<i8"}
_SECOND = 1_000_000
_u32 = struct.Struct("<I").pack
_pack_i4 = struct.Struct("<IIi").pack
_pack_i8 = struct.Struct("<IIq").pack
#: Up to here a loop over Python values is faster than setting up arrays.
_FEW = 12

# Feast stores the one row of a view without entities under this entity, with the empty string for value.
_DUMMY = Field("__dummy_id", ValueType.STRING)


def view_prefix(project: str, view: str) -> bytes:
    """8 bytes that stand for a view in all keys of a store; the first is below 0x80."""
    digest = hashlib.sha256(f"{len(project)}:{project}{view}".encode()).digest()
    return bytes([digest[0] & 0x7F]) + digest[1:8]


class EntityKeys:
    """Makes the entity keys of views with these join keys.

    Raises ValueError for a type that Feast takes no keys of: floating point, bool, lists.
    """

    def __init__(self, join_keys: Sequence[Field]) -> None:
        fields = join_keys or (_DUMMY,)
        for field in fields:
            if field.type not in _TYPE:
                raise ValueError(f"join key {field.name} is {field.type}, which cannot be a key")
        order = sorted(range(len(fields)), key=lambda i: fields[i].name)
        self._order = order if join_keys else []
        self._kinds = [fields[i].type for i in order]
        names = [fields[i].name.encode() for i in order]
        self._head = _u32(len(names)) + b"".join(_u32(_STRING) + _u32(len(name)) + name for name in names)
        self._dtype = self._matrix_type()
        #: The key of the one row of a view without entities; NO_KEY for other views.
        self.only = NO_KEY if join_keys else self._head + _u32(_STRING) + _u32(0)

    def encode(self, columns: Sequence[KeyColumn]) -> list[bytes]:
        """One key a row; columns in the order of the join keys, of equal length and of their types.

        NO_KEY where a value is null. For a view without entities: no columns, one key.
        """
        if not self._order:
            return [self.only]
        ordered = [columns[i] for i in self._order]
        count = len(ordered[0])
        if self._dtype is not None and count > _FEW:
            arrays = [_integers(column) for column in ordered]
            nulls = [null for _, null in arrays if null is not None]
            return _without(_listed(self._matrix([values for values, _ in arrays], count)), nulls)
        cells = [_cells(column, kind) for column, kind in zip(ordered, self._kinds, strict=True)]
        head = self._head
        if len(cells) == 1:
            return [NO_KEY if cell is None else head + cell for cell in cells[0]]
        return [NO_KEY if None in row else head + b"".join(row) for row in zip(*cells, strict=True)]

    def _matrix_type(self) -> np.dtype[Any] | None:
        """A record that is a whole key, when all values are integers."""
        if not all(kind in _INTEGERS for kind in self._kinds):
            return None
        layout: list[tuple[str, str]] = [("head", f"V{len(self._head)}")]
        for i, kind in enumerate(self._kinds):
            layout += [(f"type{i}", "<u4"), (f"size{i}", "<u4"), (f"value{i}", _INTEGERS[kind])]
        return np.dtype(layout)

    def encode_whole(
        self, columns: Sequence[KeyColumn], prefixes: npt.NDArray[np.uint8]
    ) -> tuple[list[bytes], list[list[bytes]]] | None:
        """As `encode`, and for each of the prefixes (n, 8) the same keys behind it; None unless all can be
        made at once: of many keys of integers, none of them null."""
        if self._dtype is None or not columns or len(columns[0]) <= _FEW:
            return None
        arrays = [_integers(columns[i]) for i in self._order]
        if any(null is not None for _, null in arrays):
            return None
        keys = self._matrix([values for values, _ in arrays], len(columns[0]))
        size = keys.shape[1]
        whole = np.empty((len(prefixes), len(keys), 8 + size), np.uint8)
        whole[:, :, :8] = prefixes[:, None, :]
        whole[:, :, 8:] = keys
        return _listed(keys), _listed(whole)

    def _matrix(self, values: Sequence[npt.NDArray[Any]], count: int) -> npt.NDArray[np.uint8]:
        """The bytes of the keys, (count, size)."""
        records = np.empty(count, self._dtype)
        records["head"] = np.void(self._head)
        for i, (kind, column) in enumerate(zip(self._kinds, values, strict=True)):
            records[f"type{i}"] = _TYPE[kind]
            records[f"size{i}"] = records.dtype[f"value{i}"].itemsize
            records[f"value{i}"] = column
        return records.view(np.uint8).reshape(count, records.dtype.itemsize)


def _listed(keys: npt.NDArray[np.uint8]) -> Any:
    """Nested lists of bytes objects, one for each stretch along the last axis."""
    return keys.view(f"V{keys.shape[-1]}")[..., 0].tolist()


def _integers(column: KeyColumn) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    if isinstance(column, np.ndarray):
        return column, None
    array = column if isinstance(column, pa.Array) else pa.array(column)
    if not array.null_count:
        return array.to_numpy(zero_copy_only=False), None
    if array.null_count == len(array):
        return np.zeros(len(array), np.int64), np.ones(len(array), bool)
    null = array.is_null().to_numpy(zero_copy_only=False)
    return array.fill_null(0).to_numpy(zero_copy_only=False), null


def _without(keys: list[bytes], nulls: Sequence[npt.NDArray[np.bool_]]) -> list[bytes]:
    for null in nulls:
        for i in np.flatnonzero(null).tolist():
            keys[i] = NO_KEY
    return keys


def _cells(column: KeyColumn, kind: ValueType) -> list[bytes | None]:
    """Type, length and bytes of each value; None for a null."""
    if kind in (ValueType.STRING, ValueType.BYTES):
        start = _u32(_TYPE[kind])
        return [None if raw is None else start + _u32(len(raw)) + raw for raw in _raw(column)]
    if isinstance(column, pa.Array):
        values = (column.cast(pa.int64()) if kind is ValueType.TIMESTAMP else column).to_pylist()
    else:
        values = column.tolist() if isinstance(column, np.ndarray) else column
    if kind is ValueType.TIMESTAMP:
        return [None if value is None else _time(value) for value in values]
    pack, number, size = (_pack_i4, _INT32, 4) if kind is ValueType.INT32 else (_pack_i8, _INT64, 8)
    return [None if value is None else pack(number, size, value) for value in values]


def _raw(column: KeyColumn) -> list[bytes | None]:
    """The bytes of strings or of bytes."""
    if isinstance(column, pa.Array) and len(column) > _FEW:
        return _slices(column)
    values = column.to_pylist() if isinstance(column, pa.Array) else column
    return [value.encode() if isinstance(value, str) else value for value in values]


def _slices(array: pa.Array) -> list[bytes | None]:
    _, offsets, whole = array.buffers()
    data = b"" if whole is None else whole.to_pybytes()
    bounds = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1].tolist()
    found: list[bytes | None] = [data[start:end] for start, end in itertools.pairwise(bounds)]
    if array.null_count:
        for i in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            found[i] = None
    return found


def _time(micros: int) -> bytes:
    """As feast_values has it: whole seconds where there are, else microseconds as an integer."""
    seconds, fraction = divmod(micros, _SECOND)
    return _pack_i8(_INT64, 8, micros) if fraction else _pack_i8(_UNIX_TIMESTAMP, 8, seconds)
