"""A digest of rows that depends on what they say and on nothing else.

Equal tables have equal digests however they are cut into batches, row groups or files, compressed or
dictionary-encoded; any change of a cell, of a column's name or type, or of the order of rows or columns
changes it. It is a sha256 over lines of JSON: one for the form and the number of rows, then one for each
column with its name, its type as the contract names it, and three digests of its own:

- validity: one byte a row, 1 where there is a value;
- lengths: for texts, bytes and lists, the length of each value as little-endian int64, 0 for a null;
- values: numbers little-endian one after the other (0 for a null, one NaN for all NaNs), booleans as a
  byte, timestamps as int64 microseconds UTC, texts as UTF-8 end to end; of a list, its elements' column.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plumbline.columns import ValueType, arrow_type, value_type

_FORM = "plumbline.rows.v1"


class RowDigest:
    """The digest of a stream of record batches of one schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = {field.name: _ColumnDigest(field.type) for field in schema}
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Takes in the next rows."""
        self._rows += batch.num_rows
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            self._columns[name].update(array)

    def hexdigest(self, columns: Sequence[str] | None = None, *, origin: str = "") -> str:
        """64 hex digits over all columns, or over some in the order given.

        origin: what the rows were made from, where that is to tell equal rows apart.
        """
        lines: list[list[object]] = [[_FORM, self._rows, origin]]
        lines += [[name, *self._columns[name].parts()] for name in columns or self._columns]
        return hashlib.sha256("".join(json.dumps(line) + "\n" for line in lines).encode()).hexdigest()


class _ColumnDigest:
    def __init__(self, data_type: pa.DataType) -> None:
        kind = value_type(data_type)
        self._name = ValueType.Name(kind)
        self._type = arrow_type(kind)
        self._validity, self._lengths, self._values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._elements = _ColumnDigest(self._type.value_type) if pa.types.is_list(self._type) else None

    def update(self, array: pa.Array) -> None:
        if pa.types.is_timestamp(array.type) and array.type.tz is None:
            array = array.cast(pa.timestamp("us")).cast(self._type)
        elif array.type != self._type:
            array = array.cast(self._type)
        self._validity.update(array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
        if self._elements is not None:
            self._lengths.update(_int64(pc.list_value_length(array)))
            # flatten() leaves out what stands behind null rows.
            self._elements.update(array.flatten())
        elif pa.types.is_string(self._type) or pa.types.is_binary(self._type):
            self._update_texts(array)
        elif pa.types.is_floating(self._type):
            dense = array.fill_null(0).to_numpy(zero_copy_only=False)
            nan = np.isnan(dense)
            self._values.update(
                np.ascontiguousarray(np.where(nan, np.nan, dense) if nan.any() else dense).data
            )
        elif pa.types.is_boolean(self._type):
            self._values.update(array.fill_null(False).cast(pa.uint8()).to_numpy().data)
        else:
            width = pa.int64() if pa.types.is_timestamp(self._type) else self._type
            self._values.update(np.ascontiguousarray(array.cast(width).fill_null(0).to_numpy()).data)

    def _update_texts(self, array: pa.Array) -> None:
        # A large type: 64-bit offsets whatever the batch holds. Filling nulls empties what is behind them.
        wide = array.cast(pa.large_binary()).fill_null(b"")
        offsets = np.frombuffer(wide.buffers()[1], np.int64)[wide.offset : wide.offset + len(wide) + 1]
        self._lengths.update(np.diff(offsets).tobytes())
        data = wide.buffers()[2]
        if data is not None and len(offsets):
            self._values.update(memoryview(data)[offsets[0] : offsets[-1]])

    def parts(self) -> list[str]:
        values = json.dumps(self._elements.parts()) if self._elements else self._values.hexdigest()
        return [self._name, self._validity.hexdigest(), self._lengths.hexdigest(), values]


def _int64(lengths: pa.Array) -> bytes:
    return np.ascontiguousarray(lengths.cast(pa.int64()).fill_null(0).to_numpy()).tobytes()
